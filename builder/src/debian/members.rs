//! What a package consists of: the members of its two archives, by digest. The package's own digest is in signed
//! metadata, so that what is said here of a file is said by whoever signed that; dpkg's `md5sums` say nothing.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use measure::{Sha256, Sha512};
use serde::{Deserialize, Serialize};
use tar::{Entry, EntryType};

use super::deb::{self, Part};
use crate::model::contents::{Kind, escape, unescape};

/// What a copyright file may have at most, in bytes; that of a browser has some 600 KiB.
const COPYRIGHT_LIMIT: u64 = 16 << 20;

/// How much of a member is read at once, in bytes.
const PIECE: usize = 1 << 18;

/// Members of a control archive whose text is kept.
const SCRIPTS: [&str; 5] = ["conffiles", "config", "postinst", "preinst", "triggers"];

/// Folders that are links into /usr on a merged system: packages may still name them.
const MERGED: [&str; 7] = ["bin", "lib", "lib32", "lib64", "libo32", "libx32", "sbin"];

/// What a package consists of.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Members {
    /// The digest of the package that is not in signed metadata, and which others ask for.
    pub sha512: Sha512,
    /// The text of its control file.
    pub control_file: String,
    /// What is installed, by absolute path below the merged /usr.
    pub data: BTreeMap<String, Member>,
    /// The digests of what dpkg keeps about the package, by name: `conffiles`, `postinst`, …
    pub control: BTreeMap<String, Sha256>,
    /// Those of them that say what is made when the package is installed.
    #[serde(with = "texts")]
    pub scripts: BTreeMap<String, Vec<u8>>,
    /// The digest of what dpkg writes into its list of the package's paths, in their order.
    pub list: Sha256,
    /// The MD5 of what is below /etc, in hexadecimal: dpkg and ucf know what was changed by it.
    pub md5: BTreeMap<String, String>,
    /// `/usr/share/doc/NAME/copyright`, by NAME: Debian Policy 12.5. Another package's where the folder is a link.
    #[serde(with = "texts")]
    pub copyright: BTreeMap<String, Vec<u8>>,
}

/// A path of a package.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Member {
    pub kind: Kind,
    /// Permissions, 12 bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
}

impl Members {
    /// Reads a package.
    ///
    /// # Errors
    /// Bytes that are no package.
    pub fn read(deb: &[u8]) -> Result<Self> {
        Self::read_from(Cursor::new(deb), Sha512::of(deb))
    }

    /// Reads a package, of which another form may have this digest.
    ///
    /// # Errors
    /// Bytes that are no package.
    pub fn read_from(mut deb: impl Read + Seek, sha512: Sha512) -> Result<Self> {
        let mut members = Self {
            sha512,
            control_file: String::new(),
            data: BTreeMap::new(),
            control: BTreeMap::new(),
            scripts: BTreeMap::new(),
            list: Sha256::ZERO,
            md5: BTreeMap::new(),
            copyright: BTreeMap::new(),
        };
        for entry in deb::part(&mut deb, Part::Control)?.entries()? {
            members.add_control(entry?)?;
        }
        if !members.control.contains_key("control") {
            return Err(deb::damaged("it has no control file"));
        }
        deb.rewind()?;
        let mut list = String::new();
        for entry in deb::part(&mut deb, Part::Data)?.entries()? {
            let entry = entry?;
            list.push_str(&listed(&entry.path_bytes()));
            members.add_data(entry)?;
        }
        members.list = Sha256::of(list);
        Ok(members)
    }

    /// Returns the name under which another package keeps the copyright file of `name`: `/usr/share/doc/NAME` may be a link
    /// to its folder.
    pub fn documented_as(&self, name: &str) -> Option<&str> {
        match &self.data.get(&format!("/usr/share/doc/{name}"))?.kind {
            Kind::Symlink { target } => target.rsplit('/').next(),
            _ => None,
        }
    }

    fn add_control(&mut self, mut entry: Entry<'_, impl Read>) -> Result<()> {
        if !entry.header().entry_type().is_file() {
            return Ok(());
        }
        let name = path(&entry.path_bytes()).trim_start_matches('/').to_owned();
        let mut bytes = Vec::new();
        let (_, sha256) = stamp(&mut entry, Some(&mut bytes))?;
        if name == "control" {
            self.control_file = String::from_utf8(bytes).context("its control file is not text")?;
        } else if SCRIPTS.contains(&name.as_str()) {
            self.scripts.insert(name.clone(), bytes);
        }
        self.control.insert(name, sha256);
        Ok(())
    }

    fn add_data(&mut self, mut entry: Entry<'_, impl Read>) -> Result<()> {
        let path = path(&entry.path_bytes());
        let target = entry.link_name_bytes().unwrap_or_default().into_owned();
        let kind = match entry.header().entry_type() {
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink {
                target: escape(&target),
            },
            EntryType::Link => return self.add_link(path, &target),
            EntryType::Regular | EntryType::Continuous => {
                let (size, sha256) = self.file(&path, &mut entry)?;
                let same_as = None;
                Kind::File { size, sha256, same_as }
            }
            other => anyhow::bail!("its member {path} is {other:?}, which packages do not have"),
        };
        let header = entry.header();
        let member = Member {
            kind,
            mode: u16::try_from(header.mode()? & 0o7777).expect("twelve bits fit"),
            uid: u32::try_from(header.uid()?).context("a user id has 32 bits")?,
            gid: u32::try_from(header.gid()?).context("a group id has 32 bits")?,
        };
        self.data.insert(path, member);
        Ok(())
    }

    /// A hard link to a member before it.
    fn add_link(&mut self, link: String, target: &[u8]) -> Result<()> {
        let target = path(target);
        let member = self.data.get(&target).cloned();
        let member =
            member.with_context(|| format!("its member {link} is a link to {target}, which is not before it"))?;
        self.data.insert(link, member);
        Ok(())
    }

    /// The size and digest of a file; a copyright file is kept.
    fn file(&mut self, path: &str, entry: &mut Entry<'_, impl Read>) -> Result<(u64, Sha256)> {
        if path.starts_with("/etc/") && entry.size() <= COPYRIGHT_LIMIT {
            let mut bytes = Vec::new();
            let stamped = stamp(entry, Some(&mut bytes))?;
            self.md5.insert(path.into(), md5(&bytes));
            return Ok(stamped);
        }
        let name = path
            .strip_prefix("/usr/share/doc/")
            .and_then(|path| path.strip_suffix("/copyright"));
        let Some(name) = name.filter(|name| !name.contains('/') && entry.size() <= COPYRIGHT_LIMIT) else {
            return stamp(entry, None);
        };
        let mut text = Vec::new();
        let stamped = stamp(entry, Some(&mut text))?;
        self.copyright.insert(name.into(), text);
        Ok(stamped)
    }
}

/// Reads a member to its end.
fn stamp(entry: &mut Entry<'_, impl Read>, mut kept: Option<&mut Vec<u8>>) -> Result<(u64, Sha256)> {
    use sha2::Digest as _;
    let length = usize::try_from(entry.size()).unwrap_or(PIECE).clamp(1, PIECE); // most are small
    let (mut hasher, mut size, mut buffer) = (sha2::Sha256::new(), 0, vec![0; length]);
    loop {
        let count = entry.read(&mut buffer)?;
        if count == 0 {
            return Ok((size, <[u8; 32]>::from(hasher.finalize()).into()));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&buffer[..count]);
        }
    }
}

/// Returns the MD5 of some bytes in hexadecimal.
pub fn md5(bytes: &[u8]) -> String {
    use md5::Digest as _;
    HEXLOWER.encode(&md5::Md5::digest(bytes))
}

/// The line of a member `./NAME` in dpkg's list.
fn listed(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    match name.trim_end_matches('/') {
        "." | "" => "/.\n".into(),
        name => format!("/{}\n", name.trim_start_matches("./").trim_start_matches('/')),
    }
}

/// The absolute path of a member `./NAME`, below the merged /usr.
fn path(name: &[u8]) -> String {
    let name = escape(name);
    let parts = name.split('/').filter(|part| !matches!(*part, "" | "."));
    let path = parts.fold(String::new(), |path, part| path + "/" + part);
    if path.is_empty() { "/".into() } else { below_usr(&path) }
}

/// Returns where an absolute path is on a system with a merged /usr.
pub fn below_usr(path: &str) -> String {
    match path[1..].split_once('/') {
        Some((first, _)) if MERGED.contains(&first) => format!("/usr{path}"),
        _ => path.into(),
    }
}

/// Bytes that are mostly text, as text.
mod texts {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::{BTreeMap, Deserialize as _, escape, unescape};

    type Texts = BTreeMap<String, Vec<u8>>;

    pub(super) fn serialize<S: Serializer>(texts: &Texts, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(texts.iter().map(|(name, text)| (name, escape(text))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?.into_iter();
        let texts = texts.map(|(name, text)| Some((name, unescape(&text)?)));
        texts
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("a text that is not escaped"))
    }
}
