//! The public part of a key of a TPM: TPM 2.0 Library, revision 1.59, part 2, clause 12.2.

use super::wire::{Cut, Rest};

/// `TPM_ALG_ID`: part 2, clause 6.3.
mod algorithm {
    pub(super) const RSA: u16 = 0x1;
    pub(super) const NULL: u16 = 0x10;
    pub(super) const ECDAA: u16 = 0x1a;
    pub(super) const ECC: u16 = 0x23;
}

const P256: u16 = 3; // TPM_ECC_NIST_P256

/// A restricted key that signs with ECDSA on P-256 and SHA-256, and never leaves its TPM: a `TPMT_PUBLIC` without a point.
/// Of one hierarchy of one TPM it always gives the same key.
pub(super) const TEMPLATE: [u8; 24] = [
    0x00, 0x23, 0x00, 0x0b, // ECC, named with SHA-256
    0x00, 0x05, 0x00, 0x72, // sign, restricted; userWithAuth, sensitiveDataOrigin, fixedParent, fixedTPM
    0x00, 0x00, // no policy
    0x00, 0x10, 0x00, 0x18, 0x00, 0x0b, // no symmetric cipher; ECDSA with SHA-256
    0x00, 0x03, 0x00, 0x10, // P-256, no KDF
    0x00, 0x00, 0x00, 0x00, // any point
];

/// The bits of `TPMA_OBJECT` that an attestation key has: `fixedTPM`, `restricted`, `sign`. Without them, whoever may use
/// the key can sign a quote of their own making.
const ATTESTS: u32 = 1 << 1 | 1 << 16 | 1 << 18;

/// A public key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Public {
    pub(super) attests: bool,
    /// `SubjectPublicKeyInfo` in DER.
    pub(super) spki: Vec<u8>,
}

impl Public {
    /// Reads a `TPMT_PUBLIC`; nothing where it is neither RSA nor on P-256.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Cut> {
        let mut rest = Rest(bytes);
        let (kind, _name) = (rest.u16()?, rest.u16()?);
        let attests = rest.u32()? & ATTESTS == ATTESTS;
        let _policy = rest.sized()?;
        if rest.u16()? != algorithm::NULL {
            rest.take(4)?; // key bits and mode of the symmetric cipher
        }
        skip_scheme(&mut rest)?;
        let spki = match kind {
            algorithm::RSA => rsa(&mut rest)?,
            algorithm::ECC => ecc(&mut rest)?,
            _ => None,
        };
        Ok(spki.map(|spki| Self { attests, spki }))
    }
}

fn skip_scheme(rest: &mut Rest<'_>) -> Result<(), Cut> {
    match rest.u16()? {
        algorithm::NULL => Ok(()),
        algorithm::ECDAA => rest.take(4).map(drop),
        _ => rest.take(2).map(drop), // its hash
    }
}

fn rsa(rest: &mut Rest<'_>) -> Result<Option<Vec<u8>>, Cut> {
    /// `rsaEncryption` with no parameters: RFC 3279, section 2.3.1.
    const ALGORITHM: [u8; 15] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
    ];
    let _bits = rest.u16()?;
    let exponent = match rest.u32()? {
        0 => 65537_u32, // the default
        exponent => exponent,
    };
    let modulus = rest.sized()?;
    if modulus.len() > 1024 {
        return Ok(None); // 8192 bits: no TPM has more
    }
    let key = tlv(0x30, &[integer(modulus), integer(&exponent.to_be_bytes())].concat());
    let bits = tlv(0x03, &[&[0], key.as_slice()].concat());
    Ok(Some(tlv(0x30, &[&ALGORITHM, bits.as_slice()].concat())))
}

fn ecc(rest: &mut Rest<'_>) -> Result<Option<Vec<u8>>, Cut> {
    /// `id-ecPublicKey` on `secp256r1`: RFC 5480, section 2.1.1.
    const ALGORITHM: [u8; 21] = [
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        0x03, 0x01, 0x07,
    ];
    let curve = rest.u16()?;
    skip_scheme(rest)?; // the KDF, which looks the same
    let (x, y) = (coordinate(rest.sized()?), coordinate(rest.sized()?));
    let (P256, Some(x), Some(y)) = (curve, x, y) else {
        return Ok(None);
    };
    let bits = tlv(0x03, &[&[0, 4], x.as_slice(), &y].concat());
    Ok(Some(tlv(0x30, &[&ALGORITHM, bits.as_slice()].concat())))
}

/// A coordinate in 32 bytes: TPMs may leave leading zeros out.
fn coordinate(bytes: &[u8]) -> Option<[u8; 32]> {
    let mut padded = [0; 32];
    let start = padded.len().checked_sub(bytes.len())?;
    padded[start..].copy_from_slice(bytes);
    Some(padded)
}

/// A positive `INTEGER` in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = &bytes[start..];
    match digits.first() {
        Some(0..=0x7f) => tlv(0x02, digits),
        _ => tlv(0x02, &[&[0], digits].concat()),
    }
}

/// A value in DER, of at most 65535 bytes.
fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(value.len())
        .expect("a TPM's fields are shorter")
        .to_be_bytes();
    let header = match (high, low) {
        (0, 0..=0x7f) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [header.as_slice(), value].concat()
}
