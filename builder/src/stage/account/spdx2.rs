//! SPDX 2.3 as JSON.

use anyhow::{Context as _, Result};
use measure::Sha256;
use serde_json::Value;

use super::{Bill, digest, packaged};

/// Returns the binary packages, and the view that the comment leaves the files to: `…, sha256:DIGEST.`
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &Value) -> Result<Bill> {
    let mut bill = Bill::default();
    for package in document["packages"].as_array().context("it has no packages")? {
        let mut references = package["externalRefs"].as_array().into_iter().flatten();
        let purl = references.find(|reference| reference["referenceType"] == "purl");
        let purl = purl.and_then(|reference| reference["referenceLocator"].as_str());
        if let Some(url) = purl.filter(|url| packaged(url)) {
            bill.packages.insert(sha256(package)?, url.into());
        }
    }
    let listing = document["comment"]
        .as_str()
        .and_then(|comment| comment.split_once("sha256:"));
    bill.listing = listing
        .map(|(_, digest)| digest.trim_end_matches('.').parse())
        .transpose()?;
    Ok(bill)
}

fn sha256(package: &Value) -> Result<Sha256> {
    let mut checksums = package["checksums"].as_array().into_iter().flatten();
    let checksum = checksums.find(|checksum| checksum["algorithm"] == "SHA256");
    digest(&package["name"], checksum.map(|checksum| &checksum["checksumValue"]))
}
