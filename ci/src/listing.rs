//! What is in a file tree, so that two can be compared: of a folder, or of an initrd.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use measure::Sha256;

/// The paths of a tree, in order.
pub(crate) type Listing = BTreeMap<String, Entry>;

/// What is known of a path.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// Type and permissions, as stat(2) has them.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Seconds since 1970.
    pub(crate) time: i64,
    /// Of the bytes of a file, or of the target of a link.
    pub(crate) content: Sha256,
}

/// The bytes of a cpio header in the format "newc": a magic and 13 numbers of eight hexadecimal digits.
const HEADER: usize = 110;

impl Entry {
    /// Says what differs; nothing if it is all the same.
    pub(crate) fn differs(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.content != other.content {
            found.push("content".to_owned());
        }
        if self.mode != other.mode {
            found.push(format!("mode {:o} and {:o}", self.mode, other.mode));
        }
        if self.owner != other.owner {
            found.push(format!("owner {:?} and {:?}", self.owner, other.owner));
        }
        if self.time != other.time {
            found.push(format!("time {} and {}", self.time, other.time));
        }
        found
    }
}

/// Lists what is below a folder.
pub(crate) fn of_folder(folder: &Path) -> Result<Listing> {
    let mut listing = Listing::new();
    let mut ahead = vec![folder.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            listing.insert(name, of_path(&path)?);
            if path.is_dir() && !path.is_symlink() {
                ahead.push(path);
            }
        }
    }
    Ok(listing)
}

fn of_path(path: &Path) -> Result<Entry> {
    let about = fs::symlink_metadata(path)?;
    let content = match about.file_type() {
        kind if kind.is_file() => fs::read(path)?,
        kind if kind.is_symlink() => fs::read_link(path)?.into_os_string().into_encoded_bytes(),
        _ => Vec::new(),
    };
    Ok(Entry {
        mode: about.mode(),
        owner: (about.uid(), about.gid()),
        time: about.mtime(),
        content: Sha256::of(content),
    })
}

/// Lists what is in a cpio archive: cpio(5), "New ASCII Format".
pub(crate) fn of_archive(mut archive: &[u8]) -> Result<Listing> {
    let mut listing = Listing::new();
    while !archive.is_empty() {
        let header = archive.get(..HEADER).context("the archive is cut short")?;
        let [mode, uid, gid, time, size, name_size] = [1, 2, 3, 5, 6, 11].map(|field| number(header, field));
        let (size, name_size) = (size? as usize, name_size? as usize);
        let start = (HEADER + name_size).next_multiple_of(4);
        let parts = (
            archive.get(HEADER..HEADER + name_size),
            archive.get(start..start + size),
        );
        let (Some(name), Some(content)) = parts else {
            bail!("the archive is cut short")
        };
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        if name == "TRAILER!!!" {
            break;
        }
        let entry = Entry {
            mode: mode?,
            owner: (uid?, gid?),
            time: time?.into(),
            content: Sha256::of(content),
        };
        listing.insert(name, entry);
        archive = archive.get((start + size).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(listing)
}

fn number(header: &[u8], field: usize) -> Result<u32> {
    let digits = std::str::from_utf8(&header[6 + 8 * field..][..8])?;
    u32::from_str_radix(digits, 16).context("a header of the archive has no number where one belongs")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a file, without its times; then its name and its bytes.
    fn member(name: &str, mode: u32, content: &str) -> Vec<u8> {
        let (size, name_size) = (content.len(), name.len() + 1);
        let numbers = [1, mode, 7, 8, 1, 9, size as u32, 0, 0, 0, 0, name_size as u32, 0];
        let numbers = numbers.map(|number| format!("{number:08x}")).concat();
        let mut bytes = format!("070701{numbers}{name}\0").into_bytes();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive(mode: u32, content: &str) -> Listing {
        let members = [
            member("etc/first", 0o100_644, "same"),
            member("etc/second", mode, content),
            member("TRAILER!!!", 0, ""),
        ];
        of_archive(&members.concat()).unwrap()
    }

    #[test]
    fn an_archive_is_listed_with_mode_owner_time_and_content() {
        let listing = archive(0o100_755, "bytes");
        let second = Entry {
            mode: 0o100_755,
            owner: (7, 8),
            time: 9,
            content: Sha256::of("bytes"),
        };
        assert_eq!(listing.keys().collect::<Vec<_>>(), ["etc/first", "etc/second"]);
        assert_eq!(listing["etc/second"], second);
    }

    #[test]
    fn a_difference_is_named() {
        let (one, other) = (archive(0o100_755, "bytes"), archive(0o100_600, "other"));
        assert!(one["etc/first"].differs(&other["etc/first"]).is_empty());
        let found = one["etc/second"].differs(&other["etc/second"]);
        assert_eq!(found, ["content", "mode 100755 and 100600"]);
    }

    #[test]
    fn a_cut_archive_is_refused() {
        let whole = member("etc/first", 0o100_644, "same");
        assert!(of_archive(&whole[..whole.len() - 4]).is_err());
    }
}
