//! Release in, findings out: do its documents account for every path of its images and every byte of its disk?
//!
//! The images are read again from their bytes. The documents are read by their formats' own rules, without anything of
//! what wrote them.

mod cyclonedx;
mod spdx2;
mod spdx3;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use serde::Serialize;
use serde_json::Value;

use crate::document::files;
use crate::mend::{Exit, OrMend as _};
use crate::model::contents::{Content, Kind, Node, Origin};
use crate::model::lock::{Lock, Package, Tree};
use crate::model::program::Crate;
use crate::model::recipe::Recipe;
use crate::stage::origins::{self, Origins};
use crate::stage::parse::LOCK;
use crate::stage::{contents, disk, payload};
use crate::world::{self, store::Store};

/// The file that lists every path.
const FILES: &str = "files.jsonl";

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
    #[error("{document} leaves the files to another {listing} than the release has")]
    ListingDiffers { document: String, listing: String },
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
    /// Ways in which the documents are not true.
    pub findings: Vec<Finding>,
    /// What was not looked at, and why.
    pub unchecked: Vec<String>,
}

/// What a view of the bill of materials says, as far as it is compared.
#[derive(Debug, Default)]
struct Bill {
    /// The files of images, by image and path.
    files: BTreeMap<(String, String), Sha256>,
    /// Package URLs of binary packages and of crates, by the digest of the `.deb` or the `.crate`.
    packages: BTreeMap<Sha256, String>,
    /// The digest of the view that it leaves the files to that it does not list.
    listing: Option<Sha256>,
}

/// The views, each with its reader.
type Reader = fn(&Value) -> Result<Bill>;
const VIEWS: [(&str, Reader); 3] = [
    (LISTING, spdx3::read),
    ("sbom.cdx.json", cyclonedx::read),
    ("sbom.spdx.json", spdx2::read),
];

/// The view that has the files.
const LISTING: &str = "sbom.spdx3.json";

/// Compares the images and the disk of the release in `folder` with its documents; where the `store` has the packages,
/// each file is compared with the package that it is said to come from.
///
/// # Errors
/// A release that cannot be read, or images that are none.
pub fn account(folder: &Path, store: &Store) -> Result<Account> {
    let nodes = contents::read(folder)?;
    let lock = Lock::parse(&text(folder, LOCK)?)?;
    let mut account = Account {
        paths: nodes.len(),
        packages: shipped(&lock).count(),
        findings: Vec::new(),
        unchecked: Vec::new(),
    };
    match text(folder, FILES).and_then(|text| files::parse(&text)) {
        Ok(listed) => {
            account.findings.extend(compare_paths(&nodes, &listed));
            account.origins(folder, &lock, &listed, store)?;
        }
        Err(error) => account.findings.push(invalid(FILES, &error)),
    }
    for (name, read) in VIEWS {
        account.findings.extend(view(folder, (name, read), &nodes, &lock));
    }
    let on_disk = disk::check(folder)?;
    account.findings.extend(on_disk.into_iter().map(Finding::Disk));
    Ok(account)
}

impl Account {
    /// Compares where each path is said to come from with the packages and the recipe.
    fn origins(&mut self, folder: &Path, lock: &Lock, listed: &[Content], store: &Store) -> Result<()> {
        let unexplained = listed.iter().filter(|content| content.origin == Origin::Unexplained);
        self.findings
            .extend(unexplained.map(|content| Finding::PathUnexplained {
                image: content.node.image.0.clone(),
                path: content.node.path.clone(),
            }));
        let packages = origins::packages(lock, store, origins::is_in_the_guest);
        let both = packages.and_then(|packages| Ok((packages, payload::all(lock, store)?)));
        let (packages, payloads) = match both {
            Ok(both) => both,
            Err(error) => {
                let what = "where each file comes from, against the packages";
                self.unchecked.push(format!("{what}: {error:#}"));
                return Ok(());
            }
        };
        let recipe = Recipe::parse(&text(folder, "recipe.toml")?)?;
        let images: BTreeSet<&str> = listed.iter().map(|content| content.node.image.0.as_str()).collect();
        for image in images {
            let mut origins = Origins::of_image(image, &recipe, lock, &packages)?;
            origins.bring(image, &payloads);
            let of_image: Vec<&Content> = listed.iter().filter(|content| content.node.image.0 == image).collect();
            let explained = origins.explain(of_image.iter().map(|content| content.node.clone()).collect());
            let differing = of_image
                .into_iter()
                .zip(explained)
                .filter(|(said, found)| said.origin != found.origin);
            self.findings.extend(differing.map(|(said, found)| {
                differs(
                    FILES,
                    &said.node,
                    format!("it comes from {}, not from {}", found.origin, said.origin),
                )
            }));
        }
        Ok(())
    }
}

/// The packages that leave files in the guest.
fn shipped(lock: &Lock) -> impl Iterator<Item = &Package> {
    const SHIPPED: [Tree; 4] = [Tree::Root, Tree::Initrd, Tree::Kernel, Tree::Firmware];
    let shipped = |package: &&Package| SHIPPED.iter().any(|tree| package.why.contains_key(tree));
    lock.package.iter().filter(shipped)
}

/// The crates that are in the guest's programs.
fn linked(lock: &Lock) -> impl Iterator<Item = &Crate> {
    let compiled = lock.payload.iter().filter_map(|payload| payload.compiled.as_ref());
    compiled.flat_map(|compiled| &compiled.crates).filter(|one| one.linked)
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

/// Compares a view with the images and the lock.
fn view(folder: &Path, (name, read): (&str, Reader), nodes: &[Node], lock: &Lock) -> Vec<Finding> {
    let document = text(folder, name).and_then(|text| serde_json::from_str(&text).context("it is no JSON"));
    let bill = match document.and_then(|document| read(&document)) {
        Ok(bill) => bill,
        Err(error) => return vec![invalid(name, &error)],
    };
    let listing = (name != LISTING && bill.listing != digest_of(folder, LISTING)).then(|| Finding::ListingDiffers {
        document: name.into(),
        listing: LISTING.into(),
    });
    let files = compare_files(name, nodes, &bill.files);
    listing
        .into_iter()
        .chain(files)
        .chain(compare_packages(name, &bill, lock))
        .collect()
}

fn digest_of(folder: &Path, name: &str) -> Option<Sha256> {
    text(folder, name).ok().map(Sha256::of)
}

/// Only one of the views lists every file.
fn compare_files(name: &str, nodes: &[Node], files: &BTreeMap<(String, String), Sha256>) -> Vec<Finding> {
    let mut left: BTreeSet<_> = files.keys().collect();
    let mut findings = Vec::new();
    for node in nodes {
        let Kind::File { sha256, .. } = &node.kind else {
            continue;
        };
        let key = key_of(node);
        left.remove(&key);
        match files.get(&key) {
            None if name == LISTING => findings.push(not_listed(name, node)),
            Some(said) if said != sha256 => {
                findings.push(differs(name, node, format!("its SHA-256 is {sha256}, not {said}")));
            }
            None | Some(_) => {}
        }
    }
    findings.extend(left.into_iter().map(|key| missing(name, key.clone())));
    findings
}

fn compare_packages(name: &str, bill: &Bill, lock: &Lock) -> Vec<Finding> {
    let packages = shipped(lock).map(|package| (package.sha256, (&package.name, &package.version)));
    let crates = linked(lock).map(|one| (one.sha256, (&one.name, &one.version)));
    let locked: BTreeMap<Sha256, (&String, &String)> = packages.chain(crates).collect();
    let absent = locked.iter().filter(|(sha256, _)| !bill.packages.contains_key(sha256));
    let absent = absent.map(|(_, (package, version))| Finding::PackageNotListed {
        document: name.into(),
        package: package.to_string(),
        version: version.to_string(),
    });
    let known = lock.package.iter().map(|package| package.sha256);
    let known: BTreeSet<Sha256> = known.chain(linked(lock).map(|one| one.sha256)).collect();
    let strange = bill.packages.iter().filter(|(sha256, _)| !known.contains(sha256));
    let strange = strange.map(|(_, url)| Finding::PackageNotLocked {
        document: name.into(),
        url: url.clone(),
    });
    absent.chain(strange).collect()
}

/// Whether a package URL is that of a binary package of a distribution, or of a crate.
fn packaged(url: &str) -> bool {
    url.starts_with("pkg:cargo/") || (url.starts_with("pkg:deb/") && !url.contains("arch=source"))
}

/// The SHA-256 that a document has for something.
fn digest(name: &Value, value: Option<&Value>) -> Result<Sha256> {
    let digest = value
        .and_then(Value::as_str)
        .with_context(|| format!("it has no SHA-256 of {name}"))?;
    digest.parse().with_context(|| format!("it has no SHA-256 of {name}"))
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
        why: format!("{error:#}"),
    }
}

fn text(folder: &Path, name: &str) -> Result<String> {
    let text = world::files::text(&folder.join(name));
    text.or_mend(
        Exit::No,
        format!("cannot read {name}"),
        "name the folder of a whole release",
    )
}
