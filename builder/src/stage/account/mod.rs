//! Release in, findings out: do its documents account for every path of its images and every byte of its disk?
//!
//! The images are read again from their bytes. The documents are read by their formats' own rules, without anything of
//! what wrote them.

mod again;
mod components;
mod cyclonedx;
mod spdx2;
mod spdx3;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use again::Made;
use anyhow::{Context as _, Result, anyhow, ensure};
use components::{Component, Known};
use measure::{Digest, Sha256};
use serde::Serialize;
use truth::Truth;

use crate::document::files as listing;
use crate::mend::{Exit, OrMend as _, quoted};
use crate::model::contents::{Content, Node, Origin};
use crate::model::file;
use crate::stage::derived::Source;
use crate::stage::describe::{self, Described};
use crate::stage::on_disk::OnDisk;
use crate::stage::origins::{self, Explained, Packages};
use crate::stage::payload::Payloads;
use crate::stage::{assemble, contents, disk, payload, recompute};
use crate::world::parallel;
use crate::world::store::Store;

/// The file that lists every path.
const FILES: &str = file::LISTING;

/// One way in which the documents of a release are not true.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Finding {
    #[error("{document} cannot be read: {why}")]
    DocumentInvalid { document: String, why: String },
    #[error("{document} does not list {path} of {image}, which is there")]
    PathNotListed {
        document: String,
        image: String,
        path: String,
    },
    #[error("{document} lists {path} of {image}, which is not there")]
    PathMissing {
        document: String,
        image: String,
        path: String,
    },
    #[error("{path} of {image} is not what {document} says: {what}")]
    PathDiffers {
        document: String,
        image: String,
        path: String,
        what: String,
    },
    #[error("nothing explains {path} of {image}")]
    PathUnexplained { image: String, path: String },
    #[error("{document} does not list the package {package} {version}, which is locked for the guest")]
    PackageNotListed {
        document: String,
        package: String,
        version: String,
    },
    #[error("{document} lists {url}, which is not locked")]
    PackageNotLocked { document: String, url: String },
    #[error("{document} does not list {component} with the SHA-256 {sha256}")]
    ComponentNotListed {
        document: String,
        component: String,
        sha256: Sha256,
    },
    #[error("{document} has {what} for {component}")]
    ComponentDiffers {
        document: String,
        component: String,
        what: String,
    },
    #[error("{document} leaves the files to another {listing} than the release has")]
    ListingDiffers { document: String, listing: String },
    #[error("{file} is not what the packages of the lock and the images lead to, from byte {offset} on")]
    NotOfPackages { file: String, offset: u64 },
    #[error("no build of the lock has made this: {why}")]
    Unmakeable { why: String },
    #[error(transparent)]
    #[serde(untagged)]
    Disk(disk::Finding),
}

/// What was found out about the documents of a release.
#[derive(Clone, Debug)]
pub struct Account {
    /// How many paths the images have.
    pub paths: usize,
    /// How many packages the guest is made of.
    pub packages: usize,
    /// Paths that are believed, since nothing tells what has to be in them.
    pub believed: Vec<Content>,
    /// Ways in which the documents are not true.
    pub findings: Vec<Finding>,
    /// What was not compared, since the store has not all packages, and which it has not.
    pub unchecked: Option<String>,
}

/// What a view of the bill of materials says, as far as it is compared.
#[derive(Debug, Default)]
struct Bill {
    /// The files of images, by image and path.
    files: BTreeMap<(String, String), Sha256>,
    /// What such files are said to be of, by the digest of the package or payload; only one of the views says so.
    owners: BTreeMap<(String, String), BTreeSet<Sha256>>,
    /// Packages, payloads, and files of the release.
    components: Vec<Component>,
    /// The digest of the view that it leaves the files to that it does not list.
    listing: Option<Sha256>,
}

/// The views, each with its reader.
type Reader = fn(&str) -> Result<Bill>;
const VIEWS: [(&str, Reader); 3] = [
    (LISTING, spdx3::read),
    (UNOWNED, cyclonedx::read),
    (file::SPDX2, spdx2::read),
];

/// The view that has the files.
const LISTING: &str = file::SPDX3;

/// The view that has those of them that no package and no payload has.
const UNOWNED: &str = file::CYCLONEDX;

/// What is compared with packages only.
const OF_PACKAGES: &str = "where each file comes from; kernel, firmware, UKI and bills of materials, made again";

/// Compares the images and the disk of a release with its documents; where the `store` has the packages, each file is
/// compared with the package that it is said to come from, and what follows from packages is made again.
///
/// # Errors
/// A release that cannot be read, or images that are none.
pub fn account(release: &OnDisk, store: &Store) -> Result<Account> {
    let read = recompute::read(release);
    let (project, lock) = &read.or_mend(Exit::No, "cannot read what the release was made from", WHOLE)?;
    let images = contents::read_with(release, origins::is_read)?;
    let hashes = components::files_that_boot(release)?;
    let mut account = Account {
        paths: images.nodes.len(),
        packages: lock
            .package
            .iter()
            .filter(|package| components::is_shipped(package))
            .count(),
        believed: Vec::new(),
        findings: Vec::new(),
        unchecked: None,
    };
    let listed = account.listing(release, &images.nodes);
    let made = Made {
        release,
        store,
        source: Source { project, lock },
        images: &images,
        hashes: &hashes,
    };
    let known = account.origins(&made, listed.as_deref().unwrap_or_default());
    let truth = Truth {
        release,
        nodes: &images.nodes,
        owned: listed.map(|listed| truth::owned(&listed, lock)),
        wanted: components::wanted(&hashes, lock, &known),
        locked: lock.package.iter().map(|package| package.sha256).collect(),
    };
    let found = parallel::map(&VIEWS, |view| truth.compare(view));
    account.findings.extend(found.into_iter().flatten());
    let on_disk = disk::check(release)?;
    account.findings.extend(on_disk.into_iter().map(Finding::Disk));
    Ok(account)
}

impl Account {
    /// Compares the paths with those that are listed; returns the list, if it is one.
    fn listing(&mut self, release: &OnDisk, nodes: &[Node]) -> Option<Vec<Content>> {
        let read = |text: String| {
            let (lines, most) = (text.lines().count(), 2 * nodes.len()); // what is more than there is takes memory
            ensure!(lines <= most, "it has {lines} lines, there are {} paths", nodes.len());
            listing::parse(&text)
        };
        match text(release, FILES).and_then(read) {
            Ok(listed) => {
                self.findings.extend(compare_paths(nodes, &listed));
                Some(listed)
            }
            Err(error) => {
                self.findings.push(invalid(FILES, &error));
                None
            }
        }
    }

    /// Compares where each path is said to come from with the packages and the recipe, and what follows from them with what
    /// is there; returns what is known of packages and payloads from the store.
    fn origins(&mut self, made: &Made<'_>, listed: &[Content]) -> Known {
        self.believed
            .extend(listed.iter().filter(|content| is_believed(&content.origin)).cloned());
        let unexplained = listed.iter().filter(|content| content.origin == Origin::Unexplained);
        self.findings
            .extend(unexplained.map(|content| Finding::PathUnexplained {
                image: content.node.image.0.clone(),
                path: content.node.path.clone(),
            }));
        let lock = made.source.lock;
        let packages = origins::packages(lock, made.store, describe::is_described);
        let both = packages.and_then(|packages| Ok((packages, payload::all(lock, made.store)?)));
        let (packages, payloads) = match &both {
            Ok(both) => both,
            Err(error) => {
                self.unchecked = Some(format!("{OF_PACKAGES}: {error:#}"));
                return Known::new();
            }
        };
        let again = self.again(made, packages, payloads, listed);
        self.findings.extend(again.err().map(|error| Finding::Unmakeable {
            why: quoted(format_args!("{error:#}")),
        }));
        components::known(lock, packages, payloads)
    }

    /// Makes again what follows from packages, and compares.
    ///
    /// # Errors
    /// A release that no build would have made.
    fn again(&mut self, made: &Made<'_>, packages: &Packages, payloads: &Payloads, listed: &[Content]) -> Result<()> {
        let Source { project, lock } = made.source;
        let described = Described {
            release: made.release,
            recipe: &project.recipe,
            lock,
            uname: &assemble::uname(made.release)?,
            firmware: &made.source.firmware(),
            hashes: made.hashes,
            packages,
            payloads,
        };
        let explained = described.explain(made.images, |_, _| Ok(()))?;
        self.findings.extend(differing(listed, &explained));
        let contents: Vec<Content> = explained.into_iter().flat_map(|image| image.contents).collect();
        self.findings.extend(made.compare(&described, &contents)?);
        Ok(())
    }
}

/// The paths that are listed to come from elsewhere than they do.
fn differing(listed: &[Content], explained: &[Explained]) -> Vec<Finding> {
    let said: BTreeMap<_, &Content> = listed.iter().map(|content| (key_of(&content.node), content)).collect();
    let of_image = |Explained { contents, reasons }: &Explained| {
        let differing = contents.iter().filter_map(|found| {
            let said = said
                .get(&key_of(&found.node))
                .filter(|said| said.origin != found.origin)?;
            let reason = reasons.get(&found.node.path).map(|reason| format!(": {reason}"));
            let what = format!("it comes from {}, not from {}", found.origin, said.origin);
            Some(differs(FILES, &found.node, what + &reason.unwrap_or_default()))
        });
        differing.collect::<Vec<_>>()
    };
    explained.iter().flat_map(of_image).collect()
}

/// Whether a path is believed to come from there, whatever is in it.
fn is_believed(origin: &Origin) -> bool {
    matches!(origin, Origin::NotDerived { .. } | Origin::Allowed)
}

fn compare_paths(nodes: &[Node], listed: &[Content]) -> Vec<Finding> {
    let there: BTreeMap<_, &Node> = nodes.iter().map(|node| (key_of(node), node)).collect();
    let said: BTreeMap<_, &Node> = listed
        .iter()
        .map(|content| (key_of(&content.node), &content.node))
        .collect();
    let keys: BTreeSet<_> = there.keys().chain(said.keys()).collect();
    let findings = keys
        .into_iter()
        .filter_map(|key| match (there.get(key), said.get(key)) {
            (Some(node), None) => Some(not_listed(FILES, node)),
            (None, Some(node)) => Some(missing(FILES, key_of(node))),
            (Some(there), Some(said)) if there != said => Some(differs(FILES, there, difference(there, said))),
            _ => None,
        });
    findings.collect()
}

/// What of a path is not as it is said.
fn difference(there: &Node, said: &Node) -> String {
    let parts = [
        (there.kind != said.kind, "content or kind"),
        (there.mode != said.mode, "permissions"),
        ((there.uid, there.gid) != (said.uid, said.gid), "owner"),
        (there.xattrs != said.xattrs, "extended attributes"),
    ];
    let names: Vec<_> = parts
        .iter()
        .filter(|(differs, _)| *differs)
        .map(|(_, name)| *name)
        .collect();
    format!("other {}", names.join(", "))
}

/// The digest that a document has for something; none where it has none.
fn digest<const N: usize>(name: &str, value: Option<&str>) -> Result<Option<Digest<N>>> {
    let digest = value.map(|value| value.parse());
    digest
        .transpose()
        .map_err(|_| anyhow!("its digest of {name} has another form"))
}

/// The SHA-256 that a document must have for something.
fn sha256_of(name: &str, value: Option<&str>) -> Result<Sha256> {
    digest(name, value)?.with_context(|| format!("it has no SHA-256 of {name}"))
}

fn key_of(node: &Node) -> (String, String) {
    (node.image.0.clone(), node.path.clone())
}

fn not_listed(document: &str, node: &Node) -> Finding {
    let (image, path) = key_of(node);
    Finding::PathNotListed {
        document: document.into(),
        image,
        path,
    }
}

fn missing(document: &str, (image, path): (String, String)) -> Finding {
    Finding::PathMissing {
        document: document.into(),
        image,
        path,
    }
}

fn differs(document: &str, node: &Node, what: String) -> Finding {
    let (image, path) = key_of(node);
    Finding::PathDiffers {
        document: document.into(),
        image,
        path,
        what,
    }
}

fn invalid(document: &str, error: &anyhow::Error) -> Finding {
    Finding::DocumentInvalid {
        document: document.into(),
        why: quoted(format_args!("{error:#}")),
    }
}

fn text(release: &OnDisk, name: &str) -> Result<String> {
    release
        .text(name)
        .or_mend(Exit::No, format!("cannot read {name}"), WHOLE)
}

const WHOLE: &str = "name the folder of a whole release";
