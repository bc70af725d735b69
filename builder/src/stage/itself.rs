//! This very program: what it was compiled from, and whether a release has it.

use std::fs::File;

use anyhow::{Context as _, Result};
use measure::Sha256;
use serde::Serialize;

use crate::model::Lock;
use crate::model::payload::Payload;
use crate::world::files;

/// What is known of the running program.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Itself {
    pub version: &'static str,
    pub sha256: Sha256,
    /// The digest of the source, as a lock names it; none where begat has not compiled it.
    pub source: Option<Sha256>,
    /// The digest of the compiler's packages, as above.
    pub compiler: Option<Sha256>,
}

impl Itself {
    /// Reads the running program.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn read() -> Result<Self> {
        let stamp = File::open("/proc/self/exe").and_then(|mut program| files::stamp(&mut program));
        let told = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            sha256: stamp.context("cannot read /proc/self/exe")?.sha256,
            source: told(option_env!("BEGAT_SOURCE")),
            compiler: told(option_env!("BEGAT_COMPILER")),
        })
    }

    /// Returns the payload of a lock that is this program.
    pub fn in_lock<'a>(&self, lock: &'a Lock) -> Option<&'a Payload> {
        lock.payload.iter().find(|payload| payload.sha256 == self.sha256)
    }

    /// Returns whether the payload says that it comes from what this program says it comes from.
    pub fn has_the_source_of(&self, payload: &Payload) -> bool {
        let compiled = payload.compiled.as_ref();
        compiled.map(|compiled| compiled.source.sha256) == self.source
    }
}
