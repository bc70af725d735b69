//! dm-verity: the root hash that a command line names, computed again from the data.
//!
//! Linux, `Documentation/admin-guide/device-mapper/verity.rst` (the tree, hash type 1: the salt comes first), and
//! cryptsetup 2.7, `lib/verity/verity.c` (the superblock).

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Sha256;
use crate::fields::{FieldError, check, read_at};

/// Bytes of a block, of data as of hashes.
pub const BLOCK: usize = 4096;

const HASH: usize = 32;

/// What of a hash tree decides its root.
#[derive(Clone, Debug)]
pub struct Verity {
    uuid: [u8; 16],
    salt: Vec<u8>,
    blocks: u64,
}

#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Superblock {
    signature: [u8; 8],
    version: U32,
    hash_type: U32,
    uuid: [u8; 16],
    algorithm: [u8; 32],
    data_block_size: U32,
    hash_block_size: U32,
    data_blocks: U64,
    salt_size: U16,
    _padding: [u8; 6],
    salt: [u8; 256],
}

impl Verity {
    /// Returns what the superblock says, at the start of `bytes`.
    ///
    /// # Errors
    /// Bytes that are no superblock; other hashes than SHA-256, other blocks than of 4096 bytes.
    pub fn read(bytes: &[u8]) -> Result<Self, FieldError> {
        let head: Superblock = read_at(bytes, "superblock of the hash tree", 0)?;
        let signature = u64::from_be_bytes(head.signature);
        check(head.signature == *b"verity\0\0", "signature", 0, signature, "verity")?;
        check(head.version == 1, "version", 8, head.version, "1")?;
        check(head.hash_type == 1, "hash type", 12, head.hash_type, "1")?;
        let algorithm = head.algorithm.starts_with(b"sha256\0");
        check(algorithm, "hash algorithm", 32, head.algorithm[0], "sha256")?;
        for (size, offset) in [(head.data_block_size, 64), (head.hash_block_size, 68)] {
            check(size.get() as usize == BLOCK, "block size", offset, size, "4096")?;
        }
        let size = usize::from(head.salt_size.get());
        check(
            size <= head.salt.len(),
            "size of the salt",
            80,
            head.salt_size,
            "256 at most",
        )?;
        Ok(Self {
            uuid: head.uuid,
            salt: head.salt[..size].into(),
            blocks: head.data_blocks.get(),
        })
    }

    /// Returns the identifier of the tree.
    pub const fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// Returns what the digest of each block begins with.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Returns the one block that says this, and nothing else.
    pub fn superblock(&self) -> Vec<u8> {
        let mut head = Superblock {
            signature: *b"verity\0\0",
            version: 1.into(),
            hash_type: 1.into(),
            uuid: self.uuid,
            algorithm: [0; 32],
            data_block_size: (BLOCK as u32).into(),
            hash_block_size: (BLOCK as u32).into(),
            data_blocks: self.blocks.into(),
            salt_size: (self.salt.len() as u16).into(),
            _padding: [0; 6],
            salt: [0; 256],
        };
        head.algorithm[..6].copy_from_slice(b"sha256");
        head.salt[..self.salt.len()].copy_from_slice(&self.salt);
        let mut block = head.as_bytes().to_vec();
        block.resize(BLOCK, 0);
        block
    }

    /// Returns the size of the data that the tree covers, in bytes; nothing if it has more than 64 bits.
    pub const fn size(&self) -> Option<u64> {
        self.blocks.checked_mul(BLOCK as u64)
    }

    /// Returns the digest of each block of `data`, one behind the other; what is no whole block at the end is left out.
    ///
    /// Blocks do not wait for each other, so many are hashed at once: two to three times as fast as one by one.
    pub fn digests(&self, data: &[u8]) -> Vec<u8> {
        let blocks: Vec<&[u8]> = data.chunks_exact(BLOCK).collect();
        let mut digests = vec![[0; HASH]; blocks.len()];
        tape_sha256::hash_many_prefixed(&self.salt, &blocks, &mut digests);
        digests.into_flattened()
    }

    /// Returns the root hash over the digests of all blocks of the data, and the tree that leads there, as it lies behind
    /// the superblock; nothing where there is no data.
    pub fn tree(&self, mut digests: Vec<u8>) -> Option<(Sha256, Vec<u8>)> {
        let mut levels = Vec::new();
        while digests.len() > HASH {
            digests.resize(digests.len().next_multiple_of(BLOCK), 0);
            let above = self.digests(&digests);
            levels.push(digests);
            digests = above;
        }
        levels.reverse();
        let root = <[u8; HASH]>::try_from(digests).ok().map(Sha256::from)?;
        Some((root, levels.concat()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    /// Returns a superblock for so many blocks of data, salted with 32 bytes of 7.
    fn superblock(blocks: u64) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..6].copy_from_slice(b"verity");
        (bytes[8], bytes[12]) = (1, 1);
        bytes[32..38].copy_from_slice(b"sha256");
        (bytes[65], bytes[69]) = (16, 16);
        bytes[72..80].copy_from_slice(&blocks.to_le_bytes());
        bytes[80] = 32;
        bytes[88..120].fill(7);
        bytes
    }

    /// `veritysetup format` 2.6.1 of `--salt 0707…07` over 300 blocks of which each begins with its number; and over one.
    #[test]
    fn the_root_is_that_of_veritysetup() {
        for (blocks, root) in [
            (1, "69ecf24343646bcbcebaad0b41765fd203dfb85bb15c25d51e4d92ca4fdb1b7b"),
            (300, "02ad5da0da5e5e7407180a93dfcc3abe26af129db031b046da4b37d134ac76d1"),
        ] {
            let verity = Verity::read(&superblock(blocks)).unwrap();
            let block = |number: u64| {
                let mut block = vec![0; BLOCK];
                block[..8].copy_from_slice(&number.to_le_bytes());
                block
            };
            let data: Vec<u8> = (0..blocks).flat_map(block).collect();
            assert_eq!(verity.size(), Some(data.len() as u64));
            let (front, back) = data.split_at(data.len() / BLOCK / 2 * BLOCK);
            let digests = [verity.digests(front), verity.digests(back)].concat();
            let (found, tree) = verity.tree(digests).unwrap();
            assert_eq!(found.to_string(), root);
            assert_eq!(tree.len(), [0, 4 * BLOCK][usize::from(blocks > 1)]);
        }
    }

    /// By sha2, one block at a time: counts and salts around what is hashed at once.
    #[test]
    fn blocks_that_are_hashed_at_once_have_their_own_digests() {
        use sha2::Digest as _;
        for salt in [0, 1, 23, 32, 55, 56, 64, 255, 256_u16] {
            let mut superblock = superblock(0);
            superblock[80..82].copy_from_slice(&salt.to_le_bytes());
            superblock.resize(512, 0);
            let salted = sha2::Sha256::new_with_prefix(&superblock[88..][..usize::from(salt)]);
            let verity = Verity::read(&superblock).unwrap();
            for count in (0..40).chain([63, 64, 65, 100]) {
                let data: Vec<u8> = (0..count * BLOCK)
                    .map(|byte| (byte * byte / 7 + byte / BLOCK) as u8)
                    .collect();
                let blocks = data.chunks_exact(BLOCK);
                let one_by_one = blocks.flat_map(|block| salted.clone().chain_update(block).finalize());
                assert_eq!(
                    verity.digests(&data),
                    one_by_one.collect::<Vec<_>>(),
                    "{count} blocks, salt {salt}"
                );
            }
        }
    }

    #[test]
    fn another_superblock_is_refused() {
        for (offset, field) in [
            (0, "signature"),
            (8, "version"),
            (12, "hash type"),
            (32, "hash algorithm"),
            (64, "block size"),
            (68, "block size"),
            (81, "size of the salt"),
        ] {
            let mut bytes = superblock(1);
            bytes[offset] ^= 2;
            let error = Verity::read(&bytes).unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        let verity = Verity::read(&superblock(1)).unwrap();
        assert_eq!(verity.superblock()[..512], superblock(1));
        assert_eq!(verity.superblock()[512..], [0; 3584]);
        assert!(Verity::read(&superblock(1)[..100]).is_err());
        assert_eq!(Verity::read(&superblock(u64::MAX)).unwrap().size(), None);
        assert_eq!(Verity::read(&superblock(1)).unwrap().tree(Vec::new()), None);
    }
}
