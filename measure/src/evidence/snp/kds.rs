//! Where AMD gives away the endorsements of a report.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{SigningKey, SnpProduct, SnpReport, Tcb};

/// Paths at AMD's key distribution service (KDS), without its host: Versioned Chip Endorsement Key (VCEK) Certificate and
/// KDS Interface Specification (57230) revision 1.00, chapter 4.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EndorsementPaths {
    pub product: SnpProduct,
    /// Of the VCEK's certificate, in DER. A VLEK's is given to its cloud only.
    pub vek: Option<String>,
    /// Of the ASK or ASVK and the ARK, in PEM.
    pub chain: String,
    /// Of the list of certificates that the ARK has revoked, in DER.
    pub crl: String,
}

impl SnpReport {
    /// Returns where the endorsements of this report can be had, for each product that it may be of: one, or two where the
    /// version is 2, which does not name its CPU.
    pub fn endorsement_paths(&self) -> Vec<EndorsementPaths> {
        let products = match self.version() {
            2 => vec![SnpProduct::Milan, SnpProduct::Genoa],
            _ => self.product().into_iter().collect(),
        };
        products.into_iter().map(|product| paths(self, product)).collect()
    }
}

fn paths(report: &SnpReport, product: SnpProduct) -> EndorsementPaths {
    let (folder, vek) = match report.signing_key() {
        Some(SigningKey::Vlek) => ("vlek", None),
        _ => ("vcek", Some(vcek(report, product))),
    };
    EndorsementPaths {
        product,
        vek,
        chain: format!("/{folder}/v1/{product}/cert_chain"),
        crl: format!("/{folder}/v1/{product}/crl"),
    }
}

fn vcek(report: &SnpReport, product: SnpProduct) -> String {
    let chip_id = report.chip_id();
    let hwid = HEXLOWER.encode(product.hwid(&chip_id));
    let Tcb {
        bootloader,
        tee,
        snp,
        microcode,
        fmc,
    } = Tcb::of(product, report.reported_tcb());
    let fmc = fmc.map(|fmc| format!("fmcSPL={fmc:02}&")).unwrap_or_default();
    format!(
        "/vcek/v1/{product}/{hwid}?{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}"
    )
}
