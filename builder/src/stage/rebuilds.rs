//! `rebuilds/` of a release: what independent rebuilders have signed about it. None of them is believed here; who
//! counts is in a quorum file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::document::rebuild::{self, SUFFIX};
use crate::mend::{Exit, OrMend as _, quoted};
use crate::model::Manifest;
use crate::model::key::KeyId;
use crate::model::quorum::{self, Quorum, Verdict};
use crate::model::rebuild::{Fault, Rebuild};
use crate::stage::on_disk::OnDisk;
use crate::world::folder::Folder;

/// The name of the folder in a release.
pub use crate::model::file::REBUILDS as FOLDER;

/// How many statements of a release are read at most.
const MOST: usize = 1 << 10;

/// How many statements one key may have in a folder.
const OF_ONE_KEY: usize = 1000;

/// Whether the path below a release is that of a statement of a rebuilder.
pub(super) fn is_part(path: &Path) -> bool {
    path.parent() == Some(Path::new(FOLDER)) && name(path).is_some()
}

/// The name of a file that is a statement.
fn name(path: &Path) -> Option<&str> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(SUFFIX)?;
    (!stem.is_empty() && !name.contains(char::is_control)).then_some(name)
}

/// Returns what the statements of a release say, sorted by name.
fn read(release: &OnDisk) -> Vec<Rebuild> {
    let entries = release.entries().iter().map(|entry| entry.path.as_path());
    let paths = entries.filter(|path| is_part(path));
    let mut named = paths.filter_map(|path| Some((path.to_str()?, name(path)?)));
    let first = named.by_ref().take(MOST);
    let mut rebuilds: Vec<Rebuild> = first.map(|(path, name)| read_one(release, path, name)).collect();
    rebuilds.extend(named.next().map(|(_, name)| Rebuild {
        file: name.to_owned(),
        said: Err(Fault::Unreadable {
            why: format!("no more than {MOST} statements are read"),
        }),
    }));
    rebuilds
}

fn read_one(release: &OnDisk, path: &str, name: &str) -> Rebuild {
    match release.text(path) {
        Ok(text) => rebuild::read(name, &text),
        Err(error) => Rebuild {
            file: name.to_owned(),
            said: Err(Fault::Unreadable { why: quoted(error) }),
        },
    }
}

/// Returns what rebuilders say about a release; without a `quorum`, only whether they say it of this release, and who.
pub fn verify(release: &OnDisk, manifest: &Manifest, quorum: Option<&Quorum>) -> Verdict {
    let rebuilds = read(release);
    quorum::evaluate(quorum.unwrap_or(&Quorum::default()), manifest, &rebuilds)
}

/// Adds a statement to `folder`, beside those that are there: nobody's word is ever replaced. Returns its path.
///
/// # Errors
/// A folder that cannot be made or written.
pub fn add(folder: &Path, key: &KeyId, bundle: &str) -> Result<PathBuf> {
    let stem = key
        .as_str()
        .trim_start_matches("SHA256:")
        .replace('/', "_")
        .replace('+', "-");
    let steps = || -> io::Result<PathBuf> {
        fs::create_dir_all(folder)?;
        let inside = Folder::open(folder)?;
        for number in 0..OF_ONE_KEY {
            let number = if number == 0 {
                String::new()
            } else {
                format!("-{number}")
            };
            let name = format!("{stem}{number}{SUFFIX}");
            match inside.add(&name, bundle) {
                Ok(()) => return Ok(folder.join(name)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{key} has {OF_ONE_KEY} statements there")))
    };
    steps().or_mend(
        Exit::Outside,
        format!("cannot write the statement to {}", folder.display()),
        "make room there, or name another folder: --output DIR",
    )
}
