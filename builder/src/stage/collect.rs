//! Evidence collected from the TEE that this runs in.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use data_encoding::HEXLOWER;
use measure::evidence::coco as from_coco;
use measure::evidence::snp::certificate_table;
use measure::evidence::tpm::{HclHardware, HclReport};
use measure::evidence::{Bytes, Evidence, HclEvidence, SnpEvidence, TdxEvidence, TpmEvidence};

use crate::mend::{Exit, OrMend as _};
use crate::model::record::Binding;
use crate::world::files;
use crate::world::tee::configfs_tsm::{self, Blobs, Configfs, Provider, Tree};
use crate::world::tee::{Silence, coco, sev_guest, tpm};

/// Where evidence comes from, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Source {
    /// The kernel's reports of SEV-SNP and quotes of TDX
    ConfigfsTsm,
    /// The device of SEV-SNP, where the kernel is older than that
    SevGuest,
    /// A TPM 2.0
    Tpm,
    /// The guest components of a CoCo pod
    Coco,
}

impl Source {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 4] = [Self::ConfigfsTsm, Self::SevGuest, Self::Tpm, Self::Coco];

    /// Returns what people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigfsTsm => "configfs-tsm",
            Self::SevGuest => "SEV-SNP device",
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

    /// Returns what binds this canonical text.
    pub fn binding(binding: Binding, text: &str) -> Self {
        Self(binding.data(text))
    }

    /// Returns the bytes, as the quote of a TPM carries them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes with zeros up to 64, as SEV-SNP and TDX carry them.
    pub fn padded(&self) -> [u8; 64] {
        let mut padded = [0; 64];
        padded[..self.0.len()].copy_from_slice(&self.0);
        padded
    }
}

/// Where the sources are; by default where Linux and CoCo have them.
#[derive(Debug)]
pub struct Places {
    /// The kernel's folders.
    pub tree: Box<dyn Tree>,
    /// Where requests are made.
    pub configfs: PathBuf,
    /// The log of the firmware of a TD.
    pub ccel: PathBuf,
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
            tree: Box::new(Configfs),
            configfs: configfs_tsm::ROOT.into(),
            ccel: "/sys/firmware/acpi/tables/data/CCEL".into(),
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
        let found = self.find(source, data);
        found.map_err(|silence| silence.into_error(mends(source)))
    }

    /// As [`collect`](Self::collect), for who can do without.
    ///
    /// # Errors
    /// As [`collect`](Self::collect), told apart.
    pub fn find(&self, source: Option<Source>, data: &ReportData) -> Result<(Source, Evidence), Silence> {
        if let Some(source) = source {
            return match self.ask(source, data) {
                Err(Silence::Absent(why)) => Err(Silence::Absent(format!("there is no {} here: {why}", source.name()))),
                asked => Ok((source, asked?)),
            };
        }
        let mut tried = String::new();
        for source in Source::ALL {
            match self.ask(source, data) {
                Err(Silence::Absent(why)) => tried += &format!("\n  {}: {why}", source.name()),
                asked => return Ok((source, asked?)),
            }
        }
        Err(Silence::Absent(format!("nothing here gives evidence{tried}")))
    }

    fn ask(&self, source: Source, data: &ReportData) -> Result<Evidence, Silence> {
        let evidence = match source {
            Source::ConfigfsTsm => {
                let blobs = configfs_tsm::ask(&*self.tree, &self.configfs, &data.padded())?;
                from_blobs(blobs, self)?
            }
            Source::SevGuest => Evidence::Snp(SnpEvidence {
                report: sev_guest::ask(&data.padded())?.into(),
                ..SnpEvidence::default()
            }),
            Source::Tpm => from_tpm(tpm::ask(&self.tpm, data.bytes())?)?,
            Source::Coco => {
                let json = coco::ask(self.coco, data.bytes(), self.patience)?;
                let problem = "cannot read the evidence of the guest components";
                from_coco::read(&json).or_mend(Exit::Unsupported, problem, "see what the attestation-agent runs on")?
            }
        };
        Ok(bound(source, evidence, data)?)
    }
}

/// What to do where there is no evidence of this source, or of any.
pub fn mends(source: Option<Source>) -> String {
    match source {
        Some(source) => mend(source).into(),
        None => Source::ALL.map(mend).join("\n"),
    }
}

const fn mend(source: Source) -> &'static str {
    match source {
        Source::ConfigfsTsm => {
            "in a VM with SEV-SNP or TDX, on Linux 6.7 or newer: modprobe -a sev-guest tdx_guest; mount -t configfs none \
             /sys/kernel/config"
        }
        Source::SevGuest => "in a VM with SEV-SNP: modprobe sev-guest",
        Source::Tpm => "in a VM with a TPM: name its device, --device PATH",
        Source::Coco => "in a CoCo pod: kernel parameter agent.guest_components_rest_api=all",
    }
}

/// Returns the evidence, which must bind `data`.
fn bound(source: Source, evidence: Evidence, data: &ReportData) -> Result<Evidence> {
    let problem = format!("the {} gives evidence that begat does not know", source.name());
    let bound = evidence
        .report_data()
        .or_mend(Exit::Unsupported, problem, "see what gives such evidence")?;
    if binds(&bound, data.bytes()) {
        return Ok(evidence);
    }
    let encoding = coco::Encoding::of(data.bytes());
    let text = encoding.text(data.bytes());
    if source == Source::Coco && encoding == coco::Encoding::Base64 && binds(&bound, text.as_bytes()) {
        let problem = "the guest components bind the text that the report data was sent as: they are older than 0.21";
        let mend = "use newer ones, or bind text: the 64 hex characters of a SHA-256 (sha256-hex)";
        return Err(Exit::Unsupported.because(problem, mend));
    }
    let problem = format!(
        "the evidence of the {} binds {}",
        source.name(),
        HEXLOWER.encode(&bound)
    );
    Err(Exit::Outside.because(problem, "do not use it: it is not for what you asked"))
}

/// Whether `bound` is `asked`, and zeros behind it.
fn binds(bound: &[u8], asked: &[u8]) -> bool {
    let rest = bound.strip_prefix(asked);
    rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0))
}

fn from_blobs(blobs: Blobs, places: &Places) -> Result<Evidence> {
    match blobs.provider {
        Provider::Snp => {
            let along = certificate_table(&blobs.aux);
            let problem = "the certificates that the host gives along with the report cannot be read";
            let along = along.or_mend(
                Exit::Outside,
                problem,
                "ask the host to give a table of the GHCB's format",
            )?;
            let report = blobs.out.into();
            Ok(Evidence::Snp(SnpEvidence { report, ..along }))
        }
        Provider::Tdx => Ok(Evidence::Tdx(TdxEvidence {
            quote: blobs.out.into(),
            event_log: ccel(&places.ccel)?,
            ..TdxEvidence::default()
        })),
    }
}

/// The log of the firmware of a TD.
fn ccel(path: &Path) -> Result<Option<Bytes>> {
    const LARGEST: u64 = 2 << 20; // firmware sets aside 64 KiB
    match files::read(path, LARGEST) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let problem = format!("cannot read {}", path.display());
            Err(error).or_mend(Exit::Outside, problem, "run begat attest as root")
        }
    }
}

fn from_tpm(said: tpm::Said) -> Result<Evidence> {
    let hcl = said.hcl.map(hcl).transpose()?;
    Ok(Evidence::Tpm(TpmEvidence { hcl, ..said.evidence }))
}

/// The report of Azure's paravisor, with the report of the hardware that is in there.
fn hcl(report: Vec<u8>) -> Result<HclEvidence> {
    let read = HclReport::read(&report);
    let hardware = match read
        .or_mend(Exit::Unsupported, "cannot read the HCL report of this VM", NO_HCL)?
        .hardware
    {
        HclHardware::Snp(hardware) => hardware.to_vec(),
        HclHardware::Tdx(_) => {
            let problem = "this VM of Azure has TDX: only a service of its host makes a quote over the HCL report";
            return Err(Exit::Unsupported.because(problem, NO_HCL));
        }
    };
    let hardware = SnpEvidence {
        report: hardware.into(),
        ..SnpEvidence::default()
    };
    Ok(HclEvidence {
        report: report.into(),
        hardware: Box::new(Evidence::Snp(hardware)),
    })
}

const NO_HCL: &str = "use a VM with SEV-SNP, or inside a CoCo pod --source coco";
