//! The ID block: what the owner of a guest signs so that the SEV firmware starts only the launch they want.
//!
//! The firmware refuses a launch whose digest or policy is not that of the block, and puts the digest of the key that
//! signed it into every report (`ID_KEY_DIGEST`). A verifier can then trust the key, with a minimal
//! [`Identity::guest_svn`], instead of a table of launch digests: `ID_KEY_DIGEST` stays the same over all launches and
//! versions that one key signs.
//!
//! Without a key of one's own ([`IdAuth::key_less`]) there is no such stable digest: each block has its own key, which
//! anybody can compute and nobody has the private half of. `ID_KEY_DIGEST` then names the block itself: the launch digest,
//! both ids, the version and the policy, all at once.

mod key;

use alloc::string::String;
use core::fmt;

use data_encoding::BASE64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes};

pub use key::{IdKey, NotAnIdKey};
use key::{PublicKey, Signature};

use super::GuestPolicy;
use crate::{Digest, Sha384};

/// What an ID block says beside the launch digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Chosen by the owner of the guest; the SEV firmware copies it into reports and makes nothing of it.
    pub family_id: Digest<16>,
    /// As the family id.
    pub image_id: Digest<16>,
    /// Security version number of the guest, chosen by its owner.
    pub guest_svn: u32,
    /// The policy that the guest must be started with.
    pub policy: GuestPolicy,
}

/// ID block: AMD SEV-SNP Firmware ABI (56860) revision 1.58, section 8.18, "Structure of the ID Block".
///
/// Shown in base64, as QEMU (`sev-snp-guest,id-block=`) and kata (`snp_id_block`) take it.
#[derive(Clone, Copy, Debug, Eq, Immutable, IntoBytes, PartialEq)]
#[repr(C)]
pub struct IdBlock {
    launch_digest: Sha384,
    family_id: Digest<16>,
    image_id: Digest<16>,
    /// Of this format.
    version: U32,
    guest_svn: U32,
    policy: U64,
}

const _: () = assert!(size_of::<IdBlock>() == 96);

impl IdBlock {
    /// Returns the block that allows the launch of this digest, and no other.
    pub fn new(launch_digest: Sha384, identity: &Identity) -> Self {
        Self {
            launch_digest,
            family_id: identity.family_id,
            image_id: identity.image_id,
            version: 1.into(),
            guest_svn: identity.guest_svn.into(),
            policy: identity.policy.bits().into(),
        }
    }
}

/// ID authentication information: AMD SEV-SNP Firmware ABI (56860) revision 1.58, section 8.18, "Structure of the ID
/// Authentication Information".
///
/// Shown in base64, as QEMU (`sev-snp-guest,id-auth=`) and kata (`snp_id_auth`) take it.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
pub struct IdAuth {
    id_key_algo: U32,
    author_key_algo: U32,
    reserved_0x8: [u8; 56],
    id_block_signature: Signature,
    id_key: PublicKey,
    reserved_0x644: [u8; 60],
    id_key_signature: Signature,
    author_key: PublicKey,
    reserved_0xc84: [u8; 892],
}

const _: () = assert!(size_of::<IdAuth>() == 4096);

impl IdAuth {
    /// Returns the authentication of `block` by the ID key; the same for the same block and key (RFC 6979).
    pub fn signed(block: &IdBlock, key: &IdKey) -> Self {
        Self::new(key.sign(block.as_bytes()), key.public())
    }

    /// Returns the authentication of `block` by a constant signature and the key that it is valid under.
    ///
    /// It says no more than the block does, since anybody can compute it: see the module.
    pub fn key_less(block: &IdBlock) -> Self {
        let (signature, key) = key::constant(block.as_bytes());
        Self::new(signature, key)
    }

    /// Returns the same with the ID key vouched for by the author key; QEMU needs `author-key-enabled=on` with it.
    #[must_use]
    pub fn with_author(self, author: &IdKey) -> Self {
        Self {
            author_key_algo: ECDSA_P384_SHA384,
            id_key_signature: author.sign(self.id_key.as_bytes()),
            author_key: author.public(),
            ..self
        }
    }

    /// Returns `ID_KEY_DIGEST` of the reports.
    pub fn id_key_digest(&self) -> Sha384 {
        Sha384::of(self.id_key.as_bytes())
    }

    /// Returns `AUTHOR_KEY_DIGEST` of the reports; nothing without an author key.
    pub fn author_key_digest(&self) -> Option<Sha384> {
        let author = self.author_key_algo == ECDSA_P384_SHA384;
        author.then(|| Sha384::of(self.author_key.as_bytes()))
    }

    fn new(id_block_signature: Signature, id_key: PublicKey) -> Self {
        Self {
            id_key_algo: ECDSA_P384_SHA384,
            author_key_algo: U32::ZERO,
            reserved_0x8: [0; _],
            id_block_signature,
            id_key,
            reserved_0x644: [0; _],
            id_key_signature: Signature::NONE,
            author_key: PublicKey::NONE,
            reserved_0xc84: [0; _],
        }
    }
}

/// The one algorithm there is: AMD SEV-SNP Firmware ABI (56860) revision 1.58, chapter 10, "Encodings for Signature
/// Algorithms".
const ECDSA_P384_SHA384: U32 = U32::new(1);

impl fmt::Display for IdBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64(self.as_bytes()))
    }
}

impl fmt::Display for IdAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64(self.as_bytes()))
    }
}

fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

#[cfg(test)]
mod tests;
