//! Why not to trust an attestation report.

use alloc::string::String;

use jiff::Timestamp;
use serde::Serialize;

use super::{SigningKey, SnpProduct, Tcb};
use crate::Digest;
use crate::snp::GuestPolicy;

/// One reason not to trust evidence of SEV-SNP; in JSON its `code` and the values. Offsets are in bytes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum SnpFinding {
    #[error("not an attestation report: {reason}")]
    SnpNotAReport { reason: String },
    #[error("SIGNATURE_ALGO of the report is {found}, expected 1, ECDSA on P-384 with SHA-384")]
    SnpAlgorithm { found: u32 },
    #[error("{field} at offset {offset:#x} of the report is {found:#x}, where its version has reserved bits")]
    SnpReservedBits {
        field: &'static str,
        offset: usize,
        found: u64,
    },
    #[error("the signature of the report is padded with {found:#x} at offset {offset:#x}, expected zeros")]
    SnpSignaturePadding { offset: usize, found: u8 },
    #[error("the host masks the chip's key: the report is signed by nobody")]
    SnpChipKeyMasked,
    #[error("the host masks CHIP_ID: no VCEK can be shown to be of the chip that made the report")]
    SnpChipIdMasked,
    #[error("the signing key of the report is neither a VCEK nor a VLEK")]
    SnpSigningKeyUnknown,
    #[error("the report is signed by a {report}, and the certificate is of a {certificate}")]
    SnpSigningKeyDiffers {
        report: SigningKey,
        certificate: SigningKey,
    },
    #[error("the report does not have the signature of the {key} in the certificate")]
    SnpSignatureInvalid { key: SigningKey },
    #[error("the report is of a CPU of family {family:#x}, model {model:#x}, which is no product known here")]
    SnpProductUnknown { family: u8, model: u8 },
    #[error(
        "the report is of version 2, which names no CPU, and the certificate names {name:?}, no product known here"
    )]
    SnpProductUnnamed { name: String },
    #[error("the report is of {report}, and the certificate of {certificate}")]
    SnpProductDiffers {
        report: SnpProduct,
        certificate: SnpProduct,
    },
    #[error("the certificate is of chip {certificate}, and the report of {report}")]
    SnpChipDiffers { report: Digest<64>, certificate: String },
    #[error("the certificate is for another TCB, {certificate}, than the report: {report}")]
    SnpTcbDiffers { report: Tcb, certificate: Tcb },
    #[error("the {older} TCB ({older_tcb}) is not covered by the {newer} one ({newer_tcb})")]
    SnpTcbOrder {
        older: &'static str,
        older_tcb: Tcb,
        newer: &'static str,
        newer_tcb: Tcb,
    },

    #[error("{found} {what} came along, expected {most} at most")]
    SnpTooMany {
        what: &'static str,
        found: usize,
        most: usize,
    },
    #[error("certificate {index} is not one: {reason}")]
    SnpCertificateMalformed { index: usize, reason: String },
    #[error("there is no certificate of the {key} that signed the report")]
    SnpCertificateMissing { key: SigningKey },
    #[error("the certificate of {subject} has no {extension} as expected")]
    SnpCertificateExtension { subject: String, extension: &'static str },
    #[error("the certificate of {subject} is not as one in its place has to be: {reason}")]
    SnpCertificateUnfit { subject: String, reason: &'static str },
    #[error("{subject} is certified by {found}, expected {expected}")]
    SnpIssuerDiffers {
        subject: String,
        found: String,
        expected: String,
    },
    #[error("the certificate of {subject} does not have the signature of {issuer}")]
    SnpCertificateSignature { subject: String, issuer: String },
    #[error("the certificate of {subject} is not valid before {not_before}, which is after {at}")]
    SnpCertificateNotYetValid {
        subject: String,
        not_before: Timestamp,
        at: Timestamp,
    },
    #[error("the certificate of {subject} has expired: it was valid until {not_after}, which is before {at}")]
    SnpCertificateExpired {
        subject: String,
        not_after: Timestamp,
        at: Timestamp,
    },
    #[error("the certificate of {subject}, serial number {serial}, is revoked")]
    SnpCertificateRevoked { subject: String, serial: String },
    #[error("{subject} certifies itself and is no root known here, whatever its name")]
    SnpRootForged { subject: String },
    #[error("no root of {product} is trusted here")]
    SnpRootUnknown { product: SnpProduct },

    #[error("list of revoked certificates {index} is not one: {reason}")]
    SnpCrlMalformed { index: usize, reason: String },
    #[error("list of revoked certificates {index} is of {found}, expected {expected}")]
    SnpCrlIssuer {
        index: usize,
        found: String,
        expected: String,
    },
    #[error("list of revoked certificates {index} does not have the signature of {issuer}")]
    SnpCrlSignature { index: usize, issuer: String },
    #[error("list of revoked certificates {index} is of {this_update}, which is after {at}")]
    SnpCrlNotYetValid {
        index: usize,
        this_update: Timestamp,
        at: Timestamp,
    },
    #[error("list of revoked certificates {index} was to be renewed by {next_update}, which is before {at}")]
    SnpCrlExpired {
        index: usize,
        next_update: Timestamp,
        at: Timestamp,
    },

    #[error("the policy of the guest, {found}, allows the host to debug it: to read and write its memory")]
    SnpDebug { found: GuestPolicy },
    #[error("the policy of the guest, {found}, allows a migration agent to move it")]
    SnpMigration { found: GuestPolicy },
    #[error("the policy of the guest, {found}, allows SMT")]
    SnpSmt { found: GuestPolicy },
    #[error("the policy of the guest, {found}, allows the host something that nobody accepts: {refused:#x}")]
    SnpPolicyNotAllowed { found: GuestPolicy, refused: u64 },
    #[error("the report was asked for at VMPL {found}, expected {expected}")]
    SnpVmpl { found: u32, expected: u32 },
    #[error(
        "the policy has no minimum-tcb for {product} under [snp], so that firmware of any age would do: this platform has \
         {found}"
    )]
    SnpNoMinimumTcb { product: SnpProduct, found: Tcb },
    #[error("the {which} TCB of {product} is {found}, expected at least {minimum}")]
    SnpTcbBelowMinimum {
        product: SnpProduct,
        which: &'static str,
        found: Tcb,
        minimum: Tcb,
    },
    #[error("the report is signed by a VLEK, which {csp_id} uses for all its chips, expected a VCEK")]
    SnpVlek { csp_id: String },
    #[error("no list of revoked certificates came along, expected that of the root")]
    SnpRevocationUnknown,
}
