//! Reader of OVMF images (`.fd`): what the firmware asks a VMM to prepare for a confidential guest.
//!
//! Images are outside bytes: whatever they hold, the reader returns an error at worst, and what it returns is bounded
//! ([`MEMORY_LIMIT`]), so measuring it is too.

mod code;
mod firmware;
mod footer;
mod generation;
mod pei;
mod sev;
mod tdvf;
mod texts;
mod variables;
mod volume;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::FromBytes;

pub use firmware::{Firmware, FirmwareError};
pub use generation::{Application, Generation};
pub use sev::{HashTableArea, SevSection, SevSectionKind};
pub use tdvf::{TdvfSection, TdvfSectionKind};
pub use texts::{SmbiosTexts, Texts};
pub use variables::{SecureBoot, VariableError};
pub use volume::{DECOMPRESSED_LIMIT, VolumeError};

pub(crate) use generation::utf16;

use crate::Guid;
use crate::pages::{PAGE, Pages};

/// Where the image ends in guest memory: it is mapped right below 4 GiB.
const TOP: u64 = 1 << 32;

/// How much guest memory an image and its sections may cover, in bytes.
///
/// The largest known images cover less than 5 MiB; the limit bounds the work that hostile ones can ask for.
pub const MEMORY_LIMIT: u64 = 256 << 20;

/// An OVMF image and the GUIDed table at its end.
#[derive(Clone, Debug)]
pub struct Ovmf<'a> {
    bytes: &'a [u8],
    table: Vec<footer::Entry<'a>>,
}

impl<'a> Ovmf<'a> {
    /// Returns the image in `bytes`, which must be whole pages and end with a GUIDed table.
    ///
    /// The sections of SEV and TDX are read only when asked for: an image for one need not be valid for the other.
    pub fn read(bytes: &'a [u8]) -> Result<Self, OvmfError> {
        let size = bytes.len() as u64;
        if Pages::new(0, size).is_none() || size > TOP {
            return Err(OvmfError::Size { size });
        }
        let table = footer::read(bytes)?;
        Ok(Self { bytes, table })
    }

    /// Returns the whole image.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns where the image is mapped: the guest address that makes it end at 4 GiB.
    pub const fn address(&self) -> u64 {
        TOP - self.bytes.len() as u64
    }

    /// Returns the structure of the table entry called `guid`, and its offset in the image.
    fn entry<T: FromBytes>(&self, name: &'static str, guid: Guid) -> Result<(T, u64), OvmfError> {
        let entry = self.table.iter().find(|entry| entry.guid == guid);
        let entry = entry.ok_or(OvmfError::NoEntry { name, guid })?;
        let value = read_at::<T>(entry.data, 0, name).map_err(|_| OvmfError::Field {
            field: name,
            offset: entry.offset,
            value: entry.data.len() as u64,
            expected: "an entry as long as its structure",
        })?;
        Ok((value, entry.offset))
    }

    /// Returns the offset of a structure of which the table entry `guid` says how far before the image's end it starts.
    fn offset_from_end(&self, name: &'static str, guid: Guid) -> Result<u64, OvmfError> {
        let (distance, offset) = self.entry::<zerocopy::little_endian::U32>(name, guid)?;
        let size = self.bytes.len() as u64;
        size.checked_sub(distance.into()).ok_or(OvmfError::Field {
            field: name,
            offset,
            value: distance.into(),
            expected: "a distance from the end of the image, inside it",
        })
    }
}

/// What is wrong with an OVMF image. Offsets are in bytes from the start of the file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OvmfError {
    #[error("the image is {size} bytes long, expected a multiple of 4096 bytes, at most 4 GiB")]
    Size { size: u64 },
    #[error("no GUIDed table at the end of the image: found {found} at offset {offset:#x}, expected {expected}")]
    NoTable { offset: u64, found: Guid, expected: Guid },
    #[error("{field} at offset {offset:#x} ends outside the image")]
    Truncated { field: &'static str, offset: u64 },
    #[error("{field} at offset {offset:#x} is {value:#x}, expected {expected}")]
    Field {
        field: &'static str,
        offset: u64,
        value: u64,
        expected: &'static str,
    },
    #[error("{field} at offset {offset:#x} is {found:?}, expected {expected:?}")]
    Signature {
        field: &'static str,
        offset: u64,
        found: String,
        expected: &'static str,
    },
    #[error("two entries {guid} in the GUIDed table, the second at offset {offset:#x}")]
    TwoEntries { guid: Guid, offset: u64 },
    #[error("the GUIDed table has no entry {guid} ({name})")]
    NoEntry { name: &'static str, guid: Guid },
    #[error(
        "section at offset {offset:#x} asks for guest memory {start:#x} + {length:#x}, expected one or more whole 4 KiB pages"
    )]
    NotPages { offset: u64, start: u64, length: u64 },
    #[error("section at offset {offset:#x} asks for guest memory {start:#x} + {length:#x}, which another has")]
    Overlap { offset: u64, start: u64, length: u64 },
    #[error("section at offset {offset:#x} makes it {total} bytes of guest memory, expected at most {MEMORY_LIMIT}")]
    TooMuchMemory { offset: u64, total: u64 },
}

/// Guest memory that sections have claimed: where it starts, and its pages.
#[derive(Default)]
struct Claims {
    pages: BTreeMap<u64, Pages>,
    total: u64,
}

impl Claims {
    /// Returns the pages of the section described at `offset`, which must be whole and nobody else's.
    ///
    /// KVM takes every page once: a launch in which two sections overlap, or one is empty, does not start.
    fn claim(&mut self, offset: u64, start: u64, length: u64) -> Result<Pages, OvmfError> {
        let pages = Pages::new(start, length).ok_or(OvmfError::NotPages { offset, start, length })?;
        // those claimed do not overlap, so only the last that starts before our end can overlap us
        let below = self.pages.range(..pages.end()).next_back();
        if below.is_some_and(|(_, other)| other.overlaps(pages)) {
            return Err(OvmfError::Overlap { offset, start, length });
        }
        self.pages.insert(start, pages);
        self.total = self.total.saturating_add(length);
        if self.total > MEMORY_LIMIT {
            let total = self.total;
            return Err(OvmfError::TooMuchMemory { offset, total });
        }
        Ok(pages)
    }
}

/// Returns the structure `field` at `offset`.
fn read_at<T: FromBytes>(bytes: &[u8], offset: u64, field: &'static str) -> Result<T, OvmfError> {
    let tail = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
    let value = tail.and_then(|tail| T::read_from_prefix(tail).ok());
    value
        .map(|(value, _)| value)
        .ok_or(OvmfError::Truncated { field, offset })
}

/// Returns `Ok` if the four bytes `found` at `offset` are `expected`.
fn check_signature(field: &'static str, offset: u64, found: [u8; 4], expected: &'static str) -> Result<(), OvmfError> {
    if found == expected.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found).into_owned();
    Err(OvmfError::Signature {
        field,
        offset,
        found,
        expected,
    })
}

const _: () = assert!(MEMORY_LIMIT.is_multiple_of(PAGE));

#[cfg(test)]
pub(crate) mod tests;
