//! Why a value is not the predicted one: each test is named after what somebody did.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use builder::mend::report;
use builder::model::Measurements;
use builder::model::measurements::{Boot, Launch, Measurement, Platform, Value};
use builder::model::release::{MANIFEST, Manifest};
use builder::stage::explain::{Explanation, Side, Verdict, explain};
use builder::stage::release::Existing;
use measure::event_log::{Digests, Event, EventType, Register, Subject};
use measure::{Sha256, Sha384};
use tempfile::TempDir;

/// Writes the manifest of a release anew, as its files are.
fn list(folder: &Path) {
    let path = folder.join(MANIFEST);
    let mut manifest = Manifest::parse(&fs::read_to_string(&path).unwrap()).unwrap();
    for (name, stamp) in &mut manifest.files {
        let bytes = fs::read(folder.join(name.as_str())).unwrap();
        stamp.sha256 = Sha256::of(&bytes);
        stamp.size = bytes.len() as u64;
    }
    fs::write(path, manifest.text()).unwrap();
}

/// A release, and a place for what is compared with it.
struct Place(TempDir);

impl Place {
    /// A release that predicts these events of a TPM, and for a TD MRTD and RTMR1.
    fn new(events: &[Event]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.release("release", events, "kernel");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn release(&self, name: &str, events: &[Event], kernel: &str) {
        let folder = self.path(name);
        fixture::publish(&folder, Existing::Refuse);
        let text = fs::read_to_string(folder.join("measurements.json")).unwrap();
        let mut measurements = Measurements::parse(&text).unwrap();
        let firmware = measurements.launches[0].launch.firmware.clone();
        let launch = |platform| Launch {
            platform,
            boot: Boot::Direct,
            firmware: firmware.clone(),
        };
        let of = |register: Register| {
            let events = events.iter().filter(|event| event.register == register);
            Value::of_register(register, events.cloned().collect())
        };
        let mrtd = measurements.launches[1].values[0].clone();
        let rtmr1 = Event {
            register: Register::Rtmr(1),
            ..event(4, Subject::Kernel, kernel)
        };
        let rtmr1 = Value::of_register(Register::Rtmr(1), [rtmr1].into_iter().collect());
        measurements.launches[1].values = vec![mrtd, rtmr1];
        measurements.launches.push(Measurement {
            launch: launch(Platform::Tpm),
            values: [4, 9].map(Register::Pcr).map(of).into(),
        });
        fs::write(folder.join("measurements.json"), measurements.text()).unwrap();
        list(&folder);
    }

    /// Explains why the file, with these bytes, is not what the release predicts.
    fn explain(&self, bytes: &[u8]) -> Explanation {
        fs::write(self.path("observed"), bytes).unwrap();
        self.explain_path("observed")
    }

    fn explain_path(&self, observed: &str) -> Explanation {
        let read = |name| Side::read(&self.path(name)).unwrap();
        explain(&read("release"), &read(observed)).unwrap()
    }
}

/// What a direct boot measures, as far as tests need it.
fn boot() -> [Event; 3] {
    [
        event(4, Subject::Kernel, "kernel"),
        event(9, Subject::CommandLine, "console=ttyS0"),
        event(9, Subject::Initrd, "initrd"),
    ]
}

fn event(pcr: u8, subject: Subject, data: &str) -> Event {
    let kind = match pcr {
        4 => EventType::EFI_BOOT_SERVICES_APPLICATION,
        _ => EventType::EVENT_TAG,
    };
    Event {
        register: Register::Pcr(pcr),
        kind,
        subject,
        digests: Digests::of(data),
    }
}

/// The log that firmware would keep of these events, with the banks SHA-256 and SHA-384.
fn log(events: &[Event]) -> Vec<u8> {
    let mut log = [&[0; 4][..], &3_u32.to_le_bytes(), &[0; 20], &37_u32.to_le_bytes()].concat();
    log.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\x00\x02\x02\0\0\0\x0b\0\x20\0\x0c\0\x30\0\0");
    for event in events {
        let Register::Pcr(index) = event.register else {
            panic!("a TPM has PCRs")
        };
        let numbers = [index.into(), event.kind.0, 2];
        log.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        log.extend([&[0xb, 0], &event.digests.sha256.unwrap().bytes()[..]].concat());
        log.extend([&[0xc, 0], &event.digests.sha384.unwrap().bytes()[..]].concat());
        log.extend([0; 4]);
    }
    // firmware with a TPM extends PCR 7 in any case, which tells its log from a TD's
    if !events.iter().any(|event| event.register == Register::Pcr(7)) {
        let separator = event(7, Subject::Separator, "\0\0\0\0");
        return [log, self::log(&[separator])[69..].to_vec()].concat();
    }
    log
}

fn what(explanation: &Explanation) -> Vec<&str> {
    explanation
        .differences
        .iter()
        .map(|difference| difference.what.as_str())
        .collect()
}

#[test]
fn an_honest_boot_agrees() {
    let explanation = Place::new(&boot()).explain(&log(&boot()));
    assert_eq!(what(&explanation), [""; 0]);
    assert_eq!(explanation.events.len(), 3);
    assert!(explanation.events.iter().all(|line| line.verdict == Verdict::Equal));
}

#[test]
fn another_kernel_was_started() {
    let mut events = boot();
    events[0] = event(4, Subject::Kernel, "evil kernel");
    let explanation = Place::new(&boot()).explain(&log(&events));
    assert_eq!(
        what(&explanation),
        ["PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION: kernel was measured otherwise than predicted"]
    );
    assert!(explanation.differences[0].files.iter().eq(["vmlinuz"]));
}

#[test]
fn something_was_started_before_the_kernel() {
    let mut events = vec![event(4, Subject::Application, "bootkit")];
    events.extend(boot());
    let explanation = Place::new(&boot()).explain(&log(&events));
    assert_eq!(
        what(&explanation),
        ["PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION: EFI application was measured and not predicted"]
    );
}

#[test]
fn the_initrd_was_left_out() {
    let explanation = Place::new(&boot()).explain(&log(&boot()[..2]));
    assert_eq!(
        what(&explanation),
        ["PCR 9, EV_EVENT_TAG: initrd was predicted and not measured"]
    );
    assert!(explanation.differences[0].files.iter().eq(["initrd.cpio.zst"]));
}

#[test]
fn two_logs_are_compared_without_a_release() {
    let place = Place::new(&boot());
    let mut events = boot();
    events[1] = event(9, Subject::CommandLine, "console=ttyS0 init=/bin/sh");
    fs::write(place.path("one"), log(&boot())).unwrap();
    fs::write(place.path("other"), log(&events)).unwrap();
    let read = |name| Side::read(&place.path(name)).unwrap();
    let explanation = explain(&read("one"), &read("other")).unwrap();
    let [what] = what(&explanation)[..] else {
        panic!("{explanation:?}")
    };
    assert!(what.starts_with("PCR 9, EV_EVENT_TAG"), "{what}");
}

#[test]
fn the_command_line_of_another_release_has_another_word() {
    let place = Place::new(&boot());
    place.release("other", &boot(), "kernel");
    fs::write(place.path("other/cmdline"), "console=ttyS0 debug").unwrap();
    list(&place.path("other"));
    let (old, new) = (Sha256::of("console=ttyS0"), Sha256::of("console=ttyS0 debug"));
    let explanation = place.explain_path("other");
    let file = format!("cmdline: {old} → {new}");
    assert_eq!(what(&explanation), [file.as_str(), "command line: +debug"]);
}

#[test]
fn a_quote_of_another_kernel() {
    let place = Place::new(&boot());
    let honest = Sha384::of([[0; 48], *Sha384::of("kernel").bytes()].concat());
    assert_eq!(what(&place.explain(&quote(honest))), [""; 0]);
    let explanation = place.explain(&quote(Sha384::of("another")));
    assert_eq!(
        what(&explanation),
        ["RTMR1 is none of those predicted; its event log says which event differs"]
    );
    assert!(explanation.differences[0].files.iter().eq(["vmlinuz"]));
}

/// A quote of version 4 with MRTD as predicted and this RTMR1: Intel TDX DCAP Quoting Library API, appendix 3.
fn quote(rtmr1: Sha384) -> Vec<u8> {
    let mut quote = vec![0; 48 + 584];
    (quote[0], quote[2], quote[4]) = (4, 2, 0x81);
    quote[48 + 136..][..48].copy_from_slice(Sha384::of("mrtd").bytes());
    quote[48 + 376..][..48].copy_from_slice(rtmr1.bytes());
    quote
}

#[test]
fn a_report_that_a_launch_predicts_agrees() {
    let place = Place::new(&boot());
    let mut bytes = vec![0; 1184];
    bytes[0] = 2;
    bytes[0x90..][..48].copy_from_slice(Sha384::of("launch").bytes());
    assert_eq!(what(&place.explain(&bytes)), [""; 0]);
}

#[test]
fn what_is_none_of_them_is_refused() {
    let place = Place::new(&boot());
    fs::write(place.path("observed"), "a text").unwrap();
    let error = Side::read(&place.path("observed")).err().unwrap();
    let report = report(&error);
    assert!(
        report.contains("is no report of SEV-SNP, no TDX quote and no event log"),
        "{report}"
    );
}
