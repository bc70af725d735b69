//! Unified kernel images: systemd-stub with sections appended, byte for byte as `ukify` (systemd 257) writes them.
//!
//! Sources: Microsoft, PE Format (COFF file header, optional header, section table); UAPI, Unified Kernel Image;
//! systemd, src/ukify/ukify.py.

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context as _, Result};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{copy_exactly, read_of};
use crate::mend::Exit;

/// What goes into a unified kernel image.
pub struct Uki<'a, L, I> {
    /// `linuxx64.efi.stub`.
    pub stub: &'a [u8],
    /// The text of `/etc/os-release`.
    pub os_release: &'a str,
    pub command_line: &'a str,
    /// The kernel's release, as `uname -r` prints it.
    pub uname: &'a str,
    pub linux: L,
    pub initrd: I,
}

/// Writes the image. Kernel and initrd are streamed, from their starts.
pub fn write_uki<L: Read + Seek, I: Read + Seek>(mut uki: Uki<'_, L, I>, out: &mut impl Write) -> Result<()> {
    let mut image = Image::new(uki.stub)?;
    let (linux, initrd) = (length(&mut uki.linux, "kernel")?, length(&mut uki.initrd, "initrd")?);
    image.join_kernel(&Kernel::read(&mut uki.linux, linux)?)?;
    // ukify's order. What is measured has the order of the stub instead: systemd, src/fundamental/uki.h.
    let sections: [(&[u8; 8], u32, u64, &mut dyn Read); 5] = [
        (
            b".osrel\0\0",
            DATA,
            uki.os_release.len() as u64,
            &mut uki.os_release.as_bytes(),
        ),
        (
            b".cmdline",
            DATA,
            uki.command_line.len() as u64,
            &mut uki.command_line.as_bytes(),
        ),
        (b".uname\0\0", DATA, uki.uname.len() as u64, &mut uki.uname.as_bytes()),
        (b".linux\0\0", CODE, linux, &mut uki.linux),
        (b".initrd\0", DATA, initrd, &mut uki.initrd),
    ];
    for (name, kind, size, _) in &sections {
        image.append(name, *kind, *size)?;
    }
    out.write_all(&image.head()?)?;
    for (name, _, size, content) in sections {
        copy_exactly(content, size, &text(name), out)?;
        let padding = image.file_aligned(size) - size;
        out.write_all(&vec![0; usize::try_from(padding)?])?;
    }
    Ok(())
}

fn length(stream: &mut impl Seek, what: &str) -> Result<u64> {
    let length = stream.seek(SeekFrom::End(0)).with_context(|| read_of(what))?;
    stream.rewind().with_context(|| read_of(what))?;
    Ok(length)
}

/// The stub, and the headers as they will be.
struct Image {
    bytes: Vec<u8>,
    pe: Pe,
    end: u64,
}

impl Image {
    fn new(stub: &[u8]) -> Result<Self> {
        let pe = Pe::parse(stub, "systemd-stub")?;
        pe.check_stub(stub)?;
        let mut image = Self {
            bytes: stub.to_vec(),
            pe,
            end: 0,
        };
        image.end = image.file_aligned(stub.len() as u64);
        image.bytes.resize(usize::try_from(image.end)?, 0);
        let headers = image.file_aligned(image.pe.optional.size_of_headers.get().into());
        image.pe.optional.size_of_headers = U32::new(small(headers)?);
        Ok(image)
    }

    /// Takes over what the kernel says about itself: who may revoke it, and whether its data may be executed.
    fn join_kernel(&mut self, kernel: &Kernel) -> Result<()> {
        if !kernel.nx_compatible {
            self.pe.optional.dll_characteristics &= U16::new(!NX_COMPATIBLE); // one flag covers stub and kernel
        }
        let section = self
            .pe
            .section(b".sbat\0\0\0")
            .ok_or_else(|| bad("systemd-stub", "has no section .sbat"))?;
        let place = section
            .place(&self.bytes)
            .ok_or_else(|| bad("systemd-stub", "ends inside .sbat"))?;
        let sbat = merge_sbat(&self.bytes[place.clone()], &kernel.sbat)?;
        if sbat.len() > place.len() {
            let why = format!("has {} bytes of room in .sbat, expected {}", place.len(), sbat.len());
            return Err(bad("systemd-stub", &why));
        }
        self.bytes[place.clone()].fill(0);
        self.bytes[place.start..][..sbat.len()].copy_from_slice(&sbat);
        let sections = self
            .pe
            .sections
            .iter_mut()
            .filter(|section| section.name == *b".sbat\0\0\0");
        sections.for_each(|section| section.virtual_size = U32::new(sbat.len() as u32));
        Ok(())
    }

    /// Adds a row to the section table, behind the last one in memory and in the file.
    fn append(&mut self, name: &[u8; 8], kind: u32, size: u64) -> Result<()> {
        let name_text = text(name);
        if self.pe.section(name).is_some() {
            return Err(bad("systemd-stub", &format!("already has a section {name_text}")));
        }
        if size == 0 {
            return Err(Exit::Usage.because(format!("{name_text} is empty"), "give what belongs into the section"));
        }
        let section = SectionHeader {
            name: *name,
            virtual_size: U32::new(small(size)?), // exact: the stub measures this many bytes
            virtual_address: U32::new(small(self.memory_end())?),
            size_of_raw_data: U32::new(small(self.file_aligned(size))?),
            pointer_to_raw_data: U32::new(small(self.end)?),
            relocations_and_lines: [0; 12],
            characteristics: U32::new(kind),
        };
        let optional = &mut self.pe.optional;
        let data = u64::from(optional.size_of_initialized_data.get()) + size;
        optional.size_of_initialized_data = U32::new(small(data)?); // the kernel's too, although it is code: as ukify
        self.end += u64::from(section.size_of_raw_data.get());
        self.pe.sections.push(section);
        Ok(())
    }

    /// The stub with its new headers.
    fn head(&mut self) -> Result<Vec<u8>> {
        let table = self.pe.table_at..self.pe.table_at + self.pe.sections.as_slice().as_bytes().len();
        let room = self.room_for_headers();
        if table.end > room {
            let why = format!("has room for {room} bytes of headers, expected {}", table.end);
            return Err(bad("systemd-stub", &why));
        }
        self.pe.coff.number_of_sections = U16::new(u16::try_from(self.pe.sections.len())?);
        self.pe.optional.size_of_image = U32::new(small(self.memory_end())?);
        self.pe.optional.check_sum = U32::ZERO;
        let mut head = self.bytes.clone();
        let (coff_at, optional_at) = (self.pe.coff_at, self.pe.coff_at + size_of::<CoffHeader>());
        head[coff_at..optional_at].copy_from_slice(self.pe.coff.as_bytes());
        head[optional_at..][..size_of::<OptionalHeader>()].copy_from_slice(self.pe.optional.as_bytes());
        head[table].copy_from_slice(self.pe.sections.as_slice().as_bytes());
        Ok(head)
    }

    /// Headers end where they say, or where the first section begins.
    fn room_for_headers(&self) -> usize {
        let filled = self
            .pe
            .sections
            .iter()
            .filter(|section| section.size_of_raw_data.get() > 0);
        let ends =
            filled
                .map(|section| section.pointer_to_raw_data.get())
                .chain([self.pe.optional.size_of_headers.get()]);
        ends.fold(self.bytes.len(), |room, end| room.min(end as usize))
    }

    fn file_aligned(&self, size: u64) -> u64 {
        size.next_multiple_of(self.pe.optional.file_alignment.get().into())
    }

    fn memory_end(&self) -> u64 {
        let ends = self
            .pe
            .sections
            .iter()
            .map(|section| u64::from(section.virtual_address.get()) + u64::from(section.virtual_size.get()));
        ends.max()
            .unwrap_or(0)
            .next_multiple_of(self.pe.optional.section_alignment.get().into())
    }
}

/// What a kernel says about itself.
struct Kernel {
    nx_compatible: bool,
    sbat: Vec<u8>,
}

impl Kernel {
    fn read(file: &mut (impl Read + Seek), size: u64) -> Result<Self> {
        let mut head = Vec::new();
        file.take(MAX_HEADERS)
            .read_to_end(&mut head)
            .with_context(|| read_of("kernel"))?;
        let pe = Pe::parse(&head, "kernel")?;
        let mut sbat = Vec::new();
        if let Some(section) = pe.section(b".sbat\0\0\0") {
            let (at, length) = (
                section.pointer_to_raw_data.get().into(),
                section.size_of_raw_data.get().into(),
            );
            if length > MAX_HEADERS || at + length > size {
                return Err(bad(
                    "kernel",
                    &format!("has {length} bytes of .sbat at {at}, in a file of {size}"),
                ));
            }
            file.seek(SeekFrom::Start(at))?;
            file.take(length)
                .read_to_end(&mut sbat)
                .with_context(|| read_of("kernel"))?;
        }
        file.rewind()?;
        let nx_compatible = pe.optional.dll_characteristics.get() & NX_COMPATIBLE != 0;
        Ok(Self { nx_compatible, sbat })
    }
}

/// One header, then the components of the stub, of the kernel, and of unified kernel images as such.
fn merge_sbat(stub: &[u8], kernel: &[u8]) -> Result<Vec<u8>> {
    let mut text = String::from(SBAT);
    for line in components(stub, "systemd-stub")?
        .into_iter()
        .chain(components(kernel, "kernel")?)
        .chain([UKI_SBAT])
    {
        text += line;
        text += "\n";
    }
    text += "\0";
    Ok(text.into_bytes())
}

/// The lines of a `.sbat` section behind its header; there may be no section at all.
fn components<'a>(section: &'a [u8], what: &str) -> Result<Vec<&'a str>> {
    let used = section.len() - section.iter().rev().take_while(|byte| **byte == 0).count();
    if used == 0 {
        return Ok(Vec::new());
    }
    let lines = str::from_utf8(&section[..used])
        .ok()
        .filter(|text| text.starts_with("sbat,"))
        .map(str::lines);
    let lines = lines.ok_or_else(|| bad(what, "has a section .sbat that does not begin with \"sbat,\""))?;
    Ok(lines.skip(1).collect())
}

/// The headers of an x86-64 PE32+ file.
struct Pe {
    coff_at: usize,
    coff: CoffHeader,
    optional: OptionalHeader,
    table_at: usize,
    sections: Vec<SectionHeader>,
}

impl Pe {
    fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        Self::headers(bytes).ok_or_else(|| bad(what, "is not an x86-64 PE32+ file"))
    }

    fn headers(bytes: &[u8]) -> Option<Self> {
        let (signature_at, _) = U32::read_from_prefix(bytes.get(0x3c..)?).ok()?;
        let signature_at = usize::try_from(signature_at.get()).ok()?;
        let coff_at = signature_at.checked_add(4)?;
        let (coff, rest) = CoffHeader::read_from_prefix(bytes.get(coff_at..)?).ok()?;
        let (optional, _) = OptionalHeader::read_from_prefix(rest).ok()?;
        let pe = bytes.starts_with(b"MZ") && bytes[signature_at..coff_at] == *b"PE\0\0";
        let wanted = (coff.machine.get(), optional.magic.get()) == (X86_64, PE32_PLUS);
        let size = usize::from(coff.size_of_optional_header.get());
        if !pe || !wanted || size < size_of::<OptionalHeader>() {
            return None;
        }
        let table = rest.get(size..)?.chunks_exact(size_of::<SectionHeader>());
        let count = usize::from(coff.number_of_sections.get());
        let sections: Vec<_> = table.take(count).flat_map(SectionHeader::read_from_bytes).collect();
        let table_at = coff_at + size_of::<CoffHeader>() + size;
        (sections.len() == count).then_some(Self {
            coff_at,
            coff,
            optional,
            table_at,
            sections,
        })
    }

    /// ukify repairs stubs of old versions; those do not measure what a confidential VM needs, so we need not.
    fn check_stub(&self, bytes: &[u8]) -> Result<()> {
        let (file, memory) = (
            self.optional.file_alignment.get(),
            self.optional.section_alignment.get(),
        );
        let aligned = |section: &SectionHeader| {
            section.pointer_to_raw_data.get().is_multiple_of(file)
                && section.size_of_raw_data.get().is_multiple_of(file)
        };
        let why = if !file.is_power_of_two() || !memory.is_power_of_two() || file.max(memory) > MAX_ALIGNMENT {
            "has sections of impossible alignment"
        } else if !self.sections.iter().all(aligned) {
            "has sections that are not aligned"
        } else if self.sections.iter().any(|section| section.place(bytes).is_none()) {
            "ends inside a section"
        } else if self.coff.pointer_to_symbol_table.get() != 0 {
            "has a symbol table"
        } else if self.is_signed(bytes) {
            "is signed: the signature would not hold for the image"
        } else {
            return Ok(());
        };
        Err(bad("systemd-stub", why))
    }

    /// Data directory 4 is the table of certificates.
    fn is_signed(&self, bytes: &[u8]) -> bool {
        let directory = self.coff_at + size_of::<CoffHeader>() + size_of::<OptionalHeader>() + 4 * 8;
        let table = bytes.get(directory..self.table_at.min(directory + 8));
        self.optional.number_of_directories.get() > 4 && table.is_some_and(|table| table.iter().any(|byte| *byte != 0))
    }

    fn section(&self, name: &[u8; 8]) -> Option<&SectionHeader> {
        self.sections.iter().find(|section| section.name == *name)
    }
}

fn bad(what: &str, why: &str) -> anyhow::Error {
    Exit::Unsupported.because(
        format!("{what} {why}"),
        "use the linuxx64.efi.stub of systemd 256 to 260, and an x86-64 kernel built with CONFIG_EFI_STUB",
    )
}

/// Sizes and addresses of a PE have 32 bits.
fn small(size: u64) -> Result<u32> {
    u32::try_from(size).map_err(|_| {
        Exit::Usage.because(
            format!("the image would have {size} bytes, a PE has fewer than 4 GiB"),
            "make the initrd smaller, or put the data into a volume",
        )
    })
}

fn text(name: &[u8; 8]) -> String {
    String::from_utf8_lossy(name).trim_end_matches('\0').into()
}

const SBAT: &str = "sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";
const UKI_SBAT: &str = "uki,1,UKI,uki,1,https://uapi-group.org/specifications/specs/unified_kernel_image/";

/// The headers of a kernel end before this, and no `.sbat` is longer.
const MAX_HEADERS: u64 = 1 << 16;

/// Largest `FileAlignment` of the PE format; sections are aligned to pages.
const MAX_ALIGNMENT: u32 = 1 << 16;

const X86_64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;

/// `IMAGE_DLLCHARACTERISTICS_NX_COMPAT`.
const NX_COMPATIBLE: u16 = 0x0100;

/// `IMAGE_SCN_CNT_CODE | IMAGE_SCN_MEM_READ`: old kernels run inside the image.
const CODE: u32 = 0x4000_0020;

/// `IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`.
const DATA: u32 = 0x4000_0040;

/// PE Format, "COFF File Header".
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct CoffHeader {
    machine: U16,
    number_of_sections: U16,
    time_date_stamp: U32,
    pointer_to_symbol_table: U32,
    number_of_symbols: U32,
    size_of_optional_header: U16,
    characteristics: U16,
}

const _: () = assert!(size_of::<CoffHeader>() == 20);

/// PE Format, "Optional Header", of PE32+ and without the data directories.
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct OptionalHeader {
    magic: U16,
    linker_version: [u8; 2],
    size_of_code: U32,
    size_of_initialized_data: U32,
    size_of_uninitialized_data: U32,
    address_of_entry_point: U32,
    base_of_code: U32,
    image_base: U64,
    section_alignment: U32,
    file_alignment: U32,
    versions: [U16; 6],
    win32_version: U32,
    size_of_image: U32,
    size_of_headers: U32,
    check_sum: U32,
    subsystem: U16,
    dll_characteristics: U16,
    stack_and_heap: [U64; 4],
    loader_flags: U32,
    number_of_directories: U32,
}

const _: () = assert!(size_of::<OptionalHeader>() == 112);

/// PE Format, "Section Table".
#[derive(Clone, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct SectionHeader {
    name: [u8; 8],
    virtual_size: U32,
    virtual_address: U32,
    size_of_raw_data: U32,
    pointer_to_raw_data: U32,
    relocations_and_lines: [u8; 12],
    characteristics: U32,
}

const _: () = assert!(size_of::<SectionHeader>() == 40);

impl SectionHeader {
    /// Where the content is, if the file is that long.
    fn place(&self, file: &[u8]) -> Option<std::ops::Range<usize>> {
        let start = usize::try_from(self.pointer_to_raw_data.get()).ok()?;
        let end = start.checked_add(usize::try_from(self.size_of_raw_data.get()).ok()?)?;
        (end <= file.len()).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use measure::Sha256;
    use proptest::prelude::*;

    use super::*;

    const STUB_SBAT: &[u8] = b"sbat,1,x\nsystemd-stub,1,y\n\0\0";

    /// A PE of one page of headers and these sections, each in a sector and a page of its own.
    fn pe(sections: &[(&[u8; 8], &[u8])], dll_characteristics: u16) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        let mut coff = CoffHeader::read_from_bytes(&[0; 20]).expect("size");
        coff.machine = X86_64.into();
        coff.number_of_sections = (sections.len() as u16).into();
        coff.size_of_optional_header = (112 + 8 * 8).into();
        let mut optional = OptionalHeader::read_from_bytes(&[0; 112]).expect("size");
        optional.magic = PE32_PLUS.into();
        (optional.file_alignment, optional.section_alignment) = (512.into(), 4096.into());
        optional.size_of_headers = 0x400.into();
        optional.dll_characteristics = dll_characteristics.into();
        optional.number_of_directories = 8.into();
        bytes[0x44..0x58].copy_from_slice(coff.as_bytes());
        bytes[0x58..0xc8].copy_from_slice(optional.as_bytes());
        for (nth, (name, content)) in sections.iter().enumerate() {
            let mut section = SectionHeader::read_from_bytes(&[0; 40]).expect("size");
            section.name = **name;
            (section.virtual_size, section.size_of_raw_data) = ((content.len() as u32).into(), 512.into());
            section.virtual_address = (4096 * (nth as u32 + 1)).into();
            section.pointer_to_raw_data = (bytes.len() as u32).into();
            bytes[0x108 + 40 * nth..][..40].copy_from_slice(section.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes
    }

    fn stub() -> Vec<u8> {
        pe(&[(b".text\0\0\0", b"code"), (b".sbat\0\0\0", STUB_SBAT)], NX_COMPATIBLE)
    }

    fn uki(stub: &[u8], linux: &[u8]) -> Result<Vec<u8>> {
        let (linux, initrd) = (Cursor::new(linux), Cursor::new(b"initrd"));
        let (os_release, command_line, uname) = ("ID=x", "console=ttyS0", "6.12");
        let mut out = Vec::new();
        write_uki(
            Uki {
                stub,
                os_release,
                command_line,
                uname,
                linux,
                initrd,
            },
            &mut out,
        )?;
        Ok(out)
    }

    #[test]
    fn sections_hold_what_was_given() {
        let linux = pe(&[(b".sbat\0\0\0", b"sbat,1,x\nlinux,1,z\n")], 0);
        let image = uki(&stub(), &linux).expect("an image");
        let sbat = format!("{SBAT}systemd-stub,1,y\nlinux,1,z\n{UKI_SBAT}\n\0");
        let pe = Pe::parse(&image, "image").expect("a PE");
        for (name, address, content) in [
            (b".text\0\0\0", 0x1000, b"code".as_slice()),
            (b".sbat\0\0\0", 0x2000, sbat.as_bytes()),
            (b".osrel\0\0", 0x3000, b"ID=x"),
            (b".cmdline", 0x4000, b"console=ttyS0"),
            (b".uname\0\0", 0x5000, b"6.12"),
            (b".linux\0\0", 0x6000, &linux),
            (b".initrd\0", 0x7000, b"initrd"),
        ] {
            let section = pe.section(name).expect("the section");
            let place = section.place(&image).expect("inside");
            assert_eq!(section.virtual_address.get(), address, "{}", text(name));
            assert_eq!(section.virtual_size.get() as usize, content.len(), "{}", text(name));
            assert!(image[place.start..].starts_with(content), "{}", text(name));
            assert!(
                image[place][content.len()..].iter().all(|byte| *byte == 0),
                "{}",
                text(name)
            );
        }
        assert_eq!(pe.optional.size_of_image.get(), 0x8000);
        assert_eq!(pe.optional.dll_characteristics.get(), 0, "the kernel is not NX_COMPAT");
    }

    #[test]
    fn what_is_no_stub_or_kernel_is_refused() {
        let kernel = pe(&[], 0);
        let text: (&[u8; 8], &[u8]) = (b".text\0\0\0", b"code");
        let sbat: (&[u8; 8], &[u8]) = (b".sbat\0\0\0", STUB_SBAT);
        let mut signed = stub();
        signed[0xc8 + 32] = 1;
        for (stub, linux, message) in [
            (&b"MZ"[..], &kernel, "systemd-stub is not an x86-64 PE32+ file"),
            (&stub(), &b"bzImage".to_vec(), "kernel is not an x86-64 PE32+ file"),
            (&pe(&[text], 0), &kernel, "systemd-stub has no section .sbat"),
            (
                &pe(&[sbat, (b".linux\0\0", b"x")], 0),
                &kernel,
                "systemd-stub already has a section .linux",
            ),
            (
                &signed,
                &kernel,
                "systemd-stub is signed: the signature would not hold for the image",
            ),
            (&stub()[..0x600], &kernel, "systemd-stub ends inside a section"),
            (
                &pe(&[&[sbat][..], &[text; 14]].concat(), 0),
                &kernel,
                "systemd-stub has room for 1024 bytes of headers, expected 1064",
            ),
            (
                &pe(&[(b".sbat\0\0\0", b"SBAT")], 0),
                &kernel,
                "systemd-stub has a section .sbat that does not begin with \"sbat,\"",
            ),
        ] {
            assert_eq!(uki(stub, linux).expect_err(message).to_string(), message);
        }
    }

    /// Ours, pinned: another value is another measurement for every recipe.
    #[test]
    fn bytes_do_not_change() {
        let image = uki(&stub(), &pe(&[], NX_COMPATIBLE)).expect("an image");
        assert_eq!(
            Sha256::of(image).to_string(),
            "352ec5cf10dcc3db930c4380d4956c62d184125bec7a02074a8dad88cc01205e"
        );
    }

    proptest! {
        #[test]
        fn damaged_headers_do_not_panic(changes in prop::collection::vec((0..0x200_usize, any::<u8>()), 1..6), cut in 0..2048_usize) {
            let (mut stub, mut kernel) = (stub(), pe(&[(b".sbat\0\0\0", b"sbat,")], 0));
            let intact = kernel.clone();
            for (at, byte) in changes {
                stub[at] = byte;
                kernel[at] = byte;
            }
            kernel.truncate(cut);
            let _ = uki(&stub, &intact);
            let _ = uki(&intact, &kernel);
            stub.truncate(cut);
            let _ = uki(&stub, &intact);
        }
    }
}
