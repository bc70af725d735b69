//! What recipe and lock, and the files that boot, lead to in a release. Who builds writes it and who verifies compares it,
//! both from here, so that no document says what does not follow.

use std::collections::BTreeSet;

use anyhow::Result;
use measure::Sha256;

use crate::document::buildinfo;
use crate::document::launches::Predicted;
use crate::image::identity;
use crate::model::artifacts::{FirmwareFile, file};
use crate::model::release::Origin;
use crate::model::volume;
use crate::model::{Lock, Measurements};
use crate::stage::export::{self, PROFILE};
use crate::stage::parse::{LOCK, Project};
use crate::stage::recipe;
use crate::stage::release::Stamps;

/// The documents that follow from the files in the images, and from packages.
pub const OF_IMAGES: [&str; 4] = ["files.jsonl", "sbom.cdx.json", "sbom.spdx.json", "sbom.spdx3.json"];

/// A recipe and its lock.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub project: &'a Project,
    pub lock: &'a Lock,
}

/// What the documents of a release follow from.
#[derive(Clone, Copy, Debug)]
pub struct Derived<'a> {
    pub source: Source<'a>,
    /// The files that boot, and no others.
    pub files: &'a Stamps,
    pub measurements: &'a Measurements,
}

impl Source<'_> {
    /// Returns what a release of them is made from, as its manifest says it.
    pub fn origin(&self) -> Origin {
        let recipe = &self.project.recipe;
        Origin {
            name: recipe.name.clone(),
            epoch: recipe.epoch,
            recipe: self.project.digest,
            lock: self.lock.digest(),
        }
    }

    /// Returns the firmware that a release has.
    pub fn firmware(&self) -> Vec<FirmwareFile> {
        let firmware = self.project.firmware.iter();
        let file = firmware.map(|(name, firmware)| FirmwareFile {
            file: format!("OVMF-{name}.fd"),
            package: firmware.package.clone(),
            supports: firmware.supports.clone(),
        });
        file.collect()
    }

    /// Returns the names of the files of a release that boot.
    pub fn artifacts(&self) -> BTreeSet<String> {
        let fixed = [
            file::COMMAND_LINE,
            file::DISK,
            file::INITRD,
            file::KERNEL,
            file::ROOT,
            file::UKI,
            file::VERITY,
        ];
        let firmware = self.firmware().into_iter().map(|firmware| firmware.file);
        let volumes = self.project.recipe.volume.iter();
        let volumes = volumes.flat_map(|volume| [volume.name.image(), volume.name.verity()]);
        fixed
            .map(String::from)
            .into_iter()
            .chain(firmware)
            .chain(volumes)
            .collect()
    }

    /// Returns the kernel's command line: the recipe's parameters, and those by which systemd finds the root in either
    /// shape: by the identifiers of the file system and of the hash tree, which are the same on a disk of their own and in
    /// a partition. Units of the root find the volumes, and learn their root hashes here.
    pub fn command_line(&self, root_hash: &Sha256, volumes: &[(volume::Name, Sha256)]) -> String {
        let lock = self.lock.digest();
        let by_uuid = |what: &str| format!("/dev/disk/by-uuid/{}", identity::uuid(&lock, what));
        let own = [
            "root=/dev/mapper/root".into(),
            "ro".into(),
            format!("roothash={root_hash}"),
            format!("systemd.verity_root_data={}", by_uuid(file::ROOT)),
            format!("systemd.verity_root_hash={}", by_uuid(file::VERITY)),
        ];
        let volumes = volumes.iter().map(|(name, root_hash)| name.parameter(root_hash));
        let given = self.project.recipe.command_line.iter().cloned();
        given.chain(own).chain(volumes).collect::<Vec<_>>().join(" ")
    }
}

impl Derived<'_> {
    /// Returns the names and bytes of all documents but those [of the images](OF_IMAGES) and the recipe's archive.
    ///
    /// # Errors
    /// More values than the formats for verifiers take.
    pub fn documents(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let Source { project, lock } = self.source;
        let recipe = &project.recipe;
        let profile = project.platform.as_ref();
        let release = Predicted::new(
            &recipe.name,
            lock.digest(),
            self.measurements,
            profile.map(|(profile, _)| profile),
        );
        let mut documents = vec![
            (buildinfo::FILE, buildinfo::text(recipe, lock, self.files).into_bytes()),
            ("measurements.json", self.measurements.text().into_bytes()),
            ("recipe.toml", project.text.clone().into_bytes()),
            (LOCK, lock.text().into_bytes()),
        ];
        documents.extend(export::documents(&release, recipe.epoch)?);
        documents.extend(profile.map(|(_, text)| (PROFILE, text.clone().into_bytes())));
        Ok(documents)
    }
}

/// Returns the names of all documents of a release that has those, which [`Derived::documents`] returns.
pub fn names<'a>(derived: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let others = OF_IMAGES.into_iter().chain([recipe::FILE]);
    derived.into_iter().chain(others).map(String::from).collect()
}
