//! Evidence as the attesters of Confidential Containers write it: JSON of guest-components 0.21, and of the versions
//! before as far as verifiers still meet it.
//!
//! Only read and brought into its raw form: what is genuine there is genuine here.

mod azure;
mod octets;
mod snp;
mod tdx;
mod tpm;

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString as _};
use core::fmt;

use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Evidence;
use super::tpm::TpmFinding;
use crate::FieldError;

/// Evidence is less than this: the largest has the log of a TD, 256 KiB, in base64. In bytes.
const LONGEST: usize = 4 << 20;

/// Returns the raw evidence in `json`, which is that of the attester `snp`, `tdx`, `tpm`, `az-snp-vtpm` or `az-tdx-vtpm`.
///
/// # Errors
/// No JSON, that of another attester, or values that are none.
pub fn read(json: &[u8]) -> Result<Evidence, CocoError> {
    if json.len() > LONGEST {
        return Err(CocoError::TooLarge { size: json.len() });
    }
    let Keys(keys) = parse(json, "evidence")?;
    let has = |key: &str| keys.contains(key);
    if has("attestation_report") {
        parse::<snp::Snp>(json, "snp")?.evidence()
    } else if has("td_quote") {
        parse::<azure::AzTdx>(json, "az-tdx-vtpm")?.evidence()
    } else if has("vcek") {
        parse::<azure::AzSnp>(json, "az-snp-vtpm")?.evidence()
    } else if has("ak_public") {
        parse::<tpm::Tpm>(json, "tpm")?.evidence()
    } else if has("quote") {
        parse::<tdx::Tdx>(json, "tdx")?.evidence()
    } else {
        let keys: alloc::vec::Vec<_> = keys.into_iter().collect();
        Err(CocoError::Unknown { keys: keys.join(", ") })
    }
}

/// What is wrong with the JSON of an attester.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CocoError {
    #[error("the JSON is {size} bytes long, expected no more than 4 MiB")]
    TooLarge { size: usize },
    #[error("no JSON of the attester {attester}: {why}")]
    Json { attester: &'static str, why: String },
    #[error(
        "no attester is known whose evidence has the keys {keys}; known are snp, tdx, tpm, az-snp-vtpm and az-tdx-vtpm"
    )]
    Unknown { keys: String },
    #[error("{field} is malformed, expected {expected}")]
    Value {
        field: &'static str,
        expected: &'static str,
    },
    #[error(transparent)]
    Hcl(#[from] FieldError),
    #[error(transparent)]
    Ak(#[from] TpmFinding),
}

fn parse<T: DeserializeOwned>(json: &[u8], attester: &'static str) -> Result<T, CocoError> {
    serde_json::from_slice(json).map_err(|error| CocoError::Json {
        attester,
        why: error.to_string(),
    })
}

/// The keys of an object.
struct Keys(BTreeSet<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject;
        impl<'de> Visitor<'de> for OfObject {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    keys.insert(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(OfObject)
    }
}
