//! One tree into another: what is new is moved to its place, and nothing is followed out of the tree.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::tidy;
use super::unpack::Target;
use crate::mend::Exit;

/// Moves everything in the folder `from` to the same paths below `tree`, on the same file system. Folders that `tree`
/// has stay as they are; those it lacks are made with mode 0755.
///
/// # Errors
/// A path that something else has, unless `replace`, and then a folder in the place of a file or a file in that of a
/// folder; a link on the way that leaves `tree`.
pub fn graft(from: &Path, tree: &Path, replace: bool) -> Result<()> {
    let target = Target::open(tree)?;
    for path in tidy::walk(from)? {
        let source = from.join(&path);
        let metadata = fs::symlink_metadata(&source)?;
        let moved = if metadata.is_dir() {
            target.folder(&path).map(drop)
        } else {
            one(&target, &source, &path, replace)
        };
        moved.with_context(|| format!("cannot put /{} there", path.display()))?;
    }
    Ok(())
}

fn one(target: &Target, source: &Path, path: &Path, replace: bool) -> Result<()> {
    let folder = target.folder(path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().context("it has no name")?;
    let flags = if replace {
        RenameFlags::empty()
    } else {
        RenameFlags::NOREPLACE
    };
    match rustix::fs::renameat_with(CWD, source, &folder, name, flags) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(Exit::Usage.because(
            "something else is there",
            "choose another target, or say `replace = true`",
        )),
        Err(Errno::ISDIR) => Err(Exit::Usage.because("a folder is there", "choose another target")),
        Err(error) => Err(error).context("cannot move it"),
    }
}
