//! Verification of TDX quotes: what Intel vouches for, by its root, at a time that the caller names.
//!
//! `dcap-qvl` does the cryptography and matches the TCB; here is what it takes at face value. No clock and no network:
//! the collateral is part of the evidence.

mod attributes;
mod claims;
mod collateral;
mod finding;
mod log;
mod policy;
mod quote;

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use dcap_qvl::configs::RustCryptoConfig;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::{QuoteClaims, QuotePolicy};
use jiff::Timestamp;

pub use attributes::TdAttribute;
pub use claims::{TcbStatus, TdxClaims};
pub use finding::TdxFinding;
pub use policy::TdxPolicy;

use super::{Genuine, TdxEvidence, TdxQuote};
use collateral::Collateral;

/// Who is trusted to vouch for TDs.
#[derive(Clone, Copy, Debug)]
pub struct TdxRoot<'a>(Option<&'a [u8]>);

impl TdxRoot<'static> {
    /// "Intel SGX Root CA", the one that `dcap-qvl` carries.
    pub const INTEL: Self = Self(None);
}

impl<'a> TdxRoot<'a> {
    /// Returns the root of a simulated vendor: its self-signed certificate in DER. For tests only: no flag and no file
    /// of the released binary leads here.
    pub const fn simulated(certificate: &'a [u8]) -> Self {
        Self(Some(certificate))
    }

    fn verifier(self) -> QuoteVerifier<RustCryptoConfig> {
        match self.0 {
            None => QuoteVerifier::new_prod().with_config(),
            Some(certificate) => QuoteVerifier::new_with_config(certificate.to_vec()),
        }
    }
}

impl TdxEvidence {
    /// Returns what the quote claims, if `root` vouched for it as of the time `at`: the quote is of a TD, in version 4 or
    /// 5, its signatures chain to the root, no certificate is revoked, the collateral is for this platform and of that
    /// time, and the event log, where there is one, replays to the RTMRs.
    ///
    /// Whether the TCB is recent enough, and whether the TD may be debugged, is for [`TdxPolicy::appraise`] to say; TDs
    /// that can migrate, or whose page-table violations the host can turn into exceptions, are refused here.
    ///
    /// # Errors
    /// Every finding, at least one.
    pub fn verify(&self, root: TdxRoot, at: Timestamp) -> Result<Genuine<TdxClaims>, Vec<TdxFinding>> {
        let quote = quote::whole(&self.quote).map_err(|finding| vec![finding])?;
        let findings = log::differences(self.event_log.as_deref(), &quote);
        let claims = self.vouched_for(&quote, root, at).and_then(|vouched| {
            let claims = TdxClaims::new(&quote, &vouched, self.event_log.is_some());
            claims.map_err(|finding| vec![finding])
        });
        match claims {
            Ok(claims) if findings.is_empty() => Ok(Genuine(claims)),
            Ok(_) => Err(findings),
            Err(refusals) => Err([refusals, findings].concat()),
        }
    }

    /// Returns what `dcap-qvl` says of the quote.
    fn vouched_for(&self, quote: &TdxQuote<'_>, root: TdxRoot, at: Timestamp) -> Result<QuoteClaims, Vec<TdxFinding>> {
        let collateral = Collateral::read(self.collateral.as_deref()).map_err(|finding| vec![finding])?;
        let mut findings = collateral.not_of(at);
        findings.extend(collateral.not_for(&self.quote));
        if !findings.is_empty() {
            return Err(findings);
        }
        if !quote::is_signed(&self.quote, quote.signed_size()) {
            let because = "the attestation key of the quote has not signed it".into();
            return Err(vec![TdxFinding::TdxSignatureInvalid { because }]);
        }
        let seconds = at.as_second().max(0).unsigned_abs();
        // it would refuse debug TDs and service TDs with a text: our policy refuses them with a finding
        let verifier = root.verifier().allow_debug(true).allow_service_td(true);
        let everything = QuotePolicy::claims_only(seconds);
        verifier
            .verify_with_policy(&self.quote, collateral.into_whole(), seconds, &everything)
            .map_err(|error| vec![TdxFinding::of_refusal(format!("{error:#}"))])
    }
}
