//! Reasons not to trust a TD.

use alloc::string::String;
use alloc::vec::Vec;

use jiff::Timestamp;
use serde::Serialize;

use super::TcbStatus;
use crate::Sha384;
use crate::event_log::Register;

/// One reason not to trust a TD. Its code in JSON is the name of the variant in kebab case.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum TdxFinding {
    #[error("the TDX quote cannot be read: {because}")]
    TdxQuoteMalformed { because: String },
    #[error("the evidence is {found}, expected an ECDSA quote of a TD, version 4 or 5")]
    TdxQuoteUnsupported { found: String },
    #[error("{size} bytes follow the TDX quote at offset {offset:#x} that are not zero, and nobody signed them")]
    TdxTrailingBytes { offset: usize, size: usize },
    #[error("the TDX quote comes without collateral (TCB information, QE identity, CRLs), so its TCB cannot be judged")]
    TdxCollateralMissing,
    #[error("the collateral of the TDX quote cannot be read: {because}")]
    TdxCollateralMalformed { because: String },
    #[error("the collateral is for {what} {collateral}, the TDX quote is of {what} {quote}")]
    TdxCollateralDiffers {
        what: &'static str,
        collateral: String,
        quote: String,
    },
    #[error("{what} of the collateral expired at {expired}, before {at}, the time of verification")]
    TdxCollateralExpired {
        what: &'static str,
        expired: Timestamp,
        at: Timestamp,
    },
    #[error("{what} of the collateral was issued at {issued}, after {at}, the time of verification")]
    TdxCollateralNotYetValid {
        what: &'static str,
        issued: Timestamp,
        at: Timestamp,
    },
    #[error("a certificate of the TDX quote or its collateral is not valid at the time of verification: {because}")]
    TdxCertificateNotValid { because: String },
    #[error("the signatures of the TDX quote and its collateral do not chain to the root: {because}")]
    TdxSignatureInvalid { because: String },
    #[error("the platform of the TD is revoked: {because}")]
    TdxRevoked { because: String },
    #[error("the collateral knows no TCB level as old as that of the platform of the TD: {because}")]
    TdxTcbUnknown { because: String },
    #[error("the TD has attributes that no policy accepts: {because}")]
    TdxAttributesRefused { because: String },
    #[error("the event log of the TD cannot be read: {because}")]
    TdxLogMalformed { because: String },
    #[error("the event log of the TD replays to {log} in {register}, the quote says {quote}")]
    TdxLogDiffers {
        register: Register,
        log: Sha384,
        quote: Sha384,
    },
    #[error("the platform of the TD is out of date ({status}, TCB of {tcb_date}; {})", listed(.advisories))]
    TdxOutOfDate {
        status: TcbStatus,
        tcb_date: Timestamp,
        advisories: Vec<String>,
    },
    #[error("the TCB status of the TD is {status} and the policy does not accept it ({})", listed(.advisories))]
    TdxStatusNotAccepted { status: TcbStatus, advisories: Vec<String> },
    #[error(
        "the policy has no minimum-tcb-evaluation under [tdx], so that requirements of any age would do: those that the \
         platform of the TD was judged by have tcbEvaluationDataNumber {found}"
    )]
    TdxNoMinimumTcb { found: u32 },
    #[error(
        "the platform of the TD was judged by requirements that are too old: tcbEvaluationDataNumber {found}, expected \
         at least {minimum}"
    )]
    TdxEvaluationBelowMinimum { found: u32, minimum: u32 },
    #[error("{advisory} applies to the platform of the TD and the policy does not accept it")]
    TdxAdvisoryNotAccepted { advisory: String },
    #[error(
        "the host can read and write the memory of the TD, or profile it: its attributes are {td_attributes:#018x}"
    )]
    TdxDebug { td_attributes: u64 },
    #[error(
        "service TDs are bound to the TD: MRSERVICETD is {mr_service_td}, its attributes are {td_attributes:#018x}"
    )]
    TdxServiceTd { mr_service_td: Sha384, td_attributes: u64 },
    #[error(
        "the TD has attributes that the policy does not allow: {refused:#x} of {td_attributes:#018x}; allow-attributes \
         under [tdx] can name lass, pks, key-locker and perfmon"
    )]
    TdxAttributesNotAllowed { td_attributes: u64, refused: u64 },
    #[error("the TD may use features that the policy does not allow: {refused:#x} of its XFAM {xfam:#x}")]
    TdxXfamNotAllowed { xfam: u64, refused: u64 },
}

fn listed(advisories: &[String]) -> String {
    match advisories {
        [] => "no advisories".into(),
        _ => advisories.join(", "),
    }
}

impl TdxFinding {
    /// Returns the finding for what `dcap-qvl` refused. It says why in a text only; a text that is not known here is
    /// still a refusal.
    pub(super) fn of_refusal(because: String) -> Self {
        let says = |texts: &[&str]| texts.iter().any(|text| because.contains(text));
        if says(&["Revoked"]) {
            Self::TdxRevoked { because }
        } else if says(&["CertExpired", "CertNotValidYet"]) {
            Self::TdxCertificateNotValid { because }
        } else if says(TCB_UNKNOWN) {
            Self::TdxTcbUnknown { because }
        } else if says(ATTRIBUTES) {
            Self::TdxAttributesRefused { because }
        } else {
            Self::TdxSignatureInvalid { because }
        }
    }
}

/// What `dcap-qvl` 0.7.1 says of a platform older than every level, and of modules that the collateral does not name.
const TCB_UNKNOWN: &[&str] = &[
    "No matching TCB level",
    "No TDX module identity",
    "is below minimum required",
    "TDX module identity check",
    "TDX module TCB level check",
];

/// What `dcap-qvl` 0.7.1 says of attributes of TDs.
const ATTRIBUTES: &[&str] = &[
    "TD attributes",
    "TD migration",
    "SEPT_VE_DISABLE",
    "SERVTD_EXT",
    "Debug mode",
];
