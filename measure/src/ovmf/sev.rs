//! What an image says to a VMM that starts it with SEV: edk2-stable202508, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm
//! and Ia16/ResetVectorVtf0.asm.

use core::mem::offset_of;

use alloc::vec::Vec;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Claims, Ovmf, OvmfError, check_signature, read_at};
use crate::Guid;
use crate::pages::{PAGE, Pages};

/// What a section of guest memory is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SevSectionKind {
    /// Memory the firmware uses before it can accept any: zeros.
    SecMem,
    /// The page for the secrets that the SEV firmware makes.
    Secrets,
    /// The page for the CPUID values that the SEV firmware checks.
    Cpuid,
    /// Calling area of an SVSM: zeros where there is none.
    SvsmCaa,
    /// The page that holds the table of kernel hashes.
    KernelHashes,
}

/// Guest memory that has to be prepared before an SEV-SNP guest starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SevSection {
    pub kind: SevSectionKind,
    pub pages: Pages,
}

/// Where the firmware expects the table of kernel hashes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashTableArea {
    /// Guest address.
    pub address: u32,
    /// Size in bytes.
    pub size: u32,
}

impl Ovmf<'_> {
    /// Returns the sections of the SEV metadata, in the order of the image: the order in which they are measured.
    ///
    /// Refuses sections of unknown kind, and those that KVM would refuse: empty, overlapping or not whole pages. An
    /// image without SEV metadata is [`OvmfError::NoEntry`].
    pub fn sev_sections(&self) -> Result<Vec<SevSection>, OvmfError> {
        let start = self.offset_from_end("SEV metadata", METADATA)?;
        let count = self.sev_section_count(start)?;
        let mut claims = Claims::of_image(self)?;
        (0..count)
            .map(|index| self.sev_section(start + HEADER + index * SECTION, &mut claims))
            .collect()
    }

    /// Returns where the firmware expects the kernel hashes; nothing if it was built without support for them.
    pub fn hash_table_area(&self) -> Result<Option<HashTableArea>, OvmfError> {
        let (area, _) = match self.entry::<Area>("SEV hash table", HASH_TABLE) {
            Err(OvmfError::NoEntry { .. }) => return Ok(None),
            other => other?,
        };
        let area = HashTableArea {
            address: area.address.into(),
            size: area.size.into(),
        };
        Ok((area.address != 0).then_some(area))
    }

    /// Returns the guest address at which every vCPU but the first starts.
    pub fn sev_es_reset_address(&self) -> Result<u32, OvmfError> {
        let (address, offset) = self.entry::<U32>("SEV-ES reset block", RESET_BLOCK)?;
        match address.get() {
            // QEMU refuses it, too: such firmware was built without SEV-ES
            0 => Err(OvmfError::Field {
                field: "SEV-ES reset address",
                offset,
                value: 0,
                expected: "the address of code",
            }),
            address => Ok(address),
        }
    }

    /// Returns how many sections the metadata at `start` has; those are inside the image.
    fn sev_section_count(&self, start: u64) -> Result<u64, OvmfError> {
        let header: Header = read_at(self.bytes, start, "SEV metadata")?;
        check_signature("SEV metadata signature", start, header.signature, "ASEV")?;
        let field = |field, at: usize, value: U32, expected| OvmfError::Field {
            field,
            offset: start + at as u64,
            value: value.into(),
            expected,
        };
        if header.version != VERSION {
            return Err(field(
                "SEV metadata version",
                offset_of!(Header, version),
                header.version,
                "1",
            ));
        }
        let (length, count) = (u64::from(header.length), u64::from(header.count));
        if start + length > self.bytes.len() as u64 {
            let at = offset_of!(Header, length);
            return Err(field(
                "SEV metadata length",
                at,
                header.length,
                "an end inside the image",
            ));
        }
        if HEADER + count * SECTION > length {
            let at = offset_of!(Header, count);
            return Err(field(
                "SEV metadata section count",
                at,
                header.count,
                "sections inside the metadata",
            ));
        }
        Ok(count)
    }

    fn sev_section(&self, offset: u64, claims: &mut Claims) -> Result<SevSection, OvmfError> {
        let section: Section = read_at(self.bytes, offset, "SEV metadata section")?;
        let kind = SevSectionKind::from_number(section.kind.into()).ok_or(OvmfError::Field {
            field: "kind of SEV metadata section",
            offset: offset + offset_of!(Section, kind) as u64,
            value: section.kind.into(),
            expected: "1 SEC_MEM, 2 SECRETS, 3 CPUID, 4 SVSM_CAA or 0x10 KERNEL_HASHES",
        })?;
        let pages = claims.claim(offset, section.address.into(), section.size.into())?;
        if kind.is_one_page() && pages.length() != PAGE {
            return Err(OvmfError::Field {
                field: "size of SEV metadata section",
                offset: offset + offset_of!(Section, size) as u64,
                value: pages.length(),
                expected: "one page, 0x1000, for SECRETS, CPUID and KERNEL_HASHES",
            });
        }
        Ok(SevSection { kind, pages })
    }
}

impl SevSectionKind {
    fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::SecMem),
            2 => Some(Self::Secrets),
            3 => Some(Self::Cpuid),
            4 => Some(Self::SvsmCaa),
            0x10 => Some(Self::KernelHashes),
            _ => None,
        }
    }

    fn is_one_page(self) -> bool {
        matches!(self, Self::Secrets | Self::Cpuid | Self::KernelHashes)
    }
}

impl Claims {
    /// Returns claims that hold the image itself: it is in guest memory before any section is.
    fn of_image(image: &Ovmf) -> Result<Self, OvmfError> {
        let mut claims = Self::default();
        claims.claim(0, image.address(), image.bytes.len() as u64)?;
        Ok(claims)
    }
}

const METADATA: Guid = Guid::new(0xdc886566_984a_4798_a75e_5585a7bf67cc);
const HASH_TABLE: Guid = Guid::new(0x7255371f_3a3b_4b04_927b_1da6efa8d454);
const RESET_BLOCK: Guid = Guid::new(0x00f771de_1a7e_4fcb_890e_68c77e2fb44e);

const VERSION: U32 = U32::new(1);

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
    address: U32,
    size: U32,
    kind: U32,
}

const SECTION: u64 = size_of::<Section>() as u64;
const _: () = assert!(SECTION == 12);

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Area {
    address: U32,
    size: U32,
}
