//! `Cargo.lock` in, the packages of the registry that it names out.

use anyhow::Result;
use measure::Sha256;
use serde::Deserialize;

use crate::mend::{Exit, OrMend as _};
use crate::model::lock::leaves_its_folder;
use crate::model::program::Crate;
use crate::world::net::Net;

/// What cargo calls the registry that needs no name.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// `Cargo.lock`, versions 3 and 4: The Cargo Book, "Cargo.toml vs Cargo.lock".
#[derive(Deserialize)]
struct CargoLock {
    #[serde(default)]
    package: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<Sha256>,
}

/// Returns the packages of the registry that this `Cargo.lock` names, sorted, and brings them into the store.
///
/// # Errors
/// Text that is no `Cargo.lock`; packages from elsewhere; packages that nobody has fetched.
pub fn packages(text: &str, net: &Net) -> Result<Vec<Crate>> {
    let mend = "make it anew: cargo generate-lockfile";
    let lock: CargoLock = toml::from_str(text).or_mend(Exit::Usage, "cannot read Cargo.lock", mend)?;
    let foreign = lock.package.iter().filter(|entry| entry.source.is_some());
    let crates = foreign.map(|entry| {
        let name = format!("{}-{}.crate", entry.name, entry.version);
        let sha256 = digest(entry, &name)?;
        let stamp = net.bring_crate(&name, sha256)?;
        Ok(Crate {
            name: entry.name.clone(),
            version: entry.version.clone(),
            sha256,
            size: stamp.size,
            linked: false,
        })
    });
    let mut crates = crates.collect::<Result<Vec<_>>>()?;
    crates.sort();
    Ok(crates)
}

fn digest(entry: &Entry, name: &str) -> Result<Sha256> {
    let of_the_registry = entry.source.as_deref() == Some(REGISTRY) && !leaves_its_folder(name);
    let checksum = entry.checksum.filter(|_| of_the_registry && !name.contains('/'));
    checksum.ok_or_else(|| {
        let source = entry.source.as_deref().unwrap_or_default();
        let problem = format!("{} {} comes from {source}", entry.name, entry.version);
        Exit::Unsupported.because(problem, "depend on packages of the registry alone")
    })
}
