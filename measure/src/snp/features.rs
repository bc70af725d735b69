//! The feature word of SEV-SNP guests.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// `SEV_FEATURES`: which protections are on, one bit each (APM volume 2 revision 3.42, table B-4), shown and stored as
/// `0x` and hex digits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GuestFeatures(u64);

impl GuestFeatures {
    /// SEV-SNP and nothing else: what KVM uses unless the VMM asks for more.
    pub const SNP_ACTIVE: Self = Self(1);

    /// Returns the features whose bits are set in `bits`.
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the word, bit 0 being SEV-SNP itself.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl fmt::Display for GuestFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A feature word is a decimal number, or a hexadecimal one after `0x`, below 2^64.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a guest feature word: expected a number as in 0x1, found {0:?}")]
pub struct NotFeatures(String);

impl FromStr for GuestFeatures {
    type Err = NotFeatures;

    fn from_str(text: &str) -> Result<Self, NotFeatures> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        number.map(Self).map_err(|_| NotFeatures(text.into()))
    }
}

impl Serialize for GuestFeatures {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GuestFeatures {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn words_are_read_in_both_bases_and_written_in_one() {
        assert_eq!("0x21".parse(), Ok(GuestFeatures::new(0x21)));
        assert_eq!("33".parse(), Ok(GuestFeatures::new(0x21)));
        assert_eq!(GuestFeatures::new(0x21).to_string(), "0x21");
        for text in ["", "0x", "0X1", "-1", "0x10000000000000000"] {
            assert_eq!(text.parse::<GuestFeatures>(), Err(NotFeatures(text.into())));
        }
    }
}
