//! TDX quotes: those of real machines get the verdict that others found, those of a simulated vendor show each attack.
//!
//! The real ones are not part of the repository: where they are absent, each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "simulated/tdx.rs"]
mod simulated;

use std::fs;
use std::path::PathBuf;
use std::thread;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use measure::event_log::Register;
use measure::evidence::tdx::TdAttribute;
use measure::evidence::{Genuine, TcbStatus, TdxClaims, TdxEvidence, TdxFinding, TdxPolicy, TdxQuote, TdxRoot};
use simulated::{Platform, SEPT_VE_DISABLE, Td, now, time};

/// The verdict on a quote of a real machine, at a time.
struct Verdict {
    quote: &'static str,
    collateral: &'static str,
    at: &'static str,
    /// The TCB status and how many advisories apply, or the code of every finding.
    said: Result<(TcbStatus, usize), &'static str>,
}

const fn verdict(
    quote: &'static str,
    collateral: &'static str,
    at: &'static str,
    said: Result<(TcbStatus, usize), &'static str>,
) -> Verdict {
    Verdict {
        quote,
        collateral,
        at,
        said,
    }
}

/// What dcap-qvl and Intel's library say of the quotes, by those who collected them; quotes that others publish as bad
/// are bad for the reason they give.
const VERDICTS: &[Verdict] = &[
    verdict(
        "dcap-qvl/tdx_quote",
        "dcap-qvl/tdx_quote_collateral.json",
        "2025-06-26T00:00:00Z",
        Ok((TcbStatus::UpToDate, 0)),
    ),
    verdict(
        "dcap-qvl/tdx_quote",
        "dcap-qvl/tdx_quote_collateral.json",
        "2025-06-19T00:00:00Z",
        Err("tdx-collateral-not-yet-valid"),
    ),
    verdict(
        "dcap-qvl/tdx_quote",
        "dcap-qvl/tdx_quote_collateral.json",
        "2026-11-22T00:00:00Z",
        Err("tdx-collateral-expired"),
    ),
    verdict(
        "dcap-qvl/tdx_quote_outdated",
        "dcap-qvl/tdx_quote_outdated_collateral.json",
        "2026-02-25T00:00:00Z",
        Err("tdx-tcb-unknown"),
    ),
    verdict(
        "dcap-qvl/sgx_quote",
        "dcap-qvl/sgx_quote_collateral.json",
        "2025-06-26T00:00:00Z",
        Err("tdx-quote-unsupported"),
    ),
    verdict(
        "go-tdx-guest/quote_v5_sample.dat",
        "dcap-qvl/tdx_quote_outdated_collateral.json",
        "2026-02-25T00:00:00Z",
        Ok((TcbStatus::UpToDate, 0)),
    ),
    verdict(
        "go-tdx-guest/quote_v5_sample.dat",
        "assembled-collateral/90c06f000000.json",
        "2026-03-23T00:00:00Z",
        Ok((TcbStatus::UpToDate, 0)),
    ),
    verdict(
        "go-tdx-guest/tdx_prod_quote_SPR_E4.dat",
        "assembled-collateral/50806f000000.json",
        "2026-03-23T00:00:00Z",
        // text follows it
        Err("tdx-trailing-bytes"),
    ),
    verdict(
        "trustee/tdx_quote_4.dat",
        "assembled-collateral/go-tdx-guest-2023.json",
        "2023-07-01T00:00:00Z",
        Ok((TcbStatus::UpToDate, 0)),
    ),
    verdict(
        "trustee/tdx_quote_4.dat",
        "assembled-collateral/50806f000000.json",
        "2026-03-23T00:00:00Z",
        Ok((TcbStatus::OutOfDate, 11)),
    ),
    verdict(
        "trustee/tdx_quote_5.dat",
        "assembled-collateral/90c06f000000.json",
        "2026-03-23T00:00:00Z",
        Err("tdx-tcb-unknown"),
    ),
    verdict(
        "trustee/tdx_quote_6.dat",
        "assembled-collateral/trustee-2025-10.json",
        "2025-11-03T00:00:00Z",
        Ok((TcbStatus::OutOfDate, 0)),
    ),
];

#[test]
fn quotes_of_real_machines_get_the_verdict_of_those_who_published_them() {
    for Verdict {
        quote,
        collateral,
        at,
        said,
    } in VERDICTS
    {
        let Some(evidence) = published(quote, Some(collateral)) else {
            return;
        };
        let found = evidence.verify(TdxRoot::INTEL, time(at));
        let found = found
            .as_ref()
            .map(|td| (td.claims().tcb_status, td.claims().advisories.len()));
        let found = found.map_err(|findings| {
            let mut codes = codes(findings);
            codes.dedup();
            codes.join(" ")
        });
        assert_eq!(found, said.map_err(Into::into), "{quote} at {at}");
    }
}

/// Under a policy with a floor, as before there was one: what is up to date is accepted, the rest for the reason it has.
#[test]
fn quotes_of_real_machines_are_accepted_where_their_requirements_are_recent_enough() {
    for Verdict {
        quote,
        collateral,
        at,
        said,
    } in VERDICTS
    {
        let Some(evidence) = published(quote, Some(collateral)) else {
            return;
        };
        let (Ok((status, advisories)), Ok(td)) = (said, evidence.verify(TdxRoot::INTEL, time(at))) else {
            continue;
        };
        let mut wanted = vec!["tdx-out-of-date"; usize::from(*status != TcbStatus::UpToDate)];
        wanted.extend(vec!["tdx-advisory-not-accepted"; *advisories]);
        if *quote == "trustee/tdx_quote_4.dat" {
            wanted.push("tdx-debug");
        }
        let floor = |floor: u32| TdxPolicy {
            minimum_tcb_evaluation: Some(floor),
            ..TdxPolicy::default()
        };
        let found = td.claims().tcb_evaluation;
        assert_eq!(codes(&floor(found).appraise(&td)), wanted, "{quote} at {at}");
        let older = codes(&floor(found + 1).appraise(&td));
        assert_eq!(older, [&["tdx-evaluation-below-minimum"][..], &wanted].concat());
        let silent = codes(&TdxPolicy::default().appraise(&td));
        assert_eq!(silent, [&["tdx-no-minimum-tcb"][..], &wanted].concat());
    }
}

#[test]
fn a_quote_cut_of_what_follows_it_is_older_than_every_level() {
    let Some(mut evidence) = published(
        "go-tdx-guest/tdx_prod_quote_SPR_E4.dat",
        Some("assembled-collateral/50806f000000.json"),
    ) else {
        return;
    };
    evidence.quote = evidence.quote[..4935].to_vec().into();
    let findings = evidence
        .verify(TdxRoot::INTEL, time("2026-03-23T00:00:00Z"))
        .unwrap_err();
    assert_eq!(codes(&findings), ["tdx-tcb-unknown"]);
}

#[test]
fn quotes_without_collateral_are_no_yes() {
    for quote in [
        "dcap-qvl/quote-from-tappd.hex",
        "dcap-qvl/tdx-quote.hex",
        "go-tdx-guest/cos-113-tdx-quote.dat",
    ] {
        let Some(evidence) = published(quote, None) else { return };
        let findings = evidence
            .verify(TdxRoot::INTEL, time("2025-06-26T00:00:00Z"))
            .unwrap_err();
        assert_eq!(findings, [TdxFinding::TdxCollateralMissing], "{quote}");
    }
}

/// The event log of a machine of Google, which belongs to its quote; its digests are those that go-tdx-guest replays.
#[test]
fn a_log_belongs_to_its_quote_and_an_edited_one_does_not() {
    let Some(mut evidence) = published("go-tdx-guest/cos-113-tdx-quote.dat", None) else {
        return;
    };
    let log = fs::read(folder().unwrap().join("go-tdx-guest/ccel_data.dat")).unwrap();
    let mut findings = |log: &[u8]| {
        evidence.event_log = Some(log.to_vec().into());
        evidence.verify(TdxRoot::INTEL, now()).unwrap_err()
    };
    // there is no collateral for this machine
    assert_eq!(findings(&log), [TdxFinding::TdxCollateralMissing]);
    let mut edited = log.clone();
    // the digest of the second event: after the first, of 65 bytes, and 14 bytes of its own
    edited[65 + 14] ^= 1;
    assert_eq!(codes(&findings(&edited)), ["tdx-collateral-missing", "tdx-log-differs"]);
    let other = fs::read(folder().unwrap().join("trustee/CCEL_data_ovmf")).unwrap();
    assert_eq!(codes(&findings(&other)), ["tdx-collateral-missing", "tdx-log-differs"]);
    assert_eq!(
        codes(&findings(b"no log")),
        ["tdx-collateral-missing", "tdx-log-malformed"]
    );
}

#[test]
fn a_real_quote_under_a_simulated_root_is_not_genuine_nor_the_other_way_round() {
    let evidence = Td::default().evidence(&Platform::default());
    let findings = evidence.verify(TdxRoot::INTEL, now()).unwrap_err();
    assert_eq!(codes(&findings), ["tdx-signature-invalid"]);
    let Some(evidence) = published("dcap-qvl/tdx_quote", Some("dcap-qvl/tdx_quote_collateral.json")) else {
        return;
    };
    let root = simulated::root();
    let findings = evidence
        .verify(TdxRoot::simulated(&root), time("2025-06-26T00:00:00Z"))
        .unwrap_err();
    assert_eq!(codes(&findings), ["tdx-signature-invalid"]);
}

#[test]
fn no_bit_of_the_signed_part_of_a_real_quote_can_be_flipped() {
    let mut genuine: Vec<_> = VERDICTS.iter().filter(|verdict| verdict.said.is_ok()).collect();
    genuine.dedup_by_key(|verdict| verdict.quote);
    for Verdict {
        quote, collateral, at, ..
    } in genuine
    {
        let Some(evidence) = published(quote, Some(collateral)) else {
            return;
        };
        assert_eq!(
            accepted_flips(&evidence, TdxRoot::INTEL, time(at)),
            [0; 0],
            "{quote} at {at}"
        );
    }
}

#[test]
fn no_bit_of_the_signed_part_of_a_simulated_quote_can_be_flipped() {
    let root = simulated::root();
    let td = Td {
        version: 5, // most real ones are of version 4
        ..Td::default()
    };
    let evidence = td.evidence(&Platform::default());
    assert_eq!(accepted_flips(&evidence, TdxRoot::simulated(&root), now()), [0; 0]);
}

/// Returns which bits of the signed part of a genuine quote can be flipped so that it is still genuine: none.
fn accepted_flips(evidence: &TdxEvidence, root: TdxRoot, at: Timestamp) -> Vec<usize> {
    assert!(evidence.verify(root, at).is_ok());
    let bits = TdxQuote::read(&evidence.quote).unwrap().signed_size() * 8;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let accepted = |first: usize| {
        let flipped = |bit: &usize| {
            let mut quote = evidence.quote.to_vec();
            quote[bit / 8] ^= 1 << (bit % 8);
            let evidence = TdxEvidence {
                quote: quote.into(),
                ..evidence.clone()
            };
            evidence.verify(root, at).is_ok()
        };
        (first..bits).step_by(threads).filter(flipped).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(move || accepted(first))).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_genuine_td_claims_what_its_quote_says() {
    let td = genuine(
        &Td {
            version: 5,
            ..Td::default()
        },
        &Platform::default(),
    );
    let claims = td.claims();
    assert_eq!(claims.mrtd, [0x11; 48].into());
    assert_eq!(claims.mr_config_id, [0x22; 48].into());
    assert_eq!(claims.report_data, [0x33; 64].into());
    assert_eq!(claims.mr_service_td, Some([0; 48].into()));
    assert_eq!(claims.td_attributes, SEPT_VE_DISABLE);
    assert_eq!(
        (claims.tcb_status, &claims.advisories[..]),
        (TcbStatus::UpToDate, &[][..])
    );
    assert_eq!(claims.fmspc.to_string(), "50806f000000");
    assert_eq!(claims.tcb_date, time("2026-02-11T00:00:00Z"));
    assert_eq!(
        claims.collateral_issued,
        [time("2020-01-01T00:00:00Z"), time("2026-11-01T00:00:00Z")]
    );
    assert_eq!(claims.collateral_expires, time("2026-12-01T00:00:00Z"));
    assert!(!claims.event_log);
    assert_eq!(claims.tcb_evaluation, 18);
    assert_eq!(policy("{}").appraise(&td), []);
    let json = serde_json::to_value(claims).unwrap();
    assert_eq!(json["td-attributes"], "0x10000000");
    assert_eq!(json["tcb-status"], "UpToDate");
}

#[test]
fn tdx_out_of_date() {
    let platform = Platform {
        svn: 3,
        ..Platform::default()
    };
    let td = genuine(&Td::default(), &platform);
    let findings = policy("{}").appraise(&td);
    assert_eq!(codes(&findings), ["tdx-out-of-date", "tdx-advisory-not-accepted"]);
    assert_eq!(
        findings[0].to_string(),
        "the platform of the TD is out of date (OutOfDate, TCB of 2026-02-11T00:00:00Z; INTEL-SA-00000)"
    );
    let policy = policy(r#"{"accept-status": ["OutOfDate"], "accept-advisories": ["INTEL-SA-00000"]}"#);
    assert_eq!(policy.appraise(&td), []);
    assert_eq!(
        policy.unchecked(),
        [
            "TDX: the TCB status OutOfDate is accepted",
            "TDX: the advisory INTEL-SA-00000 is accepted"
        ]
    );
    let platform = Platform {
        svn: 2,
        ..Platform::default()
    };
    assert_eq!(codes(&refused(&Td::default(), &platform)), ["tdx-tcb-unknown"]);
}

#[test]
fn tdx_status_that_nobody_accepted() {
    let platform = Platform {
        status: "SWHardeningNeeded",
        advisories: &["INTEL-SA-01192"],
        ..Platform::default()
    };
    let td = genuine(&Td::default(), &platform);
    let found = |text| codes(&policy(text).appraise(&td));
    assert_eq!(found("{}"), ["tdx-status-not-accepted", "tdx-advisory-not-accepted"]);
    assert_eq!(
        found(r#"{"accept-status": ["SWHardeningNeeded"]}"#),
        ["tdx-advisory-not-accepted"]
    );
    assert_eq!(found(r#"{"accept-status": ["ConfigurationNeeded"]}"#).len(), 2);
}

#[test]
fn revoked_platform() {
    let platform = Platform {
        status: "Revoked",
        ..Platform::default()
    };
    assert_eq!(codes(&refused(&Td::default(), &platform)), ["tdx-revoked"]);
    let platform = Platform {
        revoked: true,
        ..Platform::default()
    };
    assert_eq!(codes(&refused(&Td::default(), &platform)), ["tdx-revoked"]);
}

#[test]
fn debug_td() {
    // debug, and the bits of profiling
    for bit in [0, 4, 5, 6] {
        let attributes = SEPT_VE_DISABLE | 1 << bit;
        let td = genuine(
            &Td {
                attributes,
                ..Td::default()
            },
            &Platform::default(),
        );
        assert_eq!(
            policy("{}").appraise(&td),
            [TdxFinding::TdxDebug {
                td_attributes: attributes
            }]
        );
        let policy = policy(r#"{"allow-debug": true}"#);
        assert_eq!(policy.appraise(&td), []);
        assert_eq!(policy.unchecked(), ["TDX: the host may debug and profile the TD"]);
    }
}

#[test]
fn service_td() {
    let bound = Td {
        version: 5,
        mr_service_td: [7; 48],
        ..Td::default()
    };
    let td = genuine(&bound, &Platform::default());
    assert_eq!(codes(&policy("{}").appraise(&td)), ["tdx-service-td"]);
    let allowing = policy(r#"{"allow-service-td": true}"#);
    assert_eq!(allowing.appraise(&td), []);
    assert_eq!(allowing.unchecked().len(), 1);
    // SERVTD_EXT
    let attributes = SEPT_VE_DISABLE | 1 << 17;
    let td = genuine(
        &Td {
            version: 5,
            attributes,
            ..Td::default()
        },
        &Platform::default(),
    );
    assert_eq!(codes(&policy("{}").appraise(&td)), ["tdx-service-td"]);
}

/// Old requirements are signed by Intel too, and a host can hand them out for as long as they say that they are valid.
#[test]
fn attack_requirements_of_another_age() {
    let td = genuine(&Td::default(), &Platform::default());
    let found = |floor| {
        let policy = TdxPolicy {
            minimum_tcb_evaluation: floor,
            ..TdxPolicy::default()
        };
        policy.appraise(&td)
    };
    assert_eq!(found(Some(18)), []);
    assert_eq!(
        found(Some(19)),
        [TdxFinding::TdxEvaluationBelowMinimum { found: 18, minimum: 19 }]
    );
    assert_eq!(found(None), [TdxFinding::TdxNoMinimumTcb { found: 18 }]);
}

#[test]
fn attack_attributes_that_nobody_allowed() {
    for (bit, name) in [
        (16, None), // ICSSD
        (22, None),
        (27, Some(TdAttribute::Lass)),
        (30, Some(TdAttribute::Pks)),
        (31, Some(TdAttribute::KeyLocker)),
        (62, None), // TPA
        (63, Some(TdAttribute::Perfmon)),
    ] {
        let td = Td {
            attributes: SEPT_VE_DISABLE | 1 << bit,
            ..Td::default()
        };
        let td = genuine(&td, &Platform::default());
        let refused = TdxFinding::TdxAttributesNotAllowed {
            td_attributes: SEPT_VE_DISABLE | 1 << bit,
            refused: 1 << bit,
        };
        assert_eq!(policy("{}").appraise(&td), std::slice::from_ref(&refused));
        let allowing = |names: &[TdAttribute]| TdxPolicy {
            allow_attributes: names.iter().copied().collect(),
            ..policy("{}")
        };
        let all = [
            TdAttribute::Lass,
            TdAttribute::Pks,
            TdAttribute::KeyLocker,
            TdAttribute::Perfmon,
        ];
        let others: Vec<_> = all.into_iter().filter(|other| Some(*other) != name).collect();
        assert_eq!(allowing(&others).appraise(&td), [refused]);
        assert_eq!(allowing(&all).appraise(&td).is_empty(), name.is_some());
    }
    let named = policy(r#"{"allow-attributes": ["perfmon"]}"#);
    assert_eq!(named.unchecked(), ["TDX: the attribute Perfmon is accepted"]);
}

/// Processor trace and last branch records; the rest is in quotes of real machines.
#[test]
fn attack_features_that_nobody_allowed() {
    for (xfam, refused) in [(0x6_42e7, 0), (0x6_1ae7, 0), (0x6_43e7, 0x100), (0x6_c2e7, 0x8000)] {
        let td = genuine(&Td { xfam, ..Td::default() }, &Platform::default());
        let wanted = (refused != 0).then_some(TdxFinding::TdxXfamNotAllowed { xfam, refused });
        assert_eq!(policy("{}").appraise(&td), wanted.into_iter().collect::<Vec<_>>());
        let wider = policy(r#"{"allow-xfam": 449511}"#); // both of them too
        assert_eq!(wider.appraise(&td), []);
    }
}

#[test]
fn attributes_that_no_policy_accepts() {
    // migration, a reserved bit, and exceptions of the host's choice
    for attributes in [SEPT_VE_DISABLE | 1 << 29, SEPT_VE_DISABLE | 1 << 40, 0] {
        let findings = refused(
            &Td {
                attributes,
                ..Td::default()
            },
            &Platform::default(),
        );
        assert_eq!(
            codes(&findings),
            ["tdx-attributes-refused"],
            "{attributes:#x}: {findings:?}"
        );
    }
}

#[test]
fn wrong_collateral() {
    let other = Platform {
        fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0],
        ..Platform::default()
    };
    let evidence = TdxEvidence {
        collateral: Td::default().evidence(&other).collateral,
        ..Td::default().evidence(&Platform::default())
    };
    let differs = TdxFinding::TdxCollateralDiffers {
        what: "FMSPC",
        collateral: "90c06f000000".into(),
        quote: "50806f000000".into(),
    };
    assert_eq!(verify(&evidence).unwrap_err(), [differs]);
    let Some(evidence) = published("dcap-qvl/tdx_quote", Some("dcap-qvl/sgx_quote_collateral.json")) else {
        return;
    };
    let findings = evidence
        .verify(TdxRoot::INTEL, time("2025-06-26T00:00:00Z"))
        .unwrap_err();
    assert_eq!(codes(&findings), ["tdx-collateral-differs", "tdx-collateral-differs"]);
}

#[test]
fn edited_collateral() {
    let evidence = Td::default().evidence(&Platform::default());
    let genuine = Platform::default().collateral();
    for (part, from, to, code) in [
        ("tcb_info", "\"svn\":5", "\"svn\":4", "tdx-signature-invalid"),
        (
            "tcb_info",
            "\"pceId\":\"0000\"",
            "\"pceId\":\"0001\"",
            "tdx-collateral-differs",
        ),
        (
            "qe_identity",
            "\"isvprodid\":2",
            "\"isvprodid\":3",
            "tdx-signature-invalid",
        ),
        ("qe_identity", "\"isvsvn\":4", "\"isvsvn\":3", "tdx-signature-invalid"),
        ("tcb_info_signature", "0", "1", "tdx-signature-invalid"),
        ("pck_crl", "0", "1", "tdx-signature-invalid"),
        ("root_ca_crl", "0", "1", "tdx-signature-invalid"),
    ] {
        let mut edited = genuine.clone();
        let text = edited[part].as_str().unwrap();
        let text = match text.rfind(from).filter(|_| from == "0") {
            // of hexadecimal digits one near the end, in the signature
            Some(at) => format!("{}{to}{}", &text[..at], &text[at + 1..]),
            None => text.replace(from, to),
        };
        assert_ne!(edited[part], text);
        edited[part] = text.into();
        let evidence = TdxEvidence {
            collateral: Some(edited.to_string().into_bytes().into()),
            ..evidence.clone()
        };
        let codes = codes(&verify(&evidence).unwrap_err()).join(" ");
        assert_eq!(codes, code, "{part}");
    }
}

#[test]
fn collateral_counts_from_its_first_second_to_its_last() {
    let evidence = Td::default().evidence(&Platform::default());
    let root = simulated::root();
    let found = |at| evidence.verify(TdxRoot::simulated(&root), time(at)).map(|_| ());
    assert_eq!(found("2026-11-01T00:00:00Z"), Ok(()));
    assert_eq!(found("2026-11-30T23:59:59Z"), Ok(()));
    let early = found("2026-10-31T23:59:59Z").unwrap_err();
    assert_eq!(codes(&early), ["tdx-collateral-not-yet-valid"; 2]);
    let late = found("2026-12-01T00:00:00Z").unwrap_err();
    assert_eq!(codes(&late), ["tdx-collateral-expired"; 4]);
    assert_eq!(codes(&found("1969-01-01T00:00:00Z").unwrap_err()).len(), 2);
}

#[test]
fn event_log_edited() {
    let event = measure::Sha384::of(b"kernel");
    let rtmr = measure::Sha384::of([&[0; 48], &event.bytes()[..]].concat());
    let mut td = Td::default();
    td.rtmrs[1] = *rtmr.bytes();
    let mut evidence = td.evidence(&Platform::default());
    evidence.event_log = Some(log(event.bytes()).into());
    assert!(verify(&evidence).unwrap().claims().event_log);
    let other = measure::Sha384::of(b"another kernel");
    evidence.event_log = Some(log(other.bytes()).into());
    let replayed = measure::Sha384::of([&[0; 48], &other.bytes()[..]].concat());
    let differs = TdxFinding::TdxLogDiffers {
        register: Register::Rtmr(1),
        log: replayed,
        quote: rtmr,
    };
    assert_eq!(verify(&evidence).unwrap_err(), [differs]);
    // an event of another register, which the quote does not know of
    let mut more = log(event.bytes());
    let mut second = more[65..].to_vec();
    second[0] = 1;
    more.extend(second);
    evidence.event_log = Some(more.into());
    assert_eq!(codes(&verify(&evidence).unwrap_err()), ["tdx-log-differs"]);
}

/// Returns a CCEL with one event, which extends RTMR1.
fn log(digest: &[u8; 48]) -> Vec<u8> {
    let mut log = [&[1, 0, 0, 0, 3, 0, 0, 0][..], &[0; 20], &33_u32.to_le_bytes()].concat();
    log.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\x00\x02\x01\0\0\0\x0c\0\x30\0\0");
    log.extend([2, 0, 0, 0, 0xd, 0, 0, 0, 1, 0, 0, 0, 0xc, 0]);
    log.extend(digest);
    log.extend([0; 4]);
    log
}

#[test]
fn what_is_no_quote_of_a_td_is_said_to_be_what_it_is() {
    let whole = Td::default().evidence(&Platform::default());
    let refusal = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut quote = whole.quote.to_vec();
        change(&mut quote);
        let findings = verify(&TdxEvidence {
            quote: quote.into(),
            ..whole.clone()
        })
        .map(|_| ());
        findings.unwrap_err()[0].to_string()
    };
    let refusals = [
        refusal(&|quote| quote[4] = 0),
        refusal(&|quote| quote[0] = 3),
        refusal(&|quote| quote[2] = 3),
        refusal(&|quote| *quote = [&[0xd2, 0x84], &quote[..]].concat()),
        refusal(&|quote| quote.truncate(7)),
        refusal(&|quote| quote.truncate(quote.len() - 1)),
        refusal(&|quote| quote.resize(200 << 10, 0)),
    ];
    let expected = [
        "the evidence is a quote of an SGX enclave, expected an ECDSA quote of a TD, version 4 or 5",
        "the evidence is no quote of a known version, expected an ECDSA quote of a TD, version 4 or 5",
        "the evidence is a quote that is not signed with ECDSA over P-256, expected an ECDSA quote of a TD, version 4 or 5",
        "the evidence is a quote in the new form (DICE, CBOR), expected an ECDSA quote of a TD, version 4 or 5",
        "the TDX quote cannot be read: it is shorter than its first fields, 8 bytes",
        "the TDX quote cannot be read: its signature is cut off",
        "the TDX quote cannot be read: it is longer than 128 KiB",
    ];
    assert_eq!(refusals, expected);
}

/// Around the signed part, dcap-qvl looks at less than we do: these it accepts.
#[test]
fn bytes_that_nobody_signed() {
    let whole = Td::default().evidence(&Platform::default());
    let found = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut quote = whole.quote.to_vec();
        change(&mut quote);
        verify(&TdxEvidence {
            quote: quote.into(),
            ..whole.clone()
        })
        .map(|_| ())
    };
    // what the kernel hands out
    assert_eq!(found(&|quote| quote.resize(8000, 0)), Ok(()));
    let trailing = found(&|quote| quote.extend([0, 0, 1])).unwrap_err();
    let size = whole.quote.len();
    assert_eq!(trailing, [TdxFinding::TdxTrailingBytes { offset: size, size: 3 }]);
    // type and size of the outer certification data
    for offset in [764, 766] {
        assert_eq!(
            codes(&found(&|quote| quote[offset] ^= 1).unwrap_err()),
            ["tdx-quote-malformed"]
        );
    }
    // a byte in the signature data that belongs to none of its parts
    let longer = found(&|quote| {
        quote.push(0);
        quote[632] += 1;
    });
    assert_eq!(codes(&longer.unwrap_err()), ["tdx-quote-malformed"]);
}

#[test]
fn a_policy_says_no_more_than_it_can() {
    for text in [
        r#"{"accept-status": ["Revoked"]}"#,
        r#"{"allow-migration": true}"#,
        r#"{"allow_debug": true}"#,
    ] {
        assert!(serde_json::from_str::<TdxPolicy>(text).is_err(), "{text}");
    }
    assert_eq!(TdxPolicy::default().unchecked(), [""; 0]);
}

/// A policy whose floor the simulated platform reaches.
fn policy(text: &str) -> TdxPolicy {
    TdxPolicy {
        minimum_tcb_evaluation: Some(18),
        ..serde_json::from_str(text).unwrap()
    }
}

fn genuine(td: &Td, platform: &Platform) -> Genuine<TdxClaims> {
    verify(&td.evidence(platform)).unwrap()
}

fn refused(td: &Td, platform: &Platform) -> Vec<TdxFinding> {
    verify(&td.evidence(platform)).unwrap_err()
}

fn verify(evidence: &TdxEvidence) -> Result<Genuine<TdxClaims>, Vec<TdxFinding>> {
    evidence.verify(TdxRoot::simulated(&simulated::root()), now())
}

fn codes(findings: &[TdxFinding]) -> Vec<String> {
    let code = |finding| {
        serde_json::to_value(finding).unwrap()["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    findings.iter().map(code).collect()
}

/// Returns a quote of a real machine, if it is here.
fn published(quote: &str, collateral: Option<&str>) -> Option<TdxEvidence> {
    let folder = folder()?;
    let mut bytes = fs::read(folder.join(quote)).unwrap();
    if quote.ends_with(".hex") {
        let digits = bytes.trim_ascii_end();
        bytes = HEXLOWER.decode(digits.strip_prefix(b"0x").unwrap_or(digits)).unwrap();
    }
    Some(TdxEvidence {
        quote: bytes.into(),
        collateral: collateral.map(|name| fs::read(folder.join(name)).unwrap().into()),
        event_log: None,
    })
}

/// Where the data is, if it is here. Tests run in the folder of their package.
fn folder() -> Option<PathBuf> {
    let path = PathBuf::from("../../shared/vectors/evidence/tdx");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}
