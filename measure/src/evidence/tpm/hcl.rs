//! Azure's paravisor (HCL): its report ties the key of a vTPM to the confidential VM that the vTPM runs in.
//!
//! The paravisor has the hardware report on the SHA-256 of its run-time claims, and these name the AK (Azure
//! confidential VM guest attestation, "Runtime claims"; openhcl `hcl_compat` and Microsoft's `igvm_attest` structures).

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use data_encoding::BASE64URL_NOPAD;
use serde::Deserialize;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::finding::TpmFinding;
use super::key::Key;
use crate::evidence::Bytes;
use crate::fields::{check, read_at, slice};
use crate::{Digest, FieldError, Sha256};

/// The report of the HCL: version 1 and 2, as NV index 0x01400001 of the vTPM has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HclReport<'a> {
    pub hardware: HclHardware<'a>,
    /// JSON: the keys and the configuration of the VM.
    pub claims: &'a [u8],
}

/// The report of the hardware that is in there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HclHardware<'a> {
    /// A report of SEV-SNP, 1184 bytes, which the chip signed.
    Snp(&'a [u8]),
    /// A `TDREPORT`, 1024 bytes, which only its own machine can verify: a quote must be over the same data.
    Tdx(&'a [u8]),
}

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 4],
    version: U32,
    /// Of the whole report, without the zeros behind it; in bytes.
    size: U32,
    request: U32,
    status: U32,
    reserved: [U32; 3],
}

const _: () = assert!(size_of::<Header>() == HARDWARE as usize);

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Claims {
    /// With this structure, in bytes.
    size: U32,
    version: U32,
    kind: U32,
    hash: U32,
    /// Of the JSON that follows, in bytes.
    length: U32,
}

/// Offsets in the report, and sizes; in bytes.
const HARDWARE: u64 = 32;
const SNP_REPORT: u64 = 1184;
const TD_REPORT: u64 = 1024;
const CLAIMS: u64 = HARDWARE + SNP_REPORT;
const JSON: u64 = CLAIMS + size_of::<Claims>() as u64;

/// `REPORTDATA` in a `TDREPORT`: Intel TDX Module ABI, `REPORTMACSTRUCT`.
const TD_REPORT_DATA: u64 = 128;
const SNP_REPORT_DATA: u64 = 0x50;

/// `IGVM_ATTEST_REQUEST_TYPE`s of a report that an AK certificate is asked with.
const AK_CERTIFICATE: u32 = 2;

/// Kinds of reports.
const SNP: u32 = 2;
const TDX: u32 = 4;

/// The hash of the claims: SHA-256.
const SHA256: u32 = 1;

impl<'a> HclReport<'a> {
    /// Returns the report that `bytes` begin with; only zeros may follow it.
    ///
    /// # Errors
    /// Bytes that are no such report, or one of another version or kind.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let header: Header = read_at(bytes, "header of the HCL report", 0)?;
        let signature = u32::from_be_bytes(header.signature);
        check(
            header.signature == *b"HCLA",
            "signature of the HCL report",
            0,
            signature,
            "0x48434c41, HCLA",
        )?;
        let version = header.version.get();
        check(
            matches!(version, 1 | 2),
            "version of the HCL report",
            4,
            version,
            "1 or 2",
        )?;
        let request = header.request.get();
        check(request == AK_CERTIFICATE, "type of the HCL report", 12, request, "2")?;
        let status = header.status.get();
        check(status == 0, "status of the HCL report", 16, status, "0")?;
        let reserved = header.reserved.iter().fold(0, |all, word| all | word.get());
        check(reserved == 0, "reserved bytes of the HCL report", 20, reserved, "0")?;
        let (kind, claims) = claims(bytes)?;
        let end = JSON + claims.len() as u64;
        check(
            u64::from(header.size.get()) == end,
            "size of the HCL report",
            8,
            header.size,
            "the end of its claims",
        )?;
        zeros(bytes, "bytes after the claims", end..bytes.len() as u64)?;
        let hardware = hardware(bytes, kind)?;
        Ok(Self { hardware, claims })
    }

    /// Returns `REPORT_DATA` of the hardware report.
    pub fn report_data(&self) -> Digest<64> {
        let (report, offset) = match self.hardware {
            HclHardware::Snp(report) => (report, SNP_REPORT_DATA),
            HclHardware::Tdx(report) => (report, TD_REPORT_DATA),
        };
        let data = read_at::<Digest<64>>(report, "REPORT_DATA", offset);
        data.expect("a hardware report of an HCL report is whole")
    }

    /// Returns the AK that the claims name, `HCLAkPub`, as `SubjectPublicKeyInfo` in DER. Nothing is said about whether the
    /// hardware report binds it, or is genuine.
    ///
    /// # Errors
    /// Claims without one key of that name, or with one that is none to sign with.
    pub fn ak(&self) -> Result<Bytes, TpmFinding> {
        self.key().map(|key| key.spki())
    }

    /// As [`HclReport::ak`].
    pub(super) fn key(&self) -> Result<Key, TpmFinding> {
        let claims: RuntimeClaims =
            serde_json::from_slice(self.claims).map_err(|error| malformed(error.to_string()))?;
        let mut named = claims.keys.iter().filter(|key| key.kid == "HCLAkPub");
        match (named.next(), named.next()) {
            (Some(key), None) => key.key(),
            (None, _) => Err(malformed("they have no key HCLAkPub".into())),
            (Some(_), Some(_)) => Err(malformed("they have two keys HCLAkPub".into())),
        }
    }

    /// Checks that the hardware report is over the claims: `REPORT_DATA` is their SHA-256 and 32 zeros.
    pub(super) fn binds_claims(&self) -> Result<(), TpmFinding> {
        let (claims, report_data) = (Sha256::of(self.claims), self.report_data());
        let bound = [*claims.bytes(), [0; 32]].concat();
        let finding = TpmFinding::TpmHclClaimsDiffer { claims, report_data };
        (*report_data.bytes() == *bound).then_some(()).ok_or(finding)
    }
}

/// Returns the kind of the report and its claims.
fn claims(bytes: &[u8]) -> Result<(u32, &[u8]), FieldError> {
    let claims: Claims = read_at(bytes, "claims of the HCL report", CLAIMS)?;
    let version = claims.version.get();
    check(version == 1, "version of the claims", CLAIMS + 4, version, "1")?;
    let hash = claims.hash.get();
    check(hash == SHA256, "hash of the claims", CLAIMS + 12, hash, "1, SHA-256")?;
    let length = u64::from(claims.length.get());
    let size = u64::from(claims.size.get());
    let expected = JSON - CLAIMS + length;
    check(
        size == expected,
        "size of the claims",
        CLAIMS,
        size,
        "20 more than that of their JSON",
    )?;
    Ok((claims.kind.get(), slice(bytes, "JSON of the claims", JSON, length)?))
}

fn hardware(bytes: &[u8], kind: u32) -> Result<HclHardware<'_>, FieldError> {
    let report = |size| slice(bytes, "hardware report", HARDWARE, size);
    match kind {
        SNP => report(SNP_REPORT).map(HclHardware::Snp),
        TDX => {
            zeros(bytes, "bytes after the TD report", HARDWARE + TD_REPORT..CLAIMS)?;
            report(TD_REPORT).map(HclHardware::Tdx)
        }
        kind => Err(FieldError::Value {
            field: "kind of the hardware report",
            offset: CLAIMS + 8,
            value: kind.into(),
            expected: "2, SEV-SNP, or 4, TDX",
        }),
    }
}

fn zeros(bytes: &[u8], field: &'static str, range: core::ops::Range<u64>) -> Result<(), FieldError> {
    let bytes = slice(bytes, field, range.start, range.end - range.start)?;
    let other = bytes.iter().position(|byte| *byte != 0);
    let value = other.map_or(0, |at| bytes[at]);
    check(
        other.is_none(),
        field,
        range.start + other.unwrap_or(0) as u64,
        value,
        "0",
    )
}

fn malformed(why: String) -> TpmFinding {
    let what = "run-time claims of the HCL report";
    TpmFinding::TpmMalformed { what, why }
}

/// What of the claims is read.
#[derive(Deserialize)]
struct RuntimeClaims {
    keys: Vec<Jwk>,
}

/// RFC 7517 and RFC 7518, section 6.3.
#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

impl Jwk {
    fn key(&self) -> Result<Key, TpmFinding> {
        let number = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        let numbers = number(&self.n).zip(number(&self.e)).filter(|_| self.kty == "RSA");
        let (modulus, exponent) = numbers.ok_or_else(|| malformed("their key HCLAkPub is not RSA".into()))?;
        Key::rsa_of(&modulus, &exponent)
    }
}
