//! What a build of edk2 is called: the constants PcdFirmwareVendor, PcdFirmwareVersionString and
//! PcdFirmwareReleaseDateString, as the compiler laid them into the programs that use them.

use alloc::string::String;
use alloc::vec::Vec;

use super::volume::{Section, Volume};

/// What a build calls itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Texts {
    /// The version that is measured into PCR 0; nothing if there is no program that measures it, or several texts in
    /// it could be the version.
    pub version: Option<String>,
    /// What the SMBIOS structure of type 0 says; nothing if that cannot be told.
    pub smbios: Option<SmbiosTexts>,
}

/// The strings of the SMBIOS structure of type 0 that OVMF adds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SmbiosTexts {
    pub vendor: String,
    pub version: String,
    /// As `MM/DD/YYYY`.
    pub date: String,
}

impl Texts {
    /// Returns what the programs in `volumes` hold.
    pub fn read(volumes: &[Volume]) -> Self {
        Self {
            version: texts_of(volumes, "Tcg2Pei").and_then(version),
            smbios: texts_of(volumes, "SmbiosPlatformDxe").and_then(SmbiosTexts::of),
        }
    }
}

/// The program holds no other text than the version, which an unnamed build leaves empty.
fn version(mut texts: Vec<String>) -> Option<String> {
    let version = texts.pop().unwrap_or_default();
    texts.is_empty().then_some(version)
}

impl SmbiosTexts {
    /// The constants lie in the order of their names: release date, version, vendor... of which the date shows itself.
    fn of(texts: Vec<String>) -> Option<Self> {
        let date = texts.iter().position(|text| is_date(text))?;
        match &texts[date..] {
            [date, version, vendor] => Some(Self {
                vendor: vendor.clone(),
                version: version.clone(),
                date: date.clone(),
            }),
            _ => None,
        }
    }
}

fn is_date(text: &str) -> bool {
    let shape = text.bytes().map(|byte| if byte.is_ascii_digit() { b'0' } else { byte });
    shape.eq(*b"00/00/0000")
}

fn texts_of(volumes: &[Volume], name: &str) -> Option<Vec<String>> {
    let file = volumes.iter().find_map(|volume| volume.file(name))?;
    file.program().map(texts)
}

/// Returns the constants of a program that are texts: UTF-16 of printable ASCII, at the alignment of constants, which
/// texts in the midst of code do not have.
fn texts(program: &Section) -> Vec<String> {
    const ALIGNMENT: usize = 16 / 2; // in characters
    let units = program.body.as_chunks::<2>().0;
    let mut texts = Vec::new();
    let mut start = 0;
    while let Some(tail) = units.get(start..).filter(|tail| !tail.is_empty()) {
        let length = tail.iter().take_while(|unit| is_printable(**unit)).count();
        if length >= SHORTEST && tail.get(length) == Some(&[0, 0]) {
            texts.push(tail[..length].iter().map(|unit| char::from(unit[0])).collect());
        }
        // what starts inside ends as this did
        start += (length + 1).next_multiple_of(ALIGNMENT);
    }
    texts
}

/// A single character followed by zeros is more often a number.
const SHORTEST: usize = 2;

fn is_printable(unit: [u8; 2]) -> bool {
    unit[1] == 0 && (b' '..=b'~').contains(&unit[0])
}
