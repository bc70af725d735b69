//! The store: files named by their SHA-256. Whoever can write to it is not trusted, so bytes are hashed at every use.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Error, Result};
use measure::Sha256;
use sha2::Digest as _;
use tempfile::{NamedTempFile, TempDir};

use super::seal::Seal;
use super::{Environment, files, own, parallel};
use crate::mend::{Exit, OrMend as _};
use crate::model::release::Stamp;

/// A folder of files named by their SHA-256. Several begat may use it at once, and several users.
///
/// What is derived from such files is kept beside them, where this user alone can change it, and has a [`Seal`]. Where
/// others can write to the folder, it is kept in one of this process instead, and goes with it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    passing: Option<Arc<TempDir>>,
    seal: Option<Seal>,
}

/// What of the store's own is in it: tool trees, and notes of what was compiled.
const OWN: [&str; 2] = ["trees", "compiled"];

impl Store {
    /// Opens the store in this folder, which is made where there is none. Nothing in it that was derived is believed, nor
    /// will be.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let mut store = Self::read_only(root);
        make(&store.root).map_err(|error| store.outside(error, "make", &store.root))?;
        for folder in ["sha256", "partial"].map(|folder| store.root.join(folder)) {
            make(&folder).map_err(|error| store.outside(error, "make", &folder))?;
        }
        if !store.keeps_its_own() {
            store.passing = Some(Arc::new(
                tempfile::tempdir().context("cannot make a folder for what is derived")?,
            ));
        }
        for folder in OWN.map(|folder| store.own().join(folder)) {
            make_hidden(&folder).map_err(|error| store.outside(error, "make", &folder))?;
        }
        Ok(store)
    }

    /// Returns the store in this folder, to read files by their digest.
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            passing: None,
            seal: None,
        }
    }

    /// Returns the store that believes what has this seal, and seals what it derives.
    #[must_use]
    pub fn sealed(self, seal: Option<Seal>) -> Self {
        Self { seal, ..self }
    }

    /// Opens the store that the command line names, or else `begat` in this user's cache folder. What is derived has the
    /// seal of this boot.
    ///
    /// # Errors
    /// As [`Store::open`], and a host without a cache folder.
    pub fn locate(named: Option<&Path>, environment: &Environment) -> Result<Self> {
        let cached = || environment.cache.as_ref().map(|cache| cache.join("begat"));
        let root = named.map(Path::to_owned).or_else(cached).ok_or_else(|| {
            let problem = "there is no folder for the store: neither XDG_CACHE_HOME nor HOME is an absolute path";
            Exit::Usage.because(problem, "name one: --store FOLDER")
        })?;
        Ok(Self::open(root)?.sealed(Seal::of_this_boot(environment)))
    }

    /// Whether nobody else can change the folder, and what is of the store's own in it is ours.
    fn keeps_its_own(&self) -> bool {
        let ours = |folder: PathBuf| match fs::symlink_metadata(&folder) {
            Ok(metadata) => metadata.is_dir() && own::is_ours(&metadata),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        own::is_ours_alone(&self.root).unwrap_or(false) && OWN.into_iter().all(|folder| ours(self.root.join(folder)))
    }

    /// Returns the folder for what nobody else may change: that of the store, or one of this process.
    pub fn own(&self) -> &Path {
        self.passing.as_ref().map_or(&self.root, |folder| folder.path())
    }

    /// Returns whether the store keeps what is derived, and believes it later.
    pub fn keeps(&self) -> bool {
        self.passing.is_none() && self.seal.is_some()
    }

    /// Returns the seal of what is derived, where there is one.
    pub(super) fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// Returns the folder of the files that are named by their digest.
    pub fn files(&self) -> PathBuf {
        self.root.join("sha256")
    }

    /// Returns the folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where the file with this digest is, or would be. Its bytes are unchecked.
    pub fn path(&self, sha256: &Sha256) -> PathBuf {
        let name = sha256.to_string();
        self.files().join(&name[..2]).join(name)
    }

    /// Checks that a file is here, and has these bytes.
    ///
    /// # Errors
    /// A file that is not there, or whose bytes are others.
    pub fn check(&self, sha256: &Sha256, size: u64) -> Result<()> {
        self.reader(sha256, size)?.end()
    }

    /// Opens a file that is hashed as it is read: whoever reads it believes nothing before [`Reader::end`].
    ///
    /// # Errors
    /// A file that is not there, or has another size.
    pub fn reader(&self, sha256: &Sha256, size: u64) -> Result<Reader<'_>> {
        Ok(Reader {
            store: self,
            sha256: *sha256,
            file: self.open_sized(sha256, size)?.take(size),
            hasher: sha2::Sha256::new(),
        })
    }

    /// Returns the bytes of a file after hashing them: what is returned is what was hashed.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub fn bytes(&self, sha256: &Sha256, size: u64) -> Result<Vec<u8>> {
        let file = self.open_sized(sha256, size)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        let read = file.take(size).read_to_end(&mut bytes);
        read.map_err(|error| self.unreadable(error, sha256))?;
        self.expect(sha256, Sha256::of(&bytes))?;
        Ok(bytes)
    }

    /// Copies a file to the path `to`, hashing what is copied; `to` appears only when its bytes are right.
    ///
    /// # Errors
    /// As [`Store::check`], and a target that cannot be written.
    pub fn copy_checked(&self, sha256: &Sha256, to: &Path) -> Result<()> {
        let cannot_write = |error: io::Error| Error::new(error).context(format!("cannot write {}", to.display()));
        let mut file = File::open(self.path(sha256)).map_err(|error| self.unreadable(error, sha256))?;
        let mut copy = NamedTempFile::new_in(folder_of(to)).map_err(cannot_write)?;
        let found = copy_hashed(&mut file, &mut copy).map_err(cannot_write)?;
        self.expect(sha256, found)?;
        let mode = Permissions::from_mode(0o644);
        copy.as_file().set_permissions(mode).map_err(cannot_write)?;
        copy.persist(to).map_err(|error| cannot_write(error.error))?;
        Ok(())
    }

    /// Adds a file with these bytes.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn add(&self, bytes: &[u8]) -> Result<Sha256> {
        let cannot_write = |error| self.outside(error, "write to", &self.root);
        let sha256 = Sha256::of(bytes);
        let mut file = NamedTempFile::new_in(self.root.join("partial")).map_err(cannot_write)?;
        file.write_all(bytes).map_err(cannot_write)?;
        let (file, path) = file.into_parts();
        self.take_in(&file, &path, &sha256)?;
        let _ = path.keep(); // renamed away: there is nothing left to remove
        Ok(sha256)
    }

    /// Adds a copy of a file of any size, and returns its size and digest.
    ///
    /// # Errors
    /// A file that cannot be read; a store that cannot be written.
    pub fn add_file(&self, path: &Path) -> Result<Stamp> {
        let opened = File::open(path).and_then(|file| file.metadata().map(|metadata| (file, metadata.is_file())));
        let problem = format!("cannot read {}", path.display());
        let (mut from, is_file) = opened.or_mend(Exit::Usage, &problem, "check the path and its permissions")?;
        if !is_file {
            return Err(Exit::Usage.because(problem, "name a file"));
        }
        self.add_all(&mut from)
    }

    /// Adds what can be read, and returns its size and digest.
    ///
    /// # Errors
    /// As [`Store::add_file`].
    pub fn add_all(&self, from: &mut impl Read) -> Result<Stamp> {
        let cannot_write = |error| self.outside(error, "write to", &self.root);
        let mut copy = NamedTempFile::new_in(self.root.join("partial")).map_err(cannot_write)?;
        let sha256 = copy_hashed(from, &mut copy).map_err(cannot_write)?;
        let size = copy.as_file().metadata().map_err(cannot_write)?.len();
        let (file, path) = copy.into_parts();
        self.take_in(&file, &path, &sha256)?;
        let _ = path.keep(); // renamed away: there is nothing left to remove
        Ok(Stamp { sha256, size })
    }

    /// Returns what was noted under this name of something that was compiled here, by this user and since the machine
    /// started; none where nothing was.
    pub fn note(&self, name: &str) -> Option<String> {
        let noted = files::read(&self.own().join("compiled").join(name), NOTE_LIMIT).ok()?;
        let noted = String::from_utf8(noted).ok()?;
        let (seal, text) = noted.split_once('\n')?;
        self.seal()?.is(seal, NOTE, name, text).then(|| text.into())
    }

    /// Notes it, where there is a seal that it can have.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn write_note(&self, name: &str, text: &str) -> Result<()> {
        let Some(seal) = self.seal() else { return Ok(()) };
        let place = self.own().join("compiled").join(name);
        let noted = format!("{}\n{text}", seal.of(NOTE, name, text));
        write_whole(&place, &noted).map_err(|error| self.outside(error, "write", &place))
    }

    /// Returns the size in bytes of the file with this digest, unchecked; none where there is none.
    pub fn size(&self, sha256: &Sha256) -> Option<u64> {
        fs::metadata(self.path(sha256)).ok().map(|metadata| metadata.len())
    }

    /// Returns those of the `wanted` files (digest and size) that are not here or have other bytes.
    pub fn missing(&self, wanted: &[(Sha256, u64)]) -> Vec<Sha256> {
        let here = parallel::map(wanted, |(sha256, size)| self.check(sha256, *size).is_ok());
        let absent = wanted.iter().zip(here).filter(|(_, here)| !here);
        absent.map(|((sha256, _), _)| *sha256).collect()
    }

    /// Moves a complete, already hashed `file` at `path`, on the store's file system, to its place.
    pub(super) fn take_in(&self, file: &File, path: &Path, sha256: &Sha256) -> Result<()> {
        let place = self.path(sha256);
        let steps = || {
            file.set_permissions(Permissions::from_mode(0o444))?;
            file.sync_all()?;
            fs::create_dir_all(folder_of(&place))?;
            fs::rename(path, &place)
        };
        steps().map_err(|error| self.outside(error, "write", &place))
    }

    /// An I/O error of the store's own file system.
    pub(super) fn outside(&self, error: io::Error, verb: &str, path: &Path) -> Error {
        let mend = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there, or name another: --store",
            _ => "make it writable for this user, or name another: --store",
        };
        let cause: io::Result<()> = Err(error);
        let problem = format!("cannot {verb} {}", path.display());
        let outcome = cause.or_mend(Exit::Outside, problem, format!("{mend} FOLDER"));
        outcome.expect_err("it is an error")
    }

    fn open_sized(&self, sha256: &Sha256, size: u64) -> Result<File> {
        let opened = File::open(self.path(sha256)).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (found, file) = opened.map_err(|error| self.unreadable(error, sha256))?;
        if found == size {
            return Ok(file);
        }
        let place = self.path(sha256);
        let problem = format!("{} has {found} bytes, the lock says {size}", place.display());
        Err(Exit::LockMismatch.because(problem, remove(&place)))
    }

    fn expect(&self, sha256: &Sha256, found: Sha256) -> Result<()> {
        if found == *sha256 {
            return Ok(());
        }
        let place = self.path(sha256);
        let problem = format!("the store is damaged: {} has SHA-256 {found}", place.display());
        Err(Exit::LockMismatch.because(problem, remove(&place)))
    }

    fn unreadable(&self, error: io::Error, sha256: &Sha256) -> Error {
        let place = self.path(sha256);
        if error.kind() != io::ErrorKind::NotFound {
            return self.outside(error, "read", &place);
        }
        let problem = format!("{sha256} is not in the store {}", self.root.display());
        Exit::Outside.because(problem, "fetch it: begat build RECIPE, without --offline")
    }
}

/// A file of the store, hashed as it is read.
pub struct Reader<'a> {
    store: &'a Store,
    sha256: Sha256,
    file: io::Take<File>,
    hasher: sha2::Sha256,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl Reader<'_> {
    /// Reads what is left, and says whether all of it was what its name says.
    ///
    /// # Errors
    /// Other bytes.
    pub fn end(mut self) -> Result<()> {
        let rest = io::copy(&mut BufReader::with_capacity(1 << 17, &mut self), &mut io::sink());
        rest.map_err(|error| self.store.unreadable(error, &self.sha256))?;
        self.store
            .expect(&self.sha256, <[u8; 32]>::from(self.hasher.finalize()).into())
    }
}

/// What is sealed as a note, and the most that one may have, in bytes.
const NOTE: &str = "compiled";
const NOTE_LIMIT: u64 = 16 << 20;

/// Makes a folder where there is none; the umask does not make it writable for others.
fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(folder)
}

/// Makes a folder where there is none, and hides what is in it: folders of a tool tree may be writable for a group.
fn make_hidden(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    match fs::metadata(folder)?.permissions().mode() & 0o7777 {
        0o700 => Ok(()), // a disk that cannot be written is read all the same
        _ => fs::set_permissions(folder, Permissions::from_mode(0o700)),
    }
}

/// Writes a file of the store's own, whole or not at all.
pub(super) fn write_whole(place: &Path, text: &str) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder_of(place))?;
    file.write_all(text.as_bytes())?;
    file.persist(place).map(drop).map_err(|error| error.error)
}

/// Copies everything and returns the SHA-256 of what was copied.
///
/// # Errors
/// What cannot be read or written.
pub fn copy_hashed(from: &mut impl Read, to: &mut impl Write) -> io::Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(<[u8; 32]>::from(hasher.finalize()).into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != "").unwrap_or(Path::new("."))
}

fn remove(place: &Path) -> String {
    format!("remove it and it is fetched again: rm {}", place.display())
}

/// Returns the free space of the disk that the default store is on, in bytes.
///
/// # Errors
/// As [`Store::locate`], and a disk that does not say.
pub fn free_space(environment: &Environment) -> Result<u64> {
    let store = Store::locate(None, environment)?;
    let disk = rustix::fs::statvfs(store.root()).context("cannot look at the store's disk")?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;
    use crate::world::seal::tests::seal;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        (folder, store)
    }

    fn damage(store: &Store, sha256: &Sha256, bytes: &[u8]) {
        fs::remove_file(store.path(sha256)).unwrap();
        fs::write(store.path(sha256), bytes).unwrap();
    }

    #[test]
    fn a_flipped_byte_is_refused_with_both_digests() {
        let (folder, store) = store();
        let sha256 = store.add(b"bytes").unwrap();
        damage(&store, &sha256, b"bytez");
        let copy = folder.path().join("copy");
        let refusals = [
            store.check(&sha256, 5).unwrap_err(),
            store.bytes(&sha256, 5).map(drop).unwrap_err(),
            store.copy_checked(&sha256, &copy).unwrap_err(),
        ];
        for refusal in refusals {
            let report = mend::report(&refusal);
            assert!(report.contains(&sha256.to_string()), "{report}");
            assert!(report.contains(&Sha256::of("bytez").to_string()), "{report}");
            assert_eq!(mend::exit_code(&refusal), Exit::LockMismatch);
        }
        assert!(!copy.exists());
        assert_eq!(store.missing(&[(sha256, 5)]), [sha256]);
    }

    #[test]
    fn a_truncated_file_is_refused_with_both_sizes() {
        let (_folder, store) = store();
        let sha256 = store.add(b"bytes").unwrap();
        damage(&store, &sha256, b"byt");
        let refusal = store.check(&sha256, 5).unwrap_err();
        assert!(
            refusal.to_string().ends_with("has 3 bytes, the lock says 5"),
            "{refusal}"
        );
        assert_eq!(mend::exit_code(&refusal), Exit::LockMismatch);
    }

    #[test]
    fn attack_a_note_that_somebody_else_has_written() {
        let (_folder, store) = store();
        let started = |times| store.clone().sealed(Some(seal(times)));
        let (ours, place) = (started(1), |name: &str| store.own().join("compiled").join(name));
        ours.write_note("a", "program a").unwrap();
        ours.write_note("b", "program b").unwrap();
        assert_eq!(ours.note("a").as_deref(), Some("program a"));
        let noted = fs::read_to_string(place("a")).unwrap();
        let (theirs, forged) = (started(2), noted.replace("program a", "program b"));
        theirs.write_note("c", "program b").unwrap();
        let foreign = fs::read_to_string(place("c")).unwrap();
        let other = fs::read_to_string(place("b")).unwrap();
        for text in [&forged, &foreign, &other, "program b", "\nprogram b", ""] {
            fs::write(place("a"), text).unwrap();
            assert_eq!(ours.note("a"), None, "{text:?}");
        }
        fs::write(place("a"), &noted).unwrap();
        assert_eq!(ours.note("a").as_deref(), Some("program a"));
        // another machine, or none that has a key
        assert_eq!(theirs.note("a"), None);
        assert_eq!(store.note("a"), None);
        store.write_note("d", "program d").unwrap();
        assert!(!place("d").exists());
    }

    /// While it is read, or before: what was read is believed only when all of it was right.
    #[test]
    fn attack_a_file_that_changes_while_it_is_read() {
        let (_folder, store) = store();
        let bytes = vec![1; 1 << 20];
        let sha256 = store.add(&bytes).unwrap();
        let mut reader = store.reader(&sha256, 1 << 20).unwrap();
        let mut first = [0; 1000];
        reader.read_exact(&mut first).unwrap();
        fs::set_permissions(store.path(&sha256), Permissions::from_mode(0o644)).unwrap();
        let mut file = File::options().write(true).open(store.path(&sha256)).unwrap();
        file.write_all(&[2; 1 << 19]).unwrap();
        let refusal = reader.end().unwrap_err();
        assert_eq!(mend::exit_code(&refusal), Exit::LockMismatch);
        file.write_all(&[2; 1 << 19]).unwrap();
        fs::write(store.path(&sha256), &bytes).unwrap();
        store.reader(&sha256, 1 << 20).unwrap().end().unwrap();
    }

    /// Folders of the store's own that somebody else has, or that are links to elsewhere.
    #[test]
    fn attack_a_store_whose_own_folders_are_others() {
        let parent = tempfile::tempdir().unwrap();
        let (root, elsewhere) = (parent.path().join("store"), parent.path().join("elsewhere"));
        fs::create_dir(&elsewhere).unwrap();
        assert_eq!(Store::open(&root).unwrap().own(), root);
        fs::remove_dir(root.join("trees")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, root.join("trees")).unwrap();
        let store = Store::open(&root).unwrap();
        assert!(!store.own().starts_with(parent.path()) && !store.keeps());
        fs::remove_file(root.join("trees")).unwrap();
        assert_eq!(Store::open(&root).unwrap().own(), root);
        if std::os::unix::fs::chown(root.join("compiled"), Some(1234), None).is_ok() {
            assert_ne!(Store::open(&root).unwrap().own(), root);
        }
    }

    #[test]
    fn what_was_added_is_there_once_and_nothing_else() {
        let (folder, store) = store();
        let sha256 = store.add(b"bytes").unwrap();
        assert_eq!(store.add(b"bytes").unwrap(), sha256);
        assert_eq!(store.bytes(&sha256, 5).unwrap(), b"bytes");
        store.copy_checked(&sha256, &folder.path().join("copy")).unwrap();
        assert_eq!(fs::read(folder.path().join("copy")).unwrap(), b"bytes");
        assert_eq!(fs::read_dir(store.root().join("partial")).unwrap().count(), 0);
        assert_eq!(store.missing(&[(sha256, 5)]), []);
    }
}
