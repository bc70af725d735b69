//! Signed release in, findings out: what is said about a release is written anew and compared, then each signature is
//! verified.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use crate::document::claims::Claims;
use crate::document::dsse::Bundle;
use crate::document::provenance;
use crate::document::statement::Statement;
use crate::model::Manifest;
use crate::model::key::PublicKey;
use crate::model::record::{RECORD, Record};
use crate::stage::finding::Finding;
use crate::stage::sign;
use crate::world::files;

/// What is asked of the signatures of a release.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Who must have signed. Without it nobody must, and signatures must only agree with the record.
    pub key: Option<PublicKey>,
    /// The time at which the release must be valid.
    pub at: Timestamp,
}

/// Verifies what is signed about the release in `folder`; returns its record where there is one that can be read, and
/// reasons not to trust it.
pub fn verify(folder: &Path, manifest: &Manifest, demand: &Demand) -> (Option<Record>, Vec<Finding>) {
    match record(folder, manifest) {
        Ok(Some((record, key))) => {
            let mut findings = statements(folder, manifest, &record, &key).unwrap_or_else(|finding| vec![finding]);
            findings.extend(demand.findings(&record, &key));
            (Some(record), findings)
        }
        Ok(None) => (None, demand.key.iter().map(|_| Finding::Unsigned).collect()),
        Err(finding) => (None, vec![finding]),
    }
}

impl Demand {
    fn findings(&self, record: &Record, key: &PublicKey) -> Vec<Finding> {
        let at = self.at;
        let wanted = self.key.iter().filter(|wanted| *wanted != key);
        let differs = wanted.map(|wanted| Finding::KeyDiffers {
            found: key.id().to_string(),
            wanted: wanted.id().to_string(),
        });
        let early = record.terms.not_before.filter(|not_before| at < *not_before);
        let late = record.terms.not_after.filter(|not_after| at > *not_after);
        let early = early.map(|not_before| Finding::NotYetValid { not_before, at });
        let late = late.map(|not_after| Finding::Expired { not_after, at });
        differs.chain(early).chain(late).collect()
    }
}

/// The record and its key; nothing where the release is not signed at all.
fn record(folder: &Path, manifest: &Manifest) -> Result<Option<(Record, PublicKey)>, Finding> {
    /// A log stores no more, in bytes.
    const LIMIT: u64 = 65_535;
    let text = match text(folder, RECORD, LIMIT) {
        Err(Finding::SignatureMissing { .. }) if !has_signatures(folder, manifest) => return Ok(None),
        text => text?,
    };
    let unreadable = |error: anyhow::Error| Finding::SignatureUnreadable {
        file: RECORD.into(),
        why: plain(&format!("{error:#}")),
    };
    let record = Record::parse(&text).map_err(unreadable)?;
    let key = record.key().map_err(unreadable)?;
    Ok(Some((record, key)))
}

fn has_signatures(folder: &Path, manifest: &Manifest) -> bool {
    let entries = files::list(folder).unwrap_or_default();
    entries.iter().any(|entry| sign::is_signature(&entry.path, manifest))
}

/// Compares everything that is said with what is to be said, and verifies each signature.
fn statements(folder: &Path, manifest: &Manifest, record: &Record, key: &PublicKey) -> Result<Vec<Finding>, Finding> {
    let provenance = text(folder, provenance::FILE, sign::LIMIT)?;
    let unchecked = |why: String| Finding::SignatureUnchecked {
        file: provenance::FILE.into(),
        why: plain(&why),
    };
    let run = provenance::run(&provenance).map_err(unchecked)?;
    let subject = sign::read(folder, manifest.clone()).map_err(|error| unchecked(format!("{error:#}")))?;
    let claims = Claims::new(&subject, &run, record.terms.clone(), key);
    drop(subject); // dozens of MiB
    let mut findings = differences(provenance::FILE, &claims.provenance().text, provenance.as_bytes());
    findings.extend(fields(record, &claims.record));
    for statement in &claims.statements {
        findings.extend(bundle(folder, statement, key).unwrap_or_else(|finding| vec![finding]));
    }
    Ok(findings)
}

/// The fields of a record that are not what they are to be.
fn fields(found: &Record, wanted: &Record) -> Vec<Finding> {
    let fields = |record: &Record| match serde_json::json!(record) {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    let (found, wanted) = (fields(found), fields(wanted));
    let names = found
        .keys()
        .chain(wanted.keys().filter(|name| !found.contains_key(*name)));
    let differing = names.filter(|name| found.get(*name) != wanted.get(*name));
    let shown = |value: Option<&Value>| value.map_or("nothing".into(), Value::to_string);
    let finding = |name: &String| Finding::RecordDiffers {
        field: name.clone(),
        found: shown(found.get(name)),
        wanted: shown(wanted.get(name)),
    };
    differing.map(finding).collect()
}

/// What is to be said against the bundle of a statement.
fn bundle(folder: &Path, statement: &Statement, key: &PublicKey) -> Result<Vec<Finding>, Finding> {
    let file = Statement::bundle(&statement.name);
    let text = text(folder, &file, sign::LIMIT)?;
    let bundle = Bundle::parse(&text).map_err(|why| Finding::SignatureUnreadable {
        file: file.clone(),
        why: plain(&why),
    })?;
    drop(text); // dozens of MiB
    let mut findings = differences(&file, &statement.text, &bundle.payload);
    let wanted = key.id().to_string();
    if bundle.key != wanted {
        findings.push(Finding::KeyIdDiffers {
            file: file.clone(),
            found: bundle.key.clone(),
            wanted: wanted.clone(),
        });
    }
    if !bundle.is_signed_by(key) {
        findings.push(Finding::SignatureInvalid { file, key: wanted });
    }
    Ok(findings)
}

/// How a statement differs from what is to be stated: by its subjects where those differ, else as a whole.
fn differences(file: &str, wanted: &str, found: &[u8]) -> Vec<Finding> {
    if wanted.as_bytes() == found {
        return Vec::new();
    }
    let (wanted, found) = (subjects(wanted.as_bytes()), subjects(found));
    let name = |subject: &String| (file.to_owned(), subject.clone());
    let missing = wanted.keys().filter(|subject| !found.contains_key(*subject));
    let missing = missing
        .map(name)
        .map(|(file, subject)| Finding::SubjectMissing { file, subject });
    let other = wanted
        .iter()
        .filter(|(subject, value)| found.get(*subject).is_some_and(|found| found != *value));
    let other = other.map(|(subject, _)| name(subject));
    let other = other.map(|(file, subject)| Finding::SubjectDiffers { file, subject });
    let unknown = found.keys().filter(|subject| !wanted.contains_key(*subject));
    let unknown = unknown
        .map(name)
        .map(|(file, subject)| Finding::SubjectUnknown { file, subject });
    let findings: Vec<Finding> = missing.chain(other).chain(unknown).collect();
    match findings.is_empty() {
        true => vec![Finding::StatementDiffers { file: file.into() }],
        false => findings,
    }
}

/// The subjects of a statement by name; none where it is no statement.
fn subjects(statement: &[u8]) -> BTreeMap<String, Value> {
    let statement: Value = serde_json::from_slice(statement).unwrap_or_default();
    let subjects = statement["subject"].as_array().into_iter().flatten();
    let named = |subject: &Value| Some((subject["name"].as_str()?.to_owned(), subject.clone()));
    subjects.filter_map(named).collect()
}

fn text(folder: &Path, file: &str, limit: u64) -> Result<String, Finding> {
    let unreadable = |why: String| Finding::SignatureUnreadable { file: file.into(), why };
    match files::read(&folder.join(file), limit) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| unreadable("it is no text".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Finding::SignatureMissing { file: file.into() }),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// An error that may quote what somebody has written, without what a terminal would obey.
fn plain(why: &str) -> String {
    why.replace(char::is_control, " ")
}
