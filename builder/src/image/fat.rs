//! The EFI system partition: FAT32 with one file, `\EFI\BOOT\BOOTX64.EFI`.
//!
//! Sources: UEFI 2.10 §13.3 (file system), §3.5.1.1 (the file's name); Microsoft, FAT: General Overview of On-Disk
//! Format, 1.03 ("FAT spec").
//!
//! `fatfs` formats the volume. Directories and the chain of the file are ours: `fatfs` 0.3 puts long-name entries in
//! front of `.` and `..`, which fsck.fat reports as damage, and it writes a file cluster by cluster.

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context as _, Result};
use fatfs::FormatVolumeOptions;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::copy_exactly;
use crate::mend::Exit;

/// What would be random on another volume, or is for people to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Volume {
    pub id: u32,
    /// Upper-case ASCII, padded with spaces.
    pub label: [u8; 11],
}

/// Formats `out`, which is empty, and writes the `size` bytes of `efi` as `\EFI\BOOT\BOOTX64.EFI`.
///
/// The volume is [`esp_size`] bytes long. Every time is 1980-01-01T00:00, the first a FAT knows.
pub fn write_esp(
    efi: &mut (impl Read + ?Sized),
    size: u64,
    volume: Volume,
    out: &mut (impl Read + Write + Seek),
) -> Result<()> {
    let bytes = esp_size(size)?;
    out.seek(SeekFrom::Start(bytes - 1))?;
    out.write_all(&[0])?;
    out.rewind()?;
    let cluster = cluster_size(size);
    let options = FormatVolumeOptions::new()
        .bytes_per_cluster(cluster)
        .volume_id(volume.id)
        .volume_label(volume.label);
    fatfs::format_volume(&mut *out, options).context("cannot format the EFI system partition")?;
    let geometry = Geometry::read(out)?;
    let file = Chain {
        first: FIRST_FREE + 2,
        clusters: u32::try_from(size.div_ceil(cluster.into()))?,
    };
    write_directories(file, u32::try_from(size)?, &geometry, out)?;
    write_chains(file, &geometry, out)?;
    out.seek(SeekFrom::Start(geometry.cluster(file.first)))?;
    copy_exactly(efi, size, "BOOTX64.EFI", out)
}

/// Returns the size of a volume for a file of `size` bytes, in bytes: whole MiB, and at least what FAT32 needs.
pub fn esp_size(size: u64) -> Result<u64> {
    if size == 0 || size > u64::from(u32::MAX) {
        return Err(Exit::Usage.because(
            format!(
                "BOOTX64.EFI has {size} bytes, FAT32 holds files of 1 to {} bytes",
                u32::MAX
            ),
            "make the initrd smaller, or put the data into a volume",
        ));
    }
    let cluster = u64::from(cluster_size(size));
    let clusters = (size.div_ceil(cluster) + 3).max(FAT32_CLUSTERS); // 3: the directories
    let fat = (clusters * 4).next_multiple_of(MIB); // with room to spare, whatever the formatter rounds
    Ok((clusters * cluster + 2 * fat).next_multiple_of(MIB))
}

/// Small clusters keep the volume small, for FAT32 is defined by their number; large ones keep the table small.
fn cluster_size(size: u64) -> u32 {
    if size < 256 * MIB { 512 } else { 4096 }
}

/// Root directory, `\EFI` and `\EFI\BOOT` have a cluster each; the root's, which holds the label, is there.
fn write_directories(file: Chain, size: u32, geometry: &Geometry, out: &mut (impl Write + Seek)) -> Result<()> {
    let (efi, boot) = (FIRST_FREE, FIRST_FREE + 1);
    let root_has_label = geometry.cluster(ROOT) + size_of::<Entry>() as u64;
    let places = [
        (root_has_label, vec![Entry::new(b"EFI        ", DIRECTORY, efi, 0)]),
        (
            geometry.cluster(efi),
            directory(efi, PARENT_IS_ROOT, Entry::new(b"BOOT       ", DIRECTORY, boot, 0)),
        ),
        (
            geometry.cluster(boot),
            directory(boot, efi, Entry::new(b"BOOTX64 EFI", ARCHIVE, file.first, size)),
        ),
    ];
    for (place, entries) in places {
        out.seek(SeekFrom::Start(place))?;
        out.write_all(entries.as_bytes())?;
    }
    Ok(())
}

/// FAT spec, "FAT Directory Structure": `.` and `..` come first.
fn directory(own: u32, parent: u32, child: Entry) -> Vec<Entry> {
    let dot = Entry::new(b".          ", DIRECTORY, own, 0);
    let dot_dot = Entry::new(b"..         ", DIRECTORY, parent, 0);
    vec![dot, dot_dot, child]
}

/// Both tables, and what the FSInfo sector says is free.
fn write_chains(file: Chain, geometry: &Geometry, out: &mut (impl Write + Seek)) -> Result<()> {
    let end = file.first + file.clusters;
    let next = (file.first + 1..end).chain([END_OF_CHAIN]);
    let table: Vec<U32> = [END_OF_CHAIN; 2].into_iter().chain(next).map(U32::new).collect();
    for fat in geometry.fats {
        out.seek(SeekFrom::Start(fat + u64::from(FIRST_FREE) * 4))?;
        out.write_all(table.as_bytes())?;
    }
    let used = end - ROOT;
    let free = geometry
        .clusters
        .checked_sub(used)
        .context("the formatter made a volume smaller than asked for")?;
    out.seek(SeekFrom::Start(geometry.free_counts))?;
    let next_free = if free == 0 { u32::MAX } else { end };
    Ok(out.write_all([U32::new(free), U32::new(next_free)].as_bytes())?)
}

/// Clusters of one file, in a row.
#[derive(Clone, Copy)]
struct Chain {
    first: u32,
    clusters: u32,
}

/// Where the formatter put things, in bytes from the start of the volume.
struct Geometry {
    fats: [u64; 2],
    free_counts: u64,
    data: u64,
    cluster: u64,
    clusters: u32,
}

impl Geometry {
    fn read(volume: &mut (impl Read + Seek)) -> Result<Self> {
        let mut sector = [0; size_of::<BootSector>()];
        volume.rewind()?;
        volume.read_exact(&mut sector)?;
        let boot: BootSector = zerocopy::transmute!(sector);
        let sector = u64::from(boot.bytes_per_sector.get());
        let cluster = sector * u64::from(boot.sectors_per_cluster);
        let fat = sector * u64::from(boot.sectors_per_fat.get());
        let reserved = sector * u64::from(boot.reserved_sectors.get());
        let data = reserved + 2 * fat;
        let clusters = (sector * u64::from(boot.total_sectors.get()) - data) / cluster;
        Ok(Self {
            fats: [reserved, reserved + fat],
            free_counts: sector * u64::from(boot.fs_info.get()) + FREE_COUNTS,
            data,
            cluster,
            clusters: u32::try_from(clusters)?,
        })
    }

    /// The first data cluster is number 2.
    fn cluster(&self, number: u32) -> u64 {
        self.data + u64::from(number - 2) * self.cluster
    }
}

const MIB: u64 = 1 << 20;

/// A volume of fewer than 65525 clusters is FAT16, whatever it says; implementations are off by up to 16 (FAT spec,
/// "FAT Type Determination").
const FAT32_CLUSTERS: u64 = 65525 + 16;

const ROOT: u32 = 2;
const FIRST_FREE: u32 = 3;

/// `..` of a directory in the root says 0, although the root is cluster 2 (FAT spec, "FAT Directory Structure").
const PARENT_IS_ROOT: u32 = 0;

const END_OF_CHAIN: u32 = 0x0fff_ffff;

const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;

/// Year 0 (1980), month 1, day 1: zero would be no date (FAT spec, "Date and Time Formats").
const FIRST_DAY: U16 = U16::new(1 << 5 | 1);

/// `FSI_Free_Count` and `FSI_Nxt_Free` in the FSInfo sector.
const FREE_COUNTS: u64 = 488;

/// The FAT32 boot sector up to `BPB_FSInfo` (FAT spec, "Boot Sector and BPB").
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct BootSector {
    jump_and_name: [u8; 11],
    bytes_per_sector: U16,
    sectors_per_cluster: u8,
    reserved_sectors: U16,
    fat12_and_geometry: [u8; 16],
    total_sectors: U32,
    sectors_per_fat: U32,
    flags_and_version: [u8; 4],
    root_cluster: U32,
    fs_info: U16,
}

const _: () = assert!(size_of::<BootSector>() == 50);

/// FAT spec, "FAT Directory Structure".
#[derive(Immutable, IntoBytes, Unaligned)]
#[repr(C)]
struct Entry {
    name: [u8; 11],
    attributes: u8,
    case: u8,
    created: [u8; 3],
    created_day: U16,
    accessed_day: U16,
    cluster_high: U16,
    written: U16,
    written_day: U16,
    cluster_low: U16,
    size: U32,
}

const _: () = assert!(size_of::<Entry>() == 32);

impl Entry {
    fn new(name: &[u8; 11], attributes: u8, cluster: u32, size: u32) -> Self {
        Self {
            name: *name,
            attributes,
            case: 0,
            created: [0; 3],
            created_day: FIRST_DAY,
            accessed_day: FIRST_DAY,
            cluster_high: U16::new((cluster >> 16) as u16),
            written: U16::ZERO,
            written_day: FIRST_DAY,
            cluster_low: U16::new(cluster as u16),
            size: U32::new(size),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use fatfs::{FileSystem, FsOptions};
    use measure::Sha256;

    use super::*;

    const VOLUME: Volume = Volume {
        id: 0x1234_abcd,
        label: *b"BEGAT ESP  ",
    };

    fn esp(content: &[u8]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        write_esp(&mut &*content, content.len() as u64, VOLUME, &mut out).expect("it fits");
        out.into_inner()
    }

    #[test]
    fn fatfs_reads_back_what_was_written() {
        for size in [1, 511, 512, 513, 100_000, 40 << 20] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let bytes = esp(&content);
            assert_eq!(bytes.len() as u64, esp_size(size as u64).expect("it fits"));
            let volume = FileSystem::new(Cursor::new(bytes), FsOptions::new()).expect("a volume");
            assert_eq!(volume.fat_type(), fatfs::FatType::Fat32);
            assert_eq!(
                (volume.volume_id(), volume.volume_label_as_bytes()),
                (VOLUME.id, &b"BEGAT ESP"[..])
            );
            let mut found = Vec::new();
            let mut file = volume.root_dir().open_file("EFI/BOOT/BOOTX64.EFI").expect("the file");
            file.read_to_end(&mut found).expect("the chain");
            assert!(found == content, "{size}");
            let free = volume.stats().expect("FSInfo").free_clusters();
            assert_eq!(
                volume.stats().expect("FSInfo").total_clusters() - free,
                3 + (size as u32).div_ceil(512)
            );
        }
    }

    /// Ours, pinned: another value is another disk for every recipe.
    #[test]
    fn bytes_do_not_change() {
        assert_eq!(
            Sha256::of(esp(b"MZ")).to_string(),
            "77a61b93c4860b50a8e3e00dfbe10af984010268239ac9ea2c22cf4ef41c69e8"
        );
    }

    #[test]
    fn what_does_not_fit_a_fat32_is_refused() {
        assert!(esp_size(0).is_err());
        assert!(esp_size(1 << 32).is_err());
        assert!(esp_size((1 << 32) - 1).is_ok());
    }
}
