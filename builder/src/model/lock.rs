//! `recipe.lock`: every byte that enters a build, each with its SHA-256.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;
use serde::{Deserialize, Serialize};

use super::payload::Payload;
use crate::mend::{Exit, OrMend as _};

/// The version of the format that this begat writes and reads.
const VERSION: u32 = 1;

/// What exactly a recipe is: the signed metadata, the packages and the recipe's own files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    /// The digest of the recipe's folder that was resolved.
    pub recipe: Sha256,
    /// Signed metadata files, sorted by archive and suite.
    pub metadata: Vec<Metadata>,
    /// Packages, sorted by name, version and architecture.
    pub package: Vec<Package>,
    /// The recipe's own files, sorted by path.
    #[serde(default)]
    pub source: Vec<Source>,
    /// Files that no archive has, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payload: Vec<Payload>,
}

/// A signed `InRelease` file: the root of what is believed about a suite.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Metadata {
    pub archive: String,
    pub suite: String,
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
    /// Its `Date` field: metadata older than this is a rollback.
    pub date: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// Why its `Valid-Until` was not enforced, where the recipe says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored_valid_until: Option<String>,
    /// Fingerprints of the keys whose signatures verified, sorted.
    pub signed_by: Vec<String>,
}

/// A binary package, by digest.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Package {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// The source package's name and version, where they differ from the binary's: `name` or `name (version)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub sha256: Sha256,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    pub archive: String,
    /// Path below the archive's root.
    pub path: String,
    /// Why it is there, for each tree that it enters.
    pub why: BTreeMap<Tree, String>,
}

/// Where a package goes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tree {
    /// The programs that boot a release here: QEMU and a software TPM.
    Boot,
    /// The programs that compile payloads: cargo, rustc, a C compiler.
    Compiler,
    /// A firmware file is taken out of it.
    Firmware,
    /// The initrd of the guest.
    Initrd,
    /// The kernel and its modules are taken out of it.
    Kernel,
    /// The root file system of the guest.
    Root,
    /// The programs that build: mkosi, apt, erofs-utils and the rest.
    Tools,
}

/// A file of the recipe itself.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Path below the recipe's folder.
    pub path: String,
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

impl Lock {
    /// Returns a lock with everything in its canonical order.
    pub fn new(
        recipe: Sha256,
        mut metadata: Vec<Metadata>,
        mut package: Vec<Package>,
        mut source: Vec<Source>,
    ) -> Self {
        metadata.sort_by(|a, b| (&a.archive, &a.suite).cmp(&(&b.archive, &b.suite)));
        package.sort();
        source.sort();
        Self {
            version: VERSION,
            recipe,
            metadata,
            package,
            source,
            payload: Vec::new(),
        }
    }

    /// Reads a lock file's text.
    ///
    /// # Errors
    /// Text that is no lock, a version this begat does not know, paths that leave the archive.
    pub fn parse(text: &str) -> Result<Self> {
        const MEND: &str = "write it anew: begat lock RECIPE";
        let lock: Self = toml::from_str(text).or_mend(Exit::LockMismatch, "cannot read recipe.lock", MEND)?;
        if lock.version != VERSION {
            let problem = format!("recipe.lock has version {}, this begat writes {VERSION}", lock.version);
            return Err(Exit::LockMismatch.because(problem, MEND));
        }
        let paths = lock.package.iter().map(|package| &package.path);
        let paths = paths.chain(lock.source.iter().map(|source| &source.path));
        match paths.into_iter().find(|path| leaves_its_folder(path)) {
            Some(path) => Err(Exit::LockMismatch.because(format!("recipe.lock names the path {path:?}"), MEND)),
            None => Ok(lock),
        }
    }

    /// Returns the text of the lock file: sorted, for `git diff`.
    pub fn text(&self) -> String {
        let body = toml::to_string(self).expect("keys of a lock are text and its values precede its tables");
        format!("# Written by begat lock: every byte that enters the build.\n{body}")
    }

    /// Returns the digest that names the lock; identifiers of the image derive from it.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.text())
    }

    /// Returns the packages of `tree`, in canonical order.
    pub fn packages(&self, tree: Tree) -> impl Iterator<Item = &Package> {
        self.package
            .iter()
            .filter(move |package| package.why.contains_key(&tree))
    }

    /// Returns the packages whose programs build: those of the tool tree, and the compiler's.
    pub fn tools(&self) -> impl Iterator<Item = &Package> {
        const TREES: [Tree; 2] = [Tree::Compiler, Tree::Tools];
        let builds = |package: &&Package| TREES.iter().any(|tree| package.why.contains_key(tree));
        self.package.iter().filter(builds)
    }

    /// Returns the archives that packages come from.
    pub fn archives(&self) -> BTreeSet<&str> {
        self.package.iter().map(|package| package.archive.as_str()).collect()
    }
}

impl Package {
    /// Returns the name of the `.deb` in a local repository: no epoch, as on the archive.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Whether a relative path could name something outside the folder it is relative to.
pub(crate) fn leaves_its_folder(path: &str) -> bool {
    path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | ".."))
}
