//! Release in, findings out. An empty list is the only yes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use measure::Sha256;

use crate::mend::{Exit, OrMend as _};
use crate::model::Record;
use crate::model::release::{FileName, MANIFEST, Manifest, Stamp};
use crate::stage::chain::{COMPLETION, DISPATCH};
use crate::stage::finding::Finding;
use crate::stage::parse::LOCK;
use crate::stage::signatures::{self, Demand};
use crate::stage::{log, rebuilds, secure_boot, sign};
use crate::world::files::{self, Entry, Kind};
use crate::world::parallel::join;

/// What was found out about a release.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The digest of the manifest as it lies there: it names the release, if there are no findings.
    pub release: Option<Sha256>,
    pub manifest: Option<Manifest>,
    /// The generation record, if the release is signed and somebody asked.
    pub record: Option<Record>,
    /// Reasons not to trust it.
    pub findings: Vec<Finding>,
}

/// Compares every file of the release in `folder` with its manifest, and the manifest with the digest that is wanted.
///
/// # Errors
/// A folder that cannot be read. Everything that is wrong with what is in it is a finding.
pub fn verify(folder: &Path, wanted: Option<Sha256>) -> Result<Verdict> {
    let (mut verdict, entries) = begin(folder, wanted)?;
    if let Some(manifest) = &verdict.manifest {
        verdict.findings.extend(compare(folder, manifest, &entries));
    }
    Ok(verdict)
}

/// As [`verify`], and verifies what is signed about the release.
///
/// # Errors
/// As [`verify`].
pub fn verify_signed(folder: &Path, wanted: Option<Sha256>, demand: &Demand) -> Result<Verdict> {
    let (mut verdict, entries) = begin(folder, wanted)?;
    if let Some(manifest) = &verdict.manifest {
        let (found, (record, signed)) = thread::scope(|scope| {
            let signed = scope.spawn(|| signatures::verify(folder, manifest, demand));
            (compare(folder, manifest, &entries), join(signed))
        });
        verdict.findings.extend(found.into_iter().chain(signed));
        verdict.record = record;
    }
    Ok(verdict)
}

/// Reads the manifest; returns what is to be said of it alone, and what is in the folder.
fn begin(folder: &Path, wanted: Option<Sha256>) -> Result<(Verdict, Vec<Entry>)> {
    const MEND: &str = "name the folder of a release";
    let problem = || format!("cannot read the folder {}", folder.display());
    let exit = if folder.is_dir() { Exit::Outside } else { Exit::Usage };
    let entries = files::list(folder).or_mend(exit, problem(), MEND)?;
    let read = read_manifest(folder).with_context(problem)?;
    let release = read.as_ref().ok().map(|(release, _)| *release);
    let differs = release.zip(wanted).filter(|(found, wanted)| found != wanted);
    let differs = differs.map(|(found, wanted)| Finding::ReleaseDiffers { found, wanted });
    let (manifest, found) = match read.and_then(|(_, text)| parse(&text)) {
        Ok(manifest) => (Some(manifest), None),
        Err(finding) => (None, Some(finding)),
    };
    let verdict = Verdict {
        release,
        manifest,
        record: None,
        findings: differs.into_iter().chain(found).collect(),
    };
    Ok((verdict, entries))
}

/// A manifest has a line or four for each file; one that is larger than this is no manifest of ours.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// The digest and the text of the manifest: the very bytes that are parsed are those that were hashed.
fn read_manifest(folder: &Path) -> io::Result<std::result::Result<(Sha256, String), Finding>> {
    let invalid = |why: &str| Ok(Err(Finding::ManifestInvalid { why: why.into() }));
    let file = match files::open(&folder.join(MANIFEST)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(Finding::ManifestMissing)),
        Err(error) => return invalid(&format!("cannot open {MANIFEST}: {error}")),
    };
    let mut bytes = Vec::new();
    file.take(MANIFEST_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MANIFEST_LIMIT {
        return invalid(&format!("{MANIFEST} has more than {MANIFEST_LIMIT} bytes"));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Ok((Sha256::of(&text), text))),
        Err(_) => invalid(&format!("{MANIFEST} is no text")),
    }
}

fn parse(text: &str) -> std::result::Result<Manifest, Finding> {
    Manifest::parse(text).map_err(|error| Finding::ManifestInvalid {
        why: format!("{error:#}"),
    })
}

fn compare(folder: &Path, manifest: &Manifest, entries: &[Entry]) -> Vec<Finding> {
    let kinds: BTreeMap<&Path, Kind> = entries.iter().map(|entry| (entry.path.as_path(), entry.kind)).collect();
    let listed: Vec<_> = manifest.files.iter().collect();
    let files = files::for_each(&listed, |(name, stamp)| {
        file(folder, name, **stamp, kinds.get(Path::new(name.as_str())).copied())
    });
    let strangers = strangers(manifest, entries);
    lock(manifest)
        .into_iter()
        .chain(files.into_iter().flatten())
        .chain(strangers)
        .chain(secure_boot::verify(folder, manifest))
        .collect()
}

/// The manifest names the lock by the digest of its text, and lists that text as a file.
fn lock(manifest: &Manifest) -> Option<Finding> {
    let wanted = manifest.origin.lock;
    let listed = manifest.files.iter().find(|(name, _)| name.as_str() == LOCK);
    let same = listed.is_some_and(|(_, stamp)| stamp.sha256 == wanted);
    (!same).then_some(Finding::LockDiffers { wanted })
}

/// Compares one file: what it is, then its size, then its digest.
fn file(folder: &Path, name: &FileName, wanted: Stamp, kind: Option<Kind>) -> Option<Finding> {
    let file = name.clone();
    match kind {
        None => return Some(Finding::FileMissing { file }),
        Some(Kind::File) => {}
        Some(kind) => {
            return Some(Finding::NotAFile {
                file,
                what: kind.to_string(),
            });
        }
    }
    match found(&folder.join(name.as_str()), wanted) {
        Ok(found) if found.size != wanted.size => {
            let (found, wanted) = (found.size, wanted.size);
            Some(Finding::SizeDiffers { file, found, wanted })
        }
        Ok(found) if found.sha256 != wanted.sha256 => {
            let (found, wanted) = (found.sha256, wanted.sha256);
            Some(Finding::DigestDiffers { file, found, wanted })
        }
        Ok(_) => None,
        Err(error) => Some(Finding::FileUnreadable {
            file,
            why: error.to_string(),
        }),
    }
}

/// The stamp of a file; one of another size is not read.
fn found(path: &Path, wanted: Stamp) -> io::Result<Stamp> {
    let mut file = files::open(path)?;
    let size = file.metadata()?.len();
    if size == wanted.size {
        files::stamp(&mut file)
    } else {
        Ok(Stamp { size, ..wanted })
    }
}

/// What is in the folder and neither in the manifest nor a signature; folders that hold listed files belong to them.
fn strangers(manifest: &Manifest, entries: &[Entry]) -> Vec<Finding> {
    let listed = manifest.files.keys().map(|name| Path::new(name.as_str()));
    let listed: BTreeSet<&Path> = listed.chain([Path::new(MANIFEST)]).collect();
    let own = [DISPATCH, COMPLETION, log::PROOF].map(Path::new);
    let of_builds = own
        .iter()
        .filter_map(|path| path.parent())
        .chain([Path::new(rebuilds::FOLDER)]);
    let folders = listed.iter().flat_map(|path| path.ancestors().skip(1)).chain(of_builds);
    let folders: BTreeSet<&Path> = folders.collect();
    let belongs = |entry: &&Entry| {
        let path = entry.path.as_path();
        let signed = sign::is_signature(path, manifest) || secure_boot::is_part(path, manifest);
        let of_this_build = signed || own.contains(&path) || rebuilds::is_part(path);
        let of_this_build = of_this_build && entry.kind == Kind::File;
        listed.contains(path) || of_this_build || (entry.kind == Kind::Directory && folders.contains(path))
    };
    let unlisted = entries.iter().filter(|entry| !belongs(entry));
    let finding = |entry: &Entry| Finding::NotListed {
        path: entry.path.to_string_lossy().into_owned(),
        what: entry.kind.to_string(),
    };
    unlisted.map(finding).collect()
}

/// Reads the manifest of a release, and nothing else: no file is compared with it.
///
/// # Errors
/// A folder without a manifest, or with one that is none.
pub fn manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = fs::read_to_string(&path);
    Manifest::parse(&text.or_mend(
        Exit::Usage,
        format!("cannot read {}", path.display()),
        "name the folder of a release",
    )?)
}
