//! Files that somebody names on the command line, whatever they are: links and pipes are followed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::Result;
use measure::event_log::Digests;
use tempfile::NamedTempFile;

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

/// Writes a file, which may exist.
///
/// # Errors
/// A file that cannot be written.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).or_mend(Exit::Outside, format!("cannot write {}", path.display()), MEND)
}

/// Writes a file anew: whoever reads it sees the old bytes or the new ones, nothing in between.
///
/// # Errors
/// A file that cannot be written beside the old one, or take its place.
pub fn replace(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let replaced = NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).and_then(|mut file| {
        file.write_all(bytes.as_ref())?;
        file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(io::Error::from)
    });
    replaced.or_mend(Exit::Outside, format!("cannot write {}", path.display()), MEND)
}

fn open(path: &Path) -> Result<File> {
    let problem = format!("cannot open {}", path.display());
    File::open(path).or_mend(Exit::Outside, problem, MEND)
}

fn or_mend<T>(path: &Path, result: io::Result<T>) -> Result<T> {
    result.or_mend(Exit::Outside, format!("cannot read {}", path.display()), MEND)
}

const MEND: &str = "check the path and its permissions";
