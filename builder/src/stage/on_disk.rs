//! A release on disk: its folder is opened once and listed once, and each of its files is opened once. Who asks for the
//! bytes of a file again gets the same ones, or none: what was hashed is what is read.
//!
//! What is read as a whole (documents, the kernel, the UKI, firmware, the initrd) is hashed as it is read, so that nothing
//! depends on when somebody writes to it. An image of some GiB is read twice by parts, once for its digest and once for its
//! root hash or its paths, because it fits no memory and one core cannot do both; that nobody has written to it meanwhile
//! is what its file system says in the end.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use rustix::io::Errno;

use crate::mend::{Exit, OrMend as _};
use crate::model::release::{MANIFEST, Stamp};
use crate::model::{Manifest, file, volume};
use crate::world::files::{Entry, Kind, Opened};
use crate::world::folder::Folder;

/// A release on disk.
#[derive(Debug)]
pub struct OnDisk {
    path: PathBuf,
    folder: Folder,
    entries: Vec<Entry>,
    files: Mutex<Files>,
}

/// The files that were asked for.
#[derive(Debug, Default)]
struct Files {
    opened: BTreeMap<String, Arc<Opened>>,
    /// Of those that are closed.
    known: BTreeMap<String, Stamp>,
}

impl OnDisk {
    /// Opens the folder and lists what is in it.
    ///
    /// # Errors
    /// A folder that cannot be read, or that is none.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = Folder::open(path).and_then(|folder| Ok((folder.list()?, folder)));
        let exit = if path.is_dir() { Exit::Outside } else { Exit::Usage };
        let problem = format!("cannot read the folder {}", path.display());
        let (entries, folder) = opened.or_mend(exit, problem, MEND)?;
        Ok(Self {
            path: path.into(),
            folder,
            entries,
            files: Mutex::default(),
        })
    }

    /// Returns how somebody has named the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shows how somebody has named the folder.
    pub fn shown(&self) -> impl Display {
        self.path.display()
    }

    /// Returns what was in the folder when it was opened, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether there was a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.kind(name) == Some(Kind::File)
    }

    fn kind(&self, name: &str) -> Option<Kind> {
        let found = self
            .entries
            .binary_search_by(|entry| entry.path.as_path().cmp(Path::new(name)));
        found.ok().map(|index| self.entries[index].kind)
    }

    /// Returns a file, the same one each time.
    ///
    /// # Errors
    /// A file that was not there when the folder was opened, or that cannot be opened.
    pub fn file(&self, name: &str) -> io::Result<Arc<Opened>> {
        match self.kind(name) {
            Some(Kind::File) => {}
            Some(kind) => return Err(io::Error::other(format!("it is {kind}"))),
            None => return Err(Errno::NOENT.into()),
        }
        let mut files = self.files();
        if let Some(opened) = files.opened.get(name) {
            return Ok(Arc::clone(opened));
        }
        let file = self.folder.file(name)?;
        let opened = match files.known.get(name) {
            Some(stamp) => Opened::with_stamp(file, *stamp)?,
            None => Opened::new(file)?,
        };
        let opened = Arc::new(opened);
        files.opened.insert(name.into(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Returns the bytes of a file that is no larger than such files are, the same ones each time.
    ///
    /// # Errors
    /// As [`file`](Self::file); a file that is larger, or that cannot be read.
    pub fn bytes(&self, name: &str) -> io::Result<Vec<u8>> {
        self.file(name)?.bytes(file::limit(name))
    }

    /// Returns the text of a file that is no larger than such files are, the same one each time.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and bytes that are no text.
    pub fn text(&self, name: &str) -> io::Result<String> {
        String::from_utf8(self.bytes(name)?).map_err(|_| io::Error::other("it is no text"))
    }

    /// Returns the manifest, with which nothing was compared.
    ///
    /// # Errors
    /// A release without one, or with one that is none.
    pub fn manifest(&self) -> Result<Manifest> {
        let problem = format!("cannot read {}", self.path.join(MANIFEST).display());
        Manifest::parse(&self.text(MANIFEST).or_mend(Exit::Usage, problem, MEND)?)
    }

    /// Returns the volumes whose images are there, sorted.
    pub fn volumes(&self) -> Vec<volume::Name> {
        let names = self.entries.iter().filter_map(|entry| entry.path.to_str());
        names.filter_map(volume::Name::of_image).collect()
    }

    /// Returns the files that somebody has written to since they were opened, or about which nothing can be said.
    pub fn changed(&self) -> Vec<String> {
        let files = self.files();
        let changed = files
            .opened
            .iter()
            .filter(|(_, file)| !file.is_unchanged().unwrap_or(false));
        changed.map(|(name, _)| name.clone()).collect()
    }

    /// Closes all files; who asks for the bytes of one again still gets the same ones, or none.
    pub fn close(&self) {
        let mut files = self.files();
        for (name, file) in std::mem::take(&mut files.opened) {
            files.known.extend(file.known_stamp().map(|stamp| (name, stamp)));
        }
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().expect("nothing panics while it has this lock")
    }
}

const MEND: &str = "name the folder of a release";

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use super::*;

    fn release() -> (tempfile::TempDir, OnDisk) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file::KERNEL), "kernel").unwrap();
        fs::write(folder.path().join(file::ROOT), "image").unwrap();
        let release = OnDisk::open(folder.path()).unwrap();
        (folder, release)
    }

    #[test]
    fn a_file_that_nobody_changes_stays_the_same() {
        let (_folder, release) = release();
        for _ in 0..2 {
            assert_eq!(release.text(file::KERNEL).unwrap(), "kernel");
            assert_eq!(release.file(file::ROOT).unwrap().hash().unwrap().0, 5);
            assert_eq!(release.changed(), [""; 0]);
            release.close();
        }
    }

    #[test]
    fn attack_a_file_that_is_replaced_after_it_was_read() {
        let (folder, release) = release();
        assert_eq!(release.text(file::KERNEL).unwrap(), "kernel");
        fs::write(folder.path().join("other"), "evil").unwrap();
        fs::rename(folder.path().join("other"), folder.path().join(file::KERNEL)).unwrap();
        assert_eq!(release.text(file::KERNEL).unwrap(), "kernel", "the one that was opened");
        release.close();
        let error = release.text(file::KERNEL).unwrap_err();
        assert_eq!(error.to_string(), "it changed while it was read");
        fs::write(folder.path().join("new"), "new").unwrap();
        assert_eq!(release.text("new").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn attack_a_file_that_is_written_to_after_it_was_read() {
        let (folder, release) = release();
        assert_eq!(release.file(file::ROOT).unwrap().stamp().unwrap().size, 5);
        assert_eq!(release.text(file::KERNEL).unwrap(), "kernel");
        std::thread::sleep(std::time::Duration::from_millis(20)); // a clock tick of the file system
        for name in [file::ROOT, file::KERNEL] {
            let mut file = OpenOptions::new().write(true).open(folder.path().join(name)).unwrap();
            file.write_all(b"e").unwrap();
        }
        assert_eq!(release.changed(), [file::ROOT, file::KERNEL]);
        assert!(release.text(file::KERNEL).is_err());
        assert!(release.file(file::ROOT).unwrap().hash().is_err());
    }
}
