//! Everything that one who signs says about a release.

use super::provenance::{self, Run};
use super::statement::Statement;
use crate::model::key::PublicKey;
use crate::model::record::{Named, Record, Terms};
use crate::model::{Lock, Manifest};

/// The parts of a release that statements are about.
#[derive(Clone, Debug)]
pub struct Subject {
    pub manifest: Manifest,
    pub lock: Lock,
    /// The texts of the documents that have a statement of their own, by the names of their files.
    pub documents: Vec<(&'static str, String)>,
}

/// The statements about a release and the record that names them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claims {
    pub record: Record,
    /// That of the provenance first, that of the record last.
    pub statements: Vec<Statement>,
}

impl Claims {
    /// Returns what whoever signs with `key` says about a release that came out of `run`: the same each time.
    pub fn new(subject: &Subject, run: &Run, terms: Terms, key: &PublicKey) -> Self {
        let manifest = &subject.manifest;
        let provenance = provenance::statement(manifest, &subject.lock, run);
        let documents = subject.documents.iter();
        let documents = documents.filter_map(|(file, text)| Statement::about_document(manifest, file, text));
        let mut statements: Vec<Statement> = [provenance].into_iter().chain(documents).collect();
        let record = Record::new(
            manifest,
            run.id,
            terms,
            key,
            statements.iter().map(Statement::named).collect(),
        );
        statements.push(Statement::about_record(manifest, &record));
        Self { record, statements }
    }

    /// Returns the statement of the provenance.
    pub fn provenance(&self) -> &Statement {
        &self.statements[0]
    }
}

impl Statement {
    /// Returns how a record names it.
    pub fn named(&self) -> Named {
        Named {
            name: self.name.clone(),
            sha256: self.digest(),
        }
    }
}
