//! What follows from the packages of the lock and from what is in the images, made again and compared byte for byte: the
//! list of files, the bills of materials, kernel, firmware and UKI.

use anyhow::{Context as _, Result};

use super::Finding;
use crate::debian::deb;
use crate::image::uki;
use crate::model::contents::Content;
use crate::model::file;
use crate::model::lock::{Lock, Package, Tree};
use crate::stage::assemble::STUB;
use crate::stage::compared::{Compared, Stream};
use crate::stage::contents::Images;
use crate::stage::derived::Source;
use crate::stage::describe::{Described, STUB_PACKAGE, text};
use crate::stage::on_disk::OnDisk;
use crate::stage::origins::OS_RELEASE;
use crate::stage::recompute::first_difference;
use crate::stage::release::Hashes;
use crate::world::store::Store;

/// A release, and what it is made of.
pub(super) struct Made<'a> {
    pub(super) release: &'a OnDisk,
    pub(super) store: &'a Store,
    pub(super) source: Source<'a>,
    pub(super) images: &'a Images,
    /// Of the files that boot.
    pub(super) hashes: &'a Hashes,
}

impl Made<'_> {
    /// Compares all of it; `contents` are the paths of the images, explained.
    ///
    /// # Errors
    /// Packages that the store does not have, or that have not what is taken out of them.
    pub(super) fn compare(&self, described: &Described<'_>, contents: &[Content]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (name, text) in described.documents_of(contents, &self.images.texts)? {
            findings.extend(self.compare_bytes(name, text.as_bytes())?);
        }
        let firmware = self.source.project.firmware.iter().zip(described.firmware);
        for ((_, locked), firmware) in firmware {
            let of_firmware = |package: &Package| package.name == firmware.package;
            let bytes = self.member(Tree::Firmware, of_firmware, &locked.file)?;
            findings.extend(self.compare_bytes(&firmware.file, &bytes)?);
        }
        let of_kernel = |package: &Package| package.name.ends_with(described.uname);
        let kernel = self.member(Tree::Kernel, of_kernel, &format!("boot/vmlinuz-{}", described.uname))?;
        findings.extend(self.compare_bytes(file::KERNEL, &kernel)?);
        let os_release = text(&self.images.texts, file::ROOT, OS_RELEASE)?;
        findings.extend(self.compare_uki(os_release, described.uname)?);
        Ok(findings)
    }

    /// A file of a locked package.
    fn member(&self, tree: Tree, wanted: impl Fn(&Package) -> bool, path: &str) -> Result<Vec<u8>> {
        let package = self.lock().packages(tree).find(|package| wanted(package));
        let package = package.with_context(|| format!("no locked package has {path}"))?;
        deb::extract_file(&self.store.bytes(&package.sha256, package.size)?, path)
            .with_context(|| format!("cannot read {path} of {}", package.file_name()))
    }

    const fn lock(&self) -> &Lock {
        self.source.lock
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        self.release.bytes(name).with_context(|| format!("cannot read {name}"))
    }

    fn compare_bytes(&self, name: &str, wanted: &[u8]) -> Result<Option<Finding>> {
        let offset = first_difference(&self.bytes(name)?, wanted);
        Ok(offset.map(|offset| otherwise(name, offset)))
    }

    fn compare_uki(&self, os_release: &str, uname: &str) -> Result<Option<Finding>> {
        let stub = self.member(Tree::Tools, |package| package.name == STUB_PACKAGE, STUB)?;
        let open = |name: &str| self.release.file(name).with_context(|| format!("cannot open {name}"));
        let (there, linux, initrd) = (open(file::UKI)?, open(file::KERNEL)?, open(file::INITRD)?);
        let command_line = self.release.text(file::COMMAND_LINE);
        let parts = uki::Uki {
            stub: &stub,
            os_release,
            command_line: &command_line.context("cannot read the command line")?,
            uname,
            linux: Stream::whole(&*linux),
            initrd: Stream::whole(&*initrd),
        };
        let mut compared = Compared::new(&*there, 0..there.len());
        let wrote = uki::write_uki(parts, &mut compared);
        let offset = compared.first_difference(wrote)?;
        Ok(offset.map(|offset| otherwise(file::UKI, offset)))
    }
}

fn otherwise(file: &str, offset: u64) -> Finding {
    Finding::NotOfPackages {
        file: file.into(),
        offset,
    }
}
