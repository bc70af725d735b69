use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Where the section table of [`image`] starts.
const TABLE: usize = 0x40 + 24 + 112 + 6 * 8;

/// Returns a PE32+ image with these sections, each filled up to 512 bytes and mapped to 64 KiB of its own.
pub(crate) fn image(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0\x64\x86");
    put(0x46, &(sections.len() as u16).to_le_bytes());
    put(0x54, &(112_u16 + 6 * 8).to_le_bytes());
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 56, &0x1000_0000_u32.to_le_bytes());
    put(0x58 + 60, &0x1000_u32.to_le_bytes());
    put(0x58 + 64, &0xdead_beef_u32.to_le_bytes());
    put(0x58 + 68, &[10]);
    put(0x58 + 108, &[6]);
    let mut offset = 0x1000;
    for (index, (name, data)) in sections.iter().enumerate() {
        let header = TABLE + 40 * index;
        let filled = data.len().next_multiple_of(512);
        put(header, name.as_bytes());
        for (field, value) in [data.len(), (index + 1) << 16, filled, offset].into_iter().enumerate() {
            put(header + 8 + 4 * field, &(value as u32).to_le_bytes());
        }
        offset += filled;
    }
    for (_, data) in sections {
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes
}

fn example() -> Vec<u8> {
    image(&[(".text", b"code"), (".data", b"data")])
}

fn changed(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut image = example();
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
    image
}

fn digests(bytes: &[u8]) -> Digests {
    Pe::read(bytes).unwrap().authenticode()
}

#[test]
fn sections_are_read() {
    let bytes = image(&[(".text", b"code"), (".sdmagic", b"twelve chars")]);
    let pe = Pe::read(&bytes).unwrap();
    let [text, magic] = pe.sections() else { panic!() };
    assert_eq!(
        (text.name(), text.virtual_size, text.data.len()),
        (&b".text"[..], 4, 512)
    );
    assert_eq!((magic.name(), magic.virtual_size), (&b".sdmagic"[..], 12));
    assert_eq!(&magic.data[..13], b"twelve chars\0");
}

/// Headers but checksum and certificate entry, sections, and what follows them.
#[test]
fn checksum_and_certificate_do_not_count() {
    let bytes = example();
    let mut expected = Hasher::default();
    expected.update(&bytes[..0x98]);
    expected.update(&bytes[0x9c..0xc8 + 32]);
    expected.update(&bytes[0xc8 + 40..]);
    let expected = expected.finish();
    assert_eq!(digests(&bytes), expected);
    assert_eq!(digests(&changed(0x98, b"sum!")), expected);

    let mut signed = changed(0xe8, &[(0x1400_u32).to_le_bytes(), 8_u32.to_le_bytes()].concat());
    signed.extend_from_slice(b"8 bytes.");
    assert_eq!(digests(&signed), expected);
    assert!(!Pe::read(&signed).unwrap().is_signed());
}

#[test]
fn a_signature_is_told_from_bytes_in_its_place() {
    let with = |certificate: &[u8]| {
        let size = certificate.len() as u32;
        let mut bytes = changed(0xe8, &[0x1400_u32.to_le_bytes(), size.to_le_bytes()].concat());
        bytes.extend_from_slice(certificate);
        Pe::read(&bytes).unwrap().is_signed()
    };
    assert!(!Pe::read(&example()).unwrap().is_signed());
    assert!(with(b"\x0a\0\0\0\x00\x02\x02\x00\x30\x00\0\0\0\0\0\0"));
    for other in [
        &b"\x0b\0\0\0\x00\x02\x02\x00\x30\x00"[..], // longer than what is there
        b"\x07\0\0\0\x00\x02\x02\x00\x30\x00",      // shorter than its own fields
        b"\x08\0\0\0\x00\x02\x02\x00\x30\x00",      // empty
        b"\x0a\0\0\0\x00\x01\x02\x00\x30\x00",      // revision 1.0
        b"\x0a\0\0\0\x00\x02\xf0\x0e\x30\x00",      // WIN_CERT_TYPE_EFI_PKCS115
        b"\x0a\0\0\0\x00\x02\x02\x00\x31\x00",      // no sequence
        b"\x0a\0\0",
    ] {
        assert!(!with(other), "{other:x?}");
    }
}

#[test]
fn what_follows_the_sections_counts_without_padding() {
    let longer = |tail: &[u8]| digests(&[&example(), tail].concat());
    assert_ne!(longer(b"x"), digests(&example()));
    assert_ne!(longer(b"x"), longer(b"x\0\0\0\0\0\0\0"));
}

/// A directory of four entries has none for the certificates: everything behind the checksum counts.
#[test]
fn images_without_a_certificate_entry_are_hashed_whole() {
    let mut bytes = changed(0x58 + 108, &[4]);
    bytes[0x54] = 112 + 4 * 8;
    let mut headers = bytes[TABLE..TABLE + 80].to_vec();
    headers.resize(96, 0);
    bytes[TABLE - 16..TABLE + 80].copy_from_slice(&headers);
    let mut expected = Hasher::default();
    expected.update(&bytes[..0x98]);
    expected.update(&bytes[0x9c..]);
    assert_eq!(digests(&bytes), expected.finish());
}

#[test]
fn lying_headers_are_refused() {
    for (offset, bytes, field) in [
        (0x46, &[0xff, 0xff][..], "SizeOfHeaders"),
        (0x54, &[0], "SizeOfOptionalHeader"),
        (0x58, &[0], "magic of the optional header"),
        (0x58 + 56, &[0, 0x10, 0, 0], "SizeOfHeaders"),
        (0x58 + 60, &[0, 0, 1, 0], "SizeOfHeaders"),
        (0x58 + 60, &[0xf8, 0, 0, 0], "SizeOfHeaders"),
        (0x58 + 68, &[11], "Subsystem"),
        (0x58 + 108, &[17], "NumberOfRvaAndSizes"),
        (0xe8, &[0, 0x12, 0, 0, 0, 2, 0, 0], "size of the certificates"),
        (TABLE + 12, &[0, 0, 0, 0], "VirtualAddress"),
        (TABLE + 20, &[0xff, 0x0f, 0, 0], "PointerToRawData"),
    ] {
        // what ends the file is a certificate only where something is left of it
        let image = [changed(offset, bytes), vec![0; 8]].concat();
        let error = Pe::read(&image).unwrap_err();
        assert!(
            matches!(error, PeError::Field(FieldError::Value { field: found, .. }) if found == field),
            "{field}: {error}"
        );
    }
    assert_eq!(
        Pe::read(&changed(TABLE + 20, &[0, 0x12])).unwrap_err(),
        PeError::Overlap { offset: 0x1200 }
    );
    assert!(matches!(
        Pe::read(&changed(0x3c, &[0x41])),
        Err(PeError::Signature { .. })
    ));
    assert!(matches!(
        Pe::read(b"MZ"),
        Err(PeError::Field(FieldError::Truncated { .. }))
    ));
}

proptest! {
    #[test]
    fn every_measured_bit_counts(at in 0_usize..0x1400, bit in 0..8) {
        let bytes = example();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1_u8 << bit;
        let unmeasured = (0x98..0x9c).contains(&at) || (0xe8..0xf0).contains(&at);
        match Pe::read(&flipped) {
            Ok(pe) if unmeasured => prop_assert_eq!(pe.authenticode(), digests(&bytes)),
            Ok(pe) => prop_assert_ne!(pe.authenticode(), digests(&bytes)),
            Err(_) => prop_assert!(at < 0x400),
        }
    }

    #[test]
    fn no_image_makes_the_reader_panic(noise in proptest::collection::vec((0_usize..0x150, any::<u8>()), 1..8), length in 0_usize..0x1401) {
        let mut bytes = example();
        for (at, value) in noise {
            bytes[at] = value;
        }
        for bytes in [&bytes[..], &bytes[..length]] {
            let _ = Pe::read(bytes).map(|pe| pe.authenticode());
        }
    }
}
