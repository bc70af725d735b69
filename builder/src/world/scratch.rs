//! Folders that vanish: with whoever made them, or, where that one was killed, when the next one comes.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

/// A folder to build something in, ours alone as long as this value lives; dropped, it is gone.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    /// Held while the folder is ours: what is not locked was left by a run that was killed.
    _lock: File,
}

impl Scratch {
    /// Makes a folder in `parent` whose name begins with `prefix`, and removes those that killed runs have left. The
    /// `parent` is no scratch folder itself: it is locked meanwhile, and that one is locked for good.
    ///
    /// # Errors
    /// A parent folder that cannot be written.
    pub fn new(parent: &Path, prefix: &str) -> io::Result<Self> {
        let alone = File::open(parent)?;
        alone.lock()?; // no other run looks for leftovers between our folder and its lock
        remove_leftovers(parent, prefix)?;
        let folder = tempfile::Builder::new()
            .prefix(prefix)
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(parent)?;
        let lock = File::open(folder.path())?;
        lock.lock()?;
        Ok(Self { folder, _lock: lock })
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn remove_leftovers(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(prefix) && entry.file_type()?.is_dir();
        if ours && File::open(entry.path())?.try_lock().is_ok() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
