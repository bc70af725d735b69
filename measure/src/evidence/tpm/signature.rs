//! Reader of signatures: `TPMT_SIGNATURE` of TPM 2.0 Library 1.59, part 2, section 11.3.4.

use alloc::vec::Vec;

use super::algorithm::HashId;
use super::fields::Fields;
use crate::FieldError;

/// A signature and how it was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signature<'a> {
    pub hash: HashId,
    pub value: Value<'a>,
}

/// The numbers of a signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Value<'a> {
    /// RSASSA-PKCS1-v1_5.
    RsaSsa(&'a [u8]),
    RsaPss(&'a [u8]),
    Ecdsa {
        r: &'a [u8],
        s: &'a [u8],
    },
}

const RSASSA: u16 = 0x0014;
const RSAPSS: u16 = 0x0016;
const ECDSA: u16 = 0x0018;

/// Of RSA-4096, in bytes.
const RSA: u16 = 512;

/// Of P-521, in bytes.
const EC: u16 = 66;

impl<'a> Signature<'a> {
    /// Returns the signature that is all of `bytes`.
    ///
    /// # Errors
    /// A scheme that signs no quotes, or anything else.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::new(bytes);
        let scheme = fields.u16("scheme of the signature")?;
        let hash = HashId(fields.u16("hash of the signature")?);
        let mut number = |most, expected| fields.sized("size of the signature", most, expected);
        let value = match scheme {
            RSASSA => Value::RsaSsa(number(RSA, "no more than 512")?),
            RSAPSS => Value::RsaPss(number(RSA, "no more than 512")?),
            ECDSA => Value::Ecdsa {
                r: number(EC, "no more than 66")?,
                s: number(EC, "no more than 66")?,
            },
            other => {
                return Err(FieldError::Value {
                    field: "scheme of the signature",
                    offset: 0,
                    value: other.into(),
                    expected: "0x14, RSASSA, 0x16, RSAPSS, or 0x18, ECDSA",
                });
            }
        };
        fields.end("bytes after the signature")?;
        Ok(Self { hash, value })
    }
}

/// Returns a `TPMT_SIGNATURE` over RSASSA-PKCS1-v1_5 with SHA-256: Azure's evidence has the number alone.
pub(in crate::evidence) fn rsassa_sha256(number: &[u8]) -> Option<Vec<u8>> {
    let size = u16::try_from(number.len()).ok()?;
    let header = [RSASSA, HashId::SHA256.0, size].map(u16::to_be_bytes);
    Some([header.as_flattened(), number].concat())
}
