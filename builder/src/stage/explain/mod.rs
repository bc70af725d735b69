//! A prediction and an observation in, why they differ out.

pub(super) mod events;
mod releases;
mod report;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use measure::event_log::{Digests, EventLog, EventType, HostChoice, LogOf, Part, Register};
use measure::evidence::{SnpReport, TdxQuote};
use measure::ovmf::Ovmf;
use serde::Serialize;

use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::file;
use crate::model::measurements::{FirmwareFile, Quantity};
use crate::model::{Lock, Manifest, Measurements};
use crate::stage::on_disk::OnDisk;
use crate::stage::verify;
use crate::world::given;

/// One side of the comparison.
pub enum Side {
    Release(Box<Release>),
    Log(EventLog),
    Report(Box<SnpReport>),
    /// A TDX quote, as the values it reports.
    Quote(Vec<(Quantity, Digests)>),
}

/// What a release predicts, and what it is made of.
pub struct Release {
    on_disk: Arc<OnDisk>,
    manifest: Manifest,
    findings: Vec<String>,
    measurements: Measurements,
    lock: Lock,
    command_line: String,
}

/// Why two sides differ; see whether they [agree](Explanation::agree).
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// What was compared with what.
    pub compared: String,
    /// What is wrong with the releases that were compared: what one of them says may then be a lie.
    pub findings: Vec<String>,
    pub differences: Vec<Difference>,
    /// Both logs side by side, where two logs were compared.
    pub events: Vec<Line>,
}

/// One reason why values differ.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    pub what: String,
    /// The files of the release that decide it.
    pub files: BTreeSet<String>,
    /// The choices of the host that decide it.
    pub varies_with: BTreeSet<HostChoice>,
}

/// One event, predicted, observed or both.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Line {
    pub verdict: Verdict,
    pub register: Register,
    #[serde(rename = "type")]
    pub kind: EventType,
    pub subject: String,
    pub predicted: Option<Digests>,
    pub observed: Option<Digests>,
    /// Why no image can predict it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// How an event was predicted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Equal,
    Changed,
    Missing,
    Unexpected,
    Unpredictable,
}

impl Side {
    /// Reads the folder of a release, an event log, a report of SEV-SNP or a TDX quote. Of these only a release is verified;
    /// the explanation says what is wrong with it.
    ///
    /// # Errors
    /// Something else at this path; a release of which manifest, lock or predictions cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self::Release(Box::new(Release::read(path)?)));
        }
        let bytes = given::read(path, LONGEST, "an event log, a report of SEV-SNP or a TDX quote")?;
        if let Ok(report) = SnpReport::read(&bytes) {
            return Ok(Self::Report(Box::new(report.clone())));
        }
        if let Ok(quote) = TdxQuote::read(&bytes) {
            return Ok(Self::Quote(quoted(&quote)));
        }
        let log = EventLog::guess(&bytes).and_then(|of: LogOf| EventLog::read(&bytes, of));
        let problem = format!(
            "{} is no report of SEV-SNP, no TDX quote and no event log",
            path.display()
        );
        log.map(Self::Log).or_mend(Exit::Usage, problem, MEND)
    }

    fn findings(&self) -> Vec<String> {
        match self {
            Self::Release(release) => release.findings.clone(),
            Self::Log(_) | Self::Report(_) | Self::Quote(_) => Vec::new(),
        }
    }
}

impl Explanation {
    /// Whether nothing differs, and nothing is wrong with the releases that were compared.
    pub fn agree(&self) -> bool {
        self.differences.is_empty() && self.findings.is_empty()
    }
}

/// Returns why the observation is not what was predicted.
///
/// # Errors
/// A pair that cannot be compared.
pub fn explain(predicted: &Side, observed: &Side) -> Result<Explanation> {
    let mut explanation = compare(predicted, observed)?;
    explanation.findings = [predicted, observed].into_iter().flat_map(Side::findings).collect();
    Ok(explanation)
}

fn compare(predicted: &Side, observed: &Side) -> Result<Explanation> {
    match (predicted, observed) {
        (Side::Release(release), Side::Release(other)) => Ok(releases::explain(release, other)),
        (Side::Release(release), Side::Log(log)) => events::of_release(release, log),
        (Side::Log(predicted), Side::Log(observed)) => Ok(events::of_logs(predicted, observed)),
        (Side::Release(release), Side::Report(report)) => report::explain(release, report.measurement()),
        (Side::Release(release), Side::Quote(values)) => report::quote(release, values),
        _ => Err(Exit::Usage.because(
            "a report or a quote has values and no log: it cannot be compared with this",
            "give the release as PREDICTED; OBSERVED is a release, an event log, a report or a quote",
        )),
    }
}

impl Release {
    fn read(folder: &Path) -> Result<Self> {
        let verdict = verify::verify_at_any_time(folder, None)?;
        let on_disk = &verdict.on_disk;
        let shown = on_disk.shown();
        let findings = verdict.findings.iter().map(|finding| format!("{shown}: {finding}"));
        let text = |name: &str| {
            let problem = format!("cannot read {name} of {shown}");
            let mend = format!("see all that is wrong with it: begat verify {shown}");
            on_disk.text(name).or_mend(Exit::No, problem, mend)
        };
        Ok(Self {
            measurements: Measurements::parse(&text(file::MEASUREMENTS)?)?,
            lock: Lock::parse(&text(file::LOCK)?)?,
            command_line: text(file::COMMAND_LINE)?,
            findings: findings.collect(),
            manifest: on_disk.manifest()?,
            on_disk: Arc::clone(on_disk),
        })
    }
}

/// The files of a release that these parts are.
fn files(parts: &BTreeSet<Part>, firmware: &FirmwareFile) -> BTreeSet<String> {
    let file = |part: &Part| match part {
        Part::Firmware => firmware.name.to_string(),
        Part::Kernel => file::KERNEL.into(),
        Part::Initrd => file::INITRD.into(),
        Part::CommandLine => file::COMMAND_LINE.into(),
        Part::Uki => file::UKI.into(),
        Part::PartitionTable => file::DISK.into(),
    };
    parts.iter().map(file).collect()
}

fn quoted(quote: &TdxQuote<'_>) -> Vec<(Quantity, Digests)> {
    let value = |sha384| Digests {
        sha256: None,
        sha384: Some(sha384),
    };
    let registers = quote.rtmrs().into_iter().zip(0..);
    let rtmrs = registers.map(|(digest, index)| (Quantity::Register(Register::Rtmr(index)), value(digest)));
    [(Quantity::Mrtd, value(quote.mrtd()))]
        .into_iter()
        .chain(rtmrs)
        .collect()
}

const MEND: &str = "give a release's folder, binary_bios_measurements, the data of the CCEL table, a report or a quote";

/// Larger than any log, report or quote, in bytes.
const LONGEST: u64 = 16 << 20;
