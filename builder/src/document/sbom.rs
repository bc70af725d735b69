//! The bill of materials: what is in the image, in three views of one model.
//!
//! `sbom.spdx3.json` (SPDX 3.0.1) has everything, each file included; `sbom.cdx.json` (CycloneDX 1.6) and
//! `sbom.spdx.json` (SPDX 2.3) leave the files of packages to it and name its digest. They say what CISA's minimum
//! elements of 2026 and BSI TR-03183-2 version 2.1 ask.
//!
//! What is installed is read from the finished trees and compared with the lock; where the two disagree there is no
//! document. What is not known is NOASSERTION: nothing is guessed. Identifiers derive from content.

mod agent;
mod bill;
mod component;
mod cyclonedx;
mod depends;
mod dpkg;
pub(super) mod purl;
mod spdx2;
mod spdx3;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use jiff::Timestamp;
use measure::{Sha256, Sha512};

use crate::debian::copyright::Licence;
use crate::mend::Exit;
use crate::model::Supplier;
use crate::model::contents::Content;
use crate::model::lock::{Lock, Package, Tree};
use crate::model::payload;
use crate::model::recipe::Name;
use crate::model::release::Stamp;
use bill::Bill;
use dpkg::{Identity, Installed};

/// What a bill of materials is made of.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub name: &'a Name,
    /// The recipe's epoch: when the document says that it was made.
    pub epoch: Timestamp,
    /// Who hands out the image. Where nobody says so, it is not asserted.
    pub supplier: Option<&'a Supplier>,
    pub lock: &'a Lock,
    /// `/var/lib/dpkg/status` of the built root tree.
    pub root_status: &'a str,
    /// `/var/lib/dpkg/status` of the built initrd tree.
    pub initrd_status: &'a str,
    /// What each tree's packages belong to, where it is known.
    pub distributions: &'a BTreeMap<Tree, Distribution<'a>>,
    /// The files that the release hands out.
    pub artifacts: &'a [Artifact<'a>],
    /// The sections of the UKI that are measured, by name, with the digest of what is in them.
    pub sections: &'a BTreeMap<&'a str, Sha256>,
    /// Every path of the images.
    pub contents: &'a [Content],
    /// What the recipe brings in that no archive has.
    pub payloads: &'a [Payload<'a>],
    /// What is known of packages beside the lock, by the digest of the `.deb`.
    pub packages: &'a BTreeMap<Sha256, PackageFacts>,
}

/// What a `.deb` itself says.
#[derive(Clone, Debug)]
pub struct PackageFacts {
    /// Of the whole `.deb`.
    pub sha512: Sha512,
    pub licence: Licence,
    /// The text of its control file.
    pub control: String,
}

/// A file or an archive from elsewhere, whose contents are in an image.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// The file of the release that is the image which it is in.
    pub image: String,
    pub kind: payload::Kind,
    /// It is an archive, and its members are in the image.
    pub archive: bool,
    /// It is a file that may be run.
    pub executable: bool,
    pub sha256: Sha256,
    pub sha512: Sha512,
    /// Who makes it and hands it out, if the recipe says.
    pub supplier: Option<&'a Supplier>,
    /// An SPDX expression.
    pub licence: Option<&'a str>,
    /// Its package URL.
    pub url: Option<&'a str>,
    /// Its source, if it was compiled, and what was linked into it.
    pub compiled: Option<(Sha256, &'a [Crate])>,
}

/// A package of cargo's registry that is in a program.
#[derive(Clone, Debug)]
pub struct Crate {
    pub name: String,
    pub version: String,
    /// The name of its archive, and the digests of that.
    pub file: String,
    pub sha256: Sha256,
    pub sha512: Sha512,
    /// An SPDX expression.
    pub licence: Option<String>,
    /// Who wrote it, as `Name <address>`.
    pub author: Option<String>,
    pub homepage: Option<String>,
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
    pub sha512: Sha512,
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
    /// It begins with a stub out of the package of this name, of the tool tree.
    Uki {
        stub: &'a str,
    },
    /// The dm-verity tree of the root image.
    Verity,
    /// The image of a volume.
    Volume,
    /// The dm-verity tree of a volume.
    VolumeVerity {
        image: &'a str,
    },
}

/// The texts of the three views.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Documents {
    /// `sbom.spdx3.json`
    pub spdx3: String,
    /// `sbom.cdx.json`
    pub cyclonedx: String,
    /// `sbom.spdx.json`
    pub spdx2: String,
}

/// Returns the texts of the documents.
///
/// # Errors
/// A package that is installed and not locked, locked and not installed, or installed by halves; an artifact that is
/// said to come from a package that is not locked, a locked firmware that nothing comes from; a file whose image or
/// package is not in the release; a dependency that cannot be read.
pub fn documents(facts: &Facts<'_>) -> Result<Documents> {
    let bill = Bill::new(facts, [installed(facts, Tree::Root)?, installed(facts, Tree::Initrd)?])?;
    let spdx3 = spdx3::text(&bill);
    let listing = Sha256::of(&spdx3);
    Ok(Documents {
        cyclonedx: cyclonedx::text(&bill, listing),
        spdx2: spdx2::text(&bill, listing),
        spdx3,
    })
}

/// The name of the view that lists every file.
const LISTING: &str = "sbom.spdx3.json";

const NOASSERTION: &str = "NOASSERTION";

/// The trees whose packages are in the release.
const SHIPPED: [Tree; 4] = [Tree::Root, Tree::Initrd, Tree::Kernel, Tree::Firmware];

/// Whether a package is in the release, or in a tree of it.
pub fn ships(package: &Package) -> bool {
    SHIPPED.iter().any(|tree| package.why.contains_key(tree))
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

/// What is installed in a tree, after it has been compared with the lock.
fn installed<'a>(facts: &Facts<'a>, tree: Tree) -> Result<Installed<'a>> {
    let (name, status) = match tree {
        Tree::Root => ("root image", facts.root_status),
        _ => ("initrd", facts.initrd_status),
    };
    let installed = dpkg::installed(name, status)?;
    compare(name, &installed, facts.lock.packages(tree))?;
    Ok(installed)
}

fn compare<'a>(tree: &str, installed: &Installed<'_>, locked: impl Iterator<Item = &'a Package>) -> Result<()> {
    let locked: BTreeSet<_> = locked.map(Identity::from).collect();
    let installed: BTreeSet<_> = installed.keys().copied().collect();
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
            Self::Uki { stub } => Some((Tree::Tools, stub)),
            _ => None,
        }
    }

    /// Whether the file is one of a package, as it is.
    fn is_copied(self) -> bool {
        matches!(self, Self::Firmware { .. } | Self::Kernel { .. })
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
    format!("{kind}-{name}-{content:.16}")
}

#[cfg(test)]
mod tests;
