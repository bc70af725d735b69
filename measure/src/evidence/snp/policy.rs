//! What is wanted of a genuine report, apart from what was measured.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{SigningKey, SnpClaims, SnpFinding, SnpProduct, Tcb};
use crate::evidence::Genuine;

/// What a platform and its guest must be like. The default asks for VMPL 0 and a VCEK, and allows neither debugging nor
/// migration; it accepts no platform, since how recent one must be is for the verifier to say. Launch digest, host data
/// and report data are not its business: they differ from build to build.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SnpPolicy {
    /// The oldest versions for each product, of the platform as it reports itself and as it was when the guest was started.
    /// A product without is not accepted.
    pub minimum_tcb: BTreeMap<SnpProduct, Tcb>,
    /// The privilege level that asked for the report.
    pub vmpl: u32,
    /// Whether the host may debug the guest, and so read its memory.
    pub allow_debug: bool,
    /// Whether a migration agent may move the guest.
    pub allow_migration: bool,
    /// Whether the guest may share a core. Not checked unless given.
    pub allow_smt: Option<bool>,
    /// Whether a cloud's key may have signed the report, which names no chip.
    pub allow_vlek: bool,
    /// Whether the root's list of revoked certificates has to come along.
    pub require_crl: bool,
}

impl SnpPolicy {
    /// Returns why a genuine report is not what is wanted; nothing if it is.
    pub fn appraise(&self, report: &Genuine<SnpClaims>) -> Vec<SnpFinding> {
        let claims = report.claims();
        let mut findings = self.guest(claims);
        findings.extend(self.tcbs(claims));
        if let (SigningKey::Vlek, false) = (claims.key(), self.allow_vlek) {
            let csp_id = claims.csp_id().unwrap_or_default().to_string();
            findings.push(SnpFinding::SnpVlek { csp_id });
        }
        if self.require_crl && !claims.is_revocation_checked() {
            findings.push(SnpFinding::SnpRevocationUnknown);
        }
        findings
    }

    /// Returns what this policy leaves unchecked or allows beyond the default, in a few words each.
    pub fn unchecked(&self) -> Vec<String> {
        let mut unchecked = Vec::new();
        if self.vmpl != 0 {
            unchecked.push(format!(
                "SNP: reports are of VMPL {}, not of the most privileged one",
                self.vmpl
            ));
        }
        let smt = self.allow_smt != Some(false);
        for (allowed, what) in [
            (self.allow_debug, "the host may debug the guest, and so read its memory"),
            (self.allow_migration, "a migration agent may move the guest"),
            (smt, "the guest may share a core (SMT)"),
            (
                self.allow_vlek,
                "a cloud's key (VLEK) may sign reports, which then name no chip",
            ),
            (
                !self.require_crl,
                "whether AMD has revoked a certificate, unless its list comes along",
            ),
        ] {
            if allowed {
                unchecked.push(format!("SNP: {what}"));
            }
        }
        unchecked
    }

    fn guest(&self, claims: &SnpClaims) -> Vec<SnpFinding> {
        let (found, mut findings) = (claims.policy(), Vec::new());
        if found.allows_debug() && !self.allow_debug {
            findings.push(SnpFinding::SnpDebug { found });
        }
        if found.allows_migration() && !self.allow_migration {
            findings.push(SnpFinding::SnpMigration { found });
        }
        if found.allows_smt() && self.allow_smt == Some(false) {
            findings.push(SnpFinding::SnpSmt { found });
        }
        let refused = found.other_permissions();
        if refused != 0 {
            findings.push(SnpFinding::SnpPolicyNotAllowed { found, refused });
        }
        if claims.vmpl() != self.vmpl {
            let (found, expected) = (claims.vmpl(), self.vmpl);
            findings.push(SnpFinding::SnpVmpl { found, expected });
        }
        findings
    }

    fn tcbs(&self, claims: &SnpClaims) -> Vec<SnpFinding> {
        let product = claims.product();
        let tcbs = claims.tcbs();
        let Some(&minimum) = self.minimum_tcb.get(&product) else {
            let found = tcbs.reported;
            return vec![SnpFinding::SnpNoMinimumTcb { product, found }];
        };
        // nothing is older than what is reported, but the guest may have been started by something older
        let checked = [("reported", tcbs.reported), ("launch", tcbs.launch)];
        let old = checked.into_iter().filter(|(_, found)| !found.is_at_least(minimum));
        old.map(|(which, found)| SnpFinding::SnpTcbBelowMinimum {
            product,
            which,
            found,
            minimum,
        })
        .collect()
    }
}
