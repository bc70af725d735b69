//! dm-verity hash trees, format 1, as `veritysetup format` writes them.
//!
//! Source: Linux, Documentation/admin-guide/device-mapper/verity.rst (the tree), and cryptsetup,
//! lib/verity/verity.c (the superblock, and the order of levels: highest first).

use std::io::{Seek, SeekFrom, Write};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::thread;

use anyhow::{Context as _, Result};
use measure::Sha256;
use sha2::Digest as _;
use uuid::Uuid;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::mend::Exit;

/// Bytes of a data block and of a hash block.
pub const BLOCK: usize = 4096;

/// Writes superblock and tree over the first `size` bytes of `data` to `out`, from its start; returns the root hash.
///
/// The data is read once, in pieces; in memory stays 1/16384 of it.
pub fn write_verity<D: FileExt + Sync + ?Sized>(
    data: &D,
    size: u64,
    salt: &[u8; 32],
    uuid: Uuid,
    out: &mut (impl Write + Seek),
) -> Result<Sha256> {
    let blocks = whole_blocks(size)?;
    let salted = Salted::new(salt);
    let levels = levels(blocks);
    out.rewind()?;
    out.write_all(&block_of(Superblock::new(blocks, salt, uuid).as_bytes()))?;
    if levels.is_empty() {
        return Ok(digest(&salted.data_digests(data, 0, 1)?)); // one block needs no tree: its hash is the root
    }
    out.seek(SeekFrom::Start(level_start(&levels, 0)))?;
    let mut above = Vec::new();
    for first in (0..blocks).step_by(BATCH) {
        let mut hashes = salted.data_digests(data, first, (blocks - first).min(BATCH as u64))?;
        fill_block(&mut hashes);
        out.write_all(&hashes)?;
        above.extend(salted.digests(&hashes));
    }
    for level in 1..levels.len() {
        fill_block(&mut above);
        out.seek(SeekFrom::Start(level_start(&levels, level)))?;
        out.write_all(&above)?;
        above = salted.digests(&above);
    }
    Ok(digest(&above))
}

/// Returns the size of what [`write_verity`] writes for `size` bytes of data, in bytes.
pub fn verity_size(size: u64) -> Result<u64> {
    let levels = levels(whole_blocks(size)?);
    Ok(BLOCK as u64 * (1 + levels.iter().sum::<u64>()))
}

fn whole_blocks(size: u64) -> Result<u64> {
    if size == 0 || !size.is_multiple_of(BLOCK as u64) {
        return Err(Exit::Usage.because(
            format!("dm-verity protects whole blocks of {BLOCK} bytes, found {size} bytes"),
            "pad the image with zeros to a multiple of the block size",
        ));
    }
    Ok(size / BLOCK as u64)
}

/// Hash blocks of each level, the one over the data first; the last has one.
fn levels(data_blocks: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut below = data_blocks;
    while below > 1 {
        below = below.div_ceil(HASHES as u64);
        levels.push(below);
    }
    levels
}

/// The highest level is behind the superblock, the lowest at the end.
fn level_start(levels: &[u64], level: usize) -> u64 {
    BLOCK as u64 * (1 + levels[level + 1..].iter().sum::<u64>())
}

/// SHA-256 with the salt already in: hash type 1 puts it in front.
struct Salted(sha2::Sha256);

impl Salted {
    fn new(salt: &[u8; 32]) -> Self {
        Self(sha2::Sha256::new_with_prefix(salt))
    }

    /// Returns the digests of `count` blocks of data, each core reading and hashing its own stretch of them.
    fn data_digests<D: FileExt + Sync + ?Sized>(&self, data: &D, first: u64, count: u64) -> Result<Vec<u8>> {
        let mut digests = vec![0; usize::try_from(count)? * HASH];
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let stretch = digests.len().div_ceil(HASH).div_ceil(cores);
        thread::scope(|scope| {
            let start =
                |(nth, digests)| scope.spawn(move || self.stretch(data, first + (nth * stretch) as u64, digests));
            let workers: Vec<_> = digests.chunks_mut(stretch * HASH).enumerate().map(start).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("hashing does not panic"))
        })?;
        Ok(digests)
    }

    /// Fills `digests` with those of the blocks from `first` on.
    fn stretch<D: FileExt + ?Sized>(&self, data: &D, first: u64, digests: &mut [u8]) -> Result<()> {
        let mut buffer = vec![0; READ * BLOCK];
        let mut offset = first * BLOCK as u64;
        for digests in digests.chunks_mut(READ * HASH) {
            let read = &mut buffer[..digests.len() / HASH * BLOCK];
            data.read_exact_at(read, offset)
                .with_context(|| format!("cannot read data at byte {offset}"))?;
            for (block, digest) in read.chunks_exact(BLOCK).zip(digests.chunks_exact_mut(HASH)) {
                digest.copy_from_slice(&self.digest(block));
            }
            offset += read.len() as u64;
        }
        Ok(())
    }

    fn digests(&self, blocks: &[u8]) -> Vec<u8> {
        blocks
            .chunks_exact(BLOCK)
            .flat_map(|block| self.digest(block))
            .collect()
    }

    fn digest(&self, block: &[u8]) -> [u8; HASH] {
        self.0.clone().chain_update(block).finalize().into()
    }
}

/// The one digest that a level of one block, or a single data block, leaves.
fn digest(digests: &[u8]) -> Sha256 {
    let digest: [u8; HASH] = digests.try_into().expect("the highest level is one block");
    Sha256::from(digest)
}

/// Unused places of a hash block are zero.
fn fill_block(hashes: &mut Vec<u8>) {
    hashes.resize(hashes.len().next_multiple_of(BLOCK), 0);
}

fn block_of(bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes.to_vec();
    fill_block(&mut block);
    block
}

/// Bytes of a SHA-256.
const HASH: usize = 32;

/// Hashes in a hash block.
const HASHES: usize = BLOCK / HASH;

/// Data blocks hashed before their hashes are written: 64 MiB, and whole hash blocks.
const BATCH: usize = HASHES * HASHES;

/// Data blocks read at once: they stay in the cache of the core that hashes them.
const READ: usize = 64;

/// `struct verity_sb`: cryptsetup, lib/verity/verity.c.
#[derive(Immutable, IntoBytes)]
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
    pad1: [u8; 6],
    salt: [[u8; 32]; 8],
    pad2: [u8; 168],
}

const _: () = assert!(size_of::<Superblock>() == 512);

impl Superblock {
    fn new(data_blocks: u64, salt: &[u8; 32], uuid: Uuid) -> Self {
        let mut algorithm = [0; 32];
        algorithm[..6].copy_from_slice(b"sha256");
        let mut salts = [[0; 32]; 8];
        salts[0] = *salt;
        Self {
            signature: *b"verity\0\0",
            version: U32::new(1),
            hash_type: U32::new(1), // 0 is Chrome OS: salt behind the data
            uuid: uuid.into_bytes(),
            algorithm,
            data_block_size: U32::new(BLOCK as u32),
            hash_block_size: U32::new(BLOCK as u32),
            data_blocks: U64::new(data_blocks),
            salt_size: U16::new(32),
            pad1: [0; 6],
            salt: salts,
            pad2: [0; 168],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write as _};

    use proptest::prelude::*;

    use super::*;

    /// The definition, read literally: all levels in memory, one function that calls itself.
    fn root(salt: &[u8; 32], level: &[u8]) -> Sha256 {
        let hash = |block| *Sha256::of([salt.as_slice(), block].concat()).bytes();
        let mut above: Vec<u8> = level.chunks(BLOCK).flat_map(hash).collect();
        if above.len() == HASH {
            return digest(&above);
        }
        fill_block(&mut above);
        root(salt, &above)
    }

    fn written(data: &[u8], salt: &[u8; 32]) -> (Sha256, Vec<u8>) {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(data).expect("room");
        let mut out = Cursor::new(Vec::new());
        let root = write_verity(&file, data.len() as u64, salt, Uuid::nil(), &mut out).expect("whole blocks");
        (root, out.into_inner())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn root_is_that_of_the_definition(blocks in 1_usize..400, salt: [u8; 32], seed: u8) {
            let data: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / BLOCK) as u8 ^ (at / 256 / BLOCK) as u8 ^ seed).collect();
            let (found, tree) = written(&data, &salt);
            prop_assert_eq!(found, root(&salt, &data));
            prop_assert_eq!(tree.len() as u64, verity_size(data.len() as u64).expect("whole blocks"));
        }
    }

    #[test]
    fn a_changed_byte_changes_the_root() {
        let mut data = vec![0; 130 * BLOCK];
        let before = written(&data, &[0; 32]);
        data[129 * BLOCK + 7] = 1;
        assert_ne!(written(&data, &[0; 32]).0, before.0);
    }

    #[test]
    fn a_part_of_a_block_is_refused() {
        let error = verity_size(4097).expect_err("not whole");
        assert_eq!(
            error.to_string(),
            "dm-verity protects whole blocks of 4096 bytes, found 4097 bytes"
        );
        assert!(verity_size(0).is_err());
    }
}
