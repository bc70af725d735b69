//! What the data of an event says that the event is about: TCG PC Client Platform Firmware Profile 1.06, section 10.4,
//! and what edk2, systemd-stub and Linux put there.

use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Digests, EventType, Register, Subject};
use crate::Guid;

/// Returns what an event of this type is about. Where the digest is of the data, data that was exchanged says nothing.
pub(super) fn subject(register: Register, kind: EventType, digests: &Digests, data: &[u8]) -> Subject {
    let hashed = || digests.agree(&Digests::of(data));
    match kind {
        EventType::NO_ACTION => locality(data).map_or(Subject::Other, Subject::StartupLocality),
        EventType::S_CRTM_VERSION if hashed() => Subject::FirmwareVersion,
        EventType::EFI_PLATFORM_FIRMWARE_BLOB => Subject::FirmwareVolume,
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 if register == Register::Rtmr(0) => Subject::ConfigurationVolume,
        EventType::EFI_PLATFORM_FIRMWARE_BLOB2 => Subject::FirmwareVolume,
        EventType::EFI_HANDOFF_TABLES2 if register == Register::Rtmr(0) => Subject::TdHob,
        EventType::EFI_HANDOFF_TABLES => Subject::Smbios,
        EventType::PLATFORM_CONFIG_FLAGS => platform(data),
        EventType::EFI_VARIABLE_DRIVER_CONFIG if hashed() => variable(data).map_or(Subject::Other, Subject::SecureBoot),
        EventType::EFI_VARIABLE_BOOT | EventType::EFI_VARIABLE_BOOT2 => variable(data)
            .and_then(|name| boot_variable(&name))
            .unwrap_or(Subject::Other),
        EventType::EFI_VARIABLE_AUTHORITY if hashed() => Subject::Authority,
        EventType::SEPARATOR if hashed() => Subject::Separator,
        EventType::EFI_ACTION if hashed() => Subject::Action(text(data)),
        EventType::EFI_GPT_EVENT if hashed() => Subject::PartitionTable,
        EventType::EFI_BOOT_SERVICES_APPLICATION => Subject::Application,
        EventType::EVENT_TAG => tag(data),
        EventType::IPL => section(digests, data).unwrap_or(Subject::Other),
        _ => Subject::Other,
    }
}

/// `TCG_EfiStartupLocalityEvent`: the TPM was started at this locality, which is what PCR 0 starts with.
fn locality(data: &[u8]) -> Option<u8> {
    match data.strip_prefix(b"StartupLocality\0")? {
        [locality] => Some(*locality),
        _ => None,
    }
}

fn platform(data: &[u8]) -> Subject {
    match data.strip_prefix(b"QEMU FW CFG\0") {
        Some(name) => Subject::FwCfg(text(name)),
        None if data.starts_with(b"ACPI DATA") => Subject::Acpi(String::new()),
        None => Subject::Other,
    }
}

/// Returns the name in a `UEFI_VARIABLE_DATA`.
fn variable(data: &[u8]) -> Option<String> {
    let (header, rest) = VariableData::ref_from_prefix(data).ok()?;
    let length = usize::try_from(header.name_length.get()).ok()?.checked_mul(2)?;
    Some(utf16(rest.get(..length)?))
}

/// The variables that say what is started: `BootOrder` and `Boot0000` to `BootFFFF`.
fn boot_variable(name: &str) -> Option<Subject> {
    match name.strip_prefix("Boot")? {
        "Order" => Some(Subject::BootOrder),
        digits if digits.len() == 4 => u16::from_str_radix(digits, 16).ok().map(Subject::BootOption),
        _ => None,
    }
}

/// `TCG_PCClientTaggedEvent` of the kernel's EFI stub.
fn tag(data: &[u8]) -> Subject {
    let Ok((header, rest)) = Tag::ref_from_prefix(data) else {
        return Subject::Other;
    };
    match header.id.get() {
        LOAD_OPTIONS if rest == b"LOADED_IMAGE::LoadOptions\0" => Subject::CommandLine,
        INITRD if rest == b"Linux initrd\0" => Subject::Initrd,
        _ => Subject::Other,
    }
}

/// systemd-stub measures a section of the UKI in two events that both bear its name: the name, and what is in it.
fn section(digests: &Digests, data: &[u8]) -> Option<Subject> {
    let name = utf16(data);
    let name = name.trim_end_matches('\0');
    if !name.starts_with('.') || name.len() > LONGEST_SECTION || !name.is_ascii() {
        return None;
    }
    let with_nul = [name.as_bytes(), b"\0"].concat();
    let subject = if digests.agree(&Digests::of(with_nul)) {
        Subject::SectionName
    } else {
        Subject::Section
    };
    Some(subject(name.into()))
}

/// Returns text up to the first NUL, the unprintable replaced: a log must not write to a terminal as it likes.
fn text(data: &[u8]) -> String {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let end = end.min(LONGEST_TEXT);
    printable(&String::from_utf8_lossy(&data[..end]))
}

fn utf16(data: &[u8]) -> String {
    let units = data.chunks_exact(2).take(LONGEST_TEXT);
    let units: Vec<u16> = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    let text = String::from_utf16_lossy(&units);
    printable(text.trim_end_matches('\0'))
}

fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// How much of a text is kept, in bytes or UTF-16 units.
const LONGEST_TEXT: usize = 256;

/// Names of PE sections, which systemd-stub measures, in bytes.
const LONGEST_SECTION: usize = 8;

/// `LOAD_OPTIONS_EVENT_TAG_ID` and `INITRD_EVENT_TAG_ID` of Linux (drivers/firmware/efi/libstub/efistub.h).
const LOAD_OPTIONS: u32 = 0x8f3b_22ed;
const INITRD: u32 = 0x8f3b_22ec;

/// `UEFI_VARIABLE_DATA` up to the name.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VariableData {
    guid: Guid,
    /// In UTF-16 units.
    name_length: U64,
    /// In bytes.
    data_length: U64,
}

const _: () = assert!(size_of::<VariableData>() == 32);

/// `TCG_PCClientTaggedEvent` up to its data.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Tag {
    id: U32,
    size: U32,
}

const _: () = assert!(size_of::<Tag>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: EventType, measured: &[u8], data: &[u8]) -> Subject {
        subject(Register::Pcr(1), kind, &Digests::of(measured), data)
    }

    #[test]
    fn data_that_is_not_what_was_measured_says_nothing() {
        let action = |data| of(EventType::EFI_ACTION, b"Exit Boot Services Invocation", data);
        let expected = Subject::Action("Exit Boot Services Invocation".into());
        assert_eq!(action(b"Exit Boot Services Invocation"), expected);
        assert_eq!(action(b"all is well"), Subject::Other);
    }

    #[test]
    fn sections_are_told_from_their_names() {
        let name: Vec<u8> = ".osrel\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(
            of(EventType::IPL, b".osrel\0", &name),
            Subject::SectionName(".osrel".into())
        );
        assert_eq!(
            of(EventType::IPL, b"ID=debian", &name),
            Subject::Section(".osrel".into())
        );
        assert_eq!(of(EventType::IPL, b"grub_cmd", b"grub_cmd\0"), Subject::Other);
    }

    #[test]
    fn a_log_writes_no_control_characters() {
        let data = b"QEMU FW CFG\0\x1b[2Jbootorder\0\0\0";
        let Subject::FwCfg(name) = of(EventType::PLATFORM_CONFIG_FLAGS, b"", data) else {
            panic!("no fw_cfg event")
        };
        assert_eq!(name, "\u{fffd}[2Jbootorder");
    }
}
