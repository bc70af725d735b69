//! Command lines as firmware hands them to a kernel: UTF-16 with a NUL.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

/// Where firmware puts the argument that tells a kernel of the initrd that QEMU has for it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitrdArgument {
    /// `initrd=initrd` before the command line: edk2-stable202508 and newer.
    Prefix,
    /// Behind it: older ones.
    Suffix,
}

impl InitrdArgument {
    /// Both, where the generation of the firmware is not known.
    pub const CANDIDATES: [Self; 2] = [Self::Prefix, Self::Suffix];
}

impl fmt::Display for InitrdArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Prefix => "initrd=initrd first in the command line",
            Self::Suffix => "initrd=initrd last in the command line",
        })
    }
}

/// What a command line may not hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CommandLineError {
    /// edk2 makes a UTF-16 character of each byte, so a kernel would be given other text than QEMU was.
    #[error("byte {value:#04x} at offset {offset}, expected ASCII without NUL")]
    NotAscii { offset: usize, value: u8 },
    /// systemd-stub 256 reads past the end of such a text.
    #[error("there is nothing in section .cmdline, expected no such section")]
    Blank,
}

/// Returns the load options of a kernel that QEMU has with `text` as command line, where it has any
/// (`QemuLoadKernelImage` of edk2-stable202608 and 202505).
pub(super) fn direct(text: &str, initrd: Option<InitrdArgument>) -> Result<Option<Vec<u8>>, CommandLineError> {
    check(text.as_bytes())?;
    let (before, behind) = match initrd {
        Some(InitrdArgument::Prefix) => ("initrd=initrd ", ""),
        Some(InitrdArgument::Suffix) => ("", " initrd=initrd"),
        None => ("", ""),
    };
    let whole = [before, text, behind].concat();
    Ok((!whole.is_empty()).then(|| utf16(&whole)))
}

/// Returns the load options that systemd-stub makes of a section `.cmdline` (`mangle_stub_cmdline` of systemd 257):
/// control characters are spaces, and those at either end are dropped.
pub(super) fn of_stub(section: &[u8]) -> Result<Vec<u8>, CommandLineError> {
    check(section)?;
    let blank = |byte: u8| byte <= b' ' || byte == 0x7f;
    let text: String = section
        .iter()
        .map(|byte| if blank(*byte) { ' ' } else { char::from(*byte) })
        .collect();
    match text.trim_matches(' ') {
        "" => Err(CommandLineError::Blank),
        text => Ok(utf16(text)),
    }
}

fn check(text: &[u8]) -> Result<(), CommandLineError> {
    let found = text
        .iter()
        .enumerate()
        .find(|(_, byte)| **byte == 0 || !byte.is_ascii());
    match found {
        Some((offset, value)) => Err(CommandLineError::NotAscii { offset, value: *value }),
        None => Ok(()),
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_initrd_argument_is_there_only_with_an_initrd() {
        let options = |text, initrd| direct(text, initrd).unwrap();
        assert_eq!(options("a", None), Some(Vec::from(b"a\0\0\0")));
        assert_eq!(
            options("a", Some(InitrdArgument::Prefix)),
            Some(utf16("initrd=initrd a"))
        );
        assert_eq!(
            options("a", Some(InitrdArgument::Suffix)),
            Some(utf16("a initrd=initrd"))
        );
        assert_eq!(options("", Some(InitrdArgument::Prefix)), Some(utf16("initrd=initrd ")));
        assert_eq!(options("", None), None);
    }

    #[test]
    fn text_that_the_kernel_would_not_get_is_refused() {
        let (offset, value) = (1, 0xc3);
        assert_eq!(
            direct("a\u{e9}", None),
            Err(CommandLineError::NotAscii { offset, value })
        );
        assert_eq!(of_stub(b"\0"), Err(CommandLineError::NotAscii { offset: 0, value: 0 }));
        assert_eq!(of_stub(b" \n"), Err(CommandLineError::Blank));
    }

    #[test]
    fn the_stub_makes_one_line() {
        assert_eq!(of_stub(b"\n a\tb\x7f\n"), Ok(utf16("a b")));
    }
}
