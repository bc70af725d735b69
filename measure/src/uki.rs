//! Reader of unified kernel images (UKIs): a kernel and what belongs to it, as sections of systemd-stub.

use alloc::string::String;
use alloc::vec::Vec;
use core::{fmt, str};

use memchr::memmem;

use crate::pe::{Pe, PeError, Section};

/// The sections that systemd-stub knows, in the order in which it measures them (`unified_sections` of systemd 260).
const SECTIONS: [&str; 15] = [
    ".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", PCRSIG, ".pcrpkey",
    ".profile", ".dtbauto", ".hwids", ".efifw",
];

/// Holds signatures of what is measured, so it is not measured itself.
const PCRSIG: &str = ".pcrsig";

/// Sections that are used or not as the machine, or who starts it, decides.
const CHOSEN_LATER: [&str; 3] = [".profile", ".dtbauto", ".efifw"];

/// A unified kernel image.
#[derive(Clone, Debug)]
pub struct Uki<'a> {
    pe: Pe<'a>,
    stub: StubVersion,
    /// In the stub's order.
    sections: Vec<UkiSection<'a>>,
}

/// A section that the stub knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UkiSection<'a> {
    /// As `.linux`.
    pub name: &'static str,
    /// What the stub makes use of and measures: as many bytes as the section has in memory.
    pub data: &'a [u8],
}

/// The version of systemd that the stub is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StubVersion {
    /// As 257.
    pub major: u32,
    /// As `257.13-1~deb13u1`.
    pub text: String,
}

/// Who starts the kernel in a UKI when no Secure Boot with a shim is in force.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InnerKernel {
    /// Firmware, which measures the kernel once more, as an image: systemd 252 to 257.
    Firmware,
    /// The stub itself: systemd 258 or newer, and older ones of distributions that took the change over.
    Stub,
}

impl<'a> Uki<'a> {
    /// Returns the UKI in `bytes`, which is a whole file.
    ///
    /// # Errors
    ///
    /// The file is no PE image, no systemd-stub or has no kernel, or it has sections of which the machine decides which
    /// ones are used (profiles, device trees, firmware).
    pub fn read(bytes: &'a [u8]) -> Result<Self, UkiError> {
        let pe = Pe::read(bytes)?;
        let stub = StubVersion::read(&pe)?;
        if let Some(name) = CHOSEN_LATER.into_iter().find(|name| named(&pe, name).next().is_some()) {
            return Err(UkiError::ChosenLater { name });
        }
        let sections = SECTIONS.into_iter().filter_map(|name| section(&pe, name).transpose());
        let sections = sections.collect::<Result<Vec<_>, _>>()?;
        let uki = Self { pe, stub, sections };
        uki.section(".linux").ok_or(UkiError::NoKernel)?;
        Ok(uki)
    }

    /// Returns the image as firmware sees it.
    pub const fn pe(&self) -> &Pe<'a> {
        &self.pe
    }

    /// Returns which systemd the stub is of.
    pub const fn stub(&self) -> &StubVersion {
        &self.stub
    }

    /// Returns the bytes of the section called `name` that the stub makes use of.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.sections.iter().find(|section| section.name == name);
        found.map(|section| section.data)
    }

    /// Returns the sections that the stub measures, in its order.
    pub fn measured(&self) -> impl Iterator<Item = &UkiSection<'a>> {
        self.sections.iter().filter(|section| section.name != PCRSIG)
    }

    /// Returns who starts the kernel.
    ///
    /// The version does not say, as distributions take changes over; what the stub prints when it fails does.
    ///
    /// # Errors
    ///
    /// The stub has both messages or neither.
    pub fn inner_kernel(&self) -> Result<InnerKernel, UkiError> {
        let own = || {
            let sections = self.pe.sections().iter();
            sections.filter(|section| !SECTIONS.iter().any(|name| name.as_bytes() == section.name()))
        };
        let says = |text: &str| own().any(|section| memmem::find(section.data, text.as_bytes()).is_some());
        match (says("Error loading kernel image"), says("Cannot read sections")) {
            (true, false) => Ok(InnerKernel::Firmware),
            (false, true) => Ok(InnerKernel::Stub),
            _ => Err(UkiError::UnknownStub {
                stub: self.stub.clone(),
            }),
        }
    }
}

fn named<'p, 'a>(pe: &'p Pe<'a>, name: &'static str) -> impl Iterator<Item = &'p Section<'a>> {
    let sections = pe.sections().iter();
    sections.filter(move |section| section.name() == name.as_bytes() && section.virtual_size > 0)
}

/// Returns the section called `name`, which the image has once if at all.
fn section<'a>(pe: &Pe<'a>, name: &'static str) -> Result<Option<UkiSection<'a>>, UkiError> {
    let mut sections = named(pe, name);
    let Some(section) = sections.next() else {
        return Ok(None);
    };
    if sections.next().is_some() {
        return Err(UkiError::Twice { name });
    }
    let data = section.data.get(..section.virtual_size as usize);
    let data = data.ok_or(UkiError::PartlyFilled {
        name,
        size: section.virtual_size,
        data: section.data.len(),
    })?;
    Ok(Some(UkiSection { name, data }))
}

impl StubVersion {
    /// Reads what `.sdmagic` says, as `#### LoaderInfo: systemd-stub 257.13-1~deb13u1 ####`.
    fn read(pe: &Pe) -> Result<Self, UkiError> {
        let magic = section(pe, ".sdmagic")?.ok_or(UkiError::NoStub)?.data;
        let text = str::from_utf8(magic).ok().map(|text| text.trim_end_matches('\0'));
        let text = text.and_then(|text| {
            text.strip_prefix("#### LoaderInfo: systemd-stub ")?
                .strip_suffix(" ####")
        });
        let text = text.ok_or_else(|| UkiError::NoVersion { found: readable(magic) })?;
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let major = text[..digits].parse();
        let major = major.map_err(|_| UkiError::NoVersion { found: readable(magic) })?;
        let text = text.into();
        Ok(Self { major, text })
    }
}

/// Returns what a message can show of `bytes`.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

impl fmt::Display for StubVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd-stub {}", self.text)
    }
}

/// Why what a UKI measures is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UkiError {
    #[error(transparent)]
    Pe(#[from] PeError),
    #[error("the image has no section .sdmagic: it is not made with systemd-stub")]
    NoStub,
    #[error("section .sdmagic is {found:?}, expected \"#### LoaderInfo: systemd-stub VERSION ####\"")]
    NoVersion { found: String },
    #[error("the image has no section .linux: it is not a UKI")]
    NoKernel,
    #[error("the image has section {name} twice")]
    Twice { name: &'static str },
    #[error("section {name} has {size} bytes in memory, of which the file holds {data}")]
    PartlyFilled { name: &'static str, size: u32, data: usize },
    #[error("section {name} is not supported: which sections are measured would be decided when the machine starts")]
    ChosenLater { name: &'static str },
    #[error("{stub}: whether firmware or the stub starts the kernel cannot be told from it")]
    UnknownStub { stub: StubVersion },
}

/// Returns a UKI of this version with these sections, for tests.
#[cfg(test)]
pub(crate) fn example(version: &str, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let magic = alloc::format!("#### LoaderInfo: systemd-stub {version} ####\0");
    let stub: [(&str, &[u8]); 2] = [
        (".rodata", b"Error loading kernel image: %m\0"),
        (".sdmagic", magic.as_bytes()),
    ];
    crate::pe::tests::image(&[&stub, sections].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refusal(version: &str, sections: &[(&str, &[u8])]) -> UkiError {
        Uki::read(&example(version, sections)).unwrap_err()
    }

    #[test]
    fn sections_come_in_the_order_of_the_stub() {
        let bytes = example(
            "257.13-1",
            &[(".pcrsig", b"s"), (".initrd", b"i"), (".linux", b"k"), (".uname", b"u")],
        );
        let uki = Uki::read(&bytes).unwrap();
        let measured: Vec<_> = uki.measured().map(|section| (section.name, section.data)).collect();
        assert_eq!(measured, [(".linux", &b"k"[..]), (".initrd", b"i"), (".uname", b"u")]);
        assert_eq!(uki.section(".pcrsig"), Some(&b"s"[..]));
        assert_eq!((uki.stub().major, uki.stub().text.as_str()), (257, "257.13-1"));
    }

    #[test]
    fn the_stub_says_who_starts_the_kernel() {
        let bytes = example("257", &[(".linux", b"Cannot read sections")]);
        let uki = |bytes: &[u8]| Uki::read(bytes).unwrap().inner_kernel();
        assert_eq!(uki(&bytes), Ok(InnerKernel::Firmware));
        let both = example("257", &[(".linux", b"k"), (".text", b"Cannot read sections")]);
        assert!(matches!(uki(&both), Err(UkiError::UnknownStub { .. })));
        let at = memmem::find(&both, b"Error loading").unwrap();
        let newer = [&both[..at], b"x", &both[at + 1..]].concat();
        assert_eq!(uki(&newer), Ok(InnerKernel::Stub));
        let neither = [&bytes[..at], b"x", &bytes[at + 1..]].concat();
        assert!(matches!(uki(&neither), Err(UkiError::UnknownStub { .. })));
    }

    #[test]
    fn what_is_not_one_uki_is_refused() {
        let linux = (".linux", &b"k"[..]);
        assert_eq!(refusal("257", &[]), UkiError::NoKernel);
        assert_eq!(refusal("257", &[linux, linux]), UkiError::Twice { name: ".linux" });
        for name in CHOSEN_LATER {
            assert_eq!(refusal("257", &[linux, (name, b"x")]), UkiError::ChosenLater { name });
        }
        assert!(matches!(refusal("v257", &[linux]), UkiError::NoVersion { .. }));
        assert!(matches!(refusal("99999999999", &[linux]), UkiError::NoVersion { .. }));
        let bare = crate::pe::tests::image(&[linux]);
        assert_eq!(Uki::read(&bare).unwrap_err(), UkiError::NoStub);
    }

    #[test]
    fn sections_that_memory_would_fill_with_zeros_are_refused() {
        let mut bytes = example("257", &[(".linux", b"k")]);
        let at = memmem::find(&bytes, b".linux").unwrap();
        bytes[at + 8..at + 12].copy_from_slice(&513_u32.to_le_bytes());
        let (name, size, data) = (".linux", 513, 512);
        assert_eq!(
            Uki::read(&bytes).unwrap_err(),
            UkiError::PartlyFilled { name, size, data }
        );
    }

    proptest! {
        #[test]
        fn no_image_makes_the_reader_panic(noise in proptest::collection::vec((0_usize..0x1800, any::<u8>()), 1..8), length in 0_usize..0x1801) {
            let mut bytes = example("257", &[(".linux", b"k"), (".osrel", b"o")]);
            for (at, value) in noise {
                bytes[at] = value;
            }
            for bytes in [&bytes[..], &bytes[..length]] {
                let _ = Uki::read(bytes).map(|uki| uki.inner_kernel());
            }
        }
    }
}
