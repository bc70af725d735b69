//! `files.jsonl`: every path of the guest's images, what it is and where it comes from, one a line.
//!
//! It is read back from the bytes of the finished images: what is not in here is not in the guest.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::HEXLOWER;
use measure::Sha256;
use serde::{Deserialize, Serialize};

/// A path of an image, with all that the image says about it, and where it comes from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Content {
    #[serde(flatten)]
    pub node: Node,
    pub origin: Origin,
}

/// A path of an image, with all that the image says about it; times are all the epoch's and left out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Node {
    pub image: Image,
    /// Absolute; bytes that are no UTF-8 are as `\xHH`, a backslash is `\\`.
    pub path: String,
    #[serde(flatten)]
    pub kind: Kind,
    /// Permissions with set-user-id, set-group-id and sticky bit: 12 bits.
    #[serde(with = "octal")]
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Extended attributes, values in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

/// An image that holds files: the file of the release that it is.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Image(pub String);

/// What is at a path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    File {
        /// In bytes.
        size: u64,
        sha256: Sha256,
        /// The first path, in the order of the list, of the same file: a hard link.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        same_as: Option<String>,
    },
    Directory,
    Symlink {
        /// As it is stored, escaped as a path is.
        target: String,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

impl Kind {
    /// Returns whether both are the same thing with the same bytes, whatever other paths they have.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File { size, sha256, .. },
                Self::File {
                    size: other_size,
                    sha256: other,
                    ..
                },
            ) => (size, sha256) == (other_size, other),
            _ => self == other,
        }
    }
}

/// Where a path of the guest comes from.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(tag = "from", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// A member of a locked package, the same in type, content and target.
    Package {
        name: String,
        /// Of the `.deb`.
        sha256: Sha256,
    },
    /// A file of the recipe, the same in content.
    Recipe {
        /// Path below the recipe's folder.
        path: String,
    },
    /// A payload that the recipe names, the same in content.
    Payload { name: String },
    /// Made while the image was built, by what the class says, and compared: it is what the packages and the recipe lead to.
    Generated { class: String },
    /// Made while the image was built, by what the class says: nothing tells what has to be in it.
    NotDerived { class: String },
    /// Nobody knows: the recipe says that it may be there.
    Allowed,
    /// Nobody knows.
    Unexplained,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { name, .. } => write!(f, "the package {name}"),
            Self::Recipe { path } => write!(f, "{path} of the recipe"),
            Self::Payload { name } => write!(f, "the payload {name}"),
            Self::Generated { class } => f.write_str(class),
            Self::NotDerived { class } => write!(f, "{class}, not derived"),
            Self::Allowed => f.write_str("somewhere that the recipe allows"),
            Self::Unexplained => f.write_str("nobody knows where"),
        }
    }
}

/// Returns the text of a path or of a target: bytes that are no UTF-8 are as `\xHH`, a backslash is `\\`.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Returns the bytes of a text that [`escape`] has made; none where a backslash is followed by anything else.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        if let Some(behind) = escaped.strip_prefix('\\') {
            bytes.push(b'\\');
            rest = behind;
        } else {
            let (digits, behind) = escaped.strip_prefix('x')?.split_at_checked(2)?;
            bytes.extend(HEXLOWER.decode(digits.as_bytes()).ok()?);
            rest = behind;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

/// Permissions as people write them: four octal digits.
mod octal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(mode: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{mode:04o}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u16::from_str_radix(&text, 8).ok();
        let mode = mode.filter(|mode| *mode < 1 << 12 && format!("{mode:04o}") == text);
        mode.ok_or_else(|| D::Error::custom(format!("permissions are four octal digits, found {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_utf_8_has_one_text() {
        for (bytes, text) in [
            (&b"/usr/bin/["[..], "/usr/bin/["),
            ("/größe\n".as_bytes(), "/größe\n"),
            (br"/a\x41", r"/a\\x41"),
            (b"/a\xff\xc3", r"/a\xff\xc3"),
            (b"\xe2\x82/\xac", r"\xe2\x82/\xac"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Some(bytes));
        }
        for text in [r"\", r"/\x4", r"/\X41", r"/\xFF", r"/\n"] {
            assert_eq!(unescape(text), None);
        }
    }
}
