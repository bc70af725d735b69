//! Flags that several verbs share: which TEE is asked.

use std::path::PathBuf;

use anyhow::Result;

use crate::mend::Exit;
use crate::stage::collect::{Places, Source};

#[derive(clap::Args)]
pub(super) struct Tee {
    /// Ask this source of evidence alone
    #[arg(long)]
    source: Option<Source>,
    /// The device of the TPM, or a socket that speaks as one does
    #[arg(long, value_name = "PATH")]
    device: Option<PathBuf>,
}

impl Tee {
    /// Whether anything was said about it.
    pub(super) const fn is_given(&self) -> bool {
        self.source.is_some() || self.device.is_some()
    }

    /// A device is that of a TPM.
    pub(super) fn source(&self) -> Option<Source> {
        self.source.or(self.device.as_ref().map(|_| Source::Tpm))
    }

    pub(super) fn places(&self) -> Result<Places> {
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
