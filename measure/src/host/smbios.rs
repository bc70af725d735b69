//! The event about the SMBIOS table (DMTF DSP0134 3.7, section 6): edk2-stable202508,
//! MdeModulePkg/Universal/SmbiosMeasurementDxe and OvmfPkg/SmbiosPlatformDxe.

use alloc::vec::Vec;

use super::{Host, HostError, SmbiosTexts};
use crate::event_log::{Digests, Event, EventType, Register, Subject};

/// Returns the event about the table that the firmware makes of the host's structures.
pub(crate) fn smbios_event(host: &Host, texts: Option<&SmbiosTexts>, register: Register) -> Result<Event, HostError> {
    Ok(Event {
        register,
        kind: EventType::EFI_HANDOFF_TABLES,
        subject: Subject::Smbios,
        digests: Digests::of(table(host.file("etc/smbios/smbios-tables")?, texts)?),
    })
}

/// Returns the table without what identifies a machine: the host's structures, the firmware's own if the host has none of
/// its type, and the end.
fn table(host: &[u8], texts: Option<&SmbiosTexts>) -> Result<Vec<u8>, HostError> {
    let mut table = Vec::with_capacity(host.len());
    let mut rest = host;
    let mut bios = false;
    while !rest.is_empty() {
        let offset = host.len() - rest.len();
        let (structure, tail) = split(rest).ok_or(HostError::Smbios { offset })?;
        if structure[0] == END[0] {
            break;
        }
        bios |= structure[0] == BIOS_HEAD[0];
        let start = table.len();
        table.extend_from_slice(structure);
        blank(&mut table[start..]);
        rest = tail;
    }
    if !bios {
        let texts = texts.ok_or(HostError::NoFirmwareTexts)?;
        table.extend(BIOS_HEAD);
        for text in [&texts.vendor, &texts.version, &texts.date] {
            table.extend_from_slice(text.as_bytes());
            table.push(0);
        }
        table.push(0);
    }
    table.extend(END);
    Ok(table)
}

/// Returns the first structure, its strings included, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(*bytes.get(1)?);
    let strings = bytes.get(length..).filter(|_| length >= HEADER)?;
    let end = strings.windows(2).position(|pair| pair == [0, 0])?;
    bytes.split_at_checked(length + end + 2)
}

/// Takes out of a structure what identifies a machine or changes while it runs.
fn blank(structure: &mut [u8]) {
    let whole = [11, 15, 18, 31, 33].contains(&structure[0]) || structure[0] >= OEM;
    if whole {
        structure[HEADER..].fill(0);
        return;
    }
    let (_, fields) = FIELDS
        .iter()
        .find(|(kind, _)| *kind == structure[0])
        .unwrap_or(&(0, &[]));
    for field in *fields {
        match *field {
            Field::Text(offset) => blank_text(structure, offset),
            Field::Number(offset, size) => clear(structure, offset, size),
        }
    }
}

/// Zeroes a field, if the structure is long enough to have it.
fn clear(structure: &mut [u8], offset: usize, size: usize) {
    let length = usize::from(structure[1]);
    if offset + size <= length {
        structure[offset..offset + size].fill(0);
    }
}

/// Overwrites a string with spaces and zeroes its number.
fn blank_text(structure: &mut [u8], offset: usize) {
    let length = usize::from(structure[1]);
    if offset >= length {
        return;
    }
    let number = usize::from(structure[offset]);
    let (fields, strings) = structure.split_at_mut(length);
    fields[offset] = 0;
    let mut texts = strings.split_mut(|byte| *byte == 0);
    if let Some(text) = number.checked_sub(1).and_then(|before| texts.nth(before)) {
        text.fill(b' ');
    }
}

/// A field by its offset.
enum Field {
    Text(usize),
    /// And its size.
    Number(usize, usize),
}

/// By type of structure: `mSmbiosFilterStandardTableBlackList`.
const FIELDS: &[(u8, &[Field])] = &[
    (1, &[Field::Text(7), Field::Number(8, 16), Field::Number(24, 1)]),
    (2, &[Field::Text(7), Field::Number(10, 1)]),
    (3, &[Field::Text(7), Field::Text(8)]),
    (
        4,
        &[
            Field::Text(32),
            Field::Text(33),
            Field::Text(34),
            Field::Number(35, 3),
            Field::Number(42, 6),
            Field::Number(17, 1),
            Field::Number(22, 2),
        ],
    ),
    (17, &[Field::Text(24), Field::Text(25), Field::Text(26)]),
    (22, &[Field::Text(7), Field::Number(16, 2), Field::Number(18, 2)]),
    (23, &[Field::Number(5, 2)]),
    (27, &[Field::Number(12, 2)]),
    (39, &[Field::Text(8), Field::Text(9), Field::Text(10)]),
];

/// Types from here on are for vendors.
const OEM: u8 = 128;

/// Type, length and handle.
const HEADER: usize = 4;

/// The structure of type 0 before its strings: `SMBIOS_TABLE_TYPE0` in OvmfPkg/SmbiosPlatformDxe/SmbiosPlatformDxe.c,
/// whose handle is the first that is free.
const BIOS_HEAD: [u8; 26] = [
    0, 26, 0, 0, // handle 0
    1, 2, 0, 0xe8, 3, 0, // vendor, version, segment 0xe800, date, size
    8, 0, 0, 0, 0, 0, 0, 0, // characteristics: not supported
    0, 0x1c, // extended characteristics: UEFI, virtual machine, targeted content
    0, 0, // release
    0xff, 0xff, // embedded controller: none
    0, 0, // extended size
];

/// The structure of type 127.
const END: [u8; 6] = [127, 4, 0xff, 0xfe, 0, 0];

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn texts() -> SmbiosTexts {
        SmbiosTexts {
            vendor: "V".into(),
            version: "1".into(),
            date: "01/02/2026".into(),
        }
    }

    #[test]
    fn what_identifies_a_machine_is_blank_and_the_rest_is_not() {
        let system = |serial: &[u8]| [&[1, 27, 0, 1, 1, 0, 0, 2][..], &[7; 19], b"QEMU\0", serial, b"\0\0"].concat();
        let vendor = |secret: &[u8]| [&[130, 4, 0, 2][..], secret, b"\0\0"].concat();
        let table = |serial: &[u8], secret: &[u8]| {
            let host = [system(serial), vendor(secret), END.into()].concat();
            super::table(&host, Some(&texts())).unwrap()
        };
        assert_eq!(table(b"A1", b"x"), table(b"B2", b"y"));
        assert_ne!(table(b"A1", b"x"), table(b"A10", b"x")); // the length stays
        let expected = [
            &[1, 27, 0, 1, 1, 0, 0, 0][..],
            &[0; 17],
            &[7, 7],
            b"QEMU\0  \0\0",
            &[130, 4, 0, 2, 0, 0, 0],
            &BIOS_HEAD,
            b"V\x001\x0001/02/2026\0\0",
            &END,
        ];
        assert_eq!(table(b"A1", b"x"), expected.concat());
    }

    #[test]
    fn a_host_with_its_own_type_0_needs_no_texts() {
        let host = [&BIOS_HEAD[..], b"V\0\0", &END].concat();
        assert_eq!(table(&host, None), Ok(host));
        assert_eq!(table(&END, None), Err(HostError::NoFirmwareTexts));
    }

    #[test]
    fn damaged_structures_are_named() {
        for (bytes, offset) in [
            (vec![1, 3, 0, 0, 0, 0], 0),
            ([&[9, 4, 0, 0, 0, 0][..], &[1, 200]].concat(), 6),
        ] {
            assert_eq!(table(&bytes, None), Err(HostError::Smbios { offset }));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in vec(any::<u8>(), 0..300), text in "[ -~]{0,8}") {
            let texts = SmbiosTexts { vendor: String::from(&text), version: text.clone(), date: text };
            let _ = table(&bytes, Some(&texts));
        }
    }
}
