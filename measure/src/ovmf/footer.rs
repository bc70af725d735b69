//! The GUIDed table at the end of an image, read backwards: edk2-stable202508, OvmfPkg/ResetVector/Ia16/
//! ResetVectorVtf0.asm.

use alloc::vec::Vec;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{OvmfError, read_at};
use crate::Guid;

/// One structure of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) guid: Guid,
    /// Where `data` starts, in bytes from the start of the image.
    pub(super) offset: u64,
    pub(super) data: &'a [u8],
}

/// Returns the entries of the table, last first.
pub(super) fn read(image: &[u8]) -> Result<Vec<Entry<'_>>, OvmfError> {
    let footer = (image.len() as u64).saturating_sub(RESET_VECTOR + TAIL);
    let Tail { length, guid } = read_at(image, footer, "table footer")?;
    if guid != FOOTER {
        let offset = footer + 2;
        return Err(OvmfError::NoTable {
            offset,
            found: guid,
            expected: FOOTER,
        });
    }
    let start = before(footer + TAIL, length, 0, footer)?;
    let mut entries = Vec::<Entry>::new();
    let mut end = footer;
    while end > start {
        let entry = read_entry(image, start, end)?;
        if entries.iter().any(|other| other.guid == entry.guid) {
            let Entry { guid, offset, .. } = entry;
            return Err(OvmfError::TwoEntries { guid, offset });
        }
        end = entry.offset;
        entries.push(entry);
    }
    Ok(entries)
}

/// Returns the entry that ends at `end`, in a table that starts at `start`.
fn read_entry(image: &[u8], start: u64, end: u64) -> Result<Entry<'_>, OvmfError> {
    let tail = end.checked_sub(TAIL).filter(|tail| *tail >= start);
    let tail = tail.ok_or(OvmfError::Field {
        field: "rest of the table",
        offset: start,
        value: end - start,
        expected: "entries of at least 18 bytes",
    })?;
    let Tail { length, guid } = read_at(image, tail, "table entry")?;
    let offset = before(end, length, start, tail)?;
    let data = image.get(offset as usize..tail as usize);
    let data = data.ok_or(OvmfError::Truncated {
        field: "table entry",
        offset,
    })?;
    Ok(Entry { guid, offset, data })
}

/// Returns where a structure starts that ends at `end` and says at `offset` that it is `length` bytes long.
fn before(end: u64, length: U16, start: u64, offset: u64) -> Result<u64, OvmfError> {
    let length = u64::from(length);
    let found = end
        .checked_sub(length)
        .filter(|found| length >= TAIL && *found >= start);
    found.ok_or(OvmfError::Field {
        field: "table length",
        offset,
        value: length,
        expected: "18 bytes or more, inside the image and the table",
    })
}

/// Size of the code of the reset vector, which follows the table, in bytes.
const RESET_VECTOR: u64 = 32;

const FOOTER: Guid = Guid::new(0x96b582de_1fb2_45f7_baea_a366c55a082d);

/// How every structure of the table ends; `length` includes these 18 bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Tail {
    length: U16,
    guid: Guid,
}

const TAIL: u64 = size_of::<Tail>() as u64;
const _: () = assert!(TAIL == 18);
