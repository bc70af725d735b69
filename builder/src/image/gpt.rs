//! The disk: a GPT with its partitions in a row, each on a whole MiB.
//!
//! Sources: UEFI 2.10 §5.2.3 (protective MBR), §5.3 (GPT); UAPI Discoverable Partitions Specification (types,
//! attributes).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context as _, Result};
use gpt::GptConfig;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use uuid::{Uuid, uuid};

use super::{changed, read_of};
use crate::mend::Exit;

/// What a partition is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The EFI system partition.
    Esp,
    /// The root file system of an x86-64 machine, read-only.
    Root,
    /// The dm-verity tree of the root.
    RootVerity,
    /// Further data or its dm-verity tree, read-only, found by the command line and not by its type.
    Volume,
}

/// A partition and what is in it.
pub struct Partition<'a> {
    pub kind: Kind,
    pub guid: Uuid,
    /// At most 36 UTF-16 units.
    pub name: &'a str,
    /// Of the content, in bytes.
    pub size: u64,
    pub content: &'a mut dyn Read,
}

/// Writes the disk to `out`, which is empty: zeros are not written but skipped, so that a file stays sparse.
pub fn write_disk(
    disk_guid: Uuid,
    partitions: &mut [Partition<'_>],
    out: &mut (impl Read + Write + Seek + Debug),
) -> Result<()> {
    let places = places(partitions)?;
    let end = places.last().map_or(MIB, |place| place.end) + MIB;
    out.seek(SeekFrom::Start(end - 1))?;
    out.write_all(&[0])?; // the GPT's writer asks for the size of the disk
    write_tables(disk_guid, partitions, &places, end, out)?;
    for (partition, place) in partitions.iter_mut().zip(&places) {
        out.seek(SeekFrom::Start(place.start))?;
        copy_sparse(partition, out)?;
    }
    Ok(())
}

/// Returns the size of a disk with partitions of these `sizes`, in bytes.
pub fn disk_size(sizes: impl IntoIterator<Item = u64>) -> u64 {
    let partitions: u64 = sizes.into_iter().map(|size| size.next_multiple_of(MIB)).sum();
    partitions + 2 * MIB // the tables in front, and their copy behind
}

/// Where a partition is, in bytes from the start of the disk.
struct Place {
    start: u64,
    end: u64,
}

fn places(partitions: &[Partition<'_>]) -> Result<Vec<Place>> {
    let mut start = MIB;
    let mut places = Vec::new();
    for partition in partitions {
        check(partition)?;
        let end = start + partition.size.next_multiple_of(MIB);
        places.push(Place { start, end });
        start = end;
    }
    Ok(places)
}

/// UEFI 2.10 §5.3.3: a name is 72 bytes of UTF-16, and a partition has at least one sector.
fn check(partition: &Partition<'_>) -> Result<()> {
    let (name, units) = (partition.name, partition.name.encode_utf16().count());
    if units > 36 || partition.size == 0 {
        return Err(Exit::Usage.because(
            format!(
                "partition {name:?} has {} bytes and a name of {units} characters",
                partition.size
            ),
            "a partition holds at least one byte and is named with at most 36 characters",
        ));
    }
    Ok(())
}

fn write_tables(
    disk_guid: Uuid,
    partitions: &[Partition<'_>],
    places: &[Place],
    end: u64,
    out: &mut (impl Read + Write + Seek + Debug),
) -> Result<()> {
    let protected = u32::try_from(end / SECTOR - 1).unwrap_or(u32::MAX); // UEFI 2.10 §5.2.3, table 5-4
    ProtectiveMBR::with_lb_size(protected)
        .overwrite_lba0(&mut *out)
        .context("cannot write the protective MBR")?;
    let entries = partitions
        .iter()
        .zip(places)
        .map(|(partition, place)| entry(partition, place));
    let entries: BTreeMap<u32, gpt::partition::Partition> = (1..).zip(entries).collect();
    let mut disk = GptConfig::new()
        .writable(true)
        .create_from_device(&mut *out, Some(disk_guid))?;
    disk.update_partitions(entries)?; // not add_partition, which makes up a GUID
    disk.write().context("cannot write the GPT")?;
    Ok(())
}

fn entry(partition: &Partition<'_>, place: &Place) -> gpt::partition::Partition {
    gpt::partition::Partition {
        part_type_guid: Type {
            guid: partition.kind.type_guid(),
            os: OperatingSystem::None,
        },
        part_guid: partition.guid,
        first_lba: place.start / SECTOR,
        last_lba: place.end / SECTOR - 1,
        flags: partition.kind.attributes(),
        name: partition.name.into(),
    }
}

/// Copies the content, seeking over what is zero.
fn copy_sparse(partition: &mut Partition<'_>, out: &mut (impl Write + Seek)) -> Result<()> {
    let mut chunk = Vec::with_capacity(CHUNK as usize);
    let mut copied = 0;
    loop {
        chunk.clear();
        (&mut *partition.content)
            .take(CHUNK)
            .read_to_end(&mut chunk)
            .with_context(|| read_of(partition.name))?;
        copied += chunk.len() as u64;
        if chunk.is_empty() || copied > partition.size {
            break;
        }
        if chunk.iter().all(|byte| *byte == 0) {
            out.seek_relative(chunk.len() as i64)?;
        } else {
            out.write_all(&chunk)
                .with_context(|| format!("cannot write {}", partition.name))?;
        }
    }
    if copied == partition.size {
        Ok(())
    } else {
        Err(changed(partition.name, partition.size, copied.to_string()))
    }
}

impl Kind {
    fn type_guid(self) -> Uuid {
        match self {
            Self::Esp => uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"),
            Self::Root => uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
            Self::RootVerity => uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"),
            Self::Volume => uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"), // Linux file system data
        }
    }

    fn attributes(self) -> u64 {
        match self {
            Self::Esp => 0,
            Self::Root | Self::RootVerity | Self::Volume => 1 << 60, // SD_GPT_FLAG_READ_ONLY
        }
    }
}

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const CHUNK: u64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use measure::Sha256;

    use super::*;

    fn partition<'a>(kind: Kind, name: &'a str, content: &'a mut &[u8]) -> Partition<'a> {
        Partition {
            kind,
            guid: Uuid::from_u128(7 + kind as u128),
            name,
            size: content.len() as u64,
            content,
        }
    }

    fn disk(esp: &[u8], root: &[u8]) -> Vec<u8> {
        let (mut esp, mut root) = (esp, root);
        let mut partitions = [
            partition(Kind::Esp, "esp", &mut esp),
            partition(Kind::Root, "root", &mut root),
        ];
        let mut out = Cursor::new(Vec::new());
        write_disk(Uuid::from_u128(42), &mut partitions, &mut out).expect("a disk");
        out.into_inner()
    }

    #[test]
    fn contents_stand_where_the_table_says() {
        let (esp, root) = (vec![1; 100_001], [vec![0; 1 << 21], vec![2; 5]].concat());
        let bytes = disk(&esp, &root);
        assert_eq!(bytes.len() as u64, disk_size([esp.len() as u64, root.len() as u64]));
        let disk = GptConfig::new()
            .open_from_device(Cursor::new(bytes.clone()))
            .expect("a GPT");
        assert_eq!(*disk.guid(), Uuid::from_u128(42));
        for (number, name, flags, content) in [(1, "esp", 0, &esp), (2, "root", 1 << 60, &root)] {
            let found = &disk.partitions()[&number];
            assert_eq!((found.name.as_str(), found.flags), (name, flags));
            let start = (found.first_lba * SECTOR) as usize;
            assert_eq!(start as u64 % MIB, 0);
            assert!(bytes[start..][..content.len()] == content[..]);
        }
    }

    /// Ours, pinned: another value is another disk for every recipe.
    #[test]
    fn bytes_do_not_change() {
        assert_eq!(
            Sha256::of(disk(b"esp", b"root")).to_string(),
            "91899bedaa05cf6f88ab926a4c4a255a72ffb31f880224df1fe99470482b216e"
        );
    }

    #[test]
    fn what_a_table_cannot_say_is_refused() {
        let long = "x".repeat(37);
        for (name, size, content) in [("root", 0, ""), (&long, 1, "a"), ("root", 2, "a"), ("root", 1, "ab")] {
            let mut content = content.as_bytes();
            let partition = Partition {
                kind: Kind::Root,
                guid: Uuid::nil(),
                name,
                size,
                content: &mut content,
            };
            let refused = write_disk(Uuid::nil(), &mut [partition], &mut Cursor::new(Vec::new()));
            assert!(refused.is_err(), "{name} {size}");
        }
    }
}
