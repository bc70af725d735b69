//! Folders that nobody else can change: what lies in them is as it was left.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::Uid;

/// Writable for the group, or for all others.
const BY_OTHERS: u32 = 0o022;

/// A folder in which nobody can rename or remove what is another's: /tmp.
const STICKY: u32 = 0o1000;

/// Returns whether this user, and root, are the only ones who can change what lies in the folder or put another one in
/// its place: they own it, and every folder above it. Access lists are asked, too: they show in the mode of the group.
///
/// # Errors
/// A folder that is not there, or that cannot be looked at.
pub fn is_ours_alone(folder: &Path) -> io::Result<bool> {
    let folder = fs::canonicalize(folder)?;
    let all = folder.ancestors().map(fs::metadata).collect::<io::Result<Vec<_>>>()?;
    let (itself, above) = all.split_first().expect("a path is an ancestor of itself");
    Ok(is_ours(itself) && itself.mode() & BY_OTHERS == 0 && above.iter().all(is_kept))
}

/// Returns whether the file or folder belongs to this user.
pub fn is_ours(metadata: &Metadata) -> bool {
    metadata.uid() == Uid::effective().as_raw()
}

fn is_kept(above: &Metadata) -> bool {
    let owner = is_ours(above) || above.uid() == 0;
    owner && (above.mode() & BY_OTHERS == 0 || above.mode() & STICKY != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn a_folder_that_others_can_write_or_replace_is_not_ours_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for (above, itself, ours) in [
            (0o755, 0o755, true),
            (0o1777, 0o700, true),
            (0o777, 0o755, false),
            (0o775, 0o755, false),
            (0o755, 0o775, false),
            (0o755, 0o757, false),
            (0o755, 0o1777, false),
        ] {
            mode(parent.path(), above);
            mode(&folder, itself);
            assert_eq!(is_ours_alone(&folder).unwrap(), ours, "{above:o} {itself:o}");
        }
        mode(parent.path(), 0o755);
        mode(&folder, 0o755);
        if !Uid::effective().is_root() {
            return;
        }
        for path in [&folder, parent.path()] {
            chown(path, Some(1234), None).unwrap();
            assert!(!is_ours_alone(&folder).unwrap(), "{}", path.display());
            chown(path, Some(0), None).unwrap();
        }
    }
}
