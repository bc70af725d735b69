//! Reader of EROFS images: every path and every byte of a root file system, from the bytes of the image.
//!
//! Source: Linux 6.12, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h ("On-disk format"). What
//! `mkfs.erofs` 1.8 makes for us is read, and more only where it is the same to read; the rest is refused by its name.
//! Where the kernel takes bytes that no `mkfs.erofs` would write, they are refused too: two readers must not see two
//! images.

mod compressed;
mod content;
mod directory;
mod extents;
mod inode;
mod slack;
mod superblock;
mod walk;
mod xattr;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

use superblock::Superblock;
use zerocopy::{FromBytes, IntoBytes};

pub use inode::{Inode, Kind};
pub use walk::Node;

use crate::{ReadAt, Unreadable};

/// An EROFS image.
pub struct Erofs<'a, R: ?Sized> {
    image: &'a R,
    superblock: Superblock,
}

/// Why an image cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ErofsError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("the superblock is damaged: {0}")]
    Superblock(String),
    #[error("the image uses {0}, which begat does not read")]
    Feature(String),
    /// `nid` is the number by which directories name the inode: where it lies, in 32 bytes.
    #[error("inode {nid} is damaged: {why}")]
    Inode { nid: u64, why: String },
    #[error("paths, link targets and extended attributes take more than {limit} bytes")]
    TooMuch { limit: u64 },
    #[error("the bytes at offset {offset:#x} belong to two things")]
    Overlap { offset: u64 },
}

impl<'a, R: ReadAt + ?Sized> Erofs<'a, R> {
    /// Reads the superblock, and checks it against its checksum.
    ///
    /// # Errors
    /// Bytes that are no EROFS image, that are damaged, or that use what begat does not read.
    pub fn read(image: &'a R) -> Result<Self, ErofsError> {
        let superblock = Superblock::read(image)?;
        Ok(Self { image, superblock })
    }

    /// Returns when the image was made, in seconds since 1970: the time of every inode that has none of its own.
    pub fn time(&self) -> u64 {
        self.superblock.time
    }

    /// Returns the identifier by which the file system is found.
    pub const fn uuid(&self) -> [u8; 16] {
        self.superblock.uuid
    }

    /// Size of a block, in bytes.
    fn block(&self) -> u64 {
        1 << self.superblock.block_bits
    }

    /// The structure at `offset`.
    fn structure<T: FromBytes + IntoBytes>(&self, offset: u64) -> Result<T, ErofsError> {
        let mut value = T::new_zeroed();
        self.image.read_at(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    /// The `length` bytes at `offset`; they are looked for before room is made for them.
    fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, ErofsError> {
        self.check_range(offset, length)?;
        let mut bytes = alloc::vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.image.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Bytes that the superblock says are not in the image are not looked for behind it.
    fn check_range(&self, offset: u64, length: u64) -> Result<(), ErofsError> {
        if offset
            .checked_add(length)
            .is_some_and(|end| end <= self.superblock.size)
        {
            return Ok(());
        }
        let why = "they end outside the image".into();
        Err(Unreadable { offset, length, why }.into())
    }
}
