//! SPDX 3.0.1 as JSON-LD, by the names of its serialisation: elements, and relationships between their `spdxId`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bill, Component, digest, sha256_of};

/// By `spdxId`.
type Elements<'a> = BTreeMap<&'a str, &'a Value>;

/// The image and the path of files of images, by `spdxId`.
type Keys<'a> = BTreeMap<&'a str, (String, String)>;

/// Returns what it describes, and the files that images contain, with the packages that they are of.
///
/// # Errors
/// A document of another form.
pub(super) fn read(document: &Value) -> Result<Bill> {
    let graph = document["@graph"].as_array().context("it has no @graph")?;
    let elements = graph
        .iter()
        .filter_map(|element| Some((element["spdxId"].as_str()?, element)));
    let elements: Elements<'_> = elements.collect();
    let mut bill = Bill::default();
    let mut keys = BTreeMap::new();
    let contains = || graph.iter().filter(|element| element["relationshipType"] == "contains");
    for relation in contains() {
        add_files(&mut bill, &mut keys, &elements, relation)?;
    }
    for relation in contains() {
        add_owner(&mut bill, &keys, &elements, relation)?;
    }
    let described = graph.iter().filter(|element| !is_path(element));
    let described = described.filter(|element| {
        ["software_Package", "software_File"]
            .map(Value::from)
            .contains(&element["type"])
    });
    bill.components = described.map(component).collect::<Result<_>>()?;
    Ok(bill)
}

fn component(element: &Value) -> Result<Component> {
    let name = &element["name"];
    Ok(Component {
        name: name.as_str().context("it has an element without a name")?.into(),
        version: element["software_packageVersion"].as_str().map(Into::into),
        url: element["software_packageUrl"].as_str().map(Into::into),
        sha256: digest(name, hash(element, "sha256"))?,
        sha512: digest(name, hash(element, "sha512"))?,
    })
}

/// An image is a file of the release that contains files with absolute paths.
fn add_files<'a>(bill: &mut Bill, keys: &mut Keys<'a>, elements: &Elements<'a>, relation: &'a Value) -> Result<()> {
    let image = from(elements, relation)?;
    let (Some(name), true) = (image["name"].as_str(), image["type"] == "software_File") else {
        return Ok(()); // a package contains files that an image has as well
    };
    for id in relation["to"].as_array().into_iter().flatten() {
        let file = id.as_str().and_then(|id| Some((id, elements.get(id)?)));
        let (id, file) = file.with_context(|| format!("{name} contains {id}, which it does not describe"))?;
        if let Some(path) = file["name"].as_str().filter(|_| is_path(file)) {
            let key = (name.to_owned(), path.to_owned());
            keys.insert(id, key.clone());
            bill.files.insert(key, sha256_of(&file["name"], hash(file, "sha256"))?);
        }
    }
    Ok(())
}

/// Notes the files of images that a package contains.
fn add_owner(bill: &mut Bill, keys: &Keys<'_>, elements: &Elements<'_>, relation: &Value) -> Result<()> {
    let package = from(elements, relation)?;
    if package["type"] != "software_Package" {
        return Ok(());
    }
    let files = relation["to"].as_array().into_iter().flatten();
    for key in files.filter_map(|id| keys.get(id.as_str()?)) {
        let owner = sha256_of(&package["name"], hash(package, "sha256"))?;
        bill.owners.entry(key.clone()).or_default().insert(owner);
    }
    Ok(())
}

fn from<'a>(elements: &Elements<'a>, relation: &Value) -> Result<&'a Value> {
    let from = relation["from"].as_str().and_then(|id| elements.get(id)).copied();
    from.context("it says what something contains that it does not describe")
}

/// Whether it is a file of an image, by its absolute path.
fn is_path(element: &Value) -> bool {
    element["name"].as_str().is_some_and(|name| name.starts_with('/'))
}

fn hash<'a>(element: &'a Value, algorithm: &str) -> Option<&'a Value> {
    let mut hashes = element["verifiedUsing"].as_array()?.iter();
    Some(&hashes.find(|hash| hash["algorithm"] == algorithm)?["hashValue"])
}
