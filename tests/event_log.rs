//! Logs of real machines: those of real TDs against their quotes, and those of two boots against the TPM's registers.
//!
//! The data is not part of the repository: where it is absent, each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use measure::event_log::{Digests, Event, EventLog, EventType, LogOf, Register, Subject};
use measure::{Sha256, Sha384};
use serde::Deserialize;

/// Google's C3 with Container-Optimized OS 113: google/go-tdx-guest 91f9a52, testing/testdata/ccel. The quote has the
/// registers from offset 376 on (Intel TDX DCAP Quoting Library API, appendix A.3).
#[test]
fn a_real_log_replays_to_the_registers_of_its_quote() {
    let Some(vectors) = vectors() else { return };
    let log = fs::read(vectors.join("tdx/go-tdx-guest/ccel_data.dat")).unwrap();
    let quote = fs::read(vectors.join("tdx/go-tdx-guest/cos-113-tdx-quote.dat")).unwrap();
    assert_eq!(EventLog::guess(&log), Ok(LogOf::Td));
    let registers = EventLog::read(&log, LogOf::Td).unwrap().replay();
    for index in 0..4 {
        let value = registers.get(&Register::Rtmr(index)).and_then(|value| value.sha384);
        let value = value.unwrap_or(Sha384::ZERO);
        assert_eq!(
            value.bytes(),
            &quote[376 + 48 * usize::from(index)..][..48],
            "RTMR{index}"
        );
    }
}

/// The boots of tpm-logs: what Linux read from the TPM, in three banks. PCR 11 is extended by the userspace of the UKI.
#[test]
fn logs_of_real_boots_replay_to_the_registers_of_their_tpm() {
    let Some(vectors) = vectors() else { return };
    for (shape, own) in [("direct", &[][..]), ("disk-uki", &[11])] {
        let folder = vectors.join("tpm-logs").join(shape);
        let bytes = fs::read(folder.join("eventlog.bin")).unwrap();
        assert_eq!(EventLog::guess(&bytes), Ok(LogOf::Tpm));
        let replayed = EventLog::read(&bytes, LogOf::Tpm).unwrap().replay();
        let observed = pcrs(&fs::read_to_string(folder.join("pcrs-sysfs.txt")).unwrap());
        for (register, digests) in replayed
            .iter()
            .filter(|(register, _)| !own.contains(&number(**register)))
        {
            assert_eq!(digests, &observed[register], "{shape} {register}");
        }
        assert_eq!(replayed.len(), 9 + own.len());
    }
}

/// The dstack verifier's fixture (Dstack-TEE/dstack 312dc605) and Trustee's (78962cd4): every log is read, and what its
/// events are about is known where the firmware's own data says it.
#[test]
fn all_real_logs_are_read() {
    let Some(vectors) = vectors() else { return };
    for (file, of, events) in [
        ("tdx/trustee/eventlog-CCEL_data_ovmf", LogOf::Td, None),
        ("tdx/trustee/eventlog-CCEL_data_grub", LogOf::Td, None),
        ("tdx/trustee/eventlog-CCEL_data_grub_gke", LogOf::Td, None),
        ("tdx/trustee/eventlog-CCEL_data_gcp", LogOf::Td, None),
        ("tdx/trustee/eventlog-CCEL_AAEL_alibabacloud", LogOf::Td, None),
        ("tdx/dstack/ccel.bin", LogOf::Td, None),
        ("tpm-logs/disk-uki/eventlog.bin", LogOf::Tpm, Some(48)),
        ("tpm-logs/direct/eventlog.bin", LogOf::Tpm, Some(30)),
    ] {
        let bytes = fs::read(vectors.join(file)).unwrap();
        assert_eq!(EventLog::guess(&bytes), Ok(of), "{file}");
        let log = EventLog::read(&bytes, of).unwrap();
        assert!(events.is_none_or(|events| events == log.events.len()), "{file}");
        let unknown = log.events.iter().filter(|event| event.subject == Subject::Other);
        let kinds: Vec<_> = unknown.map(|event| event.kind).collect();
        // what grub and Alibaba's firmware measure in their own ways
        let own = [
            EventType::NO_ACTION,
            EventType::IPL,
            EventType::EVENT_TAG,
            EventType::POST_CODE,
            EventType::PLATFORM_CONFIG_FLAGS,
        ];
        assert!(kinds.iter().all(|kind| own.contains(kind)), "{file}: {kinds:?}");
    }
}

/// A TD of dstack, 16 vCPUs, 64 GiB: its quote and its events as JSON, of firmware and of userspace (RTMR3).
#[test]
fn the_events_of_dstack_replay_to_its_quote() {
    let Some(vectors) = vectors() else { return };
    let report = fs::read(vectors.join("tdx/dstack/quote-report.json")).unwrap();
    let report: Report = serde_json::from_slice(&report).unwrap();
    let quote = HEXLOWER.decode(report.quote.as_bytes()).unwrap();
    let events: Vec<DstackEvent> = serde_json::from_str(&report.event_log).unwrap();
    let registers = EventLog::from_iter(events.into_iter().map(Event::from)).replay();
    assert_eq!(registers.len(), 4);
    for (register, value) in registers {
        let offset = 376 + 48 * usize::from(number(register));
        assert_eq!(value.sha384.unwrap().bytes(), &quote[offset..][..48], "{register}");
    }
}

#[derive(Deserialize)]
struct Report {
    quote: String,
    event_log: String,
}

#[derive(Deserialize)]
struct DstackEvent {
    imr: u8,
    event_type: u32,
    digest: Sha384,
}

impl From<DstackEvent> for Event {
    fn from(event: DstackEvent) -> Self {
        Self {
            register: Register::Rtmr(event.imr),
            kind: EventType(event.event_type),
            subject: Subject::Other,
            digests: Digests {
                sha384: Some(event.digest),
                ..Digests::default()
            },
        }
    }
}

/// The attack: a log that hides an event, or tells of another one, must not replay to what the machine reports.
#[test]
fn a_forged_log_does_not_replay() {
    let Some(vectors) = vectors() else { return };
    let bytes = fs::read(vectors.join("tdx/go-tdx-guest/ccel_data.dat")).unwrap();
    let log = EventLog::read(&bytes, LogOf::Td).unwrap();
    let honest = log.replay();
    for index in 0..log.events.len() {
        let mut hiding = log.clone();
        hiding.events.remove(index);
        let mut lying = log.clone();
        lying.events[index].digests = Digests {
            sha384: Some(Sha384::of("another")),
            ..Digests::default()
        };
        for forged in [hiding, lying] {
            let extends = log.events[index].kind != EventType::NO_ACTION;
            assert_eq!(forged.replay() != honest, extends, "event {index}");
        }
    }
}

/// Reads lines of the form `sha256 7: HEX` or `pcr-sha256/7 HEX`.
fn pcrs(text: &str) -> BTreeMap<Register, Digests> {
    let mut pcrs = BTreeMap::<_, Digests>::new();
    for line in text.lines() {
        let words: Vec<_> = line
            .split([' ', ':', '/', '-', '='])
            .filter(|word| !word.is_empty())
            .collect();
        let at = words.iter().position(|word| word.starts_with("sha"));
        let Some([bank, index, digest, ..]) = at.map(|at| &words[at..]) else {
            continue;
        };
        let value = pcrs.entry(Register::Pcr(index.parse().unwrap())).or_default();
        match *bank {
            "sha256" => value.sha256 = Some(digest.to_lowercase().parse::<Sha256>().unwrap()),
            "sha384" => value.sha384 = Some(digest.to_lowercase().parse::<Sha384>().unwrap()),
            _ => {}
        }
    }
    pcrs
}

fn number(register: Register) -> u8 {
    match register {
        Register::Pcr(index) | Register::Rtmr(index) => index,
    }
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
