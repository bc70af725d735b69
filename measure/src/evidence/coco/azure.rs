//! The attesters `az-snp-vtpm` (versions 0 to 2) and `az-tdx-vtpm` (0 and 1): a quote of the vTPM, the HCL's report, and
//! what vouches for the hardware.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use serde::Deserialize;
use x509_cert::der::pem;

use super::CocoError;
use super::octets::Octets;
use super::tpm::Quote;
use crate::evidence::tpm::{HclHardware, HclReport, signature};
use crate::evidence::{Evidence, HclEvidence, SnpEvidence, TdxEvidence, TpmEvidence};

/// Version 0 has other names and lists of numbers, and its certificate in PEM.
#[derive(Deserialize)]
pub(super) struct AzSnp {
    #[serde(default)]
    version: u32,
    #[serde(alias = "quote")]
    tpm_quote: Quote,
    #[serde(alias = "report")]
    hcl_report: Octets,
    vcek: Octets,
}

#[derive(Deserialize)]
pub(super) struct AzTdx {
    #[serde(default)]
    version: u32,
    tpm_quote: Quote,
    hcl_report: Octets,
    td_quote: Octets,
}

impl AzSnp {
    pub(super) fn evidence(self) -> Result<Evidence, CocoError> {
        known(self.version, 2, "version 0, 1 or 2")?;
        let report = self.hcl_report.base64url("hcl_report")?;
        let vcek = match self.vcek {
            Octets::Text(text) if text.starts_with("-----BEGIN") => from_pem(&text)?,
            vcek => vcek.base64url("vcek")?,
        };
        let embedded = match HclReport::read(&report)?.hardware {
            HclHardware::Snp(report) => report.to_vec(),
            HclHardware::Tdx(_) => return Err(other_hardware("that of SEV-SNP")),
        };
        let hardware = Evidence::Snp(SnpEvidence {
            report: embedded.into(),
            certificates: vec![vcek.into()],
            crls: Vec::new(),
        });
        evidence(self.tpm_quote, report, hardware)
    }
}

impl AzTdx {
    pub(super) fn evidence(self) -> Result<Evidence, CocoError> {
        known(self.version, 1, "version 0 or 1")?;
        let report = self.hcl_report.base64url("hcl_report")?;
        if !matches!(HclReport::read(&report)?.hardware, HclHardware::Tdx(_)) {
            return Err(other_hardware("that of TDX"));
        }
        let hardware = Evidence::Tdx(TdxEvidence {
            quote: self.td_quote.base64url("td_quote")?.into(),
            ..TdxEvidence::default()
        });
        evidence(self.tpm_quote, report, hardware)
    }
}

/// The key is that of the HCL's claims: there is no other place for it.
fn evidence(quote: Quote, report: Vec<u8>, hardware: Evidence) -> Result<Evidence, CocoError> {
    let (pcrs, message, number) = quote.split()?;
    let number = number.hex("tpm_quote.signature")?;
    let signature = signature::rsassa_sha256(&number).ok_or(CocoError::Value {
        field: "tpm_quote.signature",
        expected: "a signature of RSA",
    })?;
    Ok(Evidence::Tpm(TpmEvidence {
        quote: message.hex("tpm_quote.message")?.into(),
        signature: signature.into(),
        pcrs,
        ak: HclReport::read(&report)?.ak()?,
        hcl: Some(HclEvidence {
            report: report.into(),
            hardware: Box::new(hardware),
        }),
        ..TpmEvidence::default()
    }))
}

fn from_pem(text: &str) -> Result<Vec<u8>, CocoError> {
    let decoded = pem::decode_vec(text.as_bytes()).ok();
    let certificate = decoded.filter(|(label, _)| *label == "CERTIFICATE");
    certificate.map(|(_, der)| der).ok_or(CocoError::Value {
        field: "vcek",
        expected: "a certificate in PEM",
    })
}

fn known(version: u32, newest: u32, expected: &'static str) -> Result<(), CocoError> {
    let error = CocoError::Value {
        field: "version",
        expected,
    };
    (version <= newest).then_some(()).ok_or(error)
}

const fn other_hardware(expected: &'static str) -> CocoError {
    CocoError::Value {
        field: "the hardware report of hcl_report",
        expected,
    }
}
