//! Registry in, release out: every digest is checked, then the release, and only then does anything appear.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Error, Result};
use measure::Sha256;

use crate::document::artifact;
use crate::mend::{Exit, OrMend as _};
use crate::model::oci::{self, Descriptor, Digest, Name, Reference};
use crate::model::release::{FileName, MANIFEST, Manifest, Stamp};
use crate::stage::release::Staging;
use crate::stage::verify::{is_of_a_build, verify_at_any_time};
use crate::world::registry::{Blob, Registry};
use crate::world::store::Store;

/// What a `manifest.json` has at most, in bytes, as for `begat verify`.
const MANIFEST_LIMIT: u64 = 64 << 20;

/// What a release has at most, in bytes.
const LIMIT: u64 = 1 << 40;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub reference: Reference,
    /// The digest of `manifest.json` that the release must have.
    pub release: Option<Sha256>,
    /// Whose files of one build shall come along, where several have attached theirs.
    pub build: Option<Digest>,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub manifest: Manifest,
    pub artifact: Digest,
    /// The artifact with the files of one build; none is attached: absent.
    pub build: Option<Digest>,
}

/// Brings a release into the staging folder, verifies it, and gives it its name.
///
/// # Errors
/// A registry that fails; anything that is not a whole release, or not the one that is wanted.
pub fn pull(wanted: &Wanted, registry: &Registry, store: &Store, staging: Staging) -> Result<Pulled> {
    let (release, digest) = read_artifact(registry, &wanted.reference.name, artifact::RELEASE)?;
    let mut files = files(&release)?;
    let manifest = read_manifest(&files, wanted.release, registry, store)?;
    agree(&manifest, &files)?;
    let build = build(registry, &digest, wanted.build)?;
    if let Some(build) = &build {
        files.extend(files_of(build, &digest, registry, &manifest)?);
    }
    bounded(&files)?;
    fetch(&files, registry, store, staging.folder())?;
    check(staging.folder(), manifest.digest())?;
    staging.adopt()?;
    Ok(Pulled {
        manifest,
        artifact: digest,
        build,
    })
}

fn no(problem: String) -> Error {
    Exit::No.because(
        problem,
        "do not use it: pull a release whose digest you know, with --digest",
    )
}

/// Reads a manifest of this type; returns it with its digest.
fn read_artifact(registry: &Registry, name: &Name, artifact_type: &str) -> Result<(oci::Manifest, Digest)> {
    let absent = || {
        Exit::Outside.because(
            format!("there is no {name} in that repository"),
            "see which tags there are",
        )
    };
    let bytes = registry.manifest(name)?.ok_or_else(absent)?;
    let problem = || format!("{name} is no manifest");
    let found: oci::Manifest = serde_json::from_slice(&bytes).or_mend(Exit::No, problem(), "name a release")?;
    if found.artifact_type.as_deref() != Some(artifact_type) {
        let kind = found.artifact_type.as_deref().unwrap_or("an image");
        return Err(Exit::No.because(format!("{name} is {kind:?}, not {artifact_type}"), "name a release"));
    }
    Ok((found, Digest::of(&bytes)))
}

/// The files of an artifact by their names: plain paths, each once.
fn files(artifact: &oci::Manifest) -> Result<BTreeMap<String, Stamp>> {
    let mut files = BTreeMap::new();
    for layer in &artifact.layers {
        let name = layer
            .title()
            .ok_or_else(|| no(format!("the layer {} has no name", layer.digest)))?;
        if name != MANIFEST {
            FileName::try_from(name.to_owned()).map_err(no)?;
        }
        let Descriptor { digest, size, .. } = layer;
        let stamp = Stamp {
            sha256: digest.0,
            size: *size,
        };
        if files.insert(name.to_owned(), stamp).is_some() {
            return Err(no(format!("there are two files {name}")));
        }
    }
    Ok(files)
}

/// The files of a build of this release: those that a build may have.
fn files_of(
    build: &Digest,
    release: &Digest,
    registry: &Registry,
    manifest: &Manifest,
) -> Result<BTreeMap<String, Stamp>> {
    let (artifact, _) = read_artifact(registry, &Name::Digest(*build), artifact::BUILD)?;
    if artifact.subject.as_ref().map(|subject| subject.digest) != Some(*release) {
        return Err(no(format!("{build} is a build of another release")));
    }
    let files = files(&artifact)?;
    let of_a_build = |name: &str| {
        let listed = manifest.files.keys().any(|file| file.as_str() == name);
        !listed && is_of_a_build(Path::new(name), manifest)
    };
    match files.keys().find(|name| !of_a_build(name)) {
        Some(name) => Err(no(format!("{build} brings the file {name}, which is none of a build"))),
        None => Ok(files),
    }
}

/// Refuses what would fill any disk: only whoever wrote the artifact says how large its files are.
fn bounded(files: &BTreeMap<String, Stamp>) -> Result<()> {
    let size = files.values().fold(0_u64, |sum, stamp| sum.saturating_add(stamp.size));
    match size > LIMIT {
        true => Err(no(format!("its files have {size} bytes, more than any release"))),
        false => Ok(()),
    }
}

fn read_manifest(
    files: &BTreeMap<String, Stamp>,
    wanted: Option<Sha256>,
    registry: &Registry,
    store: &Store,
) -> Result<Manifest> {
    let stamp = *files
        .get(MANIFEST)
        .ok_or_else(|| no(format!("there is no {MANIFEST} in it")))?;
    if let Some(wanted) = wanted.filter(|wanted| *wanted != stamp.sha256) {
        return Err(no(format!("the release is {}, wanted {wanted}", stamp.sha256)));
    }
    if stamp.size > MANIFEST_LIMIT {
        return Err(no(format!("{MANIFEST} has {} bytes, more than any", stamp.size)));
    }
    registry.fetch(
        store,
        &[Blob {
            name: MANIFEST.into(),
            stamp,
        }],
    )?;
    let text = String::from_utf8(store.bytes(&stamp.sha256, stamp.size)?);
    Manifest::parse(&text.map_err(|_| no(format!("{MANIFEST} is no text")))?)
}

/// The artifact lists what the manifest lists, no more and no less: so nothing else is fetched.
fn agree(manifest: &Manifest, files: &BTreeMap<String, Stamp>) -> Result<()> {
    let listed = manifest.files.iter().map(|(name, stamp)| (name.as_str(), *stamp));
    let listed: BTreeMap<&str, Stamp> = listed.collect();
    let there = files.iter().filter(|(name, _)| *name != MANIFEST);
    let there: BTreeMap<&str, Stamp> = there.map(|(name, stamp)| (name.as_str(), *stamp)).collect();
    let names = listed.keys().chain(there.keys());
    match names.into_iter().find(|name| listed.get(*name) != there.get(*name)) {
        Some(name) => Err(no(format!(
            "the artifact and the release's {MANIFEST} do not agree about {name}"
        ))),
        None => Ok(()),
    }
}

/// Whose files of one build come along: the only ones, or those that were named.
fn build(registry: &Registry, release: &Digest, wanted: Option<Digest>) -> Result<Option<Digest>> {
    let found = registry.referrers(release)?.into_iter();
    let builds = found.filter(|found| found.artifact_type.as_deref() == Some(artifact::BUILD));
    let builds: Vec<Digest> = builds.map(|build| build.digest).collect();
    match (wanted, builds.as_slice()) {
        (Some(wanted), builds) if builds.contains(&wanted) => Ok(Some(wanted)),
        (Some(wanted), _) => Err(no(format!("nobody has attached the build {wanted} to that release"))),
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(*only)),
        (None, several) => {
            let several: Vec<String> = several.iter().map(|build| format!("\n  {build}")).collect();
            let problem = format!(
                "{} builds of that release are attached:{}",
                several.len(),
                several.concat()
            );
            Err(Exit::Usage.because(problem, "say whose provenance and signatures you want: --build DIGEST"))
        }
    }
}

fn fetch(files: &BTreeMap<String, Stamp>, registry: &Registry, store: &Store, folder: &Path) -> Result<()> {
    let blobs = files.iter().map(|(name, stamp)| Blob {
        name: name.clone(),
        stamp: *stamp,
    });
    registry.fetch(store, &blobs.collect::<Vec<_>>())?;
    for (name, stamp) in files {
        let place = folder.join(name);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        store.copy_checked(&stamp.sha256, &place)?;
    }
    Ok(())
}

fn check(folder: &Path, release: Sha256) -> Result<()> {
    let verdict = verify_at_any_time(folder, Some(release))?;
    if verdict.findings.is_empty() {
        return Ok(());
    }
    let findings = verdict
        .findings
        .iter()
        .map(|finding| format!("\n  {}: {finding}", finding.code()));
    Err(no(format!(
        "what was pulled is no whole release:{}",
        findings.collect::<String>()
    )))
}
