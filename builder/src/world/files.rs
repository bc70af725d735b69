//! The files of a folder: what is there, how large it is and what its digest is. Nothing follows a symbolic link.

use std::fmt;
use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use measure::Sha512;
use measure::event_log::Digests;
use measure::{ReadAt, Unreadable};
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

/// A file that is read from any offset, by several threads at once.
pub struct Opened {
    file: File,
    size: u64,
}

/// Opens a file as [`open`] does, to read from any offset.
///
/// # Errors
/// A file that cannot be opened, or that is none.
pub fn open_at(path: &Path) -> io::Result<Opened> {
    let file = open(path)?;
    let size = file.metadata()?.len();
    Ok(Opened { file, size })
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
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("it has more than {limit} bytes"))),
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
pub fn stamp(file: &mut File) -> io::Result<Stamp> {
    let mut sha256 = sha2::Sha256::new();
    let size = stream(file, |bytes| sha256.update(bytes))?;
    let sha256 = <[u8; 32]>::from(sha256.finalize()).into();
    Ok(Stamp { sha256, size })
}

/// Returns the size and both digests of what can be read from `file`, which is read once.
///
/// # Errors
/// A file that cannot be read.
pub fn stamp_and_sha512(file: &mut File) -> io::Result<(Stamp, Sha512)> {
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
pub fn hash(file: &mut File) -> io::Result<(u64, Digests)> {
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
pub fn sha512(file: &mut impl io::Read) -> io::Result<Sha512> {
    let mut sha512 = sha2::Sha512::new();
    stream(file, |bytes| sha512.update(bytes))?;
    Ok(<[u8; 64]>::from(sha512.finalize()).into())
}

/// Hands everything that can be read from `file` to `sink`, piece by piece, and returns how many bytes it was.
fn stream(file: &mut impl io::Read, mut sink: impl FnMut(&[u8])) -> io::Result<u64> {
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
