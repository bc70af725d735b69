//! Release in, registry out: blobs first, then what refers to the release, then the release itself under its tag.
//!
//! The tag is written last and in one request: a push that dies before it leaves blobs that nothing names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::{ReadAt, Sha256};
use serde::Serialize;

use crate::document::artifact;
use crate::mend::Exit;
use crate::model::oci::{self, Descriptor, Digest, Name};
use crate::model::release::{MANIFEST, Manifest, Stamp};
use crate::stage::on_disk::OnDisk;
use crate::stage::say;
use crate::stage::verify::{self, Judged};
use crate::world::files::Kind;
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
    release: &'a OnDisk,
    registry: &'a Registry,
    stamps: BTreeMap<String, Stamp>,
}

/// Sends the release in `folder` to the registry and names it `tag`.
///
/// # Errors
/// A release with findings; a tag that names another; a registry that fails or refuses.
pub fn push(folder: &Path, registry: &Registry, tag: &str, tagged: Tagged) -> Result<Pushed> {
    let Judged { on_disk, manifest, .. } = verify::judge(folder)?;
    let push = Push {
        release: &on_disk,
        registry,
        stamps: stamps(&on_disk)?,
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

/// The stamps of all files: those that were judged.
fn stamps(release: &OnDisk) -> Result<BTreeMap<String, Stamp>> {
    let entries = release.entries().iter().filter(|entry| entry.kind == Kind::File);
    let stamps = entries.map(|entry| {
        let name = entry
            .path
            .to_str()
            .context("the release has a file whose name is no UTF-8")?;
        let stamp = release.file(name).and_then(|file| file.stamp());
        Ok((name.to_owned(), stamp.with_context(|| format!("cannot read {name}"))?))
    });
    stamps.collect()
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
        for (name, stamp) in &self.stamps {
            let file = self.release.file(name).with_context(|| format!("cannot open {name}"))?;
            sent += usize::from(self.blob(name, *stamp, &*file)?);
        }
        let config = Stamp {
            sha256: Sha256::of(oci::EMPTY_BYTES),
            size: oci::EMPTY_BYTES.len() as u64,
        };
        sent += usize::from(self.blob("{}", config, &oci::EMPTY_BYTES)?);
        Ok((sent, self.stamps.len() + 1 - sent))
    }

    /// Sends a file if the registry lacks it; returns whether it did.
    fn blob(&self, name: &str, stamp: Stamp, file: &dyn ReadAt) -> Result<bool> {
        let name = name.to_owned();
        let blob = Blob { name, stamp };
        let lacks = !self.registry.has_blob(&blob)?;
        if lacks {
            say("push", &format!("{}, {} bytes", blob.name, stamp.size));
            self.registry.push_blob(&blob, file)?;
        }
        Ok(lacks)
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
