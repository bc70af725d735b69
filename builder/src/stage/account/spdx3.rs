//! SPDX 3.0.1 as JSON-LD, by the names of its serialisation: elements, and relationships between their `spdxId`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Bill, digest, packaged};

type Elements<'a> = BTreeMap<&'a str, &'a Value>;

/// Returns the files that images contain, and the binary packages.
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
    for relation in graph.iter().filter(|element| element["relationshipType"] == "contains") {
        add_files(&mut bill, &elements, relation)?;
    }
    for package in graph.iter().filter(|element| element["type"] == "software_Package") {
        if let Some(url) = package["software_packageUrl"].as_str().filter(|url| packaged(url)) {
            bill.packages.insert(sha256(package)?, url.into());
        }
    }
    Ok(bill)
}

/// An image is a file of the release that contains files with absolute paths.
fn add_files(bill: &mut Bill, elements: &Elements<'_>, relation: &Value) -> Result<()> {
    let image = relation["from"].as_str().and_then(|id| elements.get(id));
    let image = image.context("it says what something contains that it does not describe")?;
    let (Some(name), true) = (image["name"].as_str(), image["type"] == "software_File") else {
        return Ok(()); // a package contains files that an image has as well
    };
    for id in relation["to"].as_array().into_iter().flatten() {
        let file = id.as_str().and_then(|id| elements.get(id));
        let file = file.with_context(|| format!("{name} contains {id}, which it does not describe"))?;
        if let Some(path) = file["name"].as_str().filter(|path| path.starts_with('/')) {
            bill.files.insert((name.into(), path.into()), sha256(file)?);
        }
    }
    Ok(())
}

fn sha256(element: &Value) -> Result<measure::Sha256> {
    let mut hashes = element["verifiedUsing"].as_array().into_iter().flatten();
    let hash = hashes.find(|hash| hash["algorithm"] == "sha256");
    digest(&element["name"], hash.map(|hash| &hash["hashValue"]))
}
