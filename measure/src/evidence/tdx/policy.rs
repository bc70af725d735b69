//! What is wanted of a genuine TD, apart from what it measures.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{TcbStatus, TdxClaims, TdxFinding};
use crate::evidence::Genuine;

/// What of a TD and its platform is accepted. The default accepts nothing but a TCB that is up to date, without
/// advisories, and a TD that neither the host nor another TD can look into.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TdxPolicy {
    /// TCB statuses that are accepted besides `UpToDate`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_status: Vec<TcbStatus>,
    /// Advisories that may apply to the platform, such as `INTEL-SA-00837`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub accept_advisories: Vec<String>,
    /// Whether the host may debug or profile the TD.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub allow_debug: bool,
    /// Whether service TDs may be bound to the TD.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub allow_service_td: bool,
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
        let debug = (claims.is_debugged() && !self.allow_debug).then_some(TdxFinding::TdxDebug {
            td_attributes: claims.td_attributes,
        });
        let service = claims.service_td().filter(|_| !self.allow_service_td);
        let service = service.map(|mr_service_td| TdxFinding::TdxServiceTd {
            mr_service_td,
            td_attributes: claims.td_attributes,
        });
        let findings = self.status(claims).into_iter().chain(advisories);
        findings.chain(debug).chain(service).collect()
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
        let debug = self
            .allow_debug
            .then(|| "TDX: the host may debug and profile the TD".into());
        let service = self
            .allow_service_td
            .then(|| "TDX: service TDs may be bound to the TD".into());
        statuses.chain(advisories).chain(debug).chain(service).collect()
    }
}
