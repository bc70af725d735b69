//! `[[payload]]`: files that no package archive has, pinned by digest: a program, a tar archive, a layer of an OCI
//! artifact. A recipe declares them, a lock says exactly which bytes they are.

use std::fmt;

use measure::Sha256;
use serde::{Deserialize, Serialize};

use super::artifacts::file;
use super::lock::leaves_its_folder;
use super::oci::{Name as OciName, Reference};
use super::program::{Compile, Compiled};
use super::recipe::Name;
use super::release::Stamp;
use super::supplier::Supplier;
use super::volume;

/// What a recipe wants.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Declared {
    pub name: Name,
    pub version: String,
    /// Absent: it is compiled, or whoever builds supplies the file.
    #[serde(default)]
    pub source: Option<Source>,
    /// Absent: that of the recipe's own file, of the artifact's only layer, or of what is supplied.
    #[serde(default)]
    pub sha256: Option<Sha256>,
    /// In bytes; absent: what the source says.
    #[serde(default)]
    pub size: Option<u64>,
    #[serde(flatten)]
    pub place: Place,
    /// Who makes it and hands it out; of what is compiled, that of the recipe where absent.
    #[serde(default)]
    pub supplier: Option<Supplier>,
    /// SPDX licence expression.
    #[serde(default)]
    pub licence: Option<String>,
    /// Package URL.
    #[serde(default)]
    pub purl: Option<String>,
    #[serde(default)]
    pub kind: Kind,
    /// How it is compiled.
    #[serde(default)]
    pub compile: Option<Compile>,
}

/// A payload by digest, as a lock names it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Payload {
    pub name: Name,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    pub sha256: Sha256,
    /// In bytes.
    pub size: u64,
    #[serde(flatten)]
    pub place: Place,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Supplier>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purl: Option<String>,
    #[serde(default, skip_serializing_if = "Kind::is_software")]
    pub kind: Kind,
    /// What it was compiled from: its digest is that of what came out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiled: Option<Compiled>,
}

/// What a payload is, for bills of materials.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Software,
    /// A model of machine learning.
    Model,
    /// A data set.
    Data,
}

impl Kind {
    fn is_software(&self) -> bool {
        *self == Self::Software
    }
}

/// Where a payload goes, and how.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    #[serde(default)]
    pub tree: Tree,
    /// The volume that it is in, and not in a tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<volume::Name>,
    /// Absolute path in the tree: of the file, or of the folder that is unpacked into.
    pub target: Target,
    /// Permissions of the file, `0644` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// It is a tar archive, compressed or not, and its members are wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unpack: bool,
    /// It may stand in the place of a file that a package or the recipe brought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

impl Place {
    /// Returns the file of a release that is the image which the payload is in.
    pub fn image(&self) -> String {
        match (&self.volume, self.tree) {
            (Some(volume), _) => volume.image(),
            (None, Tree::Root) => file::ROOT.into(),
            (None, Tree::Initrd) => file::INITRD.into(),
        }
    }
}

/// The tree that a payload enters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tree {
    #[default]
    Root,
    Initrd,
}

/// Where a payload can be had.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// A file of the recipe: its path below the recipe's folder.
    File(String),
    /// `https://…` or `http://…`.
    Url(String),
    /// `oci://HOST/REPOSITORY@sha256:…`: a blob of that artifact.
    Oci(String),
}

/// An absolute path without `.`, `..` and empty parts; the root folder is `/`.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target(String);

/// Permissions: three or four octal digits, without set-user-id, set-group-id and sticky bit.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u16);

impl Declared {
    /// Returns what of the declaration cannot be meant.
    pub fn problem(&self) -> Option<&'static str> {
        let Place {
            target, mode, unpack, ..
        } = &self.place;
        let nowhere = self.place.volume.is_some() && self.place.tree == Tree::Initrd;
        match self {
            _ if *unpack && mode.is_some() => Some("members of an archive have modes of their own: leave `mode` out"),
            _ if nowhere => Some("it is in a volume: leave `tree` out"),
            _ if !unpack && target.below().is_empty() => Some("its target is the root folder: name a file"),
            Self {
                source: Some(Source::Url(_)),
                sha256: None,
                ..
            } => Some("bytes from a URL need their `sha256`"),
            Self { purl: Some(purl), .. } if !purl.starts_with("pkg:") => Some("a package URL begins with `pkg:`"),
            Self {
                licence: Some(licence), ..
            } if spdx::Expression::parse(licence).is_err() => Some("its `licence` is no SPDX expression"),
            Self { version, .. } if version.trim().is_empty() => Some("its version is empty"),
            Self { compile: Some(_), .. } if self.is_given() => {
                Some("it is compiled: leave `source`, `sha256`, `size` and `unpack` out")
            }
            Self { compile, .. } => compile.as_ref().and_then(Compile::problem),
        }
    }

    fn is_given(&self) -> bool {
        self.source.is_some() || self.sha256.is_some() || self.size.is_some() || self.place.unpack
    }

    /// Returns the payload whose bytes have this size and digest.
    pub fn locked(&self, Stamp { sha256, size }: Stamp) -> Payload {
        Payload {
            name: self.name.clone(),
            version: self.version.clone(),
            source: self.source.clone(),
            sha256,
            size,
            place: self.place.clone(),
            supplier: self.supplier.clone(),
            licence: self.licence.clone(),
            purl: self.purl.clone(),
            kind: self.kind,
            compiled: None,
        }
    }

    /// Returns whether a lock may name this payload for it: it says nothing else than the declaration, and what that leaves
    /// open.
    pub fn leads_to(&self, payload: &Payload) -> bool {
        let compiled = payload.compiled.as_ref();
        let same = Payload {
            compiled: compiled.cloned(),
            ..self.locked(payload.stamp())
        };
        let program = |compiled: &Compiled| (compiled.package.clone(), compiled.binary.clone());
        let wanted = self
            .compile
            .as_ref()
            .map(|wanted| (wanted.package.clone(), wanted.binary.clone()));
        same == *payload
            && self.sha256.is_none_or(|sha256| sha256 == payload.sha256)
            && self.size.is_none_or(|size| size == payload.size)
            && compiled.map(program) == wanted
    }
}

impl Payload {
    /// Returns whether it is a file that may be run; members of an archive have modes of their own.
    pub fn is_executable(&self) -> bool {
        !self.place.unpack && self.place.mode.is_some_and(|Mode(mode)| mode & 0o111 != 0)
    }

    /// Returns the size and digest of its bytes.
    pub fn stamp(&self) -> Stamp {
        let Self { sha256, size, .. } = *self;
        Stamp { sha256, size }
    }
}

impl Source {
    /// Returns the reference of an OCI source.
    pub fn reference(&self) -> Option<Reference> {
        match self {
            Self::Oci(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl Target {
    /// Returns the path below the root folder: relative, and empty for the folder itself.
    pub fn below(&self) -> &str {
        self.0.trim_start_matches('/')
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Url(path) => f.write_str(path),
            Self::Oci(reference) => write!(f, "oci://{reference}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(reference) = text.strip_prefix("oci://") {
            let found: Reference = reference.parse()?;
            return match found.name {
                OciName::Digest(_) => Ok(Self::Oci(found.to_string())),
                OciName::Tag(_) => Err(format!("a tag moves: name {reference} by its digest, @sha256:…")),
            };
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Ok(Self::Url(text));
        }
        if text.contains("://") || leaves_its_folder(&text) {
            let known = "a path below the recipe's folder, https://… or oci://HOST/REPOSITORY@sha256:…";
            return Err(format!("a source is {known}; found {text:?}"));
        }
        Ok(Self::File(text))
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        let plain = path
            .strip_prefix('/')
            .is_some_and(|rest| rest.is_empty() || !leaves_its_folder(rest));
        if plain && !path.contains(|c: char| c.is_control() || c == '\\') {
            return Ok(Self(path));
        }
        Err(format!(
            "a target is an absolute path without `.`, `..` and empty parts; found {path:?}"
        ))
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.0
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        let mode = u16::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| digits && *mode <= 0o777);
        mode.map(Self)
            .ok_or_else(|| format!("a mode is three or four octal digits up to 0777; found {text:?}"))
    }
}

impl From<Mode> for String {
    fn from(Mode(mode): Mode) -> Self {
        format!("{mode:04o}")
    }
}
