//! CycloneDX 1.6 (ECMA-424) as JSON.

use anyhow::{Context as _, Result};
use measure::Sha256;
use serde_json::Value;

use super::{Bill, LISTING, digest, packaged};

/// Returns the binary packages, the files of images that it lists, and the view that it leaves the others to.
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &Value) -> Result<Bill> {
    let mut bill = Bill::default();
    for component in document["components"].as_array().context("it has no components")? {
        if let Some(url) = component["purl"].as_str().filter(|url| packaged(url)) {
            bill.packages.insert(sha256(component)?, url.into());
        }
        if let Some((image, path)) = property(component, "begat:image").zip(component["name"].as_str()) {
            bill.files.insert((image.into(), path.into()), sha256(component)?);
        }
    }
    let mut others = document["externalReferences"].as_array().into_iter().flatten();
    let listing = others.find(|other| other["type"] == "bom" && other["url"] == LISTING);
    bill.listing = listing.map(sha256).transpose()?;
    Ok(bill)
}

fn property<'a>(component: &'a Value, name: &str) -> Option<&'a str> {
    let mut properties = component["properties"].as_array().into_iter().flatten();
    properties.find(|property| property["name"] == name)?["value"].as_str()
}

fn sha256(component: &Value) -> Result<Sha256> {
    let mut hashes = component["hashes"].as_array().into_iter().flatten();
    let hash = hashes.find(|hash| hash["alg"] == "SHA-256");
    digest(&component["name"], hash.map(|hash| &hash["content"]))
}
