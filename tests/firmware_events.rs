//! What firmware measures of itself and of the machine, against the logs of real boots: QEMU with a TPM, and real TDs.
//!
//! The data is not part of the repository: where it is absent, each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lzma_rust2::XzReader;
use measure::Sha256;
use measure::boot::{BootEvents, InitrdArgument};
use measure::event_log::{Digests, Event, EventLog, EventType, Register, Subject};
use measure::host::{Boot, Host, VirtioBlk};
use measure::ovmf::{Firmware, Ovmf, SecureBoot};
use measure::tdx::SeparatorRegister;
use measure::tdx::{rtmr0, td_hob_event};
use measure::tpm::firmware_events;
use serde_json::Value;

const STABLE: &str = "OVMF-2025.02.fd";
const OLD: &str = "OVMF-2022.11.fd";
const NEW: &str = "OVMF_CODE_4M-2026.08.fd";
const TDX: &str = "OVMF.inteltdx.ms-2026.08.fd";

/// Registers that only the firmware extends, and nothing that was started.
const OURS: [Register; 6] = [
    Register::Pcr(0),
    Register::Pcr(1),
    Register::Pcr(2),
    Register::Pcr(3),
    Register::Pcr(6),
    Register::Pcr(7),
];

#[test]
fn every_event_of_local_boots_is_predicted() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, NEW);
    let firmware = Firmware::read(&Ovmf::read(&image).unwrap()).unwrap();
    for (run, boot) in [
        ("A", Boot::Direct),
        ("C", Boot::Direct),
        ("U", disk(1)),
        ("U2", disk(1)),
        ("V1", disk(1)),
        ("V2", disk(1)),
    ] {
        let folder = vectors.join("tdx/local").join(run);
        let host = Host { boot, ..host(&folder) };
        let predicted = firmware_events(&firmware, &firmware.secure_boot, Some(&host)).unwrap();
        assert_eq!(
            facts(&predicted, &[]),
            facts(&observed(&folder.join("tpmlog")), &[]),
            "{run}"
        );
        let tampered = Host {
            files: changed(&host.files),
            ..host
        };
        let tampered = firmware_events(&firmware, &firmware.secure_boot, Some(&tampered)).unwrap();
        assert_ne!(facts(&tampered, &[]), facts(&predicted, &[]), "{run}");
    }
}

/// The ACPI tables of these boots were not kept, nor the firmware of T2, of which there is another build.
#[test]
fn boots_of_older_firmware_are_predicted() {
    let Some(vectors) = vectors() else { return };
    let tables = EventType::PLATFORM_CONFIG_FLAGS;
    for (run, name, unknown) in [
        ("T1", STABLE, &[tables][..]),
        ("T2", OLD, &[EventType::EFI_PLATFORM_FIRMWARE_BLOB]),
    ] {
        let image = image(&vectors, name);
        let firmware = Firmware::read(&Ovmf::read(&image).unwrap()).unwrap();
        let host = Host {
            files: BTreeMap::from([("etc/table-loader".into(), Vec::new())]),
            ..Host::default()
        };
        let variables = SecureBoot::unenrolled(firmware.generation.secure_boot);
        let predicted = firmware_events(&firmware, &variables, Some(&host)).unwrap();
        let log = observed(&vectors.join("tdx/local").join(run).join("tpmlog"));
        assert_eq!(facts(&predicted, unknown), facts(&log, unknown), "{run}");
    }
}

/// Two boots with two disks, of which QEMU names one to boot from.
#[test]
fn boots_with_bootindex_are_predicted() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, NEW);
    let firmware = Firmware::read(&Ovmf::read(&image).unwrap()).unwrap();
    let mut host = host(&vectors.join("tdx/local/A"));
    for (run, boot, bootorder) in [
        ("disk-uki", disks(&[2, 3]), "/pci@i0cf8/scsi@2/disk@0,0\0"),
        (
            "direct",
            Boot::Direct,
            "/pci@i0cf8/scsi@2/disk@0,0\n/rom@genroms/linuxboot_dma.bin\0",
        ),
    ] {
        host.boot = boot;
        host.files.insert("bootorder".into(), bootorder.into());
        let predicted = firmware_events(&firmware, &firmware.secure_boot, Some(&host)).unwrap();
        let log = observed(&vectors.join("tpm-logs").join(run).join("eventlog.bin"));
        let tables = [EventType::PLATFORM_CONFIG_FLAGS];
        assert_eq!(facts(&predicted, &tables), facts(&log, &tables), "{run}");
    }
}

/// Digests of variables that edk2 2025.02 of Debian measured or left in its flash under QEMU 10.0.13: one disk with a GPT,
/// then two.
#[test]
fn disks_have_names_in_the_order_of_their_finding() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, STABLE);
    let firmware = Firmware::read(&Ovmf::read(&image).unwrap()).unwrap();
    let options = |slots: &[u8], bootorder: &str| {
        let files = [("etc/table-loader", ""), ("bootorder", bootorder)];
        let host = Host {
            files: files.map(|(name, text)| (name.into(), text.into())).into(),
            boot: disks(slots),
            ..Host::default()
        };
        let log = firmware_events(&firmware, &firmware.secure_boot, Some(&host)).unwrap();
        let options = log
            .events
            .into_iter()
            .filter(|event| event.kind == EventType::EFI_VARIABLE_BOOT);
        options
            .map(|event| event.digests.sha384.unwrap().to_string()[..8].to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(options(&[1], ""), ["a86aca8a", "23ada07f", "1f880024", "f0fb2cdc"]);
    let two = |bootorder| options(&[1, 2], bootorder);
    assert_eq!(two(""), ["a97633e9", "23ada07f", "1f880024", "9ad2fb51", "f0fb2cdc"]);
    let one = "/pci@i0cf8/scsi@2/disk@0,0\0";
    assert_eq!(two(one), ["8b688b86", "b2e2a1b3", "23ada07f", "f0fb2cdc"]);
    let both = "/pci@i0cf8/scsi@2/disk@0,0\n/pci@i0cf8/scsi@1/disk@0,0\0";
    assert_eq!(two(both), ["69fab512", "b2e2a1b3", "71430ea0", "23ada07f", "f0fb2cdc"]);
}

/// What `fwprobe.py` and the volumes say, and for AMD SEV what a memory dump of QEMU 10.0.13 has as PEI volume.
#[test]
fn generations_are_told_apart() {
    let Some(vectors) = vectors() else { return };
    let read = |name| Firmware::read(&Ovmf::read(&image(&vectors, name)).unwrap()).unwrap();
    let [old, stable, new, sev, tdx] = [OLD, STABLE, NEW, "OVMF.amdsev-2026.08.fd", TDX].map(read);
    for (firmware, measures, prefix) in [
        (&old, false, false),
        (&stable, false, false),
        (&new, true, true),
        (&sev, true, true),
        (&tdx, true, true),
    ] {
        assert_eq!(firmware.generation.fw_cfg_measured, Some(measures));
        let prefix = if prefix {
            InitrdArgument::Prefix
        } else {
            InitrdArgument::Suffix
        };
        assert_eq!(firmware.generation.initrd_argument, Some(prefix));
    }
    let separators = [&old, &stable, &tdx].map(|firmware| firmware.generation.td_separator);
    assert_eq!(
        separators,
        [
            Some(SeparatorRegister::Rtmr0),
            Some(SeparatorRegister::Rtmr1),
            Some(SeparatorRegister::Rtmr1)
        ]
    );
    let tcg2 = [&old, &stable, &tdx].map(|firmware| (firmware.generation.tcg2, firmware.generation.td_tcg2));
    assert_eq!(tcg2, [(true, false), (true, true), (false, true)]);
    assert_eq!(old.pei_volume, None);
    let volume = sev.pei_volume.unwrap().sha384.unwrap().to_string();
    assert_eq!(&volume[..16], "a2cc168f9881d238");
    let descriptions = |firmware: &Firmware| {
        let applications = firmware.generation.applications.iter();
        applications.map(|it| it.description.clone()).collect::<Vec<_>>()
    };
    assert_eq!(descriptions(&stable), ["UiApp"]);
    assert_eq!(descriptions(&sev), ["BootManagerMenuApp", "EFI Firmware Setup"]);
    assert_eq!(descriptions(&tdx), ["BootManagerMenuApp"]);
}

#[test]
fn memory_lists_are_those_of_the_reference() {
    let Some(vectors) = vectors() else { return };
    let known: Value = json(&vectors.join("tdx/local/firmware.json"));
    let images = ["OVMF-2022.11.fd", STABLE, "OVMF-2026.08.fd", TDX].map(|name| image(&vectors, name));
    let images: BTreeMap<String, Vec<u8>> = images.map(|image| (Sha256::of(&image).to_string(), image)).into();
    for firmware in known["firmware"].as_object().unwrap().values() {
        let image = Ovmf::read(&images[firmware["sha256"].as_str().unwrap()]).unwrap();
        for (mebibytes, digest) in firmware["td_hob_by_MiB"].as_object().unwrap() {
            let event = td_hob_event(&image, mebibytes.parse::<u64>().unwrap() << 20).unwrap();
            assert_eq!(
                event.digests.sha384.unwrap().to_string(),
                digest.as_str().unwrap(),
                "{mebibytes}"
            );
        }
    }
}

/// Two TDs of QEMU with the memory map of Debian's build for TDX: 2 GiB and 10 GiB.
#[test]
fn memory_lists_are_those_of_real_tds() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, TDX);
    let image = Ovmf::read(&image).unwrap();
    for (log, gibibytes) in [("ovmf", 2), ("grub", 10)] {
        let log = observed(&vectors.join(format!("tdx/trustee/eventlog-CCEL_data_{log}")));
        let hob = td_hob_event(&image, gibibytes << 30).unwrap();
        assert_eq!(log.events[0].digests.sha384, hob.digests.sha384);
        assert_eq!(log.events[0].kind, hob.kind);
    }
}

/// Two TDs that booted directly, without keys: dstack's with edk2 202502, trustee's with one that still has its separator
/// in RTMR0. Memory and tables were not kept, the firmware is another build of the same variables.
#[test]
fn events_of_real_tds_are_predicted() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, STABLE);
    let image = Ovmf::read(&image).unwrap();
    let mut firmware = Firmware::read(&image).unwrap();
    let host = Host {
        memory: 2 << 30,
        files: BTreeMap::from([("etc/table-loader".into(), Vec::new())]),
        ..Host::default()
    };
    for (log, separator) in [
        ("dstack/ccel.bin", SeparatorRegister::Rtmr1),
        ("trustee/eventlog-CCEL_data_ovmf", SeparatorRegister::Rtmr0),
    ] {
        firmware.generation.td_separator = Some(separator);
        let predicted = rtmr0(&image, &firmware, Some(&host)).unwrap();
        let log = observed(&vectors.join("tdx").join(log));
        // measurement register 1 of a log is RTMR0
        let sha384 = |event: &Event| (event.kind, event.digests.sha384);
        let unknown = [EventType::EFI_HANDOFF_TABLES2, EventType::PLATFORM_CONFIG_FLAGS];
        let known = |event: &&Event| !unknown.contains(&event.kind);
        let observed: Vec<_> = log.of(Register::Pcr(1)).filter(known).map(sha384).collect();
        let predicted: Vec<_> = predicted.events.iter().filter(known).map(sha384).collect();
        assert_eq!(predicted, observed);
    }
}

/// The list of dstack 0.5.10 (edk2 202505), which says the same as our run A of what does not depend on the machine.
#[test]
fn rtmr0_has_the_events_of_dstack() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, "OVMF-2026.08.fd");
    let image = Ovmf::read(&image).unwrap();
    let firmware = Firmware::read(&image).unwrap();
    let host = host(&vectors.join("tdx/local/A"));
    let log = rtmr0(&image, &firmware, Some(&host)).unwrap();
    let whole = measure::tdx::log(
        &image,
        &firmware,
        Some(&host),
        BootEvents::default(),
        SeparatorRegister::Rtmr1,
    );
    let sha384 = |log: &EventLog| log.events.iter().map(|event| event.digests.sha384).collect::<Vec<_>>();
    let (whole, own) = (whole.unwrap(), sha384(&log));
    assert_eq!(sha384(&whole)[..own.len()], own);
    assert!(whole.events.iter().all(|event| event.digests.sha256.is_none()));
    let found: Vec<(Subject, String)> = log
        .events
        .iter()
        .map(|event| {
            (
                event.subject.clone(),
                event.digests.sha384.unwrap().to_string()[..8].to_owned(),
            )
        })
        .collect();
    let secure_boot = |name: &str| Subject::SecureBoot(name.into());
    let acpi = |name: &str| Subject::Acpi(format!("etc/{name}"));
    let expected = [
        (Subject::TdHob, "c699e77f"),
        (Subject::ConfigurationVolume, "344bc51c"),
        (Subject::FwCfg("BootMenu".into()), "1dd6f7b4"),
        (Subject::FwCfg("bootorder".into()), "53d3dbc0"),
        (secure_boot("SecureBoot"), "9dc3a1f8"),
        (secure_boot("PK"), "6f2e3cbc"),
        (secure_boot("KEK"), "d607c0ef"),
        (secure_boot("db"), "08a74f89"),
        (secure_boot("dbx"), "18cc6e01"),
        (Subject::Separator, "394341b7"),
        (acpi("table-loader"), "21406c0b"),
        (acpi("acpi/rsdp"), "d844ee4d"),
        (acpi("tpm/log"), "69fca469"),
        (acpi("acpi/tables"), "a865741f"),
        (Subject::Smbios, "d4906d61"),
        (Subject::BootOrder, "52b9a02d"),
        (Subject::BootOption(0), "5068e6a9"),
        (Subject::BootOption(1), "dd424f2e"),
    ];
    assert_eq!(found, expected.map(|(subject, digest)| (subject, digest.to_owned())));
    let alone = rtmr0(&image, &firmware, None).unwrap();
    assert_eq!(alone.events.len(), 7);
    assert!(alone.events.iter().all(|event| log.events.contains(event)));
}

/// Keys of Debian's build for TDX: sizes as a reader in Python finds them; SecureBoot = 1 of the reference page.
#[test]
fn enrolled_keys_are_read() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, TDX);
    let image = Ovmf::read(&image).unwrap();
    let firmware = Firmware::read(&image).unwrap();
    let keys = &firmware.secure_boot;
    let sizes = [
        &keys.platform_key,
        &keys.key_exchange_keys,
        &keys.signatures,
        &keys.forbidden_signatures,
    ];
    assert_eq!(sizes.map(Vec::len), [1005, 4071, 7636, 21292]);
    let log = rtmr0(&image, &firmware, None).unwrap();
    let enabled = log
        .events
        .iter()
        .find(|event| event.subject == Subject::SecureBoot("SecureBoot".into()));
    let digest = enabled.unwrap().digests.sha384.unwrap().to_string();
    assert_eq!(&digest[..8], "2cded0c6");
}

#[test]
fn damaged_images_are_refused_or_read_quickly() {
    let Some(vectors) = vectors() else { return };
    let image = image(&vectors, STABLE);
    for step in 0..16 {
        let mut flipped = image.clone();
        let place = 0x8_4000 + step * 997 * step; // headers first, then compressed data
        flipped[place] ^= 0x10;
        let shorter = image[image.len() / 16 * step..].to_vec();
        for bytes in [flipped, shorter] {
            let start = Instant::now();
            let _ = Ovmf::read(&bytes).map(|image| Firmware::read(&image));
            assert!(start.elapsed() < Duration::from_secs(10));
        }
    }
}

/// The events of the registers that are ours, without those of these types, as far as a log has them.
///
/// A stub of systemd 261 or newer measures SMBIOS structures into PCR 1: those are not the firmware's.
fn facts(log: &EventLog, without: &[EventType]) -> Vec<(Register, EventType, Digests)> {
    let ours = log.events.iter().filter(|event| OURS.contains(&event.register));
    ours.filter(|event| event.kind != EventType::EVENT_TAG && !without.contains(&event.kind))
        .map(|event| (event.register, event.kind, event.digests))
        .collect()
}

fn disk(slot: u8) -> Boot {
    disks(&[slot])
}

fn disks(slots: &[u8]) -> Boot {
    let disk = |device: &u8| VirtioBlk {
        device: *device,
        function: 0,
    };
    Boot::Disk(slots.iter().map(disk).collect())
}

/// The machine of a run. It has a TPM, whose empty log QEMU offers as a file of 64 KiB.
fn host(folder: &Path) -> Host {
    let mut files = BTreeMap::from([("etc/tpm/log".to_owned(), vec![0; 0x10000])]);
    for (name, file) in [
        ("bootorder", "fwcfg_bootorder"),
        ("etc/table-loader", "fwcfg_etc_table-loader"),
        ("etc/acpi/rsdp", "fwcfg_etc_acpi_rsdp"),
        ("etc/acpi/tables", "fwcfg_etc_acpi_tables"),
        ("etc/smbios/smbios-tables", "fwcfg_etc_smbios_smbios-tables"),
    ] {
        files.insert(name.into(), fs::read(folder.join(file)).unwrap());
    }
    Host {
        memory: 2 << 30,
        files,
        ..Host::default()
    }
}

fn changed(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let mut files = files.clone();
    files.get_mut("etc/acpi/tables").unwrap()[100] ^= 1;
    files
}

/// The events of a log in the format of TCG: its first event has the format of TPM 1.2.
fn observed(path: &Path) -> EventLog {
    let bytes = fs::read(path).unwrap();
    let mut log = Log(&bytes);
    log.take(28);
    let first = log.word() as usize;
    log.take(first);
    std::iter::from_fn(|| log.event()).collect()
}

struct Log<'a>(&'a [u8]);

impl<'a> Log<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn event(&mut self) -> Option<Event> {
        if self.0.len() < 16 || self.0.starts_with(&[0xff; 4]) || self.0.starts_with(&[0; 16]) {
            return None;
        }
        let register = Register::Pcr(self.word() as u8);
        let kind = EventType(self.word());
        let mut digests = Digests::default();
        for _ in 0..self.word() {
            match self.take(2) {
                [0x04, 0] => drop(self.take(20)),
                [0x0b, 0] => digests.sha256 = Some(<[u8; 32]>::try_from(self.take(32)).unwrap().into()),
                [0x0c, 0] => digests.sha384 = Some(<[u8; 48]>::try_from(self.take(48)).unwrap().into()),
                other => panic!("algorithm {other:?}"),
            }
        }
        let size = self.word() as usize;
        self.take(size);
        Some(Event {
            register,
            kind,
            subject: Subject::Other,
            digests,
        })
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn image(vectors: &Path, name: &str) -> Vec<u8> {
    let file = fs::File::open(vectors.join("inputs").join(format!("{name}.xz"))).unwrap();
    let mut image = Vec::new();
    std::io::copy(&mut XzReader::new(file, false), &mut image).unwrap();
    image
}

/// Where the data is, if it is here. Tests run in the folder of their package.
fn vectors() -> Option<PathBuf> {
    let path = PathBuf::from("../../shared/vectors");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}
