//! A folder that others have filled, or that their programs may write to: nothing below it is read or written through a
//! link, and nothing leaves it. The kernel resolves each path (openat2), from a handle on the folder that is opened once.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::files::{Entry, Kind};
use super::random;

/// How many entries are listed at most: more than any release or recipe has.
const ENTRIES: usize = 1 << 16;

/// How deep folders lie in each other at most.
const DEPTH: usize = 64;

/// A folder, by a handle on it.
#[derive(Debug)]
pub struct Folder {
    root: OwnedFd,
}

impl Folder {
    /// Opens a folder that somebody names: links on the way to it are followed.
    ///
    /// # Errors
    /// No folder, or one that cannot be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// Returns everything that is below the folder, sorted by path.
    ///
    /// # Errors
    /// A folder that cannot be read, or that has more than anybody would put there.
    pub fn list(&self) -> io::Result<Vec<Entry>> {
        let (mut entries, mut folders) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(below) = folders.pop() {
            for entry in Dir::new(self.folder(&below)?)? {
                let entry = entry?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name == "." || name == ".." {
                    continue;
                }
                let (path, kind) = (below.join(name), self.kind(&below.join(name), entry.file_type())?);
                if kind == Kind::Directory {
                    folders.push(path.clone());
                }
                entries.push(Entry { path, kind });
            }
            if entries.len() > ENTRIES || folders.iter().any(|path| path.components().count() > DEPTH) {
                return Err(io::Error::other(format!(
                    "it has more than {ENTRIES} entries, or more than {DEPTH} folders in each other"
                )));
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn kind(&self, path: &Path, listed: FileType) -> io::Result<Kind> {
        let kind = match listed {
            FileType::Unknown => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let found = rustix::fs::fstat(self.resolve(path, flags, Mode::empty(), FOLLOW_NO_FOLDER)?)?;
                FileType::from_raw_mode(found.st_mode)
            }
            known => known,
        };
        Ok(match kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Special,
        })
    }

    /// Opens a file to read, without waiting for whoever feeds a pipe.
    ///
    /// # Errors
    /// A file that cannot be opened, or that is none; a path with a link in it.
    pub fn file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(self.resolve(path.as_ref(), flags, Mode::empty(), NO_LINKS)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// Copies a file to a new one of ours, since whoever made it may have it open still, and removes it here.
    ///
    /// # Errors
    /// As [`file`](Self::file); a file that has other names; a disk that is full.
    pub fn take(&self, path: impl AsRef<Path>, to: &Path) -> io::Result<()> {
        let mut file = self.file(&path)?;
        if file.metadata()?.nlink() != 1 {
            return Err(refused("it has another name"));
        }
        let mut new = OpenOptions::new();
        io::copy(&mut file, &mut new.write(true).create_new(true).open(to)?)?;
        Ok(rustix::fs::unlinkat(&self.root, path.as_ref(), AtFlags::empty())?)
    }

    /// Writes a file whole or not at all, through to the disk, in place of one of that name; makes the folders above it.
    ///
    /// # Errors
    /// A disk that is full; a folder that cannot be written, or a link in its place.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.put(path.as_ref(), &unfinished()?, bytes.as_ref(), RenameFlags::empty())
    }

    /// As [`write`](Self::write), where nothing has that name yet.
    ///
    /// # Errors
    /// Also a name that something has.
    pub fn add(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.put(path.as_ref(), &unfinished()?, bytes.as_ref(), RenameFlags::NOREPLACE)
    }

    /// As [`write`](Self::write); until it is whole, the file has the name `partial`, and what a killed run has left under
    /// that name goes. One process at a time may do so.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_as(&self, partial: &str, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.root, partial, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.put(path.as_ref(), partial, bytes.as_ref(), RenameFlags::empty())
    }

    fn put(&self, path: &Path, partial: &str, bytes: &[u8], how: RenameFlags) -> io::Result<()> {
        let name = path.file_name().ok_or_else(|| io::Error::from(Errno::INVAL))?;
        let folder = self.make(path.parent().unwrap_or(Path::new("")))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&folder, partial, flags, Mode::from_raw_mode(0o644))?);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let named = written.and_then(
            |()| match rustix::fs::renameat_with(&folder, partial, &folder, name, how) {
                Err(Errno::INVAL) if !how.is_empty() => {
                    // a file system that does not know how
                    rustix::fs::linkat(&folder, partial, &folder, name, AtFlags::empty())?;
                    Ok(rustix::fs::unlinkat(&folder, partial, AtFlags::empty())?)
                }
                renamed => Ok(renamed?),
            },
        );
        if named.is_err() {
            rustix::fs::unlinkat(&folder, partial, AtFlags::empty()).ok(); // the first error is the one to tell
            return named;
        }
        Ok(rustix::fs::fsync(&folder)?)
    }

    /// Makes a folder and those above it, where there are none.
    fn make(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.folder(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let (above, name) = path
            .parent()
            .zip(path.file_name())
            .ok_or_else(|| io::Error::from(Errno::NOENT))?;
        match rustix::fs::mkdirat(self.make(above)?, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.folder(path),
            Err(error) => Err(error.into()),
        }
    }

    fn folder(&self, path: &Path) -> io::Result<OwnedFd> {
        let path = if path == "" { Path::new(".") } else { path };
        self.resolve(
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            NO_LINKS,
        )
    }

    fn resolve(&self, path: &Path, flags: OFlags, mode: Mode, how: ResolveFlags) -> io::Result<OwnedFd> {
        loop {
            match rustix::fs::openat2(&self.root, path, flags, mode, how) {
                Err(Errno::AGAIN | Errno::INTR) => {} // something was renamed meanwhile, and the kernel is not sure
                Err(Errno::LOOP) => return Err(refused("there is a symbolic link in its path")),
                Err(Errno::XDEV) => return Err(refused("its path leaves the folder")),
                Err(Errno::NOSYS) => return Err(refused("this kernel has no openat2; Linux 5.6 or newer has")),
                opened => return Ok(opened?),
            }
        }
    }
}

/// How a file is called until it is whole.
fn unfinished() -> io::Result<String> {
    Ok(format!(".unfinished-{}", HEXLOWER.encode(&random::bytes::<8>()?)))
}

const NO_LINKS: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// The last part of the path may be a link, which is looked at and not followed.
const FOLLOW_NO_FOLDER: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);

fn refused(why: impl Display) -> io::Error {
    io::Error::other(why.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder, and beside it a file that is not in it.
    fn place() -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("folder/below")).unwrap();
        fs::write(place.path().join("beside"), "mine").unwrap();
        fs::write(place.path().join("folder/below/file"), "text").unwrap();
        let folder = Folder::open(&place.path().join("folder")).unwrap();
        (place, folder)
    }

    fn listed(folder: &Folder) -> Vec<String> {
        let entries = folder.list().unwrap().into_iter();
        entries
            .map(|entry| format!("{}: {}", entry.path.display(), entry.kind))
            .collect()
    }

    #[test]
    fn a_folder_is_listed_read_and_written() {
        let (place, folder) = place();
        folder.write("new/deep/file", "new").unwrap();
        folder.write("below/file", "other").unwrap();
        assert_eq!(
            io::read_to_string(folder.file("new/deep/file").unwrap()).unwrap(),
            "new"
        );
        assert_eq!(io::read_to_string(folder.file("below/file").unwrap()).unwrap(), "other");
        let error = folder.add("below/file", "third").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        symlink("nowhere", place.path().join("folder/link")).unwrap();
        let wanted = [
            "below: a directory",
            "below/file: a file",
            "link: a symbolic link",
            "new: a directory",
            "new/deep: a directory",
            "new/deep/file: a file",
        ];
        assert_eq!(listed(&folder), wanted);
    }

    #[test]
    fn attack_a_link_that_leads_out_of_the_folder() {
        let (place, folder) = place();
        let inside = place.path().join("folder");
        for (name, target) in [
            ("file", "../beside"),
            ("absolute", "/etc/passwd"),
            ("there", "below/file"),
        ] {
            symlink(target, inside.join(name)).unwrap();
            assert!(folder.file(name).is_err(), "{name}");
            folder.write(name, "x").unwrap(); // the link goes, what it leads to stays
            assert_eq!(fs::read_to_string(inside.join(name)).unwrap(), "x");
        }
        for (name, target) in [("out", ".."), ("in", "below")] {
            symlink(target, inside.join(name)).unwrap();
            for path in [format!("{name}/beside"), format!("{name}/file"), format!("{name}/new")] {
                assert!(folder.file(&path).is_err(), "{path}");
                assert!(folder.write(&path, "x").is_err(), "{path}");
            }
        }
        assert!(folder.file("../beside").is_err());
        assert!(folder.write("../beside", "x").is_err());
        assert_eq!(fs::read_to_string(place.path().join("beside")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(inside.join("below/file")).unwrap(), "text");
    }

    #[test]
    fn attack_a_result_that_is_a_link_or_that_somebody_still_writes_to() {
        let (place, folder) = place();
        let (inside, ours) = (place.path().join("folder"), place.path().join("ours"));
        let mut open = File::options().append(true).open(inside.join("below/file")).unwrap();
        folder.take("below/file", &ours).unwrap();
        open.write_all(b"evil").unwrap();
        assert_eq!(fs::read_to_string(&ours).unwrap(), "text");
        assert!(!inside.join("below/file").exists());
        symlink("../beside", inside.join("link")).unwrap();
        fs::hard_link(place.path().join("beside"), inside.join("hard")).unwrap();
        for name in ["link", "hard", "below"] {
            let new = place.path().join(name);
            assert!(folder.take(name, &new).is_err(), "{name}");
            assert!(!new.exists(), "{name}");
        }
        fs::write(inside.join("again"), "other").unwrap();
        assert!(folder.take("again", &ours).is_err(), "what is there stays");
        assert_eq!(fs::read_to_string(&ours).unwrap(), "text");
    }

    #[test]
    fn attack_a_folder_that_is_replaced_after_it_was_opened() {
        let (place, folder) = place();
        let inside = place.path().join("folder");
        fs::rename(&inside, place.path().join("gone")).unwrap();
        fs::create_dir_all(inside.join("below")).unwrap();
        fs::write(inside.join("below/file"), "other").unwrap();
        assert_eq!(io::read_to_string(folder.file("below/file").unwrap()).unwrap(), "text");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let (place, folder) = place();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place.path().join("folder/pipe"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(folder.file("pipe").is_err());
        assert!(folder.file("below").is_err());
    }
}
