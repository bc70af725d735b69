//! Packages of cargo's registries into the store: out of the cache of cargo, which knows the way to its registries.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use measure::Sha256;

use super::net::Net;
use crate::mend::Exit;
use crate::model::release::Stamp;

impl Net {
    /// Brings a `.crate` into the store and returns its stamp; `file` is the name that cargo gives it.
    ///
    /// # Errors
    /// Cargo has not fetched it; what it has, has another digest.
    pub fn bring_crate(&self, file: &str, sha256: Sha256) -> Result<Stamp> {
        if let Some(size) = self.store.size(&sha256) {
            self.store.check(&sha256, size)?;
            return Ok(Stamp { sha256, size });
        }
        let Some(path) = self.cargo.as_deref().and_then(|cargo| cached(cargo, file)) else {
            let problem = format!("neither the store nor the cache of cargo has {file}");
            return Err(Exit::Outside.because(problem, "in the folder of its Cargo.lock: cargo fetch --locked"));
        };
        let found = self.store.add_file(&path)?;
        if found.sha256 == sha256 {
            return Ok(found);
        }
        let problem = format!(
            "{} has SHA-256 {}, Cargo.lock says {sha256}",
            path.display(),
            found.sha256
        );
        Err(Exit::LockMismatch.because(problem, "remove it, and fetch it again: cargo fetch --locked"))
    }
}

/// Cargo has a folder for each registry.
fn cached(cargo: &Path, file: &str) -> Option<PathBuf> {
    let registries = fs::read_dir(cargo.join("registry/cache")).ok()?;
    let mut places: Vec<PathBuf> = registries
        .filter_map(|entry| Some(entry.ok()?.path().join(file)))
        .collect();
    places.sort();
    places.into_iter().find(|path| path.is_file())
}
