//! The folder of a log: its files appear whole, and one process at a time adds to it.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::files;

/// A folder that holds a log, or will.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// The right to add to a log, until it is dropped.
#[derive(Debug)]
pub struct Writer<'a> {
    folder: &'a Folder,
    _lock: File,
}

/// How files are called until they are whole.
const UNFINISHED: &str = ".unfinished-";

/// The folder of hashes and entries.
const TILES: &str = "tile";

impl Folder {
    /// Returns the log in this folder.
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// Returns the bytes of a file of the log; nothing if there is none.
    ///
    /// # Errors
    /// A file that cannot be read, or that has more than `limit` bytes.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match files::read(&self.path.join(name), limit) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of all files of hashes and entries that are here, whether or not the log counts them.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn tiles(&self) -> io::Result<Vec<String>> {
        let listed = match files::list(&self.path.join(TILES)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            listed => listed?,
        };
        let here = listed.iter().filter(|entry| entry.kind != files::Kind::Directory);
        Ok(here.map(|entry| format!("{TILES}/{}", entry.path.display())).collect())
    }

    /// Waits until nobody adds to the log, and keeps others from it while what is returned lives; nothing where the
    /// folder cannot be locked.
    pub fn hold(&self) -> Option<File> {
        let folder = File::open(&self.path).ok()?;
        folder.lock_shared().ok().map(|()| folder)
    }

    /// Makes the folder where there is none, waits until nobody else adds to it, and removes what a killed process left.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn writer(&self) -> io::Result<Writer<'_>> {
        fs::create_dir_all(&self.path)?;
        let lock = File::open(&self.path)?;
        lock.lock()?;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Writer {
            folder: self,
            _lock: lock,
        })
    }
}

impl Writer<'_> {
    /// Writes a file through to the disk, then gives it its name, in place of one that is there.
    ///
    /// # Errors
    /// A disk that is full; a folder that cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.path.join(name);
        let parent = path.parent().unwrap_or(&self.folder.path);
        fs::create_dir_all(parent)?;
        let mut file = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(Permissions::from_mode(0o644))
            .tempfile_in(&self.folder.path)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        // the name must not come before the bytes, nor the folder after what refers to it
        let below = parent
            .ancestors()
            .take_while(|folder| folder.starts_with(&self.folder.path));
        below.map(File::open).try_for_each(|folder| folder?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_whole_stays() {
        let folder = tempfile::tempdir().unwrap();
        let log = Folder::new(&folder.path().join("log"));
        log.writer().unwrap().write("tile/0/000.p/1", b"hash").unwrap();
        let left = folder.path().join("log").join(format!("{UNFINISHED}abc"));
        fs::write(&left, b"ha").unwrap();
        log.writer().unwrap().write("tile/0/000.p/1", b"other").unwrap();
        assert!(!left.exists());
        assert_eq!(log.read("tile/0/000.p/1", 10).unwrap().unwrap(), b"other");
        assert_eq!(log.read("checkpoint", 10).unwrap(), None);
        assert_eq!(log.tiles().unwrap(), ["tile/0/000.p/1"]);
        assert_eq!(Folder::new(&left).tiles().unwrap(), [""; 0]);
        assert!(log.read("tile/0/000.p/1", 4).is_err());
    }
}
