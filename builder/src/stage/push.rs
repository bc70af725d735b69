//! Release in, registry out: blobs first, then what refers to the release, then the release itself under its tag.
//!
//! The tag is written last and in one request: a push that dies before it leaves blobs that nothing names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use serde::Serialize;

use crate::document::artifact;
use crate::mend::Exit;
use crate::model::oci::{self, Descriptor, Digest, Name};
use crate::model::release::{MANIFEST, Manifest, Stamp};
use crate::stage::say;
use crate::stage::verify::verify_at_any_time;
use crate::world::files::{self, Kind};
use crate::world::registry::{Blob, Registry};

/// What a push did.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pushed {
    /// The digest of `manifest.json`: it names the release.
    pub release: Sha256,
    /// The digest of the release's artifact.
    pub artifact: Digest,
    /// What refers to it, by its type.
    pub attached: Vec<Attached>,
    /// Files that were sent.
    pub sent: usize,
    /// Files that the registry had.
    pub there: usize,
    /// Whether the registry lists what refers to the release by itself, not by the fallback tag; none attached: absent.
    pub referrers_api: Option<bool>,
}

/// An artifact that refers to the release.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Attached {
    pub artifact_type: String,
    pub digest: Digest,
    /// The file that it is, where it is one.
    pub file: Option<String>,
}

/// What to do with a tag that names another artifact already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tagged {
    Refuse,
    Move,
}

/// A release on its way, with the sizes and digests of its files.
struct Push<'a> {
    folder: &'a Path,
    registry: &'a Registry,
    stamps: BTreeMap<String, Stamp>,
}

/// Sends the release in `folder` to the registry and names it `tag`.
///
/// # Errors
/// A release with findings; a tag that names another; a registry that fails or refuses.
pub fn push(folder: &Path, registry: &Registry, tag: &str, tagged: Tagged) -> Result<Pushed> {
    let manifest = whole(folder)?;
    let push = Push {
        folder,
        registry,
        stamps: stamps(folder, &manifest)?,
    };
    let artifact = artifact::release(&manifest);
    let (text, descriptor) = (artifact.text(), artifact.descriptor());
    let tag = Name::Tag(tag.to_owned());
    free(registry, &tag, &descriptor.digest, tagged)?;
    let (sent, there) = push.blobs()?;
    let attached = push.attachments(&manifest, &descriptor);
    let referrers_api = push.attach(&descriptor.digest, &attached)?;
    registry.put_manifest(&tag, oci::MANIFEST, text.as_bytes())?;
    Ok(Pushed {
        release: manifest.digest(),
        artifact: descriptor.digest,
        attached: attached.iter().map(described).collect(),
        sent,
        there,
        referrers_api,
    })
}

/// The manifest of a release without findings.
fn whole(folder: &Path) -> Result<Manifest> {
    let verdict = verify_at_any_time(folder, None)?;
    match (verdict.manifest, verdict.findings.first()) {
        (Some(manifest), None) => Ok(manifest),
        (_, finding) => {
            let finding = finding.map(ToString::to_string).unwrap_or_default();
            let problem = format!("{} is not what it says: {finding}", folder.display());
            Err(Exit::No.because(
                problem,
                format!("see all that is wrong with it: begat verify {}", folder.display()),
            ))
        }
    }
}

/// The stamps of all files: those that the manifest lists, its own, and those of this build.
fn stamps(folder: &Path, manifest: &Manifest) -> Result<BTreeMap<String, Stamp>> {
    let listed = manifest
        .files
        .iter()
        .map(|(name, stamp)| (name.as_str().to_owned(), *stamp));
    let mut stamps: BTreeMap<String, Stamp> = listed.collect();
    for entry in files::list(folder)?
        .into_iter()
        .filter(|entry| entry.kind == Kind::File)
    {
        let name = entry
            .path
            .to_str()
            .context("the release has a file whose name is no UTF-8")?;
        if !stamps.contains_key(name) {
            let stamp = files::open(&folder.join(name)).and_then(|mut file| files::stamp(&mut file));
            stamps.insert(name.to_owned(), stamp.with_context(|| format!("cannot read {name}"))?);
        }
    }
    Ok(stamps)
}

/// Refuses a tag that names something else, before anything is sent.
fn free(registry: &Registry, tag: &Name, digest: &Digest, tagged: Tagged) -> Result<()> {
    match registry.manifest(tag)?.map(Digest::of) {
        Some(found) if found != *digest && tagged == Tagged::Refuse => {
            let problem = format!("the tag {tag} names {found} there, and this release is {digest}");
            Err(Exit::Usage.because(problem, "choose another tag, or move this one: --force"))
        }
        _ => Ok(()),
    }
}

impl Push<'_> {
    /// Sends what the registry lacks; returns how many files that were, and how many were there.
    fn blobs(&self) -> Result<(usize, usize)> {
        let mut sent = 0;
        let empty = tempfile::tempdir()?;
        std::fs::write(empty.path().join("{}"), oci::EMPTY_BYTES)?;
        let config = Stamp {
            sha256: Sha256::of(oci::EMPTY_BYTES),
            size: oci::EMPTY_BYTES.len() as u64,
        };
        let files = self
            .stamps
            .iter()
            .map(|(name, stamp)| (self.folder, name.as_str(), *stamp));
        for (folder, name, stamp) in files.chain([(empty.path(), "{}", config)]) {
            let blob = Blob {
                name: name.to_owned(),
                stamp,
            };
            if !self.registry.has_blob(&blob)? {
                say("push", &format!("{name}, {} bytes", stamp.size));
                let mut file = files::open(&folder.join(name)).with_context(|| format!("cannot open {name}"))?;
                self.registry.push_blob(&blob, &mut file)?;
                sent += 1;
            }
        }
        Ok((sent, self.stamps.len() + 1 - sent))
    }

    /// What refers to the release: documents that others look for, and the files of this build together.
    fn attachments(&self, manifest: &Manifest, subject: &Descriptor) -> Vec<oci::Manifest> {
        let documents = self
            .stamps
            .iter()
            .filter_map(|(name, stamp)| artifact::document(subject, name, *stamp));
        let mut attached: Vec<oci::Manifest> = documents.collect();
        let listed = |name: &str| name == MANIFEST || manifest.files.keys().any(|file| file.as_str() == name);
        let own: Vec<_> = self.stamps.iter().filter(|(name, _)| !listed(name)).collect();
        if !own.is_empty() {
            attached.push(artifact::build(
                subject,
                own.into_iter().map(|(name, stamp)| (name.as_str(), *stamp)),
            ));
        }
        attached
    }

    /// Sends what refers to the release, and lists it where the registry does not do so itself.
    fn attach(&self, subject: &Digest, attached: &[oci::Manifest]) -> Result<Option<bool>> {
        let mut listed = None;
        for artifact in attached {
            let (text, name) = (artifact.text(), Name::Digest(artifact.descriptor().digest));
            let known = self.registry.put_manifest(&name, oci::MANIFEST, text.as_bytes())?;
            listed = Some(listed.unwrap_or(true) && known);
        }
        if listed == Some(false) {
            let descriptors: Vec<Descriptor> = attached.iter().map(oci::Manifest::descriptor).collect();
            self.registry.list_referrers(subject, &descriptors)?;
        }
        Ok(listed)
    }
}

fn described(artifact: &oci::Manifest) -> Attached {
    let descriptor = artifact.descriptor();
    Attached {
        artifact_type: artifact.artifact_type.clone().unwrap_or_default(),
        digest: descriptor.digest,
        file: descriptor.title().map(str::to_owned),
    }
}
