//! A quote as a whole: what is around its signed body.

use alloc::string::ToString as _;

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::TdxFinding;
use crate::evidence::TdxQuote;

/// Returns the quote in `bytes`, if they are one of the form that is signed with ECDSA, and nothing else.
///
/// The file of a quote is malleable where nobody signs it: the zeros after it, line ends of the PEM in it, the copy of
/// Intel's root in there, and the S of each ECDSA signature, which has two values. So a quote is bound by its body, as
/// claims are made of it, never by a digest of its file. `dcap-qvl` takes any bytes at its end and any type and size of
/// the outer certification data; here they must be what a quoting enclave writes.
pub(super) fn whole(bytes: &[u8]) -> Result<TdxQuote<'_>, TdxFinding> {
    if bytes.len() > LARGEST {
        return Err(malformed("it is longer than 128 KiB"));
    }
    supported(bytes)?;
    let quote = TdxQuote::read(bytes).map_err(|error| TdxFinding::TdxQuoteMalformed {
        because: error.to_string(),
    })?;
    let (size, rest) = take::<U32>(&bytes[quote.signed_size()..])?;
    let (signature, padding) = split(rest, size.get())?;
    // the guest's buffer is larger than the quote: Linux hands out all of it
    if padding.iter().any(|byte| *byte != 0) {
        return Err(TdxFinding::TdxTrailingBytes {
            offset: bytes.len() - padding.len(),
            size: padding.len(),
        });
    }
    enclosed(signature)?;
    Ok(quote)
}

/// Whether the attestation key in a [`whole`] quote has signed its body. Nothing is known of that key yet, but a quote that
/// fails here needs no look at certificates.
pub(super) fn is_signed(bytes: &[u8], signed_size: usize) -> bool {
    let (body, rest) = bytes.split_at(signed_size);
    let Some((signature, rest)) = rest[size_of::<U32>()..].split_first_chunk::<64>() else {
        return false;
    };
    let signature = Signature::from_slice(signature);
    let key = rest.get(..64).map(|point| [&[UNCOMPRESSED], point].concat());
    let key = key.and_then(|point| VerifyingKey::from_sec1_bytes(&point).ok());
    let (Ok(signature), Some(key)) = (signature, key) else {
        return false;
    };
    key.verify(body, &signature).is_ok()
}

/// What a point in the form of SEC 1 begins with that has both its coordinates.
const UNCOMPRESSED: u8 = 4;

/// Refuses what is no ECDSA quote of a TD and says what it is.
fn supported(bytes: &[u8]) -> Result<(), TdxFinding> {
    let unsupported = |found: &str| Err(TdxFinding::TdxQuoteUnsupported { found: found.into() });
    let Ok((header, _)) = Header::ref_from_prefix(bytes) else {
        return Err(malformed("it is shorter than its first fields, 8 bytes"));
    };
    match (header.version.get(), header.tee_type.get(), header.key_type.get()) {
        (4 | 5, 0x81, 2) => Ok(()),
        (4 | 5, 0x81, _) => unsupported("a quote that is not signed with ECDSA over P-256"),
        (3..=5, 0, _) => unsupported("a quote of an SGX enclave"),
        // a COSE_Sign1, tagged or not: CBOR tags have the first bytes 0xc0 to 0xdf, its array of four has 0x84
        _ if matches!(bytes[0], 0xc0..=0xdf | 0x84) => unsupported("a quote in the new form (DICE, CBOR)"),
        _ => unsupported("no quote of a known version"),
    }
}

/// Checks that the parts of the signature data fill it: the signature, the attestation key, and in the certification
/// data the report of the quoting enclave, its signature, its data, and certification data of its own.
fn enclosed(signature: &[u8]) -> Result<(), TdxFinding> {
    let (_, rest) = split(signature, 64 + 64)?;
    let (outer, rest) = take::<Certification>(rest)?;
    if outer.kind.get() != QE_REPORT || outer.size.get() as usize != rest.len() {
        return Err(malformed(
            "its certification data is not that of a report of the quoting enclave",
        ));
    }
    let (_, rest) = split(rest, 384 + 64)?;
    let (size, rest) = take::<U16>(rest)?;
    let (_, rest) = split(rest, size.get().into())?;
    let (inner, rest) = take::<Certification>(rest)?;
    if inner.size.get() as usize != rest.len() {
        return Err(malformed(
            "the certification data of its quoting enclave does not fill its place",
        ));
    }
    Ok(())
}

fn take<T: FromBytes + Immutable + KnownLayout + Unaligned>(bytes: &[u8]) -> Result<(&T, &[u8]), TdxFinding> {
    T::ref_from_prefix(bytes).map_err(|_| malformed("its signature is cut off"))
}

fn split(bytes: &[u8], size: u32) -> Result<(&[u8], &[u8]), TdxFinding> {
    let split = bytes.split_at_checked(size as usize);
    split.ok_or_else(|| malformed("its signature is cut off"))
}

fn malformed(because: &str) -> TdxFinding {
    TdxFinding::TdxQuoteMalformed {
        because: because.into(),
    }
}

/// What the guest's buffer for a quote holds, in bytes.
const LARGEST: usize = 128 << 10;

/// "QE Report Certification Data".
const QE_REPORT: u16 = 6;

/// How a quote begins: Intel TDX DCAP Quoting Library API revision 0.9, appendix 3.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: U16,
    key_type: U16,
    tee_type: U32,
}

/// "QE Certification Data", without the data.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Certification {
    kind: U16,
    /// Of the data, in bytes.
    size: U32,
}

const _: () = assert!(size_of::<Certification>() == 6);
