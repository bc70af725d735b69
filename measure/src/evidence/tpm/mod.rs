//! Quotes of a TPM 2.0: TPM 2.0 Library 1.59.
//!
//! A quote is worth what vouches for its key. Only a paravisor that the policy pins ties it to a confidential VM; a
//! certificate or a policy that names the key says which TPM it was, which may be software on anybody's machine.

mod algorithm;
mod certificate;
mod fields;
mod finding;
pub mod hcl;
pub(super) mod key;
mod paravisor;
mod pcrs;
mod policy;
pub mod quote;
pub mod signature;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString as _;
use alloc::vec::Vec;
use core::fmt;

use jiff::Timestamp;
use serde::Serialize;

pub use algorithm::HashId;
pub use finding::TpmFinding;
pub use hcl::{HclHardware, HclReport};
pub use paravisor::{Hardware, Paravisor};
pub use policy::TpmPolicy;
pub use quote::Quote;
pub use signature::Signature;

use super::{Bytes, Evidence, Genuine, HclEvidence, TpmEvidence};
use crate::event_log::{Digests, EventLog};
use crate::{FieldError, Sha256};
use key::Key;

/// Who may vouch for an attestation key (AK). There is nobody else.
#[derive(Clone, Debug, Default)]
pub struct AkTrust {
    /// Keys that are trusted as they are: SHA-256 of their `SubjectPublicKeyInfo`.
    pub keys: BTreeSet<Sha256>,
    /// Certificates in DER that those of an AK may lead to.
    pub roots: Vec<Bytes>,
    /// The hardware whose evidence came with the HCL's report, if that is genuine.
    pub hardware: Option<Genuine<Hardware>>,
}

/// What a quote says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TpmClaims {
    /// `extraData`, which the caller chose.
    pub extra_data: Bytes,
    /// What the quoted PCRs held, in the banks SHA-256 and SHA-384.
    pub pcrs: BTreeMap<u8, Digests>,
    /// The attestation key: SHA-256 of its `SubjectPublicKeyInfo`.
    pub key: Sha256,
    /// Why the key is trusted.
    pub vouched_by: VouchedBy,
    pub firmware_version: u64,
    /// For how long the TPM has been running, over all its life, in milliseconds.
    pub clock: u64,
    /// How often the TPM was reset: once a boot.
    pub reset_count: u32,
    /// How often it was resumed since.
    pub restart_count: u32,
    /// The log of the firmware, which replays to the quoted PCRs, with the events of systemd that PCR 11 shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_log: Option<EventLog>,
}

/// Why an attestation key is trusted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VouchedBy {
    /// A genuine confidential VM binds it, which runs a paravisor that the policy pins.
    Paravisor,
    /// A genuine confidential VM binds it, and the policy does not say what may run there: it is anybody's.
    Hardware,
    /// Certificates lead to this root, named by the SHA-256 of its DER: a measured boot.
    Certificate { root: Sha256 },
    /// The policy names it: a measured boot, and the TPM may be software.
    Key { key: Sha256 },
}

impl fmt::Display for VouchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paravisor => f.write_str("a paravisor that the policy pins binds the attestation key"),
            Self::Hardware => f.write_str("a confidential VM that the policy does not pin binds the attestation key"),
            Self::Certificate { root } => write!(f, "certificates of the attestation key lead to the root {root}"),
            Self::Key { key } => write!(
                f,
                "the policy names the attestation key {key}, which may be of software"
            ),
        }
    }
}

impl TpmEvidence {
    /// Returns what the quote says, if an AK that is trusted signed it at all, the values of PCRs are those that were
    /// quoted, and the event log, where there is one, replays to them. `at` is when certificates must be valid.
    ///
    /// What the AK must not be trusted for is [`TpmPolicy::appraise`]'s to say.
    ///
    /// # Errors
    /// All that contradicts it.
    pub fn verify(&self, trust: &AkTrust, at: Timestamp) -> Result<Genuine<TpmClaims>, Vec<TpmFinding>> {
        let quote = Quote::read(&self.quote).map_err(|error| alloc::vec![malformed("quote", &error)])?;
        let signature =
            Signature::read(&self.signature).map_err(|error| alloc::vec![malformed("signature", &error)])?;
        let key = Key::read(&self.ak).map_err(|finding| alloc::vec![finding])?;
        let mut findings = Vec::new();
        findings.extend(signature_finding(&key, signature, &self.quote));
        let vouched_by = self.vouched_by(&key, trust, at);
        let pcrs = pcrs::quoted(&self.pcrs, &quote, signature.hash);
        let log = self.event_log.as_ref().zip(pcrs.as_ref().ok());
        let log = log.map(|(log, pcrs)| pcrs::explained(log, pcrs)).transpose();
        findings.extend(pcrs.as_ref().err().into_iter().flatten().cloned());
        findings.extend(log.as_ref().err().cloned());
        findings.extend(vouched_by.as_ref().err().into_iter().flatten().cloned());
        match (pcrs, log, vouched_by) {
            (Ok(pcrs), Ok(event_log), Ok(vouched_by)) if findings.is_empty() => Ok(Genuine(TpmClaims {
                extra_data: quote.extra_data.to_vec().into(),
                pcrs,
                key: key.digest(),
                vouched_by,
                firmware_version: quote.firmware_version,
                clock: quote.clock,
                reset_count: quote.reset_count,
                restart_count: quote.restart_count,
                event_log,
            })),
            _ => Err(findings),
        }
    }

    /// Returns the strongest reason to trust the key. An HCL report that contradicts itself or the key is none, and no
    /// other reason makes up for it.
    fn vouched_by(&self, key: &Key, trust: &AkTrust, at: Timestamp) -> Result<VouchedBy, Vec<TpmFinding>> {
        let hardware = self.hardware(key, trust).map_err(|finding| alloc::vec![finding])?;
        if hardware == Some(VouchedBy::Paravisor) {
            return Ok(VouchedBy::Paravisor);
        }
        let mut findings = Vec::new();
        if !self.ak_certificates.is_empty() && !trust.roots.is_empty() {
            match certificate::root(key, &self.ak_certificates, &trust.roots, at) {
                Ok(root) => return Ok(VouchedBy::Certificate { root }),
                Err(finding) => findings.push(finding),
            }
        }
        let key = key.digest();
        if trust.keys.contains(&key) {
            return Ok(VouchedBy::Key { key });
        }
        hardware.ok_or_else(|| {
            findings.insert(0, TpmFinding::TpmAkNotTrusted { key });
            findings
        })
    }

    /// Returns how the hardware that came along vouches for the key, if there is any and it is genuine.
    fn hardware(&self, key: &Key, trust: &AkTrust) -> Result<Option<VouchedBy>, TpmFinding> {
        let Some(hcl) = &self.hcl else {
            return Ok(None);
        };
        hcl.binds(key)?;
        let Some(hardware) = &trust.hardware else {
            return Ok(None);
        };
        hcl.is_of(hardware)?;
        Ok(Some(match hardware.claims().is_pinned {
            true => VouchedBy::Paravisor,
            false => VouchedBy::Hardware,
        }))
    }
}

impl HclEvidence {
    /// Checks that the report binds the key. Whether the hardware's is genuine is not looked at.
    fn binds(&self, key: &Key) -> Result<(), TpmFinding> {
        let report = HclReport::read(&self.report).map_err(|error| malformed("HCL report", &error))?;
        report.binds_claims()?;
        let bound = report.key()?;
        let finding = || TpmFinding::TpmAkNotBound {
            bound: bound.digest(),
            key: key.digest(),
        };
        (bound == *key).then_some(()).ok_or_else(finding)
    }

    /// Checks that genuine evidence of the hardware is over the same as the report that is in there, and that the bytes
    /// of a report that travels twice are the same.
    fn is_of(&self, hardware: &Genuine<Hardware>) -> Result<(), TpmFinding> {
        let report = HclReport::read(&self.report).map_err(|error| malformed("HCL report", &error))?;
        let (embedded, hardware) = (report.report_data(), hardware.claims().report_data);
        let same = match (&report.hardware, &*self.hardware) {
            (HclHardware::Snp(embedded), Evidence::Snp(evidence)) => **embedded == *evidence.report,
            (HclHardware::Tdx(_), Evidence::Tdx(_)) => true,
            _ => false,
        };
        let finding = || TpmFinding::TpmHclHardwareDiffers {
            embedded: embedded.to_string(),
            hardware: hardware.to_string(),
        };
        (same && embedded == hardware).then_some(()).ok_or_else(finding)
    }
}

/// Returns what is wrong with the signature of a quote.
fn signature_finding(key: &Key, signature: Signature, quote: &[u8]) -> Option<TpmFinding> {
    if signature.hash.digest(&[]).is_none() {
        return Some(TpmFinding::TpmHashRefused {
            of: "the quote is signed",
            hash: signature.hash.name().into(),
            expected: "sha256, sha384 or sha512",
        });
    }
    let valid = key.verifies(signature, quote);
    (!valid).then(|| TpmFinding::TpmSignatureInvalid { key: key.digest() })
}

fn malformed(what: &'static str, error: &FieldError) -> TpmFinding {
    let why = error.to_string();
    TpmFinding::TpmMalformed { what, why }
}
