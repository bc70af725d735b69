//! Certificates of AMD's chains, and lists of those that are revoked: RFC 5280, with the extensions of VCEK Certificate and
//! KDS Interface Specification (57230) revision 1.00, chapter 3.

use alloc::string::{String, ToString as _};

use jiff::Timestamp;
use rsa::RsaPublicKey;
use rsa::pkcs1::RsaPssParams;
use rsa::pss::{Signature, VerifyingKey};
use rsa::sha2::Sha384;
use rsa::signature::Verifier as _;
use x509_cert::crl::CertificateList;
use x509_cert::der;
use x509_cert::der::asn1::{BitString, Ia5StringRef, ObjectIdentifier, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::oid::db::rfc5280::{ID_CE_BASIC_CONSTRAINTS, ID_CE_KEY_USAGE};
use x509_cert::der::oid::db::rfc5912::{ID_MGF_1, ID_RSASSA_PSS, ID_SHA_384};
use x509_cert::der::referenced::OwnedToRef as _;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};
use x509_cert::name::Name;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use super::{LARGEST, SigningKey, SnpFinding, SnpProduct, Tcb};

/// A certificate, and the bytes of it that are signed: as they came, not written again.
pub(super) struct Certificate<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) content: x509_cert::Certificate,
    signed: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Returns the certificate in `bytes`, or why they are none.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (content, signed) = read(bytes)?;
        Ok(Self { bytes, content, signed })
    }

    pub(super) fn subject(&self) -> String {
        common_name(&self.content.tbs_certificate.subject)
    }

    pub(super) fn issuer(&self) -> String {
        common_name(&self.content.tbs_certificate.issuer)
    }

    /// Returns whether it names itself as its issuer, as roots do.
    pub(super) fn is_root(&self) -> bool {
        self.content.tbs_certificate.issuer == self.content.tbs_certificate.subject
    }

    /// Returns whose key it certifies, if that is one that signs reports.
    pub(super) fn signing_key(&self) -> Option<SigningKey> {
        match self.subject().as_str() {
            "SEV-VCEK" => Some(SigningKey::Vcek),
            "SEV-VLEK" => Some(SigningKey::Vlek),
            _ => None,
        }
    }

    /// Returns whether its key signed `certificate`.
    pub(super) fn has_signed(&self, certificate: &Certificate<'_>) -> bool {
        let algorithm = &certificate.content.signature_algorithm;
        *algorithm == certificate.content.tbs_certificate.signature
            && self.verifies(algorithm, certificate.signed, &certificate.content.signature)
    }

    /// Returns whether its key made `signature` over `message`: RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of
    /// salt, which is all that AMD uses.
    fn verifies(&self, algorithm: &AlgorithmIdentifierOwned, message: &[u8], signature: &BitString) -> bool {
        let key = RsaPublicKey::try_from(self.content.tbs_certificate.subject_public_key_info.owned_to_ref());
        let signature = signature.as_bytes().and_then(|bytes| Signature::try_from(bytes).ok());
        let (Ok(key), Some(signature)) = (key, signature) else {
            return false;
        };
        is_pss_sha384(algorithm) && VerifyingKey::<Sha384>::new(key).verify(message, &signature).is_ok()
    }

    /// Returns what is wrong with its dates at `at`.
    pub(super) fn at(&self, at: Timestamp) -> Option<SnpFinding> {
        let validity = &self.content.tbs_certificate.validity;
        let (not_before, not_after) = (timestamp(validity.not_before), timestamp(validity.not_after));
        let subject = self.subject();
        if at < not_before {
            return Some(SnpFinding::SnpCertificateNotYetValid {
                subject,
                not_before,
                at,
            });
        }
        (at > not_after).then_some(SnpFinding::SnpCertificateExpired { subject, not_after, at })
    }

    /// Returns what keeps it from being that of an authority, or, of one that is none, from its place.
    pub(super) fn unfit(&self, authority: bool) -> Option<SnpFinding> {
        let reason = match (self.may_certify(), authority) {
            (None, _) => "an extension is broken, or critical and not known here",
            (Some(false), true) => "it may not certify others (basicConstraints, keyUsage)",
            (Some(true), false) => "it may certify others (basicConstraints, keyUsage)",
            _ => return None,
        };
        let subject = self.subject();
        Some(SnpFinding::SnpCertificateUnfit { subject, reason })
    }

    /// Returns whether it is of an authority that signs certificates; nothing if an extension stands in the way of knowing.
    fn may_certify(&self) -> Option<bool> {
        let (mut ca, mut signs) = (false, true);
        for extension in self.content.tbs_certificate.extensions.iter().flatten() {
            let value = extension.extn_value.as_bytes();
            match extension.extn_id {
                ID_CE_BASIC_CONSTRAINTS => ca = BasicConstraints::from_der(value).ok()?.ca,
                ID_CE_KEY_USAGE => signs = KeyUsage::from_der(value).ok()?.key_cert_sign(),
                _ if extension.critical => return None,
                _ => {}
            }
        }
        Some(ca && signs)
    }

    /// Returns the extension 1.3.6.1.4.1.3704.1.`arcs`, of those that AMD gives to keys that sign reports.
    fn extension(&self, arcs: &str) -> Option<&[u8]> {
        let oid = ObjectIdentifier::new(&(AMD.to_string() + arcs)).ok()?;
        let mut all = self.content.tbs_certificate.extensions.iter().flatten();
        let found = all.find(|extension: &&Extension| extension.extn_id == oid)?;
        Some(found.extn_value.as_bytes())
    }

    /// Returns `hwID`, which names the chip of a VCEK.
    pub(super) fn hwid(&self) -> Result<&[u8], SnpFinding> {
        self.extension("4").ok_or_else(|| self.without("hwID"))
    }

    /// Returns `cspID`, which names the cloud of a VLEK.
    pub(super) fn csp_id(&self) -> Result<String, SnpFinding> {
        self.text("5").ok_or_else(|| self.without("cspID"))
    }

    /// Returns `productName`.
    pub(super) fn product_name(&self) -> Result<String, SnpFinding> {
        self.text("2").ok_or_else(|| self.without("productName"))
    }

    fn text(&self, arcs: &str) -> Option<String> {
        let value = self.extension(arcs)?;
        let text = Ia5StringRef::from_der(value).map(|text| text.to_string());
        text.or_else(|_| Utf8StringRef::from_der(value).map(|text| text.to_string()))
            .ok()
    }

    /// Returns the versions that its key is derived for, of a `product`.
    pub(super) fn tcb(&self, product: SnpProduct) -> Result<Tcb, SnpFinding> {
        let number = |arc: &str, name| {
            let number = self.extension(arc).and_then(|value| u8::from_der(value).ok());
            number.ok_or_else(|| self.without(name))
        };
        let fmc = match product {
            SnpProduct::Milan | SnpProduct::Genoa => None,
            SnpProduct::Turin => Some(number("3.9", "fmcSPL")?),
        };
        Ok(Tcb {
            bootloader: number("3.1", "blSPL")?,
            tee: number("3.2", "teeSPL")?,
            snp: number("3.3", "snpSPL")?,
            microcode: number("3.8", "ucodeSPL")?,
            fmc,
        })
    }

    fn without(&self, extension: &'static str) -> SnpFinding {
        let subject = self.subject();
        SnpFinding::SnpCertificateExtension { subject, extension }
    }
}

/// A list of revoked certificates, and the bytes of it that are signed.
pub(super) struct Crl<'a> {
    pub(super) content: CertificateList,
    signed: &'a [u8],
}

impl<'a> Crl<'a> {
    /// Returns the list in `bytes`, or why they are none that can be used.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let (content, signed): (CertificateList, _) = read(bytes)?;
        let mut extensions = content.tbs_cert_list.crl_extensions.iter().flatten();
        if extensions.any(|extension| extension.critical) {
            // such as that it is only what was added to another list
            return Err("a critical extension is not known here".to_string());
        }
        Ok(Self { content, signed })
    }

    pub(super) fn issuer(&self) -> String {
        common_name(&self.content.tbs_cert_list.issuer)
    }

    /// Returns whether `authority` issued and signed it.
    pub(super) fn is_signed_by(&self, authority: &Certificate<'_>) -> bool {
        let algorithm = &self.content.signature_algorithm;
        *algorithm == self.content.tbs_cert_list.signature
            && authority.verifies(algorithm, self.signed, &self.content.signature)
    }

    /// Returns what is wrong with its dates at `at`. One that is never to be renewed has expired at once: RFC 5280 has none.
    pub(super) fn at(&self, index: usize, at: Timestamp) -> Option<SnpFinding> {
        let list = &self.content.tbs_cert_list;
        let this_update = timestamp(list.this_update);
        if at < this_update {
            return Some(SnpFinding::SnpCrlNotYetValid { index, this_update, at });
        }
        let next_update = list.next_update.map_or(this_update, timestamp);
        (at > next_update).then_some(SnpFinding::SnpCrlExpired { index, next_update, at })
    }

    /// Returns whether it has the serial number of `certificate`.
    ///
    /// Whoever issued that: a root's list may be about certificates of those below it, and says so in an extension of the
    /// entry. All VCEKs have serial number 0, which no authority has, so that nothing is lost by not reading it.
    pub(super) fn revokes(&self, certificate: &Certificate<'_>) -> bool {
        let mut entries = self.content.tbs_cert_list.revoked_certificates.iter().flatten();
        entries.any(|entry| entry.serial_number == certificate.content.tbs_certificate.serial_number)
    }
}

/// Reads a structure of three parts: what is signed, the algorithm and the signature. Returns it, and the first part.
fn read<'a, T: der::Decode<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), String> {
    if bytes.len() > LARGEST {
        return Err(alloc::format!(
            "it has {} bytes, expected {LARGEST} at most",
            bytes.len()
        ));
    }
    let content = T::from_der(bytes).map_err(|error| error.to_string())?;
    let mut outer = SliceReader::new(bytes).map_err(|error| error.to_string())?;
    let signed = der::Header::decode(&mut outer).and_then(|_| outer.tlv_bytes());
    Ok((content, signed.map_err(|error| error.to_string())?))
}

/// Returns whether an algorithm is RSASSA-PSS as AMD uses it (RFC 4055, section 3.1).
fn is_pss_sha384(algorithm: &AlgorithmIdentifierOwned) -> bool {
    let parameters = algorithm.parameters.as_ref();
    let Some(Ok(pss)) = parameters.map(|any| any.decode_as::<RsaPssParams<'_>>()) else {
        return false;
    };
    algorithm.oid == ID_RSASSA_PSS
        && pss.hash.oid == ID_SHA_384
        && pss.mask_gen.oid == ID_MGF_1
        && pss.mask_gen.parameters.is_some_and(|hash| hash.oid == ID_SHA_384)
        && pss.salt_len == 48
}

/// Returns the common name of a name, by which AMD tells its keys apart; if it has none, all of it.
fn common_name(name: &Name) -> String {
    let mut attributes = name.0.iter().flat_map(|set| set.0.iter());
    let found = attributes.find(|attribute| attribute.oid == COMMON_NAME);
    let text = found.and_then(|attribute| {
        let utf8 = attribute
            .value
            .decode_as::<Utf8StringRef<'_>>()
            .map(|text| text.to_string());
        let printable = || attribute.value.decode_as::<der::asn1::PrintableStringRef<'_>>();
        utf8.or_else(|_| printable().map(|text| text.to_string())).ok()
    });
    text.unwrap_or_else(|| name.to_string())
}

fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs());
    let found = seconds.ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    found.unwrap_or(Timestamp::MAX) // 9999-12-31T23:59:59Z, "no end" in certificates, is later than there are time stamps
}

/// The arcs of AMD's extensions.
const AMD: &str = "1.3.6.1.4.1.3704.1.";
