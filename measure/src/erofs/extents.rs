//! Which bytes of the image are which bytes of a file.

use alloc::format;
use core::ops::Range;

use super::inode::{Data, Layout, damaged};
use super::{Erofs, ErofsError};
use crate::ReadAt;

/// A piece of a file. Offsets and sizes are in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Extent {
    /// How much of the file it is.
    pub length: u64,
    /// Where it is in the image.
    pub start: u64,
    /// How many bytes it has there; another number than `length` where it is compressed.
    pub stored: Stored,
}

/// How a piece of a file is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stored {
    AsItIs,
    /// In so many bytes.
    Lz4(u64),
}

/// Takes the pieces of a file, in order.
pub(super) type Sink<'a> = &'a mut dyn FnMut(Extent) -> Result<(), ErofsError>;

impl Extent {
    pub(super) fn plain(start: u64, length: u64) -> Self {
        let stored = Stored::AsItIs;
        Self { length, start, stored }
    }

    /// Where it is in the image.
    pub(super) fn range(&self) -> Range<u64> {
        let size = match self.stored {
            Stored::AsItIs => self.length,
            Stored::Lz4(size) => size,
        };
        self.start..self.start.saturating_add(size)
    }
}

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Hands the pieces of a file to `sink`, each of them inside the image.
    pub(super) fn extents(&self, data: &Data, sink: Sink<'_>) -> Result<(), ErofsError> {
        let mut checked = |extent: Extent| {
            let range = extent.range();
            self.check_range(range.start, range.end - range.start)?;
            sink(extent)
        };
        match data.layout {
            _ if data.size == 0 => Ok(()),
            Layout::Plain => checked(Extent::plain(self.offset(data.union), data.size)),
            Layout::Inline => self.inline(data, &mut checked),
            Layout::Compressed => self.compressed(data, &mut checked),
            Layout::Chunks => self.chunks(data, &mut checked),
        }
    }

    /// Where a block starts.
    pub(super) fn offset(&self, block: u32) -> u64 {
        u64::from(block) << self.superblock.block_bits
    }

    /// Whole blocks, and the rest behind the inode, in the same block as its end.
    fn inline(&self, data: &Data, sink: Sink<'_>) -> Result<(), ErofsError> {
        let tail = data.size % self.block();
        if tail == 0 || data.end % self.block() + tail > self.block() {
            return Err(damaged(data.nid, format!("its last {tail} bytes are not in its block")));
        }
        if data.size > tail {
            sink(Extent::plain(self.offset(data.union), data.size - tail))?;
        }
        sink(Extent::plain(data.end, tail))
    }

    /// Pieces of the same size, each anywhere (`struct erofs_inode_chunk_index`, or only the number of the block).
    fn chunks(&self, data: &Data, sink: Sink<'_>) -> Result<(), ErofsError> {
        let (map, entry) = self.chunk_map(data)?;
        let chunk = self.block() << (data.union & 0x1f);
        for index in 0..data.size.div_ceil(chunk) {
            let at = map.start + index * entry;
            let block: [u8; 4] = self.structure(at + entry - 4)?;
            let front: [u8; 4] = if entry == 8 { self.structure(at)? } else { [0; 4] };
            if block == [0xff; 4] || front != [0; 4] {
                return Err(ErofsError::Feature("files with holes, or on several devices".into()));
            }
            let length = chunk.min(data.size - index * chunk);
            sink(Extent::plain(self.offset(u32::from_le_bytes(block)), length))?;
        }
        Ok(())
    }

    /// Where the map of the chunks lies, and the size of its entries.
    fn chunk_map(&self, data: &Data) -> Result<(Range<u64>, u64), ErofsError> {
        if data.union & !0x3f != 0 {
            return Err(damaged(
                data.nid,
                format!("the form of its chunks is {:#x}", data.union),
            ));
        }
        let entry = if data.union & 0x20 == 0 { 4 } else { 8 };
        let chunk = self.block() << (data.union & 0x1f);
        let size = data.size.div_ceil(chunk).saturating_mul(entry);
        let start = data.end.next_multiple_of(entry);
        self.check_range(start, size)?;
        Ok((start..start + size, entry))
    }

    /// Where the map lies that says which bytes of the image are the file's; empty where there is none.
    pub(super) fn map(&self, data: &Data) -> Result<Range<u64>, ErofsError> {
        match data.layout {
            _ if data.size == 0 => Ok(data.end..data.end),
            Layout::Plain | Layout::Inline => Ok(data.end..data.end),
            Layout::Compressed => self.index(data).map(|index| index.range()),
            Layout::Chunks => Ok(self.chunk_map(data)?.0),
        }
    }
}
