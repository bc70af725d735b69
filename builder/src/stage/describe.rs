//! A release that is being built in, the documents that say what is in it out.
//!
//! The images are read back from their bytes, each path gets its origin, and what nothing explains ends the build.

use std::collections::BTreeMap;
use std::iter;

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::uki::Uki;

use crate::debian::copyright::{self, Licence};
use crate::document::files as listing;
use crate::document::sbom::{self, Artifact, Distribution, PackageFacts, Role};
use crate::mend::Exit;
use crate::model::artifacts::{FirmwareFile, file};
use crate::model::contents::Content;
use crate::model::lock::{Lock, Package, Tree};
use crate::model::recipe::Recipe;
use crate::model::volume;
use crate::stage::contents::{self, Images, Texts};
use crate::stage::on_disk::OnDisk;
use crate::stage::origins::{self, Explained, OS_RELEASE, Origins, Packages, STATUS};
use crate::stage::payload::Payloads;
use crate::stage::release::Hashes;
use crate::world::parallel;
use crate::world::store::Store;

/// The package of the tool tree whose stub begins the UKI.
pub(super) const STUB_PACKAGE: &str = "systemd-boot-efi";

/// How many links lead to a copyright file at most; three are the most that Debian 13 has.
const LINKS: usize = 8;

/// What the documents are made from.
pub struct Described<'a> {
    pub release: &'a OnDisk,
    pub recipe: &'a Recipe,
    pub lock: &'a Lock,
    /// The kernel's release.
    pub uname: &'a str,
    pub firmware: &'a [FirmwareFile],
    /// Of the files that boot; what else is among them is not described.
    pub hashes: &'a Hashes,
    pub packages: &'a Packages,
    pub payloads: &'a Payloads,
}

/// Reads the packages out of the store that a release describes and that leave nothing in the guest: firmware, the stub.
///
/// # Errors
/// A package that is not what the lock names, or no package.
pub fn packages_beside(lock: &Lock, store: &Store) -> Result<Packages> {
    let beside = |package: &Package| is_described(package) && !origins::is_in_the_guest(package);
    origins::packages(lock, store, beside)
}

/// Whether a release has files of the package, or begins its UKI with the stub that is in it.
pub fn is_described(package: &Package) -> bool {
    sbom::ships(package) || package.name == STUB_PACKAGE
}

impl Described<'_> {
    /// Returns the names and texts of the documents.
    ///
    /// # Errors
    /// An image with a path that nothing explains; packages that the lock does not name, or the other way around.
    pub fn documents(&self) -> Result<[(&'static str, String); 4]> {
        let images = contents::read_with(self.release, origins::is_read)?;
        let explained = self.explain(&images, |origins, explained| origins.check(explained))?;
        let contents: Vec<Content> = explained.into_iter().flat_map(|image| image.contents).collect();
        self.documents_of(&contents, &images.texts)
    }

    /// As [`documents`](Self::documents), for images that were read and whose paths are explained, or not.
    ///
    /// # Errors
    /// Packages that the lock does not name, or the other way around; images without a list of packages.
    pub fn documents_of(
        &self,
        contents: &[Content],
        texts: &BTreeMap<String, Texts>,
    ) -> Result<[(&'static str, String); 4]> {
        let artifacts = self.described()?;
        let sbom = || self.sbom(contents, texts, &artifacts);
        let (listing, sbom) = parallel::both(|| listing::text(contents), sbom);
        let sbom = sbom?;
        Ok([
            ("files.jsonl", listing),
            ("sbom.cdx.json", sbom.cyclonedx),
            ("sbom.spdx.json", sbom.spdx2),
            ("sbom.spdx3.json", sbom.spdx3),
        ])
    }

    /// Returns every path of the images, with its origin, image by image as `check` lets them pass.
    ///
    /// # Errors
    /// Those of `check`; patterns of the recipe that are none.
    pub fn explain(
        &self,
        Images { nodes, texts }: &Images,
        check: impl Fn(&Origins<'_>, &Explained) -> Result<()>,
    ) -> Result<Vec<Explained>> {
        let none = Texts::new();
        let images = nodes.chunk_by(|one, next| one.image == next.image);
        let explained = images.map(|nodes| {
            let image = nodes[0].image.0.as_str();
            let mut origins = Origins::of_image(image, self.recipe, self.lock, self.packages)?;
            origins.bring(image, self.payloads);
            let explained = origins.explain(nodes.to_vec(), texts.get(image).unwrap_or(&none));
            check(&origins, &explained).map(|()| explained)
        });
        explained.collect()
    }

    /// The files that boot.
    fn described(&self) -> Result<Vec<Artifact<'_>>> {
        let roles = self.roles()?;
        let described = self.hashes.iter().filter_map(|(name, (stamp, sha512))| {
            Some(Artifact {
                name: name.as_str(),
                stamp: *stamp,
                sha512: *sha512,
                role: *roles.get(name.as_str())?,
            })
        });
        Ok(described.collect())
    }

    fn sbom(
        &self,
        contents: &[Content],
        texts: &BTreeMap<String, Texts>,
        artifacts: &[Artifact<'_>],
    ) -> Result<sbom::Documents> {
        let uki = self.release.bytes(file::UKI).context("cannot read the UKI")?;
        let distribution = Distribution::of(text(texts, file::ROOT, OS_RELEASE)?);
        let trees = [Tree::Initrd, Tree::Kernel, Tree::Root].into_iter();
        let distributions = trees.filter_map(|tree| Some((tree, distribution?))).collect();
        sbom::documents(&sbom::Facts {
            name: &self.recipe.name,
            epoch: self.recipe.epoch,
            supplier: self.recipe.supplier.as_ref(),
            lock: self.lock,
            root_status: text(texts, file::ROOT, STATUS)?,
            initrd_status: text(texts, file::INITRD, STATUS)?,
            distributions: &distributions,
            artifacts,
            sections: &sections(&uki)?,
            contents,
            payloads: &self.payload_facts(),
            packages: &self.package_facts(),
        })
    }

    fn payload_facts(&self) -> Vec<sbom::Payload<'_>> {
        let locked = self.lock.payload.iter().zip(self.payloads);
        let facts = locked.map(|(payload, brought)| sbom::Payload {
            name: &brought.name,
            version: &payload.version,
            image: payload.place.image(),
            kind: payload.kind,
            archive: payload.place.unpack,
            executable: payload.is_executable(),
            sha256: payload.sha256,
            sha512: brought.sha512,
            supplier: payload.supplier.as_ref(),
            licence: payload.licence.as_deref(),
            url: payload.purl.as_deref(),
            compiled: payload
                .compiled
                .as_ref()
                .map(|compiled| (compiled.source.sha256, brought.crates.as_slice())),
        });
        facts.collect()
    }

    fn package_facts(&self) -> BTreeMap<Sha256, PackageFacts> {
        let named = self.lock.package.iter();
        let described = named.filter_map(|package| Some((package, self.packages.get(&package.sha256)?)));
        let facts = described.map(|(package, members)| {
            let facts = PackageFacts {
                sha512: members.sha512,
                licence: self.licence(package),
                control: members.control_file.clone(),
            };
            (package.sha256, facts)
        });
        facts.collect()
    }

    /// What the copyright file says, which may be in another package.
    fn licence(&self, package: &Package) -> Licence {
        let own = &self.packages[&package.sha256];
        let all = || iter::once(own).chain(self.packages.values());
        let mut name = package.name.as_str();
        for _ in 0..LINKS {
            if let Some(text) = all().find_map(|members| members.copyright.get(name)) {
                return copyright::licence(name, text);
            }
            let Some(next) = all().find_map(|members| members.documented_as(name)) else {
                break;
            };
            name = next;
        }
        Licence::default()
    }

    /// What each file that boots is for.
    fn roles(&self) -> Result<BTreeMap<&str, Role<'_>>> {
        let image = |name: &str| name.ends_with(&self.uname);
        let kernel = self.lock.packages(Tree::Kernel).find(|package| image(&package.name));
        let missing = || {
            Exit::Unsupported.because(
                format!("no package of the kernel is named after its release {}", self.uname),
                "name another kernel package",
            )
        };
        let package = &kernel.ok_or_else(missing)?.name;
        let fixed = [
            (file::COMMAND_LINE, Role::CommandLine),
            (file::DISK, Role::Disk),
            (file::INITRD, Role::Initrd),
            (file::KERNEL, Role::Kernel { package }),
            (file::ROOT, Role::Root),
            (file::UKI, Role::Uki { stub: STUB_PACKAGE }),
            (file::VERITY, Role::Verity),
        ];
        let volumes = self.hashes.keys().filter_map(|file| {
            let file = file.as_str();
            let image = volume::Name::of_image(file).map(|_| Role::Volume);
            let image_of = |name: volume::Name| self.hashes.keys().find(|file| file.as_str() == name.image());
            let tree = || {
                let image = volume::Name::of_verity(file).and_then(image_of)?;
                Some(Role::VolumeVerity { image: image.as_str() })
            };
            Some((file, image.or_else(tree)?))
        });
        let firmware = self.firmware.iter();
        let firmware = firmware.map(|firmware| {
            (
                firmware.file.as_str(),
                Role::Firmware {
                    package: &firmware.package,
                },
            )
        });
        Ok(fixed.into_iter().chain(volumes).chain(firmware).collect())
    }
}

/// A file of an image.
///
/// # Errors
/// An image that has none, or something else than text in it.
pub(super) fn text<'t>(texts: &'t BTreeMap<String, Texts>, image: &str, path: &str) -> Result<&'t str> {
    let bytes = texts.get(image).and_then(|texts| texts.get(path));
    let bytes = bytes.with_context(|| format!("{image} has no {path}"))?;
    std::str::from_utf8(bytes).with_context(|| format!("{path} of {image} is no text"))
}

/// The digests of the sections of a UKI that are measured.
fn sections(uki: &[u8]) -> Result<BTreeMap<&'static str, Sha256>> {
    let uki = Uki::read(uki).context("the UKI cannot be read back")?;
    Ok(uki
        .measured()
        .map(|section| (section.name, Sha256::of(section.data)))
        .collect())
}
