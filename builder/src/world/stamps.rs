//! The stamps of many files: each core hashes two at once, as long as no other core has nothing to do.

use std::io::{self, BufRead as _, BufReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::Digest as _;

use super::files::{self, Opened, PIECE, Reader};
use super::parallel;
use crate::model::release::Stamp;

/// Returns the stamps of files; the large ones had better come first. Those that are known already are not read again.
pub fn stamps(files: &[&Opened]) -> Vec<io::Result<Stamp>> {
    let pairs: Vec<&[&Opened]> = files.chunks(2).collect();
    let stamps = files::for_each(&pairs, |pair| match pair {
        [one, other] if one.known_stamp().or(other.known_stamp()).is_none() => {
            let [found, others] = stamp_two(one, other);
            vec![
                found.and_then(|found| one.agreed(found)),
                others.and_then(|found| other.agreed(found)),
            ]
        }
        files => files.iter().map(|file| file.stamp()).collect(),
    });
    stamps.into_iter().flatten().collect()
}

/// Hashes two files in turn, some bytes each, until another core has nothing to do and takes over the second.
///
/// An instruction of SHA-256 waits for the one before it on the same file; those on another file fill the time. So a core
/// takes 1.4 times as long for two files as for one, and two cores are faster still.
fn stamp_two(one: &Opened, other: &Opened) -> [io::Result<Stamp>; 2] {
    let (mut one, other) = (Hashing::of(one), Mutex::new(Hashing::of(other)));
    let (taken, lock) = (AtomicBool::new(false), || other.lock().expect("hashing does not panic"));
    let in_turn = || {
        while one.fill() {
            match taken.load(Ordering::Relaxed) {
                true => one.hash(),
                false => one.hash_beside(&mut lock()),
            }
        }
    };
    let take_over = || {
        taken.store(true, Ordering::Relaxed);
        let mut other = lock();
        while other.fill() {
            other.hash();
        }
    };
    parallel::both(in_turn, take_over);
    [one, other.into_inner().expect("hashing does not panic")].map(Hashing::finish)
}

/// A file that is being hashed.
struct Hashing<'a> {
    file: io::Result<BufReader<Reader<'a>>>,
    sha256: sha2::Sha256,
    size: u64,
}

impl<'a> Hashing<'a> {
    fn of(file: &'a Opened) -> Self {
        Self {
            file: Ok(BufReader::with_capacity(PIECE, file.reader())),
            sha256: sha2::Sha256::new(),
            size: 0,
        }
    }

    /// Reads on where all that was read is hashed; returns whether there is something to hash.
    fn fill(&mut self) -> bool {
        if let Some(error) = self.file.as_mut().ok().and_then(|file| file.fill_buf().err()) {
            self.file = Err(error);
        }
        self.file.as_ref().is_ok_and(|file| !file.buffer().is_empty())
    }

    /// Hashes what was read.
    fn hash(&mut self) {
        if let Ok(file) = &self.file {
            let read = file.buffer();
            self.sha256.update(read);
            self.consume(read.len());
        }
    }

    /// Hashes what was read of both, as far as both go; the whole of it where the other is at its end.
    fn hash_beside(&mut self, other: &mut Self) {
        /// In bytes: two blocks of SHA-256.
        const STEP: usize = 128;
        if !other.fill() {
            return self.hash();
        }
        let (Ok(mine), Ok(others)) = (&self.file, &other.file) else {
            return;
        };
        let (mine, others) = (mine.buffer(), others.buffer());
        let length = mine.len().min(others.len());
        for (mine, others) in mine[..length].chunks(STEP).zip(others[..length].chunks(STEP)) {
            self.sha256.update(mine);
            other.sha256.update(others);
        }
        self.consume(length);
        other.consume(length);
    }

    fn consume(&mut self, length: usize) {
        self.size += length as u64;
        if let Ok(file) = &mut self.file {
            file.consume(length);
        }
    }

    fn finish(self) -> io::Result<Stamp> {
        let (sha256, size) = (<[u8; 32]>::from(self.sha256.finalize()).into(), self.size);
        self.file.map(|_| Stamp { sha256, size })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use measure::Sha256;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn files_that_are_hashed_in_turn_have_their_own_stamps(sizes in prop::collection::vec(0..3 * PIECE, 0..5), known in any::<bool>()) {
            let folder = tempfile::tempdir().unwrap();
            let contents: Vec<Vec<u8>> = sizes.iter().zip(1..).map(|(size, byte)| vec![byte; *size]).collect();
            let opened: Vec<Opened> = contents.iter().enumerate().map(|(number, content)| {
                let path = folder.path().join(number.to_string());
                fs::write(&path, content).unwrap();
                files::open_at(&path).unwrap()
            }).collect();
            if known && let Some(first) = opened.first() {
                first.bytes(u64::MAX).unwrap();
            }
            let stamps = stamps(&opened.iter().collect::<Vec<_>>());
            let stamps: Vec<Stamp> = stamps.into_iter().map(Result::unwrap).collect();
            let stamp = |content: &Vec<u8>| Stamp { sha256: Sha256::of(content), size: content.len() as u64 };
            prop_assert_eq!(stamps, contents.iter().map(stamp).collect::<Vec<_>>());
        }
    }
}
