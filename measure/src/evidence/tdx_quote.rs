//! Reader of TDX quotes.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::EvidenceError;
use crate::{Digest, Sha384};

/// A quote of version 4 or 5: Intel TDX DCAP Quoting Library API revision 0.9, appendix 3.
///
/// Only read: see [the module](super). What follows the body, the signature above all, is not looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TdxQuote<'a> {
    version: u16,
    body: &'a Body,
    /// Of TDX 1.5.
    service: Option<&'a Service>,
}

impl<'a> TdxQuote<'a> {
    /// Returns the quote that `bytes` begin with, which must be of a TD, and version 4 or 5.
    pub fn read(bytes: &'a [u8]) -> Result<Self, EvidenceError> {
        let (header, rest) = take::<Header>(bytes, bytes)?;
        let version = header.version.get();
        if header.tee_type != TEE_TYPE {
            return Err(EvidenceError::Field {
                field: "TEE type of the quote",
                offset: 4,
                value: header.tee_type.into(),
                expected: "0x81, TDX",
            });
        }
        match version {
            4 => take(rest, bytes).map(|(body, _)| Self::new(version, body, None)),
            5 => Self::read_5(rest, bytes),
            _ => Err(EvidenceError::Field {
                field: "version of the quote",
                offset: 0,
                value: version.into(),
                expected: "4 or 5",
            }),
        }
    }

    /// Returns the quote of version 5 whose header `rest` follows.
    fn read_5(rest: &'a [u8], bytes: &'a [u8]) -> Result<Self, EvidenceError> {
        let (descriptor, rest) = take::<Descriptor>(rest, bytes)?;
        let (body, rest) = take::<Body>(rest, bytes)?;
        match (descriptor.kind.get(), descriptor.size.get() as usize) {
            (BODY_10, size) if size == size_of::<Body>() => Ok(Self::new(5, body, None)),
            (BODY_15, size) if size == size_of::<Body>() + size_of::<Service>() => {
                let (service, _) = take(rest, bytes)?;
                Ok(Self::new(5, body, Some(service)))
            }
            (BODY_10 | BODY_15, size) => Err(EvidenceError::Field {
                field: "size of the body of the quote",
                offset: size_of::<Header>() as u64 + 2,
                value: size as u64,
                expected: "584 for TDX 1.0, 648 for TDX 1.5",
            }),
            (kind, _) => Err(EvidenceError::Field {
                field: "type of the body of the quote",
                offset: size_of::<Header>() as u64,
                value: kind.into(),
                expected: "2, TDX 1.0, or 3, TDX 1.5",
            }),
        }
    }

    const fn new(version: u16, body: &'a Body, service: Option<&'a Service>) -> Self {
        Self { version, body, service }
    }

    /// Returns how many bytes of the quote, from its start, its signature is over: header, descriptor and body.
    pub const fn signed_size(&self) -> usize {
        let descriptor = if self.version == 5 { size_of::<Descriptor>() } else { 0 };
        let service = if self.service.is_some() {
            size_of::<Service>()
        } else {
            0
        };
        size_of::<Header>() + descriptor + size_of::<Body>() + service
    }

    /// Returns the version of the format, 4 or 5.
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// Returns `MRSEAM`, of the TDX module.
    pub const fn mr_seam(&self) -> Sha384 {
        self.body.mr_seam
    }

    /// Returns `TDATTRIBUTES`, bit 0 being debug.
    pub const fn td_attributes(&self) -> u64 {
        self.body.td_attributes.get()
    }

    /// Returns `XFAM`, the extended features that the TD may use.
    pub const fn xfam(&self) -> u64 {
        self.body.xfam.get()
    }

    /// Returns `MRTD`, of what was in memory at launch.
    pub const fn mrtd(&self) -> Sha384 {
        self.body.mrtd
    }

    /// Returns `MRCONFIGID`, which the host chose at launch.
    pub const fn mr_config_id(&self) -> Sha384 {
        self.body.mr_config_id
    }

    /// Returns `MROWNER`, which the host chose at launch.
    pub const fn mr_owner(&self) -> Sha384 {
        self.body.mr_owner
    }

    /// Returns `MROWNERCONFIG`, which the host chose at launch.
    pub const fn mr_owner_config(&self) -> Sha384 {
        self.body.mr_owner_config
    }

    /// Returns `RTMR0` to `RTMR3`.
    pub const fn rtmrs(&self) -> [Sha384; 4] {
        self.body.rtmrs
    }

    /// Returns `REPORTDATA`, which the guest chose.
    pub const fn report_data(&self) -> Digest<64> {
        self.body.report_data
    }

    /// Returns `MRSERVICETD`, of the service TDs bound to this one; nothing where the quote is of TDX 1.0.
    pub fn mr_service_td(&self) -> Option<Sha384> {
        self.service.map(|service| service.mr_service_td)
    }
}

/// Splits a structure off the front of `rest`, the end of the quote `bytes`.
fn take<'a, T: FromBytes + Immutable + KnownLayout + Unaligned>(
    rest: &'a [u8],
    bytes: &[u8],
) -> Result<(&'a T, &'a [u8]), EvidenceError> {
    T::ref_from_prefix(rest).map_err(|_| EvidenceError::Size {
        what: "TDX quote",
        size: bytes.len() as u64,
        expected: "a header of 48 bytes and a body of 584 or 648 bytes",
    })
}

const TEE_TYPE: U32 = U32::new(0x81);

/// Types of bodies that are of a TD.
const BODY_10: u16 = 2;
const BODY_15: u16 = 3;

/// "TD Quote Header".
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    version: U16,
    _attestation_key_type: U16,
    tee_type: U32,
    _reserved_0x8: U32,
    _vendor: [u8; 16],
    _user_data: [u8; 20],
}

const _: () = assert!(size_of::<Header>() == 48);

/// "TD Quote Body Descriptor" of version 5, without the body.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Descriptor {
    kind: U16,
    /// Of the body, in bytes.
    size: U32,
}

/// "TD Quote Body" of TDX 1.0.
#[derive(Debug, Eq, FromBytes, Immutable, KnownLayout, PartialEq, Unaligned)]
#[repr(C)]
struct Body {
    _tee_tcb_svn: [u8; 16],
    mr_seam: Sha384,
    _mr_signer_seam: Sha384,
    _seam_attributes: U64,
    td_attributes: U64,
    xfam: U64,
    mrtd: Sha384,
    mr_config_id: Sha384,
    mr_owner: Sha384,
    mr_owner_config: Sha384,
    rtmrs: [Sha384; 4],
    report_data: Digest<64>,
}

const _: () = assert!(size_of::<Body>() == 584);

/// What the body of TDX 1.5 has after that of TDX 1.0.
#[derive(Debug, Eq, FromBytes, Immutable, KnownLayout, PartialEq, Unaligned)]
#[repr(C)]
struct Service {
    _tee_tcb_svn_2: [u8; 16],
    mr_service_td: Sha384,
}

const _: () = assert!(size_of::<Service>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use std::string::ToString as _;

    use proptest::prelude::*;

    /// Returns a quote whose body holds its offset, divided by 8, in every byte.
    fn quote(version: u8, kind: u8, size: u16) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        (bytes[0], bytes[4]) = (version, 0x81);
        if version == 5 {
            let [low, high] = size.to_le_bytes();
            bytes.extend([kind, 0, low, high, 0, 0]);
        }
        bytes.extend((0..648).map(|at| (at / 8) as u8));
        bytes
    }

    #[test]
    fn fields_are_at_their_offsets() {
        for bytes in [quote(4, 0, 0), quote(5, 2, 584), quote(5, 3, 648)] {
            let quote = TdxQuote::read(&bytes).unwrap();
            let first = |digest: Sha384| usize::from(digest.bytes()[0]) * 8;
            assert_eq!(first(quote.mrtd()), 136);
            assert_eq!(first(quote.mr_config_id()), 184);
            assert_eq!(quote.rtmrs().map(first), [328, 376, 424, 472]);
            assert_eq!(usize::from(quote.report_data().bytes()[0]) * 8, 520);
            assert_eq!(quote.mr_service_td().map(first), (bytes[48] == 3).then_some(600));
        }
    }

    #[test]
    fn what_is_no_quote_of_a_td_is_refused() {
        let refusal = |bytes: &[u8]| TdxQuote::read(bytes).unwrap_err().to_string();
        assert_eq!(
            refusal(&quote(3, 0, 0)),
            "version of the quote at offset 0x0 is 0x3, expected 4 or 5"
        );
        assert_eq!(
            refusal(&quote(5, 1, 384)),
            "type of the body of the quote at offset 0x30 is 0x1, expected 2, TDX 1.0, or 3, TDX 1.5"
        );
        assert_eq!(
            refusal(&quote(5, 3, 584)),
            "size of the body of the quote at offset 0x32 is 0x248, expected 584 for TDX 1.0, 648 for TDX 1.5"
        );
        let mut sgx = quote(4, 0, 0);
        sgx[4] = 0;
        assert_eq!(
            refusal(&sgx),
            "TEE type of the quote at offset 0x4 is 0x0, expected 0x81, TDX"
        );
    }

    #[test]
    fn no_quote_is_read_past_its_end() {
        for (bytes, needed) in [(quote(4, 0, 0), 632), (quote(5, 2, 584), 638), (quote(5, 3, 648), 702)] {
            assert!(TdxQuote::read(&bytes[..needed]).is_ok());
            for size in [0, 47, needed - 1] {
                let error = TdxQuote::read(&bytes[..size]).unwrap_err();
                assert!(matches!(error, EvidenceError::Size { .. }), "{size}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_after_a_header_are_a_quote_or_an_error(
            version in 3_u8..7,
            kind in 0_u8..5,
            size in prop_oneof![Just(584_u16), Just(648), any::<u16>()],
            length in 0_usize..=702,
        ) {
            let bytes = quote(version, kind, size);
            let bytes = &bytes[..length.min(bytes.len())];
            if let Ok(quote) = TdxQuote::read(bytes) {
                prop_assert!(matches!((version, kind, size), (4, ..) | (5, 2, 584) | (5, 3, 648)));
                prop_assert_eq!(quote.version(), u16::from(version));
            }
        }
    }
}
