//! Reports and quotes of real machines, and what others read in them.
//!
//! The data is not part of the repository: where it is absent, each test says so and passes.

use std::fs;
use std::path::PathBuf;

use measure::Digest;
use measure::evidence::{SnpReport, TdxQuote};
use measure::snp::CpuSignature;

/// What a report says; of digests, how they begin. Read with a script of a few lines, by the offsets of the specification.
struct Said {
    file: &'static str,
    /// Version of the format, security version number of the guest, privilege level.
    numbers: [u32; 3],
    policy: u64,
    cpu: Option<CpuSignature>,
    /// Launch digest, host data, digest of the ID key.
    digests: [&'static str; 3],
}

const REPORTS: [Said; 6] = [
    Said {
        file: "go-sev-guest/attestation.bin",
        numbers: [2, 0, 0],
        policy: 0xb_0000,
        cpu: None,
        digests: ["b07af9620f3b839b", "00000000", "00000000"],
    },
    Said {
        file: "trustee/test-report.bin",
        numbers: [2, 4, 0],
        policy: 0x3_001f,
        cpu: None,
        digests: ["a1f3930413247bb3", "00000000", "0356215882a82527"],
    },
    Said {
        file: "trustee/test-vlek-report.bin",
        numbers: [3, 0, 1],
        policy: 0x3_0000,
        cpu: Some(CpuSignature::new(0xa0_0f11)),
        digests: ["8922ebbdd00ec2c5", "00000000", "00000000"],
    },
    Said {
        file: "ms-tav/milan_attestation_report.bin",
        numbers: [3, 2, 0],
        policy: 0x3_001f,
        cpu: Some(CpuSignature::new(0xa0_0f11)),
        digests: ["5feee30d6d7e1a29", "4f4448c67f3c8dfc", "0ad79ceb0b648b0e"],
    },
    Said {
        file: "ms-tav/genoa_attestation_report.bin",
        numbers: [3, 2, 0],
        policy: 0x3_001f,
        cpu: Some(CpuSignature::new(0xa1_0f11)),
        digests: ["5feee30d6d7e1a29", "4f4448c67f3c8dfc", "0ad79ceb0b648b0e"],
    },
    Said {
        file: "ms-tav/turin_attestation_report.bin",
        numbers: [5, 2, 0],
        policy: 0x3_001f,
        cpu: Some(CpuSignature::new(0xb0_0f21)),
        digests: ["6d6c354511d6f7c6", "b3452a0ed30f1010", "4068e9ae4b315aa4"],
    },
];

#[test]
fn reports_say_what_their_machines_said() {
    let Some(evidence) = evidence() else { return };
    for said in REPORTS {
        let bytes = fs::read(evidence.join("snp").join(said.file)).unwrap();
        let report = SnpReport::read(&bytes).unwrap();
        let numbers = [report.version(), report.guest_svn(), report.vmpl()];
        assert_eq!(numbers, said.numbers, "{}", said.file);
        assert_eq!(report.policy().bits(), said.policy, "{}", said.file);
        assert_eq!(report.cpu(), said.cpu, "{}", said.file);
        let digests = [
            report.measurement().to_string(),
            report.host_data().to_string(),
            report.id_key_digest().to_string(),
        ];
        let begins = digests
            .iter()
            .zip(said.digests)
            .all(|(found, said)| found.starts_with(said));
        assert!(begins, "{}: {digests:?}", said.file);
    }
}

/// What Trustee reads in its `tdx_quote_4.dat`.
#[test]
fn a_quote_says_to_us_what_it_says_to_trustee() {
    let Some(evidence) = evidence() else { return };
    let folder = evidence.join("tdx/trustee");
    let bytes = fs::read(folder.join("tdx_quote_4.dat")).unwrap();
    let claims = fs::read(folder.join("parse_tdx_claims_expected.json")).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let body = |name: &str| claims["quote"]["body"][name].as_str().unwrap().to_owned();
    let quote = TdxQuote::read(&bytes).unwrap();
    assert_eq!(quote.version(), 4);
    assert_eq!(quote.mr_seam().to_string(), body("mr_seam"));
    assert_eq!(quote.mrtd().to_string(), body("mr_td"));
    assert_eq!(quote.mr_config_id().to_string(), body("mr_config_id"));
    assert_eq!(quote.mr_owner().to_string(), body("mr_owner"));
    assert_eq!(quote.mr_owner_config().to_string(), body("mr_owner_config"));
    let rtmrs = quote.rtmrs().map(|rtmr| rtmr.to_string());
    assert_eq!(rtmrs, ["rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3"].map(body));
    assert_eq!(quote.report_data().to_string(), body("report_data"));
    let bytes = |number: u64| Digest::from(number.to_le_bytes()).to_string();
    assert_eq!(bytes(quote.td_attributes()), body("td_attributes"));
    assert_eq!(bytes(quote.xfam()), body("xfam"));
}

#[test]
fn a_quote_has_the_nonce_that_was_asked_for() {
    let Some(evidence) = evidence() else { return };
    let read = |name: &str| fs::read(evidence.join("tdx/go-tdx-guest").join(name)).unwrap();
    let quote = read("cos-113-tdx-quote.dat");
    let quote = TdxQuote::read(&quote).unwrap();
    assert_eq!(quote.report_data().bytes()[..], read("nonce.dat"));
}

#[test]
fn quotes_of_every_version_are_read_and_those_of_sgx_are_not() {
    let Some(evidence) = evidence() else { return };
    let read = |name: &str| fs::read(evidence.join("tdx").join(name)).unwrap();
    for (name, version, service) in [
        ("go-tdx-guest/tdx_prod_quote_SPR_E4.dat", 4, false),
        ("go-tdx-guest/quote_v5_sample.dat", 5, true),
        ("dcap-qvl/tdx_quote", 4, false),
        ("trustee/tdx_quote_5.dat", 5, true),
        ("trustee/tdx_quote_6.dat", 4, false),
    ] {
        let bytes = read(name);
        let quote = TdxQuote::read(&bytes).unwrap();
        assert_eq!(
            (quote.version(), quote.mr_service_td().is_some()),
            (version, service),
            "{name}"
        );
    }
    assert!(TdxQuote::read(&read("dcap-qvl/sgx_quote")).is_err());
}

/// Where the data is, if it is here. Tests run in the folder of their package.
fn evidence() -> Option<PathBuf> {
    let path = PathBuf::from("../../shared/vectors/evidence");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}
