//! Reader of FAT32 volumes: every file of an EFI system partition, and every byte that belongs to none.
//!
//! Source: Microsoft, FAT: General Overview of On-Disk Format, 1.03 ("FAT spec"). What an image of ours does not have
//! is refused: long names, volumes of FAT12 and FAT16, files that are deleted.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{ReadAt, Unreadable};

/// A volume. Offsets and sizes are in bytes.
pub struct Fat<'a, R: ?Sized> {
    volume: &'a R,
    sector: u64,
    cluster: u64,
    /// Where the table starts, and its copy.
    tables: [u64; 2],
    table_size: u64,
    /// Where cluster 2 starts.
    data: u64,
    /// How many clusters there are.
    clusters: u32,
    root: u32,
    info: u64,
    backup: u64,
    table: Vec<u8>,
}

/// What a volume has.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Contents {
    /// In the order of their directories.
    pub files: Vec<File>,
    /// All that has a meaning, in bytes from the start of the volume, not sorted. Everything else is to be zero.
    pub used: Vec<Range<u64>>,
}

/// A file of a volume.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// As `\EFI\BOOT\BOOTX64.EFI`.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// Where its bytes are, in their order.
    pub extents: Vec<Range<u64>>,
}

/// Why a volume cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FatError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the boot sector is damaged: {0}")]
    BootSector(String),
    #[error("cluster {cluster} of {path} {why}")]
    Chain {
        path: String,
        cluster: u32,
        why: &'static str,
    },
    #[error("the directory {path} has an entry {name} that {why}")]
    Entry {
        path: String,
        name: String,
        why: &'static str,
    },
    #[error("cluster {0} is in use and belongs to no file")]
    Lost(u32),
    #[error("the two tables of clusters differ")]
    Tables,
    #[error("{0} is not what a volume of ours has there")]
    Strange(&'static str),
}

/// The boot sector (FAT spec, "Boot Sector and BPB", "FAT32").
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct BootSector {
    jump: [u8; 3],
    oem: [u8; 8],
    bytes_per_sector: U16,
    sectors_per_cluster: u8,
    reserved_sectors: U16,
    tables: u8,
    root_entries: U16,
    sectors_16: U16,
    media: u8,
    table_sectors_16: U16,
    geometry: [u8; 4],
    hidden_sectors: U32,
    sectors: U32,
    table_sectors: U32,
    flags: U16,
    version: U16,
    root: U32,
    info: U16,
    backup: U16,
    reserved: [u8; 12],
    drive: u8,
    reserved1: u8,
    signature: u8,
    id: U32,
    label: [u8; 11],
    kind: [u8; 8],
    code: [u8; 420],
    end: [u8; 2],
}

const _: () = assert!(size_of::<BootSector>() == 512);

/// What says, where somebody boots it, that the volume cannot be booted: `dummy_boot_code` of mkfs.fat, dosfstools 4.2.
const DUMMY_CODE: &[u8] = b"\x0e\x1f\xbe\x77\x7c\xac\x22\xc0\x74\x0b\x56\xb4\x0e\xbb\x07\x00\xcd\x10\x5e\xeb\xf0\
    \x32\xe4\xcd\x16\xcd\x19\xeb\xfeThis is not a bootable disk.  Please insert a bootable floppy and\r\n\
    press any key to try again ... \r\n";

/// An entry of a directory (FAT spec, "FAT Directory Structure").
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    name: [u8; 11],
    attributes: u8,
    reserved: u8,
    times: [u8; 7],
    first_high: U16,
    time: [u8; 4],
    first_low: U16,
    size: U32,
}

const _: () = assert!(size_of::<Entry>() == 32);

const DIRECTORY: u8 = 0x10;
const LABEL: u8 = 0x08;

/// Read-only, hidden, system and archive change nothing of what a file is.
const HARMLESS: u8 = 0x27;

/// How large a table may be, in bytes: that of 8 GiB of clusters of 512 bytes.
const TABLE_LIMIT: u64 = 64 << 20;

/// How deep directories may lie in each other.
const DEPTH: usize = 8;

/// Numbers of clusters have 28 bits; the largest end a chain.
const NUMBER: u32 = 0x0fff_ffff;
const END: u32 = 0x0fff_fff8;

/// A directory to be read.
struct Directory {
    path: String,
    first: u32,
    parent: u32,
    depth: usize,
}

impl<'a, R: ReadAt + ?Sized> Fat<'a, R> {
    /// Reads the boot sector and the tables.
    ///
    /// # Errors
    /// What is no FAT32 volume, and what an image of ours does not have in front of its clusters.
    pub fn read(volume: &'a R) -> Result<Self, FatError> {
        let mut boot = BootSector::new_zeroed();
        volume.read_at(0, boot.as_mut_bytes())?;
        boot.check(volume.size())?;
        let sector = u64::from(boot.bytes_per_sector.get());
        let first = sector * u64::from(boot.reserved_sectors.get());
        let table_size = sector * u64::from(boot.table_sectors.get());
        let data = first + 2 * table_size;
        let cluster = sector * u64::from(boot.sectors_per_cluster);
        let size = sector * u64::from(boot.sectors.get());
        let clusters = size.checked_sub(data).map(|size| size / cluster);
        let clusters = clusters.filter(|clusters| (65525..=table_size / 4 - 2).contains(clusters));
        let clusters = clusters.and_then(|clusters| u32::try_from(clusters).ok());
        let clusters = clusters.ok_or_else(|| strange("its number of clusters is not that of FAT32".into()))?;
        let mut fat = Self {
            volume,
            sector,
            cluster,
            tables: [first, first + table_size],
            table_size,
            data,
            clusters,
            root: boot.root.get(),
            info: sector * u64::from(boot.info.get()),
            backup: sector * u64::from(boot.backup.get()),
            table: Vec::new(),
        };
        fat.check_copies()?;
        fat.table = fat.tables()?;
        Ok(fat)
    }

    /// Returns every file, and all that is used.
    ///
    /// # Errors
    /// Damaged directories and chains of clusters, and clusters that are in use for nothing.
    pub fn contents(&self) -> Result<Contents, FatError> {
        let (mut contents, mut seen) = (Contents::default(), BTreeSet::new());
        let mut rest = alloc::vec![Directory {
            path: String::new(),
            first: self.root,
            parent: 0,
            depth: 0
        }];
        while let Some(directory) = rest.pop() {
            self.directory(&directory, &mut contents, &mut seen, &mut rest)?;
        }
        let lost = (2..self.clusters + 2).find(|cluster| self.next(*cluster) != 0 && !seen.contains(cluster));
        if let Some(cluster) = lost {
            return Err(FatError::Lost(cluster));
        }
        self.check_rest()?;
        let front = [0, self.info, self.backup, self.backup + self.sector];
        contents.used.extend(front.map(|start| start..start + self.sector));
        contents
            .used
            .extend(self.tables.map(|start| start..start + self.table_size));
        Ok(contents)
    }

    /// The boot sector and the one behind it have a copy; `FSInfo` has nothing but its numbers.
    fn check_copies(&self) -> Result<(), FatError> {
        let sector = |start| {
            let mut bytes = [0; 512];
            self.volume.read_at(start, &mut bytes).map(|()| bytes)
        };
        if self.info != self.sector || self.backup < 2 * self.sector || self.backup + 2 * self.sector > self.tables[0] {
            return Err(FatError::Strange(
                "the place of FSInfo or of the copy of the boot sector",
            ));
        }
        if sector(0)? != sector(self.backup)? {
            return Err(FatError::Strange("the copy of the boot sector"));
        }
        let own = |bytes: [u8; 512]| {
            let zero = bytes[4..484].iter().chain(&bytes[496..508]).all(|byte| *byte == 0);
            zero && bytes.starts_with(b"RRaA") && bytes[484..488] == *b"rrAa" && bytes[508..] == [0, 0, 0x55, 0xaa]
        };
        let copy = sector(self.backup + self.sector)?;
        match own(sector(self.info)?) && (own(copy) || copy == [0; 512]) {
            true => Ok(()),
            false => Err(FatError::Strange("FSInfo or its copy")),
        }
    }

    fn tables(&self) -> Result<Vec<u8>, FatError> {
        let table = |start| {
            let mut bytes = alloc::vec![0; self.table_size as usize];
            self.volume.read_at(start, &mut bytes).map(|()| bytes)
        };
        let (first, second) = (table(self.tables[0])?, table(self.tables[1])?);
        match first == second {
            true => Ok(first),
            false => Err(FatError::Tables),
        }
    }

    /// Entries behind the last cluster are free, or as `fatfs` leaves them: in use, so that nobody takes them.
    fn check_rest(&self) -> Result<(), FatError> {
        let (entries, _) = self.table.as_chunks();
        let rest = entries.iter().skip(self.clusters as usize + 2);
        match rest
            .copied()
            .map(u32::from_le_bytes)
            .all(|entry| entry == 0 || entry == NUMBER)
        {
            true => Ok(()),
            false => Err(FatError::Strange("an entry of the tables behind the last cluster")),
        }
    }

    /// What the table says of a cluster: 0 where it is free.
    fn next(&self, cluster: u32) -> u32 {
        let (entries, _) = self.table.as_chunks();
        let entry = entries.get(cluster as usize).copied().unwrap_or_default();
        u32::from_le_bytes(entry)
    }

    /// The clusters from `first` on, each of them used once on the volume.
    fn chain(&self, path: &str, first: u32, seen: &mut BTreeSet<u32>) -> Result<Vec<u32>, FatError> {
        let (mut chain, mut cluster) = (Vec::new(), first);
        loop {
            let refuse = |why| {
                let path = path.into();
                Err(FatError::Chain { path, cluster, why })
            };
            if !(2..self.clusters + 2).contains(&cluster) {
                return refuse("is not on the volume");
            }
            if !seen.insert(cluster) {
                return refuse("is in use twice");
            }
            chain.push(cluster);
            match self.next(cluster) {
                END..=NUMBER => return Ok(chain),
                next if next > NUMBER => return refuse("has bits that are reserved"),
                next => cluster = next,
            }
        }
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster - 2) * self.cluster
    }

    fn directory(
        &self,
        directory: &Directory,
        contents: &mut Contents,
        seen: &mut BTreeSet<u32>,
        rest: &mut Vec<Directory>,
    ) -> Result<(), FatError> {
        let entries = self.entries(directory, contents, seen)?;
        let mut names = BTreeSet::new();
        for entry in entries {
            let refuse = |why| {
                let (path, name) = (directory.path.clone(), format!("{:?}", entry.name.escape_ascii()));
                Err(FatError::Entry { path, name, why })
            };
            if entry.attributes == LABEL && directory.path.is_empty() && entry.first() == 0 {
                continue;
            }
            let Some(name) = entry.name() else {
                return refuse("is deleted, or is no short name");
            };
            if !names.insert(name.clone()) {
                return refuse("is there twice");
            }
            let path = format!("{}\\{name}", directory.path);
            match entry.attributes & !HARMLESS {
                0 => self.file(path, &entry, contents, seen)?,
                DIRECTORY if directory.depth < DEPTH && entry.size.get() == 0 => rest.push(Directory {
                    path,
                    first: entry.first(),
                    parent: if directory.depth == 0 { 0 } else { directory.first },
                    depth: directory.depth + 1,
                }),
                _ => return refuse("is no file and no directory"),
            }
        }
        Ok(())
    }

    /// The entries up to the first that is free, but for `.` and `..`, which are what they must be.
    fn entries(
        &self,
        directory: &Directory,
        contents: &mut Contents,
        seen: &mut BTreeSet<u32>,
    ) -> Result<Vec<Entry>, FatError> {
        let mut bytes = Vec::new();
        for cluster in self.chain(&directory.path, directory.first, seen)? {
            let start = bytes.len();
            bytes.resize(start + self.cluster as usize, 0);
            self.volume.read_at(self.offset(cluster), &mut bytes[start..])?;
            contents
                .used
                .push(self.offset(cluster)..self.offset(cluster) + self.cluster);
        }
        let entries = bytes
            .chunks_exact(32)
            .filter_map(|entry| Entry::read_from_bytes(entry).ok());
        let entries: Vec<_> = entries.collect();
        let used = entries
            .iter()
            .position(|entry| entry.name[0] == 0)
            .unwrap_or(entries.len());
        let (entries, free) = entries.split_at(used);
        let refuse = |name: &str, why| {
            let (path, name) = (directory.path.clone(), name.into());
            Err(FatError::Entry { path, name, why })
        };
        if free.iter().any(|entry| entry.as_bytes() != [0; 32]) {
            return refuse("behind its last", "is not zero");
        }
        if directory.depth == 0 {
            return Ok(entries.to_vec());
        }
        let dots = [(b".          ", directory.first), (b"..         ", directory.parent)];
        let found = entries.iter().map(|entry| (&entry.name, entry.first()));
        match found.take(2).eq(dots) && entries[..2].iter().all(|entry| entry.attributes == DIRECTORY) {
            true => Ok(entries[2..].to_vec()),
            false => refuse(". or ..", "is missing or leads elsewhere"),
        }
    }

    fn file(
        &self,
        path: String,
        entry: &Entry,
        contents: &mut Contents,
        seen: &mut BTreeSet<u32>,
    ) -> Result<(), FatError> {
        let size = u64::from(entry.size.get());
        let chain = match size {
            0 if entry.first() == 0 => Vec::new(),
            _ => self.chain(&path, entry.first(), seen)?,
        };
        if chain.len() as u64 != size.div_ceil(self.cluster) {
            let cluster = entry.first();
            let why = "starts a chain that is not as long as the file";
            return Err(FatError::Chain { path, cluster, why });
        }
        let extents = chain.iter().enumerate().map(|(index, cluster)| {
            let length = self.cluster.min(size - index as u64 * self.cluster);
            self.offset(*cluster)..self.offset(*cluster) + length
        });
        let extents = joined(extents);
        contents.used.extend(extents.iter().cloned());
        contents.files.push(File { path, size, extents });
        Ok(())
    }
}

/// Ranges, those that touch as one.
fn joined(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

impl BootSector {
    fn check(&self, size: u64) -> Result<(), FatError> {
        let sector = u64::from(self.bytes_per_sector.get());
        let code = self.code == [0; 420]
            || self.code.starts_with(DUMMY_CODE) && self.code[DUMMY_CODE.len()..].iter().all(|byte| *byte == 0);
        let old = [
            self.root_entries.get(),
            self.sectors_16.get(),
            self.table_sectors_16.get(),
        ];
        let table = sector * u64::from(self.table_sectors.get());
        let rules = [
            (sector == 512, "sectors have not 512 bytes"),
            (
                self.sectors_per_cluster.is_power_of_two(),
                "clusters have no power of two of sectors",
            ),
            (self.tables == 2, "there are not two tables"),
            (old == [0; 3] && self.version == 0, "it is not FAT32"),
            (self.flags == 0, "one table is not a copy of the other"),
            (sector * u64::from(self.sectors.get()) <= size, "the volume ends before"),
            (
                (1..=TABLE_LIMIT).contains(&table),
                "a table has more than 64 MiB, or nothing",
            ),
            (
                self.reserved == [0; 12] && self.reserved1 == 0,
                "reserved bytes are not zero",
            ),
            (code, "there is code that is not known"),
            (self.end == [0x55, 0xaa], "it does not end in 55 AA"),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, why)) => Err(strange((*why).into())),
        }
    }
}

fn strange(why: String) -> FatError {
    FatError::BootSector(why)
}

impl Entry {
    fn first(&self) -> u32 {
        u32::from(self.first_high.get()) << 16 | u32::from(self.first_low.get())
    }

    /// The name as people write it: what has eight and three upper-case letters, digits and some signs.
    fn name(&self) -> Option<String> {
        let (stem, extension) = self.name.split_at(8);
        let part = |part: &[u8]| {
            let part = core::str::from_utf8(part).ok()?.trim_end_matches(' ');
            let good =
                |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"$%'-_@~`!(){}^#&".contains(&byte);
            part.bytes().all(good).then_some(String::from(part))
        };
        let (stem, extension) = (part(stem)?, part(extension)?);
        match (stem.is_empty(), extension.is_empty()) {
            (true, _) => None,
            (false, true) => Some(stem),
            (false, false) => Some(format!("{stem}.{extension}")),
        }
    }
}

#[cfg(test)]
mod tests;
