//! Bytes in JSON: a list of numbers, or text in one of the encodings.

use alloc::string::String;
use alloc::vec::Vec;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use serde::Deserialize;

use super::CocoError;

/// Bytes as older and newer attesters write them.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Octets {
    Numbers(Vec<u8>),
    Text(String),
}

impl Octets {
    /// Returns the bytes; text is hex.
    pub(super) fn hex(self, field: &'static str) -> Result<Vec<u8>, CocoError> {
        self.decode(field, "hex", |text| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok())
    }

    /// Returns the bytes; text is base64 (RFC 4648, section 4).
    pub(super) fn base64(self, field: &'static str) -> Result<Vec<u8>, CocoError> {
        self.decode(field, "base64", |text| BASE64.decode(text.as_bytes()).ok())
    }

    /// Returns the bytes; text is base64url (RFC 4648, section 5), whose padding may be left out.
    pub(super) fn base64url(self, field: &'static str) -> Result<Vec<u8>, CocoError> {
        self.decode(field, "base64url", |text| {
            let text = text.trim_end_matches('=');
            BASE64URL_NOPAD.decode(text.as_bytes()).ok()
        })
    }

    fn decode(
        self,
        field: &'static str,
        expected: &'static str,
        decode: fn(&str) -> Option<Vec<u8>>,
    ) -> Result<Vec<u8>, CocoError> {
        match self {
            Self::Numbers(bytes) => Ok(bytes),
            Self::Text(text) => decode(&text).ok_or(CocoError::Value { field, expected }),
        }
    }
}
