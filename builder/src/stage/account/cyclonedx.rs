//! CycloneDX 1.6 (ECMA-424) as JSON.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bill, Component, LISTING, digest, sha256_of};

/// Returns what it describes, the files of images that it lists, and the view that it leaves the others to.
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &Value) -> Result<Bill> {
    let mut bill = Bill::default();
    let product = &document["metadata"]["component"];
    let parts = document["components"].as_array().context("it has no components")?;
    for part in parts.iter().chain(product.is_object().then_some(product)) {
        match property(part, "begat:image").zip(part["name"].as_str()) {
            Some((image, path)) => {
                let sha256 = sha256_of(&part["name"], hash(part, "SHA-256"))?;
                bill.files.insert((image.into(), path.into()), sha256);
            }
            None => bill.components.push(component(part)?),
        }
    }
    let mut others = document["externalReferences"].as_array().into_iter().flatten();
    let listing = others.find(|other| other["type"] == "bom" && other["url"] == LISTING);
    let listing = listing.map(|listing| sha256_of(&listing["url"], hash(listing, "SHA-256")));
    bill.listing = listing.transpose()?;
    Ok(bill)
}

fn component(part: &Value) -> Result<Component> {
    let name = &part["name"];
    Ok(Component {
        name: name.as_str().context("it has a component without a name")?.into(),
        version: part["version"].as_str().map(Into::into),
        url: part["purl"].as_str().map(Into::into),
        sha256: digest(name, hash(part, "SHA-256"))?,
        sha512: digest(name, hash(part, "SHA-512"))?,
    })
}

fn property<'a>(component: &'a Value, name: &str) -> Option<&'a str> {
    let mut properties = component["properties"].as_array().into_iter().flatten();
    properties.find(|property| property["name"] == name)?["value"].as_str()
}

fn hash<'a>(part: &'a Value, algorithm: &str) -> Option<&'a Value> {
    let mut hashes = part["hashes"].as_array()?.iter();
    Some(&hashes.find(|hash| hash["alg"] == algorithm)?["content"])
}
