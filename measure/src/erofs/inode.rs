//! Inodes: 32 bytes, or 64 where a number needs more room.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{Erofs, ErofsError};
use crate::ReadAt;

/// A file, directory or what else has a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inode {
    /// Where it lies, in 32 bytes: two paths with the same number are the same file.
    pub nid: u64,
    pub kind: Kind,
    /// Permissions with set-user-id, set-group-id and sticky bit: 12 bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// How many paths it says that it has.
    pub links: u32,
    /// Of its last modification: seconds since 1970, and nanoseconds.
    pub time: (u64, u32),
    /// Extended attributes, by their whole name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) data: Data,
}

/// What an inode is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    File {
        /// In bytes.
        size: u64,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// Where the content of an inode is. Offsets and sizes are in bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Data {
    pub nid: u64,
    pub layout: Layout,
    pub size: u64,
    /// Where the inode lies.
    pub start: u64,
    /// Where it ends, with its extended attributes.
    pub end: u64,
    /// `i_u`: the first block, a device number or the form of chunks.
    pub union: u32,
}

/// How content is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Layout {
    Plain,
    /// The last block is behind the inode.
    Inline,
    /// With four or two bytes of index for each block.
    Compressed,
    Chunks,
}

/// `struct erofs_inode_compact`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Compact {
    format: U16,
    xattr_count: U16,
    mode: U16,
    links: U16,
    size: U32,
    reserved: U32,
    union: U32,
    number: U32,
    uid: U16,
    gid: U16,
    reserved2: U32,
}

const _: () = assert!(size_of::<Compact>() == 32);

/// `struct erofs_inode_extended`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Extended {
    format: U16,
    xattr_count: U16,
    mode: U16,
    reserved: U16,
    size: U64,
    union: U32,
    number: U32,
    uid: U32,
    gid: U32,
    time: U64,
    nanoseconds: U32,
    links: U32,
    reserved2: [u8; 16],
}

const _: () = assert!(size_of::<Extended>() == 64);

impl Compact {
    fn extended(self, time: u64) -> Extended {
        let mut reserved2 = [0; 16];
        reserved2[..4].copy_from_slice(self.reserved.as_bytes());
        reserved2[4..8].copy_from_slice(self.reserved2.as_bytes());
        Extended {
            format: self.format,
            xattr_count: self.xattr_count,
            mode: self.mode,
            reserved: 0.into(),
            size: u64::from(self.size.get()).into(),
            union: self.union,
            number: self.number,
            uid: u32::from(self.uid.get()).into(),
            gid: u32::from(self.gid.get()).into(),
            time: time.into(),
            nanoseconds: 0.into(),
            links: u32::from(self.links.get()).into(),
            reserved2,
        }
    }
}

/// Longer targets of symbolic links the kernel does not follow: `PATH_MAX`, with its NUL.
const TARGET_LIMIT: u64 = 4095;

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Reads an inode.
    ///
    /// # Errors
    /// An inode that is damaged, or that uses what begat does not read.
    pub(super) fn inode(&self, nid: u64) -> Result<Inode, ErofsError> {
        let start = nid.saturating_mul(32).saturating_add(self.superblock.inodes);
        let (raw, size) = self.raw_inode(start)?;
        if raw.reserved != 0 || raw.reserved2 != [0; 16] {
            return Err(damaged(nid, "reserved bytes are not zero".into()));
        }
        let layout = layout(nid, raw.format.get())?;
        let xattrs = self.xattrs(nid, start.saturating_add(size), raw.xattr_count.get())?;
        let data = Data {
            nid,
            layout,
            size: raw.size.get(),
            start,
            end: xattrs.end,
            union: raw.union.get(),
        };
        Ok(Inode {
            nid,
            kind: self.kind(raw.mode.get(), &data)?,
            mode: raw.mode.get() & 0o7777,
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            links: raw.links.get(),
            time: (raw.time.get(), raw.nanoseconds.get()),
            xattrs: xattrs.values,
            data,
        })
    }

    /// The inode at `start` and its size.
    fn raw_inode(&self, start: u64) -> Result<(Extended, u64), ErofsError> {
        self.check_range(start, 32)?;
        let compact: Compact = self.structure(start)?;
        if compact.format.get() & 1 == 0 {
            return Ok((compact.extended(self.superblock.time), 32));
        }
        self.check_range(start, 64)?;
        Ok((self.structure(start)?, 64))
    }

    fn kind(&self, mode: u16, data: &Data) -> Result<Kind, ErofsError> {
        let kind = match mode & 0o170_000 {
            0o010_000 => Kind::Fifo,
            0o020_000 => {
                let (major, minor) = device(data.union);
                Kind::CharacterDevice { major, minor }
            }
            0o040_000 => Kind::Directory,
            0o060_000 => {
                let (major, minor) = device(data.union);
                Kind::BlockDevice { major, minor }
            }
            0o100_000 => Kind::File { size: data.size },
            0o120_000 => Kind::Symlink {
                target: self.target(data)?,
            },
            0o140_000 => Kind::Socket,
            _ => return Err(damaged(data.nid, format!("its mode is {mode:o}"))),
        };
        let has_content = matches!(kind, Kind::File { .. } | Kind::Directory | Kind::Symlink { .. });
        if !has_content && data.size > 0 {
            return Err(damaged(data.nid, format!("it has {} bytes and no content", data.size)));
        }
        Ok(kind)
    }

    fn target(&self, data: &Data) -> Result<Vec<u8>, ErofsError> {
        let target = self.whole(data, TARGET_LIMIT)?;
        match target.is_empty() || target.contains(&0) {
            true => Err(damaged(data.nid, "its target is empty or has a NUL".into())),
            false => Ok(target),
        }
    }
}

fn layout(nid: u64, format: u16) -> Result<Layout, ErofsError> {
    match format >> 1 {
        0 => Ok(Layout::Plain),
        1 => Err(ErofsError::Feature(
            "an index of eight bytes for each block (COMPRESSED_FULL)".into(),
        )),
        2 => Ok(Layout::Inline),
        3 => Ok(Layout::Compressed),
        4 => Ok(Layout::Chunks),
        _ => Err(damaged(nid, format!("its format is {format:#x}"))),
    }
}

/// `new_decode_dev` of Linux: major and minor number.
fn device(number: u32) -> (u32, u32) {
    (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00)
}

pub(super) fn damaged(nid: u64, why: String) -> ErofsError {
    ErofsError::Inode { nid, why }
}
