//! Tar archives into a folder, and never beside it.
//!
//! The kernel resolves every path below the folder (`RESOLVE_BENEATH`): a link that leaves it, whoever made it, is an
//! error at the first member that would use it. Links are made as they are and never followed out.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use crate::mend::{Exit, OrMend as _};

/// More members than any package has.
const MEMBERS: usize = 1 << 20;

/// Unpacks an archive into a folder.
///
/// Owners, times, and set-user-id, set-group-id and sticky bits are dropped; folders get mode 0755. A folder may be
/// there already; another member may not, but for a link with the same target.
///
/// # Errors
/// A damaged archive; a member that is a device, leaves the folder or is there already: `Exit::Usage`, because its
/// digest is right and what was locked cannot be used; a folder that cannot be written.
pub fn unpack<R: Read>(archive: &mut Archive<R>, folder: &Path) -> Result<()> {
    let mut target = Target::open(folder)?;
    for (count, entry) in archive.entries().context("the archive is damaged")?.enumerate() {
        if count == MEMBERS {
            return Err(hostile("it has more than a million members"));
        }
        let mut entry = entry.context("the archive is damaged")?;
        let name = entry.path().context("the archive is damaged")?.into_owned();
        let member = target.unpack(&mut entry, &name);
        member.with_context(|| format!("cannot unpack its member {}", name.display()))?;
    }
    Ok(())
}

/// The folder that is unpacked into.
pub(super) struct Target {
    root: OwnedFd,
    /// The folder of the member before: the next one is probably there too.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Target {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(folder, flags, Mode::empty());
        let problem = format!("cannot open {}", folder.display());
        let root = root.or_mend(Exit::Outside, problem, "make it accessible")?;
        Ok(Self { root, last: None })
    }

    fn unpack<R: Read>(&mut self, entry: &mut Entry<'_, R>, name: &Path) -> Result<()> {
        let path = below(name)?;
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Ok(()); // the folder itself
        };
        match entry.header().entry_type() {
            EntryType::Directory => self.folder(&path).map(drop),
            EntryType::Regular | EntryType::Continuous => {
                let mode = entry.header().mode()?;
                write(self.parent(parent)?, name, mode, entry)
            }
            EntryType::Symlink => symlink(&link_target(entry)?, self.parent(parent)?, name),
            EntryType::Link => {
                let source = below(&link_target(entry)?)?;
                let from = self.folder(source.parent().unwrap_or(Path::new("")))?;
                let source = source
                    .file_name()
                    .ok_or_else(|| hostile("it is a hard link to a folder"))?;
                let linked = rustix::fs::linkat(from, source, self.parent(parent)?, name, AtFlags::empty());
                linked.map_err(refused)
            }
            EntryType::XGlobalHeader => Ok(()),
            kind => Err(hostile(format!(
                "it is a {kind:?}, and packages hold files, folders and links"
            ))),
        }
    }

    fn parent(&mut self, path: &Path) -> Result<&OwnedFd> {
        if self.last.as_ref().is_none_or(|(last, _)| last != path) {
            self.last = Some((path.to_owned(), self.folder(path)?));
        }
        let (_, folder) = self.last.as_ref().expect("it was just set");
        Ok(folder)
    }

    /// Opens a folder below the root; makes it, and those above it, where there is none.
    pub(super) fn folder(&self, path: &Path) -> Result<OwnedFd> {
        match self.find(path) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(refused),
        }
        let (above, name) = path
            .parent()
            .zip(path.file_name())
            .ok_or_else(|| refused(Errno::NOENT))?;
        match rustix::fs::mkdirat(self.folder(above)?, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {} // somebody else unpacks into the same folder
            Err(error) => return Err(refused(error)),
        }
        let folder = self.find(path).map_err(refused)?;
        // The umask is no input. An O_PATH descriptor cannot be changed itself, so it is opened again.
        let readable = rustix::fs::openat(&folder, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        rustix::fs::fchmod(readable.map_err(refused)?, Mode::from_raw_mode(0o755)).map_err(refused)?;
        Ok(folder)
    }

    fn find(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path == "" { Path::new(".") } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            let opened = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::BENEATH);
            if !matches!(opened, Err(Errno::AGAIN | Errno::INTR)) {
                return opened; // AGAIN: something was renamed meanwhile, and the kernel is not sure
            }
        }
    }
}

fn write(parent: &OwnedFd, name: &OsStr, mode: u32, content: &mut impl Read) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600)).map_err(refused)?;
    let mut file = File::from(file);
    io::copy(content, &mut file).or_mend(Exit::Outside, "its bytes cannot be copied", "make room in the store")?;
    let mode = Permissions::from_mode(mode & 0o777 | 0o400);
    Ok(file.set_permissions(mode)?)
}

fn symlink(target: &Path, parent: &OwnedFd, name: &OsStr) -> Result<()> {
    match rustix::fs::symlinkat(target, parent, name) {
        Err(Errno::EXIST) => match rustix::fs::readlinkat(parent, name, Vec::new()) {
            Ok(found) if found.as_bytes() == target.as_os_str().as_bytes() => Ok(()),
            _ => Err(refused(Errno::EXIST)),
        },
        made => made.map_err(refused),
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>) -> Result<PathBuf> {
    let target = entry.link_name()?.ok_or_else(|| hostile("it is a link to nothing"))?;
    Ok(target.into_owned())
}

/// The path of a member below the folder: `./a/b` is `a/b`.
fn below(name: &Path) -> Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => return Err(hostile(format!("the path {} has a `..`", name.display()))),
            Component::Prefix(_) | Component::RootDir => {
                return Err(hostile(format!("the path {} is absolute", name.display())));
            }
        }
    }
    Ok(path)
}

fn refused(error: Errno) -> Error {
    match error {
        Errno::XDEV => hostile("a link in its path leaves the folder"),
        Errno::LOOP => hostile("the links in its path go round in a circle"),
        Errno::NOTDIR => hostile("a part of its path is no folder"),
        Errno::EXIST => hostile("something else has its path already"),
        Errno::NOSYS => Exit::Unsupported.because("this kernel has no openat2", "Linux 5.6 or newer"),
        error => {
            let cause: Result<(), Errno> = Err(error);
            let outcome = cause.or_mend(
                Exit::Outside,
                "the file system refuses it",
                "make room, or make it writable",
            );
            outcome.expect_err("it is an error")
        }
    }
}

fn hostile(problem: impl std::fmt::Display) -> Error {
    Exit::Usage.because(
        problem,
        "its digest is the locked one, so it was made like that: leave the package out",
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::mend;

    /// Members: name, kind, link target or content. Written by hand, because `tar::Builder` refuses bad names.
    fn archive(members: &[(&str, EntryType, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, kind, text) in members {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_mode(0o6755);
            header.set_entry_type(*kind);
            let content = if *kind == EntryType::Regular {
                text.as_bytes()
            } else {
                b""
            };
            header.set_size(content.len() as u64);
            if content.is_empty() {
                header.as_mut_bytes()[157..157 + text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            bytes.extend(header.as_bytes());
            bytes.extend(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn unpacked(members: &[(&str, EntryType, &str)]) -> (tempfile::TempDir, Result<()>) {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        fs::create_dir(&inside).unwrap();
        let outcome = unpack(&mut Archive::new(&archive(members)[..]), &inside);
        (folder, outcome)
    }

    fn refusal(members: &[(&str, EntryType, &str)], reason: &str) {
        let (folder, outcome) = unpacked(members);
        let error = outcome.expect_err(reason);
        let report = mend::report(&error);
        assert!(report.contains(reason), "{report}");
        assert_eq!(mend::exit_code(&error), Exit::Usage, "{report}");
        let beside: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(beside, ["inside"]);
    }

    #[test]
    fn a_member_with_dot_dot_is_refused() {
        refusal(&[("../evil", EntryType::Regular, "x")], "has a `..`");
        refusal(&[("./a/../../evil", EntryType::Regular, "x")], "has a `..`");
        refusal(&[("a/../../evil/", EntryType::Directory, "")], "has a `..`");
    }

    #[test]
    fn an_absolute_member_is_refused() {
        refusal(&[("/evil", EntryType::Regular, "x")], "is absolute");
    }

    #[test]
    fn devices_and_pipes_are_refused() {
        for kind in [EntryType::Block, EntryType::Char, EntryType::Fifo] {
            refusal(&[("./dev", kind, "")], "packages hold files");
        }
    }

    #[test]
    fn a_link_that_leaves_the_folder_is_not_followed() {
        for target in ["..", "/", "../../", "/tmp", "a/../.."] {
            let link = ("./link", EntryType::Symlink, target);
            let a = ("./a/", EntryType::Directory, "");
            refusal(
                &[a, link, ("./link/evil", EntryType::Regular, "x")],
                "leaves the folder",
            );
            refusal(
                &[a, link, ("./link/evil/", EntryType::Directory, "")],
                "leaves the folder",
            );
            refusal(
                &[a, link, ("./hard", EntryType::Link, "link/inside")],
                "leaves the folder",
            );
        }
    }

    #[test]
    fn a_file_is_not_written_through_a_link() {
        let link = ("./link", EntryType::Symlink, "../evil");
        refusal(
            &[link, ("./link", EntryType::Regular, "x")],
            "something else has its path",
        );
    }

    #[test]
    fn a_hard_link_outside_is_refused() {
        refusal(&[("./hard", EntryType::Link, "../evil")], "has a `..`");
        refusal(&[("./hard", EntryType::Link, "/etc/passwd")], "is absolute");
    }

    #[test]
    fn links_in_a_circle_are_refused() {
        let links = [("a", EntryType::Symlink, "b"), ("b", EntryType::Symlink, "a")];
        refusal(&[links[0], links[1], ("a/x", EntryType::Regular, "x")], "in a circle");
    }

    #[test]
    fn links_inside_the_folder_are_followed_and_modes_are_plain() {
        let (folder, outcome) = unpacked(&[
            ("./", EntryType::Directory, ""),
            ("./usr/lib/", EntryType::Directory, ""),
            ("./lib", EntryType::Symlink, "usr/lib"),
            ("./lib/file", EntryType::Regular, "x"),
            ("./lib", EntryType::Symlink, "usr/lib"),
            ("./etc/out", EntryType::Symlink, "/etc/passwd"),
            ("./hard", EntryType::Link, "./usr/lib/file"),
        ]);
        outcome.unwrap();
        let inside = folder.path().join("inside");
        assert_eq!(fs::read(inside.join("usr/lib/file")).unwrap(), b"x");
        assert_eq!(fs::read(inside.join("hard")).unwrap(), b"x");
        assert_eq!(
            fs::metadata(inside.join("hard")).unwrap().permissions().mode(),
            0o100_755
        );
        assert_eq!(fs::read_link(inside.join("etc/out")).unwrap(), Path::new("/etc/passwd"));
    }
}
