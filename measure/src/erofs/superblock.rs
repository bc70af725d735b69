//! The superblock: 128 bytes at offset 1024.

use alloc::format;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ErofsError;
use crate::ReadAt;

/// What the rest of the image is read by. Offsets and sizes are in bytes.
#[derive(Clone, Debug)]
pub(super) struct Superblock {
    /// Binary logarithm of the size of a block.
    pub block_bits: u8,
    /// The inode of `/`.
    pub root: u64,
    /// Of the image.
    pub size: u64,
    /// Where inode 0 would lie.
    pub inodes: u64,
    /// Where the attributes lie that inodes share.
    pub shared_xattrs: u64,
    /// In seconds since 1970.
    pub time: u64,
    pub uuid: [u8; 16],
    /// Whether a cluster of LZ4 ends where its blocks end, with zeros in front.
    pub padded_in_front: bool,
    /// Where the superblock and what belongs to it ends.
    pub end: u64,
}

/// Where the superblock lies.
pub(super) const AT: u64 = 1024;

const MAGIC: u32 = 0xe0f5_e1e2;

/// `struct erofs_super_block`.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: U32,
    checksum: U32,
    feature_compat: U32,
    block_bits: u8,
    slots: u8,
    root_nid: U16,
    inodes: U64,
    time: U64,
    time_nanoseconds: U32,
    blocks: U32,
    meta_block: U32,
    xattr_block: U32,
    uuid: [u8; 16],
    volume_name: [u8; 16],
    feature_incompat: U32,
    compressions: U16,
    extra_devices: U16,
    device_slot: U16,
    directory_block_bits: u8,
    xattr_prefix_count: u8,
    xattr_prefix_start: U32,
    packed_nid: U64,
    xattr_filter: u8,
    reserved: [u8; 23],
}

const _: () = assert!(size_of::<Raw>() == 128);

mod compat {
    pub(super) const CHECKSUM: u32 = 1;
    /// Inodes have a time of modification; nothing else changes.
    pub(super) const MTIME: u32 = 2;
    /// Inodes have a filter of the names of their attributes, which readers may use.
    pub(super) const XATTR_FILTER: u32 = 4;
}

mod incompat {
    pub(super) const ZERO_PADDING: u32 = 1;
    /// With `COMPRESSION_CONFIGURATIONS`, which has the same bit, configurations follow the superblock.
    pub(super) const BIG_CLUSTERS: u32 = 2;
    pub(super) const CHUNKS: u32 = 4;
    pub(super) const OTHERS: [(u32, &str); 5] = [
        (
            1 << 3,
            "several devices or two compressions in a file (DEVICE_TABLE, COMPR_HEAD2)",
        ),
        (1 << 4, "compressed tails beside inodes (ZTAILPACKING)"),
        (1 << 5, "fragments or deduplication (FRAGMENTS, DEDUPE)"),
        (1 << 6, "long prefixes of extended attributes (XATTR_PREFIXES)"),
        (1 << 7, "block addresses of 48 bits (48BIT)"),
    ];
}

/// The bit of LZ4 in `compressions`.
const LZ4: u16 = 1;

impl Superblock {
    pub(super) fn read<R: ReadAt + ?Sized>(image: &R) -> Result<Self, ErofsError> {
        let mut raw = Raw::new_zeroed();
        image.read_at(AT, raw.as_mut_bytes())?;
        raw.check()?;
        raw.check_checksum(image)?;
        raw.check_features()?;
        let block = |number: U32| u64::from(number.get()) << raw.block_bits;
        let size = block(raw.blocks);
        check(size <= image.size(), || {
            format!("it says {size} bytes, the image has {}", image.size())
        })?;
        Ok(Self {
            block_bits: raw.block_bits,
            root: raw.root_nid.get().into(),
            size,
            inodes: block(raw.meta_block),
            shared_xattrs: block(raw.xattr_block),
            uuid: raw.uuid,
            time: raw.time.get(),
            padded_in_front: raw.feature_incompat.get() & incompat::ZERO_PADDING != 0,
            end: raw.end(image)?,
        })
    }
}

impl Raw {
    fn check(&self) -> Result<(), ErofsError> {
        let (magic, bits) = (self.magic.get(), self.block_bits);
        check(magic == MAGIC, || {
            format!("its magic is {magic:#x}, expected {MAGIC:#x}")
        })?;
        // The kernel takes 512 bytes to a page.
        check((9..=12).contains(&bits), || {
            format!("blocks have 2^{bits} bytes, expected 2^9 to 2^12")
        })?;
        let directory = self.directory_block_bits;
        check(directory == 0, || {
            format!("blocks of directories are 2^{directory} blocks, expected one")
        })
    }

    /// CRC-32C of the first block, or of what is behind the superblock's offset in it, without the final inversion.
    fn check_checksum<R: ReadAt + ?Sized>(&self, image: &R) -> Result<(), ErofsError> {
        check(self.feature_compat.get() & compat::CHECKSUM != 0, || {
            "it has no checksum".into()
        })?;
        let block = 1_usize << self.block_bits;
        let mut bytes = alloc::vec![0; if block > AT as usize { block - AT as usize } else { block }];
        image.read_at(AT, &mut bytes)?;
        bytes[4..8].fill(0);
        let found = !crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&bytes);
        let expected = self.checksum.get();
        check(found == expected, || {
            format!("its CRC-32C is {found:#010x}, it says {expected:#010x}")
        })
    }

    fn check_features(&self) -> Result<(), ErofsError> {
        let refuse = |feature| Err(ErofsError::Feature(feature));
        let found = self.feature_incompat.get();
        if let Some((_, name)) = incompat::OTHERS.iter().find(|(bit, _)| found & bit != 0) {
            return refuse((*name).into());
        }
        let known = incompat::ZERO_PADDING | incompat::BIG_CLUSTERS | incompat::CHUNKS;
        if found & !known != 0 {
            return refuse(format!("unknown incompatible features {:#x}", found & !known));
        }
        let known = compat::CHECKSUM | compat::MTIME | compat::XATTR_FILTER;
        let found = self.feature_compat.get();
        if found & !known != 0 {
            return refuse(format!("unknown compatible features {:#x}", found & !known));
        }
        if self.has_configurations() && self.compressions.get() & !LZ4 != 0 {
            return refuse(format!("compressions {:#x} other than LZ4", self.compressions.get()));
        }
        Ok(())
    }

    fn has_configurations(&self) -> bool {
        self.feature_incompat.get() & incompat::BIG_CLUSTERS != 0
    }

    /// Where the superblock ends, with its slots and the configuration of LZ4: two bytes of length and as many bytes.
    fn end<R: ReadAt + ?Sized>(&self, image: &R) -> Result<u64, ErofsError> {
        let end = AT + 128 + 16 * u64::from(self.slots);
        if !self.has_configurations() || self.compressions.get() & LZ4 == 0 {
            return Ok(end);
        }
        let mut length = [0; 2];
        image.read_at(end, &mut length)?;
        Ok(end + 2 + u64::from(u16::from_le_bytes(length)))
    }
}

fn check(holds: bool, why: impl FnOnce() -> alloc::string::String) -> Result<(), ErofsError> {
    if holds {
        Ok(())
    } else {
        Err(ErofsError::Superblock(why()))
    }
}
