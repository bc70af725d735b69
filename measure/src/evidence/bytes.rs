//! Bytes as they stand in JSON: base64.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

/// Raw bytes, shown and stored as base64 (RFC 4648, section 4).
#[derive(Clone, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bytes(Vec<u8>);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self))
    }
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = BASE64.decode(String::deserialize(deserializer)?.as_bytes());
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use alloc::vec;

    #[test]
    fn evidence_is_read_as_it_was_written() {
        let evidence = Evidence::Snp(SnpEvidence {
            report: vec![0, 1, 2].into(),
            ..SnpEvidence::default()
        });
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(text, r#"{"platform":"snp","report":"AAEC"}"#);
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
        let values = [(11, Bytes::from(vec![1]))].into();
        let evidence = Evidence::Tpm(TpmEvidence {
            pcrs: [("sha256".into(), values)].into(),
            ..TpmEvidence::default()
        });
        let text = serde_json::to_string(&evidence).unwrap();
        assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
        assert!(serde_json::from_str::<Evidence>(&text.replace("11", "300")).is_err());
        assert!(serde_json::from_str::<Evidence>(r#"{"platform":"snp","report":"AAE"}"#).is_err());
        assert!(serde_json::from_str::<Evidence>(r#"{"platform":"snp","report":"","other":1}"#).is_err());
    }
}
