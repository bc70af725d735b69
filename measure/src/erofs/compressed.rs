//! Compressed files: an index says for each block ("lcluster") of the file where its piece starts, and pieces are
//! stored as blocks of LZ4 in whole blocks of the image ("pcluster").

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::extents::{Extent, Sink, Stored};
use super::inode::{Data, damaged};
use super::{Erofs, ErofsError};
use crate::ReadAt;

/// `struct z_erofs_map_header`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    reserved: U16,
    inline_size: U16,
    advise: U16,
    algorithms: u8,
    cluster_bits: u8,
}

const _: () = assert!(size_of::<Header>() == 8);

/// `Z_EROFS_ADVISE_*`.
mod advise {
    pub(super) const COMPACT_2B: u16 = 1;
    pub(super) const BIG_CLUSTERS: u16 = 2;
    /// The same of pieces of the second compression, which we refuse; `mkfs.erofs` says it of all.
    pub(super) const BIG_CLUSTERS_2: u16 = 4;
}

/// `Z_EROFS_LI_D0_CBLKCNT`: the number is one of blocks, not a distance.
const BLOCKS: u32 = 1 << 11;

/// What a piece may have at most, in bytes, stored and unpacked: `Z_EROFS_PCLUSTER_MAX_SIZE`, `…_MAX_DSIZE`.
const STORED_LIMIT: u64 = 1 << 20;
const LENGTH_LIMIT: u64 = 12 << 20;

/// The index of a file. Offsets are in bytes.
pub(super) struct Index {
    start: u64,
    /// Where the entries start.
    entries: u64,
    end: u64,
    /// Entries of four bytes before those of two, and how many of the latter there are.
    first: u64,
    halves: u64,
    count: u64,
    /// Binary logarithm of what an entry stands for.
    bits: u8,
    big: bool,
    block_bits: u8,
    /// Of the file, in bytes.
    size: u64,
}

/// What an entry says.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// A piece starts in this cluster, `offset` bytes from its start, and is stored at `block`.
    Head { plain: bool, offset: u32, block: u32 },
    /// The piece started so many clusters before, where that is known.
    Inside(Option<u32>),
    /// The piece started in the cluster before, and has so many blocks.
    Blocks(u32),
}

/// A piece that has started.
struct Piece {
    cluster: u64,
    start: u64,
    plain: bool,
    block: u32,
    blocks: Option<u32>,
}

impl Index {
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    pub(super) fn index(&self, data: &Data) -> Result<Index, ErofsError> {
        let start = data.end.next_multiple_of(8);
        self.check_range(start, 8)?;
        let header: Header = self.structure(start)?;
        let known = advise::COMPACT_2B | advise::BIG_CLUSTERS | advise::BIG_CLUSTERS_2;
        let (found, bits) = (header.advise.get(), header.cluster_bits);
        let inline = header.inline_size.get();
        if found & !known != 0 || bits > 2 || header.algorithms != 0 || inline != 0 || header.reserved.get() != 0 {
            return Err(damaged(data.nid, format!("its map says {:?}", header.as_bytes())));
        }
        if !self.superblock.padded_in_front {
            return Err(ErofsError::Feature("LZ4 with zeros behind it".into()));
        }
        let bits = self.superblock.block_bits + bits;
        let count = data.size.div_ceil(1 << bits);
        let entries = start + 8;
        let (first, halves) = parts(entries, count, found & advise::COMPACT_2B != 0);
        let size = compact_size(first, halves, count);
        self.check_range(entries, size)?;
        Ok(Index {
            start,
            entries,
            end: entries + size,
            first,
            halves,
            count,
            bits,
            big: found & advise::BIG_CLUSTERS != 0,
            block_bits: self.superblock.block_bits,
            size: data.size,
        })
    }

    pub(super) fn compressed(&self, data: &Data, sink: Sink<'_>) -> Result<(), ErofsError> {
        let index = self.index(data)?;
        let mut piece: Option<Piece> = None;
        let mut cluster = 0;
        while cluster < index.count {
            for entry in self.pack(&index, cluster).map_err(|error| named(data.nid, error))? {
                if cluster == index.count {
                    break; // the last pack has room for one more
                }
                let ended = index
                    .next(&mut piece, cluster, entry)
                    .map_err(|why| damaged(data.nid, why))?;
                if let Some(ended) = ended {
                    sink(ended)?;
                }
                cluster += 1;
            }
        }
        match piece {
            Some(last) if last.start == data.size => Ok(()), // it says where the one before ends
            Some(last) => sink(index.extent(&last, data.size).map_err(|why| damaged(data.nid, why))?),
            None => Err(damaged(data.nid, "its index is empty".into())),
        }
    }

    /// The entries that are stored together, from that of `cluster` on, which is the first of them.
    fn pack(&self, index: &Index, cluster: u64) -> Result<Vec<Entry>, PackError> {
        let behind = cluster.saturating_sub(index.first);
        if cluster < index.first || behind >= index.halves {
            let start = index.entries + 4 * cluster - 2 * behind.min(index.halves);
            let pack: [u8; 8] = self.structure(start)?;
            return Ok(unpack(&pack, 16, index)?);
        }
        let start = index.entries + 4 * index.first + 2 * behind;
        let pack: [u8; 32] = self.structure(start)?;
        Ok(unpack(&pack, 14, index)?)
    }
}

/// What goes wrong where the inode is not known.
enum PackError {
    Read(ErofsError),
    Entry(String),
}

impl From<ErofsError> for PackError {
    fn from(error: ErofsError) -> Self {
        Self::Read(error)
    }
}

impl From<String> for PackError {
    fn from(why: String) -> Self {
        Self::Entry(why)
    }
}

fn named(nid: u64, error: PackError) -> ErofsError {
    match error {
        PackError::Read(error) => error,
        PackError::Entry(why) => damaged(nid, why),
    }
}

/// Entries of two bytes start at a multiple of 32 bytes, and come in packs of 16.
fn parts(entries: u64, count: u64, halves: bool) -> (u64, u64) {
    let first = (entries.next_multiple_of(32) - entries) / 4;
    if !halves || first >= count {
        return (count, 0);
    }
    (first, (count - first) / 16 * 16)
}

/// Entries of four bytes come in packs of two.
fn compact_size(first: u64, halves: u64, count: u64) -> u64 {
    let last = count - first - halves;
    4 * first.next_multiple_of(2) + 2 * halves + 4 * last.next_multiple_of(2)
}

/// `Z_EROFS_LCLUSTER_TYPE_*`.
const PLAIN: u32 = 0;
const HEAD: u32 = 1;
const INSIDE: u32 = 2;

fn entry(index: &Index, kind: u32, number: u32, block: impl FnOnce() -> Result<u32, String>) -> Result<Entry, String> {
    match kind {
        PLAIN | HEAD if number < 1 << index.bits => Ok(Entry::Head {
            plain: kind == PLAIN,
            offset: number,
            block: block()?,
        }),
        INSIDE if number & BLOCKS == 0 => Ok(Entry::Inside(Some(number))),
        INSIDE if index.big => Ok(Entry::Blocks(number & !BLOCKS)),
        _ => Err(format!("an entry of its index is {number:#x}, of the type {kind}")),
    }
}

/// Entries of `width` bits, then the number of a block (`unpack_compacted_index` of Linux).
fn unpack(pack: &[u8], width: usize, index: &Index) -> Result<Vec<Entry>, String> {
    let (bits, base) = pack.split_at(pack.len() - 4);
    let base = u32::from_le_bytes([base[0], base[1], base[2], base[3]]);
    let low = u32::from(index.bits).max(12);
    if low as usize + 2 > width {
        return Err(format!("clusters of 2^{} bytes do not fit its index", index.bits));
    }
    let count = bits.len() * 8 / width;
    let raw: Vec<_> = (0..count).map(|at| number(bits, at * width, width)).collect();
    let raw: Vec<_> = raw.iter().map(|raw| (raw >> low & 3, raw & ((1 << low) - 1))).collect();
    let entries = raw.iter().enumerate().map(|(at, (kind, number))| {
        let last = at + 1 == count;
        if last && *kind == INSIDE && number & BLOCKS == 0 {
            return Ok(Entry::Inside(None)); // the last entry says where the next piece starts, not where this one did
        }
        entry(index, *kind, *number, || {
            let before = blocks_before(&raw[..at], index.big)?;
            base.checked_add(before).ok_or_else(|| "a block has no number".into())
        })
    });
    entries.collect()
}

/// Up to 16 bits, from bit `start` on.
fn number(bits: &[u8], start: usize, width: usize) -> u32 {
    let byte = |at: usize| u32::from(bits.get(at).copied().unwrap_or_default());
    let at = start / 8;
    let word = byte(at) | byte(at + 1) << 8 | byte(at + 2) << 16;
    word >> (start % 8) & ((1 << width) - 1)
}

/// How many blocks the pieces have that come before in the same pack, one that came over from the last included.
fn blocks_before(raw: &[(u32, u32)], big: bool) -> Result<u32, String> {
    let (mut blocks, mut at) = (u32::from(!big), raw.len());
    while let Some(before) = at.checked_sub(1) {
        at = before;
        let (kind, number) = raw[at];
        let back = match (kind, big) {
            (INSIDE, false) => {
                let back = number as usize;
                blocks += u32::from(at >= back);
                back
            }
            (INSIDE, true) if number & BLOCKS != 0 => {
                blocks += number & !BLOCKS;
                1
            }
            (INSIDE, true) if number <= 1 => return Err("a piece of several blocks does not say how many".into()),
            (INSIDE, true) => number as usize - 2,
            _ => {
                blocks += 1;
                0
            }
        };
        at = at.saturating_sub(back);
    }
    Ok(blocks)
}

impl Index {
    /// Takes the entry of the next cluster; returns the piece that ends there.
    fn next(&self, piece: &mut Option<Piece>, cluster: u64, entry: Entry) -> Result<Option<Extent>, String> {
        match entry {
            Entry::Head { plain, offset, block } => {
                let start = (cluster << self.bits) + u64::from(offset);
                if piece.is_none() && start != 0 {
                    return Err("its first piece does not start at its start".into());
                }
                let next = Piece {
                    cluster,
                    start,
                    plain,
                    block,
                    blocks: None,
                };
                let ended = piece.replace(next).map(|piece| self.extent(&piece, start));
                ended.transpose()
            }
            Entry::Inside(back) => self.check_inside(piece.as_ref(), cluster, back).map(|()| None),
            Entry::Blocks(blocks) => {
                let piece = piece
                    .as_mut()
                    .filter(|piece| piece.cluster + 1 == cluster && blocks > 0);
                let piece = piece.ok_or("a number of blocks is not behind the start of a piece")?;
                piece.blocks = Some(blocks);
                Ok(None)
            }
        }
    }

    /// The piece that ends at `end`.
    fn extent(&self, piece: &Piece, end: u64) -> Result<Extent, String> {
        let length = end
            .checked_sub(piece.start)
            .filter(|length| *length > 0 && end <= self.size);
        let length = length.ok_or("a piece is outside the file")?;
        let start = u64::from(piece.block) << self.block_bits;
        let stored = u64::from(piece.blocks.unwrap_or(1)) << self.block_bits;
        if stored > STORED_LIMIT || length > LENGTH_LIMIT || piece.plain && length > stored {
            return Err(format!("a piece of {length} bytes has {stored} bytes in the image"));
        }
        let stored = if piece.plain {
            Stored::AsItIs
        } else {
            Stored::Lz4(stored)
        };
        Ok(Extent { length, start, stored })
    }

    /// The way back leads no further than to the start of the piece; one of several blocks has said how many.
    fn check_inside(&self, piece: Option<&Piece>, cluster: u64, back: Option<u32>) -> Result<(), String> {
        let piece = piece.ok_or("its first piece has no start")?;
        let distance = cluster - piece.cluster;
        if let Some(back) = back.filter(|back| *back == 0 || u64::from(*back) > distance) {
            return Err(format!("a piece started {back} clusters before, found {distance}"));
        }
        match self.big && piece.blocks.is_none() {
            true => Err("a piece of several blocks does not say how many".into()),
            false => Ok(()),
        }
    }
}
