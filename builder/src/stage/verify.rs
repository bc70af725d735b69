//! Release in, findings out. An empty list is the only yes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use measure::Sha256;

use crate::mend::{Exit, OrMend as _};
use crate::model::Record;
use crate::model::artifacts;
use crate::model::release::{FileName, MANIFEST, Manifest, Stamp};
use crate::stage::chain::{COMPLETION, DISPATCH};
use crate::stage::finding::Finding;
use crate::stage::parse::LOCK;
use crate::stage::recompute::recompute;
use crate::stage::signatures::{self, Demand};
use crate::stage::{log, rebuilds, secure_boot, sign};
use crate::world::files::{self, Entry, Kind};
use crate::world::parallel::both;
use crate::world::stamps::stamps;

/// What is left unchecked of a release that boots nothing, or has other findings.
pub const ARTIFACTS: &str = "the measurements, against the artifacts";

/// What was found out about a release.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The digest of the manifest as it lies there: it names the release, if there are no findings.
    pub release: Option<Sha256>,
    pub manifest: Option<Manifest>,
    /// The generation record, if the release is signed and somebody asked.
    pub record: Option<Record>,
    /// Whether it is known what its artifacts lead to: they boot something, and nothing is wrong with any file.
    pub measured: bool,
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
        let found = Listed::new(folder, manifest, &entries).compare();
        verdict.findings.extend(found);
    }
    Ok(verdict)
}

/// As [`verify`]; verifies what is signed about the release, too, and compares what its artifacts lead to with what it
/// predicts.
///
/// # Errors
/// As [`verify`].
pub fn verify_whole(folder: &Path, wanted: Option<Sha256>, demand: &Demand) -> Result<Verdict> {
    let (mut verdict, entries) = begin(folder, wanted)?;
    let Some(manifest) = &verdict.manifest else {
        return Ok(verdict);
    };
    let listed = Listed::new(folder, manifest, &entries);
    let measurable = verdict.findings.is_empty() && listed.boots();
    let artifacts = || if measurable { recompute(folder) } else { Vec::new() };
    let signed = || signatures::verify(folder, manifest, demand);
    let (found, (artifacts, (record, signed))) = both(|| listed.compare(), || both(artifacts, signed));
    verdict.measured = measurable && found.is_empty();
    verdict.findings.extend(found.into_iter().chain(signed));
    verdict
        .findings
        .extend(artifacts.into_iter().filter(|_| verdict.measured));
    verdict.record = record;
    Ok(verdict)
}

/// As [`verify_whole`], whoever has signed it, and whether or not it is valid now.
///
/// # Errors
/// As [`verify`].
pub fn verify_at_any_time(folder: &Path, wanted: Option<Sha256>) -> Result<Verdict> {
    let demand = Demand {
        key: None,
        at: Timestamp::UNIX_EPOCH,
    };
    let mut verdict = verify_whole(folder, wanted, &demand)?;
    verdict.findings.retain(|finding| !finding.is_about_time());
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
        measured: false,
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

/// A release as its folder lists it: what is wrong with that is found before any file is read.
struct Listed<'a> {
    folder: &'a Path,
    manifest: &'a Manifest,
    unlike: BTreeMap<&'a FileName, Finding>,
    strangers: Vec<Finding>,
}

impl<'a> Listed<'a> {
    fn new(folder: &'a Path, manifest: &'a Manifest, entries: &[Entry]) -> Self {
        let kinds: BTreeMap<&Path, Kind> = entries.iter().map(|entry| (entry.path.as_path(), entry.kind)).collect();
        let unlike = manifest.files.iter().filter_map(|(name, stamp)| {
            let kind = kinds.get(Path::new(name.as_str())).copied();
            Some((name, unlike(folder, name, stamp.size, kind)?))
        });
        Self {
            folder,
            manifest,
            unlike: unlike.collect(),
            strangers: strangers(manifest, entries),
        }
    }

    /// Whether it is all there, and boots something.
    fn boots(&self) -> bool {
        let mut names = self.manifest.files.keys();
        let has_a_root = names.any(|name| name.as_str() == artifacts::file::ROOT);
        has_a_root && self.unlike.is_empty() && self.strangers.is_empty()
    }

    /// Reads the files, and returns what is wrong with all of it.
    fn compare(&self) -> Vec<Finding> {
        let mut found = self.unlike.clone();
        found.extend(self.digests());
        lock(self.manifest)
            .into_iter()
            .chain(found.into_values())
            .chain(self.strangers.iter().cloned())
            .chain(secure_boot::verify(self.folder, self.manifest))
            .collect()
    }

    fn digests(&self) -> Vec<(&'a FileName, Finding)> {
        let files = self.manifest.files.iter();
        let mut files: Vec<_> = files.filter(|(name, _)| !self.unlike.contains_key(name)).collect();
        files.sort_by_key(|(_, stamp)| Reverse(stamp.size)); // the largest first, so that no core waits at the end
        let paths: Vec<_> = files.iter().map(|(name, _)| self.folder.join(name.as_str())).collect();
        let found = files.into_iter().zip(stamps(&paths));
        let found = found.filter_map(|((name, wanted), found)| Some((name, differs(name, *wanted, found)?)));
        found.collect()
    }
}

/// The manifest names the lock by the digest of its text, and lists that text as a file.
fn lock(manifest: &Manifest) -> Option<Finding> {
    let wanted = manifest.origin.lock;
    let listed = manifest.files.iter().find(|(name, _)| name.as_str() == LOCK);
    let same = listed.is_some_and(|(_, stamp)| stamp.sha256 == wanted);
    (!same).then_some(Finding::LockDiffers { wanted })
}

/// Compares what a file is, then its size: one of another size is not read.
fn unlike(folder: &Path, name: &FileName, wanted: u64, kind: Option<Kind>) -> Option<Finding> {
    let file = name.clone();
    match kind {
        None => return Some(Finding::FileMissing { file }),
        Some(Kind::File) => {}
        Some(kind) => {
            let what = kind.to_string();
            return Some(Finding::NotAFile { file, what });
        }
    }
    match fs::symlink_metadata(folder.join(name.as_str())).map(|found| found.len()) {
        Ok(found) if found == wanted => None,
        Ok(found) => Some(Finding::SizeDiffers { file, found, wanted }),
        Err(error) => Some(unreadable(file, &error)),
    }
}

/// Compares what was read of a file, whose size may have changed meanwhile.
fn differs(name: &FileName, wanted: Stamp, found: io::Result<Stamp>) -> Option<Finding> {
    let file = name.clone();
    match found {
        Ok(found) if found == wanted => None,
        Ok(found) if found.size != wanted.size => {
            let (found, wanted) = (found.size, wanted.size);
            Some(Finding::SizeDiffers { file, found, wanted })
        }
        Ok(found) => {
            let (found, wanted) = (found.sha256, wanted.sha256);
            Some(Finding::DigestDiffers { file, found, wanted })
        }
        Err(error) => Some(unreadable(file, &error)),
    }
}

fn unreadable(file: FileName, error: &io::Error) -> Finding {
    let why = error.to_string();
    Finding::FileUnreadable { file, why }
}

/// What is in the folder and neither in the manifest nor a signature; folders that hold listed files belong to them.
fn strangers(manifest: &Manifest, entries: &[Entry]) -> Vec<Finding> {
    let listed = manifest.files.keys().map(|name| Path::new(name.as_str()));
    let listed: BTreeSet<&Path> = listed.chain([Path::new(MANIFEST)]).collect();
    let of_builds = EVIDENCE.iter().filter_map(|name| Path::new(name).parent());
    let of_builds = of_builds.chain([Path::new(rebuilds::FOLDER)]);
    let folders = listed.iter().flat_map(|path| path.ancestors().skip(1)).chain(of_builds);
    let folders: BTreeSet<&Path> = folders.collect();
    let belongs = |entry: &&Entry| {
        let path = entry.path.as_path();
        let of_a_build = is_of_a_build(path, manifest) && entry.kind == Kind::File;
        listed.contains(path) || of_a_build || (entry.kind == Kind::Directory && folders.contains(path))
    };
    let unlisted = entries.iter().filter(|entry| !belongs(entry));
    let finding = |entry: &Entry| Finding::NotListed {
        path: entry.path.to_string_lossy().into_owned(),
        what: entry.kind.to_string(),
    };
    unlisted.map(finding).collect()
}

/// What machines and logs say of a build.
const EVIDENCE: [&str; 3] = [DISPATCH, COMPLETION, log::PROOF];

/// Whether the path below a release is that of a file which belongs to one build of it, or to those who judge it.
pub(super) fn is_of_a_build(path: &Path, manifest: &Manifest) -> bool {
    let evidence = EVIDENCE.iter().any(|name| path == Path::new(name));
    let signed = sign::is_signature(path, manifest) || secure_boot::is_part(path, manifest);
    evidence || signed || rebuilds::is_part(path)
}

/// Reads the manifest of a release, and nothing else: no file is compared with it.
///
/// # Errors
/// A folder without a manifest, or with one that is none.
pub fn manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = files::text(&path);
    Manifest::parse(&text.or_mend(
        Exit::Usage,
        format!("cannot read {}", path.display()),
        "name the folder of a release",
    )?)
}
