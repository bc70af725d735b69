//! What a genuine quote says.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use dcap_qvl::QuoteClaims;
use dcap_qvl::policy::PckIdentity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TdxFinding;
use super::attributes::{SERVTD_EXT, TUD};
use crate::evidence::TdxQuote;
use crate::{Digest, Sha256, Sha384};

/// What a genuine quote says of its TD, and Intel of the platform.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TdxClaims {
    /// `MRTD`, of what was in memory at launch.
    pub mrtd: Sha384,
    /// `RTMR0` to `RTMR3`.
    pub rtmrs: [Sha384; 4],
    /// `MRCONFIGID`, which the host chose at launch: of CoCo, the digest of the init-data.
    pub mr_config_id: Sha384,
    /// `MROWNER`, which the host chose at launch.
    pub mr_owner: Sha384,
    /// `MROWNERCONFIG`, which the host chose at launch.
    pub mr_owner_config: Sha384,
    /// `REPORTDATA`, which the guest chose.
    pub report_data: Digest<64>,
    /// `TDATTRIBUTES`.
    #[serde(serialize_with = "hexadecimal")]
    pub td_attributes: u64,
    /// `XFAM`, the extended features that the TD may use.
    #[serde(serialize_with = "hexadecimal")]
    pub xfam: u64,
    /// `MRSERVICETD`, of the service TDs bound to this one: zeros if there are none, nothing in a quote of TDX 1.0.
    pub mr_service_td: Option<Sha384>,
    /// `MRSEAM`, of the TDX module. Who signed the module is verified.
    pub mr_seam: Sha384,
    /// Of the platform, the TDX module and the quoting enclave together.
    pub tcb_status: TcbStatus,
    /// Intel's advisories that apply to the platform, such as `INTEL-SA-00837`; sorted.
    pub advisories: Vec<String>,
    /// The date of the TCB level that the platform reaches.
    pub tcb_date: Timestamp,
    /// `tcbEvaluationDataNumber` of the collateral, the lower one of TCB information and QE identity: Intel counts it up
    /// with each set of requirements.
    pub tcb_evaluation: u32,
    /// Kind of platform (family, model, stepping, platform and SKU).
    pub fmspc: Digest<6>,
    /// The platform itself: SHA-256 of its PPID and, where its certificate has one, its platform instance id.
    pub machine: Sha256,
    /// When the oldest and the newest part of the collateral were issued.
    pub collateral_issued: [Timestamp; 2],
    /// When the first part of the collateral expires.
    pub collateral_expires: Timestamp,
    /// Whether an event log came along; it replays to the RTMRs.
    pub event_log: bool,
}

impl TdxClaims {
    /// Returns the claims of a quote that was `vouched` for.
    pub(super) fn new(quote: &TdxQuote, vouched: &QuoteClaims, event_log: bool) -> Result<Self, TdxFinding> {
        let mut advisories = vouched.tcb.advisory_ids.clone();
        advisories.sort_unstable();
        Ok(Self {
            mrtd: quote.mrtd(),
            rtmrs: quote.rtmrs(),
            mr_config_id: quote.mr_config_id(),
            mr_owner: quote.mr_owner(),
            mr_owner_config: quote.mr_owner_config(),
            report_data: quote.report_data(),
            td_attributes: quote.td_attributes(),
            xfam: quote.xfam(),
            mr_service_td: quote.mr_service_td(),
            mr_seam: quote.mr_seam(),
            tcb_status: TcbStatus::of(vouched.tcb.status)?,
            advisories,
            tcb_date: time(vouched.platform.tcb_date_tag)?,
            tcb_evaluation: vouched.tcb.eval_data_number,
            fmspc: vouched.platform.pck.fmspc.into(),
            machine: machine(&vouched.platform.pck),
            collateral_issued: [time(vouched.earliest_issue_date)?, time(vouched.latest_issue_date)?],
            collateral_expires: time(vouched.earliest_expiration_date)?,
            event_log,
        })
    }

    /// Returns whether the host can look into the TD: a bit of the group `TUD` ("TD under debug") is set.
    pub const fn is_debugged(&self) -> bool {
        self.td_attributes & TUD != 0
    }

    /// Returns what service TDs are bound to the TD, which may see or change it, if there are any.
    pub fn service_td(&self) -> Option<Sha384> {
        let bound = self.mr_service_td.unwrap_or(Sha384::ZERO);
        (bound != Sha384::ZERO || self.td_attributes & SERVTD_EXT != 0).then_some(bound)
    }
}

fn machine(pck: &PckIdentity) -> Sha256 {
    let instance = pck.platform_instance_id.unwrap_or_default();
    Sha256::of([&pck.ppid[..], &instance].concat())
}

fn time(seconds: u64) -> Result<Timestamp, TdxFinding> {
    let seconds = i64::try_from(seconds).ok();
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.ok_or_else(|| TdxFinding::TdxCollateralMalformed {
        because: "a date is past the year 9999".into(),
    })
}

fn hexadecimal<S: serde::Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{number:#x}"))
}

/// How Intel judges the TCB of a platform, in its own words. `Revoked` is none of them: such a quote is not genuine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum TcbStatus {
    UpToDate,
    SWHardeningNeeded,
    ConfigurationNeeded,
    ConfigurationAndSWHardeningNeeded,
    /// The platform was updated after the TD was launched.
    TDRelaunchAdvised,
    TDRelaunchAdvisedConfigurationNeeded,
    OutOfDate,
    OutOfDateConfigurationNeeded,
}

impl TcbStatus {
    /// Returns whether the platform lacks updates that Intel has published.
    pub const fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }

    fn of(status: dcap_qvl::TcbStatus) -> Result<Self, TdxFinding> {
        use dcap_qvl::TcbStatus as Theirs;
        Ok(match status {
            Theirs::UpToDate => Self::UpToDate,
            Theirs::SWHardeningNeeded => Self::SWHardeningNeeded,
            Theirs::ConfigurationNeeded => Self::ConfigurationNeeded,
            Theirs::ConfigurationAndSWHardeningNeeded => Self::ConfigurationAndSWHardeningNeeded,
            Theirs::TDRelaunchAdvised => Self::TDRelaunchAdvised,
            Theirs::TDRelaunchAdvisedConfigurationNeeded => Self::TDRelaunchAdvisedConfigurationNeeded,
            Theirs::OutOfDate => Self::OutOfDate,
            Theirs::OutOfDateConfigurationNeeded => Self::OutOfDateConfigurationNeeded,
            Theirs::Revoked => {
                let because = "its TCB level is".into();
                return Err(TdxFinding::TdxRevoked { because });
            }
        })
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
