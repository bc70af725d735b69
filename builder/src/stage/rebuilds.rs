//! `rebuilds/` of a release: what independent rebuilders have signed about it. None of them is believed here; who
//! counts is in a quorum file.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::document::rebuild::{self, SUFFIX};
use crate::mend::{Exit, OrMend as _};
use crate::model::Manifest;
use crate::model::key::KeyId;
use crate::model::quorum::{self, Quorum, Verdict};
use crate::model::rebuild::{Fault, Rebuild};
use crate::world::files;

/// The name of the folder in a release.
pub const FOLDER: &str = "rebuilds";

/// What a statement has at most, in bytes: some fifty times what one about ten thousand packages has.
const LIMIT: u64 = 64 << 20;

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

/// Returns what the statements in `folder` say, sorted by name; none where there is no such folder.
pub fn read(folder: &Path) -> Vec<Rebuild> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| name(path).is_some())
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| Some(read_one(path, name(path)?)))
        .collect()
}

fn read_one(path: &Path, name: &str) -> Rebuild {
    let text = files::read(path, LIMIT).and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other));
    match text {
        Ok(text) => rebuild::read(name, &text),
        Err(error) => Rebuild {
            file: name.to_owned(),
            said: Err(Fault::Unreadable { why: error.to_string() }),
        },
    }
}

/// Returns what rebuilders say about the release in `folder`; without a `quorum`, only whether they say it of this
/// release, and who.
pub fn verify(folder: &Path, manifest: &Manifest, quorum: Option<&Quorum>) -> Verdict {
    let rebuilds = read(&folder.join(FOLDER));
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
        let mut file = tempfile::Builder::new().prefix(".statement-").tempfile_in(folder)?;
        file.write_all(bundle.as_bytes())?;
        file.as_file()
            .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.as_file().sync_all()?;
        for number in 0..OF_ONE_KEY {
            let number = if number == 0 {
                String::new()
            } else {
                format!("-{number}")
            };
            let path = folder.join(format!("{stem}{number}{SUFFIX}"));
            match file.persist_noclobber(&path) {
                Ok(_) => return Ok(path),
                Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => file = error.file,
                Err(error) => return Err(error.error),
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
