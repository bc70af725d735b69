//! A file on its way into the store. It stays when a download is cut, and the next one goes on from there.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Result;
use measure::Sha256;
use rustix::fs::OFlags;
use sha2::Digest as _;

use super::Store;

/// The first bytes of a file, hashed as they come. One process at a time has it.
#[derive(Debug)]
pub(super) struct Partial<'a> {
    store: &'a Store,
    sha256: Sha256,
    path: PathBuf,
    file: File,
    hasher: sha2::Sha256,
    length: u64,
}

impl<'a> Partial<'a> {
    /// Opens what is here of a file; waits while another begat fetches it. None: it is complete in the store.
    pub(super) fn open(store: &'a Store, sha256: Sha256, size: u64) -> Result<Option<Self>> {
        let path = store.root().join("partial").join(sha256.to_string());
        let cannot = |error| store.outside(error, "write", &path);
        loop {
            let (file, alone) = locked(&path).map_err(cannot)?;
            if !alone && store.check(&sha256, size).is_ok() {
                return Ok(None);
            }
            if !still_at(&file, &path).map_err(cannot)? {
                continue; // whoever had it has moved it into the store, or thrown it away
            }
            let mut partial = Self {
                store,
                sha256,
                path: path.clone(),
                file,
                hasher: sha2::Sha256::new(),
                length: 0,
            };
            partial.hash_what_is_here(size)?;
            return Ok(Some(partial));
        }
    }

    /// How many bytes are here.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|error| self.store.outside(error, "write", &self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Throws away what is here.
    pub(super) fn restart(&mut self) -> Result<()> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|error| self.store.outside(error, "write", &self.path))?;
        self.hasher = sha2::Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// The digest of the bytes that are here.
    pub(super) fn digest(&self) -> Sha256 {
        <[u8; 32]>::from(self.hasher.clone().finalize()).into()
    }

    /// Moves the complete file to its place in the store.
    pub(super) fn take_in(self) -> Result<()> {
        self.store.take_in(&self.file, &self.path, &self.sha256)
    }

    fn hash_what_is_here(&mut self, size: u64) -> Result<()> {
        let mut buffer = vec![0; 1 << 17];
        loop {
            let read = self.file.read(&mut buffer);
            let count = read.map_err(|error| self.store.outside(error, "read", &self.path))?;
            self.hasher.update(&buffer[..count]);
            self.length += count as u64;
            if self.length > size {
                return self.restart();
            }
            if count == 0 {
                return Ok(());
            }
        }
    }
}

/// The file under an exclusive lock, and whether nobody else had it.
fn locked(path: &Path) -> io::Result<(File, bool)> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    // Whoever can write to the store must not choose, by a link, what is truncated.
    let file = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    match file.try_lock() {
        Ok(()) => Ok((file, true)),
        Err(TryLockError::WouldBlock) => file.lock().map(|()| (file, false)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn still_at(file: &File, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(there) => Ok(there.ino() == file.metadata()?.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
