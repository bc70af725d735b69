//! Payloads: declared ones locked, locked ones fetched, fetched ones put into a tree.

use std::fs::{self, File, Permissions};
use std::io::{BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Error, Result};
use measure::Sha512;

use crate::debian::deb;
use crate::document::sbom::Crate;
use crate::mend::{self, Exit, OrMend as _};
use crate::model::contents::{self, Image, Kind, Node};
use crate::model::lock::Lock;
use crate::model::payload::{Declared, Mode, Payload, Source};
use crate::model::recipe::Name;
use crate::model::release::Stamp;
use crate::stage::base::MERGED;
use crate::stage::crates;
use crate::stage::parse::Project;
use crate::world::net::Net;
use crate::world::store::Store;
use crate::world::{files, graft, tidy, unpack};

/// What an archive may unpack to at most, in bytes.
const UNPACKED_LIMIT: u64 = 32 << 30;

/// What a file has that says nothing else.
const PLAIN: Mode = Mode(0o644);

/// Returns what exactly the recipe's payloads are, sorted, but those that are compiled; sizes that it does not name are
/// asked for.
///
/// # Errors
/// Payloads whose digest or size nobody says: all of them, with how to supply them.
pub fn lock(project: &Project, net: &Net) -> Result<Vec<Payload>> {
    let (mut locked, mut missing) = (Vec::new(), Vec::new());
    let given = project.recipe.payload.iter();
    for declared in given.filter(|declared| declared.compile.is_none()) {
        match stamp(declared, project, net) {
            Ok(stamp) => locked.push(declared.locked(stamp)),
            Err(error) if is_missing(&error) => missing.push((&declared.name, unlocked(declared), error)),
            Err(error) => return Err(error.context(format!("cannot lock the payload {}", declared.name))),
        }
    }
    locked.sort();
    if missing.is_empty() {
        Ok(locked)
    } else {
        Err(absent(&missing))
    }
}

fn stamp(declared: &Declared, project: &Project, net: &Net) -> Result<Stamp> {
    let stamp = match (net.supplied(&declared.name.to_string()), &declared.source) {
        (Some(stamp), _) => stamp,
        (None, Some(Source::File(path))) => own(project, path)?,
        (None, source) => net.stamp(source.as_ref(), declared.sha256, declared.size)?,
    };
    let differs = declared.sha256.is_some_and(|sha256| sha256 != stamp.sha256)
        || declared.size.is_some_and(|size| size != stamp.size);
    if differs {
        let wanted = declared.sha256.map_or(String::new(), |sha256| format!(" {sha256}"));
        let problem = format!(
            "it has SHA-256 {} and {} bytes, the recipe says{wanted}{}",
            stamp.sha256,
            stamp.size,
            declared.size.map_or(String::new(), |size| format!(" {size} bytes"))
        );
        return Err(Exit::LockMismatch.because(problem, "supply the file that the recipe means, or correct the recipe"));
    }
    Ok(stamp)
}

fn own(project: &Project, path: &str) -> Result<Stamp> {
    let found = project.sources.iter().find(|source| source.path == path);
    let found = found.map(|source| Stamp {
        sha256: source.sha256,
        size: source.size,
    });
    let problem = || format!("the recipe's folder has no file {path}");
    found.ok_or_else(|| Exit::Usage.because(problem(), "put it there, or correct `source` in recipe.toml"))
}

/// Brings every payload of the lock into the store, but those that are compiled.
///
/// # Errors
/// Payloads that cannot be had: all of them, with how to supply them; bytes that are not the locked ones.
pub fn fetch(lock: &Lock, project: &Project, net: &Net, store: &Store) -> Result<()> {
    let mut missing = Vec::new();
    let given = lock.payload.iter();
    for payload in given.filter(|payload| payload.compiled.is_none()) {
        let Err(absence) = store.check(&payload.sha256, payload.size) else {
            continue;
        };
        match obtain(payload, project, net, store) {
            Ok(()) => {}
            Err(error) if is_missing(&error) && is_missing(&absence) => {
                missing.push((&payload.name, locked(payload), error))
            }
            Err(error) if is_missing(&error) => {
                return Err(absence.context(format!("the payload {} is damaged", locked(payload))));
            }
            Err(error) => return Err(error.context(format!("cannot fetch the payload {}", payload.name))),
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(absent(&missing))
    }
}

fn obtain(payload: &Payload, project: &Project, net: &Net, store: &Store) -> Result<()> {
    match &payload.source {
        Some(Source::File(path)) => {
            let found = store.add_file(&project.folder.join(path))?;
            if found == payload.stamp() {
                return Ok(());
            }
            let problem = format!("{path} has SHA-256 {}, the lock says {}", found.sha256, payload.sha256);
            Err(Exit::LockMismatch.because(problem, "bring the file back, or lock it anew: begat lock RECIPE"))
        }
        source => net.payload(source.as_ref(), &payload.name.to_string(), payload.stamp()),
    }
}

/// Whether somebody could supply the file; not so where its bytes are wrong.
fn is_missing(error: &Error) -> bool {
    mend::exit_code(error) == Exit::Outside
}

fn unlocked(declared: &Declared) -> String {
    let digest = declared
        .sha256
        .map_or("digest unknown".into(), |sha256| format!("SHA-256 {sha256}"));
    format!(
        "{} {}, {digest}{}",
        declared.name,
        declared.version,
        from(declared.source.as_ref())
    )
}

fn locked(payload: &Payload) -> String {
    let Payload {
        name,
        version,
        sha256,
        size,
        source,
        ..
    } = payload;
    format!(
        "{name} {version}, SHA-256 {sha256}, {size} bytes{}",
        from(source.as_ref())
    )
}

fn from(source: Option<&Source>) -> String {
    source.map_or(String::new(), |source| format!(", from {source}"))
}

fn absent(missing: &[(&Name, String, Error)]) -> Error {
    let noun = if missing.len() == 1 {
        "payload is"
    } else {
        "payloads are"
    };
    let lines = missing.iter().map(|(_, what, why)| format!("\n  {what}: {why:#}"));
    let problem = format!("{} {noun} missing:{}", missing.len(), lines.collect::<String>());
    let flags: String = missing
        .iter()
        .map(|(name, ..)| format!(" --supply {name}=FILE"))
        .collect();
    Exit::Outside.because(problem, format!("get each file as you can, and supply it:{flags}"))
}

/// Puts a payload of the store into the folder `tree`; `work` is a folder of ours on the same disk.
///
/// # Errors
/// Bytes that are not the locked ones; an archive that cannot be unpacked; a path that something else has.
pub fn place(payload: &Payload, store: &Store, work: &Path, tree: &Path) -> Result<()> {
    let staged = tempfile::tempdir_in(work).context("cannot make a folder for a payload")?;
    stage(payload, store, staged.path())
        .and_then(|()| graft::graft(staged.path(), tree, payload.place.replace))
        .with_context(|| format!("cannot place the payload {} {}", payload.name, payload.version))
}

/// Makes what the payload adds to a tree, in an empty folder that stands for its root.
fn stage(payload: &Payload, store: &Store, root: &Path) -> Result<()> {
    let place = root.join(payload.place.target.below());
    if payload.place.unpack {
        make_folders(root, &place)?;
        let mut file = store.reader(&payload.sha256, payload.size)?;
        let bytes = deb::by_magic(BufReader::with_capacity(1 << 17, &mut file))?;
        let unpacked = unpack::unpack(&mut tar::Archive::new(bytes.take(UNPACKED_LIMIT)), &place);
        return file.end().and(unpacked);
    }
    make_folders(root, place.parent().unwrap_or(root))?;
    store.copy_checked(&payload.sha256, &place)?;
    let Mode(mode) = payload.place.mode.unwrap_or(PLAIN);
    fs::set_permissions(&place, Permissions::from_mode(mode.into())).context("cannot set its mode")
}

/// Makes the folders between `root` and `place`, with a mode of their own: the umask is no input.
fn make_folders(root: &Path, place: &Path) -> Result<()> {
    fs::create_dir_all(place)?;
    let mut made = place.ancestors().take_while(|folder| *folder != root);
    made.try_for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(0o755)))
        .context("cannot make its folder")
}

/// What a payload brings.
#[derive(Clone, Debug)]
pub struct Brought {
    pub name: String,
    /// Of the payload itself.
    pub sha512: Sha512,
    pub nodes: Vec<Node>,
    /// The crates that are in it, if it was compiled.
    pub crates: Vec<Crate>,
}

/// What each payload brings, in the order of the lock.
pub type Payloads = Vec<Brought>;

/// Returns what each payload of the lock brings.
///
/// # Errors
/// As [`contents()`].
pub fn all(lock: &Lock, store: &Store) -> Result<Payloads> {
    let brought = |payload: &Payload| {
        let mut file = store.reader(&payload.sha256, payload.size)?;
        let sha512 = files::sha512(&mut file);
        let sha512 = sha512.with_context(|| format!("cannot read the payload {}", payload.name))?;
        file.end()?;
        Ok(Brought {
            name: payload.name.to_string(),
            sha512,
            nodes: contents(payload, store)?,
            crates: crates::described(payload, store)?,
        })
    };
    lock.payload.iter().map(brought).collect()
}

/// Returns what a payload adds to its image: files, folders and links, owned by root. The folders above its target are
/// in it, though a package may have them too; what it puts through a link into /usr is where the link leads.
///
/// # Errors
/// As [`place`].
pub fn contents(payload: &Payload, store: &Store) -> Result<Vec<Node>> {
    let staged = tempfile::tempdir().context("cannot make a folder for a payload")?;
    stage(payload, store, staged.path())?;
    let image = payload.place.image();
    let nodes = tidy::walk(staged.path())?.into_iter().map(|path| {
        let whole = staged.path().join(&path);
        let metadata = fs::symlink_metadata(&whole)?;
        Ok(Node {
            path: path_in(payload, &contents::escape(path.as_os_str().as_bytes())),
            image: Image(image.clone()),
            mode: u16::try_from(metadata.permissions().mode() & 0o7777).expect("twelve bits fit"),
            kind: kind(&whole, &metadata)?,
            uid: 0,
            gid: 0,
            xattrs: [].into(),
        })
    });
    nodes.collect()
}

/// The absolute path; in a tree it is below /usr where the first folder is a link into it.
fn path_in(payload: &Payload, path: &str) -> String {
    let first = path.split('/').next().unwrap_or(path);
    let usr = payload.place.volume.is_none() && MERGED.contains(&first) && path.len() > first.len();
    if usr {
        format!("/usr/{path}")
    } else {
        format!("/{path}")
    }
}

fn kind(path: &Path, metadata: &fs::Metadata) -> Result<Kind> {
    if metadata.is_dir() {
        return Ok(Kind::Directory);
    }
    if metadata.is_symlink() {
        let target = contents::escape(fs::read_link(path)?.as_os_str().as_bytes());
        return Ok(Kind::Symlink { target });
    }
    let stamp = files::stamp(&mut File::open(path)?).or_mend(Exit::Outside, "cannot read it", "make room")?;
    let Stamp { sha256, size } = stamp;
    Ok(Kind::File {
        size,
        sha256,
        same_as: None,
    })
}
