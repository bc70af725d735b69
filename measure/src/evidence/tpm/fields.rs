//! Fields of a TPM's structures: numbers are big-endian, and what varies in size stands behind its size.

use crate::FieldError;
use crate::fields;

/// What of a structure was not read yet.
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Returns the offset of what comes next, from the start of the structure.
    pub(super) const fn offset(&self) -> u64 {
        self.offset as u64
    }

    pub(super) fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], FieldError> {
        let taken = fields::slice(self.bytes, field, self.offset(), length as u64)?;
        self.offset += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FieldError> {
        let offset = self.offset();
        let taken = self.take(field, N)?;
        taken.try_into().map_err(|_| FieldError::Truncated { field, offset })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, FieldError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, FieldError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, FieldError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, FieldError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Returns what a `TPM2B` holds, of which `most` says how long it may be.
    pub(super) fn sized(
        &mut self,
        field: &'static str,
        most: u16,
        expected: &'static str,
    ) -> Result<&'a [u8], FieldError> {
        let offset = self.offset();
        let size = self.u16(field)?;
        fields::check(size <= most, field, offset, size, expected)?;
        self.take(field, size.into())
    }

    /// Returns `Ok` if nothing follows.
    pub(super) fn end(self, field: &'static str) -> Result<(), FieldError> {
        let left = self.bytes.len() - self.offset;
        fields::check(left == 0, field, self.offset(), left as u64, "none")
    }
}
