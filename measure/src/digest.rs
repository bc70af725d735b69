//! Digests as types; the only place where hex is read or written.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A digest of `N` bytes, shown and stored as lower-case hex.
#[derive(
    Clone, Copy, Eq, FromBytes, Hash, Immutable, IntoBytes, KnownLayout, Ord, PartialEq, PartialOrd, Unaligned,
)]
#[repr(transparent)]
pub struct Digest<const N: usize>([u8; N]);

/// What names files, packages and releases, and what the kernel-hashes table of SEV-SNP holds.
pub type Sha256 = Digest<32>;

/// What SEV-SNP and TDX measure with.
pub type Sha384 = Digest<48>;

/// What German bills of materials name the files of packages by (BSI TR-03183-2).
pub type Sha512 = Digest<64>;

impl Sha256 {
    /// Returns the SHA-256 of `data` (FIPS 180-4).
    pub fn of(data: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha256::digest(data).into())
    }
}

impl Sha384 {
    /// Returns the SHA-384 of `data` (FIPS 180-4).
    pub fn of(data: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha384::digest(data).into())
    }
}

impl Sha512 {
    /// Returns the SHA-512 of `data` (FIPS 180-4).
    pub fn of(data: impl AsRef<[u8]>) -> Self {
        Self(sha2::Sha512::digest(data).into())
    }
}

impl<const N: usize> Digest<N> {
    /// All bytes zero: a register before its first extend.
    pub const ZERO: Self = Self([0; N]);

    /// Returns the `N` raw bytes.
    pub const fn bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> From<[u8; N]> for Digest<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(bytes)
    }
}

impl<const N: usize> fmt::Display for Digest<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl<const N: usize> fmt::Debug for Digest<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A digest is `2 * N` lower-case hex digits and nothing else.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a digest: expected {expected} lower-case hex digits, found {found:?}")]
pub struct NotADigest {
    expected: usize,
    found: String,
}

impl<const N: usize> FromStr for Digest<N> {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| NotADigest {
            expected: 2 * N,
            found: text.into(),
        })
    }
}

impl<const N: usize> Serialize for Digest<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Digest<N> {
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

    /// FIPS 180-4 example: "abc".
    #[test]
    fn digests_of_abc_are_those_of_the_standard() {
        assert_eq!(
            Sha256::of("abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(&Sha384::of("abc").to_string()[..16], "cb00753f45a35e8b");
        assert_eq!(&Sha512::of("abc").to_string()[..16], "ddaf35a193617aba");
    }

    #[test]
    fn text_round_trips() {
        let digest = Sha384::of("a");
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn short_and_upper_case_hex_are_refused() {
        let error = "00ff".parse::<Sha384>().expect_err("four digits are not a SHA-384");
        assert_eq!(
            error.to_string(),
            r#"not a digest: expected 96 lower-case hex digits, found "00ff""#
        );
        let upper = Sha256::of("a").to_string().to_uppercase();
        assert!(upper.parse::<Sha256>().is_err());
    }
}
