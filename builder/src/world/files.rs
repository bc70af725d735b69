//! The files of a folder: what is there, how large it is and what its digest is. Nothing follows a symbolic link.

use std::fmt;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use measure::event_log::Digests;
use measure::{ReadAt, Unreadable};
use measure::{Sha256, Sha512};
use rustix::fs::OFlags;
use sha2::Digest as _;

use super::parallel;
use crate::model::release::Stamp;

/// How much of a file is read at once, in bytes: no more than the cache of a core holds.
pub(super) const PIECE: usize = 1 << 16;

/// What lies in a folder, at any depth.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Entry {
    /// Path below the folder.
    pub path: PathBuf,
    pub kind: Kind,
}

/// What an entry of a folder is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    File,
    Directory,
    Symlink,
    /// A device, a socket or a pipe.
    Special,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            _ if kind.is_file() => Self::File,
            _ if kind.is_dir() => Self::Directory,
            _ if kind.is_symlink() => Self::Symlink,
            _ => Self::Special,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Symlink => "a symbolic link",
            Self::Special => "a device, socket or pipe",
        })
    }
}

/// Returns everything below `folder`, sorted by path.
///
/// # Errors
/// A folder that cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<Entry>> {
    let (mut entries, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = folders.pop() {
        for entry in fs::read_dir(folder.join(&below))? {
            let entry = entry?;
            let (path, kind) = (below.join(entry.file_name()), Kind::from(entry.file_type()?));
            if kind == Kind::Directory {
                folders.push(path.clone());
            }
            entries.push(Entry { path, kind });
        }
    }
    entries.sort();
    Ok(entries)
}

/// Opens a file to read: not through a symbolic link, and without waiting for whoever feeds a pipe.
///
/// # Errors
/// A file that cannot be opened, or that is none.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other("it is not a regular file"))
}

/// A file that was opened once, and is read from any offset, by several threads at once.
///
/// Whoever can write to it may do so while it is read. What is read as a whole is hashed as it is read, and all who read
/// it so get the same bytes or an error. What is read piece by piece has [`is_unchanged`](Self::is_unchanged).
#[derive(Debug)]
pub struct Opened {
    file: File,
    size: u64,
    changed: Changed,
    stamp: OnceLock<Stamp>,
}

/// When a file was written last, as the file system says: seconds and nanoseconds of its data and of its metadata. Nobody
/// but the kernel sets the second time.
type Changed = [(i64, i64); 2];

/// Opens a file as [`open`] does, to read from any offset.
///
/// # Errors
/// A file that cannot be opened, or that is none.
pub fn open_at(path: &Path) -> io::Result<Opened> {
    Opened::new(open(path)?)
}

impl Opened {
    /// Takes a file that was opened to read.
    ///
    /// # Errors
    /// A file about which the file system says nothing.
    pub fn new(file: File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self {
            size: found.len(),
            changed: changed(&found),
            stamp: OnceLock::new(),
            file,
        })
    }

    /// Takes a file of which somebody knows the size and digest: it is read as a whole with these or not at all.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_stamp(file: File, stamp: Stamp) -> io::Result<Self> {
        let stamp = OnceLock::from(stamp);
        Ok(Self {
            stamp,
            ..Self::new(file)?
        })
    }

    /// Returns the size and the digest that the file has had since it was first read as a whole.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn stamp(&self) -> io::Result<Stamp> {
        match self.stamp.get() {
            Some(known) => Ok(*known),
            None => self.agreed(stamp(&mut self.reader())?),
        }
    }

    /// Returns that size and digest where it was read as a whole already.
    pub fn known_stamp(&self) -> Option<Stamp> {
        self.stamp.get().copied()
    }

    /// Takes the size and the digest of what somebody has read of all of it.
    ///
    /// # Errors
    /// Others than somebody has read before.
    pub fn agreed(&self, found: Stamp) -> io::Result<Stamp> {
        match *self.stamp.get_or_init(|| found) == found {
            true => Ok(found),
            false => Err(io::Error::other("it changed while it was read")),
        }
    }

    /// Returns its bytes, the same ones each time.
    ///
    /// # Errors
    /// A file that cannot be read, that has more than `limit` bytes, or other bytes than when it was first read.
    pub fn bytes(&self, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = at_most(limit, self.size, self.reader())?;
        self.agreed(Stamp {
            sha256: Sha256::of(&bytes),
            size: bytes.len() as u64,
        })?;
        Ok(bytes)
    }

    /// Returns the size in bytes and the digests of all of it, the same each time.
    ///
    /// # Errors
    /// A file that cannot be read, or has other bytes than when it was first read.
    pub fn hash(&self) -> io::Result<(u64, Digests)> {
        let (size, digests) = hash(&mut self.reader())?;
        if let Some(sha256) = digests.sha256 {
            self.agreed(Stamp { sha256, size })?;
        }
        Ok((size, digests))
    }

    /// Returns the size and both digests of all of it, the same each time.
    ///
    /// # Errors
    /// A file that cannot be read, or has other bytes than when it was first read.
    pub fn stamp_and_sha512(&self) -> io::Result<(Stamp, Sha512)> {
        let (stamp, sha512) = stamp_and_sha512(&mut self.reader())?;
        Ok((self.agreed(stamp)?, sha512))
    }

    /// Returns whether nobody has written to the file since it was opened, as its file system says.
    ///
    /// # Errors
    /// A file about which the file system says nothing.
    pub fn is_unchanged(&self) -> io::Result<bool> {
        let found = self.file.metadata()?;
        Ok(found.len() == self.size && changed(&found) == self.changed)
    }

    /// Returns how many bytes it had when it was opened.
    pub fn len(&self) -> u64 {
        self.size
    }

    /// Returns whether it had none.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Reads it from its start.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            file: &self.file,
            offset: 0,
        }
    }
}

/// Reads a file from its start to its end, beside others who do.
#[derive(Debug)]
pub struct Reader<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

fn changed(found: &fs::Metadata) -> Changed {
    [(found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec())]
}

impl ReadAt for Opened {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let read = self.file.read_exact_at(buffer, offset);
        read.map_err(|error| Unreadable {
            offset,
            length: buffer.len() as u64,
            why: error.to_string(),
        })
    }
}

/// Returns the bytes of a file, which is opened as [`open`] does.
///
/// # Errors
/// A file that cannot be read, or that has more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let size = file.metadata()?.len();
    at_most(limit, size, file)
}

/// What can be read from `file`, which should have `size` bytes: room for more is made only where there are more.
fn at_most(limit: u64, size: u64, file: impl Read) -> io::Result<Vec<u8>> {
    let too_large = || io::Error::other(format!("it has more than {limit} bytes"));
    if size > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(size as usize + 1); // one more: so its end is found without more room
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(too_large()),
        false => Ok(bytes),
    }
}

/// Returns the text of a file, which is opened as [`open`] does.
///
/// # Errors
/// A file that cannot be read, that is no text, or that is larger than any document of a release.
pub fn text(path: &Path) -> io::Result<String> {
    /// In bytes.
    const LIMIT: u64 = 1 << 30;
    String::from_utf8(read(path, LIMIT)?).map_err(io::Error::other)
}

/// Returns the size and the digest of what can be read from `file`.
///
/// # Errors
/// A file that cannot be read.
pub fn stamp(file: &mut impl Read) -> io::Result<Stamp> {
    let mut sha256 = sha2::Sha256::new();
    let size = stream(file, |bytes| sha256.update(bytes))?;
    let sha256 = <[u8; 32]>::from(sha256.finalize()).into();
    Ok(Stamp { sha256, size })
}

/// Returns the size and both digests of what can be read from `file`, which is read once.
///
/// # Errors
/// A file that cannot be read.
pub fn stamp_and_sha512(file: &mut impl Read) -> io::Result<(Stamp, Sha512)> {
    let (mut sha256, mut sha512) = (sha2::Sha256::new(), sha2::Sha512::new());
    let size = stream(file, |bytes| {
        sha256.update(bytes);
        sha512.update(bytes);
    })?;
    let sha256 = <[u8; 32]>::from(sha256.finalize()).into();
    Ok((Stamp { sha256, size }, <[u8; 64]>::from(sha512.finalize()).into()))
}

/// Returns the size in bytes and the digests of what can be read from `file`, which is read once.
///
/// # Errors
/// A file that cannot be read.
pub fn hash(file: &mut impl Read) -> io::Result<(u64, Digests)> {
    let (mut sha256, mut sha384) = (sha2::Sha256::new(), sha2::Sha384::new());
    let size = stream(file, |bytes| {
        sha256.update(bytes);
        sha384.update(bytes);
    })?;
    let digests = Digests {
        sha256: Some(<[u8; 32]>::from(sha256.finalize()).into()),
        sha384: Some(<[u8; 48]>::from(sha384.finalize()).into()),
    };
    Ok((size, digests))
}

/// Returns the SHA-512 of what can be read from `file`.
///
/// # Errors
/// A file that cannot be read.
pub fn sha512(file: &mut impl Read) -> io::Result<Sha512> {
    let mut sha512 = sha2::Sha512::new();
    stream(file, |bytes| sha512.update(bytes))?;
    Ok(<[u8; 64]>::from(sha512.finalize()).into())
}

/// Hands everything that can be read from `file` to `sink`, piece by piece, and returns how many bytes it was.
fn stream(file: &mut impl Read, mut sink: impl FnMut(&[u8])) -> io::Result<u64> {
    let (mut size, mut buffer) = (0, vec![0; PIECE]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(count) => {
                sink(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Applies `f` to every item on all cores; the results come in the order of the items.
pub fn for_each<T: Sync, R: Send>(items: &[T], f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    parallel::map(items, f)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use measure::Sha256;

    use super::*;

    #[test]
    fn a_file_larger_than_the_buffer_has_the_digests_of_its_bytes() {
        let bytes = vec![7; (1 << 18) + 3];
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        let open = || open(file.path()).unwrap();
        assert_eq!(hash(&mut open()).unwrap(), (bytes.len() as u64, Digests::of(&bytes)));
        let sha256 = Sha256::of(&bytes);
        let size = bytes.len() as u64;
        let wanted = Stamp { sha256, size };
        assert_eq!(stamp(&mut open()).unwrap(), wanted);
        let sha512 = Sha512::of(&bytes);
        assert_eq!(stamp_and_sha512(&mut open()).unwrap(), (wanted, sha512));
        assert_eq!(super::sha512(&mut open()).unwrap(), sha512);
    }

    #[test]
    fn attack_a_document_that_is_a_link_or_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let (document, link) = (folder.path().join("document"), folder.path().join("link"));
        fs::write(&document, "text").unwrap();
        std::os::unix::fs::symlink(&document, &link).unwrap();
        assert_eq!(text(&document).unwrap(), "text");
        assert!(text(&link).is_err());
        assert!(text(Path::new("/dev/zero")).is_err());
    }
}
