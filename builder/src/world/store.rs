//! The store: files named by their SHA-256. Whoever can write to it is not trusted, so bytes are hashed at every use.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use measure::Sha256;
use sha2::Digest as _;
use tempfile::NamedTempFile;

use super::{Environment, parallel};
use crate::mend::{Exit, OrMend as _};
use crate::model::release::Stamp;

/// A folder of files named by their SHA-256. Several begat may use it at once.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the store in this folder, which is made where there is none.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { root: root.into() };
        for folder in ["sha256", "partial", "trees", "compiled"] {
            let folder = store.root.join(folder);
            fs::create_dir_all(&folder).map_err(|error| store.outside(error, "make", &folder))?;
        }
        Ok(store)
    }

    /// Opens the store that the command line names, or else `begat` in this user's cache folder.
    ///
    /// # Errors
    /// As [`Store::open`], and a host without a cache folder.
    pub fn locate(named: Option<&Path>, environment: &Environment) -> Result<Self> {
        let cached = || environment.cache.as_ref().map(|cache| cache.join("begat"));
        let root = named.map(Path::to_owned).or_else(cached).ok_or_else(|| {
            let problem = "there is no folder for the store: neither XDG_CACHE_HOME nor HOME is an absolute path";
            Exit::Usage.because(problem, "name one: --store FOLDER")
        })?;
        Self::open(root)
    }

    /// Returns the folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where the file with this digest is, or would be. Its bytes are unchecked.
    pub fn path(&self, sha256: &Sha256) -> PathBuf {
        let name = sha256.to_string();
        self.root.join("sha256").join(&name[..2]).join(name)
    }

    /// Opens a file after hashing it.
    ///
    /// # Errors
    /// A file that is not there, or whose bytes are others.
    pub fn checked(&self, sha256: &Sha256, size: u64) -> Result<File> {
        let mut file = self.open_sized(sha256, size)?;
        let found = copy_hashed(&mut file, &mut io::sink()).map_err(|error| self.unreadable(error, sha256))?;
        self.expect(sha256, found)?;
        file.rewind().map_err(|error| self.unreadable(error, sha256))?;
        Ok(file)
    }

    /// Returns the bytes of a file after hashing them: what is returned is what was hashed.
    ///
    /// # Errors
    /// As [`Store::checked`].
    pub fn bytes(&self, sha256: &Sha256, size: u64) -> Result<Vec<u8>> {
        let file = self.open_sized(sha256, size)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = file.take(size).read_to_end(&mut bytes);
        read.map_err(|error| self.unreadable(error, sha256))?;
        self.expect(sha256, Sha256::of(&bytes))?;
        Ok(bytes)
    }

    /// Copies a file to the path `to`, hashing what is copied; `to` appears only when its bytes are right.
    ///
    /// # Errors
    /// As [`Store::checked`], and a target that cannot be written.
    pub fn copy_checked(&self, sha256: &Sha256, to: &Path) -> Result<()> {
        let cannot_write = |error: io::Error| Error::new(error).context(format!("cannot write {}", to.display()));
        let mut file = File::open(self.path(sha256)).map_err(|error| self.unreadable(error, sha256))?;
        let mut copy = NamedTempFile::new_in(folder_of(to)).map_err(cannot_write)?;
        let found = copy_hashed(&mut file, &mut copy).map_err(cannot_write)?;
        self.expect(sha256, found)?;
        let mode = Permissions::from_mode(0o644);
        copy.as_file().set_permissions(mode).map_err(cannot_write)?;
        copy.persist(to).map_err(|error| cannot_write(error.error))?;
        Ok(())
    }

    /// Adds a file with these bytes.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn add(&self, bytes: &[u8]) -> Result<Sha256> {
        let cannot_write = |error| self.outside(error, "write to", &self.root);
        let sha256 = Sha256::of(bytes);
        let mut file = NamedTempFile::new_in(self.root.join("partial")).map_err(cannot_write)?;
        file.write_all(bytes).map_err(cannot_write)?;
        let (file, path) = file.into_parts();
        self.take_in(&file, &path, &sha256)?;
        let _ = path.keep(); // renamed away: there is nothing left to remove
        Ok(sha256)
    }

    /// Adds a copy of a file of any size, and returns its size and digest.
    ///
    /// # Errors
    /// A file that cannot be read; a store that cannot be written.
    pub fn add_file(&self, path: &Path) -> Result<Stamp> {
        let cannot_write = |error| self.outside(error, "write to", &self.root);
        let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.is_file())));
        let problem = format!("cannot read {}", path.display());
        let (mut from, is_file) = opened.or_mend(Exit::Usage, &problem, "check the path and its permissions")?;
        if !is_file {
            return Err(Exit::Usage.because(problem, "name a file"));
        }
        let mut copy = NamedTempFile::new_in(self.root.join("partial")).map_err(cannot_write)?;
        let sha256 = copy_hashed(&mut from, &mut copy).map_err(cannot_write)?;
        let size = copy.as_file().metadata().map_err(cannot_write)?.len();
        let (file, path) = copy.into_parts();
        self.take_in(&file, &path, &sha256)?;
        let _ = path.keep(); // renamed away: there is nothing left to remove
        Ok(Stamp { sha256, size })
    }

    /// Returns what was noted under this name of something that was compiled here; none where nothing was.
    pub fn note(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root.join("compiled").join(name)).ok()
    }

    /// Notes it.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn write_note(&self, name: &str, text: &str) -> Result<()> {
        let place = self.root.join("compiled").join(name);
        let steps = || {
            let mut file = NamedTempFile::new_in(self.root.join("partial"))?;
            file.write_all(text.as_bytes())?;
            file.persist(&place).map(drop).map_err(|error| error.error)
        };
        steps().map_err(|error| self.outside(error, "write", &place))
    }

    /// Returns the size in bytes of the file with this digest, unchecked; none where there is none.
    pub fn size(&self, sha256: &Sha256) -> Option<u64> {
        fs::metadata(self.path(sha256)).ok().map(|metadata| metadata.len())
    }

    /// Returns those of the `wanted` files (digest and size) that are not here or have other bytes.
    pub fn missing(&self, wanted: &[(Sha256, u64)]) -> Vec<Sha256> {
        let here = parallel::map(wanted, |(sha256, size)| self.checked(sha256, *size).is_ok());
        let absent = wanted.iter().zip(here).filter(|(_, here)| !here);
        absent.map(|((sha256, _), _)| *sha256).collect()
    }

    /// Moves a complete, already hashed `file` at `path`, on the store's file system, to its place.
    pub(super) fn take_in(&self, file: &File, path: &Path, sha256: &Sha256) -> Result<()> {
        let place = self.path(sha256);
        let steps = || {
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.sync_all()?;
            fs::create_dir_all(folder_of(&place))?;
            fs::rename(path, &place)
        };
        steps().map_err(|error| self.outside(error, "write", &place))
    }

    /// An I/O error of the store's own file system.
    pub(super) fn outside(&self, error: io::Error, verb: &str, path: &Path) -> Error {
        let mend = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or name another: --store",
            _ => "make it writable for this user, or name another: --store",
        };
        let cause: io::Result<()> = Err(error);
        let problem = format!("cannot {verb} {}", path.display());
        let outcome = cause.or_mend(Exit::Outside, problem, format!("{mend} FOLDER"));
        outcome.expect_err("it is an error")
    }

    fn open_sized(&self, sha256: &Sha256, size: u64) -> Result<File> {
        let opened = File::open(self.path(sha256)).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (found, file) = opened.map_err(|error| self.unreadable(error, sha256))?;
        if found == size {
            return Ok(file);
        }
        let place = self.path(sha256);
        let problem = format!("{} has {found} bytes, the lock says {size}", place.display());
        Err(Exit::LockMismatch.because(problem, remove(&place)))
    }

    fn expect(&self, sha256: &Sha256, found: Sha256) -> Result<()> {
        if found == *sha256 {
            return Ok(());
        }
        let place = self.path(sha256);
        let problem = format!("the store is damaged: {} has SHA-256 {found}", place.display());
        Err(Exit::LockMismatch.because(problem, remove(&place)))
    }

    fn unreadable(&self, error: io::Error, sha256: &Sha256) -> Error {
        let place = self.path(sha256);
        if error.kind() != io::ErrorKind::NotFound {
            return self.outside(error, "read", &place);
        }
        let problem = format!("{sha256} is not in the store {}", self.root.display());
        Exit::Outside.because(problem, "fetch it: begat build RECIPE, without --offline")
    }
}

/// Copies everything and returns the SHA-256 of what was copied.
pub(super) fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(<[u8; 32]>::from(hasher.finalize()).into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != "").unwrap_or(Path::new("."))
}

fn remove(place: &Path) -> String {
    format!("remove it and it is fetched again: rm {}", place.display())
}

/// Returns the free space of the disk that the default store is on, in bytes.
///
/// # Errors
/// As [`Store::locate`], and a disk that does not say.
pub fn free_space(environment: &Environment) -> Result<u64> {
    let store = Store::locate(None, environment)?;
    let disk = rustix::fs::statvfs(store.root()).context("cannot look at the store's disk")?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn damage(store: &Store, sha256: &Sha256, bytes: &[u8]) {
        fs::remove_file(store.path(sha256)).unwrap();
        fs::write(store.path(sha256), bytes).unwrap();
    }

    #[test]
    fn a_flipped_byte_is_refused_with_both_digests() {
        let (folder, store) = store();
        let sha256 = store.add(b"bytes").unwrap();
        damage(&store, &sha256, b"bytez");
        let copy = folder.path().join("copy");
        let refusals = [
            store.checked(&sha256, 5).map(drop).unwrap_err(),
            store.bytes(&sha256, 5).map(drop).unwrap_err(),
            store.copy_checked(&sha256, &copy).unwrap_err(),
        ];
        for refusal in refusals {
            let report = mend::report(&refusal);
            assert!(report.contains(&sha256.to_string()), "{report}");
            assert!(report.contains(&Sha256::of("bytez").to_string()), "{report}");
            assert_eq!(mend::exit_code(&refusal), Exit::LockMismatch);
        }
        assert!(!copy.exists());
        assert_eq!(store.missing(&[(sha256, 5)]), [sha256]);
    }

    #[test]
    fn a_truncated_file_is_refused_with_both_sizes() {
        let (_folder, store) = store();
        let sha256 = store.add(b"bytes").unwrap();
        damage(&store, &sha256, b"byt");
        let refusal = store.checked(&sha256, 5).map(drop).unwrap_err();
        assert!(
            refusal.to_string().ends_with("has 3 bytes, the lock says 5"),
            "{refusal}"
        );
        assert_eq!(mend::exit_code(&refusal), Exit::LockMismatch);
    }

    #[test]
    fn what_was_added_is_there_once_and_nothing_else() {
        let (folder, store) = store();
        let sha256 = store.add(b"bytes").unwrap();
        assert_eq!(store.add(b"bytes").unwrap(), sha256);
        assert_eq!(store.bytes(&sha256, 5).unwrap(), b"bytes");
        store.copy_checked(&sha256, &folder.path().join("copy")).unwrap();
        assert_eq!(fs::read(folder.path().join("copy")).unwrap(), b"bytes");
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        assert_eq!(store.missing(&[(sha256, 5)]), []);
    }
}
