//! What a TEE says about the VM that asks: one source a file, bytes out. Nothing here believes what comes.

pub mod coco;
pub mod configfs_tsm;
pub mod sev_guest;
pub mod tpm;

use std::fmt::Display;

use crate::mend::Exit;

/// Why a source gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// It is not here: another may be.
    #[error("{0}")]
    Absent(String),
    /// It is here, and fails. No other is asked instead: what it would say might be worth less.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl Silence {
    /// Returns what to tell who cannot do without.
    pub fn into_error(self, mend: impl Display) -> anyhow::Error {
        match self {
            Self::Absent(why) => Exit::Outside.because(why, mend),
            Self::Failed(error) => error,
        }
    }
}
