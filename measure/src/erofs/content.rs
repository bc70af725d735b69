//! The bytes of a file.

use alloc::format;
use alloc::vec::Vec;

use super::extents::{Extent, Stored};
use super::inode::{Data, Inode, damaged};
use super::{Erofs, ErofsError};
use crate::ReadAt;

/// How much of a file that is not compressed is held at once, in bytes.
const PIECE: u64 = 256 << 10;

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Hands the bytes of a file to `sink`, piece by piece.
    ///
    /// # Errors
    /// A file that is damaged; `sink` may have had some of it.
    pub fn content(&self, inode: &Inode, mut sink: impl FnMut(&[u8])) -> Result<(), ErofsError> {
        self.stream(&inode.data, &mut sink)
    }

    /// All bytes of what has no more than `limit`.
    pub(super) fn whole(&self, data: &Data, limit: u64) -> Result<Vec<u8>, ErofsError> {
        if data.size > limit {
            return Err(damaged(
                data.nid,
                format!("it has {} bytes, expected at most {limit}", data.size),
            ));
        }
        let mut bytes = Vec::new();
        self.stream(data, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    fn stream(&self, data: &Data, sink: &mut dyn FnMut(&[u8])) -> Result<(), ErofsError> {
        let (mut stored, mut plain) = (Vec::new(), Vec::new());
        self.extents(data, &mut |extent| match extent.stored {
            Stored::AsItIs => self.copy(&extent, &mut plain, sink),
            Stored::Lz4(size) => {
                stored.resize(size as usize, 0); // both sizes were bounded when the extent was made
                plain.resize(extent.length as usize, 0);
                self.image.read_at(extent.start, &mut stored)?;
                decompress(&stored, self.block() as usize, &mut plain).map_err(|why| damaged(data.nid, why))?;
                sink(&plain);
                Ok(())
            }
        })
    }

    fn copy(&self, extent: &Extent, buffer: &mut Vec<u8>, sink: &mut dyn FnMut(&[u8])) -> Result<(), ErofsError> {
        let mut done = 0;
        while done < extent.length {
            let size = PIECE.min(extent.length - done);
            buffer.resize(size as usize, 0);
            self.image.read_at(extent.start + done, buffer)?;
            sink(buffer);
            done += size;
        }
        Ok(())
    }
}

/// Fills `plain` exactly; zeros are in front of the block of LZ4, less than a block of the image of them.
fn decompress(stored: &[u8], block: usize, plain: &mut [u8]) -> Result<(), alloc::string::String> {
    let start = stored.iter().take(block).position(|byte| *byte != 0);
    let start = start.ok_or("a cluster starts with a block of zeros")?;
    let size = lz4_flex::block::decompress_into(&stored[start..], plain).map_err(|error| format!("{error}"))?;
    match size == plain.len() {
        true => Ok(()),
        false => Err(format!("a cluster has {size} bytes, expected {}", plain.len())),
    }
}
