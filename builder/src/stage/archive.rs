//! Files in, a tar archive out: the same whoever packs it, wherever and whenever.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use measure::Sha256;
use tar::{Archive, Builder, Entry, EntryType, Header};

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

    /// Returns how many bytes its content has: of a link, its target.
    pub fn size(&self) -> u64 {
        let size = match self {
            Self::Directory => 0,
            Self::File { content, .. } => content.len(),
            Self::Symlink { target } => target.as_os_str().len(),
        };
        size as u64
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

/// Reads an archive that [`write()`] has written, and no other: the same members at another time are another archive.
///
/// # Errors
/// Bytes that are no archive; a member that is no file, folder or link, is there twice, or leaves the folder.
pub fn read(bytes: &[u8]) -> Result<Members> {
    let mut members = Members::new();
    for entry in Archive::new(bytes).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let named = || path.display().to_string();
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(plain, "its member {} leaves the folder", named());
        let member = member(&mut entry).with_context(named)?;
        ensure!(
            members.insert(path.clone(), member).is_none(),
            "it has {} twice",
            named()
        );
    }
    Ok(members)
}

fn member(entry: &mut Entry<'_, &[u8]>) -> Result<Member> {
    match entry.header().entry_type() {
        EntryType::Directory => Ok(Member::Directory),
        EntryType::Regular => {
            let executable = entry.header().mode()? & 0o100 != 0;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            Ok(Member::File { content, executable })
        }
        EntryType::Symlink => {
            let target = entry.link_name()?.context("it leads nowhere")?.into_owned();
            Ok(Member::Symlink { target })
        }
        kind => bail!("it is a {kind:?}"),
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
