//! SPDX 2.3 as JSON.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bill, Component, digest};

/// Returns what it describes, and the view that the comment leaves the files to: `…, sha256:DIGEST.`
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &Value) -> Result<Bill> {
    let mut bill = Bill::default();
    for package in document["packages"].as_array().context("it has no packages")? {
        let mut references = package["externalRefs"].as_array().into_iter().flatten();
        let purl = references.find(|reference| reference["referenceType"] == "purl");
        let purl = purl.and_then(|reference| reference["referenceLocator"].as_str());
        let name = &package["name"];
        bill.components.push(Component {
            name: name.as_str().context("it has a package without a name")?.into(),
            version: package["versionInfo"].as_str().map(Into::into),
            url: purl.map(Into::into),
            sha256: digest(name, checksum(package, "SHA256"))?,
            sha512: digest(name, checksum(package, "SHA512"))?,
        });
    }
    let listing = document["comment"]
        .as_str()
        .and_then(|comment| comment.split_once("sha256:"));
    bill.listing = listing
        .map(|(_, digest)| digest.trim_end_matches('.').parse())
        .transpose()?;
    Ok(bill)
}

fn checksum<'a>(package: &'a Value, algorithm: &str) -> Option<&'a Value> {
    let mut checksums = package["checksums"].as_array()?.iter();
    Some(&checksums.find(|checksum| checksum["algorithm"] == algorithm)?["checksumValue"])
}
