//! The files of a release: the one list of their names, of what each is for, and of how large it may be.

use super::volume;

pub const BUILDINFO: &str = "image.buildinfo";
pub const COMMAND_LINE: &str = "cmdline";
/// Evidence of the machine that built a release, at the end, over the record.
pub const COMPLETION: &str = "evidence/completion.json";
pub const CONFIG_MAP: &str = "configmap.yaml";
pub const CORIM: &str = "reference.corim";
pub const CYCLONEDX: &str = "sbom.cdx.json";
pub const DISK: &str = "disk.raw";
/// Evidence of the machine that built a release, before anything of the recipe ran, over the request.
pub const DISPATCH: &str = "evidence/dispatch.json";
pub const INITRD: &str = "initrd.cpio.zst";
pub const KERNEL: &str = "vmlinuz";
pub const LISTING: &str = "files.jsonl";
pub const LOCK: &str = "recipe.lock";
pub const MANIFEST: &str = "manifest.json";
pub const MEASUREMENTS: &str = "measurements.json";
pub const MESSAGE: &str = "rvps-message.json";
pub const PLATFORM: &str = "platform.toml";
pub const POLICY: &str = "policy.rego";
/// The proof that the record is in a log.
pub const PROOF: &str = "record.tlog-proof";
pub const PROVENANCE: &str = "provenance.intoto.json";
/// The folder of what rebuilders have signed.
pub const REBUILDS: &str = "rebuilds";
pub const RECIPE: &str = "recipe.toml";
pub const RECIPE_ARCHIVE: &str = "recipe.tar";
pub const RECORD: &str = "record.json";
pub const ROOT: &str = "rootfs.erofs";
/// The UKI with a signature for UEFI Secure Boot.
pub const SIGNED_UKI: &str = "uki.signed.efi";
pub const SPDX2: &str = "sbom.spdx.json";
pub const SPDX3: &str = "sbom.spdx3.json";
pub const UKI: &str = "uki.efi";
pub const VALUES: &str = "reference-values.json";
pub const VERITY: &str = "rootfs.verity";

/// What a file of a release is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// It boots: a kernel, an image, firmware. Any rebuilder makes the same.
    Boots,
    /// It says something about what boots. Any rebuilder makes the same.
    Document,
    /// It belongs to one build, or to those who judge it.
    OfBuild,
}

/// How the names of files are told.
#[derive(Clone, Copy)]
enum Names {
    Is(&'static str),
    EndsWith(&'static str),
    Below(&'static str),
    Volume,
}

impl Names {
    fn have(self, name: &str) -> bool {
        match self {
            Self::Is(wanted) => name == wanted,
            Self::EndsWith(end) => name.ends_with(end),
            Self::Below(folder) => name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')),
            Self::Volume => volume::Name::of_image(name)
                .or_else(|| volume::Name::of_verity(name))
                .is_some(),
        }
    }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What is never held in memory as a whole has the limit of file systems, in bytes.
const ANY: u64 = 1 << 40;

/// Every file that a release may have: its name, what it is, and how many bytes it has at most. The first that fits
/// counts.
///
/// A document that is read as a whole has a few times the size of the largest that was seen, because a reader of JSON
/// needs many times its size: a bill of materials has 1 KiB for each file of the guest, a lock 400 bytes for each package,
/// a provenance 130.
const FILES: [(Names, Class, u64); 36] = {
    use Class::{Boots, Document, OfBuild};
    use Names::{Below, EndsWith, Is, Volume};
    [
        (Is(MANIFEST), Document, MIB),
        (Is(COMMAND_LINE), Boots, 64 * KIB),
        (Is(DISK), Boots, ANY),
        (Is(INITRD), Boots, ANY),
        (Is(KERNEL), Boots, 32 * MIB),
        (Is(ROOT), Boots, ANY),
        (Is(VERITY), Boots, ANY),
        (Is(SIGNED_UKI), OfBuild, 128 * MIB),
        (Is(UKI), Boots, 128 * MIB),
        (Volume, Boots, ANY),
        (EndsWith(".fd"), Boots, 16 * MIB),
        (Is(RECIPE), Document, MIB),
        (Is(LOCK), Document, 2 * MIB),
        (Is(RECIPE_ARCHIVE), Document, 32 * MIB),
        (Is(PLATFORM), Document, MIB),
        (Is(MEASUREMENTS), Document, 16 * MIB),
        (Is(VALUES), Document, 8 * MIB),
        (Is(MESSAGE), Document, 8 * MIB),
        (Is(CONFIG_MAP), Document, 8 * MIB),
        (Is(POLICY), Document, 8 * MIB),
        (Is(CORIM), Document, 8 * MIB),
        (Is(LISTING), Document, 32 * MIB),
        (Is(SPDX3), Document, 48 * MIB),
        (Is(CYCLONEDX), Document, 32 * MIB),
        (Is(SPDX2), Document, 16 * MIB),
        (Is(BUILDINFO), Document, 4 * MIB),
        (Is(PROVENANCE), OfBuild, 8 * MIB),
        (Is(RECORD), OfBuild, 64 * KIB - 1), // a log stores no more
        (Is(PROOF), OfBuild, 64 * KIB),
        (Below("evidence"), OfBuild, 4 * MIB), // an event log has some hundred KiB
        (Below(REBUILDS), OfBuild, MIB),
        (Is("record.sigstore.json"), OfBuild, MIB),
        (Is("provenance.sigstore.json"), OfBuild, 12 * MIB),
        (Is("reference-values.sigstore.json"), OfBuild, 12 * MIB),
        (Is("sbom.spdx.sigstore.json"), OfBuild, 24 * MIB),
        (EndsWith(".sigstore.json"), OfBuild, 64 * MIB), // a document, indented and in base64
    ]
};

fn known(name: &str) -> Option<(Class, u64)> {
    let mut files = FILES.iter();
    let known = files.find(|(names, ..)| names.have(name));
    known.map(|(_, class, limit)| (*class, *limit))
}

/// Returns whether a file of a release is one of those that boot: its kernel, images and firmware, not its documents.
pub fn boots(name: &str) -> bool {
    known(name).is_some_and(|(class, _)| class == Class::Boots)
}

/// Returns how many bytes the file of a release has at most that has this name.
pub fn limit(name: &str) -> u64 {
    known(name).map_or(ANY, |(_, limit)| limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name() {
        for (name, class) in [
            (KERNEL, Some(Class::Boots)),
            ("OVMF-snp.fd", Some(Class::Boots)),
            ("volume-model.erofs", Some(Class::Boots)),
            (SIGNED_UKI, Some(Class::OfBuild)),
            ("rebuilds/key.provenance.sigstore.json", Some(Class::OfBuild)),
            (SPDX3, Some(Class::Document)),
            ("rebuilds", None),
            ("evidence-of-nothing", None),
        ] {
            assert_eq!(known(name).map(|(class, _)| class), class, "{name}");
        }
        assert_eq!(limit(RECORD), 65_535);
        assert_eq!(limit("something.new"), ANY);
    }
}
