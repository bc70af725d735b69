//! Chains of three generations whose builders a simulated TPM, TD or chip vouches for, and what is found out when somebody
//! attacks one; tests are named after the attack.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

#[allow(dead_code, reason = "signed releases are made here")]
mod fixture;
mod simulated;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use builder::document::claims::Claims;
use builder::document::provenance::{Builder, Machine, Run, Times};
use builder::model::key::SigningKey;
use builder::model::measurements::{Boot, FirmwareFile, Launch, Measurement, Measurements, Platform, Quantity, Value};
use builder::model::record::{Binding, Record, Terms};
use builder::model::release::Manifest;
use builder::model::{Request, Trust};
use builder::stage::appraise::{Judge, Roots};
use builder::stage::chain::{COMPLETION, Chain, DISPATCH, Generation};
use builder::stage::finding::Finding;
use builder::stage::release::{Existing, Staging, Stamps};
use builder::stage::sign;
use builder::stage::signatures::Demand;
use fixture::origin;
use jiff::Timestamp;
use measure::event_log::{Digests, EventLog, Register};
use measure::evidence::{AmdRoots, Evidence, TdxRoot};
use measure::{Sha256, Sha384};
use simulated::tdx::{self, Td};
use simulated::tpm::{Ak, Simulated};
use tempfile::TempDir;
use uuid::Uuid;

/// PCRs that the launches predict.
const PCRS: [u8; 4] = [0, 4, 9, 11];

/// Who vouches for builders.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Vendor {
    Tpm,
    Tdx,
}

/// Releases, the later ones built in the earlier ones.
struct Line {
    folder: TempDir,
    vendor: Vendor,
    releases: Vec<PathBuf>,
    trust: Trust,
}

/// The value of a register of generation `image`, and of which boot.
fn value_of(image: u32, boot: &str, what: impl std::fmt::Display) -> Digests {
    Digests::of(format!("{boot} {what} of image {image}"))
}

fn launches(image: u32) -> Vec<Measurement> {
    let launch = |platform, boot: Boot, quantities: Vec<Quantity>| {
        let name = format!("{boot:?}");
        let values = quantities.into_iter().map(|quantity| Value {
            quantity,
            case: None,
            digests: value_of(image, &name, quantity),
            covers: [].into(),
            varies_with: [].into(),
            pre_vmsa: None,
            log: EventLog::default(),
        });
        Measurement {
            launch: Launch {
                platform,
                boot,
                firmware: FirmwareFile {
                    name: "OVMF.fd".into(),
                    sha256: Sha256::of("firmware"),
                },
            },
            values: values.collect(),
        }
    };
    let pcrs = || PCRS.map(|pcr| Quantity::Register(Register::Pcr(pcr))).to_vec();
    let td = || {
        let rtmrs = [1, 2].map(|rtmr| Quantity::Register(Register::Rtmr(rtmr)));
        [vec![Quantity::Mrtd], rtmrs.to_vec()].concat()
    };
    [Boot::Direct, Boot::Disk]
        .into_iter()
        .flat_map(|boot| [launch(Platform::Tpm, boot, pcrs()), launch(Platform::Tdx, boot, td())])
        .collect()
}

/// A VM as its evidence has it.
#[derive(Clone)]
struct Vm {
    /// The generation whose image it runs.
    image: u32,
    boot: &'static str,
    /// Values of another launch than the rest.
    strange: BTreeMap<&'static str, (u32, &'static str)>,
    ak: u8,
    init_data: [u8; 48],
}

impl Vm {
    fn of(image: u32) -> Self {
        Self {
            image,
            boot: "Direct",
            strange: BTreeMap::new(),
            ak: 1,
            init_data: [0; 48],
        }
    }

    fn value(&self, quantity: Quantity) -> Digests {
        let name = quantity.to_string();
        let strange = self.strange.iter().find(|(what, _)| **what == name);
        let (image, boot) = strange.map_or((self.image, self.boot), |(_, strange)| *strange);
        value_of(image, boot, name)
    }

    fn evidence(&self, vendor: Vendor, text: &str, binding: Binding) -> Evidence {
        match vendor {
            Vendor::Tpm => self.quote_of_tpm(&binding.data(text)),
            Vendor::Tdx => self.quote_of_td(binding.report_data(text)),
        }
    }

    fn quote_of_tpm(&self, extra_data: &[u8]) -> Evidence {
        let pcrs = PCRS.map(|pcr| {
            let value = self.value(Quantity::Register(Register::Pcr(pcr)));
            (pcr, value.sha256.unwrap())
        });
        Evidence::Tpm(Simulated::new(Ak::p256(self.ak), extra_data, pcrs).evidence())
    }

    fn quote_of_td(&self, report_data: [u8; 64]) -> Evidence {
        let value = |quantity| *self.value(quantity).sha384.unwrap().bytes();
        let td = Td {
            mrtd: value(Quantity::Mrtd),
            rtmrs: [0, 1, 2, 3].map(|rtmr| value(Quantity::Register(Register::Rtmr(rtmr)))),
            mr_config_id: self.init_data,
            report_data,
            ..Td::default()
        };
        Evidence::Tdx(td.evidence(&tdx::Platform::default()))
    }
}

impl Line {
    /// Three generations, each built in the one before it.
    fn of_three(vendor: Vendor) -> Self {
        let mut line = Self {
            folder: tempfile::tempdir().unwrap(),
            vendor,
            releases: Vec::new(),
            trust: Trust::default(),
        };
        for number in 0..3 {
            line.build(
                number,
                &format!("generation {number}"),
                number.checked_sub(1).map(Vm::of),
            );
        }
        let first = Manifest::parse(&line.text(0, "manifest.json")).unwrap();
        line.trust.roots = vec![first.digest()];
        line.trust.tpm.keys = [Ak::p256(1).digest()].into();
        line.trust.tpm.pcrs = PCRS.into();
        line.trust.tpm.allow_measured_boot = true;
        line
    }

    /// Builds the next generation, in this VM.
    fn build(&mut self, number: u32, command_line: &str, vm: Option<Vm>) -> PathBuf {
        let previous = self.releases.last().map(|parent| record(parent).digest());
        let terms = Terms {
            generation: number,
            previous: previous.filter(|_| vm.is_some()),
            ..Terms::default()
        };
        let release = self.release(number, command_line);
        self.sign(&release, terms, vm.is_some());
        if let Some(vm) = vm {
            self.attest(&release, &vm);
        }
        self.releases.push(release.clone());
        release
    }

    fn release(&self, number: u32, command_line: &str) -> PathBuf {
        let release = self.folder.path().join(command_line.replace(' ', "-"));
        let staging = Staging::begin(&release, Existing::Refuse).unwrap();
        fixture::fill(staging.folder());
        fs::write(staging.folder().join("cmdline"), command_line).unwrap();
        let launches = launches(number);
        fs::write(
            staging.folder().join("measurements.json"),
            Measurements { launches }.text(),
        )
        .unwrap();
        staging.publish(origin(), Stamps::new()).unwrap();
        release
    }

    fn sign(&self, release: &Path, terms: Terms, attested: bool) {
        let manifest = Manifest::parse(&fs::read_to_string(release.join("manifest.json")).unwrap()).unwrap();
        let builder = match self.vendor {
            _ if !attested => Builder::Unattested,
            Vendor::Tpm => Builder::Attested(Machine::Tpm),
            Vendor::Tdx => Builder::Attested(Machine::Tdx),
        };
        let run = Run {
            id: Uuid::nil(),
            builder,
            version: "0.1.0".into(),
            times: Some(Times {
                started_on: at("2026-11-14T00:00:00Z"),
                finished_on: at("2026-11-14T01:00:00Z"),
            }),
        };
        let key = SigningKey::from_random([1 + terms.generation as u8; 32]).unwrap();
        let subject = sign::read(release, manifest).unwrap();
        let claims = Claims::new(&subject, &run, terms, &key.public());
        sign::append(release, &claims.signed_by(&key)).unwrap();
    }

    fn attest(&self, release: &Path, vm: &Vm) {
        let record = record(release);
        let binding = record.terms.binding;
        write(
            release,
            DISPATCH,
            &vm.evidence(self.vendor, &Request::of(&record).text(), binding),
        );
        write(release, COMPLETION, &vm.evidence(self.vendor, &record.text(), binding));
    }

    fn text(&self, number: usize, name: &str) -> String {
        fs::read_to_string(self.releases[number].join(name)).unwrap()
    }

    fn demand() -> Demand {
        Demand {
            key: None,
            at: tdx::now(),
        }
    }

    fn verify(&self) -> Vec<Generation> {
        let root = tdx::root();
        let roots = Roots {
            amd: AmdRoots::amd(),
            intel: TdxRoot::simulated(&root),
        };
        let judge = Judge {
            roots: &roots,
            trust: &self.trust,
            quorum: None,
            at: tdx::now(),
        };
        Chain::read(&self.releases, &Self::demand()).unwrap().line(&judge)
    }

    /// The codes of all findings, by generation.
    fn findings(&self) -> Vec<String> {
        let line = self.verify();
        let findings = line.iter().flat_map(|one| {
            one.findings
                .iter()
                .map(|finding| format!("{} {}", one.number(), finding.code()))
        });
        findings.collect()
    }

    /// Replaces evidence of a generation by that of another VM.
    fn with_vm(self, number: usize, change: impl Fn(&mut Vm)) -> Self {
        let mut vm = Vm::of(u32::try_from(number).unwrap() - 1);
        change(&mut vm);
        self.attest(&self.releases[number].clone(), &vm);
        self
    }
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn record(release: &Path) -> Record {
    Record::parse(&fs::read_to_string(release.join("record.json")).unwrap()).unwrap()
}

fn write(release: &Path, name: &str, evidence: &Evidence) {
    fs::create_dir_all(release.join("evidence")).unwrap();
    fs::write(release.join(name), serde_json::to_string(evidence).unwrap()).unwrap();
}

const BOTH: [Vendor; 2] = [Vendor::Tpm, Vendor::Tdx];

#[test]
fn a_chain_of_three_is_verified() {
    for vendor in BOTH {
        let line = Line::of_three(vendor).verify();
        assert_eq!(line.iter().map(Generation::number).collect::<Vec<_>>(), [0, 1, 2]);
        for one in &line {
            assert_eq!(one.findings, [], "generation {}", one.number());
        }
        assert!(line[1].claims.contains_key(COMPLETION));
    }
}

#[test]
fn the_order_of_the_others_does_not_matter() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.releases.swap(0, 1);
    assert_eq!(line.findings(), [""; 0]);
}

#[test]
fn a_generation_without_evidence() {
    let line = Line::of_three(Vendor::Tpm);
    fs::remove_dir_all(line.releases[1].join("evidence")).unwrap();
    assert_eq!(line.findings(), ["1 evidence-missing", "1 evidence-missing"]);
}

#[test]
fn evidence_of_another_image() {
    for vendor in BOTH {
        let line = Line::of_three(vendor).with_vm(2, |vm| vm.image = 7);
        assert_eq!(line.findings(), ["2 launch-unknown", "2 launch-unknown"]);
    }
}

#[test]
fn a_vm_of_generation_k_minus_2_built_k() {
    for vendor in BOTH {
        let line = Line::of_three(vendor).with_vm(2, |vm| vm.image = 0);
        assert_eq!(line.findings(), ["2 launch-unknown", "2 launch-unknown"]);
    }
}

#[test]
fn evidence_of_generation_k_minus_1_presented_for_k() {
    for vendor in BOTH {
        let line = Line::of_three(vendor);
        fs::copy(line.releases[1].join(COMPLETION), line.releases[2].join(COMPLETION)).unwrap();
        let findings = line.findings();
        let wanted = ["2 launch-unknown", "2 report-data-differs", "2 evidence-of-other"];
        assert_eq!(findings, wanted);
    }
}

#[test]
fn a_mixed_tuple() {
    let line = Line::of_three(Vendor::Tdx).with_vm(2, |vm| {
        vm.strange = [("RTMR1", (1, "Disk"))].into();
    });
    assert_eq!(line.findings(), ["2 launch-mixed", "2 launch-mixed"]);
    let line = Line::of_three(Vendor::Tpm).with_vm(2, |vm| {
        vm.strange = [("PCR 9", (1, "Disk"))].into();
    });
    assert_eq!(line.findings(), ["2 launch-mixed", "2 launch-mixed"]);
}

#[test]
fn a_value_of_another_release_among_right_ones() {
    let line = Line::of_three(Vendor::Tdx).with_vm(2, |vm| {
        vm.strange = [("RTMR2", (0, "Direct"))].into();
    });
    let findings = line.verify().pop().unwrap().findings;
    assert!(
        findings[0].to_string().contains("RTMR2 is none of those predicted"),
        "{}",
        findings[0]
    );
}

#[test]
fn report_data_of_another_encoding_of_the_same_statement() {
    for vendor in BOTH {
        let line = Line::of_three(vendor);
        let (release, vm) = (&line.releases[2], Vm::of(1));
        let evidence = vm.evidence(vendor, &record(release).text(), Binding::Sha256Hex);
        write(release, COMPLETION, &evidence);
        assert_eq!(line.findings(), ["2 binding-differs"]);
    }
}

#[test]
fn a_statement_of_another_release_under_a_good_quote() {
    let line = Line::of_three(Vendor::Tpm);
    fs::copy(
        line.releases[1].join("provenance.sigstore.json"),
        line.releases[2].join("provenance.sigstore.json"),
    )
    .unwrap();
    let findings = line.findings();
    assert!(findings.contains(&"2 subject-differs".to_owned()), "{findings:?}");
    assert!(findings.contains(&"2 signature-invalid".to_owned()), "{findings:?}");
}

#[test]
fn any_pod_on_the_right_image_but_with_foreign_init_data() {
    let mut line = Line::of_three(Vendor::Tdx).with_vm(2, |vm| vm.init_data = [7; 48]);
    assert_eq!(line.findings(), ["2 init-data-differs", "2 init-data-differs"]);
    line.trust.mr_config_id = vec![Sha384::from([7; 48])];
    let findings = line.findings();
    let wanted = ["1 init-data-differs", "1 init-data-differs"]; // the other one has none
    assert_eq!(findings, wanted);
    line.trust.mr_config_id.push(Sha384::ZERO);
    assert_eq!(line.findings(), [""; 0]);
}

#[test]
fn a_software_tpm_that_nobody_named() {
    let mut line = Line::of_three(Vendor::Tpm).with_vm(2, |vm| vm.ak = 9);
    assert_eq!(line.findings(), ["2 tpm-ak-not-trusted", "2 tpm-ak-not-trusted"]);
    line = Line::of_three(Vendor::Tpm);
    line.trust.tpm.allow_measured_boot = false;
    let findings = line.findings();
    assert_eq!(
        findings,
        [
            "1 tpm-not-confidential",
            "1 tpm-not-confidential",
            "2 tpm-not-confidential",
            "2 tpm-not-confidential"
        ]
    );
}

#[test]
fn a_rolled_back_generation() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.trust.min_generation = 3;
    let findings = line.verify().pop().unwrap().findings;
    assert_eq!(findings, [Finding::GenerationBelowFloor { found: 2, floor: 3 }]);
    assert!(findings[0].is_about_time());
}

#[test]
fn two_different_releases_with_the_same_number() {
    let mut line = Line::of_three(Vendor::Tpm);
    let last = line.releases.pop().unwrap();
    line.build(2, "another one", Some(Vm::of(1)));
    line.releases.push(last);
    assert_eq!(line.findings(), ["2 generation-forked"]);
}

#[test]
fn a_number_that_is_left_out() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.build(4, "generation 4", Some(Vm::of(2)));
    assert_eq!(line.findings(), ["4 generation-differs"]);
}

#[test]
fn a_parent_that_was_not_given() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.releases.remove(0);
    let findings = line.findings();
    assert!(findings.contains(&"1 parent-missing".to_owned()), "{findings:?}");
}

#[test]
fn a_generation_0_that_nobody_vouches_for() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.trust.roots.clear();
    assert_eq!(line.findings(), ["0 root-not-trusted"]);
}

#[test]
fn a_builder_that_says_it_is_of_another_kind() {
    let line = Line::of_three(Vendor::Tpm);
    let release = &line.releases[2];
    let terms = record(release).terms;
    line.sign(release, terms, false);
    line.attest(release, &Vm::of(1));
    assert_eq!(line.findings(), ["2 builder-differs", "2 builder-differs"]);
}

#[test]
fn evidence_that_is_none() {
    let line = Line::of_three(Vendor::Tpm);
    for text in [
        "",
        "{}",
        "{\"platform\":\"sev\"}",
        "{\"platform\":\"snp\",\"report\":\"AA==\"}",
    ] {
        fs::write(line.releases[2].join(COMPLETION), text).unwrap();
        let findings = line.findings();
        let known = ["2 evidence-unreadable", "2 builder-differs"];
        assert!(known.contains(&findings[0].as_str()), "{findings:?}");
    }
}

#[test]
fn a_flipped_file_of_an_older_generation() {
    let line = Line::of_three(Vendor::Tpm);
    fs::write(line.releases[0].join("cmdline"), "generation 9").unwrap();
    assert_eq!(line.findings()[0], "0 digest-differs");
}
