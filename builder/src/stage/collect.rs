//! Evidence collected from the TEE that this runs in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use data_encoding::HEXLOWER;
use measure::evidence::{Bytes, Evidence, HclEvidence, SnpEvidence, SnpReport, TdxEvidence, TdxQuote, TpmEvidence};

use crate::mend::{Exit, OrMend as _};
use crate::model::record::{Binding, Record};
use crate::world::files;
use crate::world::tee::configfs_tsm::{self, Blobs, Configfs, Provider};
use crate::world::tee::{Silence, coco, tpm};

/// Where evidence comes from, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Source {
    /// The kernel's reports of SEV-SNP and quotes of TDX
    ConfigfsTsm,
    /// A TPM 2.0
    Tpm,
    /// The guest components of a CoCo pod
    Coco,
}

impl Source {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::ConfigfsTsm, Self::Tpm, Self::Coco];

    /// Returns what people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigfsTsm => "configfs-tsm",
            Self::Tpm => "TPM",
            Self::Coco => "CoCo REST API",
        }
    }
}

/// What evidence is to carry: 1 to 64 bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReportData(Vec<u8>);

impl ReportData {
    /// Returns the report data with these bytes.
    ///
    /// # Errors
    /// No bytes, or more than 64.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        match bytes.len() {
            1..=64 => Ok(Self(bytes)),
            count => {
                let problem = format!("report data is 1 to 64 bytes long, and not {count}");
                Err(Exit::Usage.because(problem, "give a digest, such as a SHA-384"))
            }
        }
    }

    /// Returns the bytes, as the quote of a TPM carries them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes with zeros up to 64, as SEV-SNP and TDX carry them.
    pub fn padded(&self) -> [u8; 64] {
        padded(&self.0)
    }
}

impl From<&Record> for ReportData {
    fn from(record: &Record) -> Self {
        let size = match record.binding {
            Binding::Sha384 => 48,
            Binding::Sha256Hex => 64,
        };
        Self(record.report_data()[..size].to_vec())
    }
}

fn padded(bytes: &[u8]) -> [u8; 64] {
    let mut padded = [0; 64];
    padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    padded
}

/// Where the sources are; by default where Linux and CoCo have them.
#[derive(Clone, Debug)]
pub struct Places {
    /// A TPM's device, or a socket that speaks as one does.
    pub tpm: PathBuf,
    /// Of the guest components; on the loopback interface.
    pub coco: SocketAddr,
    /// How long the guest components may take.
    pub patience: Duration,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            tpm: tpm::DEVICE.into(),
            coco: coco::ADDRESS,
            patience: Duration::from_secs(120),
        }
    }
}

impl Places {
    /// Returns evidence that binds `data`, and where it comes from: from the best source that is here, or from `source`
    /// alone.
    ///
    /// # Errors
    /// There is none here; it fails; what it says binds something else.
    pub fn collect(&self, source: Option<Source>, data: &ReportData) -> Result<(Source, Evidence)> {
        if let Some(source) = source {
            let evidence = self.ask(source, data);
            let evidence = evidence.map_err(|silence| silence.into_error(source.name(), mend(source)))?;
            return Ok((source, evidence));
        }
        let mut absent = Vec::new();
        for source in Source::ALL {
            match self.ask(source, data) {
                Ok(evidence) => return Ok((source, evidence)),
                Err(Silence::Failed(error)) => return Err(error),
                Err(Silence::Absent(why)) => absent.push((source, why)),
            }
        }
        Err(nowhere(&absent))
    }

    fn ask(&self, source: Source, data: &ReportData) -> Result<Evidence, Silence> {
        let evidence = match source {
            Source::ConfigfsTsm => {
                let root = Path::new(configfs_tsm::ROOT);
                from_blobs(configfs_tsm::ask(&Configfs, root, &data.padded())?)?
            }
            Source::Tpm => from_tpm(tpm::ask(&self.tpm, data.bytes())?)?,
            Source::Coco => {
                let json = coco::ask(self.coco, data.bytes(), self.patience)?;
                return Ok(from_coco(&json, data)?);
            }
        };
        match carries(&evidence)? == data.padded() {
            true => Ok(evidence),
            false => Err(foreign(source, &evidence)?.into()),
        }
    }
}

/// No source is here: this is no TEE.
fn nowhere(absent: &[(Source, String)]) -> anyhow::Error {
    let tried: String = absent
        .iter()
        .map(|(source, why)| format!("\n  {}: {why}", source.name()))
        .collect();
    let mends: Vec<&str> = absent.iter().map(|(source, _)| mend(*source)).collect();
    Exit::Outside.because(format!("nothing here gives evidence{tried}"), mends.join("\n"))
}

const fn mend(source: Source) -> &'static str {
    match source {
        Source::ConfigfsTsm => {
            "in a VM with SEV-SNP or TDX, on Linux 6.7 or newer: modprobe -a sev-guest tdx_guest; mount -t configfs none \
             /sys/kernel/config"
        }
        Source::Tpm => "in a VM with a TPM: name its device, --device PATH",
        Source::Coco => "in a CoCo pod: kernel parameter agent.guest_components_rest_api=all",
    }
}

/// Evidence that does not carry what was asked for.
fn foreign(source: Source, evidence: &Evidence) -> Result<anyhow::Error> {
    let carried = HEXLOWER.encode(&carries(evidence)?);
    let problem = format!(
        "the evidence of the {} carries other report data: {carried}",
        source.name()
    );
    Ok(Exit::Outside.because(problem, "do not use this evidence: it is not for what you asked"))
}

/// The report data that evidence carries, with zeros up to 64 bytes.
fn carries(evidence: &Evidence) -> Result<[u8; 64]> {
    const MEND: &str = "see what gives such evidence";
    match evidence {
        Evidence::Snp(snp) => {
            let report = SnpReport::read(&snp.report);
            let report = report.or_mend(Exit::Unsupported, "the TEE gives no report that begat knows", MEND)?;
            Ok(*report.report_data().bytes())
        }
        Evidence::Tdx(tdx) => {
            let quote = TdxQuote::read(&tdx.quote);
            let quote = quote.or_mend(Exit::Unsupported, "the TEE gives no quote that begat knows", MEND)?;
            Ok(*quote.report_data().bytes())
        }
        Evidence::Tpm(quoted) => {
            let data = tpm::quoted_data(&quoted.quote);
            let data = data.or_mend(Exit::Unsupported, "the TPM gives no quote that begat knows", MEND)?;
            Ok(padded(&data))
        }
    }
}

fn from_blobs(blobs: Blobs) -> Result<Evidence> {
    match blobs.provider {
        Provider::Snp => Ok(Evidence::Snp(SnpEvidence {
            report: blobs.out.into(),
            ..SnpEvidence::default()
        })),
        Provider::Tdx => Ok(Evidence::Tdx(TdxEvidence {
            quote: blobs.out.into(),
            event_log: ccel()?,
            ..TdxEvidence::default()
        })),
    }
}

/// The log of the firmware of a TD.
fn ccel() -> Result<Option<Bytes>> {
    const CCEL: &str = "/sys/firmware/acpi/tables/data/CCEL";
    const LARGEST: u64 = 16 << 20;
    match files::read(Path::new(CCEL), LARGEST) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).or_mend(Exit::Outside, format!("cannot read {CCEL}"), "run begat attest as root"),
    }
}

fn from_tpm(said: tpm::Said) -> Result<Evidence> {
    let hcl = said.hcl.map(hcl).transpose()?;
    Ok(Evidence::Tpm(TpmEvidence { hcl, ..said.evidence }))
}

/// The report of Azure's paravisor: a header of 32 bytes, the report of the hardware in 1184 bytes, then what kind that is.
fn hcl(report: Vec<u8>) -> Result<HclEvidence> {
    const KIND: usize = 32 + 1184 + 8;
    const SNP: [u8; 4] = 2_u32.to_le_bytes();
    match report.get(KIND..KIND + 4) {
        Some(kind) if kind == SNP => {
            let hardware = SnpEvidence {
                report: report[32..32 + 1184].to_vec().into(),
                ..SnpEvidence::default()
            };
            let (report, hardware) = (report.into(), Box::new(Evidence::Snp(hardware)));
            Ok(HclEvidence { report, hardware })
        }
        kind => {
            let problem = format!("the HCL report is of the kind {kind:?}, begat knows [2, 0, 0, 0], SEV-SNP");
            Err(Exit::Unsupported.because(problem, "use a VM with SEV-SNP"))
        }
    }
}

/// The evidence in the answer of the guest components, which must bind `data`.
fn from_coco(json: &[u8], data: &ReportData) -> Result<Evidence> {
    let evidence = read_coco(json)?;
    let carried = carries(&evidence)?;
    if carried == data.padded() {
        return Ok(evidence);
    }
    let encoding = coco::Encoding::of(data.bytes());
    if encoding == coco::Encoding::Base64 && carried == padded(encoding.text(data.bytes()).as_bytes()) {
        let problem = "the guest components bind the text that the report data was sent as: they are older than 0.21";
        let mend = "use newer ones, or bind text: 64 hex characters of a SHA-256 (binding sha256-hex)";
        return Err(Exit::Unsupported.because(problem, mend));
    }
    Err(foreign(Source::Coco, &evidence)?)
}

/// Reads the JSON that the attester of a TDX guest writes.
fn read_coco(json: &[u8]) -> Result<Evidence> {
    #[derive(serde::Deserialize)]
    struct Tdx {
        quote: Bytes,
        cc_eventlog: Option<Bytes>,
    }
    let tdx: serde_json::Result<Tdx> = serde_json::from_slice(json);
    let problem = "begat cannot read the evidence of the guest components";
    let tdx = tdx.or_mend(Exit::Unsupported, problem, "use begat with a TDX guest")?;
    Ok(Evidence::Tdx(TdxEvidence {
        quote: tdx.quote,
        collateral: None,
        event_log: tdx.cc_eventlog,
    }))
}
