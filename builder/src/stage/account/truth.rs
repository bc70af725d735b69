//! The views against what is true: the paths of the images, who owns them, and what has to be described.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use measure::Sha256;

use super::components::{self, Wanted};
use super::{Bill, FILES, Finding, LISTING, Reader, UNOWNED, differs, invalid, key_of, missing, not_listed, text};
use crate::model::contents::{Content, Kind, Node, Origin};
use crate::model::lock::Lock;
use crate::stage::on_disk::OnDisk;

/// What the views are compared with.
pub(super) struct Truth<'a> {
    pub(super) release: &'a OnDisk,
    pub(super) nodes: &'a [Node],
    /// What packages and payloads own, if the list of files can be read.
    pub(super) owned: Option<BTreeMap<(String, String), Sha256>>,
    pub(super) wanted: Vec<Wanted>,
    /// Of the packages of the lock.
    pub(super) locked: BTreeSet<Sha256>,
}

impl Truth<'_> {
    /// Returns in what a view is not true.
    pub(super) fn compare(&self, (name, read): &(&str, Reader)) -> Vec<Finding> {
        let document = text(self.release, name).and_then(|text| self.bounded(text));
        let bill = match document.and_then(|document| read(&document)) {
            Ok(bill) => bill,
            Err(error) => return vec![invalid(name, &error)],
        };
        let differs = *name != LISTING && bill.listing != digest_of(self.release, LISTING);
        let listing = differs.then(|| Finding::ListingDiffers {
            document: (*name).into(),
            listing: LISTING.into(),
        });
        let owned = self.owned.as_ref().filter(|_| *name == LISTING);
        let owners = owned.map(|owned| self.compare_owners(owned, &bill));
        listing
            .into_iter()
            .chain(self.compare_files(name, &bill.files))
            .chain(owners.into_iter().flatten())
            .chain(components::compare(name, &bill.components, &self.wanted, &self.locked))
            .collect()
    }

    /// Refuses what would take more memory to read than a bill of this release: it has some objects for each path and package.
    fn bounded(&self, text: String) -> Result<String> {
        const OBJECTS: usize = 16;
        let most = OBJECTS * (self.nodes.len() + self.wanted.len() + self.locked.len() + OBJECTS);
        let objects = text.bytes().filter(|byte| *byte == b'{').count();
        ensure!(
            objects <= most,
            "it has {objects} objects, no bill of such a release has more than {most}"
        );
        Ok(text)
    }

    /// One of the views lists every file; another those that no package and no payload has.
    fn compare_files(&self, name: &str, files: &BTreeMap<(String, String), Sha256>) -> Vec<Finding> {
        let mut left: BTreeSet<_> = files.keys().collect();
        let mut findings = Vec::new();
        for node in self.nodes {
            let Kind::File { sha256, .. } = &node.kind else {
                continue;
            };
            let key = key_of(node);
            left.remove(&key);
            let unowned = || self.owned.as_ref().is_some_and(|owned| !owned.contains_key(&key));
            let lists = name == LISTING || (name == UNOWNED && unowned());
            match files.get(&key) {
                None if lists => findings.push(not_listed(name, node)),
                Some(said) if said != sha256 => {
                    findings.push(differs(name, node, format!("its SHA-256 is {sha256}, not {said}")));
                }
                None | Some(_) => {}
            }
        }
        findings.extend(left.into_iter().map(|key| missing(name, key.clone())));
        findings
    }

    /// Compares what files are said to be of with what they are listed to be of.
    fn compare_owners(&self, owned: &BTreeMap<(String, String), Sha256>, bill: &Bill) -> Vec<Finding> {
        let files = self.nodes.iter().filter(|node| matches!(node.kind, Kind::File { .. }));
        let others = files.filter_map(|node| {
            let key = key_of(node);
            let listed: BTreeSet<Sha256> = owned.get(&key).copied().into_iter().collect();
            let said = bill.owners.get(&key).cloned().unwrap_or_default();
            let shown = |owners: &BTreeSet<Sha256>| match owners.first() {
                None => "no package".into(),
                Some(owner) => format!("the package with the SHA-256 {owner}"),
            };
            let what = format!("{FILES} has it of {}, not of {}", shown(&listed), shown(&said));
            (listed != said).then(|| differs(LISTING, node, what))
        });
        others.collect()
    }
}

fn digest_of(release: &OnDisk, name: &str) -> Option<Sha256> {
    Some(release.file(name).ok()?.stamp().ok()?.sha256)
}

/// What packages and payloads own of the files that are listed, by their digests.
pub(super) fn owned(listed: &[Content], lock: &Lock) -> BTreeMap<(String, String), Sha256> {
    let payload = |name: &str| lock.payload.iter().find(|payload| payload.name.to_string() == name);
    let files = listed
        .iter()
        .filter(|content| matches!(content.node.kind, Kind::File { .. }));
    let owned = files.filter_map(|content| match &content.origin {
        Origin::Package { sha256, .. } => Some((key_of(&content.node), *sha256)),
        Origin::Payload { name } => Some((key_of(&content.node), payload(name)?.sha256)),
        _ => None,
    });
    owned.collect()
}
