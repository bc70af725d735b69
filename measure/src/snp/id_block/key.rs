//! Keys and signatures, as the SEV firmware takes them: AMD SEV-SNP Firmware ABI (56860) revision 1.58, chapter 10.

use ecdsa::RecoveryId;
use p384::ecdsa::signature::hazmat::PrehashSigner as _;
use p384::ecdsa::{SigningKey, VerifyingKey};
use p384::{EncodedPoint, FieldBytes, Scalar, SecretKey};
use zerocopy::little_endian::U32;
use zerocopy::{Immutable, IntoBytes};

use crate::Sha384;

/// A private key that signs ID blocks, or, as author key, ID keys: P-384, with SHA-384.
pub struct IdKey(SigningKey);

impl IdKey {
    /// Returns the key of a PEM file: PKCS#8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`), not encrypted.
    pub fn from_pem(text: &str) -> Result<Self, NotAnIdKey> {
        let from = |label: &str| text.find(label).map(|start| &text[start..]);
        if let Some(pem) = from("-----BEGIN PRIVATE KEY-----") {
            use p384::pkcs8::DecodePrivateKey as _;
            let key = SecretKey::from_pkcs8_pem(pem).map_err(|_| NotAnIdKey::Other)?;
            return Ok(Self(key.into()));
        }
        if let Some(pem) = from("-----BEGIN EC PRIVATE KEY-----") {
            let key = SecretKey::from_sec1_pem(pem).map_err(|_| NotAnIdKey::Other)?;
            return Ok(Self(key.into()));
        }
        match from("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            Some(_) => Err(NotAnIdKey::Encrypted),
            None => Err(NotAnIdKey::NoPrivateKey),
        }
    }

    /// Returns the signature of `message`, the same each time: its nonce is that of RFC 6979.
    pub(super) fn sign(&self, message: &[u8]) -> Signature {
        let prehash = Sha384::of(message);
        let signed = self.0.sign_prehash(prehash.bytes());
        Signature::new(&signed.expect("a digest of SHA-384 is as long as P-384 wants it"))
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey::new(self.0.verifying_key())
    }
}

/// Why a text is no key for ID blocks.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAnIdKey {
    #[error("no private key in PEM: expected -----BEGIN PRIVATE KEY----- or -----BEGIN EC PRIVATE KEY-----")]
    NoPrivateKey,
    #[error("the private key is encrypted, expected one that is not")]
    Encrypted,
    #[error("the private key is broken or for another algorithm, expected an elliptic curve key on P-384")]
    Other,
}

/// Returns a constant signature, and the public key under which it is valid for `message`.
///
/// Every pair of numbers is a signature of a given message under one or two keys (SEC 1 version 2.0, section 4.1.6). This
/// is r = 2, s = 1; of the two keys it is that of the point whose y is even.
pub(super) fn constant(message: &[u8]) -> (Signature, PublicKey) {
    let scalar = |number: u64| FieldBytes::from(Scalar::from_u64(number));
    let signature = p384::ecdsa::Signature::from_scalars(scalar(2), scalar(1)).expect("neither is zero");
    let prehash = Sha384::of(message);
    let key = VerifyingKey::recover_from_prehash(prehash.bytes(), &signature, RecoveryId::new(false, false));
    let key = key.expect("2 is the x of a point of P-384, and no known hash cancels that point out");
    (Signature::new(&signature), PublicKey::new(&key))
}

/// "ECDSA P-384 with SHA-384 Signature": numbers are little-endian.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
pub(super) struct Signature {
    r: [u8; NUMBER],
    s: [u8; NUMBER],
    reserved_0x90: [u8; 368],
}

const _: () = assert!(size_of::<Signature>() == 512);

/// "ECDSA P-384 Public Key": coordinates are little-endian.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
pub(super) struct PublicKey {
    curve: U32,
    x: [u8; NUMBER],
    y: [u8; NUMBER],
    reserved_0x94: [u8; 880],
}

const _: () = assert!(size_of::<PublicKey>() == 0x404);

/// In bytes: room for larger curves than P-384.
const NUMBER: usize = 72;

/// The number of the curve P-384.
const P384: U32 = U32::new(2);

impl Signature {
    /// What stands where nothing is signed.
    pub(super) const NONE: Self = Self {
        r: [0; _],
        s: [0; _],
        reserved_0x90: [0; _],
    };

    fn new(signature: &p384::ecdsa::Signature) -> Self {
        let (r, s) = signature.split_bytes();
        Self {
            r: little_endian(&r),
            s: little_endian(&s),
            ..Self::NONE
        }
    }
}

impl PublicKey {
    /// What stands where there is no key.
    pub(super) const NONE: Self = Self {
        curve: U32::ZERO,
        x: [0; _],
        y: [0; _],
        reserved_0x94: [0; _],
    };

    fn new(key: &VerifyingKey) -> Self {
        let point: EncodedPoint = key.to_encoded_point(false);
        let coordinate = |bytes: Option<&FieldBytes>| little_endian(bytes.expect("the point is not compressed"));
        Self {
            curve: P384,
            x: coordinate(point.x()),
            y: coordinate(point.y()),
            ..Self::NONE
        }
    }
}

/// Returns a number of P-384, which comes big-endian, as the SEV firmware takes it.
fn little_endian(number: &FieldBytes) -> [u8; NUMBER] {
    let mut bytes = [0; NUMBER];
    bytes
        .iter_mut()
        .zip(number.iter().rev())
        .for_each(|(to, from)| *to = *from);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    use crate::Digest;

    /// RFC 6979, section A.2.6: the key, and its signature of "sample" with SHA-384.
    #[test]
    fn signatures_are_those_of_rfc_6979() {
        let key = IdKey::from_pem(super::super::tests::PKCS8).unwrap();
        let Signature { r, s, .. } = key.sign(b"sample");
        let number = |mut bytes: [u8; NUMBER]| {
            bytes.reverse();
            let number: [u8; 48] = bytes[NUMBER - 48..].try_into().unwrap();
            Digest::from(number).to_string()
        };
        assert_eq!(
            number(r),
            "94edbb92a5ecb8aad4736e56c691916b3f88140666ce9fa73d64c4ea95ad133c81a648152e44acf96e36dd1e80fabe46"
        );
        assert_eq!(
            number(s),
            "99ef4aeb15f178cea1fe40db2603138f130e740a19624526203b6351d0a3a94fa329c145786e679e7b82c71a38628ac8"
        );
        assert_eq!(
            number(key.public().x),
            "ec3a4e415b4e19a4568618029f427fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc13"
        );
    }
}
