//! What a rebuilder says about a release: what came out of its own build of the same recipe and lock.

use std::collections::BTreeMap;

use measure::Sha256;

use super::key::PublicKey;
use super::release::{MANIFEST, Manifest, Origin};

/// A file in `rebuilds/` of a release, and what it says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rebuild {
    /// Its name there.
    pub file: String,
    pub said: Result<Said, Fault>,
}

/// What a rebuilder has signed: the signature is that of `key`, whosever that is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Said {
    pub key: PublicKey,
    /// What was built.
    pub origin: Origin,
    /// The SHA-256 of every file that came out, by name, and that of its manifest.
    pub subjects: BTreeMap<String, Sha256>,
}

/// Why a statement does not count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It is no statement of a rebuild.
    Unreadable { why: String },
    /// The key that it names has not signed it.
    SignatureInvalid { key: String },
}

impl Said {
    /// Returns the first subject that is another than the release has, in the order of names, the manifest last:
    /// nothing where the rebuild agrees in every file.
    pub fn disagreement(&self, manifest: &Manifest) -> Option<String> {
        let files = manifest.files.iter();
        let wanted = files.map(|(name, stamp)| (name.as_str(), stamp.sha256));
        let manifest = (MANIFEST, manifest.digest());
        let wanted: BTreeMap<&str, Sha256> = wanted.chain([manifest]).collect();
        let found: BTreeMap<&str, Sha256> = self
            .subjects
            .iter()
            .map(|(name, sha256)| (name.as_str(), *sha256))
            .collect();
        let names = wanted.keys().chain(found.keys());
        let differing = names.filter(|name| wanted.get(*name) != found.get(*name));
        differing
            .min_by_key(|name| (**name == MANIFEST, **name))
            .map(|name| (*name).to_owned())
    }
}
