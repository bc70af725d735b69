//! Keys that sign statements: ECDSA on P-256 with SHA-256 (FIPS 186-5) and Ed25519 (RFC 8032).
//!
//! Private keys are PKCS#8 (RFC 5958), public ones SPKI (RFC 5280, section 4.1.2.7), both in PEM (RFC 7468). These two
//! kinds are those that every verifier of Sigstore bundles knows.

use std::fmt;

use anyhow::Result;
use data_encoding::BASE64_NOPAD;
use ed25519_dalek::Verifier as _;
use measure::Sha256;
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::der::{Decode as _, Document, SecretDocument};
use p256::pkcs8::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};
use p256::pkcs8::{EncodePublicKey as _, LineEnding, ObjectIdentifier, PrivateKeyInfo};

use crate::mend::Exit;

/// A private key that signs.
pub enum SigningKey {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

/// The public half of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublicKey {
    P256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// What names a public key in a bundle: its fingerprint as OpenSSH shows it, `SHA256:` and the base64 of the digest of
/// the key in the form of RFC 4253, section 6.6.
///
/// Key ids of DSSE are free, but cosign (go-securesystemslib) skips a signature that names any other.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct KeyId(String);

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";

impl SigningKey {
    /// Returns the key of a PEM file.
    ///
    /// # Errors
    /// Anything but one private key of a kind that signs here, in PKCS#8 and not encrypted.
    pub fn from_pem(text: &str) -> Result<Self> {
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| refuse("no PEM", MAKE))?;
        match label {
            PRIVATE => {}
            "ENCRYPTED PRIVATE KEY" => {
                return Err(refuse(
                    "an encrypted private key",
                    "decrypt it: openssl pkcs8 -in KEY -out PLAIN",
                ));
            }
            PUBLIC => return Err(refuse("a public key", "give the private one")),
            _ => {
                let mend = format!("{MAKE}\nor convert it: openssl pkcs8 -topk8 -nocrypt -in KEY -out PKCS8");
                return Err(refuse(&format!("a {label}"), &mend));
            }
        }
        let broken = || refuse("a broken private key", MAKE);
        let info = PrivateKeyInfo::try_from(document.as_bytes()).map_err(|_| broken())?;
        match Kind::of(info.algorithm)? {
            Kind::P256 => {
                let key = p256::SecretKey::try_from(info).map_err(|_| broken())?;
                Ok(Self::P256(key.into()))
            }
            Kind::Ed25519 => {
                let key = ed25519_dalek::SigningKey::try_from(info).map_err(|_| broken())?;
                Ok(Self::Ed25519(key))
            }
        }
    }

    /// Returns the key on P-256 whose secret number these random bytes are; nothing where they are none: zero, or not
    /// below the order of the group, which is one case in 2³².
    pub fn from_random(bytes: [u8; 32]) -> Option<Self> {
        let key = p256::SecretKey::from_slice(&bytes).ok()?;
        Some(Self::P256(key.into()))
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::P256(key) => PublicKey::P256(*key.verifying_key()),
            Self::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
        }
    }

    /// Returns the signature of `message`, the same each time: in DER where it is ECDSA (nonce of RFC 6979), 64 bytes
    /// where it is Ed25519.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).to_vec(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey of {:?}", self.public())
    }
}

impl PublicKey {
    /// Returns the key of a PEM file.
    ///
    /// # Errors
    /// Anything but one public key of a kind that signs here.
    pub fn from_pem(text: &str) -> Result<Self> {
        let (label, document) = Document::from_pem(text).map_err(|_| refuse("no PEM", PUBLIC_HALF))?;
        if label != PUBLIC {
            return Err(refuse(&format!("a {label}"), PUBLIC_HALF));
        }
        Self::from_spki(document.as_bytes())
    }

    /// Returns the key of an SPKI in DER.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_spki(der: &[u8]) -> Result<Self> {
        let broken = || refuse("a broken public key", PUBLIC_HALF);
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| broken())?;
        match Kind::of(info.algorithm)? {
            Kind::P256 => info.try_into().map(Self::P256).map_err(|_| broken()),
            Kind::Ed25519 => info.try_into().map(Self::Ed25519).map_err(|_| broken()),
        }
    }

    /// Returns the SPKI in DER.
    pub fn spki(&self) -> Vec<u8> {
        let spki = match self {
            Self::P256(key) => key.to_public_key_der(),
            Self::Ed25519(key) => key.to_public_key_der(),
        };
        spki.expect("a public key is short").into_vec()
    }

    /// Returns the PEM text.
    pub fn pem(&self) -> String {
        let spki = Document::try_from(self.spki()).expect("it is DER");
        spki.to_pem(PUBLIC, LineEnding::LF).expect("a public key is short")
    }

    /// Returns what names the key in a bundle.
    pub fn id(&self) -> KeyId {
        let digest = Sha256::of(self.ssh());
        KeyId(format!("SHA256:{}", BASE64_NOPAD.encode(digest.bytes())))
    }

    /// The key as SSH sends it: RFC 5656, section 3.1, and RFC 8709, section 4.
    fn ssh(&self) -> Vec<u8> {
        let string = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes(), bytes].concat();
        match self {
            Self::P256(key) => {
                let point = key.to_encoded_point(false);
                [&b"ecdsa-sha2-nistp256"[..], b"nistp256", point.as_bytes()]
                    .map(string)
                    .concat()
            }
            Self::Ed25519(key) => [&b"ssh-ed25519"[..], key.as_bytes()].map(string).concat(),
        }
    }

    /// Whether this key has signed `message`; the signature is as [`SigningKey::sign`] returns it.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => {
                let signature = p256::ecdsa::Signature::from_der(signature);
                signature.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Self::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature);
                signature.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
        }
    }

    /// Returns a signature that another program made as bundles want it: tokens give r and s of ECDSA side by side
    /// (IEEE P1363), bundles have them in DER.
    pub fn as_bundled(&self, signature: &[u8]) -> Vec<u8> {
        let plain = match self {
            Self::P256(_) if p256::ecdsa::DerSignature::try_from(signature).is_err() => {
                p256::ecdsa::Signature::from_slice(signature).ok()
            }
            _ => None,
        };
        plain.map_or_else(|| signature.to_vec(), |plain| plain.to_der().as_bytes().to_vec())
    }
}

impl KeyId {
    /// Returns the text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

enum Kind {
    P256,
    Ed25519,
}

/// RFC 5480, section 2.1.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// RFC 8410, section 3.
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// RFC 8017, appendix A.1.
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl Kind {
    fn of(algorithm: AlgorithmIdentifierRef<'_>) -> Result<Self> {
        let curve = algorithm.parameters_oid().ok();
        match (algorithm.oid, curve) {
            (EC, Some(P256)) => Ok(Self::P256),
            (ED25519, _) => Ok(Self::Ed25519),
            (EC, Some(P384)) => Err(refuse("a key on P-384", MAKE)),
            (EC, _) => Err(refuse("a key on another curve", MAKE)),
            (RSA, _) => Err(refuse("an RSA key", MAKE)),
            (other, _) => Err(refuse(&format!("a key for the algorithm {other}"), MAKE)),
        }
    }
}

const MAKE: &str = "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY";
const PUBLIC_HALF: &str = "give its public half: openssl pkey -in KEY -pubout -out PUBLIC";

fn refuse(found: &str, mend: &str) -> anyhow::Error {
    let problem = format!("{found} is no key for signatures: expected one on P-256 or for Ed25519, in PEM");
    Exit::Usage.because(problem, mend)
}

#[cfg(test)]
mod tests;
