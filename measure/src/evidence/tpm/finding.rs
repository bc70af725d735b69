//! What is wrong with a quote, and what is not as it was wanted.

use alloc::string::String;

use serde::Serialize;

use super::VouchedBy;
use crate::{Digest, Sha256};

/// Why a quote is not genuine, or not wanted. Digests are in hex; keys are named by the SHA-256 of their
/// `SubjectPublicKeyInfo`.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum TpmFinding {
    #[error("the {what} cannot be read: {why}")]
    TpmMalformed { what: &'static str, why: String },
    #[error(
        "the attestation key is {found}; accepted are RSA of 2048 to 4096 bits with an exponent from 65537, P-256 and P-384"
    )]
    TpmKeyRefused { found: String },
    #[error("{of} with {hash}, expected {expected}")]
    TpmHashRefused {
        of: &'static str,
        hash: String,
        expected: &'static str,
    },
    #[error("the signature of the quote is not that of the attestation key {key}")]
    TpmSignatureInvalid { key: Sha256 },
    #[error("PCR {pcr} of bank {bank} was quoted, but the evidence has no value for it of {size} bytes")]
    TpmPcrMissing { bank: String, pcr: u8, size: usize },
    #[error("the evidence has a value of PCR {pcr} of bank {bank}, which was not quoted")]
    TpmPcrUnvouched { bank: String, pcr: u8 },
    #[error("the digest of the quoted PCRs is {quoted}, but that of their values in the evidence is {computed}")]
    TpmPcrDigestDiffers { quoted: String, computed: String },
    #[error("the event log ends with PCR {pcr} at {replayed}, but it was quoted as {quoted}")]
    TpmLogDiffers { pcr: u8, quoted: String, replayed: String },
    #[error(
        "nothing vouches for the attestation key {key}: no genuine confidential VM binds it, no certificate leads to \
         a root of the policy, and the policy does not name it"
    )]
    TpmAkNotTrusted { key: Sha256 },
    #[error("certificate {position} of the attestation key, {subject}: {why}")]
    TpmCertificateInvalid {
        /// Its own is 1.
        position: usize,
        subject: String,
        why: String,
    },
    #[error("root {position} of the policy cannot be read: {why}")]
    TpmRootUnreadable { position: usize, why: String },
    #[error("the HCL report binds the attestation key {bound}, but the evidence has {key}")]
    TpmAkNotBound { bound: Sha256, key: Sha256 },
    #[error(
        "the run-time claims of the HCL report have the SHA-256 {claims}, but its hardware report has REPORT_DATA {report_data}"
    )]
    TpmHclClaimsDiffer { claims: Sha256, report_data: Digest<64> },
    #[error(
        "the hardware report in the HCL report has REPORT_DATA {embedded}, but the evidence of the hardware {hardware}"
    )]
    TpmHclHardwareDiffers { embedded: String, hardware: String },
    #[error("PCR {pcr} was not quoted, but the policy wants it")]
    TpmPcrNotQuoted { pcr: u8 },
    #[error("the policy wants PCR {pcr}, which holds {value}, but the event log has no event of it")]
    TpmPcrNotLogged { pcr: u8, value: String },
    #[error(
        "a confidential VM binds the attestation key {key}, but the policy does not pin the paravisor that runs there: \
         anybody's VM could; pin it with [[tpm.paravisor]], or accept a measured boot: name the key in keys and set \
         allow-measured-boot = true"
    )]
    TpmParavisorNotPinned { key: Sha256 },
    #[error(
        "{by}: that proves a measured boot, not a confidential VM; a policy can accept it with allow-measured-boot = true"
    )]
    TpmNotConfidential { by: VouchedBy },
}
