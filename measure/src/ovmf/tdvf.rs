//! What an image says to a VMM that starts it with TDX: Intel TDX Virtual Firmware Design Guide (344991-004US),
//! section 11, with the checks that QEMU 11.1 makes before it starts one (hw/i386/tdvf.c).

use core::mem::offset_of;

use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Claims, Ovmf, OvmfError, check_signature, read_at};
use crate::Guid;
use crate::pages::Pages;

/// What a section of guest memory is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TdvfSectionKind {
    /// Boot firmware volume: code.
    Bfv,
    /// Configuration firmware volume: variables.
    Cfv,
    /// Where the VMM puts the list of what memory there is.
    TdHob,
    /// Memory the firmware uses before it can accept any: zeros.
    TempMem,
}

/// Guest memory that has to be prepared before a TD starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TdvfSection<'a> {
    pub kind: TdvfSectionKind,
    pub pages: Pages,
    /// What the image holds for it: empty for `TdHob` and `TempMem`, never longer than `pages`.
    pub data: &'a [u8],
    /// Whether the contents, and not only the addresses, are measured (attribute `MR.EXTEND`).
    pub extend: bool,
}

impl<'a> Ovmf<'a> {
    /// Returns the sections of the TDVF metadata, in the order of the image: the order in which they are measured.
    ///
    /// Refuses what QEMU or KVM would refuse, and the attribute `PAGE.AUG`, on which VMMs differ. An image without TDVF
    /// metadata is [`OvmfError::NoEntry`].
    pub fn tdvf_sections(&self) -> Result<Vec<TdvfSection<'a>>, OvmfError> {
        let start = self.offset_from_end("TDVF metadata", METADATA)?;
        let count = self.tdvf_section_count(start)?;
        let mut claims = Claims::default();
        (0..count)
            .map(|index| self.tdvf_section(start + HEADER + index * SECTION, &mut claims))
            .collect()
    }

    /// Returns how many sections the metadata at `start` has; those are inside the image.
    fn tdvf_section_count(&self, start: u64) -> Result<u64, OvmfError> {
        let header: Header = read_at(self.bytes, start, "TDVF metadata")?;
        check_signature("TDVF metadata signature", start, header.signature, "TDVF")?;
        let field = |field, at: usize, value: U32, expected| OvmfError::Field {
            field,
            offset: start + at as u64,
            value: value.into(),
            expected,
        };
        if header.version != VERSION {
            return Err(field(
                "TDVF metadata version",
                offset_of!(Header, version),
                header.version,
                "1",
            ));
        }
        let (length, count) = (u64::from(header.length), u64::from(header.count));
        if start + length > self.bytes.len() as u64 || length != HEADER + count * SECTION {
            let expected = "16 bytes and 32 for each section, inside the image";
            return Err(field(
                "TDVF metadata length",
                offset_of!(Header, length),
                header.length,
                expected,
            ));
        }
        if count < 2 {
            return Err(field(
                "TDVF section count",
                offset_of!(Header, count),
                header.count,
                "2 or more",
            ));
        }
        Ok(count)
    }

    fn tdvf_section(&self, offset: u64, claims: &mut Claims) -> Result<TdvfSection<'a>, OvmfError> {
        let section: Section = read_at(self.bytes, offset, "TDVF metadata section")?;
        section.check(offset)?;
        let kind = TdvfSectionKind::from_number(section.kind.into()).ok_or(OvmfError::Field {
            field: "kind of TDVF section",
            offset: offset + offset_of!(Section, kind) as u64,
            value: section.kind.into(),
            expected: "0 BFV, 1 CFV, 2 TD_HOB or 3 TEMP_MEM",
        })?;
        let data = self.tdvf_data(&section, offset)?;
        if data.is_empty() != matches!(kind, TdvfSectionKind::TdHob | TdvfSectionKind::TempMem) {
            return Err(OvmfError::Field {
                field: "RawDataSize of TDVF section",
                offset: offset + offset_of!(Section, data_size) as u64,
                value: section.data_size.into(),
                expected: "data for BFV and CFV, none for TD_HOB and TEMP_MEM",
            });
        }
        let pages = claims.claim(offset, section.address.into(), section.memory_size.into())?;
        let extend = section.attributes == MR_EXTEND;
        Ok(TdvfSection {
            kind,
            pages,
            data,
            extend,
        })
    }

    fn tdvf_data(&self, section: &Section, offset: u64) -> Result<&'a [u8], OvmfError> {
        let start = section.data_offset.get() as usize;
        let data = self
            .bytes
            .get(start..)
            .and_then(|tail| tail.get(..section.data_size.get() as usize));
        data.ok_or(OvmfError::Field {
            field: "DataOffset of TDVF section",
            offset: offset + offset_of!(Section, data_offset) as u64,
            value: section.data_offset.into(),
            expected: "data inside the image",
        })
    }
}

impl Section {
    fn check(&self, offset: u64) -> Result<(), OvmfError> {
        if self.memory_size.get() < self.data_size.into() {
            return Err(OvmfError::Field {
                field: "MemoryDataSize of TDVF section",
                offset: offset + offset_of!(Self, memory_size) as u64,
                value: self.memory_size.into(),
                expected: "no less than RawDataSize",
            });
        }
        if ![0.into(), MR_EXTEND].contains(&self.attributes) {
            return Err(OvmfError::Field {
                field: "attributes of TDVF section",
                offset: offset + offset_of!(Self, attributes) as u64,
                value: self.attributes.into(),
                expected: "0 or 1 (MR.EXTEND)",
            });
        }
        Ok(())
    }
}

impl TdvfSectionKind {
    fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Bfv),
            1 => Some(Self::Cfv),
            2 => Some(Self::TdHob),
            3 => Some(Self::TempMem),
            _ => None,
        }
    }
}

const METADATA: Guid = Guid::new(0xe47a6535_984a_4798_865e_4685a7bf8ec2);

const VERSION: U32 = U32::new(1);

const MR_EXTEND: U32 = U32::new(1);

/// `length` counts from `signature` to the end of the last section, in bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    length: U32,
    version: U32,
    count: U32,
}

const HEADER: u64 = size_of::<Header>() as u64;
const _: () = assert!(HEADER == 16);

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Section {
    data_offset: U32,
    data_size: U32,
    address: U64,
    memory_size: U64,
    kind: U32,
    attributes: U32,
}

const SECTION: u64 = size_of::<Section>() as u64;
const _: () = assert!(SECTION == 32);
