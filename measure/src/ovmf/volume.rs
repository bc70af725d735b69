//! The firmware volumes of an image, those that it holds compressed included: UEFI PI specification 1.8, volume 3,
//! sections 2 and 3; edk2-stable202508, MdeModulePkg/Library/LzmaCustomDecompressLib for the compression.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use lzma_rust2::{Action, LzmaStream};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::Guid;

/// How much an image may decompress to, in bytes; the largest known holds 16 MiB.
pub const DECOMPRESSED_LIMIT: u64 = 64 << 20;

/// What an image holds, decompressed once; [`Payload::volumes`] reads it.
///
/// Compressed data inside compressed data is left as it is: what is measured has one level.
#[derive(Clone, Debug)]
pub(super) struct Payload<'a> {
    image: &'a [u8],
    decompressed: Vec<Vec<u8>>,
}

/// One firmware volume.
#[derive(Clone, Debug)]
pub struct Volume<'a> {
    /// The whole volume, header included.
    pub bytes: &'a [u8],
    /// The name in the extended header, by which device paths call the volume.
    pub name: Option<Guid>,
    pub files: Vec<File<'a>>,
}

/// One file of a volume; padding is not one.
#[derive(Clone, Debug)]
pub struct File<'a> {
    pub guid: Guid,
    pub kind: FileKind,
    /// The name for people, of the user interface section; empty where there is none.
    pub name: String,
    pub sections: Vec<Section<'a>>,
}

/// One leaf or encapsulation section of a file.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    pub kind: SectionKind,
    /// Where the body starts, in bytes from the start of the volume or the decompressed data.
    pub offset: usize,
    /// The section without its header.
    pub body: &'a [u8],
}

/// What a file is for (`EFI_FV_FILETYPE`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileKind(pub u8);

impl FileKind {
    /// The first code that runs, as it lies in the image.
    pub const SECURITY_CORE: Self = Self(0x03);
    pub const PEI_CORE: Self = Self(0x04);
    pub const DXE_CORE: Self = Self(0x05);
    const RAW: Self = Self(0x01);
    const PAD: Self = Self(0xf0);
}

/// What a section holds (`EFI_SECTION_TYPE`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SectionKind(pub u8);

impl SectionKind {
    pub const PE32: Self = Self(0x10);
    const GUID_DEFINED: Self = Self(0x02);
    const USER_INTERFACE: Self = Self(0x15);
    const VOLUME_IMAGE: Self = Self(0x17);
}

impl<'a> Payload<'a> {
    /// Returns the image and what its compressed sections decompress to, at most [`DECOMPRESSED_LIMIT`] bytes.
    ///
    /// # Errors
    ///
    /// A volume, a file or a section is not as the specification says, or holds too much.
    pub(super) fn read(image: &'a [u8]) -> Result<Self, VolumeError> {
        let mut left = DECOMPRESSED_LIMIT;
        let mut decompressed = Vec::new();
        for volume in volumes_of_image(image)? {
            for section in volume.files.iter().flat_map(|file| &file.sections) {
                if let Some((offset, packed)) = compressed(section)? {
                    decompressed.push(decompress(packed, offset, &mut left)?);
                }
            }
        }
        Ok(Self { image, decompressed })
    }

    /// Returns the volumes that lie plainly in the image, then those that were compressed, each in their order.
    ///
    /// # Errors
    ///
    /// As [`Payload::read`].
    pub(super) fn volumes(&self) -> Result<Vec<Volume<'_>>, VolumeError> {
        let mut volumes = volumes_of_image(self.image)?;
        for data in &self.decompressed {
            for section in sections(data, 0..data.len())? {
                if section.kind == SectionKind::VOLUME_IMAGE {
                    volumes.push(Volume::read(section.body)?);
                }
            }
        }
        Ok(volumes)
    }
}

impl Volume<'_> {
    /// Returns whether a file is of this kind.
    pub fn has(&self, kind: FileKind) -> bool {
        self.files.iter().any(|file| file.kind == kind)
    }

    /// Returns the first file of this name.
    pub fn file(&self, name: &str) -> Option<&File<'_>> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl<'a> File<'a> {
    /// Returns the program of the file: its PE image, or nothing.
    pub fn program(&self) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.kind == SectionKind::PE32)
    }
}

/// Returns the volumes of files that lie plainly in `image`, which start at whole pages.
fn volumes_of_image(image: &[u8]) -> Result<Vec<Volume<'_>>, VolumeError> {
    let mut volumes = Vec::new();
    let mut offset = 0;
    while let Some(tail) = image.get(offset..).filter(|tail| !tail.is_empty()) {
        let Some(header) = VolumeHeader::read(tail) else {
            offset += VOLUME_ALIGNMENT;
            continue;
        };
        let length = header.length(tail.len(), offset)?;
        if [FFS2, FFS3].contains(&header.file_system) {
            volumes.push(Volume::read(&tail[..length])?);
        }
        offset += length.next_multiple_of(VOLUME_ALIGNMENT);
    }
    Ok(volumes)
}

impl<'a> Volume<'a> {
    /// Returns the volume of files that starts `bytes`.
    fn read(bytes: &'a [u8]) -> Result<Self, VolumeError> {
        let header = VolumeHeader::read(bytes).ok_or(VolumeError::Truncated {
            field: "firmware volume header",
            offset: 0,
        })?;
        let length = header.length(bytes.len(), 0)?;
        let bytes = &bytes[..length];
        let (name, mut offset) = header.extended(bytes)?;
        let mut files = Vec::new();
        while let Some((file, end)) = File::read(bytes, offset)? {
            files.extend(file);
            offset = end.next_multiple_of(FILE_ALIGNMENT);
        }
        Ok(Self { bytes, name, files })
    }
}

impl<'a> File<'a> {
    /// Returns the file at `offset` (nothing if it is padding) and where it ends, or nothing after the last file.
    fn read(volume: &'a [u8], offset: usize) -> Result<Option<(Option<Self>, usize)>, VolumeError> {
        let Some(header) = at::<FileHeader>(volume, offset).filter(|header| !header.is_free()) else {
            return Ok(None);
        };
        let (header_size, size) = header.sizes(volume, offset)?;
        let end = offset.checked_add(size).filter(|end| *end <= volume.len());
        let end = end.filter(|_| size >= header_size).ok_or(VolumeError::Size {
            field: "firmware file",
            offset,
            size: size as u64,
        })?;
        let kind = FileKind(header.kind);
        if kind == FileKind::PAD {
            return Ok(Some((None, end)));
        }
        let body = offset + header_size..end;
        let sections = match kind {
            FileKind::RAW => Vec::new(),
            _ => sections(volume, body)?,
        };
        let file = Self {
            guid: header.name,
            kind,
            name: name(&sections),
            sections,
        };
        Ok(Some((Some(file), end)))
    }
}

/// Returns the sections that fill `range` of `data`.
fn sections(data: &[u8], range: Range<usize>) -> Result<Vec<Section<'_>>, VolumeError> {
    let mut sections = Vec::new();
    let mut offset = range.start;
    while offset + size_of::<SectionHeader>() <= range.end {
        let (section, end) = Section::read(&data[..range.end], offset)?;
        sections.push(section);
        offset = range.start + (end - range.start).next_multiple_of(SECTION_ALIGNMENT);
    }
    Ok(sections)
}

impl<'a> Section<'a> {
    /// Returns the section at `offset`, and where it ends.
    fn read(data: &'a [u8], offset: usize) -> Result<(Self, usize), VolumeError> {
        let field = "section of a firmware file";
        let header: SectionHeader = at(data, offset).ok_or(VolumeError::Truncated { field, offset })?;
        let (header_size, size) = match header.size {
            EXTENDED => {
                let size = at::<U32>(data, offset + size_of::<SectionHeader>());
                let size = size.ok_or(VolumeError::Truncated { field, offset })?;
                (size_of::<SectionHeader>() + size_of::<U32>(), size.get() as usize)
            }
            size => (size_of::<SectionHeader>(), u24(size)),
        };
        let end = offset.checked_add(size).filter(|_| size >= header_size);
        let body = end.and_then(|end| data.get(offset + header_size..end));
        let body = body.ok_or(VolumeError::Size {
            field,
            offset,
            size: size as u64,
        })?;
        let section = Self {
            kind: SectionKind(header.kind),
            offset: offset + header_size,
            body,
        };
        Ok((section, offset + size))
    }
}

/// Returns the text of the user interface section.
fn name(sections: &[Section<'_>]) -> String {
    let section = sections
        .iter()
        .find(|section| section.kind == SectionKind::USER_INTERFACE);
    let units = section.map_or(&[][..], |section| section.body.as_chunks::<2>().0);
    let units = units
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0);
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Returns the LZMA data of a section and where it starts, or nothing if the section is none with such data.
fn compressed<'a>(section: &Section<'a>) -> Result<Option<(usize, &'a [u8])>, VolumeError> {
    if section.kind != SectionKind::GUID_DEFINED {
        return Ok(None);
    }
    let field = "header of a GUID-defined section";
    let offset = section.offset;
    let header: GuidDefined = at(section.body, 0).ok_or(VolumeError::Truncated { field, offset })?;
    if header.definition != LZMA {
        return Ok(None);
    }
    // the offset counts from the start of the section, its header of 4 or 8 bytes included
    let skipped = usize::from(header.data_offset.get()).checked_sub(size_of::<SectionHeader>());
    let data = skipped.and_then(|skipped| Some((offset + skipped, section.body.get(skipped..)?)));
    data.map(Some).ok_or(VolumeError::Size {
        field,
        offset,
        size: header.data_offset.get().into(),
    })
}

/// Returns what the LZMA data at `offset` decompresses to, and takes it off what is left of the limit.
fn decompress(packed: &[u8], offset: usize, left: &mut u64) -> Result<Vec<u8>, VolumeError> {
    let field = "LZMA header";
    let header: LzmaHeader = at(packed, 0).ok_or(VolumeError::Truncated { field, offset })?;
    let size = header.size.get();
    *left = left.checked_sub(size).ok_or(VolumeError::TooMuch { offset, size })?;
    let dictionary = u64::from(header.dictionary.get());
    if dictionary > DECOMPRESSED_LIMIT {
        return Err(VolumeError::TooMuch {
            offset,
            size: dictionary,
        });
    }
    // a dictionary longer than the data is never filled
    let dictionary = dictionary.min(size) as u32;
    let body = &packed[size_of::<LzmaHeader>()..];
    let stream = LzmaStream::new_with_props(size, header.properties, dictionary, None);
    let stream = stream.map_err(|_| VolumeError::Lzma { offset })?;
    fill(stream, body, size as usize).ok_or(VolumeError::Lzma { offset })
}

/// Returns `size` bytes that `stream` makes of `packed`, or nothing if it makes fewer.
///
/// The interface without readers: that of readers differs between builds with the standard library and without.
fn fill(mut stream: LzmaStream, mut packed: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut data = alloc::vec![0; size];
    let mut filled = 0;
    while filled < size {
        let step = stream.process(packed, &mut data[filled..], Action::Finish).ok()?;
        if step.bytes_consumed == 0 && step.bytes_produced == 0 {
            return None;
        }
        packed = packed.get(step.bytes_consumed..)?;
        filled += step.bytes_produced;
    }
    Some(data)
}

/// What is wrong with the volumes of an image. Offsets are in bytes from the start of the image, of the volume or of
/// what was decompressed, whichever is nearest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VolumeError {
    #[error("{field} at offset {offset:#x} ends outside what holds it")]
    Truncated { field: &'static str, offset: usize },
    #[error(
        "{field} at offset {offset:#x} is {size:#x} bytes long, expected its header and no more than what holds it"
    )]
    Size {
        field: &'static str,
        offset: usize,
        size: u64,
    },
    #[error(
        "compressed data at offset {offset:#x} asks for {size} bytes, expected at most {DECOMPRESSED_LIMIT} in all"
    )]
    TooMuch { offset: usize, size: u64 },
    #[error("compressed data at offset {offset:#x} is no LZMA data of the size it says")]
    Lzma { offset: usize },
}

/// Returns the structure at `offset`, if it is inside.
fn at<T: FromBytes>(bytes: &[u8], offset: usize) -> Option<T> {
    Some(T::read_from_prefix(bytes.get(offset..)?).ok()?.0)
}

const fn u24([a, b, c]: [u8; 3]) -> usize {
    u32::from_le_bytes([a, b, c, 0]) as usize
}

/// Where volumes may start in an image; edk2's flash maps use whole pages.
const VOLUME_ALIGNMENT: usize = 4096;

const FILE_ALIGNMENT: usize = 8;

const SECTION_ALIGNMENT: usize = 4;

const FFS2: Guid = Guid::new(0x8c8ce578_8a3d_4f1c_9935_896185c32dd3);

const FFS3: Guid = Guid::new(0x5473c07a_3dcb_4dca_bd6f_1e9689e7349a);

const LZMA: Guid = Guid::new(0xee4e5898_3914_4259_9d6e_dc7bd79403cf);

/// The size of a section that gives its size in the next field.
const EXTENDED: [u8; 3] = [0xff; 3];

/// `EFI_FIRMWARE_VOLUME_HEADER` without its block map.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct VolumeHeader {
    zero_vector: [u8; 16],
    pub(super) file_system: Guid,
    length: U64,
    signature: [u8; 4],
    attributes: U32,
    pub(super) header_length: U16,
    checksum: U16,
    extended_offset: U16,
    reserved: u8,
    revision: u8,
}

const _: () = assert!(size_of::<VolumeHeader>() == 56);

impl VolumeHeader {
    /// Returns the header of the volume that starts `bytes`, if one does.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        at(bytes, 0).filter(|header: &Self| header.signature == *b"_FVH")
    }

    /// Returns the length of the volume at `offset`, of which `available` bytes are there.
    pub(super) fn length(&self, available: usize, offset: usize) -> Result<usize, VolumeError> {
        let size = self.length.get();
        let length = usize::try_from(size).ok().filter(|length| *length <= available);
        length
            .filter(|length| *length >= usize::from(self.header_length.get()).max(size_of::<Self>()))
            .ok_or(VolumeError::Size {
                field: "firmware volume",
                offset,
                size,
            })
    }

    /// Returns the name of the volume, and where its first file starts.
    fn extended(&self, volume: &[u8]) -> Result<(Option<Guid>, usize), VolumeError> {
        let offset = usize::from(self.extended_offset.get());
        if offset == 0 {
            return Ok((
                None,
                usize::from(self.header_length.get()).next_multiple_of(FILE_ALIGNMENT),
            ));
        }
        let field = "extended header of a firmware volume";
        let extended: ExtendedHeader = at(volume, offset).ok_or(VolumeError::Truncated { field, offset })?;
        let end = offset.checked_add(extended.size.get() as usize);
        let end = end.filter(|end| *end <= volume.len()).ok_or(VolumeError::Size {
            field,
            offset,
            size: extended.size.get().into(),
        })?;
        Ok((Some(extended.name), end.next_multiple_of(FILE_ALIGNMENT)))
    }
}

/// `EFI_FIRMWARE_VOLUME_EXT_HEADER`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ExtendedHeader {
    name: Guid,
    size: U32,
}

const _: () = assert!(size_of::<ExtendedHeader>() == 20);

/// `EFI_FFS_FILE_HEADER`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FileHeader {
    name: Guid,
    integrity: U16,
    kind: u8,
    attributes: u8,
    size: [u8; 3],
    state: u8,
}

const FILE_HEADER: usize = size_of::<FileHeader>();
const _: () = assert!(FILE_HEADER == 24);

impl FileHeader {
    /// `FFS_ATTRIB_LARGE_FILE`: the size follows the header.
    const LARGE: u8 = 0x01;

    /// Returns whether nothing was ever written here.
    fn is_free(&self) -> bool {
        self.kind == 0xff && self.size == [0xff; 3] && self.state == 0xff
    }

    /// Returns the size of the header of the file at `offset`, and of the file with its header.
    fn sizes(&self, volume: &[u8], offset: usize) -> Result<(usize, usize), VolumeError> {
        if self.attributes & Self::LARGE == 0 {
            return Ok((FILE_HEADER, u24(self.size)));
        }
        let field = "size of a large firmware file";
        let size: U64 = at(volume, offset + FILE_HEADER).ok_or(VolumeError::Truncated { field, offset })?;
        let whole = usize::try_from(size.get()).map_err(|_| VolumeError::Size {
            field,
            offset,
            size: size.get(),
        })?;
        Ok((FILE_HEADER + size_of::<U64>(), whole))
    }
}

/// `EFI_COMMON_SECTION_HEADER`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SectionHeader {
    size: [u8; 3],
    kind: u8,
}

const _: () = assert!(size_of::<SectionHeader>() == 4);

/// `EFI_GUID_DEFINED_SECTION` after the common header.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct GuidDefined {
    definition: Guid,
    data_offset: U16,
    attributes: U16,
}

const _: () = assert!(size_of::<GuidDefined>() == 20);

/// How LZMA data starts: LZMA SDK, lzma-specification.txt.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct LzmaHeader {
    properties: u8,
    dictionary: U32,
    size: U64,
}

const _: () = assert!(size_of::<LzmaHeader>() == 13);
