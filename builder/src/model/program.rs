//! Payloads that are compiled: with cargo, from a workspace beside the recipe, by a compiler out of an archive.

use measure::Sha256;
use serde::{Deserialize, Serialize};

use super::release::Stamp;

/// What a recipe says of a payload that is compiled.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compile {
    /// The folder of the workspace, relative to the recipe's.
    pub workspace: String,
    /// Its files and folders that are the source, relative to the workspace: `Cargo.toml` and `Cargo.lock` among them.
    pub source: Vec<String>,
    /// The package of the workspace, and its binary.
    pub package: String,
    pub binary: String,
}

/// What exactly is compiled: the lock names what comes out, too, so that whoever has that need not compile.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Compiled {
    pub package: String,
    pub binary: String,
    /// The source as a tar archive.
    pub source: Stamp,
    /// Every package of `Cargo.lock` that comes from a registry, sorted by name and version.
    #[serde(rename = "crate")]
    pub crates: Vec<Crate>,
}

/// A package of a registry, by digest.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Crate {
    pub name: String,
    pub version: String,
    pub sha256: Sha256,
    /// Size of the `.crate` in bytes.
    pub size: u64,
    /// It is in the program: others only build it, or are for other targets and other members of the workspace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linked: bool,
}

impl Compile {
    /// Returns what of the declaration cannot be meant.
    pub fn problem(&self) -> Option<&'static str> {
        let has = |name: &str| self.source.iter().any(|path| path == name);
        match self {
            _ if !has("Cargo.toml") || !has("Cargo.lock") => Some("its source has no Cargo.toml and Cargo.lock"),
            _ if self.source.iter().any(|path| super::lock::leaves_its_folder(path)) => {
                Some("its source leaves the workspace")
            }
            _ if [&self.package, &self.binary].iter().any(|name| !is_plain(name)) => {
                Some("package and binary are names of letters, digits, `-` and `_`")
            }
            _ => None,
        }
    }
}

impl Compiled {
    /// Whether the same is compiled: which crates end up in the program is known afterwards.
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        let crates = |one: &Self| -> Vec<Sha256> { one.crates.iter().map(|one| one.sha256).collect() };
        let names = |one: &Self| (one.package.clone(), one.binary.clone(), one.source);
        names(self) == names(other) && crates(self) == crates(other)
    }
}

impl Crate {
    /// Returns the name and the version as folders and files of cargo have them.
    pub fn folder(&self) -> String {
        format!("{}-{}", self.name, self.version)
    }
}

/// Whether a name can be an argument and a part of a path.
pub fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)
}
