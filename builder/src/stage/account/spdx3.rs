//! SPDX 3.0.1 as JSON-LD, by the names of its serialisation: elements, and relationships between their `spdxId`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{Bill, Component, digest, sha256_of};

/// What is read of a document.
#[derive(Deserialize)]
struct Document {
    #[serde(rename = "@graph")]
    graph: Vec<Element>,
}

/// What is read of an element.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Element {
    #[serde(rename = "type", default)]
    kind: String,
    spdx_id: Option<String>,
    name: Option<String>,
    #[serde(rename = "software_packageVersion")]
    version: Option<String>,
    #[serde(rename = "software_packageUrl")]
    url: Option<String>,
    #[serde(default)]
    verified_using: Vec<Hash>,
    relationship_type: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hash {
    algorithm: Option<String>,
    hash_value: Option<String>,
}

const FILE: &str = "software_File";
const PACKAGE: &str = "software_Package";

/// By `spdxId`.
type Elements<'a> = BTreeMap<&'a str, &'a Element>;

/// The image and the path of files of images, by `spdxId`.
type Keys<'a> = BTreeMap<&'a str, (String, String)>;

/// Returns what it describes, and the files that images contain, with the packages that they are of.
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &str) -> Result<Bill> {
    let Document { graph } = serde_json::from_str(document)?;
    let elements = graph
        .iter()
        .filter_map(|element| Some((element.spdx_id.as_deref()?, element)));
    let elements: Elements<'_> = elements.collect();
    let mut bill = Bill::default();
    let mut keys = BTreeMap::new();
    let contains = || {
        let of_kind = |element: &&Element| element.relationship_type.as_deref() == Some("contains");
        graph.iter().filter(of_kind)
    };
    for relation in contains() {
        add_files(&mut bill, &mut keys, &elements, relation)?;
    }
    for relation in contains() {
        add_owner(&mut bill, &keys, &elements, relation)?;
    }
    let described = graph.iter().filter(|element| element.path().is_none());
    let described = described.filter(|element| [PACKAGE, FILE].contains(&element.kind.as_str()));
    bill.components = described.map(component).collect::<Result<_>>()?;
    Ok(bill)
}

fn component(element: &Element) -> Result<Component> {
    let name = element.name.as_ref().context("it has an element without a name")?;
    Ok(Component {
        name: name.clone(),
        version: element.version.clone(),
        url: element.url.clone(),
        sha256: digest(name, element.hash("sha256"))?,
        sha512: digest(name, element.hash("sha512"))?,
    })
}

/// An image is a file of the release that contains files with absolute paths.
fn add_files<'a>(bill: &mut Bill, keys: &mut Keys<'a>, elements: &Elements<'a>, relation: &'a Element) -> Result<()> {
    let image = from(elements, relation)?;
    let (Some(name), true) = (&image.name, image.kind == FILE) else {
        return Ok(()); // a package contains files that an image has as well
    };
    for id in &relation.to {
        let file = elements.get(id.as_str());
        let file = file.with_context(|| format!("{name} contains {id}, which it does not describe"))?;
        if let Some(path) = file.path() {
            let key = (name.clone(), path.to_owned());
            keys.insert(id, key.clone());
            bill.files.insert(key, sha256_of(path, file.hash("sha256"))?);
        }
    }
    Ok(())
}

/// Notes the files of images that a package contains.
fn add_owner(bill: &mut Bill, keys: &Keys<'_>, elements: &Elements<'_>, relation: &Element) -> Result<()> {
    let package = from(elements, relation)?;
    if package.kind != PACKAGE {
        return Ok(());
    }
    for key in relation.to.iter().filter_map(|id| keys.get(id.as_str())) {
        let name = package.name.as_deref().unwrap_or_default();
        let owner = sha256_of(name, package.hash("sha256"))?;
        bill.owners.entry(key.clone()).or_default().insert(owner);
    }
    Ok(())
}

fn from<'a>(elements: &Elements<'a>, relation: &Element) -> Result<&'a Element> {
    let from = relation.from.as_deref().and_then(|id| elements.get(id)).copied();
    from.context("it says what something contains that it does not describe")
}

impl Element {
    /// The absolute path, if it is a file of an image.
    fn path(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| name.starts_with('/'))
    }

    fn hash(&self, algorithm: &str) -> Option<&str> {
        let mut hashes = self.verified_using.iter();
        let hash = hashes.find(|hash| hash.algorithm.as_deref() == Some(algorithm))?;
        Some(hash.hash_value.as_deref().unwrap_or_default())
    }
}
