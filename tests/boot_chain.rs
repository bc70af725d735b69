//! The boot chain of real machines: event logs of QEMU guests with real firmware, kernels and systemd-stub.
//!
//! The data is not part of the repository: where it is absent, each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use measure::boot::{BootEvents, DirectBoot, DiskBoot, ExitBootServices, Initrd, InitrdArgument, KernelImage};
use measure::event_log::{Digests, Event, EventLog, EventType, Hasher, Register, Subject};
use measure::gpt::Gpt;
use measure::linux::Kernel;
use measure::pe::Pe;
use measure::tdx::{SeparatorRegister, event_digest, rtmr_log, rtmrs};
use measure::uki::{InnerKernel, Uki};
use measure::{Sha256, Sha384, tpm};
use serde::Deserialize;

/// Files of `inputs` and `tdx/local` that the runs of `tdx/local/events.json` started from.
struct Inputs {
    new_kernel: Vec<u8>,
    old_kernel: Vec<u8>,
    initrd: Vec<u8>,
    uki: Vec<u8>,
    disk: Vec<u8>,
    vectors: PathBuf,
}

/// The command line of the direct boots (`tdx/local/events.json`, run A).
const CMDLINE: &str = "console=ttyS0 panic=-1 foo=bar";

const GIB: u64 = 1 << 30;

#[test]
fn authenticode_digests_are_those_of_another_tool() {
    let Some(inputs) = Inputs::read() else { return };
    let known: Known = inputs.json("tdx/local/firmware.json");
    // SHA-256: oracles/ref.py, as the vectors have SHA-384 only
    for (name, bytes, sha256) in [
        (
            "vmlinuz-7.2",
            &inputs.new_kernel,
            "0f67c7ec2ba4fc98c243015348542f0f28a28e1358a0a4d4696be6f5b3d54bbb",
        ),
        (
            "vmlinuz-6.12",
            &inputs.old_kernel,
            "782467f032ce2d6a96d9131eac2bcf910ba46099c99e6cfd20555da97a7f1390",
        ),
        (
            "test257.efi",
            &inputs.uki,
            "18e89169b02a67c92722af91a558b346b9c7aecf8edd9c08db0b604edb3f52f0",
        ),
    ] {
        assert_eq!(Sha256::of(bytes), known.inputs_sha256[name], "{name}");
        let expected = Digests {
            sha256: Some(sha256.parse().unwrap()),
            sha384: Some(known.authenticode_sha384[name]),
        };
        assert_eq!(Pe::read(bytes).unwrap().authenticode(), expected, "{name}");
    }
}

#[test]
fn kernels_say_what_they_are() {
    let Some(inputs) = Inputs::read() else { return };
    let new = Kernel::read(&inputs.new_kernel).unwrap();
    let old = Kernel::read(&inputs.old_kernel).unwrap();
    assert_eq!(
        (new.release(), new.measures()),
        (Some("7.2.12+deb14-cloud-amd64"), true)
    );
    assert_eq!(
        (old.release(), old.measures()),
        (Some("6.12.107+deb13-cloud-amd64"), true)
    );
    let uki = Uki::read(&inputs.uki).unwrap();
    assert_eq!((uki.stub().major, uki.stub().text.as_str()), (257, "257.13-1~deb13u1"));
    assert_eq!(uki.inner_kernel(), Ok(InnerKernel::Firmware));
    assert_eq!(uki.section(".linux"), Some(&inputs.new_kernel[..]));
    assert_eq!(uki.section(".initrd"), Some(&inputs.initrd[..]));
}

#[test]
fn the_partition_table_is_measured_as_the_firmware_did() {
    let Some(inputs) = Inputs::read() else { return };
    let gpt = Gpt::read(&inputs.disk).unwrap();
    let runs: BTreeMap<String, Run> = inputs.json("tdx/local/events.json");
    let event = runs["V1"]
        .events
        .iter()
        .find(|event| event.pcr == 5 && event.kind == "EV_EFI_GPT_EVENT");
    let event = event.unwrap();
    assert_eq!(gpt.event_data(), event.data());
    assert_eq!(gpt.event().digests.sha384, Some(event.sha384));
}

/// Direct boots: of QEMU 11.1 with firmware 2026.08 (A, C), of QEMU 10.0 with 2025.02 (T1) and with 2022.11, for which
/// QEMU patched the kernel (T2).
#[test]
fn direct_boots_are_predicted() {
    let Some(inputs) = Inputs::read() else { return };
    let [as_is, patched] = KernelImage::candidates(2 * GIB);
    for (run, kernel, image, argument) in [
        ("A", &inputs.new_kernel, as_is, InitrdArgument::Prefix),
        ("C", &inputs.new_kernel, as_is, InitrdArgument::Prefix),
        ("T1", &inputs.old_kernel, as_is, InitrdArgument::Suffix),
        ("T2", &inputs.old_kernel, patched, InitrdArgument::Suffix),
    ] {
        let events = inputs.direct_boot(kernel, image, argument).events().unwrap();
        inputs.compare(run, events);
    }
}

/// The digests that Trustee's default policy asks for are those of events of run A.
#[test]
fn kernel_and_command_line_have_a_digest_each() {
    let Some(inputs) = Inputs::read() else { return };
    let boot = inputs.direct_boot(&inputs.new_kernel, KernelImage::AsIs, InitrdArgument::Prefix);
    let log = rtmr_log(&boot.events().unwrap().log([], []), SeparatorRegister::Rtmr1);
    let digest = |subject| event_digest(&log, &subject).unwrap().to_string();
    assert!(digest(Subject::Kernel).starts_with("64fd9d87"));
    assert!(digest(Subject::CommandLine).starts_with("dd9b6961"));
}

/// Boots of a UKI with systemd-stub 257 from a writable disk.
#[test]
fn disk_boots_are_predicted() {
    let Some(inputs) = Inputs::read() else { return };
    for run in ["V1", "V2"] {
        inputs.compare(run, inputs.disk_boot(ExitBootServices::FailedFirst));
    }
}

/// The value of a read-only disk (tdx.md, section 4.3) and the twins: each open choice makes another RTMR1.
#[test]
fn each_choice_makes_another_value() {
    let Some(inputs) = Inputs::read() else { return };
    let once = registers(inputs.disk_boot(ExitBootServices::Once));
    let twice = registers(inputs.disk_boot(ExitBootServices::FailedFirst));
    assert!(once[1].to_string().starts_with("fcaca277") && once[1].to_string().ends_with("dea2"));
    assert!(twice[1] != once[1] && twice[2] == once[2]);
    let values = KernelImage::candidates(2 * GIB).map(|image| {
        let boot = inputs.direct_boot(&inputs.new_kernel, image, InitrdArgument::Prefix);
        registers(boot.events().unwrap())
    });
    assert!(values[0][1] != values[1][1] && values[0][2] == values[1][2]);
    let boot = inputs.direct_boot(&inputs.new_kernel, KernelImage::AsIs, InitrdArgument::Suffix);
    let suffix = registers(boot.events().unwrap());
    assert!(suffix[1] == values[0][1] && suffix[2] != values[0][2]);
}

/// RTMR1 of virtee/tdx-measure, tinfoil and dstack-mr, which always patch the kernel (tdx.md, section 9).
#[test]
fn a_patched_kernel_makes_the_value_of_other_tools() {
    let Some(inputs) = Inputs::read() else { return };
    let [_, patched] = KernelImage::candidates(2 * GIB);
    let boot = inputs.direct_boot(&inputs.new_kernel, patched, InitrdArgument::Suffix);
    let [_, rtmr1, ..] = registers(boot.events().unwrap());
    assert!(rtmr1.to_string().starts_with("6516d484"));
}

/// A TD of firmware older than edk2-stable202411, on hardware (`tdx/trustee`, a direct boot): its constant events.
#[test]
fn older_firmware_ends_rtmr0_with_the_separator() {
    let Some(inputs) = Inputs::read() else { return };
    let found = td_events(&fs::read(inputs.vectors.join("tdx/trustee/eventlog-CCEL_data_ovmf")).unwrap());
    let boot = inputs.direct_boot(&inputs.new_kernel, KernelImage::AsIs, InitrdArgument::Suffix);
    let log = rtmr_log(&boot.events().unwrap().log([], []), SeparatorRegister::Rtmr0);
    let ours: Vec<_> = log.events.iter().map(|event| (event.register, event.kind)).collect();
    let theirs: Vec<_> = found.iter().map(|(register, kind, _)| (*register, *kind)).collect();
    let start = theirs
        .iter()
        .position(|(_, kind)| *kind == EventType::EFI_BOOT_SERVICES_APPLICATION);
    let of_boot =
        |(register, kind): &(Register, EventType)| *register != Register::Rtmr(0) || *kind == EventType::SEPARATOR;
    let theirs: Vec<_> = theirs[start.unwrap()..].iter().copied().filter(of_boot).collect();
    assert_eq!(theirs, ours);
    let constant = log
        .events
        .iter()
        .filter(|event| matches!(event.subject, Subject::Action(_) | Subject::Separator));
    for event in constant {
        let digest = event.digests.sha384.unwrap();
        assert!(
            found
                .iter()
                .any(|(register, _, theirs)| *register == event.register && *theirs == digest),
            "{event:?}"
        );
    }
}

/// Two boots of which the files are not kept: what does not come from them is the same in both banks, and so is what
/// comes from the command line.
#[test]
fn logs_of_other_boots_agree_where_files_do_not_matter() {
    let Some(inputs) = Inputs::read() else { return };
    let logs = inputs.vectors.join("tpm-logs");
    let text = |name: &str| fs::read_to_string(logs.join(name)).unwrap().trim_end().to_owned();
    let append = text("direct/direct-append.txt");
    let boot = DirectBoot {
        cmdline: &append,
        ..inputs.direct_boot(&inputs.new_kernel, KernelImage::AsIs, InitrdArgument::Prefix)
    };
    let found = tpm_events(&fs::read(logs.join("direct/eventlog.bin")).unwrap());
    let varying = [Subject::Kernel, Subject::Initrd];
    compare_log(boot.events().unwrap(), &found, &varying);
    // the UKI of the other boot has the same command line, and its kernel no argument for the initrd
    let initrd = None;
    let alone = DirectBoot { initrd, ..boot }.events().unwrap();
    let options = alone
        .after
        .iter()
        .find(|event| event.subject == Subject::CommandLine)
        .unwrap();

    let found = tpm_events(&fs::read(logs.join("disk-uki/eventlog.bin")).unwrap());
    let section = |name: &str| Subject::Section(name.into());
    let sections = [".linux", ".osrel", ".cmdline", ".initrd", ".uname"].map(section);
    let others = [
        Subject::Kernel,
        Subject::Initrd,
        Subject::CommandLine,
        Subject::Uki,
        Subject::PartitionTable,
    ];
    assert!(
        found
            .iter()
            .any(|event| event.register == Register::Pcr(9) && event.digests == options.digests)
    );
    let events = inputs.disk_boot(ExitBootServices::FailedFirst);
    compare_log(events, &found, &[&sections[..], &others].concat());
}

/// `/sys/class/tpm/tpm0/pcr-*` of a boot whose initrd runs no systemd-pcrextend.
#[test]
fn userspace_extends_pcr_11_with_its_phases() {
    let Some(inputs) = Inputs::read() else { return };
    let run = inputs.vectors.join("tpm-logs/disk-uki");
    let log = tpm_events(&fs::read(run.join("eventlog.bin")).unwrap());
    let listed = fs::read_to_string(run.join("pcrs-sysfs.txt")).unwrap().to_lowercase();
    let expected = |bank: &str| {
        listed
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{bank} 11 ")))
            .unwrap()
    };
    let of = |phases: &[&str]| {
        let events = log.iter().cloned().chain(tpm::phases(phases.iter().copied()));
        events.collect::<EventLog>().replay()[&Register::Pcr(11)]
    };
    let ready = of(&tpm::PHASES[2..]);
    assert_eq!(ready.sha256.unwrap().to_string(), expected("sha256").trim());
    assert_eq!(ready.sha384.unwrap().to_string(), expected("sha384").trim());
    assert!(!ready.agree(&of(&tpm::PHASES)) && !ready.agree(&of(&["sysinit"])));
}

/// One bit of the kernel changes RTMR1 and nothing else, one of the initrd or the command line RTMR2.
#[test]
fn a_flipped_bit_changes_the_register_it_belongs_to() {
    let Some(inputs) = Inputs::read() else { return };
    let boot = inputs.direct_boot(&inputs.new_kernel, KernelImage::AsIs, InitrdArgument::Prefix);
    let [_, rtmr1, rtmr2, _] = registers(boot.events().unwrap());
    // the kernel is signed, and what follows its last section is the signature
    let last = Pe::read(&inputs.new_kernel)
        .unwrap()
        .sections()
        .last()
        .copied()
        .unwrap();
    let end = last.offset as usize + last.data.len();
    for at in [0x1000, end / 2, end - 1, end] {
        let mut kernel = inputs.new_kernel.clone();
        kernel[at] ^= 1;
        let kernel = KernelImage::AsIs.authenticode(&kernel, boot.initrd, CMDLINE).unwrap();
        let [_, one, two, _] = registers(DirectBoot { kernel, ..boot }.events().unwrap());
        assert!((one != rtmr1) == (at < end) && two == rtmr2, "{at:#x}");
    }
    let mut initrd = inputs.initrd.clone();
    initrd[1000] ^= 0x80;
    let initrd = Some(streamed(&initrd));
    for changed in [
        DirectBoot { initrd, ..boot },
        DirectBoot {
            cmdline: "console=ttyS1 panic=-1 foo=bar",
            ..boot
        },
    ] {
        let [_, one, two, _] = registers(changed.events().unwrap());
        assert!(one == rtmr1 && two != rtmr2);
    }
}

impl Inputs {
    fn read() -> Option<Self> {
        let vectors = PathBuf::from("../../shared/vectors");
        if !vectors.is_dir() {
            println!("skipped: there is no {}", vectors.display());
            return None;
        }
        let read = |name: &str| fs::read(vectors.join(name)).unwrap();
        Some(Self {
            new_kernel: read("inputs/vmlinuz-7.2.12-cloud"),
            old_kernel: read("inputs/vmlinuz-6.12.107-cloud"),
            initrd: read("tdx/local/initrd.gz"),
            uki: read("inputs/test257.efi"),
            disk: read("inputs/disk257.first34sectors.bin"),
            vectors,
        })
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, name: &str) -> T {
        serde_json::from_slice(&fs::read(self.vectors.join(name)).unwrap()).unwrap()
    }

    fn direct_boot(
        &self,
        kernel: &[u8],
        kernel_image: KernelImage,
        initrd_argument: InitrdArgument,
    ) -> DirectBoot<'static> {
        let initrd = Some(streamed(&self.initrd));
        DirectBoot {
            kernel: kernel_image.authenticode(kernel, initrd, CMDLINE).unwrap(),
            initrd,
            cmdline: CMDLINE,
            initrd_argument,
        }
    }

    fn disk_boot(&self, exit_boot_services: ExitBootServices) -> BootEvents {
        let boot = DiskBoot {
            disk: &self.disk,
            uki: &self.uki,
        };
        BootEvents {
            exit_boot_services,
            ..boot.events().unwrap()
        }
    }

    /// Compares predicted events with those of `run`, and the RTMRs of a TD with those derived by another tool.
    fn compare(&self, run: &str, events: BootEvents) {
        let runs: BTreeMap<String, Run> = self.json("tdx/local/events.json");
        let first = usize::from(!events.before.is_empty());
        let log = events.clone().log([], []);
        let is_boot = |event: &&RunEvent| event.pcr != 1 && event.pcr != 7 || event.kind == "EV_SEPARATOR";
        let found = &runs[run].events;
        let length = log.events.len() - first;
        let after = &found[found.len() - length..];
        let before = found[..found.len() - length].iter().rfind(|event| event.pcr == 4);
        let found: Vec<_> = before.into_iter().chain(after).filter(is_boot).collect();
        assert_eq!(log.events.len(), found.len(), "{run}");
        for (ours, theirs) in log.events.iter().zip(found) {
            assert_eq!(ours.register, Register::Pcr(theirs.pcr), "{run}: {ours:?}");
            assert_eq!(ours.kind, theirs.kind.parse().unwrap(), "{run}: {ours:?}");
            assert_eq!(ours.digests.sha384, Some(theirs.sha384), "{run}: {ours:?}");
        }
        let derived: BTreeMap<String, Derived> = self.json("tdx/local/derived-rtmr.json");
        let [_, rtmr1, rtmr2, rtmr3] = registers(events);
        assert_eq!((rtmr1, rtmr2), (derived[run].rtmr1, derived[run].rtmr2), "{run}");
        assert_eq!(rtmr3, Sha384::ZERO);
    }
}

fn streamed(initrd: &[u8]) -> Initrd {
    let mut hasher = Hasher::default();
    initrd.chunks(4096).for_each(|chunk| hasher.update(chunk));
    Initrd::new(hasher)
}

fn registers(events: BootEvents) -> [Sha384; 4] {
    rtmrs(&rtmr_log(&events.log([], []), SeparatorRegister::Rtmr1)).unwrap()
}

/// Compares the events from "Calling EFI Application" on, in both banks.
fn compare_log(events: BootEvents, found: &[Event], varying: &[Subject]) {
    let before = [].into();
    let log = BootEvents { before, ..events }.log([], []);
    let found = &found[found.len() - log.events.len()..];
    for (ours, theirs) in log.events.iter().zip(found) {
        assert_eq!((ours.register, ours.kind), (theirs.register, theirs.kind), "{ours:?}");
        let same = ours.digests == theirs.digests;
        assert_eq!(same, !varying.contains(&ours.subject), "{ours:?} {theirs:?}");
    }
}

#[derive(Deserialize)]
struct Known {
    inputs_sha256: BTreeMap<String, Sha256>,
    authenticode_sha384: BTreeMap<String, Sha384>,
}

#[derive(Deserialize)]
struct Run {
    events: Vec<RunEvent>,
}

#[derive(Deserialize)]
struct RunEvent {
    pcr: u8,
    #[serde(rename = "type")]
    kind: String,
    sha384: Sha384,
    event: String,
}

impl RunEvent {
    fn data(&self) -> Vec<u8> {
        let digit = |index: usize| u8::from_str_radix(&self.event[2 * index..2 * index + 2], 16).unwrap();
        (0..self.event.len() / 2).map(digit).collect()
    }
}

#[derive(Deserialize)]
struct Derived {
    rtmr1: Sha384,
    rtmr2: Sha384,
}

/// A reader of crypto-agile logs that trusts them, for these tests only.
fn log_events(log: &[u8]) -> Vec<(u32, EventType, Digests)> {
    let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap());
    let mut at = 32 + number(28) as usize;
    let mut events = Vec::new();
    while at + 12 <= log.len() && ![u32::MAX, 0].contains(&number(at + 8)) {
        let (register, kind, count) = (number(at), EventType(number(at + 4)), number(at + 8));
        at += 12;
        let mut digests = Digests::default();
        for _ in 0..count {
            let algorithm = u16::from_le_bytes(log[at..at + 2].try_into().unwrap());
            let digest = &log[at + 2..];
            at += 2 + match algorithm {
                0x4 => 20,
                0xb => {
                    digests.sha256 = Some(<[u8; 32]>::try_from(&digest[..32]).unwrap().into());
                    32
                }
                0xc => {
                    digests.sha384 = Some(<[u8; 48]>::try_from(&digest[..48]).unwrap().into());
                    48
                }
                other => panic!("algorithm {other:#x}"),
            };
        }
        at += 4 + number(at) as usize;
        if kind != EventType::NO_ACTION {
            events.push((register, kind, digests));
        }
    }
    events
}

fn tpm_events(log: &[u8]) -> Vec<Event> {
    let events = log_events(log).into_iter();
    events
        .map(|(pcr, kind, digests)| Event {
            register: Register::Pcr(pcr as u8),
            kind,
            subject: Subject::Other,
            digests,
        })
        .collect()
}

fn td_events(log: &[u8]) -> Vec<(Register, EventType, Sha384)> {
    let events = log_events(log).into_iter();
    events
        .map(|(index, kind, digests)| (Register::Rtmr(index as u8 - 1), kind, digests.sha384.unwrap()))
        .collect()
}
