//! `begat attest`: what does the TEE of this VM say?

use std::path::PathBuf;

use anyhow::Result;
use data_encoding::HEXLOWER_PERMISSIVE;

use crate::mend::Exit;
use crate::model::json;
use crate::stage::collect::{Places, ReportData, Source};
use crate::stage::say;
use crate::world::given;

/// Asks the TEE of this VM for evidence that binds report data
///
/// Without --source the best one that is here is asked: configfs-tsm (SEV-SNP, TDX), a TPM 2.0, the guest components of a
/// CoCo pod. The evidence is JSON, with what came along to verify it; `begat collateral` fetches what did not.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What the evidence is to carry: 1 to 64 bytes in hex; SEV-SNP and TDX pad them with zeros
    #[arg(long, value_name = "HEX")]
    report_data: String,
    /// Ask this one alone
    #[arg(long)]
    source: Option<Source>,
    /// The device of the TPM, or a socket that speaks as one does
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
    /// Write to this file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let data = HEXLOWER_PERMISSIVE.decode(self.report_data.as_bytes());
        let no_hex = |error| format!("--report-data is no hex: {error}");
        let mend = "give 1 to 64 bytes, each as two hex digits";
        let data = data.map_err(|error| Exit::Usage.because(no_hex(error), mend))?;
        let data = ReportData::new(data)?;
        let (source, evidence) = self.places()?.collect(self.source(), &data)?;
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

    /// A device is that of a TPM.
    fn source(&self) -> Option<Source> {
        self.source.or(self.device.as_ref().map(|_| Source::Tpm))
    }

    fn places(&self) -> Result<Places> {
        let mut places = Places::default();
        if let Some(device) = &self.device {
            if self.source() != Some(Source::Tpm) {
                return Err(Exit::Usage.because("--device names a TPM", "leave --source out, or say --source tpm"));
            }
            places.tpm.clone_from(device);
        }
        Ok(places)
    }
}
