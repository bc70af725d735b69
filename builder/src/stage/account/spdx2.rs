//! SPDX 2.3 as JSON.

use anyhow::Result;
use serde::Deserialize;

use super::{Bill, Component, digest};

/// What is read of a document.
#[derive(Deserialize)]
struct Document {
    comment: Option<String>,
    packages: Vec<Package>,
}

/// What is read of a package.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    name: String,
    version_info: Option<String>,
    #[serde(default)]
    checksums: Vec<Checksum>,
    #[serde(default)]
    external_refs: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: Option<String>,
    checksum_value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    reference_type: Option<String>,
    reference_locator: Option<String>,
}

/// Returns what it describes, and the view that the comment leaves the files to: `…, sha256:DIGEST.`
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &str) -> Result<Bill> {
    let Document { comment, packages } = serde_json::from_str(document)?;
    let listing = comment.as_deref().and_then(|comment| comment.split_once("sha256:"));
    let listing = listing.map(|(_, digest)| digest.trim_end_matches('.').parse());
    Ok(Bill {
        components: packages.into_iter().map(component).collect::<Result<_>>()?,
        listing: listing.transpose()?,
        ..Bill::default()
    })
}

fn component(package: Package) -> Result<Component> {
    let mut references = package.external_refs.into_iter();
    let purl = references.find(|reference| reference.reference_type.as_deref() == Some("purl"));
    let checksum = |algorithm: &str| {
        let mut checksums = package.checksums.iter();
        let checksum = checksums.find(|checksum| checksum.algorithm.as_deref() == Some(algorithm))?;
        Some(checksum.checksum_value.as_deref().unwrap_or_default())
    };
    Ok(Component {
        version: package.version_info.clone(),
        url: purl.and_then(|reference| reference.reference_locator),
        sha256: digest(&package.name, checksum("SHA256"))?,
        sha512: digest(&package.name, checksum("SHA512"))?,
        name: package.name,
    })
}
