//! What evidence binds: bytes that the guest chose.

use alloc::vec::Vec;

use super::tpm::Quote;
use super::{Evidence, SnpReport, TdxQuote};

/// Why evidence does not say what it binds.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoReportData {
    #[error(transparent)]
    Hardware(#[from] super::EvidenceError),
    #[error(transparent)]
    Quote(#[from] crate::FieldError),
}

impl Evidence {
    /// Returns the bytes that the evidence binds: `REPORT_DATA` of a report (64 bytes), `REPORTDATA` of a quote of TDX
    /// (64 bytes), `extraData` of a quote of a TPM (at most 66 bytes). Of Azure's that is the TPM's: the hardware binds
    /// the key.
    ///
    /// The evidence is only read: it may be anybody's.
    pub fn report_data(&self) -> Result<Vec<u8>, NoReportData> {
        Ok(match self {
            Self::Snp(evidence) => SnpReport::read(&evidence.report)?.report_data().bytes().to_vec(),
            Self::Tdx(evidence) => TdxQuote::read(&evidence.quote)?.report_data().bytes().to_vec(),
            Self::Tpm(evidence) => Quote::read(&evidence.quote)?.extra_data.to_vec(),
        })
    }

    /// Returns whether the evidence binds `asked`: those bytes, and nothing but zeros behind them, since attesters fill
    /// `REPORT_DATA` up, and so do some with `extraData`.
    pub fn binds(&self, asked: &[u8]) -> Result<bool, NoReportData> {
        let bound = self.report_data()?;
        let rest = bound.strip_prefix(asked);
        Ok(rest.is_some_and(|rest| rest.iter().all(|byte| *byte == 0)))
    }
}
