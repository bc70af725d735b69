//! `[[volume]]`: read-only file systems beside the root, for models, data sets and programs. The root hash of each is on the
//! command line, and so measured.

use std::fmt;
use std::path::Path;

use measure::Sha256;
use serde::{Deserialize, Serialize};

use super::payload::Target;

/// A volume as a recipe declares it; payloads say that they are in it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    pub name: Name,
    /// Where the guest mounts it: absolute.
    pub target: Target,
}

impl Volume {
    /// Returns what of the declaration cannot be meant beside those of the `others`.
    pub(super) fn problem(&self, others: &[Self]) -> Option<&'static str> {
        let path = Path::new(self.target.below());
        let overlaps = |other: &Self| {
            let other = Path::new(other.target.below());
            path.starts_with(other) || other.starts_with(path)
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c); // a unit names it
        match self.target.below() {
            _ if others.iter().any(|other| other.name == self.name) => Some("another volume has its name"),
            "" => Some("its target is the root folder"),
            _ if others.iter().any(overlaps) => Some("its target is that of another volume, or in it, or around it"),
            target if !target.chars().all(plain) => {
                Some("its target has other characters than A-Z, a-z, 0-9, `-`, `.`, `_` and `/`")
            }
            _ => None,
        }
    }
}

/// The name of a volume, which is part of names of files, devices and variables: 1 to 24 of a-z and 0-9, a letter first.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct Name(String);

/// What the names of the files begin with, and how they end.
const PREFIX: &str = "volume-";
const IMAGE: &str = ".erofs";
const VERITY: &str = ".verity";

impl Name {
    /// Returns the name of the file of a release that is the image.
    pub fn image(&self) -> String {
        format!("{PREFIX}{self}{IMAGE}")
    }

    /// Returns the name of the file of a release that is the dm-verity tree of the image.
    pub fn verity(&self) -> String {
        format!("{PREFIX}{self}{VERITY}")
    }

    /// Returns the volume whose image the file of a release is.
    pub fn of_image(file: &str) -> Option<Self> {
        let name = file.strip_prefix(PREFIX)?.strip_suffix(IMAGE)?;
        Self::try_from(name.to_owned()).ok()
    }

    /// Returns the volume whose dm-verity tree the file of a release is.
    pub fn of_verity(file: &str) -> Option<Self> {
        let name = file.strip_prefix(PREFIX)?.strip_suffix(VERITY)?;
        Self::try_from(name.to_owned()).ok()
    }

    /// Returns the name of the variable that has the root hash in the guest.
    pub fn variable(&self) -> String {
        format!("{VARIABLE}{}", self.0.to_ascii_uppercase())
    }

    /// Returns the kernel parameter that says the root hash: systemd(1), "Kernel Command Line".
    pub fn parameter(&self, root_hash: &Sha256) -> String {
        format!("{SET_VARIABLE}={}={root_hash}", self.variable())
    }

    /// Returns what the command line says that the root hash is.
    pub fn root_hash<'a>(&self, command_line: &'a str) -> Option<&'a str> {
        let wanted = format!("{SET_VARIABLE}={}=", self.variable());
        command_line.split(' ').find_map(|word| word.strip_prefix(&wanted))
    }
}

/// The kernel parameter that sets a variable, and what ours begin with.
pub const SET_VARIABLE: &str = "systemd.setenv";
pub const VARIABLE: &str = "VOLUME_";

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain) && name.len() <= 24 {
            return Ok(Self(name));
        }
        Err(format!(
            "the name of a volume is 1 to 24 of a-z and 0-9, a letter first; found {name:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_volume_are_known_by_their_names() {
        let name = Name::try_from("model2".to_owned()).unwrap();
        assert_eq!(Name::of_image(&name.image()), Some(name.clone()));
        assert_eq!(Name::of_verity(&name.verity()), Some(name.clone()));
        assert_eq!(Name::of_image(&name.verity()), None);
        for strange in ["rootfs.erofs", "volume-.erofs", "volume-../x.erofs", "volume-a b.erofs"] {
            assert_eq!(Name::of_image(strange), None, "{strange}");
        }
    }

    #[test]
    fn the_command_line_says_the_root_hash() {
        let (name, hash) = (Name::try_from("model".to_owned()).unwrap(), Sha256::of("tree"));
        let line = format!("ro {} quiet", name.parameter(&hash));
        assert_eq!(name.root_hash(&line), Some(hash.to_string().as_str()));
        assert_eq!(name.root_hash("systemd.setenv=VOLUME_MODEL2=00"), None);
    }

    #[test]
    fn a_name_cannot_leave_its_file() {
        for wrong in ["", "Model", "2model", "a-b", "a.b", "../a", "abcdefghijklmnopqrstuvwxy"] {
            assert!(Name::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
