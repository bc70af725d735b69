//! Full disks: which one it is and what to do. Neither the kernel nor a program that fails says where there is no room.

use std::path::Path;

use anyhow::{Error, Result};
use nix::sys::statvfs::statvfs;

use crate::mend::{Exit, OrMend as _};

/// A folder that is written to.
pub struct Place<'a> {
    pub folder: &'a Path,
    /// What messages call it.
    pub name: String,
    pub mend: &'a str,
}

/// How the C library says ENOSPC and EDQUOT: programs hand us nothing else.
const WORDS: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// Who stopped for want of room has often not used the last bytes, in bytes.
const NEXT_TO_NOTHING: u64 = 64 << 10;

/// Names the fullest of `places` in an error that came from a full disk. Call it before anything there is removed.
///
/// # Errors
/// Those of the `outcome`.
pub fn explain<T>(outcome: Result<T>, places: &[Place<'_>]) -> Result<T> {
    let Err(error) = &outcome else { return outcome };
    let free = places.iter().map(|place| (free(place.folder), place));
    match free.min_by_key(|(free, _)| *free) {
        Some((free, place)) if says_so(error) || free < NEXT_TO_NOTHING => {
            outcome.or_mend(Exit::Outside, format!("the disk of {} is full", place.name), place.mend)
        }
        _ => outcome,
    }
}

fn says_so(error: &Error) -> bool {
    let mut causes = error.chain().map(ToString::to_string);
    causes.any(|cause| WORDS.iter().any(|words| cause.contains(words)))
}

/// Bytes that are left to us there.
fn free(folder: &Path) -> u64 {
    statvfs(folder).map_or(u64::MAX, |found| found.blocks_available() * found.fragment_size())
}
