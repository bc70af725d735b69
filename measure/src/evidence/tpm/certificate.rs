//! Certificates of attestation keys: RFC 5280, as far as the TCG's profiles use it (TCG EK Credential Profile 2.5, TCG
//! Platform and AK certificates).

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use jiff::Timestamp;
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{self, Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages};

use super::algorithm::HashId;
use super::finding::TpmFinding;
use super::key::Key;
use super::signature::{Signature, Value};
use crate::Sha256;
use crate::evidence::Bytes;

/// A certificate that was read, with what its issuer signed.
struct Parsed<'a> {
    certificate: Certificate,
    signed: &'a [u8],
    key: Key,
}

/// Certificates that lead to a root are no more than this: those of TPM vendors are three.
const LONGEST: usize = 8;

/// `tcg-kp-AIKCertificate`.
const AK_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");

/// `anyExtendedKeyUsage`, which an authority may have.
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Extensions that are understood if they are critical; the names of a subject mean nothing here.
const UNDERSTOOD: [&str; 4] = [
    "2.5.29.15", // key usage
    "2.5.29.17", // subject alternative name
    "2.5.29.19", // basic constraints
    "2.5.29.37", // extended key usage
];

/// Returns which of `roots` the certificates of an AK lead to: SHA-256 of its DER.
///
/// The first of `certificates` is that of `ak`; each is signed by the next one, and the last by a root. All, the root
/// too, must be valid at `at`, and all but the first be of authorities; the first must say that it is of an AK.
pub(super) fn root(ak: &Key, certificates: &[Bytes], roots: &[Bytes], at: Timestamp) -> Result<Sha256, TpmFinding> {
    let roots = read_all(roots)?;
    let mut issued: Option<Parsed> = None;
    for (index, der) in certificates.iter().take(LONGEST).enumerate() {
        let read = Parsed::read(der).map_err(|why| invalid(index, "not read".into(), why))?;
        let checked = match &issued {
            None => read.is_of(ak, at),
            Some(issued) => read.issued(issued, index - 1, at),
        };
        checked.map_err(|why| invalid(index, read.subject(), why))?;
        if let Some(root) = issuer(&read, &roots, index, at)? {
            return Ok(root);
        }
        issued = Some(read);
    }
    Err(match issued {
        None => invalid(0, "not there".into(), "there is none".into()),
        Some(last) => {
            let issuer = &last.certificate.tbs_certificate.issuer;
            let why = format!("issued by {issuer}, which is no root of the policy");
            invalid(certificates.len().min(LONGEST) - 1, last.subject(), why)
        }
    })
}

fn read_all(roots: &[Bytes]) -> Result<Vec<(Sha256, Parsed<'_>)>, TpmFinding> {
    let mut all = Vec::new();
    for (index, der) in roots.iter().enumerate() {
        let position = index + 1;
        let root = Parsed::read(der).map_err(|why| TpmFinding::TpmRootUnreadable { position, why })?;
        all.push((Sha256::of(&**der), root));
    }
    Ok(all)
}

/// Returns which root issued the certificate; nothing if none has the name of its issuer.
fn issuer(
    read: &Parsed,
    roots: &[(Sha256, Parsed)],
    index: usize,
    at: Timestamp,
) -> Result<Option<Sha256>, TpmFinding> {
    let mut refusal = None;
    for (digest, root) in roots.iter().filter(|(_, root)| root.may_have_issued(read)) {
        match root.issued(read, index, at) {
            Ok(()) => return Ok(Some(*digest)),
            Err(why) => refusal = Some(invalid(index, format!("its root {}", root.subject()), why)),
        }
    }
    refusal.map_or(Ok(None), Err)
}

fn invalid(index: usize, subject: String, why: String) -> TpmFinding {
    TpmFinding::TpmCertificateInvalid {
        position: index + 1,
        subject,
        why,
    }
}

impl<'a> Parsed<'a> {
    fn read(der: &'a [u8]) -> Result<Self, String> {
        let certificate = Certificate::from_der(der).map_err(|error| error.to_string())?;
        let signed = signed(der).map_err(|error| error.to_string())?;
        let spki = certificate.tbs_certificate.subject_public_key_info.to_der();
        let key = Key::read(&spki.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        Ok(Self {
            certificate,
            signed,
            key,
        })
    }

    fn subject(&self) -> String {
        self.certificate.tbs_certificate.subject.to_string()
    }

    /// Checks the certificate of the AK itself.
    fn is_of(&self, ak: &Key, at: Timestamp) -> Result<(), String> {
        if self.key != *ak {
            return Err(format!(
                "it is of the key {}, not of {}",
                self.key.digest(),
                ak.digest()
            ));
        }
        self.is_valid(at)?;
        if self.constraints()?.is_some_and(|constraints| constraints.ca) {
            return Err("it is of an authority".into());
        }
        self.allows(KeyUsages::DigitalSignature, "digitalSignature")?;
        // the same authorities certify endorsement keys, which decrypt for anybody, and keys of other kinds
        let usage = self.extension::<ExtendedKeyUsage>()?;
        match usage.is_some_and(|usage| usage.0.contains(&AK_USAGE)) {
            true => Ok(()),
            false => Err(format!("its extended key usage lacks {AK_USAGE}, attestation keys")),
        }
    }

    /// Checks that the key usage, which every certificate must have, contains this one.
    fn allows(&self, usage: KeyUsages, name: &str) -> Result<(), String> {
        let allowed = self.extension::<KeyUsage>()?;
        match allowed.is_some_and(|allowed| allowed.0.contains(usage)) {
            true => Ok(()),
            false => Err(format!("its key usage lacks {name}")),
        }
    }

    /// Checks that the certificate is of an authority, which issued `other`; `below` authorities lie between it and the
    /// AK's certificate.
    fn issued(&self, other: &Parsed, below: usize, at: Timestamp) -> Result<(), String> {
        self.is_valid(at)?;
        let constraints = self.constraints()?.filter(|constraints| constraints.ca);
        let constraints = constraints.ok_or("it is not of an authority")?;
        let longest = constraints.path_len_constraint;
        if longest.is_some_and(|longest| below > longest.into()) {
            return Err(format!(
                "it allows {} authorities below it, not {below}",
                longest.unwrap_or(0)
            ));
        }
        self.allows(KeyUsages::KeyCertSign, "keyCertSign")?;
        // what an authority is limited to limits those below it, as all that certify AKs have it
        let usage = self.extension::<ExtendedKeyUsage>()?;
        if usage.is_some_and(|usage| !usage.0.contains(&AK_USAGE) && !usage.0.contains(&ANY_USAGE)) {
            return Err(format!("its extended key usage lacks {AK_USAGE}, attestation keys"));
        }
        if !self.may_have_issued(other) {
            return Err(format!(
                "the issuer of the certificate before is {}",
                other.certificate.tbs_certificate.issuer
            ));
        }
        self.signed(other)
    }

    fn may_have_issued(&self, other: &Parsed) -> bool {
        self.certificate.tbs_certificate.subject == other.certificate.tbs_certificate.issuer
    }

    fn signed(&self, other: &Parsed) -> Result<(), String> {
        let Certificate {
            tbs_certificate,
            signature_algorithm,
            signature,
        } = &other.certificate;
        if tbs_certificate.signature != *signature_algorithm {
            return Err("the certificate before names two signature algorithms".into());
        }
        let refused = || format!("the certificate before is signed with {}", signature_algorithm.oid);
        let (hash, scheme) = algorithm(signature_algorithm.oid).ok_or_else(refused)?;
        let bytes = signature.as_bytes().ok_or_else(refused)?;
        let numbers = (scheme == Scheme::Ecdsa).then(|| numbers(bytes));
        let value = match &numbers {
            None => Value::RsaSsa(bytes),
            Some(Ok((r, s))) => Value::Ecdsa {
                r: r.as_bytes(),
                s: s.as_bytes(),
            },
            Some(Err(_)) => return Err("the signature of the certificate before cannot be read".into()),
        };
        let verified = self.key.verifies(Signature { hash, value }, other.signed);
        verified
            .then_some(())
            .ok_or_else(|| "the signature of the certificate before is not its own".into())
    }

    fn is_valid(&self, at: Timestamp) -> Result<(), String> {
        let tbs = &self.certificate.tbs_certificate;
        let seconds =
            |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        let (from, to) = (tbs.validity.not_before, tbs.validity.not_after);
        if !(seconds(from)..=seconds(to)).contains(&at.as_second()) {
            return Err(format!("it is valid from {from} to {to}, not at {at}"));
        }
        let extensions = tbs.extensions.as_deref().unwrap_or_default();
        let unknown = extensions
            .iter()
            .find(|extension| extension.critical && !UNDERSTOOD.contains(&&*extension.extn_id.to_string()));
        unknown.map_or(Ok(()), |unknown| {
            Err(format!("its critical extension {} is not understood", unknown.extn_id))
        })
    }

    fn constraints(&self) -> Result<Option<BasicConstraints>, String> {
        self.extension()
    }

    fn extension<'e, T: der::Decode<'e> + der::oid::AssociatedOid>(&'e self) -> Result<Option<T>, String> {
        let extension = self.certificate.tbs_certificate.get::<T>();
        let extension = extension.map_err(|error| format!("its extension {}: {error}", T::OID))?;
        Ok(extension.map(|(_, extension)| extension))
    }
}

/// Returns the part of a certificate that is signed, as it stands there.
fn signed(der: &[u8]) -> der::Result<&[u8]> {
    let mut reader = SliceReader::new(der)?;
    der::Header::decode(&mut reader)?;
    reader.tlv_bytes()
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Scheme {
    RsaSsa,
    Ecdsa,
}

/// Returns both numbers of an `Ecdsa-Sig-Value` (RFC 3279, section 2.2.3).
fn numbers(bytes: &[u8]) -> der::Result<(UintRef<'_>, UintRef<'_>)> {
    let mut reader = SliceReader::new(bytes)?;
    let numbers = reader.sequence(|fields| Ok((UintRef::decode(fields)?, UintRef::decode(fields)?)))?;
    reader.finish(numbers)
}

/// Returns what a signature algorithm of RFC 4055 and RFC 5758 is; those with SHA-1 are none.
fn algorithm(oid: ObjectIdentifier) -> Option<(HashId, Scheme)> {
    let known = [
        ("1.2.840.113549.1.1.11", HashId::SHA256, Scheme::RsaSsa),
        ("1.2.840.113549.1.1.12", HashId::SHA384, Scheme::RsaSsa),
        ("1.2.840.113549.1.1.13", HashId::SHA512, Scheme::RsaSsa),
        ("1.2.840.10045.4.3.2", HashId::SHA256, Scheme::Ecdsa),
        ("1.2.840.10045.4.3.3", HashId::SHA384, Scheme::Ecdsa),
        ("1.2.840.10045.4.3.4", HashId::SHA512, Scheme::Ecdsa),
    ];
    let text = oid.to_string();
    let mut known = known.into_iter().filter(|(known, ..)| *known == text);
    known.next().map(|(_, hash, scheme)| (hash, scheme))
}
