//! Signed release in, findings out: what is said about a release is written anew and compared, then each signature is
//! verified. Statements have dozens of MiB: there is one at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use jiff::Timestamp;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::document::dsse::{Encoded, pae};
use crate::document::provenance;
use crate::document::statement::{self, Statement};
use crate::mend::quoted;
use crate::model::Manifest;
use crate::model::key::PublicKey;
use crate::model::record::{RECORD, Record};
use crate::stage::finding::Finding;
use crate::stage::on_disk::OnDisk;
use crate::stage::sign;

/// What is asked of the signatures of a release.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Who must have signed. Without it nobody must, and signatures must only agree with the record.
    pub key: Option<PublicKey>,
    /// The time at which the release must be valid.
    pub at: Timestamp,
}

/// Verifies what is signed about the release; returns its record where there is one that can be read, and
/// reasons not to trust it.
pub fn verify(release: &OnDisk, manifest: &Manifest, demand: &Demand) -> (Option<Record>, Vec<Finding>) {
    match record(release, manifest) {
        Ok(Some((record, key))) => {
            let mut findings = statements(release, manifest, &record, &key).unwrap_or_else(|finding| vec![finding]);
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
fn record(release: &OnDisk, manifest: &Manifest) -> Result<Option<(Record, PublicKey)>, Finding> {
    let text = match text(release, RECORD) {
        Err(Finding::SignatureMissing { .. }) if !has_signatures(release, manifest) => return Ok(None),
        text => text?,
    };
    let unreadable = |error: anyhow::Error| Finding::SignatureUnreadable {
        file: RECORD.into(),
        why: quoted(format_args!("{error:#}")),
    };
    let record = Record::parse(&text).map_err(unreadable)?;
    let key = record.key().map_err(unreadable)?;
    Ok(Some((record, key)))
}

fn has_signatures(release: &OnDisk, manifest: &Manifest) -> bool {
    let mut entries = release.entries().iter();
    entries.any(|entry| sign::is_signature(&entry.path, manifest))
}

/// Compares everything that is said with what is to be said, and verifies each signature.
fn statements(
    release: &OnDisk,
    manifest: &Manifest,
    record: &Record,
    key: &PublicKey,
) -> Result<Vec<Finding>, Finding> {
    let said = text(release, provenance::FILE)?;
    let unchecked = |why: String| Finding::SignatureUnchecked {
        file: provenance::FILE.into(),
        why: quoted(why),
    };
    let run = provenance::run(&said).map_err(unchecked)?;
    let lock = sign::lock(release, manifest).map_err(|error| unchecked(format!("{error:#}")))?;
    let provenance = provenance::statement(manifest, &lock, &run);
    let mut findings = differences(provenance::FILE, &provenance.text, said.as_bytes());
    let (mut named, mut bundles) = (Vec::new(), Vec::new());
    let mut take = |statement: &Statement| {
        named.push(statement.named());
        bundles.extend(bundle(release, statement, key).unwrap_or_else(|finding| vec![finding]));
    };
    take(&provenance);
    for name in statement::documents(manifest) {
        let document = sign::document(release, manifest, name).map_err(|error| unchecked(format!("{error:#}")))?;
        Statement::about_document(manifest, name, &document)
            .iter()
            .for_each(&mut take);
    }
    let wanted = Record::new(manifest, run.id, record.terms.clone(), key, named);
    findings.extend(fields(record, &wanted));
    findings.extend(bundles);
    let of_record = bundle(release, &Statement::about_record(manifest, &wanted), key);
    findings.extend(of_record.unwrap_or_else(|finding| vec![finding]));
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
fn bundle(release: &OnDisk, statement: &Statement, key: &PublicKey) -> Result<Vec<Finding>, Finding> {
    let file = Statement::bundle(&statement.name);
    let text = text(release, &file)?;
    let unreadable = |why: String| Finding::SignatureUnreadable {
        file: file.clone(),
        why: quoted(why),
    };
    let bundle = Encoded::parse(&text).map_err(unreadable)?;
    let wanted = key.id().to_string();
    let other_key = (bundle.key != wanted).then(|| Finding::KeyIdDiffers {
        file: file.clone(),
        found: bundle.key.clone(),
        wanted: wanted.clone(),
    });
    let (differences, is_signed) = match bundle.is_of(statement.text.as_bytes()) {
        true => {
            let signature = bundle.signature.clone();
            drop(bundle);
            drop(text); // dozens of MiB
            (Vec::new(), key.verifies(&pae(statement.text.as_bytes()), &signature))
        }
        false => {
            let bundle = bundle.decode().map_err(unreadable)?;
            drop(text);
            let differences = differences(&file, &statement.text, &bundle.payload);
            (differences, bundle.is_signed_by(key))
        }
    };
    let unsigned = (!is_signed).then_some(Finding::SignatureInvalid { file, key: wanted });
    Ok(differences.into_iter().chain(other_key).chain(unsigned).collect())
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

/// The subjects of a statement by name; none where it is no statement, or has more than any release has files.
fn subjects(statement: &[u8]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Read {
        subject: Subjects,
    }
    let read: Result<Read, _> = serde_json::from_slice(statement);
    read.map(|read| read.subject.0).unwrap_or_default()
}

/// What a statement is about: what is read of it does not grow with it.
struct Subjects(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Subjects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Few)
    }
}

struct Few;

impl<'de> Visitor<'de> for Few {
    type Value = Subjects;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the subjects of a statement")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Subjects, A::Error> {
        /// More than any release has files.
        const MOST: usize = 1 << 12;
        #[derive(Deserialize)]
        struct Subject {
            name: String,
            digest: Digest,
        }
        #[derive(Deserialize)]
        struct Digest {
            sha256: String,
        }
        let mut subjects = BTreeMap::new();
        while let Some(Subject { name, digest }) = seq.next_element()? {
            subjects.insert(name, digest.sha256);
            if subjects.len() > MOST {
                return Err(A::Error::custom("they are too many"));
            }
        }
        Ok(Subjects(subjects))
    }
}

fn text(release: &OnDisk, file: &str) -> Result<String, Finding> {
    release.text(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Finding::SignatureMissing { file: file.into() },
        _ => Finding::SignatureUnreadable {
            file: file.into(),
            why: quoted(error),
        },
    })
}
