//! The disk of a release: which partitions it has, and by which identifiers they are found.

use std::fmt::Debug;
use std::io::{Read, Seek, Write};

use anyhow::Result;
use measure::Sha256;
use uuid::Uuid;

use super::gpt::{self, Kind, Partition};
use super::{fat, identity};

/// What is in a partition, and how many bytes that are.
pub struct Content<'a>(pub &'a mut dyn Read, pub u64);

/// What is on the disk.
pub struct Disk<'a> {
    /// The digest of the lock, which identifiers derive from.
    pub lock: Sha256,
    pub root_hash: Sha256,
    /// As [`write_esp`] writes it.
    pub esp: Content<'a>,
    pub root: Content<'a>,
    pub verity: Content<'a>,
    /// The images of the volumes and their hash trees, by name.
    pub volumes: Vec<(&'a str, Content<'a>)>,
}

/// Where the EFI system partition begins, in bytes: it is the first one.
pub const ESP: u64 = 1 << 20;

/// Writes the EFI system partition, with the UKI of so many bytes, to `out`, which is empty.
///
/// # Errors
/// A UKI that is too large, or not as large as it was said to be.
pub fn write_esp(lock: &Sha256, uki: &mut dyn Read, size: u64, out: &mut (impl Read + Write + Seek)) -> Result<()> {
    let volume = fat::Volume {
        id: identity::volume_id(lock, "esp"),
        label: *b"ESP        ",
    };
    fat::write_esp(uki, size, volume, out)
}

impl Disk<'_> {
    /// Writes the disk to `out`, which is empty. The identifiers of the partitions of the root are the halves of the root
    /// hash, as the Discoverable Partitions Specification has it.
    ///
    /// # Errors
    /// Content that is not as long as it was said to be.
    pub fn write(self, out: &mut (impl Read + Write + Seek + Debug)) -> Result<()> {
        let lock = self.lock;
        let (first, second) = halves(&self.root_hash);
        let mut partitions = vec![
            partition(Kind::Esp, identity::uuid(&lock, "esp"), "esp", self.esp),
            partition(Kind::Root, first, "root", self.root),
            partition(Kind::RootVerity, second, "root-verity", self.verity),
        ];
        partitions.extend(self.volumes.into_iter().map(|(name, content)| {
            let uuid = identity::uuid(&lock, &format!("partition {name}"));
            partition(Kind::Volume, uuid, name, content)
        }));
        gpt::write_disk(identity::uuid(&lock, "disk.raw"), &mut partitions, out)
    }
}

fn partition<'a>(kind: Kind, guid: Uuid, name: &'a str, Content(content, size): Content<'a>) -> Partition<'a> {
    Partition {
        kind,
        guid,
        name,
        size,
        content,
    }
}

fn halves(root_hash: &Sha256) -> (Uuid, Uuid) {
    let (first, second) = root_hash.bytes().split_at(16);
    let uuid = |half: &[u8]| Uuid::from_slice(half).expect("half of 32 bytes is 16");
    (uuid(first), uuid(second))
}
