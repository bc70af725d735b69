//! From the key that signed a report to the root.

use alloc::format;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::certificate::{Certificate, Crl};
use super::roots::Authority;
use super::{AmdRoots, MOST, SigningKey, SnpFinding, SnpProduct};
use crate::evidence::SnpEvidence;

/// What came along with a report, read.
pub(super) struct Given<'a> {
    certificates: Vec<Certificate<'a>>,
    crls: Vec<Crl<'a>>,
}

impl<'a> Given<'a> {
    pub(super) fn read(evidence: &'a SnpEvidence) -> Result<Self, Vec<SnpFinding>> {
        let counts = [
            ("certificates", evidence.certificates.len()),
            ("lists of revoked certificates", evidence.crls.len()),
        ];
        if let Some((what, found)) = counts.into_iter().find(|(_, count)| *count > MOST) {
            return Err(vec![SnpFinding::SnpTooMany {
                what,
                found,
                most: MOST,
            }]);
        }
        let (mut given, mut findings) = (
            Self {
                certificates: Vec::new(),
                crls: Vec::new(),
            },
            Vec::new(),
        );
        for (index, bytes) in evidence.certificates.iter().enumerate() {
            match Certificate::read(bytes) {
                Ok(certificate) => given.certificates.push(certificate),
                Err(reason) => findings.push(SnpFinding::SnpCertificateMalformed { index, reason }),
            }
        }
        for (index, bytes) in evidence.crls.iter().enumerate() {
            match Crl::read(bytes) {
                Ok(crl) => given.crls.push(crl),
                Err(reason) => findings.push(SnpFinding::SnpCrlMalformed { index, reason }),
            }
        }
        if findings.is_empty() { Ok(given) } else { Err(findings) }
    }

    pub(super) fn has_crls(&self) -> bool {
        !self.crls.is_empty()
    }

    /// Returns the certificate of the key of this kind that `has_signed` the report; if none has, the first of its kind.
    pub(super) fn vek(
        &self,
        key: SigningKey,
        has_signed: impl Fn(&Certificate<'a>) -> bool,
    ) -> Result<&Certificate<'a>, SnpFinding> {
        let of_kind = |certificate: &&Certificate<'a>| certificate.signing_key() == Some(key);
        let mut candidates = self.certificates.iter().filter(of_kind);
        let first = candidates.clone().next();
        let found = if candidates.clone().count() > 1 {
            candidates.find(|vek| has_signed(vek))
        } else {
            None
        };
        found.or(first).ok_or_else(|| {
            let other = self.certificates.iter().find_map(Certificate::signing_key);
            match other {
                Some(certificate) => SnpFinding::SnpSigningKeyDiffers {
                    report: key,
                    certificate,
                },
                None => SnpFinding::SnpCertificateMissing { key },
            }
        })
    }

    /// Returns those that pretend to be roots.
    pub(super) fn forged_roots(&self, roots: &AmdRoots) -> impl Iterator<Item = SnpFinding> {
        let unknown = self
            .certificates
            .iter()
            .filter(|given| given.is_root() && !roots.have(given.bytes));
        unknown.map(|root| SnpFinding::SnpRootForged {
            subject: root.subject(),
        })
    }

    /// Returns why `vek`, which signs reports of `product`, is not to be believed at `at`.
    pub(super) fn check(
        &self,
        vek: &Certificate<'a>,
        product: SnpProduct,
        roots: &AmdRoots,
        at: Timestamp,
    ) -> Vec<SnpFinding> {
        let Some(authority) = roots.of(product) else {
            return vec![SnpFinding::SnpRootUnknown { product }];
        };
        match Chain::of(vek, authority, product, self) {
            Ok(chain) => chain.check(&self.crls, at),
            Err(findings) => findings,
        }
    }
}

/// The three certificates between a report and the root's key.
struct Chain<'c, 'a> {
    ark: Certificate<'c>,
    intermediate: Certificate<'c>,
    vek: &'c Certificate<'a>,
    product: SnpProduct,
}

impl<'c, 'a> Chain<'c, 'a> {
    fn of(
        vek: &'c Certificate<'a>,
        authority: &'c Authority,
        product: SnpProduct,
        given: &'c Given<'a>,
    ) -> Result<Self, Vec<SnpFinding>> {
        let pinned = match vek.signing_key() {
            Some(SigningKey::Vlek) => &authority.asvk,
            _ => &authority.ask,
        };
        let read = |bytes: &'c [u8]| {
            let malformed = |reason| vec![SnpFinding::SnpCertificateMalformed { index: 0, reason }];
            Certificate::read(bytes).map_err(malformed)
        };
        // AMD may have certified another key since: one that came along is as good, if the root signed it
        let mut others = given
            .certificates
            .iter()
            .filter(|other| !other.is_root() && other.signing_key().is_none());
        let ark = read(&authority.ark)?;
        let mut intermediate = read(pinned)?;
        if !intermediate.has_signed(vek)
            && let Some(other) = others.find(|other| other.has_signed(vek))
        {
            intermediate = read(other.bytes)?;
        }
        Ok(Self {
            ark,
            intermediate,
            vek,
            product,
        })
    }

    fn check(&self, crls: &[Crl<'_>], at: Timestamp) -> Vec<SnpFinding> {
        let all = [(self.vek, false), (&self.intermediate, true), (&self.ark, true)];
        let mut findings = self.names();
        for [(subject, _), (issuer, _)] in [[all[0], all[1]], [all[1], all[2]], [all[2], all[2]]] {
            findings.extend(link(subject, issuer));
        }
        for (certificate, authority) in all {
            findings.extend(certificate.at(at));
            findings.extend(certificate.unfit(authority));
        }
        for (index, crl) in crls.iter().enumerate() {
            findings.extend(self.revoked(index, crl, at));
        }
        findings
    }

    /// Returns whether the intermediate is the one for keys of this kind: an ASK certifies no VLEK.
    fn names(&self) -> Vec<SnpFinding> {
        let vlek = self.vek.signing_key() == Some(SigningKey::Vlek);
        let expected = format!("SEV-{}{}", if vlek { "VLEK-" } else { "" }, self.product);
        let (subject, found) = (self.vek.subject(), self.intermediate.subject());
        let differs = (found != expected).then_some(SnpFinding::SnpIssuerDiffers {
            subject,
            found,
            expected,
        });
        differs.into_iter().collect()
    }

    /// Returns what is wrong with a list, or what it says against the chain.
    fn revoked(&self, index: usize, crl: &Crl<'_>, at: Timestamp) -> Vec<SnpFinding> {
        let issuer = self.ark.subject();
        if crl.content.tbs_cert_list.issuer != self.ark.content.tbs_certificate.subject {
            let (found, expected) = (crl.issuer(), issuer);
            return vec![SnpFinding::SnpCrlIssuer { index, found, expected }];
        }
        if !crl.is_signed_by(&self.ark) {
            return vec![SnpFinding::SnpCrlSignature { index, issuer }];
        }
        let revoked = [self.vek, &self.intermediate, &self.ark]
            .into_iter()
            .filter(|certificate| crl.revokes(certificate));
        let revoked = revoked.map(|certificate| SnpFinding::SnpCertificateRevoked {
            subject: certificate.subject(),
            serial: HEXLOWER.encode(certificate.content.tbs_certificate.serial_number.as_bytes()),
        });
        revoked.chain(crl.at(index, at)).collect()
    }
}

/// Returns why `issuer` has not certified `subject`.
fn link(subject: &Certificate<'_>, issuer: &Certificate<'_>) -> Option<SnpFinding> {
    let (from, to) = (&subject.content.tbs_certificate, &issuer.content.tbs_certificate);
    if from.issuer != to.subject {
        let (found, expected) = (subject.issuer(), issuer.subject());
        let (found, expected) = if found == expected {
            (from.issuer.to_string(), to.subject.to_string())
        } else {
            (found, expected)
        };
        let subject = subject.subject();
        return Some(SnpFinding::SnpIssuerDiffers {
            subject,
            found,
            expected,
        });
    }
    let signed = issuer.has_signed(subject);
    let (subject, issuer) = (subject.subject(), issuer.subject());
    (!signed).then_some(SnpFinding::SnpCertificateSignature { subject, issuer })
}
