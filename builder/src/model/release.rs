//! `manifest.json`: every reproducible file of a release with its size and SHA-256. Its digest names the release.
//!
//! A manifest has one text only: names sorted, keys sorted, two spaces, a final newline. Any other text of the same
//! facts would have another digest, so it is refused, and with it keys or files that are listed twice.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;
use serde::{Deserialize, Serialize};

use super::recipe::Name;
use crate::mend::{Exit, OrMend as _};

/// The version of the format that this begat writes and reads.
const VERSION: u32 = 1;

/// The name of the manifest in a release; it does not list itself.
pub use super::file::MANIFEST;

/// What a release is made from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The recipe's name.
    pub name: Name,
    /// The recipe's epoch: a release has no other clock.
    pub epoch: Timestamp,
    /// The digest of the recipe's folder.
    pub recipe: Sha256,
    /// The digest of the lock.
    pub lock: Sha256,
}

/// What a release is: where it comes from and what is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    pub origin: Origin,
    pub files: BTreeMap<FileName, Stamp>,
}

/// The size and the digest of a file.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

/// A plain path below a release: it names a file in there and nothing outside.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl Manifest {
    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// Text that is no manifest, not the canonical one, of an unknown version, or with names that leave the release.
    pub fn parse(text: &str) -> Result<Self> {
        const MEND: &str = "fetch the release again from where its digest is known";
        let written: Written = serde_json::from_str(text).or_mend(Exit::No, "cannot read manifest.json", MEND)?;
        if written.version != VERSION {
            let problem = format!(
                "manifest.json has version {}, this begat reads {VERSION}",
                written.version
            );
            return Err(Exit::Unsupported.because(problem, "use the begat that wrote it"));
        }
        let manifest = Self::from(written);
        if manifest.text() != text {
            let problem = "manifest.json is not in its canonical form: files or keys twice, unsorted, or other spaces";
            return Err(Exit::No.because(problem, MEND));
        }
        Ok(manifest)
    }

    /// Returns the one text that this manifest has.
    pub fn text(&self) -> String {
        super::json(&Written::from(self))
    }

    /// Returns the digest that names the release.
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.text())
    }
}

impl FileName {
    /// Returns the path below the release.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain =
            |part: &str| !matches!(part, "" | "." | "..") && !part.contains(|c: char| c.is_control() || c == '\\');
        if name != MANIFEST && name.split('/').all(plain) {
            return Ok(Self(name));
        }
        Err(format!(
            "a file of a release has a plain path below it, no empty part, `.` or `..`, and is not {MANIFEST}; found {name:?}"
        ))
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The file's own layout: a list, since a reader of JSON may drop the first of two equal keys and say nothing.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    epoch: Timestamp,
    files: Vec<File>,
    lock: Sha256,
    name: Name,
    recipe: Sha256,
    version: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: FileName,
    sha256: Sha256,
    size: u64,
}

impl From<Written> for Manifest {
    fn from(written: Written) -> Self {
        let stamped = |file: File| {
            let File { name, sha256, size } = file;
            (name, Stamp { sha256, size })
        };
        Self {
            origin: Origin {
                name: written.name,
                epoch: written.epoch,
                recipe: written.recipe,
                lock: written.lock,
            },
            files: written.files.into_iter().map(stamped).collect(),
        }
    }
}

impl From<&Manifest> for Written {
    fn from(manifest: &Manifest) -> Self {
        let file = |(name, stamp): (&FileName, &Stamp)| File {
            name: name.clone(),
            sha256: stamp.sha256,
            size: stamp.size,
        };
        Self {
            epoch: manifest.origin.epoch,
            files: manifest.files.iter().map(file).collect(),
            lock: manifest.origin.lock,
            name: manifest.origin.name.clone(),
            recipe: manifest.origin.recipe,
            version: VERSION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;

    fn manifest() -> Manifest {
        let stamp = Stamp {
            sha256: Sha256::of("abc"),
            size: 3,
        };
        let name = |name: &str| FileName::try_from(name.to_owned()).unwrap();
        Manifest {
            origin: Origin {
                name: "minimal".to_owned().try_into().unwrap(),
                epoch: "2026-09-12T00:00:00Z".parse().unwrap(),
                recipe: Sha256::of("recipe"),
                lock: Sha256::of("lock"),
            },
            files: [(name("vmlinuz"), stamp), (name("a/b"), stamp)].into(),
        }
    }

    #[test]
    fn text_round_trips_and_is_sorted() {
        let text = manifest().text();
        assert_eq!(Manifest::parse(&text).unwrap(), manifest());
        assert!(
            text.starts_with("{\n  \"epoch\": \"2026-09-12T00:00:00Z\",\n  \"files\": [\n    {\n      \"name\": \"a/b\",\n      \"sha256\": \"ba78"),
            "{text}"
        );
        assert!(text.ends_with("  \"version\": 1\n}\n"), "{text}");
    }

    #[test]
    fn names_that_leave_the_release_are_refused() {
        for name in [
            "../a", "/a", "a//b", "a/", "", ".", "a/../b", "a\\b", "a\nb", "a\0", MANIFEST,
        ] {
            assert!(FileName::try_from(name.to_owned()).is_err(), "{name:?}");
        }
        for name in ["a", "a/b", "..a", ".hidden", "evidence/manifest.json"] {
            assert!(FileName::try_from(name.to_owned()).is_ok(), "{name:?}");
        }
    }

    fn refusal(from: &str, to: &str) -> String {
        let text = manifest().text();
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text);
        mend::report(&Manifest::parse(&wrong).expect_err("the manifest is wrong"))
    }

    #[test]
    fn any_other_text_is_refused() {
        let canonical = "not in its canonical form";
        for (from, to, why) in [
            ("vmlinuz", "a/b", canonical),
            ("vmlinuz", "../vmlinuz", "a plain path below it"),
            ("vmlinuz", "/vmlinuz", "a plain path below it"),
            ("a/b", "z", canonical),
            ("  ", " ", canonical),
            ("1\n}\n", "1\n}", canonical),
            ("\"size\": 3\n", "\"size\": 3, \"size\": 3\n", "duplicate field"),
            ("\"version\": 1", "\"version\": 2", "has version 2"),
            ("\"epoch\"", "\"date\"", "unknown field"),
            ("1\n}\n", "1\n", "EOF"),
        ] {
            let report = refusal(from, to);
            assert!(report.contains(why), "{from:?} -> {to:?}: {report}");
        }
    }
}
