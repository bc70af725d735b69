//! GUIDs as firmware stores them.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A GUID of 16 bytes in EFI byte order: its first three fields little-endian (UEFI 2.10, appendix A).
#[derive(Clone, Copy, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, Ord, PartialEq, PartialOrd, Unaligned)]
#[repr(transparent)]
pub struct Guid([u8; 16]);

impl Guid {
    /// Returns the GUID whose five groups of hex digits are, from left to right, those of `text`'s 128-bit value.
    ///
    /// Written as one number so that it can be compared at a glance with the text form:
    /// `0x96b582de_1fb2_45f7_baea_a366c55a082d`.
    pub const fn new(text: u128) -> Self {
        let mut bytes = text.to_be_bytes();
        let (data1, data2, data3) = ((text >> 96) as u32, (text >> 80) as u16, (text >> 64) as u16);
        [bytes[0], bytes[1], bytes[2], bytes[3]] = data1.to_le_bytes();
        [bytes[4], bytes[5]] = data2.to_le_bytes();
        [bytes[6], bytes[7]] = data3.to_le_bytes();
        Self(bytes)
    }

    /// Returns the 16 bytes in EFI byte order.
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, tail @ ..] = self.0;
        let (data1, data2, data3) = (
            u32::from_le_bytes([a, b, c, d]),
            u16::from_le_bytes([e, g]),
            u16::from_le_bytes([h, i]),
        );
        write!(f, "{data1:08x}-{data2:04x}-{data3:04x}-")?;
        for (index, byte) in tail.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 2 { "-" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn bytes_are_in_efi_order_and_text_is_not() {
        let guid = Guid::new(0x96b582de_1fb2_45f7_baea_a366c55a082d);
        assert_eq!(
            guid.bytes(),
            b"\xde\x82\xb5\x96\xb2\x1f\xf7\x45\xba\xea\xa3\x66\xc5\x5a\x08\x2d"
        );
        assert_eq!(guid.to_string(), "96b582de-1fb2-45f7-baea-a366c55a082d");
    }
}
