//! Files in, a tar archive out: the same whoever packs it, wherever and whenever.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::Sha256;
use tar::{Builder, EntryType, Header};

use crate::world::tidy;

/// A member of an archive: with the modes that git knows, and no owner.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Member {
    Directory,
    File { content: Vec<u8>, executable: bool },
    Symlink { target: PathBuf },
}

/// Members by path.
pub type Members = BTreeMap<PathBuf, Member>;

impl Member {
    /// Reads what is at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(if metadata.is_dir() {
            Self::Directory
        } else if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            Self::Symlink { target }
        } else {
            let (content, executable) = (fs::read(path)?, tidy::is_executable(&metadata));
            Self::File { content, executable }
        })
    }

    /// Returns the digest of its content: of a link, its target; a folder has none.
    pub fn sha256(&self) -> Option<Sha256> {
        match self {
            Self::Directory => None,
            Self::File { content, .. } => Some(Sha256::of(content)),
            Self::Symlink { target } => Some(Sha256::of(target.as_os_str().as_encoded_bytes())),
        }
    }
}

/// Returns the archive of these members; all have the same `time`, in seconds since 1970.
///
/// # Errors
/// A time before 1970.
pub fn write(members: &Members, time: i64) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, member) in members {
        let header = &mut Header::new_gnu();
        header.set_mtime(time.try_into().context("the epoch is before 1970")?);
        header.set_size(0);
        match member {
            Member::Directory => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                archive.append_data(header, path, &[][..])?;
            }
            Member::File { content, executable } => {
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(content.len() as u64);
                archive.append_data(header, path, content.as_slice())?;
            }
            Member::Symlink { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                archive.append_link(header, path, target)?;
            }
        }
    }
    archive.into_inner().context("cannot end the archive")
}
