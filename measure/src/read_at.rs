//! Bytes that are too many to be held: a disk, an image.

use alloc::string::String;

/// Bytes that can be read from any offset.
pub trait ReadAt {
    /// Returns how many bytes there are.
    fn size(&self) -> u64;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// There are not as many, or whoever has them cannot give them.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable>;
}

/// Bytes that cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{length} bytes at offset {offset:#x} cannot be read: {why}")]
pub struct Unreadable {
    pub offset: u64,
    /// In bytes.
    pub length: u64,
    pub why: String,
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        (**self).read_at(offset, buffer)
    }
}

impl ReadAt for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let tail = usize::try_from(offset).ok().and_then(|start| self.get(start..));
        let bytes = tail.and_then(|tail| tail.get(..buffer.len()));
        let bytes = bytes.ok_or_else(|| Unreadable {
            offset,
            length: buffer.len() as u64,
            why: "they end outside".into(),
        })?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}
