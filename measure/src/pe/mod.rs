//! Reader of PE32 and PE32+ images, and the digest by which firmware measures one.
//!
//! Images are outside bytes. What edk2 refuses to load is refused here, and so is what it would load but no linker
//! makes: sections that share bytes of the file, which would let a small file ask for much hashing.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::event_log::{Digests, Hasher};
use crate::fields::{FieldError, check, read_at, slice};

/// An image that UEFI firmware starts as an application.
#[derive(Clone, Debug)]
pub struct Pe<'a> {
    bytes: &'a [u8],
    sections: Vec<Section<'a>>,
    measured: Vec<Range<usize>>,
    certificates: &'a [u8],
}

/// A section of an image.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    name: [u8; 8],
    /// Bytes it has in memory; a loader takes those the file does not hold to be zero.
    pub virtual_size: u32,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// Its bytes in the file, with what a linker appended to fill a unit of the file.
    pub data: &'a [u8],
}

impl<'a> Pe<'a> {
    /// Returns the image in `bytes`, which is a whole file.
    ///
    /// # Errors
    ///
    /// edk2 would not load the file as an application (`PeCoffLoaderGetPeHeader` of edk2-stable202608), or two of its
    /// sections share bytes.
    pub fn read(bytes: &'a [u8]) -> Result<Self, PeError> {
        let headers = Headers::read(bytes)?;
        let sections = headers.sections(bytes)?;
        let measured = headers.measured(bytes, &sections)?;
        let certificates = headers.certificates(bytes)?;
        Ok(Self {
            bytes,
            sections,
            measured,
            certificates,
        })
    }

    /// Returns whether its first certificate is an Authenticode signature, whoever made it: a `WIN_CERTIFICATE` of
    /// revision 2.0 and type `WIN_CERT_TYPE_PKCS_SIGNED_DATA` with a DER sequence in it (UEFI 2.10, section 32.2.4).
    pub fn is_signed(&self) -> bool {
        let Ok((certificate, content)) = WinCertificate::read_from_prefix(self.certificates) else {
            return false;
        };
        let length = (certificate.length.get() as usize).checked_sub(size_of::<WinCertificate>());
        let content = length.and_then(|length| content.get(..length));
        let of_kind = certificate.revision.get() == 0x0200 && certificate.kind.get() == 0x0002;
        of_kind && content.is_some_and(|content| content.first() == Some(&DER_SEQUENCE))
    }

    /// Returns the whole file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the sections in the order of their headers.
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// Returns the digests that firmware measures the image with: Microsoft's Authenticode as edk2 computes it
    /// (`MeasurePeImageAndExtend` of edk2-stable202608).
    ///
    /// Bytes behind the last section count even where there is no certificate, and nothing is padded.
    pub fn authenticode(&self) -> Digests {
        let mut hasher = Hasher::default();
        for range in &self.measured {
            hasher.update(&self.bytes[range.clone()]);
        }
        hasher.finish()
    }
}

impl Section<'_> {
    /// Returns the name, up to its first NUL.
    pub fn name(&self) -> &[u8] {
        let end = self.name.iter().position(|byte| *byte == 0);
        &self.name[..end.unwrap_or(self.name.len())]
    }
}

/// Why a file is no image that firmware would start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PeError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("no PE image: {field} at offset {offset:#x} is {found:02x?}, expected {expected:?}")]
    Signature {
        field: &'static str,
        offset: u64,
        found: Vec<u8>,
        expected: &'static str,
    },
    #[error("the section whose bytes start at offset {offset:#x} shares some with the one before it")]
    Overlap { offset: u64 },
}

/// What the headers say, in bytes and offsets from the start of the file.
struct Headers {
    checksum: u64,
    /// The entry of the certificates in the data directory, where it has one.
    certificates: Option<u64>,
    certificates_offset: u32,
    certificates_size: u32,
    section_table: u64,
    section_count: u16,
    size: u32,
}

impl Headers {
    fn read(bytes: &[u8]) -> Result<Self, PeError> {
        let dos: DosHeader = read_at(bytes, "DOS header", 0)?;
        check_signature("signature of the DOS header", 0, &dos.signature, "MZ")?;
        let start = u64::from(dos.pe_offset.get());
        let coff: CoffHeader = read_at(bytes, "PE header", start)?;
        check_signature("signature of the PE header", start, &coff.signature, "PE\0\0")?;
        let optional_offset = start + size_of::<CoffHeader>() as u64;
        let optional: OptionalHeader = read_at(bytes, "optional header", optional_offset)?;
        let directories = Directories::read(bytes, optional_offset, &optional, coff.optional_size.get())?;
        let (certificates_offset, certificates_size) = directories.certificates_entry(bytes)?;
        let headers = Self {
            checksum: optional_offset + 64,
            certificates: directories.certificates(),
            certificates_offset,
            certificates_size,
            section_table: optional_offset + u64::from(coff.optional_size.get()),
            section_count: coff.section_count.get(),
            size: optional.headers_size.get(),
        };
        headers.check(bytes, optional_offset, &optional)?;
        Ok(headers)
    }

    fn check(&self, bytes: &[u8], optional_offset: u64, optional: &OptionalHeader) -> Result<(), PeError> {
        let table = u64::from(self.section_count) * size_of::<SectionHeader>() as u64;
        let (size, image_size) = (self.size, optional.image_size.get());
        let room = u64::from(size).checked_sub(self.section_table);
        check(
            size < image_size && size as usize <= bytes.len() && room.is_some_and(|room| room > 0 && room >= table),
            "SizeOfHeaders",
            optional_offset + 60,
            size,
            "the section table and what is before it, less than SizeOfImage and no more than the file",
        )?;
        let subsystem = optional.subsystem.get();
        let application = "10, an EFI application";
        Ok(check(
            subsystem == 10,
            "Subsystem",
            optional_offset + 68,
            subsystem,
            application,
        )?)
    }

    fn sections<'a>(&self, bytes: &'a [u8]) -> Result<Vec<Section<'a>>, PeError> {
        let offsets = (self.section_table..).step_by(size_of::<SectionHeader>());
        let offsets = offsets.take(self.section_count.into());
        offsets.map(|offset| self.section(bytes, offset)).collect()
    }

    fn section<'a>(&self, bytes: &'a [u8], header_offset: u64) -> Result<Section<'a>, PeError> {
        let header: SectionHeader = read_at(bytes, "section header", header_offset)?;
        let (size, offset, address) = (header.size.get(), header.offset.get(), header.virtual_address.get());
        if size > 0 {
            let behind = "an offset behind the headers";
            check(
                offset >= self.size,
                "PointerToRawData",
                header_offset + 20,
                offset,
                behind,
            )?;
            let behind = "an address behind the headers";
            check(
                address >= self.size,
                "VirtualAddress",
                header_offset + 12,
                address,
                behind,
            )?;
        }
        let data = match size {
            0 => &[],
            _ => slice(bytes, "section", offset.into(), size.into())?,
        };
        Ok(Section {
            name: header.name,
            virtual_size: header.virtual_size.get(),
            offset: offset.into(),
            data,
        })
    }

    /// Returns what of the file is hashed, in order.
    fn certificates<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], PeError> {
        let (offset, size) = (self.certificates_offset, self.certificates_size);
        match size {
            0 => Ok(&[]),
            _ => Ok(slice(bytes, "certificates", offset.into(), size.into())?),
        }
    }

    fn measured(&self, bytes: &[u8], sections: &[Section]) -> Result<Vec<Range<usize>>, PeError> {
        let (checksum, size) = (self.checksum as usize, self.size as usize);
        let behind = checksum + 4;
        let mut ranges = match self.certificates {
            Some(entry) => Vec::from([0..checksum, behind..entry as usize, entry as usize + 8..size]),
            None => Vec::from([0..checksum, behind..size]),
        };
        let filled = file_order(sections)?;
        ranges.extend(
            filled
                .iter()
                .map(|it| it.offset as usize..it.offset as usize + it.data.len()),
        );
        // edk2 counts what it hashed, headers whole, and takes the rest to follow: it does where there are no gaps
        let hashed = size + filled.iter().map(|section| section.data.len()).sum::<usize>();
        if bytes.len() > hashed {
            ranges.push(hashed..self.tail_end(bytes, hashed)?);
        }
        Ok(ranges)
    }

    /// Returns where the certificates start if they end the file.
    fn tail_end(&self, bytes: &[u8], hashed: usize) -> Result<usize, PeError> {
        let size = self.certificates_size;
        let end = bytes.len().checked_sub(size as usize).filter(|end| *end >= hashed);
        end.ok_or_else(|| {
            let error = FieldError::Value {
                field: "size of the certificates",
                offset: self.certificates.unwrap_or_default() + 4,
                value: size.into(),
                expected: "no more than follows the sections",
            };
            error.into()
        })
    }
}

/// Returns the sections that have bytes in the file, in the order in which they lie there.
fn file_order<'a, 'b>(sections: &'b [Section<'a>]) -> Result<Vec<&'b Section<'a>>, PeError> {
    let mut filled: Vec<_> = sections.iter().filter(|section| !section.data.is_empty()).collect();
    filled.sort_by_key(|section| section.offset);
    for pair in filled.windows(2) {
        let offset = pair[1].offset;
        if pair[0].offset + pair[0].data.len() as u64 > offset {
            return Err(PeError::Overlap { offset });
        }
    }
    Ok(filled)
}

fn check_signature(field: &'static str, offset: u64, found: &[u8], expected: &'static str) -> Result<(), PeError> {
    if found == expected.as_bytes() {
        return Ok(());
    }
    let found = found.into();
    Err(PeError::Signature {
        field,
        offset,
        found,
        expected,
    })
}

/// The data directory at the end of the optional header.
struct Directories {
    offset: u64,
    count: u32,
}

impl Directories {
    /// The index of the certificates, `IMAGE_DIRECTORY_ENTRY_SECURITY`.
    const CERTIFICATES: u32 = 4;

    fn read(bytes: &[u8], start: u64, optional: &OptionalHeader, size: u16) -> Result<Self, PeError> {
        let magic = optional.magic.get();
        let count_offset = match magic {
            PE32 => 92,
            _ => 108,
        };
        let formats = "0x10b (PE32) or 0x20b (PE32+)";
        check(
            [PE32, PE32_PLUS].contains(&magic),
            "magic of the optional header",
            start,
            magic,
            formats,
        )?;
        let count: U32 = read_at(bytes, "NumberOfRvaAndSizes", start + count_offset)?;
        let (count, offset) = (count.get(), start + count_offset + 4);
        check(
            count <= 16,
            "NumberOfRvaAndSizes",
            start + count_offset,
            count,
            "at most 16",
        )?;
        let expected = count_offset + 4 + u64::from(count) * size_of::<Directory>() as u64;
        let whole = "the size of an optional header with that many directories";
        check(
            u64::from(size) == expected,
            "SizeOfOptionalHeader",
            start - 4,
            size,
            whole,
        )?;
        Ok(Self { offset, count })
    }

    fn certificates(&self) -> Option<u64> {
        let entry = u64::from(Self::CERTIFICATES) * size_of::<Directory>() as u64;
        (self.count > Self::CERTIFICATES).then_some(self.offset + entry)
    }

    /// The offset and the size of the certificates.
    fn certificates_entry(&self, bytes: &[u8]) -> Result<(u32, u32), PeError> {
        let Some(offset) = self.certificates() else {
            return Ok((0, 0));
        };
        let entry: Directory = read_at(bytes, "directory entry of the certificates", offset)?;
        let (start, size) = (entry.offset.get(), entry.size.get());
        Ok((start, size))
    }
}

/// How a DER sequence begins (X.690, section 8.9).
const DER_SEQUENCE: u8 = 0x30;

/// `WIN_CERTIFICATE`, without what is in it.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct WinCertificate {
    /// In bytes, with these fields.
    length: U32,
    revision: U16,
    kind: U16,
}

/// `IMAGE_NT_OPTIONAL_HDR32_MAGIC`: Microsoft's PE format specification, "Optional Header".
const PE32: u16 = 0x10b;
/// `IMAGE_NT_OPTIONAL_HDR64_MAGIC`.
const PE32_PLUS: u16 = 0x20b;

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct DosHeader {
    signature: [u8; 2],
    unused: [u8; 58],
    pe_offset: U32,
}

const _: () = assert!(size_of::<DosHeader>() == 64);

/// The signature and `IMAGE_FILE_HEADER`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct CoffHeader {
    signature: [u8; 4],
    machine: U16,
    section_count: U16,
    unused: [u8; 12],
    optional_size: U16,
    characteristics: U16,
}

const _: () = assert!(size_of::<CoffHeader>() == 24);

/// What is at the same place in `IMAGE_OPTIONAL_HEADER32` and `IMAGE_OPTIONAL_HEADER64`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct OptionalHeader {
    magic: U16,
    unused: [u8; 54],
    image_size: U32,
    headers_size: U32,
    checksum: U32,
    subsystem: U16,
}

const _: () = assert!(size_of::<OptionalHeader>() == 70);

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Directory {
    offset: U32,
    size: U32,
}

const _: () = assert!(size_of::<Directory>() == 8);

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SectionHeader {
    name: [u8; 8],
    virtual_size: U32,
    virtual_address: U32,
    size: U32,
    offset: U32,
    unused: [u8; 12],
    characteristics: U32,
}

const _: () = assert!(size_of::<SectionHeader>() == 40);

#[cfg(test)]
pub(crate) mod tests;
