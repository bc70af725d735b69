//! What lies in an image and is reached by no path.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use super::inode::Inode;
use super::{Erofs, ErofsError, Node, superblock};
use crate::ReadAt;

/// Inodes lie at multiples of so many bytes.
const SLOT: u64 = 32;

/// How many bytes are looked at at once.
const PIECE: u64 = 64 << 10;

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Returns the ranges, in bytes, that belong to nothing and are not all zero: of an honest image, none. `nodes` are
    /// all of the image.
    ///
    /// What is behind an inode, up to where the next could be, is not looked at: there, in at most 31 bytes,
    /// `mkfs.erofs` 1.8.6 leaves what its buffer had before.
    ///
    /// # Errors
    /// Bytes that belong to two things, as `mkfs.erofs` leaves them only where it is told to deduplicate.
    pub fn slack(&self, nodes: &[Node]) -> Result<Vec<Range<u64>>, ErofsError> {
        let (mut used, inodes) = self.used(nodes)?;
        used.sort_unstable_by_key(|range| (range.start, range.end));
        let end = self.image.size();
        let (mut found, mut done) = (Vec::new(), 0);
        for range in used.into_iter().chain(core::iter::once(end..end)) {
            if range.start < done {
                return Err(ErofsError::Overlap { offset: range.start });
            }
            let behind_inode = done.next_multiple_of(SLOT).min(range.start);
            let start = if inodes.contains(&done) { behind_inode } else { done };
            if !self.is_zero(start..range.start)? {
                found.push(start..range.start);
            }
            done = range.end;
        }
        Ok(found)
    }

    /// What belongs to something, and where inodes end.
    fn used(&self, nodes: &[Node]) -> Result<(Vec<Range<u64>>, BTreeSet<u64>), ErofsError> {
        let inodes: BTreeMap<u64, &Inode> = nodes.iter().map(|node| (node.inode.nid, &*node.inode)).collect();
        let mut used = alloc::vec![superblock::AT..self.superblock.end];
        let (mut shared, mut ends) = (BTreeSet::new(), BTreeSet::new());
        for inode in inodes.values() {
            let data = &inode.data;
            let map = self.map(data)?;
            let header = if self.is_extended(data.start)? { 64 } else { 32 };
            let xattrs = self.shared_xattrs(data.start + header, data.end)?;
            shared.extend(xattrs.into_iter().map(|range| (range.start, range.end)));
            let mut end = map.end;
            used.extend([data.start..data.end, map]);
            self.extents(data, &mut |extent| {
                let range = extent.range();
                if range.start == data.end {
                    end = range.end;
                }
                used.push(range);
                Ok(())
            })?;
            ends.insert(end);
        }
        used.extend(shared.into_iter().map(|(start, end)| start..end));
        used.retain(|range| !range.is_empty());
        Ok((used, ends))
    }

    fn is_extended(&self, inode: u64) -> Result<bool, ErofsError> {
        let format: [u8; 2] = self.structure(inode)?;
        Ok(format[0] & 1 == 1)
    }

    fn is_zero(&self, range: Range<u64>) -> Result<bool, ErofsError> {
        let (mut start, mut buffer) = (range.start, Vec::new());
        while start < range.end {
            let size = PIECE.min(range.end - start);
            buffer.resize(size as usize, 0);
            self.image.read_at(start, &mut buffer)?;
            if buffer.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            start += size;
        }
        Ok(true)
    }
}
