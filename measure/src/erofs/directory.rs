//! Directories: blocks of entries of twelve bytes, then their names; sorted, so that names are looked up by halving.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inode::{Inode, Kind, damaged};
use super::{Erofs, ErofsError};
use crate::ReadAt;

/// `struct erofs_dirent`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    nid: U64,
    name: U16,
    kind: u8,
    reserved: u8,
}

const RAW: usize = 12;

const _: () = assert!(size_of::<Raw>() == RAW);

/// A name in a directory.
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub nid: u64,
    /// `EROFS_FT_*`, the same as the kernel's `FT_*`.
    pub kind: u8,
}

/// What a directory may have at most, in bytes: some million names.
const LIMIT: u64 = 64 << 20;

/// `EROFS_NAME_LEN`.
const NAME_LIMIT: usize = 255;

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Returns the entries of a directory, sorted by name, without `.` and `..`, which are what they must be.
    pub(super) fn entries(&self, directory: &Inode, parent: u64) -> Result<Vec<Entry>, ErofsError> {
        let bytes = self.whole(&directory.data, LIMIT)?;
        let mut entries = Vec::new();
        let block = 1 << self.superblock.block_bits;
        for block in bytes.chunks(block) {
            read_block(block, &mut entries).map_err(|why| damaged(directory.nid, why))?;
        }
        let sorted = entries.is_sorted_by(|a, b| a.name < b.name);
        let mut special = [(&b"."[..], directory.nid), (b"..", parent)].into_iter();
        let special = special.all(|(name, nid)| {
            let found = entries.iter().find(|entry| entry.name == name);
            found.is_some_and(|entry| entry.nid == nid && entry.kind == 2)
        });
        match (sorted, special) {
            (false, _) => Err(damaged(directory.nid, "its names are not sorted, or not unique".into())),
            (_, false) => Err(damaged(
                directory.nid,
                "its . or .. is missing or leads elsewhere".into(),
            )),
            (true, true) => {
                entries.retain(|entry| entry.name != b"." && entry.name != b"..");
                Ok(entries)
            }
        }
    }
}

fn read_block(block: &[u8], entries: &mut Vec<Entry>) -> Result<(), String> {
    let (first, _) = Raw::ref_from_prefix(block).map_err(|_| "it ends inside an entry")?;
    let names = usize::from(first.name.get());
    let whole = names >= RAW && names.is_multiple_of(RAW) && names < block.len();
    let raw = block.get(..names).filter(|_| whole);
    let raw = raw.ok_or_else(|| format!("its names start at {names:#x} of a block"))?;
    let raw: Vec<_> = raw
        .chunks_exact(RAW)
        .filter_map(|raw| Raw::ref_from_bytes(raw).ok())
        .collect();
    for (index, entry) in raw.iter().enumerate() {
        let end = raw.get(index + 1).map_or(block.len(), |next| next.name.get().into());
        let name = block
            .get(entry.name.get().into()..end)
            .ok_or("a name ends outside its block")?;
        let name = match index + 1 == raw.len() {
            true => without_padding(name)?,
            false => name,
        };
        check_name(name)?;
        if entry.reserved != 0 {
            return Err("a reserved byte of an entry is not zero".into());
        }
        entries.push(Entry {
            name: name.into(),
            nid: entry.nid.get(),
            kind: entry.kind,
        });
    }
    Ok(())
}

/// The last name of a block ends at a NUL, and nothing is behind it.
fn without_padding(name: &[u8]) -> Result<&[u8], String> {
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let (name, padding) = name.split_at(end);
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(name),
        false => Err("there are bytes behind the last name of a block".into()),
    }
}

fn check_name(name: &[u8]) -> Result<(), String> {
    let good = (1..=NAME_LIMIT).contains(&name.len()) && !name.contains(&0) && !name.contains(&b'/');
    match good {
        true => Ok(()),
        false => Err(format!("it has the name {:?}", name.escape_ascii())),
    }
}

/// `EROFS_FT_*` of an inode.
pub(super) fn kind(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } => 1,
        Kind::Directory => 2,
        Kind::CharacterDevice { .. } => 3,
        Kind::BlockDevice { .. } => 4,
        Kind::Fifo => 5,
        Kind::Socket => 6,
        Kind::Symlink { .. } => 7,
    }
}
