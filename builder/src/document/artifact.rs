//! A release as OCI artifacts: the release itself, and what refers to it.
//!
//! The artifact of a release holds what its manifest lists, and the manifest: every rebuilder gets the same artifact,
//! down to its digest. What belongs to one build (provenance, record, signatures, evidence) is an artifact of its own
//! whose subject is the release, so that rebuilders attach theirs beside it. Documents that tools of others look for
//! are attached once more, each alone, under the type that these tools know.

use crate::model::oci::{CREATED, Descriptor, Digest, Manifest, TITLE};
use crate::model::release::{self, MANIFEST, Stamp};

/// What a release is as an artifact.
pub const RELEASE: &str = "application/vnd.begat.release.v1";

/// What the files of one build are as an artifact.
pub const BUILD: &str = "application/vnd.begat.build.v1";

/// Media type of `manifest.json`.
const RELEASE_MANIFEST: &str = "application/vnd.begat.manifest.v1+json";

/// Media types by the end of a file's name, the longest first where two fit.
const MEDIA_TYPES: [(&str, &str); 21] = [
    (".sigstore.json", "application/vnd.dev.sigstore.bundle.v0.3+json"),
    (".intoto.json", "application/vnd.in-toto+json"),
    (".spdx.json", "application/spdx+json"),
    (".spdx3.json", "application/spdx+json"),
    (".cdx.json", "application/vnd.cyclonedx+json"),
    (".json", "application/json"),
    (".jsonl", "application/jsonl"),
    (".toml", "application/toml"),
    (".lock", "application/toml"),
    (".yaml", "application/yaml"),
    (".rego", "text/plain"),
    (".corim", "application/rim+cbor"),
    (".buildinfo", "text/plain"),
    ("cmdline", "text/plain"),
    (".efi", "application/vnd.microsoft.portable-executable"),
    ("vmlinuz", "application/vnd.microsoft.portable-executable"),
    (".cpio.zst", "application/vnd.begat.initrd.v1.cpio+zstd"),
    (".erofs", "application/vnd.begat.image.v1.erofs"),
    (".verity", "application/vnd.begat.verity.v1"),
    (".raw", "application/vnd.begat.disk.v1.raw"),
    (".fd", "application/vnd.begat.firmware.v1"),
];

/// The ends of the names of documents that are attached under their own type.
const DOCUMENTS: [&str; 5] = [
    ".sigstore.json",
    ".intoto.json",
    ".spdx.json",
    ".spdx3.json",
    ".cdx.json",
];

/// Returns the release as an artifact: the same for the same release.
pub fn release(manifest: &release::Manifest) -> Manifest {
    let listed = manifest.files.iter().map(|(name, stamp)| layer(name.as_str(), *stamp));
    let own = manifest_stamp(manifest);
    let mut artifact = Manifest::artifact(RELEASE, listed.chain([layer(MANIFEST, own)]).collect());
    let origin = &manifest.origin;
    artifact.annotations.insert(CREATED.into(), origin.epoch.to_string());
    artifact.annotations.insert(TITLE.into(), origin.name.to_string());
    artifact
}

/// Returns the files of one build as an artifact about the release.
pub fn build<'a>(subject: &Descriptor, files: impl Iterator<Item = (&'a str, Stamp)>) -> Manifest {
    about(subject, BUILD, files.map(|(name, stamp)| layer(name, stamp)).collect())
}

/// Returns one document as an artifact about the release; none where tools of others do not look for such a file.
pub fn document(subject: &Descriptor, name: &str, stamp: Stamp) -> Option<Manifest> {
    let known = DOCUMENTS.iter().any(|end| name.ends_with(end));
    known.then(|| about(subject, media_type(name), vec![layer(name, stamp)]))
}

fn about(subject: &Descriptor, artifact_type: &str, layers: Vec<Descriptor>) -> Manifest {
    let mut artifact = Manifest::artifact(artifact_type, layers);
    if let [only] = artifact.layers.as_slice() {
        artifact.annotations.clone_from(&only.annotations);
    }
    artifact.annotations.extend(
        subject
            .annotations
            .get_key_value(CREATED)
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    let (artifact_type, annotations) = (None, [].into());
    artifact.subject = Some(Descriptor {
        artifact_type,
        annotations,
        ..subject.clone()
    });
    artifact
}

fn layer(name: &str, stamp: Stamp) -> Descriptor {
    Descriptor {
        media_type: media_type(name).into(),
        digest: Digest(stamp.sha256),
        size: stamp.size,
        artifact_type: None,
        annotations: [(TITLE.into(), name.into())].into(),
    }
}

/// The size and digest of the manifest itself, which does not list itself.
fn manifest_stamp(manifest: &release::Manifest) -> Stamp {
    let size = manifest.text().len() as u64;
    Stamp {
        sha256: manifest.digest(),
        size,
    }
}

fn media_type(name: &str) -> &'static str {
    if name == MANIFEST {
        return RELEASE_MANIFEST;
    }
    let found = MEDIA_TYPES.iter().find(|(end, _)| name.ends_with(end));
    found.map_or("application/octet-stream", |(_, media_type)| media_type)
}
