use alloc::borrow::ToOwned as _;
use alloc::string::ToString as _;
use alloc::vec::Vec;
use std::io::Write as _;
use std::vec;

use lzma_rust2::{LzmaOptions, LzmaWriter};
use proptest::prelude::*;

use super::*;
use crate::boot::InitrdArgument;
use crate::event_log::Digests;
use crate::ovmf::generation::utf16;
use crate::tdx::SeparatorRegister;
use crate::{Guid, Sha384};

const PE32: u8 = 0x10;
const DRIVER: u8 = 0x07;

/// A section of this kind.
fn section(kind: u8, body: &[u8]) -> Vec<u8> {
    let size = ((body.len() + 4) as u32).to_le_bytes();
    let mut section = [&size[..3], &[kind], body].concat();
    section.resize(section.len().next_multiple_of(4), 0);
    section
}

/// A file of this kind, with a name and a program.
fn file(kind: u8, name: &str, program: &[u8]) -> Vec<u8> {
    let name = section(0x15, &[utf16(name), vec![0, 0]].concat());
    raw_file(kind, &[section(PE32, program), name].concat())
}

fn raw_file(kind: u8, sections: &[u8]) -> Vec<u8> {
    let size = ((sections.len() + 24) as u32).to_le_bytes();
    let mut file = [&[kind; 16][..], &[0, 0, kind, 0], &size[..3], &[0xf8], sections].concat();
    file.resize(file.len().next_multiple_of(8), 0xff);
    file
}

/// A volume of these files, with an extended header.
fn volume(files: &[Vec<u8>]) -> Vec<u8> {
    let body = files.concat();
    let length = (HEADER + body.len() + 32).next_multiple_of(4096);
    let mut volume = vec![0xff; length];
    let header = [
        &[0; 16][..],
        Guid::new(0x8c8ce578_8a3d_4f1c_9935_896185c32dd3).bytes(),
        &(length as u64).to_le_bytes(),
        b"_FVH",
        &[0; 4],
        &56_u16.to_le_bytes(),
        &[0; 2],
        &56_u16.to_le_bytes(),
        &[0, 2],
        NAME.bytes(),
        &20_u32.to_le_bytes(),
    ]
    .concat();
    volume[..header.len()].copy_from_slice(&header);
    volume[HEADER..][..body.len()].copy_from_slice(&body);
    volume
}

const HEADER: usize = (56_usize + 20).next_multiple_of(8);
const NAME: Guid = Guid::new(0x7cb8bdc9_f8eb_4f34_aaea_3ee4af6516a1);

/// A volume whose only file holds `volumes` compressed.
fn packed(volumes: &[Vec<u8>]) -> Vec<u8> {
    let sections: Vec<u8> = volumes.iter().flat_map(|volume| section(0x17, volume)).collect();
    let mut data = Vec::new();
    let options = LzmaOptions::with_preset(1);
    let size = Some(sections.len() as u64);
    let mut writer = LzmaWriter::new_use_header(&mut data, &options, size).unwrap();
    writer.write_all(&sections).unwrap();
    writer.finish().unwrap();
    let guid = Guid::new(0xee4e5898_3914_4259_9d6e_dc7bd79403cf);
    let body = [guid.bytes(), &[24, 0, 1, 0][..], &data].concat();
    volume(&[raw_file(0x0b, &section(0x02, &body))])
}

/// A PEI core whose code sets a variable of its own to the port of Cloud Hypervisor; the variable is its last word.
fn pei_core() -> Vec<u8> {
    let code = [
        &[0x90; 5][..],
        &[0xc7, 0x05, 12, 0, 0, 0],
        &0x608_u32.to_le_bytes(),
        &[0xc3; 12],
    ];
    [code.concat(), vec![0; 4]].concat()
}

fn aligned(texts: &[&str]) -> Vec<u8> {
    let text = |text: &&str| {
        let mut text = [utf16(text), vec![0, 0]].concat();
        text.resize(text.len().next_multiple_of(16), 0);
        text
    };
    [vec![1; 16], texts.iter().flat_map(text).collect()].concat()
}

fn pei() -> Vec<u8> {
    volume(&[
        file(0x04, "PeiCore", &pei_core()),
        file(0x06, "PlatformPei", b"no such event"),
        file(0x06, "Tcg2Pei", &aligned(&["2025.02"])),
    ])
}

fn dxe() -> Vec<u8> {
    volume(&[
        file(0x05, "DxeCore", b""),
        file(DRIVER, "BdsDxe", b"%s initrd=initrd\0"),
        file(DRIVER, "QemuKernelLoaderFsDxe", b"etc/boot/kernel\0"),
        file(DRIVER, "QemuFwCfgAcpiPlatform", b"ACPI DATA\0"),
        file(
            DRIVER,
            "SmbiosPlatformDxe",
            &aligned(&["02/03/2025", "2025.02", "Somebody"]),
        ),
        file(0x09, "UiApp", b""),
    ])
}

/// An image that ends with the table of the default of the image tests.
fn image(volumes: &[Vec<u8>]) -> Vec<u8> {
    let end = crate::ovmf::tests::Image::default().bytes();
    [packed(volumes), end].concat()
}

fn read(bytes: &[u8]) -> Result<Firmware, FirmwareError> {
    Firmware::read(&Ovmf::read(bytes).unwrap())
}

#[test]
fn programs_say_what_they_do() {
    let firmware = read(&image(&[pei(), dxe()])).unwrap();
    let generation = &firmware.generation;
    assert_eq!(generation.fw_cfg_measured, Some(false));
    assert_eq!(generation.initrd_argument, Some(InitrdArgument::Suffix));
    assert_eq!(generation.td_separator, Some(SeparatorRegister::Rtmr1));
    assert_eq!(generation.applications[0].description, "UiApp");
    assert_eq!(generation.applications[0].volume, NAME);
    assert_eq!(generation.shell, None);
    assert_eq!(firmware.texts.version.as_deref(), Some("2025.02"));
    let smbios = firmware.texts.smbios.unwrap();
    assert_eq!(
        [smbios.vendor, smbios.version, smbios.date],
        ["Somebody", "2025.02", "02/03/2025"]
    );
    assert_eq!(firmware.dxe_volume, Digests::of(dxe()));
}

/// The timer of a q35 machine is at port 0x608, as that of Cloud Hypervisor.
#[test]
fn the_pei_volume_is_measured_with_the_port_of_the_timer() {
    let mut expected = pei();
    let variable = expected
        .windows(8)
        .position(|bytes| bytes == [0xc3, 0xc3, 0xc3, 0xc3, 0, 0, 0, 0]);
    expected[variable.unwrap() + 4..][..2].copy_from_slice(&[8, 6]);
    let firmware = read(&image(&[pei(), dxe()])).unwrap();
    assert_eq!(firmware.pei_volume, Some(Digests::of(&expected)));
    assert_ne!(firmware.pei_volume, Some(Digests::of(pei())));
}

#[test]
fn what_programs_do_not_say_is_not_guessed() {
    let silent = volume(&[file(0x05, "DxeCore", b"")]);
    let firmware = read(&image(&[silent])).unwrap();
    let generation = firmware.generation;
    assert_eq!(generation.fw_cfg_measured, None);
    assert_eq!(generation.acpi_measured, None);
    assert_eq!(generation.initrd_argument, None);
    assert_eq!(generation.td_separator, None);
    assert_eq!(firmware.pei_volume, None);
    assert_eq!((firmware.texts.version, firmware.texts.smbios), (None, None));
}

#[test]
fn images_without_drivers_are_refused() {
    assert_eq!(read(&image(&[pei()])), Err(FirmwareError::NoDxeCore));
}

#[test]
fn a_bomb_is_refused_before_it_is_unpacked() {
    let mut bytes = image(&[pei(), dxe()]);
    let guid = Guid::new(0xee4e5898_3914_4259_9d6e_dc7bd79403cf);
    let header = bytes.windows(16).position(|bytes| bytes == guid.bytes()).unwrap() + 20;
    bytes[header + 5..][..8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    let error = read(&bytes).unwrap_err().to_string();
    assert!(
        error.ends_with("asks for 1099511627776 bytes, expected at most 67108864 in all"),
        "{error}"
    );
}

proptest! {
    /// The volumes are in the first pages: the last two hold the table.
    #[test]
    fn damaged_images_are_read_or_refused(place in 0_usize..1 << 12, value: u8, kept in 0_usize..1 << 12) {
        let mut bytes = image(&[pei(), dxe()]);
        let end = bytes.len() - 0x2000;
        bytes[place % end] = value;
        bytes[kept.max(64)..end].fill(0);
        let _ = read(&bytes);
    }

    #[test]
    fn damaged_volumes_are_read_or_refused(place in 0_usize..1 << 12, value: u8) {
        let mut dxe = dxe();
        let place = place % dxe.len();
        dxe[place] = value;
        let _ = read(&image(&[pei(), dxe]));
    }
}

/// The store of variables of a machine with one key, one deleted variable and one in the midst of being replaced.
fn store(variables: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let variable = |(name, state, data): &(&str, u8, &[u8])| {
        let name = [utf16(name), vec![0, 0]].concat();
        let sizes = [name.len(), data.len()].map(|size| (size as u32).to_le_bytes());
        let vendor = Guid::new(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);
        let mut variable = [
            &[0xaa, 0x55, *state, 0][..],
            &[0; 32],
            sizes.as_flattened(),
            vendor.bytes(),
            &name,
            data,
        ]
        .concat();
        variable.resize(variable.len().next_multiple_of(4), 0xff);
        variable
    };
    let body: Vec<u8> = variables.iter().flat_map(variable).collect();
    let length = 0x2000;
    let header = [
        &[0; 16][..],
        Guid::new(0xfff12b8d_7696_4c8b_a985_2747075b4f50).bytes(),
        &(length as u64).to_le_bytes(),
        b"_FVH\0\0\0\0",
        &56_u16.to_le_bytes(),
        &[0; 6],
        Guid::new(0xaaf32c78_947b_439a_a180_2e144ec37792).bytes(),
        &0x1000_u32.to_le_bytes(),
        &[0x5a, 0xfe, 0, 0, 0, 0, 0, 0],
    ]
    .concat();
    let mut store = [header, body].concat();
    store.resize(length, 0xff);
    store
}

#[test]
fn variables_that_were_not_deleted_count() {
    let bytes = store(&[
        ("PK", 0x3d, b"deleted"),
        ("KEK", 0x3e, b"old"),
        ("PK", 0x3f, b"key"),
        ("KEK", 0x3f, b"new"),
    ]);
    let variables = SecureBoot::read(&bytes, true).unwrap();
    assert_eq!(
        [&variables.platform_key[..], &variables.key_exchange_keys],
        [&b"key"[..], b"new"]
    );
    let bytes = store(&[("KEK", 0x3e, b"old")]);
    assert_eq!(SecureBoot::read(&bytes, true).unwrap().key_exchange_keys, b"old");
    assert_eq!(SecureBoot::read(&bytes[16..], true), Ok(SecureBoot::unenrolled(true)));
}

/// Appendix A of the reference page: SecureBoot absent, 0 and 1.
#[test]
fn secure_boot_is_absent_off_or_on() {
    let first = |variables: &SecureBoot| {
        let events = variables.events(crate::event_log::Register::Pcr(7));
        events[0]
            .digests
            .sha384
            .map(|digest: Sha384| digest.to_string()[..8].to_owned())
    };
    let enrolled = SecureBoot::read(&store(&[("PK", 0x3f, b"key")]), true).unwrap();
    let states = [SecureBoot::unenrolled(false), SecureBoot::unenrolled(true), enrolled];
    let digests = states.each_ref().map(first);
    assert_eq!(
        digests,
        ["9dc3a1f8", "cfa4e2c6", "2cded0c6"].map(|digest| Some(digest.into()))
    );
}

proptest! {
    #[test]
    fn damaged_stores_are_read_or_refused(place in 0_usize..400, value: u8, kept in 0_usize..0x2000) {
        let mut bytes = store(&[("PK", 0x3f, b"key"), ("db", 0x3f, b"signatures")]);
        bytes[place] = value;
        let _ = SecureBoot::read(&bytes, true);
        let _ = SecureBoot::read(&bytes[..kept], true);
    }
}
