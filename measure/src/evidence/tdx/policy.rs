//! What is wanted of a genuine TD, apart from what it measures.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::attributes::{self, TdAttribute};
use super::{TcbStatus, TdxClaims, TdxFinding};
use crate::evidence::Genuine;

/// What of a TD and its platform is accepted: a TCB that is up to date by requirements that are recent enough, without
/// advisories; of the TD, attributes and features that are allowed by name or bit, and no others.
///
/// The default accepts no TD: how recent the requirements must be is for the verifier to say.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TdxPolicy {
    /// The lowest `tcbEvaluationDataNumber` of the collateral, without which no TD is accepted: a host could keep to old
    /// requirements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_tcb_evaluation: Option<u32>,
    /// TCB statuses that are accepted besides `UpToDate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_status: Vec<TcbStatus>,
    /// Advisories that may apply to the platform, such as `INTEL-SA-00837`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_advisories: Vec<String>,
    /// Attributes that the TD may have besides `SEPT_VE_DISABLE`, which it must have.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allow_attributes: BTreeSet<TdAttribute>,
    /// The bits of `XFAM` that may be set.
    pub allow_xfam: u64,
    /// Whether the host may debug or profile the TD.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub allow_debug: bool,
    /// Whether service TDs may be bound to the TD.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub allow_service_td: bool,
}

impl Default for TdxPolicy {
    fn default() -> Self {
        Self {
            minimum_tcb_evaluation: None,
            accept_status: Vec::new(),
            accept_advisories: Vec::new(),
            allow_attributes: BTreeSet::new(),
            allow_xfam: attributes::XFAM,
            allow_debug: false,
            allow_service_td: false,
        }
    }
}

impl TdxPolicy {
    /// Returns every reason why the policy refuses the TD; none if it accepts it.
    pub fn appraise(&self, td: &Genuine<TdxClaims>) -> Vec<TdxFinding> {
        let claims = td.claims();
        let advisories = claims.advisories.iter();
        let refused = advisories.filter(|advisory| !self.accept_advisories.contains(advisory));
        let advisories = refused.map(|advisory| TdxFinding::TdxAdvisoryNotAccepted {
            advisory: advisory.clone(),
        });
        let findings = self.age(claims).into_iter().chain(self.status(claims));
        findings.chain(advisories).chain(self.guest(claims)).collect()
    }

    /// Returns why the requirements that the platform was judged by may be too old.
    fn age(&self, claims: &TdxClaims) -> Option<TdxFinding> {
        let found = claims.tcb_evaluation;
        match self.minimum_tcb_evaluation {
            None => Some(TdxFinding::TdxNoMinimumTcb { found }),
            Some(minimum) if found < minimum => Some(TdxFinding::TdxEvaluationBelowMinimum { found, minimum }),
            Some(_) => None,
        }
    }

    /// Returns what of the TD itself the policy refuses.
    fn guest(&self, claims: &TdxClaims) -> Vec<TdxFinding> {
        let (td_attributes, xfam) = (claims.td_attributes, claims.xfam);
        let debug = (claims.is_debugged() && !self.allow_debug).then_some(TdxFinding::TdxDebug { td_attributes });
        let service = claims.service_td().filter(|_| !self.allow_service_td);
        let service = service.map(|mr_service_td| TdxFinding::TdxServiceTd {
            mr_service_td,
            td_attributes,
        });
        let refused = attributes::beyond(td_attributes, &self.allow_attributes);
        let attributes = (refused != 0).then_some(TdxFinding::TdxAttributesNotAllowed { td_attributes, refused });
        let refused = xfam & !self.allow_xfam;
        let xfam = (refused != 0).then_some(TdxFinding::TdxXfamNotAllowed { xfam, refused });
        [debug, service, attributes, xfam].into_iter().flatten().collect()
    }

    fn status(&self, claims: &TdxClaims) -> Option<TdxFinding> {
        let status = claims.tcb_status;
        let advisories = claims.advisories.clone();
        if status == TcbStatus::UpToDate || self.accept_status.contains(&status) {
            return None;
        }
        Some(if status.is_out_of_date() {
            TdxFinding::TdxOutOfDate {
                status,
                tcb_date: claims.tcb_date,
                advisories,
            }
        } else {
            TdxFinding::TdxStatusNotAccepted { status, advisories }
        })
    }

    /// Returns what the policy lets pass that the default would not, each in words.
    pub fn unchecked(&self) -> Vec<String> {
        let accepted = self
            .accept_status
            .iter()
            .filter(|status| **status != TcbStatus::UpToDate);
        let statuses = accepted.map(|status| format!("TDX: the TCB status {status} is accepted"));
        let advisories = self.accept_advisories.iter();
        let advisories = advisories.map(|advisory| format!("TDX: the advisory {advisory} is accepted"));
        let attributes = self.allow_attributes.iter();
        let attributes = attributes.map(|attribute| format!("TDX: the attribute {attribute:?} is accepted"));
        let more = self.allow_xfam & !attributes::XFAM;
        let xfam = (more != 0).then(|| format!("TDX: the features {more:#x} of XFAM are accepted"));
        let debug = self
            .allow_debug
            .then(|| "TDX: the host may debug and profile the TD".into());
        let service = self
            .allow_service_td
            .then(|| "TDX: service TDs may be bound to the TD".into());
        let guest = attributes.chain(xfam).chain(debug).chain(service);
        statuses.chain(advisories).chain(guest).collect()
    }
}
