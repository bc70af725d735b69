//! Fields of files that come from outside, and what can be wrong with one.

use zerocopy::FromBytes;

/// What is wrong with a field. Offsets are in bytes from the start of the file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FieldError {
    #[error("{field} at offset {offset:#x} ends outside the file")]
    Truncated { field: &'static str, offset: u64 },
    #[error("{field} at offset {offset:#x} is {value:#x}, expected {expected}")]
    Value {
        field: &'static str,
        offset: u64,
        value: u64,
        expected: &'static str,
    },
}

/// Returns the structure `field` at `offset`.
pub(crate) fn read_at<T: FromBytes>(bytes: &[u8], field: &'static str, offset: u64) -> Result<T, FieldError> {
    let tail = usize::try_from(offset).ok().and_then(|start| bytes.get(start..));
    let value = tail.and_then(|tail| T::read_from_prefix(tail).ok());
    value
        .map(|(value, _)| value)
        .ok_or(FieldError::Truncated { field, offset })
}

/// Returns the `length` bytes of `field` at `offset`.
pub(crate) fn slice<'a>(
    bytes: &'a [u8],
    field: &'static str,
    offset: u64,
    length: u64,
) -> Result<&'a [u8], FieldError> {
    let range = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
    let end = range.and_then(|(start, length)| Some(start..start.checked_add(length)?));
    end.and_then(|range| bytes.get(range))
        .ok_or(FieldError::Truncated { field, offset })
}

/// Returns `Ok` if the field is as it must be.
pub(crate) fn check(
    holds: bool,
    field: &'static str,
    offset: u64,
    value: impl Into<u64>,
    expected: &'static str,
) -> Result<(), FieldError> {
    let value = value.into();
    holds.then_some(()).ok_or(FieldError::Value {
        field,
        offset,
        value,
        expected,
    })
}
