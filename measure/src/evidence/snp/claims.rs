//! What a genuine report says.

use alloc::string::String;
use core::fmt;
use core::ops::Deref;

use serde::Serialize;

use super::{SnpProduct, SnpReport, Tcb};

/// A report, with what its endorsements add to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SnpClaims {
    pub(super) report: SnpReport,
    pub(super) product: SnpProduct,
    pub(super) key: SigningKey,
    pub(super) csp_id: Option<String>,
    pub(super) revocation_checked: bool,
}

/// The kinds of keys that sign reports.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigningKey {
    /// Versioned chip endorsement key: of one chip, for one TCB.
    Vcek,
    /// Versioned loaded endorsement key: of a cloud, for one TCB.
    Vlek,
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        })
    }
}

/// The versions of the platform in a report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Tcbs {
    /// That the signing key is derived for: none of the others is older, except that of the launch.
    pub reported: Tcb,
    /// When the guest was started.
    pub launch: Tcb,
    /// Below which the platform cannot go back.
    pub committed: Tcb,
    /// When the report was made.
    pub current: Tcb,
}

impl SnpClaims {
    /// Returns the product whose CPU made the report.
    pub const fn product(&self) -> SnpProduct {
        self.product
    }

    /// Returns the kind of the key that signed the report.
    pub const fn key(&self) -> SigningKey {
        self.key
    }

    /// Returns the name of the cloud whose VLEK signed the report (`CSP_ID`).
    pub fn csp_id(&self) -> Option<&str> {
        self.csp_id.as_deref()
    }

    /// Returns whether the root's list of revoked certificates came along.
    pub const fn is_revocation_checked(&self) -> bool {
        self.revocation_checked
    }

    /// Returns the versions of the platform.
    pub const fn tcbs(&self) -> Tcbs {
        self.report.tcbs(self.product)
    }
}

impl SnpReport {
    /// Returns the versions of the platform as a `product` has them.
    pub const fn tcbs(&self, product: SnpProduct) -> Tcbs {
        Tcbs {
            reported: Tcb::of(product, self.reported_tcb()),
            launch: Tcb::of(product, self.launch_tcb()),
            committed: Tcb::of(product, self.committed_tcb()),
            current: Tcb::of(product, self.current_tcb()),
        }
    }
}

impl Deref for SnpClaims {
    type Target = SnpReport;

    fn deref(&self) -> &SnpReport {
        &self.report
    }
}
