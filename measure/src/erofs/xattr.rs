//! Extended attributes: behind the inode, or shared by many inodes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inode::damaged;
use super::{Erofs, ErofsError};
use crate::ReadAt;

/// The attributes of an inode, and where they end.
pub(super) struct Xattrs {
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset in bytes.
    pub end: u64,
}

/// `struct erofs_xattr_ibody_header`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    filter: U32,
    shared: u8,
    reserved: [u8; 7],
}

const _: () = assert!(size_of::<Header>() == 12);

/// `struct erofs_xattr_entry`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    name_size: u8,
    prefix: u8,
    value_size: U16,
}

const _: () = assert!(size_of::<Entry>() == 4);

/// `EROFS_XATTR_INDEX_*`.
const PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Reads the attributes at `start`, of an inode whose `i_xattr_icount` is `count`.
    pub(super) fn xattrs(&self, nid: u64, start: u64, count: u16) -> Result<Xattrs, ErofsError> {
        let mut values = BTreeMap::new();
        let Some(words) = u64::from(count).checked_sub(1) else {
            return Ok(Xattrs { values, end: start });
        };
        let body = self.bytes(start, 12 + 4 * words)?;
        let (header, rest) = Header::ref_from_prefix(&body).map_err(|_| outside(nid))?;
        if header.reserved != [0; 7] {
            return Err(damaged(nid, "reserved bytes of its attributes are not zero".into()));
        }
        let (shared, mut own) = rest
            .split_at_checked(4 * usize::from(header.shared))
            .ok_or_else(|| outside(nid))?;
        for number in shared.as_chunks().0 {
            self.add_shared(nid, u32::from_le_bytes(*number), &mut values)?;
        }
        while !own.is_empty() {
            own = add(nid, own, &mut values)?;
        }
        let end = start + body.len() as u64;
        Ok(Xattrs { values, end })
    }

    fn add_shared(&self, nid: u64, number: u32, values: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), ErofsError> {
        let entry = self.shared_xattr(number)?;
        add(nid, &self.bytes(entry.start, entry.end - entry.start)?, values).map(drop)
    }

    /// Where a shared attribute lies.
    fn shared_xattr(&self, number: u32) -> Result<core::ops::Range<u64>, ErofsError> {
        let start = self.superblock.shared_xattrs + 4 * u64::from(number);
        let entry: Entry = self.structure(start)?;
        Ok(start..start + entry.size() as u64)
    }

    /// Where the shared attributes of an inode lie.
    pub(super) fn shared_xattrs(&self, start: u64, end: u64) -> Result<Vec<core::ops::Range<u64>>, ErofsError> {
        if start == end {
            return Ok(Vec::new());
        }
        let header: Header = self.structure(start)?;
        let numbers = self.bytes(start + 12, 4 * u64::from(header.shared))?;
        let numbers = numbers.as_chunks().0.iter();
        numbers
            .map(|number| self.shared_xattr(u32::from_le_bytes(*number)))
            .collect()
    }
}

impl Entry {
    /// With name and value, filled up to four bytes.
    fn size(&self) -> usize {
        (4 + usize::from(self.name_size) + usize::from(self.value_size.get())).next_multiple_of(4)
    }
}

/// Adds the first attribute of `entries` and returns the rest.
fn add<'a>(nid: u64, entries: &'a [u8], values: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Result<&'a [u8], ErofsError> {
    let (entry, _) = Entry::ref_from_prefix(entries).map_err(|_| outside(nid))?;
    let (own, rest) = entries.split_at_checked(entry.size()).ok_or_else(|| outside(nid))?;
    let (name, value) = own[4..].split_at(entry.name_size.into());
    let (value, padding) = value.split_at(entry.value_size.get().into());
    let prefix = PREFIXES.iter().find(|(index, _)| *index == entry.prefix);
    let (_, prefix) = prefix.ok_or_else(|| damaged(nid, format!("an attribute has the prefix {}", entry.prefix)))?;
    let name = [prefix, name].concat();
    if name.contains(&0) || padding.iter().any(|byte| *byte != 0) {
        return Err(damaged(nid, format!("its attribute {} is ragged", name.escape_ascii())));
    }
    match values.insert(name, value.into()) {
        None => Ok(rest),
        Some(_) => Err(damaged(nid, "it has an attribute twice".into())),
    }
}

fn outside(nid: u64) -> ErofsError {
    damaged(nid, "its attributes end outside their room".into())
}
