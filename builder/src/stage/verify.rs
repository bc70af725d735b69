//! Release in, findings out. An empty list is the only yes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;

use crate::mend::{Exit, OrMend as _, quoted};
use crate::model::file;
use crate::model::release::{FileName, MANIFEST, Manifest, Stamp};
use crate::model::{Measurements, Record};
use crate::stage::chain::{COMPLETION, DISPATCH};
use crate::stage::finding::Finding;
use crate::stage::on_disk::OnDisk;
use crate::stage::parse::LOCK;
use crate::stage::recompute::recompute;
use crate::stage::signatures::{self, Demand};
use crate::stage::{log, rebuilds, secure_boot, sign};
use crate::world::files::{Entry, Kind, Opened};
use crate::world::parallel::both;
use crate::world::stamps::stamps;

/// What is left unchecked of a release that has other findings.
pub const ARTIFACTS: &str = "measurements and documents, against the artifacts";

/// What was found out about a release.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The very files that were looked at.
    pub on_disk: Arc<OnDisk>,
    /// The digest of the manifest as it lies there: it names the release, if there are no findings.
    pub release: Option<Sha256>,
    pub manifest: Option<Manifest>,
    /// The generation record, if the release is signed and somebody asked.
    pub record: Option<Record>,
    /// Whether it is known what its artifacts lead to: nothing is wrong with any file.
    pub measured: bool,
    /// Reasons not to trust it.
    pub findings: Vec<Finding>,
}

/// A release against which nothing was found. Whoever wants to use what a release says asks for one: no verdict with
/// findings gives it.
#[derive(Clone, Debug)]
pub struct Judged {
    pub on_disk: Arc<OnDisk>,
    pub manifest: Manifest,
    /// If it is signed.
    pub record: Option<Record>,
}

/// Compares every file of the release in `folder` with its manifest, and the manifest with the digest that is wanted.
///
/// # Errors
/// A folder that cannot be read. Everything that is wrong with what is in it is a finding.
pub fn verify(folder: &Path, wanted: Option<Sha256>) -> Result<Verdict> {
    let mut verdict = begin(folder, wanted)?;
    if let Some(manifest) = &verdict.manifest {
        let found = Listed::new(&verdict.on_disk, manifest).compare();
        verdict.findings.extend(found);
    }
    verdict.see_changes();
    Ok(verdict)
}

/// As [`verify`]; verifies what is signed about the release, too, and compares what its artifacts lead to with what it
/// predicts.
///
/// # Errors
/// As [`verify`].
pub fn verify_whole(folder: &Path, wanted: Option<Sha256>, demand: &Demand) -> Result<Verdict> {
    let mut verdict = begin(folder, wanted)?;
    let Some(manifest) = &verdict.manifest else {
        return Ok(verdict);
    };
    let on_disk = &verdict.on_disk;
    let listed = Listed::new(on_disk, manifest);
    let measurable = verdict.findings.is_empty() && listed.is_whole();
    let artifacts = || {
        if measurable {
            recompute(on_disk, manifest)
        } else {
            Vec::new()
        }
    };
    let signed = || signatures::verify(on_disk, manifest, demand);
    let (found, (artifacts, (record, signed))) = both(|| listed.compare(), || both(artifacts, signed));
    let intact = measurable && found.is_empty();
    let has_recipe = |finding: &Finding| !matches!(finding, Finding::RecipeUnreadable { .. });
    verdict.measured = intact && artifacts.iter().all(has_recipe);
    let artifacts = artifacts.into_iter().filter(|_| intact);
    verdict
        .findings
        .extend(found.into_iter().chain(signed).chain(artifacts));
    verdict.record = record;
    verdict.see_changes();
    Ok(verdict)
}

/// As [`verify_whole`], for who hands it on: whoever has signed it, and whether or not it is valid now, or has a recipe that
/// can be read; without that, it is not [measured](Verdict::measured).
///
/// # Errors
/// As [`verify`].
pub fn verify_at_any_time(folder: &Path, wanted: Option<Sha256>) -> Result<Verdict> {
    let demand = Demand {
        key: None,
        at: Timestamp::UNIX_EPOCH,
    };
    let mut verdict = verify_whole(folder, wanted, &demand)?;
    let judged = |finding: &Finding| !finding.is_about_time() && !matches!(finding, Finding::RecipeUnreadable { .. });
    verdict.findings.retain(judged);
    Ok(verdict)
}

/// As [`verify_at_any_time`]; returns the release, if nothing is wrong with it.
///
/// # Errors
/// A release with findings.
pub fn judge(folder: &Path) -> Result<Judged> {
    verify_at_any_time(folder, None)?.judged()
}

impl Verdict {
    /// Returns the release, if nothing is wrong with it.
    ///
    /// # Errors
    /// The first finding.
    pub fn judged(self) -> Result<Judged> {
        match (self.manifest, self.findings.first()) {
            (Some(manifest), None) => Ok(Judged {
                on_disk: self.on_disk,
                manifest,
                record: self.record,
            }),
            (_, finding) => {
                let finding = finding.map(ToString::to_string).unwrap_or_default();
                let shown = self.on_disk.shown();
                let problem = format!("{shown} is not what it says: {finding}");
                Err(Exit::No.because(problem, format!("see all that is wrong with it: begat verify {shown}")))
            }
        }
    }

    /// Adds what somebody has written to since the release was opened.
    pub fn see_changes(&mut self) {
        let changed = self.on_disk.changed().into_iter();
        for finding in changed.map(|file| Finding::FileChanged { file }) {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }
}

impl Judged {
    /// Returns the text of one of its files: the one that was judged.
    ///
    /// # Errors
    /// A file that it has not, or that somebody has changed meanwhile.
    pub fn text(&self, name: &str) -> Result<String> {
        let problem = || format!("cannot read {name} of {}", self.on_disk.shown());
        self.on_disk
            .text(name)
            .or_mend(Exit::No, problem(), "build the release again")
    }

    /// Returns what it predicts.
    ///
    /// # Errors
    /// A release that predicts nothing.
    pub fn measurements(&self) -> Result<Measurements> {
        Measurements::parse(&self.text(file::MEASUREMENTS)?)
    }
}

/// Opens the folder and reads the manifest; returns what is to be said of it alone.
fn begin(folder: &Path, wanted: Option<Sha256>) -> Result<Verdict> {
    let on_disk = OnDisk::open(folder)?;
    let read = read_manifest(&on_disk);
    let release = read.as_ref().ok().map(|(release, _)| *release);
    let differs = release.zip(wanted).filter(|(found, wanted)| found != wanted);
    let differs = differs.map(|(found, wanted)| Finding::ReleaseDiffers { found, wanted });
    let (manifest, found) = match read.and_then(|(_, text)| parse(&text)) {
        Ok(manifest) => (Some(manifest), None),
        Err(finding) => (None, Some(finding)),
    };
    Ok(Verdict {
        on_disk: Arc::new(on_disk),
        release,
        manifest,
        record: None,
        measured: false,
        findings: differs.into_iter().chain(found).collect(),
    })
}

/// The digest and the text of the manifest: the very bytes that are parsed are those that were hashed.
fn read_manifest(on_disk: &OnDisk) -> Result<(Sha256, String), Finding> {
    match on_disk.text(MANIFEST) {
        Ok(text) => Ok((Sha256::of(&text), text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Finding::ManifestMissing),
        Err(error) => Err(Finding::ManifestInvalid {
            why: quoted(format_args!("cannot read {MANIFEST}: {error}")),
        }),
    }
}

fn parse(text: &str) -> Result<Manifest, Finding> {
    Manifest::parse(text).map_err(|error| Finding::ManifestInvalid {
        why: quoted(format_args!("{error:#}")),
    })
}

/// A release as its folder lists it: what is wrong with that is found before any file is read.
struct Listed<'a> {
    on_disk: &'a OnDisk,
    manifest: &'a Manifest,
    files: BTreeMap<&'a FileName, Arc<Opened>>,
    unlike: BTreeMap<&'a FileName, Finding>,
    strangers: Vec<Finding>,
}

impl<'a> Listed<'a> {
    fn new(on_disk: &'a OnDisk, manifest: &'a Manifest) -> Self {
        let entries = on_disk.entries();
        let kinds: BTreeMap<&Path, Kind> = entries.iter().map(|entry| (entry.path.as_path(), entry.kind)).collect();
        let (mut files, mut unlike) = (BTreeMap::new(), BTreeMap::new());
        for (name, stamp) in &manifest.files {
            let kind = kinds.get(Path::new(name.as_str())).copied();
            match open(on_disk, name, stamp.size, kind) {
                Ok(file) => drop(files.insert(name, file)),
                Err(finding) => drop(unlike.insert(name, finding)),
            }
        }
        Self {
            on_disk,
            manifest,
            files,
            unlike,
            strangers: strangers(manifest, entries),
        }
    }

    /// Whether it is all there, and nothing else is.
    fn is_whole(&self) -> bool {
        self.unlike.is_empty() && self.strangers.is_empty()
    }

    /// Reads the files, and returns what is wrong with all of it.
    fn compare(&self) -> Vec<Finding> {
        let mut found = self.unlike.clone();
        found.extend(self.digests());
        lock(self.manifest)
            .into_iter()
            .chain(found.into_values())
            .chain(self.strangers.iter().cloned())
            .chain(secure_boot::verify(self.on_disk, self.manifest))
            .collect()
    }

    fn digests(&self) -> Vec<(&'a FileName, Finding)> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(_, file)| Reverse(file.len())); // the largest first, so that no core waits at the end
        let opened: Vec<&Opened> = files.iter().map(|(_, file)| &***file).collect();
        let found = files.into_iter().zip(stamps(&opened));
        let found =
            found.filter_map(|((name, _), found)| Some((*name, differs(name, self.manifest.files[*name], found)?)));
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

/// Opens a file. Compares what it is, then its size: one of another size, or larger than such a file is, is not read.
fn open(on_disk: &OnDisk, name: &FileName, wanted: u64, kind: Option<Kind>) -> Result<Arc<Opened>, Finding> {
    let file = name.clone();
    match kind {
        None => return Err(Finding::FileMissing { file }),
        Some(Kind::File) => {}
        Some(kind) => {
            let what = kind.to_string();
            return Err(Finding::NotAFile { file, what });
        }
    }
    let opened = on_disk
        .file(name.as_str())
        .map_err(|error| unreadable(file.clone(), &error))?;
    let (found, limit) = (opened.len(), file::limit(name.as_str()));
    match () {
        () if found != wanted => Err(Finding::SizeDiffers { file, found, wanted }),
        () if found > limit => Err(Finding::FileTooLarge { file, found, limit }),
        () => Ok(opened),
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
    let why = quoted(error);
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
