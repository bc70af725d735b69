//! Quotes of TPMs, and the JSON of CoCo's attesters.
//!
//! Real evidence is not part of the repository: where it is absent, each test of it says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "simulated/tpm.rs"]
mod simulated;
#[allow(dead_code, reason = "one kind of TD is enough here")]
#[path = "simulated/tdx.rs"]
mod tdx;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use measure::event_log::{EventLog, LogOf, Register};
use measure::evidence::coco;
use measure::evidence::tpm::{AkTrust, Hardware, HclReport, Paravisor, Quote, TpmFinding, TpmPolicy, VouchedBy};
use measure::evidence::{AmdRoots, Bytes, Evidence, Genuine, HclEvidence, SnpClaims, TdxRoot, TpmEvidence};
use measure::{Sha256, Sha384};
use simulated::{Ak, Simulated};

/// When the data was collected.
const AT: &str = "2026-11-22T00:00:00Z";

/// Trustee's evidence (78962cd4) of plain TPMs and of Azure's: what each binds; the README beside says that all verify.
const REAL: [(&str, &str); 7] = [
    ("trustee/tpm_evidence.json", "a04182b506878d4f29b91ee606a71a0d"),
    ("trustee/az-snp-vtpm/evidence-v0.json", "6368616c6c656e6765"),
    ("trustee/az-snp-vtpm/evidence-v1.json", "6368616c6c656e6765"),
    ("trustee/az-snp-vtpm/evidence-v2.json", "982f5c6e45df0ed3"),
    ("trustee/az-snp-vtpm/evidence-genoa.json", "0218488bae25d250"),
    ("trustee/az-tdx-vtpm/evidence-v0.json", "6368616c6c656e6765"),
    ("trustee/az-tdx-vtpm/evidence-v1.json", "6368616c6c656e6765"),
];

#[test]
fn real_quotes_are_genuine_if_their_key_is_trusted() {
    let Some(vtpm) = vtpm() else { return };
    for (file, bound) in REAL {
        let evidence = tpm(&vtpm.join(file));
        let claims = evidence.verify(&named(&evidence), at()).unwrap();
        let claims = claims.claims();
        assert!(HEXLOWER.encode(&claims.extra_data).starts_with(bound), "{file}");
        assert_eq!(claims.pcrs.len(), 24, "{file}");
        assert_eq!(claims.vouched_by, VouchedBy::Key { key: claims.key }, "{file}");
        let nobody = evidence.verify(&AkTrust::default(), at()).unwrap_err();
        assert_eq!(nobody, [TpmFinding::TpmAkNotTrusted { key: claims.key }], "{file}");
    }
}

/// Azure's with SEV-SNP: the chip vouches for the paravisor's report, and that for the key. Whose paravisor it is, only a
/// policy knows that pins it.
#[test]
fn real_azure_evidence_is_of_confidential_vms_where_their_paravisor_is_pinned() {
    let Some(vtpm) = vtpm() else { return };
    for (file, _) in &REAL[1..5] {
        let evidence = tpm(&vtpm.join(file));
        let pins = [pin(genuine_report(&evidence).claims())];
        let claims = evidence.verify(&with_hardware(&evidence, &pins), at()).unwrap();
        assert_eq!(claims.claims().vouched_by, VouchedBy::Paravisor, "{file}");
        assert_eq!(TpmPolicy::default().appraise(&claims), [], "{file}");
        let claims = evidence.verify(&with_hardware(&evidence, &[]), at()).unwrap();
        let key = claims.claims().key;
        assert_eq!(claims.claims().vouched_by, VouchedBy::Hardware, "{file}");
        let finding = TpmFinding::TpmParavisorNotPinned { key };
        assert_eq!(TpmPolicy::default().appraise(&claims), [finding], "{file}");
    }
}

/// What Azure's own key signed, and nothing that only looks like it.
#[test]
fn a_pin_is_the_whole_of_what_it_names() {
    let Some(vtpm) = vtpm() else { return };
    let evidence = tpm(&vtpm.join("trustee/az-snp-vtpm/evidence-v1.json"));
    let report = genuine_report(&evidence);
    let (measurement, key) = (report.claims().measurement(), report.claims().id_key_digest());
    let vouched = |measurement, id_key_digest| {
        let pins = [Paravisor::Snp {
            measurement,
            id_key_digest,
        }];
        let claims = evidence.verify(&with_hardware(&evidence, &pins), at()).unwrap();
        claims.claims().vouched_by.clone()
    };
    assert_eq!(vouched(measurement, Some(key)), VouchedBy::Paravisor);
    assert_eq!(vouched(measurement, Some(Sha384::of("mine"))), VouchedBy::Hardware);
    assert_eq!(vouched(Sha384::of("mine"), Some(key)), VouchedBy::Hardware);
}

/// No collateral of their platform is known: the hardware's evidence cannot be verified, and nothing else vouches.
#[test]
fn azure_evidence_whose_hardware_is_not_genuine_is_of_nobody() {
    let Some(vtpm) = vtpm() else { return };
    let evidence = tpm(&vtpm.join(REAL[5].0));
    let Evidence::Tdx(td) = &*evidence.hcl.as_ref().unwrap().hardware else {
        panic!("Azure's TDX is TDX");
    };
    assert!(td.verify(TdxRoot::INTEL, at()).is_err());
    let key = Sha256::of(&*evidence.ak);
    let findings = evidence.verify(&AkTrust::default(), at()).unwrap_err();
    assert_eq!(findings, [TpmFinding::TpmAkNotTrusted { key }]);
}

/// Both are genuine, but of different VMs.
#[test]
fn hardware_of_another_vm() {
    let Some(vtpm) = vtpm() else { return };
    let read = |file: &str| tpm(&vtpm.join("trustee/az-snp-vtpm").join(file));
    let [mut evidence, other] = [read("evidence-v1.json"), read("evidence-genoa.json")];
    let embedded = genuine_report(&evidence).claims().report_data().to_string();
    let hardware = genuine_report(&other).claims().report_data().to_string();
    assert_eq!(
        evidence.verify(&with_hardware(&other, &[]), at()).unwrap_err(),
        [TpmFinding::TpmHclHardwareDiffers { embedded, hardware }]
    );
    // the same report, but not where it travels on its own
    let trust = with_hardware(&evidence, &[]);
    evidence.hcl.as_mut().unwrap().hardware = other.hcl.unwrap().hardware;
    let findings = evidence.verify(&trust, at()).unwrap_err();
    assert!(
        matches!(findings[..], [TpmFinding::TpmHclHardwareDiffers { .. }]),
        "{findings:?}"
    );
}

#[test]
fn a_td_vouches_for_its_vtpm() {
    let ak = Ak::rsa(2048, false);
    let (report, report_data) = simulated::hcl_of_td(&ak);
    let mut evidence = Simulated::new(ak, b"nonce", values(0..12)).evidence();
    let trust = |report_data, pins: &[Paravisor]| {
        let quote = td(report_data).evidence(&tdx::Platform::default());
        let claims = quote.verify(TdxRoot::simulated(&tdx::root()), tdx::now()).unwrap();
        AkTrust {
            hardware: Some(Hardware::of_tdx(&claims, pins)),
            ..AkTrust::default()
        }
    };
    evidence.hcl = Some(HclEvidence {
        report: report.into(),
        hardware: Box::new(Evidence::Tdx(td(report_data).evidence(&tdx::Platform::default()))),
    });
    let pinned = |mrtd: [u8; 48], rtmr: [u8; 48]| {
        let pin = Paravisor::Tdx {
            mrtd: mrtd.into(),
            rtmrs: [rtmr.into(), Sha384::ZERO, Sha384::ZERO, Sha384::ZERO],
        };
        let claims = evidence.verify(&trust(report_data, &[pin]), tdx::now()).unwrap();
        claims.claims().vouched_by == VouchedBy::Paravisor
    };
    assert!(pinned([0x11; 48], [0; 48]));
    assert!(!pinned([0x12; 48], [0; 48]) && !pinned([0x11; 48], [1; 48]));
    let findings = evidence.verify(&trust([0x33; 64], &[]), tdx::now()).unwrap_err();
    assert!(
        matches!(findings[..], [TpmFinding::TpmHclHardwareDiffers { .. }]),
        "{findings:?}"
    );
}

fn td(report_data: [u8; 64]) -> tdx::Td {
    tdx::Td {
        report_data,
        ..tdx::Td::default()
    }
}

/// Trust in nothing but the hardware that came along, which is genuine.
fn with_hardware(evidence: &TpmEvidence, pins: &[Paravisor]) -> AkTrust {
    AkTrust {
        hardware: Some(Hardware::of_snp(&genuine_report(evidence), pins)),
        ..AkTrust::default()
    }
}

fn genuine_report(evidence: &TpmEvidence) -> Genuine<SnpClaims> {
    let Evidence::Snp(snp) = &*evidence.hcl.as_ref().unwrap().hardware else {
        panic!("Azure's SNP is SNP");
    };
    snp.verify(&AmdRoots::amd(), at()).unwrap()
}

fn pin(report: &SnpClaims) -> Paravisor {
    Paravisor::Snp {
        measurement: report.measurement(),
        id_key_digest: Some(report.id_key_digest()),
    }
}

#[test]
fn real_evidence_binds_what_was_asked_for() {
    let Some(vtpm) = vtpm() else { return };
    let asked = b"challenge";
    let evidence = Evidence::Tpm(tpm(&vtpm.join("trustee/az-tdx-vtpm/evidence-v1.json")));
    assert_eq!(evidence.report_data().unwrap(), asked);
    assert_eq!(evidence.binds(asked), Ok(true));
    assert_eq!(evidence.binds(b"challeng"), Ok(false));
    assert_eq!(evidence.binds(b"challenges"), Ok(false));
}

/// Both shapes of Azure's evidence hold the same values where they are of one VM.
#[test]
fn every_version_of_a_shape_reads_as_the_same() {
    let Some(vtpm) = vtpm() else { return };
    let read = |file: &str| tpm(&vtpm.join("trustee").join(file));
    assert_eq!(
        read("az-tdx-vtpm/evidence-v0.json"),
        read("az-tdx-vtpm/evidence-v1.json")
    );
    let [old, new] = [
        read("az-snp-vtpm/evidence-v0.json"),
        read("az-snp-vtpm/evidence-v1.json"),
    ];
    assert_eq!(old.ak, new.ak);
    let certificates = |evidence: TpmEvidence| match *evidence.hcl.unwrap().hardware {
        Evidence::Snp(snp) => snp.certificates,
        other => panic!("{other:?}"),
    };
    assert_eq!(certificates(old), certificates(new));
}

#[test]
fn hcl_reports_bind_their_keys() {
    let Some(vtpm) = vtpm() else { return };
    for file in [
        "azure-cvm-tooling/hcl-report-snp.bin",
        "azure-cvm-tooling/hcl-report-tdx.bin",
        "trustee/az-snp-vtpm/hcl-report.bin",
        "trustee/az-tdx-vtpm/hcl-report.bin",
    ] {
        let bytes = fs::read(vtpm.join(file)).unwrap();
        let report = HclReport::read(&bytes).unwrap();
        let digest = Sha256::of(report.claims);
        assert_eq!(report.report_data().bytes()[..32], *digest.bytes(), "{file}");
        assert!(!report.ak().unwrap().is_empty(), "{file}");
    }
}

/// Quotes as az-cvm-vtpm stores them (bincode): signature, message and 24 values, each list behind its length.
#[test]
fn quotes_of_azure_are_those_of_the_keys_beside_them() {
    let Some(vtpm) = vtpm() else { return };
    let spki = |pem: &str| {
        let text = fs::read_to_string(vtpm.join(pem)).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with("---")).collect();
        Bytes::from(BASE64.decode(body.as_bytes()).unwrap())
    };
    let hcl = |file: &str| {
        let bytes = fs::read(vtpm.join(file)).unwrap();
        HclReport::read(&bytes).unwrap().ak().unwrap()
    };
    for (quote, ak) in [
        ("azure-cvm-tooling/quote.bin", spki("azure-cvm-tooling/akpub.pem")),
        (
            "trustee/az-snp-vtpm/quote.bin",
            hcl("trustee/az-snp-vtpm/hcl-report.bin"),
        ),
        (
            "trustee/az-tdx-vtpm/quote.bin",
            hcl("trustee/az-tdx-vtpm/hcl-report.bin"),
        ),
    ] {
        let evidence = bincode(&fs::read(vtpm.join(quote)).unwrap(), ak);
        evidence.verify(&named(&evidence), at()).expect(quote);
    }
}

fn bincode(bytes: &[u8], ak: Bytes) -> TpmEvidence {
    let (signature, rest) = bytes[8..].split_at(256);
    let (message, rest) = rest[8..].split_at(122);
    let values = rest[8..].chunks(32).map(|value| Bytes::from(value.to_vec()));
    TpmEvidence {
        quote: message.to_vec().into(),
        signature: [&[0, 0x14, 0, 0xb, 1, 0][..], signature].concat().into(),
        pcrs: BTreeMap::from([("sha256".into(), (0..24).zip(values).collect())]),
        ak,
        ..TpmEvidence::default()
    }
}

/// Exhaustive: of the signed message, and of the signature with its header.
#[test]
fn no_real_quote_survives_a_flipped_bit() {
    let Some(vtpm) = vtpm() else { return };
    for file in [REAL[0].0, REAL[3].0] {
        let evidence = tpm(&vtpm.join(file));
        let trust = named(&evidence);
        assert_eq!(accepted_flips(&evidence, &trust), 0, "{file}");
    }
}

#[test]
fn no_simulated_quote_survives_a_flipped_bit() {
    for ak in [Ak::p256(1), Ak::p384(1), Ak::rsa(2048, true)] {
        let evidence = Simulated::new(ak, b"nonce", values([0, 7])).evidence();
        let trust = named(&evidence);
        assert!(evidence.verify(&trust, at()).is_ok());
        assert_eq!(accepted_flips(&evidence, &trust), 0);
    }
}

/// Returns how many of all single flipped bits of the quote and its signature are accepted.
fn accepted_flips(evidence: &TpmEvidence, trust: &AkTrust) -> usize {
    let flipped = |bytes: &Bytes, bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        Bytes::from(bytes)
    };
    let quotes = (0..evidence.quote.len() * 8).map(|bit| TpmEvidence {
        quote: flipped(&evidence.quote, bit),
        ..evidence.clone()
    });
    let signatures = (0..evidence.signature.len() * 8).map(|bit| TpmEvidence {
        signature: flipped(&evidence.signature, bit),
        ..evidence.clone()
    });
    quotes
        .chain(signatures)
        .filter(|evidence| evidence.verify(trust, at()).is_ok())
        .count()
}

/// The README's: byte 44 of the message is in the nonce, or in the signer's name before it.
#[test]
fn nonce_changed() {
    let Some(vtpm) = vtpm() else { return };
    for (file, _) in REAL {
        let mut evidence = tpm(&vtpm.join(file));
        let trust = named(&evidence);
        evidence.quote = changed(&evidence.quote, 44);
        let key = Sha256::of(&*evidence.ak);
        let findings = evidence.verify(&trust, at()).unwrap_err();
        assert!(
            findings.contains(&TpmFinding::TpmSignatureInvalid { key }),
            "{file}: {findings:?}"
        );
    }
}

#[test]
fn pcr_value_changed() {
    let Some(vtpm) = vtpm() else { return };
    for (file, _) in REAL {
        let real = tpm(&vtpm.join(file));
        for pcr in 0..24 {
            let mut evidence = real.clone();
            let value = evidence.pcrs.get_mut("sha256").unwrap().get_mut(&pcr).unwrap();
            *value = changed(value, 31);
            let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
            assert!(
                matches!(findings[..], [TpmFinding::TpmPcrDigestDiffers { .. }]),
                "{file}: {findings:?}"
            );
        }
    }
}

#[test]
fn runtime_json_changed() {
    let Some(vtpm) = vtpm() else { return };
    for (file, _) in &REAL[1..] {
        let mut evidence = tpm(&vtpm.join(file));
        let hcl = evidence.hcl.as_mut().unwrap();
        hcl.report = changed(&hcl.report, 1236 + 600);
        let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
        assert!(
            matches!(findings[..], [TpmFinding::TpmHclClaimsDiffer { .. }]),
            "{file}: {findings:?}"
        );
    }
}

#[test]
fn hcl_reports_swapped() {
    let Some(vtpm) = vtpm() else { return };
    let read = |file: &str| tpm(&vtpm.join("trustee").join(file));
    let mut evidence = read("az-snp-vtpm/evidence-v1.json");
    let (key, other) = (Sha256::of(&*evidence.ak), read("az-snp-vtpm/evidence-v2.json"));
    evidence.hcl.clone_from(&other.hcl);
    let bound = Sha256::of(&*other.ak);
    assert_eq!(
        evidence.verify(&named(&evidence), at()).unwrap_err(),
        [TpmFinding::TpmAkNotBound { bound, key }]
    );
}

/// The paravisor vouches for its own key only: that of a TPM elsewhere, even one that is trusted, is none of its.
#[test]
fn ak_not_bound() {
    let Some(vtpm) = vtpm() else { return };
    let other = tpm(&vtpm.join("trustee/az-snp-vtpm/evidence-v2.json"));
    let mut evidence = Simulated::new(Ak::p256(1), b"nonce", values([0])).evidence();
    evidence.hcl = other.hcl;
    let finding = TpmFinding::TpmAkNotBound {
        bound: Sha256::of(&*other.ak),
        key: Sha256::of(&*evidence.ak),
    };
    assert_eq!(evidence.verify(&named(&evidence), at()).unwrap_err(), [finding]);
}

#[test]
fn a_hcl_report_has_one_form() {
    let Some(vtpm) = vtpm() else { return };
    for file in [
        "trustee/az-snp-vtpm/hcl-report.bin",
        "trustee/az-tdx-vtpm/hcl-report.bin",
    ] {
        let bytes = fs::read(vtpm.join(file)).unwrap();
        let snp = bytes[32] != 0x81;
        let end = 1236 + HclReport::read(&bytes).unwrap().claims.len();
        for at in (0..bytes.len()).filter(|at| !(32..1216).contains(at) || !snp && *at >= 1056) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = HclReport::read(&changed);
            assert_eq!(read.is_ok(), (1236..end).contains(&at), "{file} {at}");
        }
        for size in 0..end {
            assert!(HclReport::read(&bytes[..size]).is_err(), "{file} {size}");
        }
    }
}

#[test]
fn simulated_keys_of_every_kind_are_trusted_by_name() {
    for (ak, hash) in [
        (Ak::p256(1), simulated::SHA256),
        (Ak::p384(1), simulated::SHA384),
        (Ak::p384(2), simulated::SHA256),
        (Ak::rsa(2048, false), simulated::SHA256),
        (Ak::rsa(2048, false), simulated::SHA384),
        (Ak::rsa(2048, true), simulated::SHA256),
        (Ak::rsa(2048, true), simulated::SHA384),
    ] {
        let digest = ak.digest();
        let mut tpm = Simulated::new(ak, b"nonce", values(0..8));
        tpm.hash = hash;
        let evidence = tpm.evidence();
        let claims = evidence.verify(&named(&evidence), at()).unwrap();
        let claims = claims.claims();
        assert_eq!(&*claims.extra_data, b"nonce");
        assert_eq!(
            claims.pcrs.keys().copied().collect::<Vec<_>>(),
            (0..8).collect::<Vec<_>>()
        );
        assert_eq!(claims.pcrs[&7].sha256, Some(Sha256::of([7])));
        assert_eq!((claims.reset_count, claims.restart_count), (7, 1));
        assert_eq!(claims.firmware_version, 0x2024_0125_0012_0000);
        assert_eq!(claims.vouched_by, VouchedBy::Key { key: digest });
        let text = claims.vouched_by.to_string();
        assert!(text.contains("may be of software"), "{text}");
    }
}

#[test]
fn both_banks_are_quoted_at_once() {
    let mut tpm = Simulated::new(Ak::p256(1), b"", values([4, 9]));
    tpm.pcrs
        .insert("sha384", BTreeMap::from([(4, vec![4; 48]), (11, vec![1; 48])]));
    let evidence = tpm.evidence();
    let claims = evidence.verify(&named(&evidence), at()).unwrap();
    let held = |pcr: u8| {
        (
            claims.claims().pcrs[&pcr].sha256.is_some(),
            claims.claims().pcrs[&pcr].sha384.is_some(),
        )
    };
    assert_eq!([4, 9, 11].map(held), [(true, true), (true, false), (false, true)]);
}

#[test]
fn sha1_quote() {
    for ak in [Ak::rsa(2048, false), Ak::p256(1)] {
        let mut tpm = Simulated::new(ak, b"nonce", values([0]));
        tpm.hash = simulated::SHA1;
        let evidence = tpm.evidence();
        let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
        assert_eq!(
            findings[0].to_string(),
            "the quote is signed with sha1, expected sha256, sha384 or sha512"
        );
    }
}

#[test]
fn sha1_bank() {
    let mut tpm = Simulated::new(Ak::p256(1), b"nonce", values([0]));
    tpm.pcrs.insert("sha1", BTreeMap::from([(0, vec![0; 20])]));
    let evidence = tpm.evidence();
    let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
    let texts: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["a quoted bank of PCRs with sha1, expected sha256 or sha384"]);
}

#[test]
fn weak_key() {
    let evidence = Simulated::new(Ak::rsa(1024, false), b"nonce", values([0])).evidence();
    let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
    let [TpmFinding::TpmKeyRefused { found }] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(found, "RSA of 1024 bits with the exponent 65537");
}

/// Good values of other PCRs than were quoted, and other values of those that were.
#[test]
fn quote_over_other_pcrs() {
    let mut evidence = Simulated::new(Ak::p256(1), b"nonce", values([16, 23])).evidence();
    let trust = named(&evidence);
    evidence.pcrs = Simulated::new(Ak::p256(1), b"nonce", values([4, 9])).evidence().pcrs;
    let bank = || "sha256".to_owned();
    let size = 32;
    assert_eq!(
        evidence.verify(&trust, at()).unwrap_err(),
        [
            TpmFinding::TpmPcrMissing {
                bank: bank(),
                pcr: 16,
                size
            },
            TpmFinding::TpmPcrMissing {
                bank: bank(),
                pcr: 23,
                size
            },
            TpmFinding::TpmPcrUnvouched { bank: bank(), pcr: 4 },
            TpmFinding::TpmPcrUnvouched { bank: bank(), pcr: 9 },
        ]
    );
    let honest = Simulated::new(Ak::p256(1), b"nonce", values([16, 23])).evidence();
    let claims = honest.verify(&trust, at()).unwrap();
    let policy = TpmPolicy {
        allow_measured_boot: true,
        pcrs: BTreeSet::from([4, 16]),
        ..TpmPolicy::default()
    };
    assert_eq!(policy.appraise(&claims), [TpmFinding::TpmPcrNotQuoted { pcr: 4 }]);
}

#[test]
fn values_of_another_boot() {
    let mut evidence = Simulated::new(Ak::p256(1), b"nonce", values([4, 9])).evidence();
    let other = [4, 9].map(|pcr| (pcr, Sha256::of([pcr, 1])));
    evidence.pcrs = Simulated::new(Ak::p256(1), b"nonce", other).evidence().pcrs;
    let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
    assert!(
        matches!(findings[..], [TpmFinding::TpmPcrDigestDiffers { .. }]),
        "{findings:?}"
    );
}

#[test]
fn key_of_somebody_else() {
    let mut evidence = Simulated::new(Ak::p256(1), b"nonce", values([0])).evidence();
    let trust = named(&evidence);
    evidence.ak = Ak::p256(2).spki().into();
    let key = Ak::p256(2).digest();
    assert_eq!(
        evidence.verify(&trust, at()).unwrap_err(),
        [
            TpmFinding::TpmSignatureInvalid { key },
            TpmFinding::TpmAkNotTrusted { key }
        ]
    );
}

/// A TPM signs what it certifies and what time it is, too.
#[test]
fn something_else_that_a_tpm_signed() {
    let message = Simulated::new(Ak::p256(1), b"nonce", values([0])).message();
    for (at, value, text) in [
        (0, 0, "magic of the quote at offset 0x0 is 0x544347"),
        (5, 0x17, "type of the attestation at offset 0x4 is 0x8017"),
        (7, 67, "size of the qualified signer at offset 0x6 is 0x43"),
        (65, 2, "safe at offset 0x41 is 0x2"),
    ] {
        let mut message = message.clone();
        message[at] = value;
        let error = Quote::read(&message).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
    }
    let mut longer = message.clone();
    longer.push(0);
    assert!(Quote::read(&longer).is_err());
    for size in 0..message.len() {
        assert!(Quote::read(&message[..size]).is_err());
    }
}

/// Made by Python's `cryptography`: see `ak_certificates.py`.
#[test]
fn certificates_lead_to_a_root_of_the_policy() {
    let (evidence, roots) = (ak_evidence(&["ak", "middle"]), certificates(&["forged-root", "root"]));
    let root = Sha256::of(&*roots[1]);
    let trust = AkTrust {
        roots,
        ..AkTrust::default()
    };
    for chain in [
        &["ak", "middle"][..],
        &["ak", "middle-of-aks"],
        &["ak", "middle", "root"],
        &["ak-under-root"],
    ] {
        let evidence = TpmEvidence {
            ak_certificates: certificates(chain),
            ..evidence.clone()
        };
        let claims = evidence.verify(&trust, at()).unwrap();
        assert_eq!(claims.claims().vouched_by, VouchedBy::Certificate { root }, "{chain:?}");
    }
}

/// Those of a server, of an endorsement key and of anything at all among them: whoever has their key signs what it likes.
#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn attack_certificates_that_are_not_of_an_attestation_key() {
    for (chain, why) in [
        (
            &["ak"][..],
            "certificate 1 of the attestation key, CN=AK: issued by CN=Middle, which is no root of the policy",
        ),
        (
            &["ak", "forged-middle"],
            "certificate 2 of the attestation key, its root CN=Root: the signature of the",
        ),
        (
            &["ak", "middle-no-authority"],
            "certificate 2 of the attestation key, CN=Middle: it is not of an authority",
        ),
        (
            &["ak", "middle-other-usage"],
            "certificate 2 of the attestation key, CN=Middle: its key usage lacks keyCert",
        ),
        (
            &["ak", "middle-expired"],
            "certificate 2 of the attestation key, CN=Middle: it is valid from 2026-01-01",
        ),
        (
            &["ak-expired", "middle"],
            "certificate 1 of the attestation key, CN=AK: it is valid from 2026-01-01",
        ),
        (
            &["ak-under-under", "under", "middle"],
            "certificate 3 of the attestation key, CN=Middle: it allows 0 author",
        ),
        (
            &["ak-authority", "middle"],
            "certificate 1 of the attestation key, CN=AK: it is of an authority",
        ),
        (
            &["ak-other-key", "middle"],
            "certificate 1 of the attestation key, CN=AK: it is of the key",
        ),
        (
            &["ak-server", "middle"],
            "certificate 1 of the attestation key, CN=AK: its extended key usage lacks 2.23.133",
        ),
        (
            &["ak-any-use", "middle"],
            "certificate 1 of the attestation key, CN=AK: its extended key usage lacks 2.23.133.8.3, attestation keys",
        ),
        (
            &["ak-anything", "middle"],
            "certificate 1 of the attestation key, CN=AK: its extended key usage lacks 2.23.133",
        ),
        (
            &["ak-plain", "middle"],
            "certificate 1 of the attestation key, CN=AK: its key usage lacks digitalSignat",
        ),
        (
            &["ak", "middle-any-use"],
            "certificate 2 of the attestation key, CN=Middle: its key usage lacks keyCertSign",
        ),
        (
            &["ak", "middle-of-servers"],
            "certificate 2 of the attestation key, CN=Middle: its extended key usage lacks 2.23.133",
        ),
        (
            &["ak-encrypts", "middle"],
            "certificate 1 of the attestation key, CN=AK: its key usage lacks digitalSignat",
        ),
        (
            &["ak-unknown-critical", "middle"],
            "certificate 1 of the attestation key, CN=AK: its critical extension 1.3",
        ),
        (
            &["ak", "root"],
            "certificate 2 of the attestation key, CN=Root: the issuer of the certificate before is CN=M",
        ),
    ] {
        let evidence = ak_evidence(chain);
        let trust = AkTrust {
            roots: certificates(&["root"]),
            ..AkTrust::default()
        };
        let findings = evidence.verify(&trust, at()).unwrap_err();
        assert_eq!(
            findings[0],
            TpmFinding::TpmAkNotTrusted {
                key: Ak::p256(7).digest()
            }
        );
        let text = findings[1].to_string();
        assert!(text.starts_with(why), "{chain:?}: {text}");
    }
}

/// The names are right, the keys are not.
#[test]
fn forged_root() {
    let evidence = ak_evidence(&["ak", "forged-middle", "forged-root"]);
    let trust = |name| AkTrust {
        roots: certificates(&[name]),
        ..AkTrust::default()
    };
    assert!(evidence.verify(&trust("forged-root"), at()).is_ok());
    assert!(evidence.verify(&trust("root"), at()).is_err());
    assert!(evidence.verify(&AkTrust::default(), at()).is_err());
}

fn certificates(names: &[&str]) -> Vec<Bytes> {
    let all: BTreeMap<String, Bytes> = serde_json::from_str(include_str!("simulated/ak-certificates.json")).unwrap();
    names.iter().map(|name| all[*name].clone()).collect()
}

/// A quote of the key that the certificates are of.
fn ak_evidence(chain: &[&str]) -> TpmEvidence {
    TpmEvidence {
        ak_certificates: certificates(chain),
        ..Simulated::new(Ak::p256(7), b"nonce", values([0])).evidence()
    }
}

/// A boot that was observed, quoted by a simulated TPM; of userspace, systemd's words up to `sysinit`.
fn booted() -> Option<TpmEvidence> {
    let path = PathBuf::from("../../shared/vectors/tpm-logs/disk-uki/eventlog.bin");
    if !path.is_file() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    let log = fs::read(path).unwrap();
    Some(quoted(log))
}

/// A simulated TPM that holds what the log leads to.
fn quoted(log: Vec<u8>) -> TpmEvidence {
    let mut read = EventLog::read(&log, LogOf::Tpm).unwrap();
    read.events
        .extend(measure::tpm::phases(["enter-initrd", "leave-initrd", "sysinit"]));
    let held = read
        .replay()
        .into_iter()
        .filter_map(|(register, value)| match register {
            Register::Pcr(pcr) => Some((pcr, value.sha256?)),
            Register::Rtmr(_) => None,
        });
    let mut evidence = Simulated::new(Ak::p256(1), b"nonce", held).evidence();
    evidence.event_log = Some(log.into());
    evidence
}

#[test]
fn an_event_log_explains_what_was_quoted() {
    let Some(evidence) = booted() else { return };
    let claims = evidence.verify(&named(&evidence), at()).unwrap();
    let log = claims.claims().event_log.as_ref().unwrap();
    let last: Vec<_> = log.events.iter().rev().take(3).map(|event| event.register).collect();
    assert_eq!(last, [Register::Pcr(11); 3]);
    let policy: TpmPolicy = serde_json::from_str(r#"{"allow-measured-boot": true}"#).unwrap();
    assert_eq!(policy.appraise(&claims), []);
    let findings = TpmPolicy::default().appraise(&claims);
    assert!(
        matches!(findings[..], [TpmFinding::TpmNotConfidential { .. }]),
        "{findings:?}"
    );
}

#[test]
fn event_log_edited() {
    let Some(evidence) = booted() else { return };
    let log = evidence.event_log.clone().unwrap();
    let original = evidence.verify(&named(&evidence), at()).unwrap();
    let digests: Vec<usize> = offsets_of_digests(&log);
    for at_byte in digests {
        let mut evidence = evidence.clone();
        evidence.event_log = Some(changed(&log, at_byte));
        match evidence.verify(&named(&evidence), at()) {
            // an event that extends nothing
            Ok(claims) => assert_eq!(claims.claims().pcrs, original.claims().pcrs),
            Err(findings) => assert!(
                matches!(findings[..], [TpmFinding::TpmLogDiffers { .. }]),
                "{findings:?}"
            ),
        }
    }
}

#[test]
fn event_log_reordered() {
    let Some(evidence) = booted() else { return };
    let pieces = events(evidence.event_log.as_ref().unwrap());
    let register = |piece: &[u8]| u32::from_le_bytes(piece[..4].try_into().unwrap());
    let mut swaps = 0;
    for first in 1..pieces.len() {
        let Some(second) =
            (first + 1..pieces.len()).find(|second| register(&pieces[*second]) == register(&pieces[first]))
        else {
            continue;
        };
        let mut pieces = pieces.clone();
        if digests_of(&pieces[first]) == digests_of(&pieces[second]) {
            continue;
        }
        pieces.swap(first, second);
        let mut evidence = evidence.clone();
        evidence.event_log = Some(pieces.concat().into());
        let findings = evidence.verify(&named(&evidence), at()).unwrap_err();
        let pcr = u8::try_from(register(&pieces[first])).unwrap();
        let differs =
            |finding: &TpmFinding| matches!(finding, TpmFinding::TpmLogDiffers { pcr: found, .. } if *found == pcr);
        assert!(findings.iter().any(differs), "{first} {second}: {findings:?}");
        swaps += 1;
    }
    assert!(swaps > 10, "{swaps}");
}

/// Cut after every event: those of PCR 0 to 7 must all be there, and what the policy wants must be explained.
#[test]
fn event_log_cut() {
    let Some(evidence) = booted() else { return };
    let pieces = events(evidence.event_log.as_ref().unwrap());
    let policy: TpmPolicy = serde_json::from_str(r#"{"allow-measured-boot": true}"#).unwrap();
    for kept in 1..pieces.len() {
        let mut evidence = evidence.clone();
        evidence.event_log = Some(pieces[..kept].concat().into());
        let findings = match evidence.verify(&named(&evidence), at()) {
            Ok(claims) => policy.appraise(&claims),
            Err(findings) => findings,
        };
        assert!(!findings.is_empty(), "{kept} of {} events", pieces.len());
    }
}

/// The pieces of a log: its first event, which extends nothing, and each other.
fn events(log: &[u8]) -> Vec<Vec<u8>> {
    let number = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
    let first = 32 + number(28);
    let mut pieces = vec![log[..first].to_vec()];
    let mut start = first;
    while start + 12 < log.len() && log[start..start + 4] != [0xff; 4] && number(start + 8) != 0 {
        let mut end = start + 12;
        for _ in 0..number(start + 8) {
            end += 2 + digest_size(&log[end..]);
        }
        end += 4 + number(end);
        pieces.push(log[start..end].to_vec());
        start = end;
    }
    pieces
}

fn digest_size(bytes: &[u8]) -> usize {
    match u16::from_le_bytes([bytes[0], bytes[1]]) {
        0x4 => 20,
        0xb => 32,
        0xc => 48,
        0xd => 64,
        other => panic!("bank {other:#x}"),
    }
}

/// The digest of the bank SHA-256 in an event.
fn digests_of(event: &[u8]) -> Vec<u8> {
    let at = sha256_in(event);
    event[at..at + 32].to_vec()
}

/// Where an event has its digest of the bank SHA-256.
fn sha256_in(event: &[u8]) -> usize {
    let mut at = 12;
    while event[at..at + 2] != [0xb, 0] {
        at += 2 + digest_size(&event[at..]);
    }
    at + 2
}

/// Where the log has the digests of the bank SHA-256 of its events.
fn offsets_of_digests(log: &[u8]) -> Vec<usize> {
    let mut start = 0;
    let pieces = events(log);
    let mut offsets = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            offsets.push(start + sha256_in(piece));
        }
        start += piece.len();
    }
    offsets
}

/// What the crate `sev` 8.0.0 (features `snp`, `serde`) makes of reports of version 2, 3 and 5 whose bytes are a pattern:
/// the struct of guest-components' `SnpEvidence`, with the raw report beside it.
#[test]
fn reports_of_coco_are_the_bytes_that_were_signed() {
    let golden: Vec<serde_json::Value> = serde_json::from_str(include_str!("simulated/snp-coco.json")).unwrap();
    assert_eq!(golden.len(), 3);
    for golden in golden {
        let raw = HEXLOWER.decode(golden["report"].as_str().unwrap().as_bytes()).unwrap();
        let read = coco::read(golden["evidence"].to_string().as_bytes()).unwrap();
        let Evidence::Snp(snp) = &read else { panic!("{read:?}") };
        assert_eq!(*snp.report, *raw);
        assert_eq!(read.report_data().unwrap(), raw[0x50..0x90]);
        let certificates: Vec<&[u8]> = snp.certificates.iter().map(|bytes| &**bytes).collect();
        match golden["evidence"]["cert_chain"].is_null() {
            true => assert!(certificates.is_empty() && snp.crls.is_empty()),
            false => {
                assert_eq!(certificates, [&b"vcek"[..], b"ask", b"ark"]);
                assert_eq!(&*snp.crls[0], b"crl");
            }
        }
    }
}

#[test]
fn json_that_is_none_of_an_attester_is_refused() {
    let golden: Vec<serde_json::Value> = serde_json::from_str(include_str!("simulated/snp-coco.json")).unwrap();
    let report = |change: fn(&mut serde_json::Value)| {
        let mut evidence = golden[0]["evidence"].clone();
        change(&mut evidence["attestation_report"]);
        coco::read(evidence.to_string().as_bytes()).unwrap_err().to_string()
    };
    let text = report(|report| report["chip_id"].as_array_mut().unwrap().truncate(63));
    assert!(
        text.starts_with("no JSON of the attester snp: invalid length 63, expected 64 bytes"),
        "{text}"
    );
    let text = report(|report| report["other"] = 1.into());
    assert!(text.contains("unknown field `other`"), "{text}");
    let text = report(|report| report["vmpl"] = serde_json::Value::Null);
    assert!(text.contains("invalid type: null"), "{text}");
    let refusal = |text: &str| coco::read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        refusal(r#"{"svn": "1", "report_data": "eA=="}"#),
        "no attester is known whose evidence has the keys report_data, svn; known are snp, tdx, tpm, az-snp-vtpm and \
         az-tdx-vtpm"
    );
    assert_eq!(refusal(r#"{"quote": "AA"}"#), "quote is malformed, expected base64");
    assert!(refusal("[]").starts_with("no JSON of the attester evidence"));
    assert!(refusal(&"[".repeat(5 << 20)).starts_with("the JSON is 5242880 bytes long"));
}

#[test]
fn quotes_of_coco_are_read_with_their_log() {
    let read = coco::read(br#"{"quote": "AAEC", "cc_eventlog": "AwQ="}"#).unwrap();
    let Evidence::Tdx(tdx) = read else { panic!("{read:?}") };
    assert_eq!(
        (&*tdx.quote, &**tdx.event_log.as_ref().unwrap()),
        (&[0, 1, 2][..], &[3, 4][..])
    );
    let read = coco::read(br#"{"quote": "AAEC", "cc_eventlog": null}"#).unwrap();
    assert!(matches!(read, Evidence::Tdx(tdx) if tdx.event_log.is_none()));
}

#[test]
fn a_policy_says_what_it_leaves_unchecked() {
    let policy = TpmPolicy::default();
    assert_eq!(
        policy.unchecked(),
        ["whether certificates of attestation keys are revoked"]
    );
    let pinned = |rest: &str| {
        let pin = format!(
            r#"{{"platform": "snp", "measurement": "{}"{rest}}}"#,
            Sha384::of("paravisor")
        );
        serde_json::from_str::<TpmPolicy>(&format!(r#"{{"paravisor": [{pin}]}}"#))
    };
    assert_eq!(pinned("").unwrap().paravisor.len(), 1);
    assert!(pinned(r#", "vmpl": 2"#).is_err() && pinned(r#", "id-key-digest": "aa""#).is_err());
    assert!(serde_json::from_str::<TpmPolicy>(r#"{"paravisor": [{"platform": "snp"}]}"#).is_err());
    let text = r#"{"keys": ["aa"], "pcrs": [4]}"#;
    assert!(serde_json::from_str::<TpmPolicy>(text).is_err());
    assert!(serde_json::from_str::<TpmPolicy>(r#"{"pcr": [4]}"#).is_err());
    let policy: TpmPolicy =
        serde_json::from_str(r#"{"allow-measured-boot": true, "pcrs": [0, 1, 2, 3, 4, 5, 6, 7, 9]}"#).unwrap();
    assert_eq!(
        policy.unchecked()[1..],
        [
            "whether the TPM is part of a confidential VM (allow-measured-boot)",
            "whether PCR 11 was quoted (pcrs)"
        ]
    );
}

#[test]
fn findings_have_codes() {
    let finding = TpmFinding::TpmPcrNotQuoted { pcr: 11 };
    assert_eq!(
        serde_json::to_string(&finding).unwrap(),
        r#"{"code":"tpm-pcr-not-quoted","pcr":11}"#
    );
}

/// Values that differ from PCR to PCR.
fn values(pcrs: impl IntoIterator<Item = u8>) -> impl Iterator<Item = (u8, Sha256)> {
    pcrs.into_iter().map(|pcr| (pcr, Sha256::of([pcr])))
}

/// Trust in the key of the evidence, by its name.
fn named(evidence: &TpmEvidence) -> AkTrust {
    AkTrust {
        keys: BTreeSet::from([Sha256::of(&*evidence.ak)]),
        ..AkTrust::default()
    }
}

fn changed(bytes: &[u8], at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes.into()
}

fn tpm(path: &Path) -> TpmEvidence {
    match coco::read(&fs::read(path).unwrap()).unwrap() {
        Evidence::Tpm(evidence) => evidence,
        other => panic!("{other:?}"),
    }
}

fn at() -> Timestamp {
    AT.parse().unwrap()
}

/// Where the data is, if it is here. Tests run in the folder of their package.
fn vtpm() -> Option<PathBuf> {
    let path = PathBuf::from("../../shared/vectors/evidence/vtpm");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}
