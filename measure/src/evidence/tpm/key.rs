//! Attestation keys (AK), and what they sign.

use alloc::boxed::Box;
use alloc::string::String;

use p256::pkcs8::DecodePublicKey as _;
use p256::pkcs8::spki::SubjectPublicKeyInfoRef;
use p384::ecdsa::signature::hazmat::PrehashVerifier as _;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::sha2 as sha2_10;
use rsa::traits::{PublicKeyParts as _, SignatureScheme};
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use x509_cert::der::Decode as _;

use super::algorithm::HashId;
use super::finding::TpmFinding;
use super::signature::{Signature, Value};
use crate::Sha256;
use crate::evidence::Bytes;

/// A public key of a kind that can sign quotes, and is strong enough.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::evidence) enum Key {
    Rsa(Box<RsaPublicKey>),
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
}

/// Sizes that RSA keys may have, in bits.
const RSA_BITS: core::ops::RangeInclusive<usize> = 2048..=4096;

/// The exponent of TPMs; FIPS 186-5, section 5.4, wants no smaller one.
const RSA_EXPONENT: u32 = 65_537;

impl Key {
    /// Returns the key of a `SubjectPublicKeyInfo` in DER (RFC 5280, section 4.1).
    pub(in crate::evidence) fn read(spki: &[u8]) -> Result<Self, TpmFinding> {
        let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| refused("no SubjectPublicKeyInfo in DER"))?;
        match info.algorithm.oid {
            rsa::pkcs1::ALGORITHM_OID => {
                let key = RsaPublicKey::from_public_key_der(spki);
                Self::rsa(key.map_err(|_| refused("a broken RSA key, or one of more than 4096 bits"))?)
            }
            p256::elliptic_curve::ALGORITHM_OID => p256::ecdsa::VerifyingKey::from_public_key_der(spki)
                .map(Self::P256)
                .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_der(spki).map(Self::P384))
                .map_err(|_| refused("a broken elliptic curve key, or one on another curve")),
            _ => Err(refused("neither RSA nor an elliptic curve key")),
        }
    }

    /// Returns the RSA key of this modulus and exponent, both big-endian.
    pub(in crate::evidence) fn rsa_of(modulus: &[u8], exponent: &[u8]) -> Result<Self, TpmFinding> {
        let number = BigUint::from_bytes_be;
        let key = RsaPublicKey::new(number(modulus), number(exponent));
        Self::rsa(key.map_err(|_| refused("a broken RSA key, or one of more than 4096 bits"))?)
    }

    fn rsa(key: RsaPublicKey) -> Result<Self, TpmFinding> {
        let bits = key.n().bits();
        if !RSA_BITS.contains(&bits) || *key.e() < BigUint::from(RSA_EXPONENT) {
            let found = alloc::format!("RSA of {bits} bits with the exponent {}", key.e());
            return Err(TpmFinding::TpmKeyRefused { found });
        }
        Ok(Self::Rsa(Box::new(key)))
    }

    /// Returns the key as `SubjectPublicKeyInfo` in DER.
    pub(in crate::evidence) fn spki(&self) -> Bytes {
        let der = match self {
            Self::Rsa(key) => key.to_public_key_der(),
            Self::P256(key) => key.to_public_key_der(),
            Self::P384(key) => key.to_public_key_der(),
        };
        let der = der.expect("a key that was read is a key that can be written");
        der.into_vec().into()
    }

    /// Returns what names the key: SHA-256 of its `SubjectPublicKeyInfo`.
    pub(in crate::evidence) fn digest(&self) -> Sha256 {
        Sha256::of(&*self.spki())
    }

    /// Returns whether the key made the signature over `message`. Never, if its hash is none to sign with.
    pub(super) fn verifies(&self, signature: Signature, message: &[u8]) -> bool {
        let Some(digest) = signature.hash.digest(message) else {
            return false;
        };
        match (self, signature.value) {
            (Self::Rsa(key), Value::RsaSsa(number)) => {
                pkcs1(signature.hash).is_some_and(|scheme| scheme.verify(key, &digest, number).is_ok())
            }
            (Self::Rsa(key), Value::RsaPss(number)) => pss(signature.hash, key)
                .into_iter()
                .flatten()
                .any(|scheme| scheme.verify(key, &digest, number).is_ok()),
            (Self::P256(key), Value::Ecdsa { r, s }) => scalars::<32>(r, s)
                .and_then(|(r, s)| p256::ecdsa::Signature::from_scalars(r, s).ok())
                .is_some_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            (Self::P384(key), Value::Ecdsa { r, s }) => scalars::<48>(r, s)
                .and_then(|(r, s)| p384::ecdsa::Signature::from_scalars(r, s).ok())
                .is_some_and(|signature| key.verify_prehash(&digest, &signature).is_ok()),
            _ => false,
        }
    }
}

fn refused(found: &str) -> TpmFinding {
    TpmFinding::TpmKeyRefused {
        found: String::from(found),
    }
}

fn pkcs1(hash: HashId) -> Option<Pkcs1v15Sign> {
    match hash {
        HashId::SHA256 => Some(Pkcs1v15Sign::new::<sha2_10::Sha256>()),
        HashId::SHA384 => Some(Pkcs1v15Sign::new::<sha2_10::Sha384>()),
        HashId::SHA512 => Some(Pkcs1v15Sign::new::<sha2_10::Sha512>()),
        _ => None,
    }
}

/// Returns the scheme with the salt as long as the digest, and as long as the key has room for: TPMs do either
/// (TPM 2.0 Library, part 1, appendix B.7).
fn pss(hash: HashId, key: &RsaPublicKey) -> Option<[Pss; 2]> {
    let encoded = (key.n().bits() - 1).div_ceil(8);
    let salts = |length: usize| encoded.checked_sub(length + 2).map(|longest| [length, longest]);
    match hash {
        HashId::SHA256 => salts(32).map(|salts| salts.map(Pss::new_with_salt::<sha2_10::Sha256>)),
        HashId::SHA384 => salts(48).map(|salts| salts.map(Pss::new_with_salt::<sha2_10::Sha384>)),
        HashId::SHA512 => salts(64).map(|salts| salts.map(Pss::new_with_salt::<sha2_10::Sha512>)),
        _ => None,
    }
}

/// Returns both numbers of a signature, as long as the field is: some TPMs leave zeros at the front out.
fn scalars<const N: usize>(r: &[u8], s: &[u8]) -> Option<([u8; N], [u8; N])> {
    let padded = |number: &[u8]| {
        let mut padded = [0; N];
        let room = N.checked_sub(number.len())?;
        padded[room..].copy_from_slice(number);
        Some(padded)
    };
    padded(r).zip(padded(s))
}
