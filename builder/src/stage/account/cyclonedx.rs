//! CycloneDX 1.6 (ECMA-424) as JSON.

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{Bill, Component, LISTING, digest, sha256_of};

/// What is read of a document.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    metadata: Option<Metadata>,
    components: Vec<Part>,
    #[serde(default)]
    external_references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Metadata {
    component: Option<Part>,
}

/// What is read of a component.
#[derive(Deserialize)]
struct Part {
    name: Option<String>,
    version: Option<String>,
    purl: Option<String>,
    #[serde(default)]
    hashes: Vec<Hash>,
    #[serde(default)]
    properties: Vec<Property>,
}

#[derive(Deserialize)]
struct Hash {
    alg: Option<String>,
    content: Option<String>,
}

#[derive(Deserialize)]
struct Property {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "type")]
    kind: Option<String>,
    url: Option<String>,
    #[serde(default)]
    hashes: Vec<Hash>,
}

/// Returns what it describes, the files of images that it lists, and the view that it leaves the others to.
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &str) -> Result<Bill> {
    let document: Document = serde_json::from_str(document)?;
    let mut bill = Bill::default();
    let product = document.metadata.and_then(|metadata| metadata.component);
    for part in document.components.iter().chain(&product) {
        match part.property("begat:image").zip(part.name.as_deref()) {
            Some((image, path)) => {
                let sha256 = sha256_of(path, hash(&part.hashes, "SHA-256"))?;
                bill.files.insert((image.into(), path.into()), sha256);
            }
            None => bill.components.push(component(part)?),
        }
    }
    let is_listing = |other: &&Reference| other.kind.as_deref() == Some("bom") && other.url.as_deref() == Some(LISTING);
    let listing = document.external_references.iter().find(is_listing);
    let listing = listing.map(|listing| sha256_of(LISTING, hash(&listing.hashes, "SHA-256")));
    bill.listing = listing.transpose()?;
    Ok(bill)
}

fn component(part: &Part) -> Result<Component> {
    let name = part.name.as_ref().context("it has a component without a name")?;
    Ok(Component {
        name: name.clone(),
        version: part.version.clone(),
        url: part.purl.clone(),
        sha256: digest(name, hash(&part.hashes, "SHA-256"))?,
        sha512: digest(name, hash(&part.hashes, "SHA-512"))?,
    })
}

impl Part {
    fn property(&self, name: &str) -> Option<&str> {
        let mut properties = self.properties.iter();
        let property = properties.find(|property| property.name.as_deref() == Some(name));
        property?.value.as_deref()
    }
}

fn hash<'a>(hashes: &'a [Hash], algorithm: &str) -> Option<&'a str> {
    let mut hashes = hashes.iter();
    let hash = hashes.find(|hash| hash.alg.as_deref() == Some(algorithm))?;
    Some(hash.content.as_deref().unwrap_or_default())
}
