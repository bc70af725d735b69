//! What is wanted of a quote.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use serde::{Deserialize, Serialize};

use super::finding::TpmFinding;
use super::{AkTrust, Hardware, Paravisor, TpmClaims, VouchedBy, pcrs};
use crate::Sha256;
use crate::event_log::{Digests, Register};
use crate::evidence::{Bytes, Genuine};

/// What a verifier wants of TPMs. The default trusts none: which confidential VMs may keep one, `paravisor` says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TpmPolicy {
    /// Attestation keys that are trusted as they are: SHA-256 of their `SubjectPublicKeyInfo`.
    pub keys: BTreeSet<Sha256>,
    /// Certificates in DER that those of attestation keys may lead to. There is none but these.
    pub roots: Vec<Bytes>,
    /// PCRs that must have been quoted, and that the event log, where there is one, must explain.
    pub pcrs: BTreeSet<u8>,
    /// The paravisors whose vTPMs are part of a confidential VM. Any other VM could vouch for a TPM in software.
    pub paravisor: Vec<Paravisor>,
    /// Accept TPMs that are not part of a confidential VM, if `keys` or `roots` vouch for them.
    pub allow_measured_boot: bool,
    /// Accept them also as builders of what follows a release that predicts launches on SEV-SNP or TDX.
    pub allow_weaker_than_predicted: bool,
}

/// PCRs of the firmware, and what kernels and UKIs are measured into.
const PCRS: [u8; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 11];

impl Default for TpmPolicy {
    fn default() -> Self {
        Self {
            keys: BTreeSet::new(),
            roots: Vec::new(),
            pcrs: PCRS.into(),
            paravisor: Vec::new(),
            allow_measured_boot: false,
            allow_weaker_than_predicted: false,
        }
    }
}

impl TpmPolicy {
    /// Returns whom the policy trusts to vouch for an AK; `hardware` is what came along and is genuine, if there is any.
    pub fn trust(&self, hardware: Option<Genuine<Hardware>>) -> AkTrust {
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
        let pcrs = self.pcrs.iter().filter_map(|pcr| finding(claims, *pcr));
        self.confidential(claims).into_iter().chain(pcrs).collect()
    }

    /// Returns why the TPM is not as confidential as the policy wants it.
    fn confidential(&self, claims: &TpmClaims) -> Option<TpmFinding> {
        match &claims.vouched_by {
            VouchedBy::Paravisor => None,
            VouchedBy::Hardware => Some(TpmFinding::TpmParavisorNotPinned { key: claims.key }),
            _ if self.allow_measured_boot => None,
            by => Some(TpmFinding::TpmNotConfidential { by: by.clone() }),
        }
    }

    /// Returns what this policy leaves unchecked that another could check, a line each.
    pub fn unchecked(&self) -> Vec<String> {
        let mut unchecked = vec!["whether certificates of attestation keys are revoked".into()];
        if self.allow_measured_boot {
            unchecked.push("whether the TPM is part of a confidential VM (allow-measured-boot)".into());
        }
        if self.allow_weaker_than_predicted {
            let what = "whether the builder could have been a confidential VM (allow-weaker-than-predicted)";
            unchecked.push(what.into());
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
