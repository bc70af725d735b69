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
use builder::document::rebuild;
use builder::model::key::SigningKey;
use builder::model::measurements::{
    Boot, EXECUTABLES, FirmwareFile, Launch, Measurement, Measurements, Platform, Quantity, Value, Vmm,
};
use builder::model::quorum::Quorum;
use builder::model::record::{Binding, Record, Terms};
use builder::model::release::{FileName, Manifest};
use builder::model::trust::Root;
use builder::model::{Lock, Request, Trust};
use builder::stage::appraise::{Judge, Roots};
use builder::stage::chain::{COMPLETION, Chain, DISPATCH, Generation, last_good};
use builder::stage::finding::Finding;
use builder::stage::on_disk::OnDisk;
use builder::stage::parse::LOCK;
use builder::stage::rebuilds;
use builder::stage::release::{Existing, Staging, Stamps};
use builder::stage::sign;
use builder::stage::signatures::Demand;
use builder::stage::verify;
use fixture::origin;
use jiff::Timestamp;
use measure::event_log::{Digests, EventLog, Register};
use measure::evidence::snp::{AmdRoots, SnpProduct, Tcb};
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
    quorum: Option<Quorum>,
    amd: AmdRoots,
    /// What a release predicts.
    launches: fn(u32) -> Vec<Measurement>,
}

/// The hour in which a generation is built.
fn hour(number: u32) -> Option<Times> {
    let hour = number % 12;
    Some(Times {
        started_on: at(&format!("2026-11-14T{hour:02}:00:00Z")),
        finished_on: at(&format!("2026-11-14T{hour:02}:59:00Z")),
    })
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
            covers: EXECUTABLES.into(),
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
    /// From when until when the collateral of its TDX platform is valid.
    collateral: [&'static str; 2],
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
            collateral: ["2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"],
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
        let [issued, expires] = self.collateral.map(at);
        Evidence::Tdx(td.evidence(&tdx::Platform {
            issued,
            expires,
            ..tdx::Platform::default()
        }))
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
            quorum: None,
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
        line.trust.root = vec![named(first.digest())];
        line.trust.tpm.keys = [Ak::p256(1).digest()].into();
        line.trust.tpm.pcrs = PCRS.into();
        line.trust.tpm.allow_measured_boot = true;
        line.trust.tpm.allow_weaker_than_predicted = true;
        line.trust.tdx.minimum_tcb_evaluation = Some(18);
        let minimum = Tcb::of(SnpProduct::Milan, Said::default().tcbs[0]);
        line.trust.snp.minimum_tcb.insert(SnpProduct::Milan, minimum);
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
        Self::sign(&release, terms, builder, hour(number));
        if let Some(vm) = vm {
            self.attest(&release, &vm);
        }
        self.releases.push(release.clone());
        release
    }

    /// Signs a generation again, on other terms or at another time, and has the same VM vouch for it, and then all that
    /// come after it, which name its record.
    fn sign_again(&self, number: usize, change: impl Fn(&mut Terms), times: Option<Times>) {
        let mut previous = None;
        for (index, release) in self.releases.iter().enumerate().skip(number) {
            let mut terms = record(release).terms;
            terms.previous = previous.or(terms.previous);
            let attested = (index > 0).then_some(Builder::Attested(self.vendor.machine()));
            let builder = attested.unwrap_or(Builder::Unattested);
            if index == number {
                change(&mut terms);
                Self::sign(release, terms, builder, times);
            } else {
                Self::sign(release, terms, builder, hour(index as u32));
            }
            if let Some(parent) = index.checked_sub(1) {
                self.attest(release, &Vm::of(parent as u32));
            }
            previous = Some(record(release).digest());
        }
    }

    fn release(&self, number: u32, command_line: &str) -> PathBuf {
        let release = self.folder.path().join(command_line.replace(' ', "-"));
        let staging = Staging::begin(&release, Existing::Refuse).unwrap();
        fixture::fill(staging.folder());
        fs::write(staging.folder().join("cmdline"), command_line).unwrap();
        let mut origin = origin();
        let lock = staging.folder().join(LOCK);
        match command_line {
            COMPILES => add_program(&lock),
            PUBLISHED => add_metadata(&lock),
            _ => {}
        }
        origin.lock = Sha256::of(fs::read(lock).unwrap());
        let launches = (self.launches)(number);
        fs::write(
            staging.folder().join("measurements.json"),
            Measurements { launches }.text(),
        )
        .unwrap();
        staging.publish(origin, Stamps::new()).unwrap();
        release
    }

    fn sign(release: &Path, terms: Terms, builder: Builder, times: Option<Times>) {
        let manifest = Manifest::parse(&fs::read_to_string(release.join("manifest.json")).unwrap()).unwrap();
        let run = Run {
            id: Uuid::nil(),
            builder,
            version: "0.1.0".into(),
            times,
            compiled: Vec::new(),
        };
        let key = SigningKey::from_random([1 + (terms.generation % 250) as u8; 32]).unwrap();
        let subject = sign::read(&OnDisk::open(release).unwrap(), manifest).unwrap();
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

    fn judged<T>(&self, f: impl FnOnce(&Judge<'_>) -> T) -> T {
        let root = tdx::root();
        let roots = Roots {
            amd: self.amd.clone(),
            intel: TdxRoot::simulated(&root),
        };
        f(&Judge {
            roots: &roots,
            trust: &self.trust,
            quorum: self.quorum.as_ref(),
            at: tdx::now(),
        })
    }

    fn verify(&self) -> Vec<Generation> {
        self.verify_as(None)
    }

    fn verify_as(&self, wanted: Option<Sha256>) -> Vec<Generation> {
        let mut chain = Chain::read(&self.releases, &Self::demand()).unwrap();
        chain
            .generations
            .iter_mut()
            .for_each(|one| fixture::forgive(&mut one.findings));
        self.judged(|judge| chain.line(judge, wanted))
    }

    /// The number of the generation whose values are exported.
    fn last_good(&self) -> Option<u32> {
        let line = self.verify();
        self.judged(|judge| last_good(&line, judge).map(Generation::number))
    }

    /// What is not checked of a generation.
    fn unchecked(&self, number: usize) -> String {
        self.verify()[number]
            .unchecked
            .iter()
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
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

/// The command line of a release whose lock has signed metadata of half past three.
const PUBLISHED: &str = "it has metadata";

fn add_metadata(lock: &Path) {
    let text = fs::read_to_string(lock).unwrap();
    let digest = Sha256::of("InRelease");
    let metadata = format!(
        "[[metadata]]
archive = \"debian\"
suite = \"trixie\"
sha256 = \"{digest}\"
size = 9
date = \"2026-11-14T03:30:00Z\"
signed-by = []
"
    );
    fs::write(lock, text.replacen("metadata = []\n", "", 1) + "\n" + &metadata).unwrap();
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

/// What a policy says that names a root and nothing more.
fn named(release: Sha256) -> Root {
    Root {
        release,
        record: None,
        generation: None,
        not_before: None,
        not_after: None,
    }
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
        let mut wanted = vec!["2 launch-unknown", "2 report-data-differs", "2 evidence-of-other"];
        if vendor == Vendor::Tdx {
            wanted.insert(2, "2 other-machine"); // that of another image is another TD
        }
        assert_eq!(findings, wanted);
    }
}

/// Both run the right image, and each vouches for its half: what happened in between, nobody saw.
#[test]
fn attack_dispatch_and_completion_of_two_machines() {
    let completion = |line: &Line, vm: &Vm| {
        let release = &line.releases[2];
        let evidence = vm.evidence(line.vendor, &record(release).text(), Binding::Sha384);
        write(release, COMPLETION, &evidence);
    };
    let line = Line::of_three(Vendor::Snp);
    completion(&line, &Vm::of(1));
    assert_eq!(line.findings(), [""; 0]);
    let mut other = Vm::of(1);
    other.said = |said| said.report_id = Digest::from([9; 32]);
    completion(&line, &other);
    assert_eq!(line.findings(), ["2 other-machine"]);
    // the counters of both TPMs are equal
    let mut line = Line::of_three(Vendor::Tpm);
    line.trust.tpm.keys.insert(Ak::p256(2).digest());
    completion(&line, &Vm { ak: 2, ..Vm::of(1) });
    assert_eq!(line.findings(), ["2 other-machine"]);
}

/// The parent predicts a guest of SEV-SNP and a TD; what vouches is a TPM, which the policy takes where there is no more.
#[test]
fn attack_a_weaker_machine_than_the_parent_predicts() {
    let mut line = Line::of_three(Vendor::Tpm);
    assert_eq!(line.findings(), [""; 0]);
    line.trust.tpm.allow_weaker_than_predicted = false;
    let weaker = [1, 1, 2, 2].map(|number| format!("{number} weaker-than-predicted"));
    assert_eq!(line.findings(), weaker);
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
    line.trust.root.clear();
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
        Line::sign(release, terms.clone(), builder, hour(2));
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
        Line::sign(
            release,
            record(release).terms,
            Builder::Split(vendor.machine()),
            hour(2),
        );
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
    let line = Line::of_three(Vendor::Tpm);
    assert_eq!(line.last_good(), Some(2));
    for (flipped, good) in [(2, Some(1)), (1, Some(0)), (0, None)] {
        fs::write(line.releases[flipped].join("cmdline"), "generation 9").unwrap();
        assert_eq!(line.last_good(), good);
    }
}

#[test]
fn a_flipped_file_of_an_older_generation() {
    let line = Line::of_three(Vendor::Tpm);
    fs::write(line.releases[0].join("cmdline"), "generation 9").unwrap();
    assert_eq!(line.findings()[0], "0 digest-differs");
}

/// The verdict about a release takes the word of its parent only after judging that, too.
#[test]
fn attack_a_parent_whose_predictions_were_changed() {
    let line = Line::of_three(Vendor::Tpm);
    let found = |line: &Line| {
        let parent = Generation::read_at_any_time(&line.releases[0]).unwrap();
        let mut child = Generation::read_at_any_time(&line.releases[1]).unwrap();
        line.judged(|judge| child.judge(Some(&parent), judge));
        let findings = child.findings.into_iter().chain(parent.in_its_folder());
        findings.map(|finding| finding.code()).collect::<Vec<_>>()
    };
    assert_eq!(found(&line), [""; 0]);
    let path = line.releases[0].join("measurements.json");
    let measurements = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{measurements} ")).unwrap();
    let found = found(&line);
    assert!(found.contains(&"size-differs".to_owned()), "{found:?}");
    assert!(found.len() > 1, "its predictions count for nothing: {found:?}");
}

/// Copies a release.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        match from.is_dir() {
            true => copy(&from, &to),
            false => drop(fs::copy(from, to).unwrap()),
        }
    }
}

#[test]
fn attack_a_second_folder_with_the_same_record() {
    let mut line = Line::of_three(Vendor::Tpm);
    let second = line.folder.path().join("second");
    copy(&line.releases[1], &second);
    line.releases.insert(0, second.clone());
    line.releases.insert(0, line.releases[3].clone()); // the last one, once more
    assert_eq!(line.findings(), [""; 0]);
    let evidence = fs::read(second.join(COMPLETION)).unwrap();
    fs::write(second.join(COMPLETION), "{}").unwrap();
    assert_eq!(line.findings(), ["1 evidence-unreadable"]);
    fs::write(second.join(COMPLETION), evidence).unwrap();
    fs::write(second.join("cmdline"), "generation 9").unwrap();
    let verified = line.verify();
    let told: Vec<String> = verified
        .iter()
        .flat_map(|one| &one.findings)
        .map(ToString::to_string)
        .collect();
    assert!(told.iter().any(|told| told.contains("cmdline has ")), "{told:?}");
    assert_eq!(line.last_good(), Some(0));
}

/// Who has the image of generation 0 signs it with a number that meets every floor, and builds on it in a genuine VM.
#[test]
fn a_root_that_a_stranger_signed_again_with_another_number() {
    let mut line = Line::of_three(Vendor::Snp);
    line.trust.min_generation = 2;
    assert_eq!(line.findings(), [""; 0]);
    line.sign_again(0, |terms| terms.generation = 100, hour(0));
    line.sign_again(1, |terms| terms.generation = 101, hour(1));
    line.sign_again(2, |terms| terms.generation = 102, hour(2));
    line.trust.min_generation = 50;
    assert_eq!(line.findings(), ["100 root-number-differs"]);
    assert_eq!(line.last_good(), None);
    line.trust.root[0].generation = Some(100);
    assert_eq!(line.findings(), [""; 0], "the policy says so");
    line.trust.root[0].generation = None;
    line.trust.root[0].record = Some(record(&line.releases[0]).digest());
    assert_eq!(line.findings(), [""; 0], "the policy names the record that says so");
    line.trust.root[0].record = Some(Sha384::of("another"));
    assert_eq!(line.findings(), ["100 root-record-differs"]);
}

/// One generation is judged without its line: nobody vouches for the number of a parent whose own parent is not there.
#[test]
fn a_floor_that_a_number_meets_which_nobody_vouches_for() {
    let mut line = Line::of_three(Vendor::Snp);
    let codes = |line: &Line, number: usize, parent: Option<usize>| {
        let read = |number: usize| {
            let mut one = Generation::read(&line.releases[number], &Line::demand()).unwrap();
            fixture::forgive(&mut one.findings);
            one
        };
        let (mut one, parent) = (read(number), parent.map(read));
        line.judged(|judge| one.judge_number(parent.as_ref(), judge));
        one.findings.iter().map(Finding::code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&line, 0, None), [""; 0]);
    assert_eq!(codes(&line, 1, Some(0)), [""; 0]);
    assert_eq!(codes(&line, 1, None), ["parent-missing"]);
    assert_eq!(codes(&line, 2, Some(1)), [""; 0]);
    line.trust.min_generation = 1;
    assert_eq!(
        codes(&line, 2, Some(1)),
        ["parent-missing"],
        "of generation 1, whose number could be any"
    );
    assert_eq!(codes(&line, 1, Some(0)), [""; 0]);
    line.sign_again(0, |terms| terms.generation = 100, hour(0));
    assert_eq!(codes(&line, 1, Some(0)), ["root-number-differs"]);
}

/// The same lock makes the same release, here and inside.
#[test]
fn a_release_that_the_policy_names_is_pinned_whoever_builds_it() {
    let mut line = Line::of_three(Vendor::Snp);
    line.trust.locks = Some([].into());
    let lock = "1 lock-not-allowed";
    assert_eq!(line.findings(), [lock, "2 lock-not-allowed"]);
    let manifest = Manifest::parse(&line.text(2, "manifest.json")).unwrap();
    line.trust.root.push(named(manifest.digest()));
    assert_eq!(line.findings(), [lock]);
}

/// Without an end, as nobody but its policy could know.
#[test]
fn a_root_that_a_stranger_signed_again_without_its_end() {
    let mut line = Line::of_three(Vendor::Snp);
    let end = at("2026-11-14T00:30:00Z");
    line.sign_again(0, |terms| terms.not_after = Some(end), hour(0));
    let honest = record(&line.releases[0]).digest();
    assert_eq!(line.findings(), ["1 parent-not-valid"]);
    line.sign_again(0, |terms| terms.not_after = None, hour(0));
    assert_eq!(line.findings(), [""; 0], "nobody who is asked knows better");
    assert!(line.unchecked(0).contains("names neither the record nor not-after"));
    line.trust.root[0].not_after = Some(end);
    assert_eq!(line.findings(), ["1 parent-not-valid"]);
    assert!(line.unchecked(0).contains("the policy does not name it"));
    line.trust.root[0] = Root {
        record: Some(honest),
        ..named(line.trust.root[0].release)
    };
    assert_eq!(line.findings(), ["0 root-record-differs"]);
}

#[test]
fn a_generation_after_the_last_number() {
    let mut line = Line::of_three(Vendor::Snp);
    line.releases.truncate(2);
    line.trust.root[0].generation = Some(u32::MAX);
    line.sign_again(0, |terms| terms.generation = u32::MAX, hour(0));
    line.sign_again(1, |terms| terms.generation = u32::MAX, hour(1));
    assert_eq!(line.findings(), ["4294967295 generations-exhausted"]);
    line.trust.root[0].generation = Some(u32::MAX - 1);
    line.sign_again(0, |terms| terms.generation = u32::MAX - 1, hour(0));
    assert_eq!(line.findings(), [""; 0]);
}

/// Nothing but the last is refused for its number; what comes before it has a lower one.
#[test]
fn values_of_a_generation_below_the_floor_are_not_exported() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.trust.min_generation = 2;
    assert_eq!(line.last_good(), Some(2));
    line.trust.min_generation = 3;
    assert_eq!(line.last_good(), None);
    line.trust.min_generation = 2;
    fs::write(line.releases[2].join("cmdline"), "generation 9").unwrap();
    assert_eq!(line.last_good(), None, "generation 1 is good, and rolled back");
    line.trust.min_generation = 1;
    assert_eq!(line.last_good(), Some(1));
}

#[test]
fn another_release_than_the_one_that_is_wanted() {
    let line = Line::of_three(Vendor::Tpm);
    let codes = |wanted| {
        let last = line.verify_as(Some(wanted)).pop().unwrap();
        last.findings.iter().map(Finding::code).collect::<Vec<_>>()
    };
    let manifest = |number| Manifest::parse(&line.text(number, "manifest.json")).unwrap().digest();
    assert_eq!(codes(manifest(2)), [""; 0]);
    assert_eq!(codes(manifest(1)), ["release-differs"]);
}

/// Has whoever has the key `number` say that `what` came out of building the release.
fn say(release: &Path, number: u8, change: impl Fn(&mut Manifest)) {
    let mut manifest = Manifest::parse(&fs::read_to_string(release.join("manifest.json")).unwrap()).unwrap();
    change(&mut manifest);
    let lock = Lock::parse(&fs::read_to_string(release.join(LOCK)).unwrap()).unwrap();
    let run = Run::new(Uuid::nil(), Builder::Unattested, hour(0));
    let key = SigningKey::from_random([number; 32]).unwrap();
    let bundle = rebuild::bundle(&manifest, &lock, &run, &BTreeMap::new(), &key);
    rebuilds::add(&release.join(rebuilds::FOLDER), &key.public().id(), &bundle).unwrap();
}

fn quorum(number: u8) -> String {
    let key = SigningKey::from_random([number; 32]).unwrap().public();
    format!("witness alice {}\n", key.id())
}

/// A policy that names the root does not hide that somebody who is asked, too, has built something else.
#[test]
fn an_operator_disagrees_about_a_root_that_the_policy_names() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.quorum = Some(Quorum::parse(&(quorum(41) + "quorum alice\n")).unwrap());
    assert_eq!(line.findings(), ["0 quorum-not-met"]);
    say(&line.releases[0], 41, |_| {});
    say(&line.releases[1], 42, |manifest| manifest.files.clear());
    assert_eq!(line.findings(), [""; 0], "a stranger counts nothing");
    say(&line.releases[0], 41, |manifest| drop(manifest.files.pop_first()));
    assert_eq!(line.findings(), ["0 rebuild-disagrees"]);
    line.quorum = Some(Quorum::parse(&(quorum(42) + "quorum none\n")).unwrap());
    assert_eq!(
        line.findings(),
        ["1 rebuild-disagrees"],
        "of an attested generation, too"
    );
}

#[test]
fn a_quorum_that_asks_nobody() {
    let mut line = Line::of_three(Vendor::Tpm);
    line.quorum = Some(Quorum::parse("quorum none\n").unwrap());
    assert_eq!(line.findings(), [""; 0], "the policy names the root");
    line.trust.root.clear();
    assert_eq!(line.findings(), ["0 root-not-trusted"]);
    line.quorum = Some(Quorum::parse(&(quorum(41) + "quorum alice\n")).unwrap());
    say(&line.releases[0], 41, |_| {});
    assert_eq!(line.findings(), [""; 0]);
}

/// A genuine builder builds any recipe that it is fed.
#[test]
fn an_evil_recipe_in_a_genuine_builder() {
    let mut line = Line::of_three(Vendor::Snp);
    assert!(
        line.unchecked(2)
            .contains("the policy has no recipes, locks, suites, metadata")
    );
    assert!(
        !line.unchecked(0).contains("went into it"),
        "the policy names the root, and so every byte of it"
    );
    let (wanted, evil) = (origin(), Sha256::of("what everybody expects"));
    line.trust.recipes = Some([evil].into());
    assert_eq!(line.findings(), ["1 recipe-not-allowed", "2 recipe-not-allowed"]);
    line.trust.recipes = Some([evil, wanted.recipe].into());
    line.trust.locks = Some([evil].into());
    assert_eq!(line.findings(), ["1 lock-not-allowed", "2 lock-not-allowed"]);
    line.trust.locks = Some([wanted.lock].into());
    assert_eq!(line.findings(), [""; 0]);
    assert!(!line.unchecked(2).contains("went into it"));
}

#[test]
fn an_evil_payload_in_a_genuine_builder() {
    let mut line = Line::of_three(Vendor::Snp);
    line.trust.payloads = Some([].into());
    assert_eq!(line.findings(), [""; 0]);
    line.build(3, COMPILES, Some(Vm::of(2)));
    assert_eq!(line.findings(), ["3 payload-not-allowed"]);
    line.trust.payloads = Some([Sha256::of("hello")].into());
    assert_eq!(line.findings(), [""; 0]);
}

fn times(started: &str, finished: &str) -> Option<Times> {
    let (started_on, finished_on) = (at(started), at(finished));
    Some(Times {
        started_on,
        finished_on,
    })
}

/// Each was built while its collateral was valid; at no time was that of both.
#[test]
fn generations_of_disjoint_windows_of_collateral() {
    let line = Line::of_three(Vendor::Tdx);
    let july = times("2026-07-10T00:00:00Z", "2026-07-10T01:00:00Z");
    line.sign_again(0, |_| {}, times("2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"));
    line.sign_again(1, |_| {}, july);
    let line = line.with_vm(1, |vm| vm.collateral = ["2026-07-05T00:00:00Z", "2026-08-01T00:00:00Z"]);
    assert_eq!(line.findings(), [""; 0]);
    let line = line.with_vm(1, |vm| vm.collateral = ["2026-07-15T00:00:00Z", "2026-08-15T00:00:00Z"]);
    assert_eq!(line.findings(), [""; 0], "what was fetched later knows more");
    let line = line.with_vm(1, |vm| vm.collateral = ["2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z"]);
    let expired = "1 tdx-collateral-expired";
    assert_eq!(
        line.findings()[..2],
        [expired, expired],
        "it was stale when it was used"
    );
    let line = line.with_vm(1, |vm| vm.collateral = ["2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z"]);
    let early = "1 tdx-collateral-not-yet-valid";
    assert_eq!(
        line.findings()[..2],
        [early, early],
        "it is of after the time of verification"
    );
}

/// What generation 0 built while it was valid stays good when it has expired.
#[test]
fn an_expired_generation_0_and_what_it_built() {
    let mut line = Line::of_three(Vendor::Snp);
    let end = |time: &str| Some(at(time));
    line.trust.root[0].not_after = end("2026-11-14T05:00:00Z");
    line.sign_again(0, |terms| terms.not_after = end("2026-11-14T06:00:00Z"), hour(0));
    assert_eq!(line.findings(), [""; 0]);
    line.sign_again(1, |_| {}, hour(5));
    assert_eq!(
        line.findings(),
        ["1 parent-not-valid", "2 build-times-wrong"],
        "it began, and did not end"
    );
    line.sign_again(1, |_| {}, hour(1));
    line.releases.truncate(1);
    assert_eq!(line.findings(), ["0 expired"], "as the release at hand");
    assert_eq!(line.last_good(), None);
}

/// The clock of a builder is its host's. What it cannot do: begin before its parent was built, end in the future or before
/// it began, or be silent where the parent's validity depends on it.
#[test]
fn a_clock_that_lies() {
    let mut line = Line::of_three(Vendor::Snp);
    for times in [
        times("2026-11-14T00:58:00Z", "2026-11-14T01:10:00Z"),
        times("2026-11-14T01:00:00Z", "2027-11-14T01:00:00Z"),
        times("2026-11-14T01:30:00Z", "2026-11-14T01:20:00Z"),
    ] {
        line.sign_again(1, |_| {}, times);
        assert_eq!(line.findings()[0], "1 build-times-wrong", "{times:?}");
    }
    line.sign_again(1, |_| {}, None);
    assert_eq!(line.findings(), [""; 0], "nothing depends on it");
    assert!(line.unchecked(1).contains("when it was built, which it does not say"));
    assert!(
        line.unchecked(2)
            .contains("2026-11-14T02:00:00Z, as the clock of its builder said")
    );
    line.trust.root[0].not_after = Some(at("2026-12-14T00:00:00Z"));
    assert_eq!(line.findings(), ["1 build-times-missing"]);
    line.sign_again(1, |_| {}, hour(1));
    assert_eq!(line.findings(), [""; 0]);
}

/// What was published later cannot have entered.
#[test]
fn a_build_before_its_packages_were_published() {
    let mut line = Line::of_three(Vendor::Snp);
    line.build(3, PUBLISHED, Some(Vm::of(2)));
    assert_eq!(line.findings(), ["3 build-times-wrong"]);
    line.sign_again(3, |_| {}, hour(4));
    assert_eq!(line.findings(), [""; 0]);
}

/// The policy's minimum holds whatever time the evidence claims.
#[test]
fn an_old_platform_that_claims_an_old_time() {
    let mut line = Line::of_three(Vendor::Snp);
    line.sign_again(0, |_| {}, times("2025-01-01T00:00:00Z", "2025-01-01T01:00:00Z"));
    line.sign_again(1, |_| {}, times("2025-02-01T00:00:00Z", "2025-02-01T01:00:00Z"));
    let minimum = "minimum-tcb.milan = { bootloader = 255, tee = 0, snp = 255, microcode = 255 }";
    let policy = Trust::parse("trust.toml", &format!("[snp]\n{minimum}\n")).unwrap();
    line.trust.snp = policy.snp;
    let findings = line.findings();
    assert!(findings.contains(&"1 snp-tcb-below-minimum".to_owned()), "{findings:?}");
}
