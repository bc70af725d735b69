//! `sbom.spdx.json`: what is in the image, as SPDX 2.3.
//!
//! What is installed is read from the finished trees and compared with the lock; where the two disagree there is no
//! document. What is not known is NOASSERTION: nothing is guessed.

mod dpkg;
pub(super) mod purl;
mod spdx2;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;

use crate::mend::Exit;
use crate::model::lock::{Lock, Package, Tree};
use crate::model::recipe::Name;
use crate::model::release::Stamp;
use dpkg::{Identity, Installed};

/// What a bill of materials is made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub name: &'a Name,
    /// The recipe's epoch: when the document says that it was made.
    pub epoch: Timestamp,
    /// Who hands out the image: `Organization: …` or `Person: …`. Where nobody says so, it is not asserted.
    pub supplier: Option<&'a str>,
    pub lock: &'a Lock,
    /// `/var/lib/dpkg/status` of the built root tree.
    pub root_status: &'a str,
    /// `/var/lib/dpkg/status` of the built initrd tree.
    pub initrd_status: &'a str,
    /// What each tree's packages belong to, where it is known.
    pub distributions: &'a BTreeMap<Tree, Distribution<'a>>,
    /// The files that the release hands out.
    pub artifacts: &'a [Artifact<'a>],
}

/// A distribution and its release, as scanners look it up: `debian` and `13`, never the code name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Distribution<'a> {
    pub id: &'a str,
    pub version: &'a str,
}

/// A file of the release that something boots from.
#[derive(Clone, Copy, Debug)]
pub struct Artifact<'a> {
    pub name: &'a str,
    pub stamp: Stamp,
    pub role: Role<'a>,
}

/// What a file of the release is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role<'a> {
    CommandLine,
    Disk,
    /// Taken out of the package of this name.
    Firmware {
        package: &'a str,
    },
    Initrd,
    /// Taken out of the package of this name.
    Kernel {
        package: &'a str,
    },
    /// The image of the root file system.
    Root,
    Uki,
    /// The dm-verity tree of the root image.
    Verity,
}

/// Returns the text of the document.
///
/// # Errors
/// A package that is installed and not locked, locked and not installed, or installed by halves; an artifact that is
/// said to come from a package that is not locked, a locked firmware that nothing comes from.
pub fn text(facts: &Facts<'_>) -> Result<String> {
    let maintainers = maintainers(facts)?;
    check_sources_of_artifacts(facts)?;
    Ok(spdx2::text(&Bill { facts, maintainers }))
}

/// The trees whose packages are in the release.
const SHIPPED: [Tree; 4] = [Tree::Root, Tree::Initrd, Tree::Kernel, Tree::Firmware];

/// The facts, after they have been found to agree.
struct Bill<'a> {
    facts: &'a Facts<'a>,
    /// Of what is installed; the lock does not know them.
    maintainers: Installed,
}

impl<'a> Distribution<'a> {
    /// Returns the distribution that an `/etc/os-release` names; an unreleased one has no version.
    pub fn of(os_release: &'a str) -> Option<Self> {
        let value = |key| {
            let line = os_release.lines().find_map(|line| line.strip_prefix(key));
            line.map(|value| value.trim_matches(['"', '\'']))
        };
        Some(Self {
            id: value("ID=")?,
            version: value("VERSION_ID=")?,
        })
    }
}

impl<'a> Bill<'a> {
    /// The packages that are in the release, each once.
    fn packages(&self) -> impl Iterator<Item = &'a Package> {
        let shipped = |package: &&Package| SHIPPED.iter().any(|tree| package.why.contains_key(tree));
        self.facts.lock.package.iter().filter(shipped)
    }

    /// The distribution that a package belongs to, by the first of its trees where that is known.
    fn distribution(&self, package: &Package) -> Option<Distribution<'a>> {
        let trees = SHIPPED.iter().filter(|tree| package.why.contains_key(tree));
        trees
            .flat_map(|tree| self.facts.distributions.get(tree))
            .next()
            .copied()
    }

    fn maintainer(&self, package: &Package) -> Option<&str> {
        self.maintainers.get(&Identity::from(package))?.as_deref()
    }

    fn artifacts(&self) -> impl Iterator<Item = &'a Artifact<'a>> {
        self.facts.artifacts.iter()
    }
}

/// The maintainers of all that is installed, after it has been compared with the lock.
fn maintainers(facts: &Facts<'_>) -> Result<Installed> {
    let trees = [
        (Tree::Root, "root image", facts.root_status),
        (Tree::Initrd, "initrd", facts.initrd_status),
    ];
    let mut all = Installed::new();
    for (tree, name, status) in trees {
        let installed = dpkg::installed(name, status)?;
        compare(name, &installed, facts.lock.packages(tree))?;
        all.extend(installed);
    }
    Ok(all)
}

fn compare<'a>(tree: &str, installed: &Installed, locked: impl Iterator<Item = &'a Package>) -> Result<()> {
    let locked: BTreeSet<_> = locked.map(Identity::from).collect();
    let installed: BTreeSet<_> = installed.keys().cloned().collect();
    let unlocked = installed
        .difference(&locked)
        .map(|package| (package, "installed and not locked"));
    let absent = locked
        .difference(&installed)
        .map(|package| (package, "locked and not installed"));
    let differences: Vec<_> = unlocked
        .chain(absent)
        .map(|(package, how)| format!("\n  {package} is {how}"))
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "the {tree} does not hold what recipe.lock names:{}",
        differences.concat()
    );
    Err(Exit::LockMismatch.because(problem, "write the lock anew: begat lock RECIPE"))
}

fn check_sources_of_artifacts(facts: &Facts<'_>) -> Result<()> {
    const MEND: &str = "write the lock anew: begat lock RECIPE";
    for artifact in facts.artifacts {
        if let Some((tree, package)) = artifact.role.source()
            && !facts.lock.packages(tree).any(|locked| locked.name == package)
        {
            let problem = format!(
                "{} comes from the package {package}, which is not locked",
                artifact.name
            );
            return Err(Exit::LockMismatch.because(problem, MEND));
        }
    }
    let used = |package: &Package| {
        let source = Some((Tree::Firmware, package.name.as_str()));
        facts.artifacts.iter().any(|artifact| artifact.role.source() == source)
    };
    match facts.lock.packages(Tree::Firmware).find(|package| !used(package)) {
        Some(Package { name, .. }) => {
            let problem = format!("no firmware of the release comes from the package {name}, which is locked for it");
            Err(Exit::LockMismatch.because(problem, MEND))
        }
        None => Ok(()),
    }
}

impl<'a> Role<'a> {
    /// The package that the file is taken out of, and the tree of the lock that has it.
    fn source(self) -> Option<(Tree, &'a str)> {
        match self {
            Self::Firmware { package } => Some((Tree::Firmware, package)),
            Self::Kernel { package } => Some((Tree::Kernel, package)),
            _ => None,
        }
    }
}

impl Package {
    /// The name and the version of its source package.
    fn source_package(&self) -> (&str, &str) {
        let source = self.source.as_deref().unwrap_or(&self.name);
        match source.split_once(" (") {
            Some((name, version)) => (name, version.trim_end_matches(')')),
            None => (source, &self.version),
        }
    }
}

/// Identifiers start with what a thing is and end with what it consists of.
fn element_id(kind: &str, name: &str, content: Sha256) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    format!("SPDXRef-{kind}-{name}-{content:.16}")
}

#[cfg(test)]
mod tests;
