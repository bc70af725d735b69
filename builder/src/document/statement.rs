//! Statements about a release: in-toto Statement v1, of the attestation framework 1.2.
//!
//! Each is a function of the release, the run of the build and the key, so that whoever verifies writes it anew and
//! compares: nothing in a statement goes unread.

use measure::Sha256;
use serde_json::{Value, json};

use crate::model::artifacts::file;
use crate::model::release::{FileName, MANIFEST, Manifest, Stamp};
use crate::model::{self, Record};

/// What our own types and identities are named after. It is a name, nothing is fetched from there.
pub(super) const NAMESPACE: &str = "https://begat.example";

/// The name of the statement that says how a release was built.
pub const PROVENANCE: &str = "provenance";

/// The name of the statement that signs the generation record.
pub const RECORD: &str = "record";

/// A statement by its name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Statement {
    pub name: String,
    pub text: String,
}

/// Documents that have a statement of their own, with the type of predicate that they are.
const DOCUMENTS: [(&str, &str); 4] = [
    ("sbom.spdx3.json", "https://spdx.dev/Document/v3"),
    ("sbom.cdx.json", "https://cyclonedx.org/bom"),
    ("sbom.spdx.json", "https://spdx.dev/Document"), // without a version it is SPDX 2: what cosign looks for
    ("reference-values.json", "https://begat.example/reference-values/v1"), // below our NAMESPACE
];

impl Statement {
    /// Returns the name of the file with the signature of the statement called `name`.
    pub fn bundle(name: &str) -> String {
        format!("{name}.sigstore.json")
    }

    /// Returns the digest of its text.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(&self.text)
    }

    /// Returns the statement about the document of the release that lies in `file` and has this text, which is JSON; its
    /// subjects are what boots.
    pub fn about_document(manifest: &Manifest, file: &str, document: &str) -> Option<Self> {
        let (name, predicate_type) = DOCUMENTS.iter().find(|(name, _)| *name == file)?;
        let boots = manifest.files.iter().filter(|(name, _)| boots(name));
        Some(Self {
            name: stem(name).into(),
            text: around(document, boots.map(resource).collect(), predicate_type),
        })
    }

    /// Returns the statement that signs the generation record; its subject is the manifest.
    pub fn about_record(manifest: &Manifest, record: &Record) -> Self {
        let predicate_type = format!("{NAMESPACE}/record/v1");
        Self {
            name: RECORD.into(),
            text: text(vec![manifest_of(manifest)], &predicate_type, &json!(record)),
        }
    }
}

/// Returns the files of the release that have a statement of their own.
pub fn documents(manifest: &Manifest) -> impl Iterator<Item = &'static str> {
    let listed = |name: &str| manifest.files.keys().any(|file| file.as_str() == name);
    DOCUMENTS.iter().map(|(name, _)| *name).filter(move |name| listed(name))
}

/// Returns the names of all statements about the release: that of its provenance first, that of its record last.
pub fn names(manifest: &Manifest) -> Vec<&'static str> {
    let documents = documents(manifest).map(stem);
    [PROVENANCE].into_iter().chain(documents).chain([RECORD]).collect()
}

fn stem(file: &str) -> &str {
    file.trim_end_matches(".json")
}

/// Whether it is an image, or what starts one.
fn boots(name: &FileName) -> bool {
    const IMAGES: [&str; 5] = [".efi", ".erofs", ".fd", ".raw", ".verity"];
    const PARTS: [&str; 3] = [file::COMMAND_LINE, file::INITRD, file::KERNEL];
    let name = name.as_str();
    PARTS.contains(&name) || IMAGES.iter().any(|end| name.ends_with(end))
}

/// The text of a statement.
pub(super) fn text(subject: Vec<Value>, predicate_type: &str, predicate: &Value) -> String {
    around(&model::json(predicate), subject, predicate_type)
}

/// The text of a statement about a predicate that is text already. Documents have dozens of MiB, and as values ten times
/// that.
fn around(predicate: &str, subject: Vec<Value>, predicate_type: &str) -> String {
    const NOTHING: &str = "\"predicate\": null";
    let frame = model::json(&json!({
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": null,
        "predicateType": predicate_type,
        "subject": subject,
    }));
    let (before, behind) = frame.split_once(NOTHING).expect("the frame has room for a predicate");
    let lines = predicate.trim_end().split('\n'); // no text in JSON has a line break
    let mut text = [before, "\"predicate\": "].concat();
    text.reserve_exact(predicate.len() + 2 * lines.clone().count() + behind.len());
    for (number, line) in lines.enumerate() {
        text.push_str(if number == 0 { "" } else { "\n  " });
        text.push_str(line);
    }
    text.push_str(behind);
    text
}

/// The manifest as a resource descriptor.
pub(super) fn manifest_of(manifest: &Manifest) -> Value {
    described(MANIFEST, manifest.digest())
}

/// A file of the release as a resource descriptor.
pub(super) fn resource((name, stamp): (&FileName, &Stamp)) -> Value {
    described(name.as_str(), stamp.sha256)
}

/// A resource descriptor.
pub(super) fn described(name: &str, sha256: Sha256) -> Value {
    json!({"digest": {"sha256": sha256}, "name": name})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_around_a_text_is_that_around_its_value() {
        let predicate = json!({"a": {"b": [1, "two\n  three", {}], "predicate": null}, "c": "\"predicate\": null"});
        let around = around(
            &model::json(&predicate),
            vec![json!({"name": "x"})],
            "https://example.org/p",
        );
        let whole = json!({
            "_type": "https://in-toto.io/Statement/v1",
            "predicate": predicate,
            "predicateType": "https://example.org/p",
            "subject": [{"name": "x"}],
        });
        assert_eq!(around, model::json(&whole));
    }
}
