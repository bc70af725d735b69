//! Chains of three generations whose builders a simulated TPM, TD or chip vouches for, and what is found out when somebody
//! attacks one; tests are named after the attack.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

#[allow(dead_code, reason = "signed releases are made here")]
mod fixture;
mod simulated;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use builder::document::claims::Claims;
use builder::document::provenance::{Builder, Machine, Run, Times};
use builder::model::key::SigningKey;
use builder::model::measurements::{
    Boot, FirmwareFile, Launch, Measurement, Measurements, Platform, Quantity, Value, Vmm,
};
use builder::model::record::{Binding, Record, Terms};
use builder::model::release::{FileName, Manifest};
use builder::model::{Request, Trust};
use builder::stage::appraise::{Judge, Roots};
use builder::stage::chain::{COMPLETION, Chain, DISPATCH, Generation, last_good};
use builder::stage::finding::Finding;
use builder::stage::parse::LOCK;
use builder::stage::release::{Existing, Staging, Stamps};
use builder::stage::sign;
use builder::stage::signatures::Demand;
use builder::stage::verify;
use fixture::origin;
use jiff::Timestamp;
use measure::event_log::{Digests, EventLog, Register};
use measure::evidence::snp::{AmdRoots, SnpProduct};
use measure::evidence::{Bytes, Evidence, TdxRoot};
use measure::snp::GuestPolicy;
use measure::{Digest, Sha256, Sha384};
use simulated::snp::{self, Authorities, Said};
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
    Snp,
}

impl Vendor {
    const fn machine(self) -> Machine {
        match self {
            Self::Tpm => Machine::Tpm,
            Self::Tdx => Machine::Tdx,
            Self::Snp => Machine::Snp,
        }
    }
}

/// A chip with SEV-SNP, the certificate of its key, and the roots above that.
struct Chip {
    platform: snp::Platform,
    vcek: Vec<u8>,
    roots: AmdRoots,
}

static CHIP: LazyLock<Chip> = LazyLock::new(|| {
    let platform = snp::Platform::new(SnpProduct::Milan);
    let vcek = platform.certify(&platform.vek(Said::default().tcbs[0]));
    let roots = platform.roots();
    Chip { platform, vcek, roots }
});

/// Releases, the later ones built in the earlier ones.
struct Line {
    folder: TempDir,
    vendor: Vendor,
    releases: Vec<PathBuf>,
    trust: Trust,
    amd: AmdRoots,
    /// What a release predicts.
    launches: fn(u32) -> Vec<Measurement>,
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
                    name: FileName::try_from("OVMF.fd".to_owned()).unwrap(),
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
    let guest = || Platform::Snp {
        vcpus: NonZeroU32::MIN,
        vcpu_type: "EPYC-v4".into(),
        guest_features: 1,
        vmm: Vmm::Qemu,
    };
    let of_boot = |boot| {
        [
            launch(Platform::Tpm, boot, pcrs()),
            launch(Platform::Tdx, boot, td()),
            launch(guest(), boot, vec![Quantity::LaunchDigest]),
        ]
    };
    [Boot::Direct, Boot::Disk].into_iter().flat_map(of_boot).collect()
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
    /// Of SEV-SNP the first 32 bytes.
    init_data: [u8; 48],
    /// What its chip is made to say otherwise.
    said: fn(&mut Said),
}

impl Vm {
    fn of(image: u32) -> Self {
        Self {
            image,
            boot: "Direct",
            strange: BTreeMap::new(),
            ak: 1,
            init_data: [0; 48],
            said: |_| {},
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
            Vendor::Snp => self.report_of_guest(binding.report_data(text)),
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

impl Vm {
    fn report_of_guest(&self, report_data: [u8; 64]) -> Evidence {
        let [host_data, ..] = self.init_data.as_chunks().0 else {
            unreachable!("it has 48 bytes")
        };
        let mut said = Said {
            measurement: self.value(Quantity::LaunchDigest).sha384.unwrap(),
            report_data: Digest::from(report_data),
            host_data: Digest::from(*host_data),
            ..Said::default()
        };
        (self.said)(&mut said);
        Evidence::Snp(CHIP.platform.evidence_with(&said, vec![CHIP.vcek.clone()]))
    }
}

impl Line {
    /// Three generations, each built in the one before it.
    fn of_three(vendor: Vendor) -> Self {
        Self::that_predicts(vendor, launches)
    }

    fn that_predicts(vendor: Vendor, launches: fn(u32) -> Vec<Measurement>) -> Self {
        let mut line = Self {
            folder: tempfile::tempdir().unwrap(),
            vendor,
            releases: Vec::new(),
            trust: Trust::default(),
            amd: CHIP.roots.clone(),
            launches,
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
        let attested = Builder::Attested(self.vendor.machine());
        let builder = vm.as_ref().map_or(Builder::Unattested, |_| attested);
        Self::sign(&release, terms, builder);
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
        if command_line == COMPILES {
            add_program(&staging.folder().join(LOCK));
        }
        let launches = (self.launches)(number);
        fs::write(
            staging.folder().join("measurements.json"),
            Measurements { launches }.text(),
        )
        .unwrap();
        staging.publish(origin(), Stamps::new()).unwrap();
        release
    }

    fn sign(release: &Path, terms: Terms, builder: Builder) {
        let manifest = Manifest::parse(&fs::read_to_string(release.join("manifest.json")).unwrap()).unwrap();
        let run = Run {
            id: Uuid::nil(),
            builder,
            version: "0.1.0".into(),
            times: Some(Times {
                started_on: at("2026-11-14T00:00:00Z"),
                finished_on: at("2026-11-14T01:00:00Z"),
            }),
            compiled: Vec::new(),
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
            amd: self.amd.clone(),
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

    /// Changes the report over the record of the last generation, and how it is endorsed.
    fn with_report(self, change: impl Fn(&mut Vec<u8>, &mut Vec<Bytes>)) -> Self {
        let release = &self.releases[2];
        let evidence = Vm::of(1).evidence(Vendor::Snp, &record(release).text(), Binding::Sha384);
        let Evidence::Snp(mut evidence) = evidence else {
            unreachable!("it is of a chip")
        };
        let mut report = evidence.report.to_vec();
        change(&mut report, &mut evidence.certificates);
        evidence.report = report.into();
        write(release, COMPLETION, &Evidence::Snp(evidence));
        self
    }
}

/// The command line of a release with a program that is compiled.
const COMPILES: &str = "it compiles";

fn add_program(lock: &Path) {
    let text = fs::read_to_string(lock).unwrap();
    let digest = Sha256::of("hello");
    let program = format!(
        "
[[payload]]
name = \"hello\"
version = \"1\"
sha256 = \"{digest}\"
size = 5
target = \"/usr/bin/hello\"

[payload.compiled]
package = \"hello\"
binary = \"hello\"
source = {{ sha256 = \"{digest}\", size = 5 }}
crate = []
"
    );
    fs::write(lock, text + &program).unwrap();
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

const ALL: [Vendor; 3] = [Vendor::Tpm, Vendor::Tdx, Vendor::Snp];

#[test]
fn a_chain_of_three_is_verified() {
    for vendor in ALL {
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
    for vendor in ALL {
        let line = Line::of_three(vendor).with_vm(2, |vm| vm.image = 7);
        assert_eq!(line.findings(), ["2 launch-unknown", "2 launch-unknown"]);
    }
}

#[test]
fn a_vm_of_generation_k_minus_2_built_k() {
    for vendor in ALL {
        let line = Line::of_three(vendor).with_vm(2, |vm| vm.image = 0);
        assert_eq!(line.findings(), ["2 launch-unknown", "2 launch-unknown"]);
    }
}

#[test]
fn evidence_of_generation_k_minus_1_presented_for_k() {
    for vendor in ALL {
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
    for vendor in ALL {
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
    let mut line = Line::of_three(Vendor::Snp).with_vm(2, |vm| vm.init_data = [7; 48]);
    assert_eq!(line.findings(), ["2 init-data-differs", "2 init-data-differs"]);
    line.trust.host_data = vec![Digest::from([7; 32]), Digest::ZERO];
    assert_eq!(line.findings(), [""; 0]);
}

#[test]
fn debug_policy() {
    let line = Line::of_three(Vendor::Snp).with_vm(2, |vm| {
        vm.said = |said| said.policy = GuestPolicy::new(GuestPolicy::DEFAULT.bits() | 1 << 19);
    });
    assert_eq!(line.findings(), ["2 snp-debug", "2 snp-debug"]);
}

#[test]
fn another_vmpl() {
    let mut line = Line::of_three(Vendor::Snp).with_vm(2, |vm| vm.said = |said| said.vmpl = 1);
    assert_eq!(line.findings(), ["2 snp-vmpl", "2 snp-vmpl"]);
    line.trust.snp.vmpl = 1;
    assert_eq!(line.findings(), ["1 snp-vmpl", "1 snp-vmpl"]); // the other one asked at VMPL 0
}

#[test]
fn a_measurement_of_no_launch() {
    let line = Line::of_three(Vendor::Snp).with_vm(2, |vm| {
        vm.said = |said| said.measurement = Sha384::of("a firmware of the host's own");
    });
    assert_eq!(line.findings(), ["2 launch-unknown", "2 launch-unknown"]);
    let finding = &line.verify()[2].findings[0].to_string();
    assert!(
        finding.contains("launch digest is none of those predicted"),
        "{finding}"
    );
}

/// One of each kind: what the guest had signed, what the firmware says, a reserved byte, the signature, its padding.
#[test]
fn a_report_with_one_bit_flipped() {
    for (offset, code) in [
        (0x50, "2 snp-signature-invalid"),
        (0x90, "2 snp-signature-invalid"),
        (0xc0, "2 snp-signature-invalid"),
        (0x4c, "2 snp-reserved-bits"),
        (0x2a0, "2 snp-signature-invalid"),
        (0x2d0, "2 snp-signature-padding"),
    ] {
        let line = Line::of_three(Vendor::Snp).with_report(|report, _| report[offset] ^= 1);
        assert_eq!(line.findings(), [code], "{offset:#x}");
    }
}

#[test]
fn evidence_with_the_vcek_of_another_chip() {
    let mut other = snp::Platform::new(SnpProduct::Milan);
    (other.chip_id, other.key.0) = ([0xa5; 64], 2);
    let vcek = other.certify(&other.vek(Said::default().tcbs[0]));
    let line = Line::of_three(Vendor::Snp).with_report(|_, certificates| *certificates = vec![vcek.clone().into()]);
    assert_eq!(line.findings(), ["2 snp-chip-differs", "2 snp-signature-invalid"]);
}

/// Who has AMD's own roots believes none of it, whatever comes along.
#[test]
fn forged_amd_root_with_the_right_names() {
    let mut line = Line::of_three(Vendor::Snp);
    line.amd = AmdRoots::amd();
    let unsigned = ["1 snp-certificate-signature"; 2].into_iter();
    let unsigned: Vec<_> = unsigned.chain(["2 snp-certificate-signature"; 2]).collect();
    assert_eq!(line.findings(), unsigned);
    let authorities = [Authorities::Ask, Authorities::Ark].map(|of| CHIP.platform.authority(of));
    let line = line.with_report(|_, certificates| {
        let authorities = authorities.iter().map(|draft| CHIP.platform.certify(draft).into());
        certificates.extend(authorities);
    });
    let findings = line.findings();
    assert!(findings.contains(&"2 snp-root-forged".to_owned()), "{findings:?}");
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

/// Its values are those of every VM; beside one that has some, it is not what a stranger is compared with.
#[test]
fn a_launch_without_values() {
    fn emptied(image: u32) -> Vec<Measurement> {
        let launches = launches(image).into_iter();
        let emptied = launches.map(|launch| Measurement {
            values: vec![],
            ..launch
        });
        emptied.collect()
    }
    for vendor in ALL {
        let line = Line::that_predicts(vendor, emptied);
        let wanted = [
            "1 launch-missing",
            "1 launch-missing",
            "2 launch-missing",
            "2 launch-missing",
        ];
        assert_eq!(line.findings(), wanted);
        let both = |image| [emptied(image), launches(image)].concat();
        assert_eq!(Line::that_predicts(vendor, both).findings(), [""; 0]);
        let line = Line::that_predicts(vendor, both).with_vm(2, |vm| vm.image = 7);
        assert_eq!(line.findings(), ["2 launch-unknown", "2 launch-unknown"]);
    }
}

#[test]
fn a_program_that_the_build_has_not_compiled() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.build(3, COMPILES, Some(Vm::of(2)));
    let generations = line.verify();
    let unchecked = |number: usize| {
        generations[number]
            .unchecked
            .iter()
            .any(|what| what.contains("hello comes from its source"))
    };
    assert!(unchecked(3) && !unchecked(2));
}

#[test]
fn what_a_release_without_a_root_leads_to_is_not_checked_and_told() {
    let line = Line::of_three(Vendor::Tpm).verify();
    assert!(line.iter().all(|one| one.unchecked.contains(verify::ARTIFACTS)));
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
    for builder in [
        Builder::Unattested,
        Builder::Attested(Machine::Snp),
        Builder::Split(Machine::Tdx),
    ] {
        Line::sign(release, terms.clone(), builder);
        line.attest(release, &Vm::of(1));
        let findings = line.findings();
        assert_eq!(findings[..2], ["2 builder-differs", "2 builder-differs"], "{builder:?}");
    }
}

#[test]
fn a_machine_that_vouches_for_what_another_one_built() {
    for vendor in ALL {
        let mut line = Line::of_three(vendor);
        let release = &line.releases[2];
        Line::sign(release, record(release).terms, Builder::Split(vendor.machine()));
        line.attest(release, &Vm::of(1));
        assert_eq!(line.findings(), ["2 builder-split"]);
        line.trust.allow_split = true;
        assert_eq!(line.findings(), [""; 0]);
        let told = |one: &Generation| one.unchecked.iter().any(|what| what.contains("allow-split"));
        assert_eq!(line.verify().iter().map(told).collect::<Vec<_>>(), [false, false, true]);
    }
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

/// What is exported of a chain are the values of that generation.
#[test]
fn the_last_good_generation_is_the_one_before_the_first_with_findings() {
    let number = |line: &Line| last_good(&line.verify()).map(Generation::number);
    let line = Line::of_three(Vendor::Tpm);
    assert_eq!(number(&line), Some(2));
    for (flipped, good) in [(2, Some(1)), (1, Some(0)), (0, None)] {
        fs::write(line.releases[flipped].join("cmdline"), "generation 9").unwrap();
        assert_eq!(number(&line), good);
    }
}

#[test]
fn a_flipped_file_of_an_older_generation() {
    let line = Line::of_three(Vendor::Tpm);
    fs::write(line.releases[0].join("cmdline"), "generation 9").unwrap();
    assert_eq!(line.findings()[0], "0 digest-differs");
}
