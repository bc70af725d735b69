//! `begat evidence`: is this evidence genuine, and is it what is wanted?

use std::path::{Path, PathBuf};

use anyhow::Result;
use measure::evidence::{self, Bytes, Evidence, SnpEvidence, TdxEvidence, coco};
use serde_json::{Value, json};

use super::judging::{Policy, code, machine};
use crate::mend::{Exit, OrMend as _, Told};
use crate::model;
use crate::stage::appraise::{Appraisal, Wanted};
use crate::stage::verify;
use crate::world::given;

/// Works with evidence of TEEs
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Check(Args),
}

/// Judges evidence by itself: whether it is genuine, by the roots of the vendors that are built in, and whether the policy
/// accepts the platform
///
/// Exits with 0 only for genuine evidence without findings. Without a policy there always is one: how old the firmware of a
/// platform may be, only the verifier can say.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    given: Given,
    /// Certificate of the key that signed the report (VCEK or VLEK), in DER or PEM
    #[arg(long, value_name = "CERT", requires = "snp")]
    vek: Option<PathBuf>,
    /// Further certificates of its chain; they never become roots
    #[arg(long, value_name = "CERT", requires = "snp")]
    ca: Vec<PathBuf>,
    /// List of revoked certificates, in DER
    #[arg(long, value_name = "CRL", requires = "snp")]
    crl: Vec<PathBuf>,
    /// Collateral of the quote: TCB information, QE identity and CRLs, as JSON
    #[arg(long, value_name = "JSON", requires = "tdx")]
    collateral: Option<PathBuf>,
    /// Event log of the TD (the data of its CCEL table)
    #[arg(long, value_name = "LOG", requires = "tdx")]
    ccel: Option<PathBuf>,
    /// The release that the VM must run; it is verified first
    #[arg(long, value_name = "RELEASE")]
    release: Option<PathBuf>,
    #[command(flatten)]
    policy: Policy,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// What is judged.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Given {
    /// Evidence as begat writes it: `begat attest`, or evidence/*.json of a release
    #[arg(value_name = "FILE")]
    evidence: Option<PathBuf>,
    /// Raw report of SEV-SNP, 1184 bytes
    #[arg(long, value_name = "REPORT")]
    snp: Option<PathBuf>,
    /// Raw quote of TDX
    #[arg(long, value_name = "QUOTE")]
    tdx: Option<PathBuf>,
    /// Evidence as attesters of Confidential Containers write it, in JSON: SNP, TDX, TPM, Azure's vTPMs
    #[arg(long, value_name = "FILE")]
    coco: Option<PathBuf>,
}

/// What a file of evidence has at most, in bytes: an event log has some hundred KiB.
const LIMIT: u64 = 16 << 20;

const MEND: &str = "give evidence in one of the forms that `begat evidence check --help` lists";

impl Command {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Check(check) => check.run(),
        }
    }
}

impl Args {
    fn run(self) -> Result<()> {
        let evidence = self.evidence()?;
        let judged = self.release.as_deref().map(verify::judge).transpose()?;
        let measurements = judged.map(|release| release.measurements()).transpose()?;
        let wanted = Wanted {
            launches: measurements.as_ref().map(|said| said.launches.as_slice()),
            bound: None,
        };
        let mut appraisal = self.policy.read()?.judge().appraise(&evidence, &wanted);
        let unjudged = |release: &PathBuf| format!("who built {}, and from what: begat verify", release.display());
        appraisal.unchecked.extend(self.release.as_ref().map(unjudged));
        match self.json {
            true => print!("{}", model::json(&report(&appraisal))),
            false => people(&appraisal),
        }
        match appraisal.findings.is_empty() {
            true => Ok(()),
            false => Err(Told(Exit::No).into()),
        }
    }

    fn evidence(&self) -> Result<Evidence> {
        match &self.given {
            Given { snp: Some(report), .. } => self.snp(report),
            Given { tdx: Some(quote), .. } => self.tdx(quote),
            Given { coco: Some(file), .. } => {
                let problem = format!("{} is no evidence of an attester of CoCo", file.display());
                coco::read(&read(file)?).or_mend(Exit::Usage, problem, MEND)
            }
            Given { evidence, .. } => {
                let file = evidence.as_deref().expect("clap asks for one of the group");
                let problem = format!("{} is no evidence as begat writes it", file.display());
                serde_json::from_slice(&read(file)?).or_mend(Exit::Usage, problem, MEND)
            }
        }
    }

    fn snp(&self, report: &Path) -> Result<Evidence> {
        let files = self.vek.iter().chain(&self.ca);
        let certificates: Vec<Vec<Bytes>> = files.map(|file| certificates(file)).collect::<Result<_>>()?;
        let crls = self.crl.iter().map(|file| Ok(read(file)?.into()));
        Ok(Evidence::Snp(SnpEvidence {
            report: read(report)?.into(),
            certificates: certificates.concat(),
            crls: crls.collect::<Result<_>>()?,
        }))
    }

    fn tdx(&self, quote: &Path) -> Result<Evidence> {
        let part = |file: &Option<PathBuf>| file.as_deref().map(read).transpose();
        Ok(Evidence::Tdx(TdxEvidence {
            quote: read(quote)?.into(),
            collateral: part(&self.collateral)?.map(Bytes::from),
            event_log: part(&self.ccel)?.map(Bytes::from),
        }))
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    given::read(file, LIMIT, MEND)
}

fn certificates(file: &Path) -> Result<Vec<Bytes>> {
    let problem = format!("cannot read the certificates in {}", file.display());
    evidence::certificates(&read(file)?).or_mend(Exit::Usage, problem, "give certificates in DER or PEM")
}

fn people(appraisal: &Appraisal) {
    if let Some(claims) = &appraisal.claims {
        println!("{claims:#}");
    }
    for finding in &appraisal.findings {
        println!("{}: {finding}", code(finding));
    }
    match (&appraisal.claims, appraisal.findings.len()) {
        (_, 0) => println!("genuine, and nothing is to be said against it"),
        (Some(_), 1) => println!("genuine; 1 finding"),
        (Some(_), findings) => println!("genuine; {findings} findings"),
        (None, 1) => println!("not genuine: 1 finding"),
        (None, findings) => println!("not genuine: {findings} findings"),
    }
    for unchecked in &appraisal.unchecked {
        println!("not checked: {unchecked}");
    }
}

fn report(appraisal: &Appraisal) -> Value {
    json!({
        "claims": appraisal.claims,
        "findings": appraisal.findings.iter().map(machine).collect::<Vec<_>>(),
        "genuine": appraisal.claims.is_some(),
        "not-checked": appraisal.unchecked,
    })
}
