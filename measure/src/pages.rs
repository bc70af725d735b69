//! Whole pages of guest memory.

/// Size of a guest page in bytes.
pub const PAGE: u64 = 4096;

/// One or more whole 4 KiB pages of guest memory, side by side.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Pages {
    start: u64,
    length: u64,
}

impl Pages {
    /// Returns the pages from guest address `start`, `length` bytes in all; nothing unless both are multiples of 4096,
    /// the length is not zero and the end is below 2^64.
    pub fn new(start: u64, length: u64) -> Option<Self> {
        let whole = start.is_multiple_of(PAGE) && length.is_multiple_of(PAGE);
        let bounded = length != 0 && start.checked_add(length).is_some();
        (whole && bounded).then_some(Self { start, length })
    }

    /// Returns the guest address of the first byte.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Returns the guest address after the last byte.
    pub const fn end(self) -> u64 {
        self.start + self.length
    }

    /// Returns the length in bytes.
    pub const fn length(self) -> u64 {
        self.length
    }

    /// Returns the guest address of every page, lowest first.
    pub fn addresses(self) -> impl Iterator<Item = u64> {
        (self.start..self.end()).step_by(PAGE as usize)
    }

    /// Returns whether a page belongs to both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn only_whole_pages_are_pages() {
        for (start, length) in [(1, PAGE), (0, 1), (0, 0), (u64::MAX - 4095, PAGE)] {
            assert_eq!(Pages::new(start, length), None, "{start:#x} {length:#x}");
        }
        let pages = Pages::new(0x80_0000, 2 * PAGE).unwrap();
        assert_eq!(pages.addresses().collect::<Vec<_>>(), [0x80_0000, 0x80_1000]);
    }

    #[test]
    fn neighbours_do_not_overlap() {
        let [a, b, c] = [(0, 2), (2, 1), (1, 2)].map(|(at, n)| Pages::new(at * PAGE, n * PAGE).unwrap());
        assert!(!a.overlaps(b) && a.overlaps(c) && c.overlaps(b));
    }
}
