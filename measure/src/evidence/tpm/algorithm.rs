//! Hash algorithms of a TPM, as its structures and the TCG's documents name them.

use alloc::borrow::Cow;
use alloc::vec::Vec;

use crate::{Sha256, Sha384, Sha512};

/// `TPM_ALG_ID` of a hash: TPM 2.0 Library 1.59, part 2, section 6.3.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct HashId(pub u16);

impl HashId {
    pub const SHA256: Self = Self(0x000b);
    pub const SHA384: Self = Self(0x000c);
    pub const SHA512: Self = Self(0x000d);

    /// Returns how the TCG names the hash, `sha256`; of a rare one, its number.
    pub fn name(self) -> Cow<'static, str> {
        match self.0 {
            0x0004 => "sha1".into(),
            0x000b => "sha256".into(),
            0x000c => "sha384".into(),
            0x000d => "sha512".into(),
            0x0012 => "sm3_256".into(),
            0x0027 => "sha3_256".into(),
            0x0028 => "sha3_384".into(),
            0x0029 => "sha3_512".into(),
            other => alloc::format!("{other:#06x}").into(),
        }
    }

    /// Returns the digest of `data`; nothing for a hash that no evidence may be signed with, SHA-1 above all.
    pub(super) fn digest(self, data: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::SHA256 => Some(Sha256::of(data).bytes().to_vec()),
            Self::SHA384 => Some(Sha384::of(data).bytes().to_vec()),
            Self::SHA512 => Some(Sha512::of(data).bytes().to_vec()),
            _ => None,
        }
    }
}
