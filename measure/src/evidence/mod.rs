//! Evidence: what the TEE of a VM says about it, with what it takes to verify that years later, without a network.
//!
//! Evidence is untrusted bytes, and a reader such as [`SnpReport::read`] trusts nothing: whoever made the bytes chose every
//! field. What is [`Genuine`] has signatures that chain to a vendor's root; whether it is also what was wanted is for
//! appraisal to say.

mod bytes;
pub mod coco;
mod pem;
mod report_data;
pub mod snp;
pub mod tdx;
pub mod tdx_quote;
pub mod tpm;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use bytes::Bytes;
pub use pem::{NoPem, certificates};
pub use report_data::NoReportData;
pub use snp::{AmdRoots, SnpClaims, SnpFinding, SnpPolicy, SnpReport};
pub use tdx::{TcbStatus, TdxClaims, TdxFinding, TdxPolicy, TdxRoot};
pub use tdx_quote::TdxQuote;
pub use tpm::{AkTrust, Hardware, Paravisor, TpmClaims, TpmFinding, TpmPolicy};

/// Evidence of one platform and its endorsements, as it travels in a release.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "platform", rename_all = "kebab-case")]
pub enum Evidence {
    Snp(SnpEvidence),
    Tdx(TdxEvidence),
    Tpm(TpmEvidence),
}

/// An attestation report of SEV-SNP with its certificates.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SnpEvidence {
    /// The raw report, 1184 bytes.
    pub report: Bytes,
    /// Certificates in DER, in any order: the VCEK or VLEK, and where they came along, those above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Bytes>,
    /// Lists of revoked certificates, in DER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crls: Vec<Bytes>,
}

/// A quote of TDX with its collateral.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TdxEvidence {
    /// The raw quote.
    pub quote: Bytes,
    /// TCB information, QE identity and CRLs with their chains, as JSON (`QuoteCollateralV3`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collateral: Option<Bytes>,
    /// The CCEL, which explains the RTMRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Bytes>,
}

/// A quote of a TPM 2.0.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TpmEvidence {
    /// What was signed: `TPMS_ATTEST`.
    pub quote: Bytes,
    /// `TPMT_SIGNATURE`.
    pub signature: Bytes,
    /// The values of the quoted PCRs by bank, as the TCG names its hash (`sha256`), and index.
    #[serde(deserialize_with = "banks")]
    pub pcrs: BTreeMap<String, BTreeMap<u8, Bytes>>,
    /// The log of the firmware, which explains the PCRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_log: Option<Bytes>,
    /// The public part of the attestation key (AK): `SubjectPublicKeyInfo` in DER.
    pub ak: Bytes,
    /// Certificates in DER that vouch for the AK, its own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ak_certificates: Vec<Bytes>,
    /// Azure's paravisor (HCL), which binds the AK to a confidential VM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hcl: Option<HclEvidence>,
}

/// Reads PCRs by their index. Keys of JSON are text, which serde takes for numbers only where no tag stands before them.
fn banks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, BTreeMap<u8, Bytes>>, D::Error> {
    use serde::de::Error as _;
    type Named<T> = BTreeMap<String, T>;
    let index = |(index, value): (String, Bytes)| {
        let number = index
            .parse()
            .map_err(|_| D::Error::custom("a PCR has a number below 256"));
        number.map(|number: u8| (number, value))
    };
    let banks = Named::<Named<Bytes>>::deserialize(deserializer)?.into_iter();
    let bank = |(name, values): (_, Named<Bytes>)| Ok((name, values.into_iter().map(index).collect::<Result<_, _>>()?));
    banks.map(bank).collect()
}

/// What ties the AK of Azure's vTPM to a confidential VM.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HclEvidence {
    /// The HCL report: a header, the report of the hardware, and the run-time claims that its report data binds.
    pub report: Bytes,
    /// Evidence of the hardware: of SNP the report that is in there with its certificates, of TDX the quote over it.
    pub hardware: Box<Evidence>,
}

/// What a vendor's root vouches for. Only verification makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genuine<T>(T);

impl<T> Genuine<T> {
    /// Returns what was vouched for.
    pub const fn claims(&self) -> &T {
        &self.0
    }
}

/// What is wrong with evidence. Offsets and sizes are in bytes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EvidenceError {
    #[error("the {what} is {size} bytes long, expected {expected}")]
    Size {
        what: &'static str,
        size: u64,
        expected: &'static str,
    },
    #[error("{field} at offset {offset:#x} is {value:#x}, expected {expected}")]
    Field {
        field: &'static str,
        offset: u64,
        value: u64,
        expected: &'static str,
    },
}
