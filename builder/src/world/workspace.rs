//! Where a build works: in memory where there is enough of it, which is several times faster, or in a folder.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::mend::{Exit, OrMend as _};

/// Memory that must be free for a build in memory, in bytes: twice what a guest of 400 packages takes, which has its
/// packages without compression beside its tree.
pub const ENOUGH: u64 = 8 << 30;

/// How many builds may work below one folder at once.
const AT_ONCE: usize = 64;

/// A place to work in, ours alone as long as this value lives.
#[derive(Debug)]
pub struct Workspace {
    folder: Option<(PathBuf, File)>,
}

impl Workspace {
    /// Takes a place below the folder `named`; with none, memory, or where that is short, a place in the `cache`.
    ///
    /// # Errors
    /// The folder cannot be made or locked.
    pub fn take(named: Option<&Path>, cache: &Path) -> Result<Self> {
        match named {
            Some(folder) => Self::below(folder),
            None if free_memory() >= ENOUGH => Ok(Self { folder: None }),
            None => Self::below(&cache.join("work")),
        }
    }

    /// Returns the folder of the host, or `None` for memory.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(|(folder, _)| folder.as_path())
    }

    /// A killed build leaves its place behind, unlocked: the next one takes it, and clears it from inside its sandbox,
    /// where the files of all owners are ours.
    fn below(folder: &Path) -> Result<Self> {
        let free = Self::free_below(folder).or_mend(
            Exit::Outside,
            format!("cannot make a workspace below {}", folder.display()),
            "make room there, or make it writable for this user; or name another folder: --workspace DIR",
        )?;
        let mend = "wait for one of them, or name another folder: --workspace DIR";
        free.ok_or_else(|| {
            Exit::Outside.because(
                format!("{AT_ONCE} builds work below {} already", folder.display()),
                mend,
            )
        })
    }

    fn free_below(folder: &Path) -> io::Result<Option<Self>> {
        for number in 0..AT_ONCE {
            let place = folder.join(format!("begat-{number}"));
            fs::create_dir_all(&place)?;
            let lock = File::create(place.with_extension("lock"))?;
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Some(Self {
                        folder: Some((fs::canonicalize(place)?, lock)),
                    }));
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// Returns how much memory can be used without swapping, in bytes; 0 where the kernel does not say.
pub fn free_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.unwrap_or(0) * 1024
}
