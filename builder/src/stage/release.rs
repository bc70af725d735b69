//! Files in, release out: whole or not at all.
//!
//! A release is built in a folder of its own beside the final one, `.NAME.partial-XXXXXX`, hashed, written through to
//! the disk and renamed. Whoever builds there holds a lock on that folder; what is not locked was left by a build that
//! was killed, and the next one removes it.
//!
//! Where a release is replaced, the two folders are exchanged in one step (`RENAME_EXCHANGE`), and only then is the old
//! one removed. A file system that cannot exchange gets two renames: between them the old release is
//! `.NAME.replaced-XXXXXX`, which no run removes unless it put it there. At every instant one of the two is whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::Sha512;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::mend::{Exit, OrMend as _};
use crate::model::release::{FileName, MANIFEST, Manifest, Origin, Stamp};
use crate::world::files::{self, Entry, Kind};
use crate::world::folder::Folder;
use crate::world::scratch::Scratch;

/// What to do with a release that is there already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Existing {
    Refuse,
    /// It goes when the new one is whole.
    Replace,
}

/// The size and digest of each file of a release.
pub type Stamps = BTreeMap<FileName, Stamp>;

/// As [`Stamps`], with the digest that only bills of materials ask for.
pub type Hashes = BTreeMap<FileName, (Stamp, Sha512)>;

/// A release that is being built. Dropped before it is published, it is gone.
#[derive(Debug)]
pub struct Staging {
    folder: Scratch,
    destination: PathBuf,
    existing: Existing,
}

impl Staging {
    /// Makes the folder to build in, and removes those that killed runs have left.
    ///
    /// # Errors
    /// A destination that exists and is to stay, or is no release; a parent folder that cannot be written.
    pub fn begin(destination: &Path, existing: Existing) -> Result<Self> {
        check(destination, existing)?;
        let (parent, prefix) = place(destination)?;
        let folder = Scratch::new(&parent, &prefix).or_mend(
            Exit::Outside,
            format!("cannot make a folder in {}", parent.display()),
            "make room there, or make it writable for this user; or choose another folder: --output DIR",
        )?;
        Ok(Self {
            folder,
            destination: destination.to_owned(),
            existing,
        })
    }

    /// Returns the folder to put the files of the release into.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Hashes the files that are there, and writes them through to the disk; each is read once.
    ///
    /// # Errors
    /// Something in the folder that no release has; a file that cannot be read.
    pub fn hashes(&self) -> Result<Hashes> {
        hash(self.folder(), &Stamps::new(), files::stamp_and_sha512)
    }

    /// Hashes the files that are not `known` yet, writes them through to the disk, and returns them all.
    ///
    /// # Errors
    /// As [`hashes`](Self::hashes).
    pub fn stamps(&self, mut known: Stamps) -> Result<Stamps> {
        let new = hash(self.folder(), &known, files::stamp)?;
        known.extend(new);
        Ok(known)
    }

    /// Hashes every file that is not `known` yet, writes the manifest, and gives the folder its final name.
    ///
    /// # Errors
    /// Something in the folder that no release has; a destination that somebody else has made meanwhile; a disk that
    /// is full.
    pub fn publish(self, origin: Origin, known: Stamps) -> Result<Manifest> {
        let manifest = self.seal(origin, known)?;
        self.appear()?;
        Ok(manifest)
    }

    /// Hashes every file that is not `known` yet and writes the manifest: what comes after it belongs to one build.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn seal(&self, origin: Origin, known: Stamps) -> Result<Manifest> {
        let files = self.stamps(known)?;
        let manifest = Manifest { origin, files };
        self.write(MANIFEST, manifest.text())?;
        Ok(manifest)
    }

    /// Writes a file of the release through to the disk.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let written = Folder::open(self.folder()).and_then(|folder| folder.write(name, content));
        self.or_mend(written)
    }

    /// Takes over every file of the release that is to be replaced but those that `leave` names.
    ///
    /// # Errors
    /// A release that cannot be read, a disk that is full.
    pub fn take_over(&self, leave: impl Fn(&Path) -> bool) -> Result<()> {
        let steps = || -> io::Result<()> {
            for Entry { path, kind } in files::list(&self.destination)? {
                let (from, to) = (self.destination.join(&path), self.folder().join(&path));
                match kind {
                    Kind::Directory => fs::create_dir(to)?,
                    _ if leave(&path) => {}
                    _ => link(&from, &to)?,
                }
            }
            Ok(())
        };
        self.or_mend(steps())
    }

    /// Writes a folder that is a release already through to the disk, and gives it its final name.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn adopt(self) -> Result<()> {
        let files = files::list(self.folder()).with_context(|| format!("cannot read {}", self.folder().display()))?;
        let mut files = files.into_iter().filter(|entry| entry.kind == Kind::File);
        self.or_mend(files.try_for_each(|file| File::open(self.folder().join(file.path))?.sync_all()))?;
        self.appear()
    }

    /// Gives the folder its final name.
    ///
    /// # Errors
    /// A destination that somebody else has made meanwhile; a disk that is full.
    pub fn appear(self) -> Result<()> {
        self.or_mend(sync(self.folder()))?;
        check(&self.destination, self.existing)?;
        self.rename()
            .with_context(|| format!("cannot publish the release as {}", self.destination.display()))
    }

    fn or_mend<T>(&self, written: io::Result<T>) -> Result<T> {
        written.or_mend(
            Exit::Outside,
            format!("cannot write the release to the disk of {}", self.destination.display()),
            "make room there, or choose another folder: --output DIR",
        )
    }

    fn rename(&self) -> io::Result<()> {
        let (new, destination) = (self.folder(), &self.destination);
        let moved = renameat_with(CWD, new, CWD, destination, RenameFlags::NOREPLACE);
        match moved.map_err(io::Error::from) {
            Err(_) if self.existing == Existing::Replace && destination.exists() => self.exchange()?,
            Err(error) if is_unknown(&error) && !destination.exists() => fs::rename(new, destination)?,
            moved => moved?,
        }
        File::open(parent(destination))?.sync_all()
    }

    /// Puts the old release where the new one was, from where it is removed with the folder.
    fn exchange(&self) -> io::Result<()> {
        let (new, destination) = (self.folder(), &self.destination);
        match renameat_with(CWD, new, CWD, destination, RenameFlags::EXCHANGE).map_err(io::Error::from) {
            Err(error) if is_unknown(&error) => {}
            exchanged => return exchanged,
        }
        let name = new.to_string_lossy().replacen(".partial-", ".replaced-", 1);
        fs::rename(destination, &name)?;
        match fs::rename(new, destination) {
            Ok(()) => fs::remove_dir_all(&name),
            Err(error) => fs::rename(&name, destination).and(Err(error)),
        }
    }
}

/// Refuses what must not be replaced: before any work, and again before the rename.
fn check(destination: &Path, existing: Existing) -> Result<()> {
    let shown = destination.display();
    match (fs::symlink_metadata(destination), existing) {
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        (Err(error), _) => Err(error).with_context(|| format!("cannot look at {shown}")),
        (Ok(_), Existing::Refuse) => {
            Err(Exit::Usage.because(format!("{shown} exists"), "choose another name, or replace it: --force"))
        }
        (Ok(found), Existing::Replace) if found.is_dir() && destination.join(MANIFEST).is_file() => Ok(()),
        (Ok(_), Existing::Replace) => {
            let problem = format!("{shown} exists and has no {MANIFEST}: it is no release, so it is not replaced");
            Err(Exit::Usage.because(problem, "choose another name, or move it away"))
        }
    }
}

/// The folder to build in lies beside the destination; its name begins like this.
fn place(destination: &Path) -> Result<(PathBuf, String)> {
    let name = destination.file_name().and_then(|name| name.to_str());
    let problem = || format!("{} cannot be the name of a release", destination.display());
    let name = name.ok_or_else(|| Exit::Usage.because(problem(), "name a folder"))?;
    Ok((parent(destination).to_owned(), format!(".{name}.partial-")))
}

fn parent(destination: &Path) -> &Path {
    let parent = destination.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Hashes the files of a release that are not `known` yet and writes each through to the disk on the way.
fn hash<T: Send>(
    folder: &Path,
    known: &Stamps,
    hash: impl Fn(&mut File) -> io::Result<T> + Sync,
) -> Result<BTreeMap<FileName, T>> {
    let mut names = Vec::new();
    for Entry { path, kind } in files::list(folder)? {
        match kind {
            Kind::Directory => {}
            Kind::File => names.push(file_name(&path)?),
            Kind::Special | Kind::Symlink => {
                return Err(unfit(&path, &format!("it is {kind}")));
            }
        }
    }
    names.retain(|name| !known.contains_key(name));
    let hashes = files::for_each(&names, |name| {
        let mut file = files::open(&folder.join(name.as_str()))?;
        let hashes = hash(&mut file)?;
        file.sync_all().map(|()| hashes)
    });
    let hashed = names.into_iter().zip(hashes).map(|(name, hashes)| {
        let hashes = hashes.with_context(|| format!("cannot read {name} of the release"));
        Ok((name, hashes?))
    });
    hashed.collect()
}

fn file_name(path: &Path) -> Result<FileName> {
    let name = path.to_str().ok_or_else(|| unfit(path, "its name is no UTF-8"))?;
    FileName::try_from(name.to_owned()).map_err(|why| unfit(path, &why))
}

fn unfit(path: &Path, why: &str) -> anyhow::Error {
    let problem = format!("{path:?} cannot be in a release: {why}");
    Exit::Unsupported.because(problem, "a stage put it there: report it")
}

/// Writes the manifest and the folders through to the disk; the files are.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder.join(MANIFEST))?.sync_all()?;
    let folders = files::list(folder)?
        .into_iter()
        .filter(|entry| entry.kind == Kind::Directory);
    let mut folders = folders.map(|entry| folder.join(entry.path)).chain([folder.to_owned()]);
    folders.try_for_each(|folder| File::open(folder)?.sync_all())
}

/// Gives a file a second name; where a file system cannot, a copy, written through to the disk.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| {
        fs::copy(from, to)?;
        File::open(to)?.sync_all()
    })
}

/// The file system does not know that way to rename: renameat2(2).
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}
