//! OCI image and distribution specifications 1.1, as far as a release or a payload needs them: references,
//! descriptors, manifests and indexes. What others have written may hold more; what is not read here is passed over.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use measure::Sha256;
use serde::{Deserialize, Serialize};

/// Media type of an image manifest, which artifacts use too.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Media type of an index: what the referrers API answers with, and what a fallback tag names.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Media type of the two bytes `{}`, the configuration of what has none.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The annotation that names a file.
pub const TITLE: &str = "org.opencontainers.image.title";

/// The annotation that dates an artifact.
pub const CREATED: &str = "org.opencontainers.image.created";

/// The bytes of an [`EMPTY`] configuration.
pub const EMPTY_BYTES: &[u8] = b"{}";

/// A digest with its algorithm: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub Sha256);

/// Bytes in a registry: what they are, their digest and their size.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An artifact: its blobs, and what it is about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

/// Where an artifact is: `HOST[:PORT]/REPOSITORY:TAG` or `HOST[:PORT]/REPOSITORY@sha256:…`; no host is implied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    pub host: String,
    pub repository: String,
    pub name: Name,
}

/// Which manifest of a repository: by what somebody calls it today, or by what it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Name {
    Tag(String),
    Digest(Digest),
}

impl Digest {
    /// Returns the digest of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::of(bytes))
    }

    /// Returns the tag under which an index lists what refers to this manifest, where a registry has no referrers API.
    pub fn fallback_tag(&self) -> String {
        format!("sha256-{}", self.0)
    }
}

impl Descriptor {
    /// Returns the descriptor of these bytes.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self {
            media_type: media_type.into(),
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the name of the file that these bytes are, where they have one.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

impl Manifest {
    /// Returns an artifact of these layers, without configuration.
    pub fn artifact(artifact_type: &str, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.into(),
            artifact_type: Some(artifact_type.into()),
            config: Descriptor::of(EMPTY, EMPTY_BYTES),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Returns the one text that this manifest has.
    pub fn text(&self) -> String {
        super::json(self)
    }

    /// Returns what an index says about this manifest.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            artifact_type: self.artifact_type.clone(),
            annotations: self.annotations.clone(),
            ..Descriptor::of(MANIFEST, self.text().as_bytes())
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        let wrong = || format!("a digest is sha256: and 64 lower-case hexadecimal digits; found {text:?}");
        hex.map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if let Name::Tag(_) = self.name { ':' } else { '@' };
        write!(f, "{}/{}{sign}{}", self.host, self.repository, self.name)
    }
}

impl FromStr for Reference {
    type Err = String;

    /// With a tag and a digest the digest counts, as elsewhere.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("{what}: a reference is HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:…; found {text:?}")
        };
        let (host, rest) = text.split_once('/').ok_or_else(|| wrong("it names no registry"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| wrong("its digest is none"))?)),
            None => (rest, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if !is_host(host) {
            return Err(wrong("its registry is no host"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(wrong("its repository is none"));
        }
        if !tag.is_none_or(is_tag) {
            return Err(wrong("its tag is none"));
        }
        let tag = tag.map(|tag| Name::Tag(tag.to_owned()));
        let name = digest.map(Name::Digest).or(tag);
        Ok(Self {
            host: host.into(),
            repository: repository.into(),
            name: name.ok_or_else(|| wrong("it has neither tag nor digest"))?,
        })
    }
}

impl TryFrom<String> for Reference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A host is told from a part of a path by its dot or its port, as everywhere.
fn is_host(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let named = host == "localhost" || host.contains(['.', ':']);
    named
        && host.len() <= 255
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && host.chars().all(plain)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(part: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = part.split(word).filter(|between| !between.is_empty());
    let known = |between: &str| matches!(between, "." | "_" | "__") || between.bytes().all(|byte| byte == b'-');
    part.starts_with(word) && part.ends_with(word) && separators.into_iter().all(known)
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= 128 && tag.starts_with(first) && tag.chars().all(|c| first(c) || ".-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_those_of_the_specification() {
        let digest = Digest::of("").to_string();
        for good in [
            "localhost/a:1".to_owned(),
            "localhost:5000/a/b__c/d-e.f:v1.0_x-y".to_owned(),
            "[::1]:5000/a:latest".to_owned(),
            format!("registry.example/a@{digest}"),
        ] {
            assert_eq!(good.parse::<Reference>().map(|found| found.to_string()), Ok(good));
        }
        let both = format!("registry.example/a:1@{digest}").parse::<Reference>();
        assert_eq!(
            both.map(|found| found.to_string()),
            Ok(format!("registry.example/a@{digest}"))
        );
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for (bad, why) in [
            ("a:1", "no registry"),
            ("library/a:1", "no host"),
            ("user@registry.example/a:1", "no host"),
            ("registry.example/a", "neither tag nor digest"),
            ("registry.example/A:1", "its repository"),
            ("registry.example/a/../b:1", "its repository"),
            ("registry.example/a//b:1", "its repository"),
            ("registry.example/a?b:1", "its repository"),
            ("registry.example/a:../x", "its tag"),
            ("registry.example/a:", "its tag"),
            ("registry.example/a@sha512:00", "its digest"),
            ("registry.example/a@sha256:00", "its digest"),
        ] {
            let refusal = bad.parse::<Reference>().expect_err(bad);
            assert!(refusal.contains(why), "{bad}: {refusal}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_is_a_reference_that_reads_back(text in "[a-z0-9.:/@_\\-\\[\\]]{0,90}|.{0,40}") {
            if let Ok(found) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(found.to_string().parse::<Reference>(), Ok(found));
            }
        }
    }

    /// The descriptor of the empty configuration in the image specification 1.1, "Guidance for an Empty Descriptor".
    #[test]
    fn the_empty_configuration_is_that_of_the_specification() {
        let empty = Descriptor::of(EMPTY, EMPTY_BYTES);
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!((empty.digest.to_string().as_str(), empty.size), (digest, 2));
    }
}
