//! Evidence in, findings out: is it genuine, and is it of the VM that was wanted? An empty list is the only yes.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use measure::event_log::{Digests, EventLog, Register};
use measure::evidence::tpm::VouchedBy;
use measure::evidence::{
    AmdRoots, Evidence, Genuine, Hardware, SnpClaims, SnpEvidence, SnpFinding, SnpPolicy, TdxClaims, TdxEvidence,
    TdxFinding, TdxRoot, TpmClaims, TpmEvidence, TpmFinding,
};
use measure::{Digest, Sha256, tpm};
use serde::Serialize;
use serde_json::{Value, json};

use crate::model::Trust;
use crate::model::measurements::{Measurement, Platform, Quantity};
use crate::model::quorum::Quorum;
use crate::model::record::Binding;

/// Whose signatures are believed.
pub struct Roots<'a> {
    pub amd: AmdRoots,
    pub intel: TdxRoot<'a>,
}

impl Roots<'static> {
    /// The roots of AMD and Intel.
    pub fn of_vendors() -> Self {
        Self {
            amd: AmdRoots::amd(),
            intel: TdxRoot::INTEL,
        }
    }
}

/// Who judges, and as of when.
pub struct Judge<'a> {
    pub roots: &'a Roots<'a>,
    pub trust: &'a Trust,
    /// Who must have rebuilt a release that nobody attested.
    pub quorum: Option<&'a Quorum>,
    pub at: Timestamp,
}

/// What genuine evidence is compared with; what is absent is not compared, and the appraisal says so.
#[derive(Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// The launches of a release, one of which the VM must be as a whole.
    pub launches: Option<&'a [Measurement]>,
    /// What the evidence must bind, and how: a canonical text.
    pub bound: Option<(Binding, &'a str)>,
}

/// What evidence came to.
#[derive(Clone, Debug, Default)]
pub struct Appraisal {
    /// What was vouched for, if anything was.
    pub claims: Option<Value>,
    pub findings: Vec<Finding>,
    /// What an empty list of findings does not mean.
    pub unchecked: BTreeSet<String>,
    /// What the machine chose to have vouched for.
    pub report_data: Option<Vec<u8>>,
    /// The machine, where the platform tells one run from another.
    pub instance: Option<Instance>,
}

/// One run of a machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Instance {
    /// `CHIP_ID`, and `REPORT_ID`, which a guest of SEV-SNP keeps while it runs.
    Guest { chip: Digest<64>, report: Digest<32> },
    /// What a quote has of a TD that does not change while it runs: the platform and what the TD was started with. Another
    /// TD that was started alike on the same platform has the same.
    Td(Sha256),
    /// The key of a TPM, its counters, which a reset changes, its clock, in milliseconds, and the confidential VM below it.
    Boot {
        key: Sha256,
        counters: (u32, u32),
        clock: u64,
        hardware: Option<Box<Self>>,
    },
}

impl Instance {
    fn of_td(claims: &TdxClaims) -> Self {
        let numbers = [claims.td_attributes, claims.xfam].map(u64::to_le_bytes);
        let parts: [&[u8]; 8] = [
            claims.machine.bytes(),
            claims.mrtd.bytes(),
            claims.rtmrs[0].bytes(),
            claims.mr_config_id.bytes(),
            claims.mr_owner.bytes(),
            claims.mr_owner_config.bytes(),
            claims.mr_service_td.as_ref().map_or(&[], |digest| digest.bytes()),
            numbers.as_flattened(),
        ];
        Self::Td(Sha256::of(parts.concat()))
    }

    fn of_tpm(claims: &TpmClaims, hardware: Option<Self>) -> Self {
        Self::Boot {
            key: claims.key,
            counters: (claims.reset_count, claims.restart_count),
            clock: claims.clock,
            hardware: hardware.map(Box::new),
        }
    }

    /// Whether this is the same machine, later.
    pub fn follows(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Boot { clock, .. }, Self::Boot { clock: before, .. }) => {
                clock >= before && self.without_clock() == earlier.without_clock()
            }
            _ => self == earlier,
        }
    }

    fn without_clock(&self) -> Self {
        let mut same = self.clone();
        if let Self::Boot { clock, .. } = &mut same {
            *clock = 0;
        }
        same
    }
}

/// One reason not to trust the machine that evidence is of.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Finding {
    #[error("it is of no launch of the release that was to build: {} none of those predicted", are(.differ))]
    LaunchUnknown { differ: Vec<String> },
    #[error("its values are of several launches of the release that was to build, and of none as a whole")]
    LaunchMixed,
    #[error("the release that was to build predicts no launch on {platform}")]
    LaunchMissing { platform: &'static str },
    #[error("it does not bind what it should: its report data is {found}, expected {wanted}")]
    ReportDataDiffers { found: String, wanted: String },
    #[error("it binds the right text in another way, {found:?}: the record says {wanted:?}")]
    BindingDiffers { found: Binding, wanted: Binding },
    #[error(
        "it proves a measured boot and no confidential VM, while the release that was to build predicts launches on {}; \
         a policy can accept that with allow-weaker-than-predicted = true under [tpm]",
        .predicted.join(" and ")
    )]
    WeakerThanPredicted { predicted: Vec<&'static str> },
    #[error("its init-data is {found}, which does not pin a builder: the policy wants {wanted}")]
    InitDataDiffers { found: String, wanted: String },
    #[error(transparent)]
    #[serde(untagged)]
    Snp(#[from] SnpFinding),
    #[error(transparent)]
    #[serde(untagged)]
    Tdx(#[from] TdxFinding),
    #[error(transparent)]
    #[serde(untagged)]
    Tpm(#[from] TpmFinding),
}

impl Finding {
    /// Returns when what came along with the evidence begins to be valid, if the finding is that it was not yet.
    pub(super) const fn begins(&self) -> Option<Timestamp> {
        match self {
            Self::Snp(SnpFinding::SnpCertificateNotYetValid { not_before, .. }) => Some(*not_before),
            Self::Snp(SnpFinding::SnpCrlNotYetValid { this_update, .. }) => Some(*this_update),
            Self::Tdx(TdxFinding::TdxCollateralNotYetValid { issued, .. }) => Some(*issued),
            _ => None,
        }
    }
}

fn are(differ: &[String]) -> String {
    match differ {
        [one] => format!("{one} is"),
        several => format!("{} are", several.join(", ")),
    }
}

/// What a VM says of itself, of any platform.
struct Reported {
    platform: &'static str,
    is: fn(&Platform) -> bool,
    values: BTreeMap<Quantity, Digests>,
    report_data: Vec<u8>,
    /// Whether it has 64 bytes, whatever was asked for.
    padded: bool,
}

impl Judge<'_> {
    /// Judges evidence: that it is genuine, that the policy accepts the platform, and that it is what is `wanted`.
    pub fn appraise(&self, evidence: &Evidence, wanted: &Wanted<'_>) -> Appraisal {
        let mut appraisal = match evidence {
            Evidence::Snp(evidence) => self.snp(evidence, wanted),
            Evidence::Tdx(evidence) => self.tdx(evidence, wanted),
            Evidence::Tpm(evidence) => self.tpm(evidence, wanted),
        };
        if wanted.launches.is_none() {
            let what = "which image the VM runs: no reference values are given";
            appraisal.unchecked.insert(what.into());
        }
        if wanted.bound.is_none() {
            appraisal
                .unchecked
                .insert("what the evidence binds (its report data)".into());
        }
        appraisal
    }

    fn snp(&self, evidence: &SnpEvidence, wanted: &Wanted<'_>) -> Appraisal {
        match evidence.verify(&self.roots.amd, self.at) {
            Ok(genuine) => {
                let platform = self.snp_platform(&self.trust.snp, &genuine, wanted);
                Reported::of_snp(genuine.claims()).appraise(wanted, platform)
            }
            Err(findings) => Appraisal::refused(findings),
        }
    }

    fn tdx(&self, evidence: &TdxEvidence, wanted: &Wanted<'_>) -> Appraisal {
        match evidence.verify(self.roots.intel, self.at) {
            Ok(genuine) => Reported::of_tdx(genuine.claims()).appraise(wanted, self.tdx_platform(&genuine, wanted)),
            Err(findings) => Appraisal::refused(findings),
        }
    }

    /// A quote is worth what vouches for its key: first the hardware that may, then the quote.
    fn tpm(&self, evidence: &TpmEvidence, wanted: &Wanted<'_>) -> Appraisal {
        let (hardware, platform) = match &evidence.hcl {
            Some(hcl) => self.hardware(&hcl.hardware, wanted),
            None => (None, Appraisal::default()),
        };
        let policy = &self.trust.tpm;
        match evidence.verify(&policy.trust(hardware), self.at) {
            Ok(genuine) => {
                let claims = genuine.claims();
                let findings = policy.appraise(&genuine).into_iter().map(Finding::from);
                let findings = findings.chain(self.weaker(claims, wanted));
                let unchecked = platform.unchecked.into_iter().chain(policy.unchecked());
                let platform = Appraisal {
                    claims: Some(json!({"hardware": platform.claims, "tpm": claims})),
                    findings: platform.findings.into_iter().chain(findings).collect(),
                    unchecked: unchecked.collect(),
                    instance: Some(Instance::of_tpm(claims, platform.instance)),
                    ..Appraisal::default()
                };
                Reported::of_tpm(claims).appraise(wanted, platform)
            }
            Err(findings) => Appraisal {
                findings: [platform.findings, Appraisal::refused(findings).findings].concat(),
                claims: None,
                instance: None,
                ..platform
            },
        }
    }

    /// A machine that nobody can look into was to be had: a measured boot is less, and needs the policy's word.
    fn weaker(&self, claims: &TpmClaims, wanted: &Wanted<'_>) -> Option<Finding> {
        let launches = wanted.launches.unwrap_or_default().iter();
        let predicted: BTreeSet<_> = launches
            .filter_map(|launch| confidential(&launch.launch.platform))
            .collect();
        let accepted = claims.vouched_by == VouchedBy::Paravisor || self.trust.tpm.allow_weaker_than_predicted;
        (!accepted && !predicted.is_empty()).then(|| Finding::WeakerThanPredicted {
            predicted: predicted.into_iter().collect(),
        })
    }

    /// Judges the hardware below a paravisor; returns what it binds, if it is genuine.
    fn hardware(&self, evidence: &Evidence, wanted: &Wanted<'_>) -> (Option<Genuine<Hardware>>, Appraisal) {
        let pins = &self.trust.tpm.paravisor;
        let (hardware, mut judged) = match evidence {
            Evidence::Snp(evidence) => match evidence.verify(&self.roots.amd, self.at) {
                Ok(genuine) => {
                    // whoever may ask at another level is the guest above it
                    let policy = SnpPolicy {
                        vmpl: 0,
                        ..self.trust.snp.clone()
                    };
                    (
                        Some(Hardware::of_snp(&genuine, pins)),
                        self.snp_platform(&policy, &genuine, wanted),
                    )
                }
                Err(findings) => (None, Appraisal::refused(findings)),
            },
            Evidence::Tdx(evidence) => match evidence.verify(self.roots.intel, self.at) {
                Ok(genuine) => (
                    Some(Hardware::of_tdx(&genuine, pins)),
                    self.tdx_platform(&genuine, wanted),
                ),
                Err(findings) => (None, Appraisal::refused(findings)),
            },
            Evidence::Tpm(_) => (None, Appraisal::default()),
        };
        if !hardware.as_ref().is_some_and(|hardware| hardware.claims().is_pinned()) {
            let what = "which paravisor the confidential VM runs: the policy pins none that it reports";
            judged.unchecked.insert(what.into());
        }
        (hardware, judged)
    }

    /// What the policy says of a platform of SEV-SNP.
    fn snp_platform(&self, policy: &SnpPolicy, genuine: &Genuine<SnpClaims>, wanted: &Wanted<'_>) -> Appraisal {
        let report = genuine.claims();
        let findings = policy.appraise(genuine).into_iter().map(Finding::from);
        Appraisal {
            claims: Some(snp_claims(report)),
            findings: findings.collect(),
            unchecked: policy.unchecked().into_iter().collect(),
            instance: Some(Instance::Guest {
                chip: report.chip_id(),
                report: report.report_id(),
            }),
            ..Appraisal::default()
        }
        .with_init_data(&report.host_data(), &self.trust.host_data, wanted)
    }

    /// What the policy says of a platform of TDX.
    fn tdx_platform(&self, genuine: &Genuine<TdxClaims>, wanted: &Wanted<'_>) -> Appraisal {
        let claims = genuine.claims();
        let findings = self.trust.tdx.appraise(genuine).into_iter().map(Finding::from);
        let mut unchecked: BTreeSet<String> = self.trust.tdx.unchecked().into_iter().collect();
        unchecked.insert("whether all quotes of a build are of one TD, or of several that were started alike".into());
        Appraisal {
            claims: Some(json!(claims)),
            findings: findings.collect(),
            unchecked,
            instance: Some(Instance::of_td(claims)),
            ..Appraisal::default()
        }
        .with_init_data(&claims.mr_config_id, &self.trust.mr_config_id, wanted)
    }
}

/// The name of a platform that vouches for confidential VMs.
const fn confidential(platform: &Platform) -> Option<&'static str> {
    match platform {
        Platform::Snp { .. } => Some("SEV-SNP"),
        Platform::Tdx => Some("TDX"),
        Platform::Tpm => None,
    }
}

/// What people and programs are told of a report.
fn snp_claims(report: &SnpClaims) -> Value {
    json!({
        "chip-id": report.chip_id(),
        "csp-id": report.csp_id(),
        "host-data": report.host_data(),
        "measurement": report.measurement(),
        "policy": report.policy(),
        "product": report.product(),
        "report-data": report.report_data(),
        "report-id": report.report_id(),
        "revocation-checked": report.is_revocation_checked(),
        "signed-by": report.key(),
        "tcb": report.tcbs(),
        "version": report.version(),
        "vmpl": report.vmpl(),
    })
}

impl Appraisal {
    /// The init-data of a builder must be one that the policy names; where it names none, there must be none.
    fn with_init_data<const N: usize>(mut self, found: &Digest<N>, pins: &[Digest<N>], wanted: &Wanted<'_>) -> Self {
        if pins.is_empty() && wanted.launches.is_none() {
            self.unchecked.insert("which init-data the VM was given".into());
            return self;
        }
        let none = [Digest::ZERO];
        let pins = if pins.is_empty() { &none[..] } else { pins };
        let shown = |digest: &Digest<N>| match *digest == Digest::ZERO {
            true => "none".into(),
            false => digest.to_string(),
        };
        let differs = (!pins.contains(found)).then(|| Finding::InitDataDiffers {
            found: shown(found),
            wanted: pins.iter().map(shown).collect::<Vec<_>>().join(" or "),
        });
        self.findings.extend(differs);
        self
    }

    fn refused<F: Into<Finding>>(findings: Vec<F>) -> Self {
        Self {
            findings: findings.into_iter().map(F::into).collect(),
            ..Self::default()
        }
    }
}

impl Reported {
    fn of_snp(report: &SnpClaims) -> Self {
        let measurement = Digests {
            sha256: None,
            sha384: Some(report.measurement()),
        };
        Self {
            platform: "SEV-SNP",
            is: |platform| matches!(platform, Platform::Snp { .. }),
            values: [(Quantity::LaunchDigest, measurement)].into(),
            report_data: report.report_data().bytes().to_vec(),
            padded: true,
        }
    }

    fn of_tdx(claims: &TdxClaims) -> Self {
        let digests = |sha384| Digests {
            sha256: None,
            sha384: Some(sha384),
        };
        let registers = (0..).zip(claims.rtmrs);
        let registers = registers.map(|(index, rtmr)| (Quantity::Register(Register::Rtmr(index)), digests(rtmr)));
        Self {
            platform: "TDX",
            is: |platform| *platform == Platform::Tdx,
            values: registers.chain([(Quantity::Mrtd, digests(claims.mrtd))]).collect(),
            report_data: claims.report_data.bytes().to_vec(),
            padded: true,
        }
    }

    fn of_tpm(claims: &TpmClaims) -> Self {
        let pcrs = claims.pcrs.iter();
        Self {
            platform: "a TPM",
            is: |platform| *platform == Platform::Tpm,
            values: pcrs
                .map(|(index, digests)| (Quantity::Register(Register::Pcr(*index)), *digests))
                .collect(),
            report_data: claims.extra_data.to_vec(),
            padded: false,
        }
    }

    /// Adds to what is said of the platform what is to be said of the VM.
    fn appraise(self, wanted: &Wanted<'_>, mut platform: Appraisal) -> Appraisal {
        match wanted.launches.map(|launches| self.launch(launches)) {
            Some(Ok(launch)) => platform.unchecked.extend(self.unpredicted(launch)),
            Some(Err(finding)) => platform.findings.push(finding),
            None => {}
        }
        let unbound = wanted.bound.and_then(|(binding, text)| self.binds(binding, text));
        platform.findings.extend(unbound);
        platform.report_data = Some(self.report_data);
        platform
    }

    /// Returns the launch whose every value this VM reports.
    fn launch<'a>(&self, launches: &'a [Measurement]) -> Result<&'a Measurement, Finding> {
        // what leaves a part of the code open fits VMs that run something else there: it is the launch of none
        let fitting = launches
            .iter()
            .filter(|launch| (self.is)(&launch.launch.platform) && launch.decides_everything());
        let fitting: Vec<_> = fitting.map(|launch| (self.differing(launch), launch)).collect();
        if let Some((_, launch)) = fitting.iter().find(|(differ, _)| differ.is_empty()) {
            return Ok(launch);
        }
        let platform = self.platform;
        let nearest = fitting.iter().min_by_key(|(differ, _)| differ.len());
        let (nearest, _) = nearest.ok_or(Finding::LaunchMissing { platform })?;
        let in_all = |quantity: &Quantity| fitting.iter().all(|(differ, _)| differ.contains(quantity));
        let nowhere: Vec<_> = nearest.iter().filter(|quantity| in_all(quantity)).collect();
        match nowhere.is_empty() {
            true => Err(Finding::LaunchMixed),
            false => Err(Finding::LaunchUnknown {
                differ: nowhere.into_iter().map(Quantity::to_string).collect(),
            }),
        }
    }

    /// The quantities of a launch that the VM reports otherwise, or not at all.
    fn differing(&self, launch: &Measurement) -> BTreeSet<Quantity> {
        let predicted: BTreeSet<Quantity> = launch.values.iter().map(|value| value.quantity).collect();
        let same = |quantity: &Quantity| {
            let reported = self.values.get(quantity);
            reported.is_some_and(|reported| launch.of(*quantity).any(|value| leads_to(value, *reported)))
        };
        predicted.into_iter().filter(|quantity| !same(quantity)).collect()
    }

    /// What the VM reports and the launch does not predict.
    fn unpredicted(&self, launch: &Measurement) -> Option<String> {
        let predicted = |quantity: &&Quantity| launch.of(**quantity).next().is_none();
        let names: Vec<String> = self.values.keys().filter(predicted).map(Quantity::to_string).collect();
        (!names.is_empty()).then(|| format!("{}, which the release does not predict", names.join(", ")))
    }

    fn binds(&self, binding: Binding, text: &str) -> Option<Finding> {
        let carried = |binding: Binding| match self.padded {
            true => binding.report_data(text).to_vec(),
            false => binding.data(text),
        };
        let wanted = carried(binding);
        if self.report_data == wanted {
            return None;
        }
        let other = Binding::ALL
            .into_iter()
            .find(|other| carried(*other) == self.report_data);
        Some(match other {
            Some(found) => Finding::BindingDiffers { found, wanted: binding },
            None => Finding::ReportDataDiffers {
                found: HEXLOWER.encode(&self.report_data),
                wanted: HEXLOWER.encode(&wanted),
            },
        })
    }
}

/// Whether a register that was predicted holds this. systemd extends PCR 11 with the phases of its start.
fn leads_to(value: &crate::model::measurements::Value, held: Digests) -> bool {
    let phased = value.quantity == Quantity::Register(Register::Pcr(11)) && after_phases(&value.log, held);
    value.digests.agree(&held) || phased
}

/// Whether PCR 11 holds this after systemd has extended it with the phases of its start, as far as it has come, with or
/// without those of the initrd.
pub(super) fn after_phases(log: &EventLog, held: Digests) -> bool {
    tpm::phases_so_far().any(|phases| {
        let phases = tpm::phases(phases.iter().copied());
        let events = log.events.iter().cloned().chain(phases);
        let replayed = EventLog::from_iter(events).replay();
        replayed
            .get(&Register::Pcr(11))
            .is_some_and(|replayed| replayed.agree(&held))
    })
}
