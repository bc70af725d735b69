//! What is wanted of a quote.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use serde::Deserialize;

use super::finding::TpmFinding;
use super::{AkTrust, TpmClaims, VouchedBy, pcrs};
use crate::event_log::{Digests, Register};
use crate::evidence::{Bytes, Genuine};
use crate::{Digest, Sha256};

/// What a verifier wants of TPMs. The default trusts none that is not part of a confidential VM.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TpmPolicy {
    /// Attestation keys that are trusted as they are: SHA-256 of their `SubjectPublicKeyInfo`.
    pub keys: BTreeSet<Sha256>,
    /// Certificates in DER that those of attestation keys may lead to. There is none but these.
    pub roots: Vec<Bytes>,
    /// PCRs that must have been quoted, and that the event log, where there is one, must explain.
    pub pcrs: BTreeSet<u8>,
    /// Accept TPMs that are not part of a confidential VM.
    pub allow_measured_boot: bool,
}

/// PCRs of the firmware, and what kernels and UKIs are measured into.
const PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11];

impl Default for TpmPolicy {
    fn default() -> Self {
        Self {
            keys: BTreeSet::new(),
            roots: Vec::new(),
            pcrs: PCRS.into(),
            allow_measured_boot: false,
        }
    }
}

impl TpmPolicy {
    /// Returns whom the policy trusts to vouch for an AK. `hardware` is `REPORT_DATA` of genuine evidence of the
    /// hardware, if there is any.
    pub fn trust(&self, hardware: Option<Genuine<Digest<64>>>) -> AkTrust {
        AkTrust {
            keys: self.keys.clone(),
            roots: self.roots.clone(),
            hardware,
        }
    }

    /// Returns in what the claims are not as the policy wants them. Values of PCRs are not looked at: reference values
    /// are for that.
    pub fn appraise(&self, claims: &Genuine<TpmClaims>) -> Vec<TpmFinding> {
        let claims = claims.claims();
        let mut findings = Vec::new();
        if !self.allow_measured_boot && claims.vouched_by != VouchedBy::Hcl {
            findings.push(TpmFinding::TpmNotConfidential {
                by: claims.vouched_by.clone(),
            });
        }
        findings.extend(self.pcrs.iter().filter_map(|pcr| finding(claims, *pcr)));
        findings
    }

    /// Returns what this policy leaves unchecked that another could check, a line each.
    pub fn unchecked(&self) -> Vec<String> {
        let mut unchecked = vec!["whether certificates of attestation keys are revoked".into()];
        if self.allow_measured_boot {
            unchecked.push("whether the TPM is part of a confidential VM (allow-measured-boot)".into());
        }
        let missing = PCRS.iter().filter(|pcr| !self.pcrs.contains(pcr));
        unchecked.extend(missing.map(|pcr| format!("whether PCR {pcr} was quoted (pcrs)")));
        unchecked
    }
}

/// Returns what is wrong with a PCR that is wanted.
fn finding(claims: &TpmClaims, pcr: u8) -> Option<TpmFinding> {
    let Some(value) = claims.pcrs.get(&pcr) else {
        return Some(TpmFinding::TpmPcrNotQuoted { pcr });
    };
    let log = claims.event_log.as_ref()?;
    let silent = log.of(Register::Pcr(pcr)).next().is_none() && !value.agree(&Digests::ZERO);
    silent.then(|| TpmFinding::TpmPcrNotLogged {
        pcr,
        value: pcrs::shown(value),
    })
}
