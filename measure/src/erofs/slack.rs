//! What lies in an image and is reached by no path.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use super::inode::Inode;
use super::{Erofs, ErofsError, Node, superblock};
use crate::ReadAt;

/// How many bytes are looked at at once.
const PIECE: u64 = 64 << 10;

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Returns the ranges, in bytes, that belong to nothing and are not all zero: of an honest image, none. `nodes` are
    /// all of the image.
    ///
    /// # Errors
    /// Bytes that belong to two things, as `mkfs.erofs` leaves them only where it is told to deduplicate.
    pub fn slack(&self, nodes: &[Node]) -> Result<Vec<Range<u64>>, ErofsError> {
        let mut used = self.used(nodes)?;
        used.sort_unstable_by_key(|range| (range.start, range.end));
        let end = self.image.size();
        let (mut found, mut done) = (Vec::new(), 0);
        for range in used.into_iter().chain(core::iter::once(end..end)) {
            if range.start < done {
                return Err(ErofsError::Overlap { offset: range.start });
            }
            if !self.is_zero(done..range.start)? {
                found.push(done..range.start);
            }
            done = range.end;
        }
        Ok(found)
    }

    fn used(&self, nodes: &[Node]) -> Result<Vec<Range<u64>>, ErofsError> {
        let inodes: BTreeMap<u64, &Inode> = nodes.iter().map(|node| (node.inode.nid, &*node.inode)).collect();
        let mut used = alloc::vec![superblock::AT..self.superblock.end];
        let mut shared = BTreeSet::new();
        for inode in inodes.values() {
            let data = &inode.data;
            let map = self.map(data)?;
            let header = if self.is_extended(data.start)? { 64 } else { 32 };
            let xattrs = self.shared_xattrs(data.start + header, data.end)?;
            shared.extend(xattrs.into_iter().map(|range| (range.start, range.end)));
            used.extend([data.start..data.end, map]);
            self.extents(data, &mut |extent| {
                used.push(extent.range());
                Ok(())
            })?;
        }
        used.extend(shared.into_iter().map(|(start, end)| start..end));
        used.retain(|range| !range.is_empty());
        Ok(used)
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
