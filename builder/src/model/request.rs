//! The request of a build: what a builder was asked for. Evidence of the builder binds it before anything of the recipe
//! runs (*dispatch*), as it binds the generation record afterwards (*completion*).
//!
//! It has no file: whoever has the record can write it again.

use measure::Sha256;
use serde::Serialize;
use uuid::Uuid;

use super::key::PublicKey;
use super::record::{self, Record, Terms};
use super::release::Origin;

/// What a builder is asked for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Request {
    /// The build, as its provenance names it.
    pub build: Uuid,
    #[serde(flatten)]
    pub terms: Terms,
    /// The digest of the lock.
    pub lock: Sha256,
    /// The key that will sign the statements: its SPKI in DER, as base64.
    pub public_key: String,
    /// The digest of the recipe's folder.
    pub recipe: Sha256,
    /// Tells a request from a record, which evidence binds in the same way.
    request: u32,
}

/// The version of the format.
const VERSION: u32 = 1;

impl Request {
    /// Returns the request of the build that made `record`.
    pub fn of(record: &Record) -> Self {
        Self {
            build: record.build,
            terms: record.terms.clone(),
            lock: record.lock,
            public_key: record.public_key.clone(),
            recipe: record.recipe,
            request: VERSION,
        }
    }

    /// Returns the request of the build `build` of what `origin` names, whose statements this key will sign.
    pub fn new(build: Uuid, terms: Terms, origin: &Origin, key: &PublicKey) -> Self {
        Self {
            build,
            terms,
            lock: origin.lock,
            public_key: record::key_text(key),
            recipe: origin.recipe,
            request: VERSION,
        }
    }

    /// Returns the canonical text (RFC 8785).
    pub fn text(&self) -> String {
        record::canonical(self)
    }
}
