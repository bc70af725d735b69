//! Files that somebody names on the command line, whatever they are: links and pipes are followed.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use measure::event_log::Digests;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tempfile::Builder;

use super::files;
use crate::mend::{Exit, OrMend as _};
use crate::model::release::Stamp;

/// Returns the bytes of a firmware image.
///
/// # Errors
/// A file that cannot be read, or that is larger than any firmware.
pub fn firmware(path: &Path) -> Result<Vec<u8>> {
    /// In bytes.
    const LIMIT: u64 = 64 << 20;
    read(path, LIMIT, "give a firmware image, which is a few MiB in size")
}

/// Returns the bytes of a file.
///
/// # Errors
/// A file that cannot be read; one of more than `limit` bytes, for which `mend` says what to give instead.
pub fn read(path: &Path, limit: u64, mend: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    or_mend(path, open(path)?.take(limit + 1).read_to_end(&mut bytes))?;
    if bytes.len() as u64 > limit {
        let problem = format!("{} is larger than {limit} bytes", path.display());
        return Err(Exit::Usage.because(problem, mend));
    }
    Ok(bytes)
}

/// Returns the size and the SHA-256 of a file of any size.
///
/// # Errors
/// A file that cannot be read.
pub fn stamp(path: &Path) -> Result<Stamp> {
    or_mend(path, files::stamp(&mut open(path)?))
}

/// Returns the size of a file of any size, in bytes, and its digests; reads it once.
///
/// # Errors
/// A file that cannot be read.
pub fn hash(path: &Path) -> Result<(u64, Digests)> {
    or_mend(path, files::hash(&mut open(path)?))
}

/// Writes a file whole or not at all: whoever reads it sees the old bytes or the new ones, nothing in between. Of a link,
/// it is the file that it leads to; what is no file, as a pipe or /dev/stdout, is written to as it is.
///
/// # Errors
/// A file that cannot be written, or whose folder cannot.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let bytes = bytes.as_ref();
    let written = match is_handle(path) || path.metadata().is_ok_and(|found| !found.is_file()) {
        true => File::options()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(bytes)),
        false => replace(&end_of_links(path), bytes),
    };
    let mend = "make room on its disk, and make its folder writable for this user";
    written.or_mend(Exit::Outside, format!("cannot write {}", path.display()), mend)
}

/// Writes a file beside its place, and gives it its name when it is whole.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let old = match File::options().write(true).open(path) {
        Ok(old) => Some(old.metadata()?.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error), // who may not write to a file may not replace it
    };
    let mut file = Builder::new()
        .permissions(Permissions::from_mode(0o644)) // and the umask
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    if let Some(old) = old {
        file.as_file().set_permissions(old)?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Whether the path is one of the kernel's names of what this process has open: /dev/stdout, /dev/fd/3.
fn is_handle(path: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    opened.err() == Some(Errno::LOOP) && path.exists()
}

/// The file that a path leads to, which need not be there yet.
fn end_of_links(path: &Path) -> PathBuf {
    /// As many links as the kernel follows.
    const MOST: usize = 40;
    let mut path = path.to_owned();
    for _ in 0..MOST {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    path
}

fn open(path: &Path) -> Result<File> {
    let problem = format!("cannot open {}", path.display());
    File::open(path).or_mend(Exit::Outside, problem, MEND)
}

fn or_mend<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.or_mend(Exit::Outside, format!("cannot read {}", path.display()), MEND)
}

const MEND: &str = "check the path and its permissions";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_written_anew_with_the_mode_that_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, "new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path) & 0o600, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write(&path, "newer").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"newer".to_vec(), 0o640));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_file_that_a_link_leads_to_is_written_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link, first) = (
            folder.path().join("file"),
            folder.path().join("link"),
            folder.path().join("first"),
        );
        symlink("file", &link).unwrap();
        symlink(&link, &first).unwrap();
        for text in ["there was none", "there was one"] {
            write(&first, text).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert!(link.is_symlink() && first.is_symlink() && !file.is_symlink());
        }
    }

    #[test]
    fn what_is_no_file_is_written_to_as_it_is() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        let file = tempfile::NamedTempFile::new().unwrap();
        let handle = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file.as_file()));
        write(Path::new(&handle), "by its handle").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "by its handle");
        assert!(is_handle(Path::new("/dev/stdout")) && !is_handle(file.path()));
    }
}
