//! `begat attest`: what does the TEE of this VM say?

use std::path::{Path, PathBuf};

use anyhow::Result;
use data_encoding::HEXLOWER_PERMISSIVE;

use super::sign;
use super::signing::Order;
use super::tee::Tee;
use crate::mend::Exit;
use crate::model::job::Ordered;
use crate::model::json;
use crate::stage::attested::{self, Attesting};
use crate::stage::collect::ReportData;
use crate::stage::release::Existing;
use crate::stage::say;
use crate::world::store::Store;
use crate::world::{Environment, given};

/// Asks the TEE of this VM for evidence
///
/// Without --source the best one that is here is asked: configfs-tsm (SEV-SNP, TDX), /dev/sev-guest, a TPM 2.0, the guest components
/// of a CoCo pod. The evidence is JSON, with what came along to verify it; `begat collateral` fetches what did not.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What the evidence is to carry: 1 to 64 bytes in hex; SEV-SNP and TDX pad them with zeros
    #[arg(long, value_name = "HEX", required_unless_present = "split")]
    report_data: Option<String>,
    /// Attest a release that another machine has built: make again what follows from its packages and compare, measure it
    /// again, sign it, and put the evidence of this VM over the record into it
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["report_data", "output"])]
    split: Option<PathBuf>,
    /// Folder of the store, for the packages of the release [default: begat in the user's cache folder]
    #[arg(long, value_name = "DIR", requires = "split", conflicts_with = "report_data")]
    store: Option<PathBuf>,
    /// Replace the signatures and evidence that the release has
    #[arg(long, requires = "split", conflicts_with = "report_data")]
    force: bool,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    tee: Tee,
    /// Write to this file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        match &self.split {
            Some(release) => self.split(release),
            None => self.attest(),
        }
    }

    fn attest(&self) -> Result<()> {
        if self.order.get()? != Ordered::default() {
            let problem = "terms of a release, for evidence without one";
            return Err(Exit::Usage.because(problem, "name the release: --split RELEASE"));
        }
        let hex = self.report_data.as_deref().unwrap_or_default();
        let data = HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
        let no_hex = |error| format!("--report-data is no hex: {error}");
        let mend = "give 1 to 64 bytes, each as two hex digits";
        let data = data.map_err(|error| Exit::Usage.because(no_hex(error), mend))?;
        let data = ReportData::new(data)?;
        let (source, evidence) = self.tee.places()?.collect(self.tee.source(), &data)?;
        say("attest", &format!("evidence of the {}", source.name()));
        let text = json(&evidence);
        match &self.output {
            Some(file) => given::write(file, text),
            None => {
                print!("{text}");
                Ok(())
            }
        }
    }

    fn split(&self, release: &Path) -> Result<()> {
        let attesting = Attesting {
            places: self.tee.places()?,
            source: self.tee.source(),
            required: true,
        };
        let existing = match self.force {
            true => Existing::Replace,
            false => Existing::Refuse,
        };
        let store = Store::locate(self.store.as_deref(), &Environment::of_this_process())?;
        let claims = attested::split(release, &store, existing, &self.order.get()?, &attesting)?;
        sign::show(&claims, &claims.record.key()?);
        Ok(())
    }
}
