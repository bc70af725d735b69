//! Attestation reports of SEV-SNP: whether one is genuine, and whether it is of a platform that is wanted.

mod certificate;
mod chain;
mod claims;
mod finding;
mod kds;
mod layout;
mod policy;
mod product;
mod report;
mod roots;
mod table;
mod tcb;

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use p384::ecdsa::signature::hazmat::PrehashVerifier as _;
use p384::ecdsa::{Signature, VerifyingKey};
use p384::{FieldBytes, PublicKey};
use x509_cert::der::referenced::OwnedToRef as _;

pub use claims::{SigningKey, SnpClaims, Tcbs};
pub use finding::SnpFinding;
pub use kds::EndorsementPaths;
pub use policy::SnpPolicy;
pub use product::SnpProduct;
pub use report::SnpReport;
pub use roots::{AmdRoots, Authority};
pub use table::certificate_table;
pub use tcb::Tcb;

use self::certificate::Certificate;
use self::chain::Given;
use super::{Genuine, SnpEvidence};
use crate::{Digest, Sha384};

/// How many certificates, and how many lists of revoked ones, may come along with a report.
const MOST: usize = 16;

/// The largest of them, in bytes: AMD's are smaller than 2 KiB.
const LARGEST: usize = 1 << 16;

impl SnpEvidence {
    /// Returns what the report says if it is genuine at `at`: made by a chip of AMD, of the product, TCB and identity that
    /// the certificate of its key states, which chains to one of `roots`; otherwise every reason found not to believe so.
    ///
    /// AMD SEV-SNP Firmware ABI (56860) revision 1.58, chapters 7.3 and 10; VCEK Certificate and KDS Interface Specification
    /// (57230) revision 1.00, chapter 3. The report is verified as it came, byte for byte. Not everything that has a digest
    /// of its own is another report, though: of a signature (r, s), (r, -s) is one too, as always with ECDSA.
    ///
    /// # Errors
    /// Looking ends where nothing further can be said: at a report or certificate that cannot be read, a report with
    /// reserved bits, a missing certificate; the chain of a key is looked at only if it signed the report.
    pub fn verify(&self, roots: &AmdRoots, at: Timestamp) -> Result<Genuine<SnpClaims>, Vec<SnpFinding>> {
        let one = |finding| vec![finding];
        let report = self.read()?;
        let given = Given::read(self)?;
        let key = signing_key(report).map_err(one)?;
        let signed = |vek: &Certificate<'_>| has_signed(vek, &self.report);
        let vek = given.vek(key, signed).map_err(one)?;
        let product = product(report, vek).map_err(one)?;

        let mut findings: Vec<_> = given.forged_roots(roots).collect();
        findings.extend(agreement(report, product, vek));
        findings.extend(layout::check_tcbs(report, product));
        findings.extend(order(report.tcbs(product)));
        let csp_id = match key {
            SigningKey::Vcek => None,
            SigningKey::Vlek => vek.csp_id().map_err(|finding| findings.push(finding)).ok(),
        };
        if signed(vek) {
            findings.extend(given.check(vek, product, roots, at));
        } else {
            findings.push(SnpFinding::SnpSignatureInvalid { key });
        }
        let claims = SnpClaims {
            report: report.clone(),
            product,
            key,
            csp_id,
            revocation_checked: given.has_crls(),
        };
        if findings.is_empty() {
            Ok(Genuine(claims))
        } else {
            Err(findings)
        }
    }

    /// Returns the report, with nothing in it where nothing may be.
    fn read(&self) -> Result<&SnpReport, Vec<SnpFinding>> {
        let report = SnpReport::read(&self.report).map_err(|error| {
            let reason = error.to_string();
            vec![SnpFinding::SnpNotAReport { reason }]
        })?;
        let findings = layout::check(report, &self.report);
        if findings.is_empty() { Ok(report) } else { Err(findings) }
    }
}

fn signing_key(report: &SnpReport) -> Result<SigningKey, SnpFinding> {
    if report.masks_chip_key() {
        return Err(SnpFinding::SnpChipKeyMasked);
    }
    report.signing_key().ok_or(SnpFinding::SnpSigningKeyUnknown)
}

/// Returns the product of the chip: what the report says, and, since version 2 does not, the certificate.
fn product(report: &SnpReport, vek: &Certificate<'_>) -> Result<SnpProduct, SnpFinding> {
    let name = vek.product_name()?;
    let certified = SnpProduct::named(&name);
    if report.version() < 3 {
        return certified.ok_or(SnpFinding::SnpProductUnnamed { name });
    }
    let (family, model) = report.family_and_model();
    let found = report
        .product()
        .ok_or(SnpFinding::SnpProductUnknown { family, model })?;
    match certified {
        Some(certificate) if certificate != found => Err(SnpFinding::SnpProductDiffers {
            report: found,
            certificate,
        }),
        // Bergamo, Siena: who certifies it says that it is of this product
        _ => Ok(found),
    }
}

/// Returns where the report and the certificate of its key say different things.
fn agreement(report: &SnpReport, product: SnpProduct, vek: &Certificate<'_>) -> Vec<SnpFinding> {
    let mut findings = Vec::new();
    if vek.signing_key() == Some(SigningKey::Vcek) {
        findings.extend(chip(report, product, vek));
    }
    let reported = Tcb::of(product, report.reported_tcb());
    match vek.tcb(product) {
        Ok(tcb) if tcb == reported => {}
        Ok(certificate) => findings.push(SnpFinding::SnpTcbDiffers {
            report: reported,
            certificate,
        }),
        Err(finding) => findings.push(finding),
    }
    findings
}

/// Returns why the certificate is not of the chip that made the report.
fn chip(report: &SnpReport, product: SnpProduct, vek: &Certificate<'_>) -> Option<SnpFinding> {
    let chip_id = report.chip_id();
    if chip_id == Digest::ZERO {
        return Some(SnpFinding::SnpChipIdMasked);
    }
    let hwid = match vek.hwid() {
        Ok(hwid) => hwid,
        Err(finding) => return Some(finding),
    };
    let named = product.hwid(&chip_id);
    let (_, rest) = chip_id.bytes().split_at(named.len());
    let agrees = hwid == named && rest.iter().all(|byte| *byte == 0);
    (!agrees).then(|| SnpFinding::SnpChipDiffers {
        report: chip_id,
        certificate: HEXLOWER.encode(hwid),
    })
}

/// Returns where the versions of the platform are not in the order that firmware keeps: reported, committed, current.
fn order(tcbs: Tcbs) -> impl Iterator<Item = SnpFinding> {
    let pairs = [
        ("reported", tcbs.reported, "committed", tcbs.committed),
        ("committed", tcbs.committed, "current", tcbs.current),
    ];
    let wrong = pairs
        .into_iter()
        .filter(|(_, older, _, newer)| !newer.is_at_least(*older));
    wrong.map(|(older, older_tcb, newer, newer_tcb)| SnpFinding::SnpTcbOrder {
        older,
        older_tcb,
        newer,
        newer_tcb,
    })
}

/// Returns whether the key of `vek` signed the report in `bytes`, which are 1184.
fn has_signed(vek: &Certificate<'_>, bytes: &[u8]) -> bool {
    let key = PublicKey::try_from(vek.content.tbs_certificate.subject_public_key_info.owned_to_ref());
    let [r, s] = [layout::SIGNATURE, layout::SIGNATURE + layout::NUMBER].map(|start| {
        let mut number = FieldBytes::clone_from_slice(&bytes[start..start + layout::NUMBER_USED]);
        number.reverse();
        number
    });
    let (Ok(key), Ok(signature)) = (key, Signature::from_scalars(r, s)) else {
        return false;
    };
    let digest = Sha384::of(&bytes[..layout::SIGNATURE]);
    VerifyingKey::from(key)
        .verify_prehash(digest.bytes(), &signature)
        .is_ok()
}
