//! What is made again, compared with what is there while it is written: nothing of it is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use measure::ReadAt;

/// Takes what is written as if it were empty, and compares it with a part of what is there: what was written last counts.
pub struct Compared<'a, R: ?Sized> {
    there: &'a R,
    /// In bytes of what is there.
    range: Range<u64>,
    at: u64,
    /// What was written and is not all zero: starts with their ends.
    written: BTreeMap<u64, u64>,
    /// What was written and is something else than what is there.
    other: BTreeMap<u64, u8>,
    /// Where something was written behind the end.
    behind: Option<u64>,
}

/// How much is compared at once, in bytes.
const PIECE: u64 = 1 << 16;

/// How many bytes may differ before the writer is stopped: some that it writes first, it writes again.
const OTHERS: usize = 1 << 12;

impl<'a, R: ReadAt + ?Sized> Compared<'a, R> {
    pub fn new(there: &'a R, range: Range<u64>) -> Self {
        Self {
            there,
            range,
            at: 0,
            written: BTreeMap::new(),
            other: BTreeMap::new(),
            behind: None,
        }
    }

    /// Returns the first offset, from the start of the part, at which there is something else than what was written, or
    /// something that is not zero where nothing was; `wrote` is how the writer has ended.
    ///
    /// # Errors
    /// A writer that failed by itself; what cannot be read.
    pub fn first_difference(self, wrote: anyhow::Result<()>) -> anyhow::Result<Option<u64>> {
        let differs = self.other.keys().next().copied().or(self.behind);
        if differs.is_some() {
            return Ok(differs);
        }
        wrote?;
        let mut done = 0;
        for (start, end) in self.written.iter().chain([(&self.size(), &self.size())]) {
            if let Some(other) = self.not_zero(done..*start)? {
                return Ok(Some(other));
            }
            done = *end;
        }
        Ok(None)
    }

    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn not_zero(&self, range: Range<u64>) -> io::Result<Option<u64>> {
        let (mut found, zero) = (Vec::new(), vec![0; PIECE as usize]);
        for start in range.clone().step_by(PIECE as usize) {
            found.resize(PIECE.min(range.end - start) as usize, 0);
            self.read_there(start, &mut found)?;
            if found == zero[..found.len()] {
                continue; // many bytes at once
            }
            if let Some(other) = found.iter().position(|byte| *byte != 0) {
                return Ok(Some(start + other as u64));
            }
        }
        Ok(None)
    }

    fn read_there(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.there.read_at(self.range.start + offset, buffer);
        read.map_err(io::Error::other)
    }

    /// Parts of the range that were written.
    fn written_of(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let before = self.written.range(..range.end).rev();
        let touching = before.take_while(|(_, end)| **end > range.start);
        let within = touching.map(|(start, end)| *start.max(&range.start)..*end.min(&range.end));
        within.collect()
    }

    /// Takes the range out of what was written, and adds it again if it is not `zero`.
    fn note(&mut self, range: Range<u64>, zero: bool) {
        let last = self.written.range(..=range.start).next_back();
        if let Some((start, end)) = last
            .map(|(start, end)| (*start, *end))
            .filter(|(_, end)| *end >= range.start)
        {
            if !zero && end <= range.end {
                self.written.insert(start, range.end); // it goes on, as nearly always
                self.forget(start + 1..range.end, range.end);
                return;
            }
            self.written.insert(start, range.start);
            self.written.extend((end > range.end).then_some((range.end, end)));
        }
        self.forget(range.start..range.end, range.end);
        self.written.extend((!zero).then_some((range.start, range.end)));
        self.written.retain(|start, end| start < end);
    }

    /// Forgets what began in the range, but what of it is behind its end.
    fn forget(&mut self, begins: Range<u64>, end: u64) {
        let begun: Vec<(u64, u64)> = self.written.range(begins).map(|(start, end)| (*start, *end)).collect();
        for (start, its_end) in begun {
            self.written.remove(&start);
            self.written.extend((its_end > end).then_some((end, its_end)));
        }
    }
}

impl<R: ReadAt + ?Sized> Write for Compared<'_, R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE as usize)];
        let range = self.at..self.at + bytes.len() as u64;
        if range.end > self.size() {
            self.behind = Some(self.size().min(range.start));
            return Err(io::Error::other("it is longer than what is there"));
        }
        let zero = bytes.iter().all(|byte| *byte == 0);
        let mut found = vec![0; bytes.len()];
        if !zero {
            self.read_there(range.start, &mut found)?;
        }
        let known: Vec<u64> = self.other.range(range.clone()).map(|(offset, _)| *offset).collect();
        self.other.retain(|offset, _| known.binary_search(offset).is_err());
        if found != bytes {
            let all = range.clone().zip(found.iter().zip(bytes));
            let others = all.filter(|(_, (found, byte))| found != byte);
            self.other.extend(others.map(|(offset, (_, byte))| (offset, *byte)));
        }
        if self.other.len() > OTHERS {
            return Err(io::Error::other("there is something else"));
        }
        self.at = range.end;
        self.note(range, zero);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was not written is zero, whatever is there.
impl<R: ReadAt + ?Sized> Read for Compared<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (buffer.len() as u64).min(self.size().saturating_sub(self.at));
        let (buffer, range) = (&mut buffer[..count as usize], self.at..self.at + count);
        let place = |part: &Range<u64>| (part.start - range.start) as usize..(part.end - range.start) as usize;
        buffer.fill(0);
        for part in self.written_of(&range) {
            self.read_there(part.start, &mut buffer[place(&part)])?;
        }
        for (offset, byte) in self.other.range(range.clone()) {
            buffer[(offset - range.start) as usize] = *byte;
        }
        self.at = range.end;
        Ok(buffer.len())
    }
}

impl<R: ?Sized> Seek for Compared<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => (self.range.end - self.range.start).checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl<R: ?Sized> fmt::Debug for Compared<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { range, at, other, .. } = self;
        write!(
            f,
            "what is at {range:?}, compared up to {at}: {} bytes differ",
            other.len()
        )
    }
}

/// Reads a part of what is there, from its start.
pub struct Stream<'a, R: ?Sized> {
    there: &'a R,
    range: Range<u64>,
    at: u64,
}

impl<'a, R: ReadAt + ?Sized> Stream<'a, R> {
    pub fn new(there: &'a R, range: Range<u64>) -> Self {
        let at = range.start;
        Self { there, range, at }
    }

    pub fn whole(there: &'a R) -> Self {
        Self::new(there, 0..there.size())
    }
}

impl<R: ReadAt + ?Sized> Read for Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.range.end.min(self.there.size()).saturating_sub(self.at);
        let count = (buffer.len() as u64).min(left) as usize;
        self.there
            .read_at(self.at, &mut buffer[..count])
            .map_err(io::Error::other)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl<R: ReadAt + ?Sized> Seek for Stream<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => self.range.start.checked_add(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.range.end.checked_add_signed(by),
        };
        let at = at.filter(|at| *at >= self.range.start);
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at - self.range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where these pieces are written, each to its offset, and 8 bytes are there.
    fn found(there: &[u8], pieces: &[(u64, &[u8])]) -> Option<u64> {
        let mut compared = Compared::new(there, 1..9);
        let mut write = || -> anyhow::Result<()> {
            for (offset, bytes) in pieces {
                compared.seek(SeekFrom::Start(*offset))?;
                compared.write_all(bytes)?;
            }
            Ok(())
        };
        let wrote = write();
        compared.first_difference(wrote).unwrap()
    }

    #[test]
    fn the_first_byte_that_differs_is_found() {
        let there = b"_ab\0\0ef\0\0_";
        assert_eq!(found(there, &[(4, b"ef"), (0, b"ab")]), None);
        assert_eq!(found(there, &[(4, b"ef"), (0, b"aX")]), Some(1));
        assert_eq!(found(there, &[(0, b"ab")]), Some(4));
        assert_eq!(found(there, &[(0, b"ab\0\0ef\0\0\0")]), Some(0), "too long");
        assert_eq!(
            found(
                there,
                &[(0, b"XXXXXXXX"), (0, b"\0\0\0\0\0\0\0\0"), (0, b"ab"), (4, b"ef")]
            ),
            None
        );
        assert_eq!(found(there, &[(0, b"ab\0\0ef"), (1, b"\0")]), Some(1));
        assert_eq!(found(there, &[(0, b"abXXef"), (2, b"\0\0")]), None);
        assert_eq!(found(there, &[(1, b"b"), (0, b"a"), (5, b"f"), (4, b"e")]), None);
    }

    #[test]
    fn what_was_not_written_reads_as_zero() {
        let mut compared = Compared::new(&b"abcd"[..], 0..4);
        compared.write_all(b"ab").unwrap();
        let mut read = [1; 2];
        compared.read_exact(&mut read).unwrap();
        assert_eq!(read, [0; 2]);
        compared.rewind().unwrap();
        compared.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"ab");
    }
}
