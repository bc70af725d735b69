//! Attestation reports of SEV-SNP: those of real machines, and every attack on those of a simulated one.
//!
//! The reports of real machines are not part of the repository: where they are absent, the tests say so and pass. What they
//! must come to is what the README beside them says.

#![allow(
    clippy::unwrap_used,
    reason = "a test panics when it fails, in its helper functions too"
)]

mod simulated;

use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use jiff::Timestamp;
use measure::evidence::snp::{
    AmdRoots, Authority, SigningKey, SnpClaims, SnpFinding, SnpPolicy, SnpProduct, SnpReport,
};
use measure::evidence::{Genuine, SnpEvidence};
use measure::snp::GuestPolicy;
use simulated::snp::{Authorities, NOW, Platform, Said, renamed};

/// A report of a real machine, the certificate of its key, and the product.
type Real = (&'static str, &'static str, SnpProduct);

/// All that are signed by a VCEK, and genuine on the day that they were collected.
const REAL: [Real; 7] = [
    (
        "snp/ms-tav/milan_attestation_report.bin",
        "snp/ms-tav/milan_vcek.pem",
        SnpProduct::Milan,
    ),
    (
        "snp/ms-tav/genoa_attestation_report.bin",
        "snp/ms-tav/genoa_vcek.pem",
        SnpProduct::Genoa,
    ),
    (
        "snp/ms-tav/turin_attestation_report.bin",
        "snp/ms-tav/turin_vcek.pem",
        SnpProduct::Turin,
    ),
    (
        "snp/virtee-sev/report_milan.hex",
        "snp/virtee-sev/vcek_milan.der",
        SnpProduct::Milan,
    ),
    (
        "snp/go-sev-guest/attestation.bin",
        "snp/go-sev-guest/vcek.testcer",
        SnpProduct::Milan,
    ),
    (
        "snp/trustee/test-report.bin",
        "snp/trustee/test-vcek.der",
        SnpProduct::Milan,
    ),
    (
        "vtpm/trustee/az-snp-vtpm/hcl-report.bin",
        "vtpm/trustee/az-snp-vtpm/vcek.pem",
        SnpProduct::Milan,
    ),
];

/// One that is signed by a VLEK of AWS.
const VLEK: Real = (
    "snp/trustee/test-vlek-report.bin",
    "snp/trustee/test-vlek.der",
    SnpProduct::Milan,
);

/// Reports in Azure's evidence of its vTPM, as Trustee takes it.
const AZURE: [(&str, SnpProduct); 4] = [
    ("evidence-v0.json", SnpProduct::Milan),
    ("evidence-v1.json", SnpProduct::Milan),
    ("evidence-v2.json", SnpProduct::Milan),
    ("evidence-genoa.json", SnpProduct::Genoa),
];

/// A policy under which every platform here is recent enough, and which says no more than the default.
fn any_firmware() -> SnpPolicy {
    policy(
        r#"{"minimum-tcb":{
            "milan":{"bootloader":2,"tee":0,"snp":5,"microcode":68},
            "genoa":{"bootloader":10,"tee":0,"snp":23,"microcode":84},
            "turin":{"fmc":1,"bootloader":1,"tee":1,"snp":4,"microcode":81}}}"#,
    )
}

const COLLECTED: &str = "2026-11-22T00:00:00Z";
const VLEK_VALID: &str = "2025-06-01T00:00:00Z";

#[test]
fn reports_of_real_machines_are_genuine() {
    let Some(folder) = evidence() else { return };
    for real in REAL {
        let genuine =
            verify(&read(&folder, real), COLLECTED).unwrap_or_else(|findings| panic!("{real:?}: {findings:?}"));
        let claims = genuine.claims();
        assert_eq!(
            (claims.product(), claims.key(), claims.csp_id()),
            (real.2, SigningKey::Vcek, None),
            "{real:?}"
        );
        // the host may debug the guest of this one: a good signature under a policy that nobody wants
        let wanted: &[&str] = if real.0.starts_with("snp/go-sev-guest") {
            &["snp-debug"]
        } else {
            &[]
        };
        assert_eq!(codes(&any_firmware().appraise(&genuine)), wanted, "{real:?}");
        let silent = codes(&SnpPolicy::default().appraise(&genuine));
        assert_eq!(silent, [wanted, &["snp-no-minimum-tcb"]].concat(), "{real:?}");
    }
}

#[test]
fn reports_in_azures_evidence_are_genuine() {
    let Some(folder) = evidence() else { return };
    for (name, product) in AZURE {
        let evidence = azure(&folder.join("vtpm/trustee/az-snp-vtpm").join(name));
        let genuine = verify(&evidence, COLLECTED).unwrap_or_else(|findings| panic!("{name}: {findings:?}"));
        assert_eq!(genuine.claims().product(), product, "{name}");
        assert_eq!(any_firmware().appraise(&genuine), [], "{name}");
    }
}

#[test]
fn a_vlek_is_genuine_while_it_is_valid_and_wanted_where_asked_for() {
    let Some(folder) = evidence() else { return };
    let evidence = read(&folder, VLEK);
    let genuine = verify(&evidence, VLEK_VALID).unwrap();
    let claims = genuine.claims();
    assert_eq!(
        (claims.key(), claims.csp_id()),
        (SigningKey::Vlek, Some("CN=cc-us-east-2.amazonaws.com"))
    );
    assert_eq!(codes(&any_firmware().appraise(&genuine)), ["snp-vmpl", "snp-vlek"]);
    let asked = SnpPolicy {
        vmpl: 1,
        allow_vlek: true,
        ..any_firmware()
    };
    assert_eq!(asked.appraise(&genuine), []);
}

#[test]
fn expired_vlek_at_the_verification_time() {
    let Some(folder) = evidence() else { return };
    let evidence = read(&folder, VLEK);
    assert_eq!(
        codes(&verify(&evidence, COLLECTED).unwrap_err()),
        ["snp-certificate-expired"]
    );
    assert_eq!(
        codes(&verify(&evidence, "2024-12-10T00:00:00Z").unwrap_err()),
        ["snp-certificate-not-yet-valid"]
    );
}

/// Also with what AMD put above it given along, and whatever is given instead of it.
#[test]
fn vlek_under_the_ask_of_a_real_machine() {
    let Some(folder) = evidence() else { return };
    let evidence = read(&folder, VLEK);
    let Authority { ark, ask, .. } = AmdRoots::amd().of(SnpProduct::Milan).unwrap().clone();
    let asvk = ask.clone();
    let roots = AmdRoots::new([(SnpProduct::Milan, Authority { ark, ask, asvk })]);
    let findings = evidence.verify(&roots, VLEK_VALID.parse().unwrap()).unwrap_err();
    assert_eq!(
        codes(&findings),
        ["snp-issuer-differs", "snp-issuer-differs"],
        "{findings:?}"
    );
}

/// `sev` 8 takes 856 to 864 of these in each report: it verifies what it has read, written again, where neither the reserved
/// bytes of TCB versions nor the padding of the signature are left of. Reports would have many digests.
#[test]
fn one_bit_flipped_anywhere() {
    let Some(folder) = evidence() else { return };
    let mut all: Vec<_> = REAL.map(|real| (read(&folder, real), COLLECTED)).into();
    all.push((read(&folder, VLEK), VLEK_VALID));
    all.push((
        azure(&folder.join("vtpm/trustee/az-snp-vtpm/evidence-genoa.json")),
        COLLECTED,
    ));
    let accepted: usize = std::thread::scope(|threads| {
        let halves = all.iter().flat_map(|of| [(of, 0), (of, 1)]);
        let runs: Vec<_> = halves
            .map(|((evidence, at), half)| threads.spawn(move || flips(evidence, at, half)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(accepted, 0);
}

/// Returns how many reports are accepted that differ from a genuine one in one bit of every second byte.
fn flips(evidence: &SnpEvidence, at: &str, half: usize) -> usize {
    let (roots, at, mut flipped) = (AmdRoots::amd(), at.parse().unwrap(), evidence.clone());
    let mut accepted = |bit: &usize| {
        let mut bytes = evidence.report.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        flipped.report = bytes.into();
        flipped.verify(&roots, at).is_ok()
    };
    (0..1184 * 8)
        .filter(|bit| bit / 8 % 2 == half)
        .filter(|bit| accepted(bit))
        .count()
}

/// The README's tampering with the TCB versions, of which the last three or four bytes but one are reserved; `sev` 8 drops them.
#[test]
fn reserved_bytes_of_tcb_versions() {
    let Some(folder) = evidence() else { return };
    for (real, reserved) in [(REAL[0], 2..6), (REAL[1], 2..6), (REAL[2], 4..7)] {
        let evidence = read(&folder, real);
        for tcb in [0x38, 0x180, 0x1e0, 0x1f0] {
            for offset in reserved.clone().map(|byte| tcb + byte) {
                let findings = verify(&edited(&evidence, offset, |byte| byte ^ 1), COLLECTED).unwrap_err();
                assert_eq!(
                    codes(&findings),
                    ["snp-reserved-bits", "snp-signature-invalid"],
                    "{offset:#x}"
                );
            }
        }
    }
}

/// `sev` 8 reads 48 of the 72 bytes of either number and nothing after them.
#[test]
fn padding_of_the_signature() {
    let Some(folder) = evidence() else { return };
    let evidence = read(&folder, REAL[0]);
    for offset in (0x2d0..0x2e8).chain(0x318..0x330) {
        let findings = verify(&edited(&evidence, offset, |_| 1), COLLECTED).unwrap_err();
        assert_eq!(codes(&findings), ["snp-signature-padding"], "{offset:#x}");
    }
    for offset in 0x330..0x4a0 {
        let findings = verify(&edited(&evidence, offset, |_| 1), COLLECTED).unwrap_err();
        assert_eq!(codes(&findings), ["snp-reserved-bits"], "{offset:#x}");
    }
}

#[test]
fn vcek_of_another_real_chip() {
    let Some(folder) = evidence() else { return };
    let other = |real: Real, vcek: &'static str| verify(&read(&folder, (real.0, vcek, real.2)), COLLECTED).unwrap_err();
    // of the same product, for another TCB
    assert_eq!(
        codes(&other(REAL[5], REAL[4].1)),
        ["snp-chip-differs", "snp-tcb-differs", "snp-signature-invalid"]
    );
    // of the same TCB
    assert_eq!(
        codes(&other(REAL[5], REAL[3].1)),
        ["snp-chip-differs", "snp-signature-invalid"]
    );
    // of another generation
    for (real, vcek) in [(REAL[0], REAL[1].1), (REAL[1], REAL[2].1), (REAL[2], REAL[0].1)] {
        assert_eq!(codes(&other(real, vcek)), ["snp-product-differs"]);
    }
    // of Turin, whose reports are of version 5: one of version 2 says nothing of its CPU
    let findings = codes(&other(REAL[3], "snp/virtee-sev/vcek_turin.der"));
    assert!(findings.contains(&"snp-signature-invalid".into()), "{findings:?}");
    // in certificates that lie beside a report of Azure's
    let azure = ("vtpm/azure-cvm-tooling/hcl-report-snp.bin", "", SnpProduct::Milan);
    assert_eq!(
        codes(&other(azure, "vtpm/azure-cvm-tooling/certs.pem")),
        ["snp-chip-differs", "snp-signature-invalid"]
    );
    // whose own signatures are broken, too
    for name in [
        "snp/trustee/test-vcek-invalid-legacy.der",
        "snp/trustee/test-vcek-invalid-new.der",
    ] {
        assert!(
            codes(&other(REAL[5], name)).contains(&"snp-signature-invalid".into()),
            "{name}"
        );
    }
    // a byte of the report's own
    let findings = verify(&edited(&read(&folder, REAL[3]), 0x1a0, |byte| byte ^ 1), COLLECTED).unwrap_err();
    assert_eq!(codes(&findings), ["snp-chip-differs", "snp-signature-invalid"]);
}

#[test]
fn authorities_of_another_product() {
    let Some(folder) = evidence() else { return };
    let (milan, amd) = (read(&folder, REAL[0]), AmdRoots::amd());
    let of = |product| amd.of(product).unwrap().clone();
    let at = COLLECTED.parse().unwrap();
    let verify = |authority| {
        milan
            .verify(&AmdRoots::new([(SnpProduct::Milan, authority)]), at)
            .unwrap_err()
    };
    let ask = Authority {
        ask: of(SnpProduct::Genoa).ask,
        ..of(SnpProduct::Milan)
    };
    let differs = "snp-issuer-differs";
    assert_eq!(codes(&verify(ask)), [differs; 3]);
    assert_eq!(codes(&verify(of(SnpProduct::Turin))), [differs; 2]);
    let none = AmdRoots::new([(SnpProduct::Turin, of(SnpProduct::Turin))]);
    assert_eq!(codes(&milan.verify(&none, at).unwrap_err()), ["snp-root-unknown"]);
}

#[test]
fn a_simulated_machine_is_genuine_under_its_own_roots_only() {
    for (product, tcb) in [
        (SnpProduct::Milan, 0xdb18_0000_0000_0004),
        (SnpProduct::Genoa, 0x5417_0000_0000_000a),
        (SnpProduct::Turin, 0x5100_0000_0401_0101),
    ] {
        for version in [3, 4, 5] {
            let (platform, said) = (Platform::new(product), said(version, tcb));
            let genuine = simulated(&platform, &platform.evidence(&said)).unwrap();
            assert_eq!(any_firmware().appraise(&genuine), []);
        }
    }
    let milan = Platform::new(SnpProduct::Milan);
    simulated(&milan, &milan.evidence(&said(2, 0xdb18_0000_0000_0004))).unwrap();
}

/// All names are AMD's, byte for byte; only the keys are not.
#[test]
fn forged_amd_root_with_the_right_names() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let ark = platform.certify(&platform.authority(Authorities::Ark));
    let ask = platform.certify(&platform.authority(Authorities::Ask));
    let vcek = platform.certify(&platform.vek(said.tcbs[0]));
    let at = Timestamp::from_second(NOW).unwrap();
    let verify = |certificates| {
        platform
            .evidence_with(&said, certificates)
            .verify(&AmdRoots::amd(), at)
            .unwrap_err()
    };
    // `sev` 8 takes this one: its ARK has signed itself
    let findings = verify(vec![vcek.clone(), ask.clone(), ark.clone()]);
    assert_eq!(codes(&findings), ["snp-root-forged", "snp-certificate-signature"]);
    assert_eq!(
        findings[1].to_string(),
        "the certificate of SEV-Milan does not have the signature of ARK-Milan"
    );
    assert_eq!(codes(&verify(vec![vcek.clone(), ask])), ["snp-certificate-signature"]);
    assert_eq!(codes(&verify(vec![vcek])), ["snp-certificate-signature"]);
    // beside a chain that holds, it still says what somebody tried
    let certificates = vec![
        platform.certify(&platform.vek(said.tcbs[0])),
        AmdRoots::amd().of(SnpProduct::Milan).unwrap().ark.clone(),
    ];
    let findings = simulated(&platform, &platform.evidence_with(&said, certificates)).unwrap_err();
    assert_eq!(codes(&findings), ["snp-root-forged"]);
}

#[test]
fn pinned_certificates_that_come_along_change_nothing() {
    let (platform, said) = (Platform::new(SnpProduct::Genoa), said(3, 0x5417_0000_0000_000a));
    let Authority { ark, ask, asvk } = platform.roots().of(SnpProduct::Genoa).unwrap().clone();
    let vcek = platform.certify(&platform.vek(said.tcbs[0]));
    simulated(&platform, &platform.evidence_with(&said, vec![ark, asvk, ask, vcek])).unwrap();
}

#[test]
fn ask_that_the_root_certified_since() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let mut roots = platform.roots().of(SnpProduct::Milan).unwrap().clone();
    let (ask, vcek) = (roots.ask.clone(), platform.certify(&platform.vek(said.tcbs[0])));
    // what is pinned has another key
    let mut older = platform.authority(Authorities::Ask);
    older.key = platform.authority(Authorities::Asvk).key;
    roots.ask = platform.certify(&older);
    let (roots, at) = (
        AmdRoots::new([(SnpProduct::Milan, roots)]),
        Timestamp::from_second(NOW).unwrap(),
    );
    let without = platform
        .evidence_with(&said, vec![vcek.clone()])
        .verify(&roots, at)
        .unwrap_err();
    assert_eq!(codes(&without), ["snp-certificate-signature"]);
    platform
        .evidence_with(&said, vec![vcek, ask])
        .verify(&roots, at)
        .unwrap();
}

#[test]
fn vcek_of_another_chip() {
    let (mut platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let other = platform.certify(&platform.vek(said.tcbs[0]));
    platform.chip_id = [0xa5; 64];
    // the same key, so that only the identity is wrong
    let findings = simulated(&platform, &platform.evidence_with(&said, vec![other])).unwrap_err();
    assert_eq!(codes(&findings), ["snp-chip-differs"]);
    platform.chip_id = [0; 64];
    let findings = simulated(&platform, &platform.evidence(&said)).unwrap_err();
    assert_eq!(codes(&findings), ["snp-chip-id-masked"]);
    // of Turin, only the first eight bytes name the chip, and the rest says nothing
    let (mut turin, said) = (Platform::new(SnpProduct::Turin), self::said(5, 0x5100_0000_0401_0101));
    turin.chip_id[8] = 1;
    assert_eq!(
        codes(&simulated(&turin, &turin.evidence(&said)).unwrap_err()),
        ["snp-chip-differs"]
    );
}

#[test]
fn vcek_of_another_tcb() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    for component in [0, 8, 48, 56] {
        let vcek = platform.certify(&platform.vek(said.tcbs[0] ^ 1 << component));
        let findings = simulated(&platform, &platform.evidence_with(&said, vec![vcek])).unwrap_err();
        assert_eq!(codes(&findings), ["snp-tcb-differs"]);
    }
}

#[test]
fn reserved_bits_under_a_good_signature() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let genuine = platform.evidence(&said);
    let mut fields = vec![
        0x0c, 0x0f, 0x49, 0x4c, 0x18b, 0x19f, 0x1eb, 0x1ef, 0x1f8, 0x207, 0x208, 0x29f,
    ];
    fields.extend([0x3a, 0x185, 0x1e2, 0x1f5]);
    for offset in fields {
        let findings = signed(&platform, &genuine, |report| report[offset] = 1);
        assert_eq!(codes(&findings), ["snp-reserved-bits"], "{offset:#x}");
    }
    for (offset, bit) in [(0x0b, 2), (0x48, 5)] {
        let findings = signed(&platform, &genuine, |report| report[offset] |= 1 << bit);
        assert_eq!(codes(&findings), ["snp-reserved-bits"], "{offset:#x}");
    }
    let no_policy = signed(&platform, &genuine, |report| report[0x0a] = 1);
    assert_eq!(codes(&no_policy), ["snp-reserved-bits"]);
    let newer = signed(&platform, &genuine, |report| report[0] = 2);
    assert_eq!(codes(&newer), ["snp-reserved-bits"]);
}

#[test]
fn reports_that_are_none() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let genuine = platform.evidence(&said);
    for version in [0, 1, 6] {
        let findings = signed(&platform, &genuine, |report| report[0] = version);
        assert_eq!(codes(&findings), ["snp-not-a-report"]);
    }
    let findings = signed(&platform, &genuine, |report| report[0x34] = 2);
    assert_eq!(codes(&findings), ["snp-algorithm"]);
    let mut short = genuine.clone();
    short.report = genuine.report[..1183].to_vec().into();
    assert_eq!(codes(&simulated(&platform, &short).unwrap_err()), ["snp-not-a-report"]);
}

#[test]
fn signed_by_nobody_or_by_another_kind_of_key() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let genuine = platform.evidence(&said);
    for (flags, code) in [
        (1 << 1, "snp-chip-key-masked"),
        (7 << 2, "snp-signing-key-unknown"),
        (1 << 2, "snp-signing-key-differs"),
    ] {
        let findings = signed(&platform, &genuine, |report| report[0x48] = flags);
        assert_eq!(codes(&findings), [code]);
    }
    let without = platform.evidence_with(&said, Vec::new());
    assert_eq!(
        codes(&simulated(&platform, &without).unwrap_err()),
        ["snp-certificate-missing"]
    );
}

#[test]
fn cpus_of_no_product() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let findings = signed(&platform, &platform.evidence(&said), |report| report[0x188] = 0x17);
    assert_eq!(codes(&findings), ["snp-product-unknown"]);
    let mut rome = platform.vek(said.tcbs[0]);
    rome.extensions[0].2 = b"\x16\x04Rome".to_vec();
    let rome = platform.certify(&rome);
    let evidence = platform.evidence_with(&self::said(2, said.tcbs[0]), vec![rome]);
    assert_eq!(
        codes(&simulated(&platform, &evidence).unwrap_err()),
        ["snp-product-unnamed"]
    );
}

#[test]
fn debug_policy() {
    assert_eq!(
        appraised(|said| said.policy = GuestPolicy::new(0xb_0000)),
        ["snp-debug"]
    );
}

#[test]
fn migration_policy() {
    assert_eq!(
        appraised(|said| said.policy = GuestPolicy::new(0x7_0000)),
        ["snp-migration"]
    );
}

/// The host may put the guest's memory on a CXL device; restrictions of the host are none of this.
#[test]
fn attack_a_policy_that_allows_the_host_what_nobody_named() {
    assert_eq!(
        appraised(|said| said.policy = GuestPolicy::new(0x23_0000)),
        ["snp-policy-not-allowed"]
    );
    assert_eq!(appraised(|said| said.policy = GuestPolicy::new(0x3d3_0000)), [""; 0]);
}

/// A policy that names minima of other products only.
#[test]
fn attack_a_platform_whose_age_nobody_limits() {
    let genoa = policy(r#"{"minimum-tcb":{"genoa":{"bootloader":10,"tee":0,"snp":23,"microcode":84}}}"#);
    let platform = Platform::new(SnpProduct::Milan);
    let genuine = simulated(&platform, &platform.evidence(&Said::default())).unwrap();
    for policy in [genoa, SnpPolicy::default()] {
        let findings = policy.appraise(&genuine);
        assert_eq!(codes(&findings), ["snp-no-minimum-tcb"]);
        assert!(
            findings[0].to_string().contains("minimum-tcb for Milan"),
            "{}",
            findings[0]
        );
    }
    assert_eq!(any_firmware().appraise(&genuine), []);
}

#[test]
fn vmpl_other_than_asked() {
    assert_eq!(appraised(|said| said.vmpl = 1), ["snp-vmpl"]);
    // this one the host asked for
    assert_eq!(appraised(|said| said.vmpl = u32::MAX), ["snp-vmpl"]);
}

#[test]
fn smt_where_it_is_not_allowed() {
    let policy = SnpPolicy {
        allow_smt: Some(false),
        ..any_firmware()
    };
    let platform = Platform::new(SnpProduct::Milan);
    let smt = simulated(&platform, &platform.evidence(&Said::default())).unwrap();
    assert_eq!(codes(&policy.appraise(&smt)), ["snp-smt"]);
    let said = Said {
        policy: GuestPolicy::new(0x2_0000),
        ..Said::default()
    };
    let no_smt = simulated(&platform, &platform.evidence(&said)).unwrap();
    assert_eq!(policy.appraise(&no_smt), []);
}

#[test]
fn tcb_below_minimum() {
    let policy = policy(r#"{"minimum-tcb":{"milan":{"bootloader":4,"tee":0,"snp":24,"microcode":219}}}"#);
    let platform = Platform::new(SnpProduct::Milan);
    let appraise = |tcbs: [u64; 4]| {
        let said = Said {
            tcbs,
            ..Said::default()
        };
        codes(&policy.appraise(&simulated(&platform, &platform.evidence(&said)).unwrap()))
    };
    let minimum = 0xdb18_0000_0000_0004;
    assert_eq!(appraise([minimum; 4]), [""; 0]);
    for older in [0xda18_0000_0000_0004, 0xdb17_0000_0000_0004, 0xff18_0000_0000_0003] {
        assert_eq!(appraise([older; 4]), ["snp-tcb-below-minimum"; 2]);
    }
    // the platform was updated while the guest ran, or after the report's key was made
    let older = 0xda18_0000_0000_0004;
    assert_eq!(appraise([minimum, older, minimum, minimum]), ["snp-tcb-below-minimum"]);
    assert_eq!(appraise([older, minimum, minimum, minimum]), ["snp-tcb-below-minimum"]);
}

#[test]
fn tcb_above_what_is_committed() {
    let (platform, tcb) = (Platform::new(SnpProduct::Milan), 0xdb18_0000_0000_0004_u64);
    for tcbs in [[tcb, tcb, tcb - 1, tcb], [tcb, tcb, tcb, tcb - 1]] {
        let said = Said {
            tcbs,
            ..Said::default()
        };
        let findings = simulated(&platform, &platform.evidence(&said)).unwrap_err();
        assert_eq!(codes(&findings), ["snp-tcb-order"]);
    }
}

#[test]
fn vlek_under_the_ask() {
    let mut platform = Platform::new(SnpProduct::Milan);
    platform.key.1 = SigningKey::Vlek;
    let said = Said::default();
    simulated(&platform, &platform.evidence(&said)).unwrap();
    // with the ASK's name, and with that of the ASVK
    let mut draft = platform.vek(said.tcbs[0]);
    draft.signer = Authorities::Ask;
    let foreign = platform.evidence_with(
        &said,
        vec![
            platform.certify(&draft),
            platform.certify(&platform.authority(Authorities::Ask)),
        ],
    );
    assert_eq!(
        codes(&simulated(&platform, &foreign).unwrap_err()),
        ["snp-issuer-differs", "snp-issuer-differs"]
    );
    draft.issuer = platform.authority(Authorities::Ask).subject;
    let named = platform.evidence_with(
        &said,
        vec![
            platform.certify(&draft),
            platform.certify(&platform.authority(Authorities::Ask)),
        ],
    );
    assert_eq!(
        codes(&simulated(&platform, &named).unwrap_err()),
        ["snp-issuer-differs"]
    );
}

#[test]
fn vek_that_certifies_itself_another_one() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let mut authority = platform.vek(said.tcbs[0]);
    authority
        .extensions
        .push(("2.5.29.19", true, vec![0x30, 3, 1, 1, 0xff]));
    let findings = vek(&platform, &said, authority);
    assert_eq!(codes(&findings), ["snp-certificate-unfit"]);
    let mut unknown = platform.vek(said.tcbs[0]);
    unknown.extensions.push(("1.2.3.4", true, vec![5, 0]));
    assert_eq!(codes(&vek(&platform, &said, unknown)), ["snp-certificate-unfit"]);
}

#[test]
fn ask_that_may_not_certify() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    for extensions in [0, 1].map(|kept| vec![platform.authority(Authorities::Ask).extensions.swap_remove(kept)]) {
        let mut roots = platform.roots().of(SnpProduct::Milan).unwrap().clone();
        let is_ca = extensions[0].0 == "2.5.29.19";
        let mut ask = platform.authority(Authorities::Ask);
        ask.extensions = extensions;
        if is_ca {
            ask.extensions.push(("2.5.29.15", true, vec![3, 2, 7, 0x80])); // digitalSignature
        }
        roots.ask = platform.certify(&ask);
        let roots = AmdRoots::new([(SnpProduct::Milan, roots)]);
        let at = Timestamp::from_second(NOW).unwrap();
        let findings = platform.evidence(&said).verify(&roots, at).unwrap_err();
        assert_eq!(codes(&findings), ["snp-certificate-unfit"]);
    }
}

#[test]
fn certificates_of_another_time() {
    let (platform, evidence) = (
        Platform::new(SnpProduct::Milan),
        Platform::new(SnpProduct::Milan).evidence(&Said::default()),
    );
    let at = |seconds: i64| {
        codes(
            &evidence
                .verify(&platform.roots(), Timestamp::from_second(seconds).unwrap())
                .err()
                .unwrap_or_default(),
        )
    };
    let year = 365 * 24 * 3600;
    assert_eq!(at(NOW + 6 * year), [""; 0]);
    assert_eq!(at(NOW + 6 * year + 1), ["snp-certificate-expired"]);
    assert_eq!(at(NOW - year - 1), ["snp-certificate-not-yet-valid"]);
    // the authorities too
    assert_eq!(at(NOW + 20 * year + 1), ["snp-certificate-expired"; 3]);
    assert_eq!(at(-1), ["snp-certificate-not-yet-valid"; 3]);
}

#[test]
fn certificate_with_a_bit_flipped_in_any_byte() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let vcek = platform.certify(&platform.vek(said.tcbs[0]));
    let (roots, at) = (platform.roots(), Timestamp::from_second(NOW).unwrap());
    let report = platform.evidence(&said).report;
    for offset in 0..vcek.len() {
        let mut flipped = vcek.clone();
        flipped[offset] ^= 1 << (offset % 8);
        let evidence = SnpEvidence {
            report: report.clone(),
            certificates: vec![flipped.into()],
            crls: Vec::new(),
        };
        assert!(evidence.verify(&roots, at).is_err(), "offset {offset:#x}");
    }
}

#[test]
fn signature_of_a_weaker_kind() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let mut draft = platform.vek(said.tcbs[0]);
    draft.salt = 20;
    assert_eq!(codes(&vek(&platform, &said, draft)), ["snp-certificate-signature"]);
}

#[test]
fn certificate_without_what_the_report_is_compared_with() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    for index in 0..platform.vek(0).extensions.len() {
        let mut draft = platform.vek(said.tcbs[0]);
        let oid = draft.extensions.remove(index).0;
        assert_eq!(
            codes(&vek(&platform, &said, draft)),
            ["snp-certificate-extension"],
            "{oid}"
        );
    }
    let mut draft = platform.vek(said.tcbs[0]);
    draft.subject = renamed(&draft.subject, "SEV-OTHER");
    assert_eq!(codes(&vek(&platform, &said, draft)), ["snp-certificate-missing"]);
}

#[test]
fn revoked_vek() {
    let (mut platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let mut draft = platform.vek(said.tcbs[0]);
    draft.serial = 77;
    let check = |platform: &Platform, crl| {
        let mut evidence = platform.evidence_with(&said, vec![platform.certify(&draft)]);
        evidence.crls.push(Vec::into(crl));
        simulated(platform, &evidence)
    };
    let dates = [NOW as u64 - 10, NOW as u64 + 10];
    let genuine = check(&platform, platform.crl(Authorities::Ark, &[5, 78], dates)).unwrap();
    assert!(genuine.claims().is_revocation_checked());
    let require = SnpPolicy {
        require_crl: true,
        ..any_firmware()
    };
    assert_eq!(require.appraise(&genuine), []);
    for (serial, subject) in [(77, "SEV-VCEK"), (17, "SEV-Milan"), (16, "ARK-Milan")] {
        let findings = check(&platform, platform.crl(Authorities::Ark, &[5, serial], dates)).unwrap_err();
        assert_eq!(codes(&findings), ["snp-certificate-revoked"]);
        assert!(findings[0].to_string().contains(subject), "{}", findings[0]);
    }
    // one that somebody else signed, old ones, those of another root
    for (crl, code) in [
        (platform.crl(Authorities::Ask, &[], dates), "snp-crl-signature"),
        (
            platform.crl(Authorities::Ark, &[], [dates[0], dates[0]]),
            "snp-crl-expired",
        ),
        (
            platform.crl(Authorities::Ark, &[], [dates[1], dates[1]]),
            "snp-crl-not-yet-valid",
        ),
        (
            Platform::new(SnpProduct::Genoa).crl(Authorities::Ark, &[], dates),
            "snp-crl-issuer",
        ),
        (vec![0x30, 0], "snp-crl-malformed"),
    ] {
        assert_eq!(codes(&check(&platform, crl).unwrap_err()), [code]);
    }
    // where there is none, a policy can ask for one
    platform.key.0 = 2;
    let genuine = simulated(&platform, &platform.evidence(&said)).unwrap();
    assert_eq!(codes(&require.appraise(&genuine)), ["snp-revocation-unknown"]);
}

#[test]
fn too_many_certificates_and_one_that_is_none() {
    let (platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let vcek = platform.certify(&platform.vek(said.tcbs[0]));
    let findings = simulated(&platform, &platform.evidence_with(&said, vec![vcek.clone(); 17])).unwrap_err();
    assert_eq!(codes(&findings), ["snp-too-many"]);
    simulated(&platform, &platform.evidence_with(&said, vec![vcek.clone(); 16])).unwrap();
    let long = vec![0x30; (1 << 16) + 1];
    for broken in [Vec::new(), vcek[1..].to_vec(), [&vcek[..], &[0]].concat(), long] {
        let findings = simulated(&platform, &platform.evidence_with(&said, vec![vcek.clone(), broken])).unwrap_err();
        assert_eq!(codes(&findings), ["snp-certificate-malformed"]);
    }
}

/// A host that was updated hands out the certificate of its old key, too.
#[test]
fn of_several_certificates_the_one_whose_key_signed_counts() {
    let (mut platform, said) = (Platform::new(SnpProduct::Milan), Said::default());
    let old = platform.certify(&platform.vek(said.tcbs[0] - 1));
    platform.key.0 = 2;
    let new = platform.certify(&platform.vek(said.tcbs[0]));
    simulated(&platform, &platform.evidence_with(&said, vec![old, new])).unwrap();
}

#[test]
fn what_a_policy_leaves_unchecked_is_said() {
    let strict = policy(
        r#"{"minimum-tcb":{"milan":{"bootloader":4,"tee":0,"snp":24,"microcode":219},"genoa":{"bootloader":1,"tee":0,"snp":2,"microcode":3},
            "turin":{"fmc":1,"bootloader":1,"tee":1,"snp":4,"microcode":81}},"allow-smt":false,"require-crl":true}"#,
    );
    assert_eq!(strict.unchecked(), [""; 0]);
    assert_eq!(SnpPolicy::default().unchecked().len(), 2);
    let lax = policy(r#"{"allow-debug":true,"allow-migration":true,"allow-smt":true,"allow-vlek":true,"vmpl":2}"#);
    assert_eq!(lax.unchecked().len(), 6);
    assert!(serde_json::from_str::<SnpPolicy>(r#"{"alow-debug":false}"#).is_err());
    assert!(serde_json::from_str::<SnpPolicy>(r#"{"minimum-tcb":{"milan":{"snp":24}}}"#).is_err());
}

/// The paths that go-sev-guest and snpguest make of reports of these products.
#[test]
fn endorsements_are_where_amd_has_them() {
    let (milan, turin) = (Platform::new(SnpProduct::Milan), Platform::new(SnpProduct::Turin));
    let paths = |report: &[u8]| SnpReport::read(report).unwrap().endorsement_paths();
    let v2 = paths(&milan.report(&said(2, 0xdb18_0000_0000_0004)));
    assert_eq!(
        v2.iter().map(|paths| paths.product).collect::<Vec<_>>(),
        [SnpProduct::Milan, SnpProduct::Genoa]
    );
    let hwid = "5a".repeat(64);
    let query = "blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219";
    assert_eq!(v2[0].vek, Some(format!("/vcek/v1/Milan/{hwid}?{query}")));
    assert_eq!(v2[1].chain, "/vcek/v1/Genoa/cert_chain");
    let v5 = paths(&turin.report(&said(5, 0x5100_0000_0401_0101)));
    let query = "fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81";
    assert_eq!(v5[0].vek, Some(format!("/vcek/v1/Turin/5a5a5a5a5a5a5a5a?{query}")));
    assert_eq!((v5.len(), v5[0].crl.as_str()), (1, "/vcek/v1/Turin/crl"));
    let mut vlek = Platform::new(SnpProduct::Milan);
    vlek.key.1 = SigningKey::Vlek;
    let vlek = paths(&vlek.report(&Said::default()));
    assert_eq!(
        (vlek[0].vek.as_ref(), vlek[0].chain.as_str()),
        (None, "/vlek/v1/Milan/cert_chain")
    );
}

fn said(version: u32, tcb: u64) -> Said {
    Said {
        version,
        tcbs: [tcb; 4],
        ..Said::default()
    }
}

fn policy(json: &str) -> SnpPolicy {
    serde_json::from_str(json).unwrap()
}

/// Verifies evidence of a simulated machine as of when it was made.
fn simulated(platform: &Platform, evidence: &SnpEvidence) -> Result<Genuine<SnpClaims>, Vec<SnpFinding>> {
    evidence.verify(&platform.roots(), Timestamp::from_second(NOW).unwrap())
}

/// Returns what is found in a report that the chip itself signed after `edit`.
fn signed(platform: &Platform, evidence: &SnpEvidence, edit: impl Fn(&mut [u8])) -> Vec<SnpFinding> {
    let mut report = evidence.report.to_vec();
    edit(&mut report);
    platform.sign(&mut report);
    let evidence = SnpEvidence {
        report: report.into(),
        ..evidence.clone()
    };
    simulated(platform, &evidence).unwrap_err()
}

/// Returns what is found where the key has this certificate.
fn vek(platform: &Platform, said: &Said, draft: simulated::snp::Draft) -> Vec<SnpFinding> {
    simulated(platform, &platform.evidence_with(said, vec![platform.certify(&draft)])).unwrap_err()
}

/// Returns what a policy that says no more than the default has against a genuine report.
fn appraised(edit: impl Fn(&mut Said)) -> Vec<String> {
    let (platform, mut said) = (Platform::new(SnpProduct::Milan), Said::default());
    edit(&mut said);
    codes(&any_firmware().appraise(&simulated(&platform, &platform.evidence(&said)).unwrap()))
}

fn verify(evidence: &SnpEvidence, at: &str) -> Result<Genuine<SnpClaims>, Vec<SnpFinding>> {
    evidence.verify(&AmdRoots::amd(), at.parse().unwrap())
}

fn codes(findings: &[SnpFinding]) -> Vec<String> {
    let code = |finding| {
        serde_json::to_value(finding).unwrap()["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    findings.iter().map(code).collect()
}

fn edited(evidence: &SnpEvidence, offset: usize, edit: impl Fn(u8) -> u8) -> SnpEvidence {
    let mut report = evidence.report.to_vec();
    report[offset] = edit(report[offset]);
    SnpEvidence {
        report: report.into(),
        ..evidence.clone()
    }
}

/// Reads a report, in hex, in an HCL report or as it is, and the certificates of a file, in PEM or DER.
fn read(folder: &Path, (report, certificates, _): Real) -> SnpEvidence {
    let mut bytes = fs::read(folder.join(report)).unwrap();
    if report.ends_with(".hex") {
        bytes = HEXLOWER_PERMISSIVE.decode(bytes.trim_ascii()).unwrap();
    } else if bytes.starts_with(b"HCLA") {
        bytes = bytes[32..32 + 1184].to_vec();
    }
    let certificates = self::certificates(&fs::read(folder.join(certificates)).unwrap());
    SnpEvidence {
        report: bytes.into(),
        certificates: certificates.into_iter().map(Into::into).collect(),
        crls: Vec::new(),
    }
}

/// Reads the report and certificate in evidence of Azure's vTPM, older or newer.
fn azure(path: &Path) -> SnpEvidence {
    let json: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let base64url = |text: &str| data_encoding::BASE64URL.decode(text.as_bytes()).unwrap();
    let (hcl, vcek) = match json["hcl_report"].as_str() {
        Some(report) => (base64url(report), base64url(json["vcek"].as_str().unwrap())),
        None => {
            let report = serde_json::from_value(json["report"].clone()).unwrap();
            (report, json["vcek"].as_str().unwrap().as_bytes().to_vec())
        }
    };
    SnpEvidence {
        report: hcl[32..32 + 1184].to_vec().into(),
        certificates: certificates(&vcek).into_iter().map(Into::into).collect(),
        crls: Vec::new(),
    }
}

fn certificates(bytes: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return vec![bytes.to_vec()];
    };
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    let bodies = blocks.filter_map(|block| block.split("-----END").next());
    let lines = bodies.map(|body| body.split_whitespace().collect::<String>());
    lines.map(|line| BASE64.decode(line.as_bytes()).unwrap()).collect()
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
