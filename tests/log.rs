//! Signed releases in an audit log, and what is found out when somebody tampers with either; tests are named after what
//! was done.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use builder::mend::{self, Exit};
use builder::model::key::SigningKey;
use builder::model::log::{LogFinding, VerifierKey};
use builder::model::record::{RECORD, Terms};
use builder::stage::finding::Finding;
use builder::stage::log::{self, PROOF};
use builder::stage::on_disk::OnDisk;
use builder::stage::release::Existing;
use builder::stage::{sign, verify};
use ed25519_dalek::SigningKey as LogKey;
use tempfile::TempDir;

const ORIGIN: &str = "example.com/log";

/// A log of two releases of one manifest: generations 0 and 1.
struct Logged {
    parent: TempDir,
}

impl Logged {
    fn new() -> Self {
        let logged = Self {
            parent: tempfile::tempdir().unwrap(),
        };
        logged.release("zero", 0);
        logged.release("one", 1);
        let releases = ["zero", "one"].map(|name| logged.path(name));
        let (head, entries) = log::append(&logged.path("log"), &releases, Some(ORIGIN), &key()).unwrap();
        assert_eq!((head.size, entries[1].index, entries[1].known), (2, 1, false));
        logged
    }

    /// Makes and signs a release.
    fn release(&self, name: &str, generation: u32) {
        let folder = self.path(name);
        fixture::publish(&folder, Existing::Refuse);
        self.sign(name, generation);
    }

    fn sign(&self, name: &str, generation: u32) {
        let key = SigningKey::from_random([1; 32]).unwrap();
        let terms = Terms {
            generation,
            ..Terms::default()
        };
        let claims = sign::claims(&self.path(name), Existing::Replace, terms, &key.public()).unwrap();
        sign::append(&self.path(name), &claims.signed_by(&key)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join(name)
    }
}

fn key() -> LogKey {
    LogKey::from_bytes(&[7; 32])
}

fn verifier() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().verifying_key()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

#[test]
fn a_proof_travels_with_its_release() {
    let logged = Logged::new();
    let (log, zero, one) = (logged.path("log"), logged.path("zero"), logged.path("one"));
    assert_eq!(log::prove(&log, &one).unwrap().index, 1);
    assert_eq!(
        log::included(&OnDisk::open(&one).unwrap(), &verifier()).unwrap().size,
        2
    );
    assert_eq!(verify::verify(&one, None).unwrap().findings, []);
    assert!(matches!(
        log::included(&OnDisk::open(&zero).unwrap(), &verifier()),
        Err(LogFinding::LogProofInvalid { .. })
    ));
    // the log may go, and grow
    log::prove(&log, &zero).unwrap();
    logged.release("two", 2);
    log::append(&log, &[logged.path("two")], None, &key()).unwrap();
    assert_eq!(
        log::included(&OnDisk::open(&zero).unwrap(), &verifier()).unwrap().size,
        2
    );
}

#[test]
fn a_proof_of_another_release() {
    let logged = Logged::new();
    let (zero, one) = (logged.path("zero"), logged.path("one"));
    log::prove(&logged.path("log"), &one).unwrap();
    copy(&one.join(PROOF), &zero.join(PROOF));
    let finding = log::included(&OnDisk::open(&zero).unwrap(), &verifier()).unwrap_err();
    assert_eq!(finding, LogFinding::LogRecordNotIncluded { index: 1 });
    assert_eq!(Finding::Log(finding).code(), "log-record-not-included");
}

#[test]
fn a_release_that_was_signed_anew_is_not_the_one_in_the_log() {
    let logged = Logged::new();
    let one = logged.path("one");
    log::prove(&logged.path("log"), &one).unwrap();
    logged.sign("one", 2);
    assert_eq!(
        log::included(&OnDisk::open(&one).unwrap(), &verifier()).unwrap_err(),
        LogFinding::LogRecordNotIncluded { index: 1 }
    );
    let error = log::prove(&logged.path("log"), &one).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::No);
}

#[test]
fn a_log_of_somebody_else() {
    let logged = Logged::new();
    let (log, one) = (logged.path("foreign"), logged.path("one"));
    let other = LogKey::from_bytes(&[8; 32]);
    log::append(&log, std::slice::from_ref(&one), Some(ORIGIN), &other).unwrap();
    log::prove(&log, &one).unwrap();
    assert!(matches!(
        log::included(&OnDisk::open(&one).unwrap(), &verifier()),
        Err(LogFinding::LogCheckpointInvalid { .. })
    ));
}

#[test]
fn only_signed_releases_without_findings_are_logged() {
    let logged = Logged::new();
    let log = logged.path("log");
    let before = fs::read(log.join("checkpoint")).unwrap();
    let plain = logged.path("plain");
    fixture::publish(&plain, Existing::Refuse);
    assert!(log::append(&log, &[plain], None, &key()).is_err());
    logged.release("two", 2);
    let two = logged.path("two");
    let record = fs::read_to_string(two.join(RECORD)).unwrap();
    fs::write(two.join(RECORD), record.replace("\"generation\":2", "\"generation\":3")).unwrap();
    assert!(log::append(&log, &[two], None, &key()).is_err());
    assert_eq!(fs::read(log.join("checkpoint")).unwrap(), before);
}

#[test]
fn a_log_that_shows_different_histories() {
    let logged = Logged::new();
    let kept = fs::read_to_string(logged.path("log/checkpoint")).unwrap();
    let fork = logged.path("fork");
    let releases = ["one", "zero"].map(|name| logged.path(name));
    log::append(&fork, &releases, Some(ORIGIN), &key()).unwrap();
    let found = log::verify(&fork, &verifier(), Some(&kept)).unwrap().findings;
    assert!(
        matches!(found[..], [LogFinding::LogHistoryDiffers { older: 2, .. }]),
        "{found:?}"
    );
    assert_eq!(log::verify(&fork, &verifier(), None).unwrap().findings, []);
    let same = log::verify(&logged.path("log"), &verifier(), Some(&kept)).unwrap();
    assert_eq!(same.findings, []);
}
