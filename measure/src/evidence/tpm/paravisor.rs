//! Paravisors: what runs at the top of a confidential VM, below its guest, and keeps the guest's vTPM.
//!
//! Anybody can start a confidential VM that vouches for the key of a TPM in software. So a vTPM is worth what its VM was
//! launched with, and a policy pins that by what the hardware reports of it.

use serde::{Deserialize, Serialize};

use crate::evidence::Genuine;
use crate::evidence::snp::SnpClaims;
use crate::evidence::tdx::TdxClaims;
use crate::{Digest, Sha384};

/// The launch of a paravisor, as a policy pins it: everything in it must be as reported.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(
    tag = "platform",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Paravisor {
    /// On SEV-SNP, where it runs at VMPL 0: a report of another level is one that its guest asked for.
    Snp {
        /// `MEASUREMENT`.
        measurement: Sha384,
        /// `ID_KEY_DIGEST`, of the key that signed its ID block.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id_key_digest: Option<Sha384>,
    },
    /// On TDX.
    Tdx {
        mrtd: Sha384,
        /// `RTMR0` to `RTMR3`: zeros, where a paravisor measures nothing into them.
        rtmrs: [Sha384; 4],
    },
}

/// Genuine hardware that came with the report of a paravisor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hardware {
    /// `REPORT_DATA`, to which the paravisor ties its vTPM.
    pub(super) report_data: Digest<64>,
    /// Whether the policy pins what the VM was launched with.
    pub(super) is_pinned: bool,
}

impl Hardware {
    /// Returns what a guest of SEV-SNP binds, and whether it was launched as one of `pins`.
    pub fn of_snp(report: &Genuine<SnpClaims>, pins: &[Paravisor]) -> Genuine<Self> {
        let claims = report.claims();
        Genuine(Self {
            report_data: claims.report_data(),
            is_pinned: pins.iter().any(|pin| pin.is_snp(claims)),
        })
    }

    /// Returns what a TD binds, and whether it was launched as one of `pins`.
    pub fn of_tdx(td: &Genuine<TdxClaims>, pins: &[Paravisor]) -> Genuine<Self> {
        let claims = td.claims();
        Genuine(Self {
            report_data: claims.report_data,
            is_pinned: pins.iter().any(|pin| pin.is_tdx(claims)),
        })
    }

    /// Returns whether the policy pins what the VM was launched with.
    pub const fn is_pinned(&self) -> bool {
        self.is_pinned
    }
}

impl Paravisor {
    fn is_snp(&self, report: &SnpClaims) -> bool {
        let Self::Snp {
            measurement,
            id_key_digest,
        } = self
        else {
            return false;
        };
        report.vmpl() == 0
            && report.measurement() == *measurement
            && id_key_digest.is_none_or(|digest| report.id_key_digest() == digest)
    }

    fn is_tdx(&self, td: &TdxClaims) -> bool {
        matches!(self, Self::Tdx { mrtd, rtmrs } if td.mrtd == *mrtd && td.rtmrs == *rtmrs)
    }
}
