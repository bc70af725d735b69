//! Trustee, the attestation service of Confidential Containers, and in what its versions differ.

use std::str::FromStr;

use data_encoding::BASE64;
use measure::Sha384;

/// A version of Trustee, as far as it matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Trustee {
    major: u32,
    minor: u32,
}

impl Trustee {
    /// The version that everything is written for unless somebody says otherwise.
    pub const CURRENT: Self = Self { major: 0, minor: 21 };

    /// Returns how a launch digest of SEV-SNP can be written in claims: base64 before 0.18, lower-case hex since.
    pub fn launch_digests(self, digest: &Sha384) -> Vec<String> {
        let base64 = (self < Self { major: 0, minor: 18 }).then(|| BASE64.encode(digest.bytes()));
        [digest.to_string()].into_iter().chain(base64).collect()
    }

    /// Returns whether its reference value provider keeps a map of names, as it does since 0.19, and not a list.
    pub fn keeps_a_map(self) -> bool {
        self >= Self { major: 0, minor: 19 }
    }
}

/// A version is `MAJOR.MINOR`, a `v` before it and more numbers after it, and 0.14 or newer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a version of Trustee that begat writes for: expected 0.14 or newer, as in 0.17, found {0:?}")]
pub struct NotATrustee(String);

impl FromStr for Trustee {
    type Err = NotATrustee;

    fn from_str(text: &str) -> Result<Self, NotATrustee> {
        /// Older ones name the algorithm of each value and know no types.
        const OLDEST: Trustee = Trustee { major: 0, minor: 14 };
        let numbers = text.strip_prefix('v').unwrap_or(text).split('.');
        let numbers: Option<Vec<u32>> = numbers.map(|number| number.parse().ok()).collect();
        let version = match numbers.as_deref() {
            Some([major, minor, ..]) => Some(Self {
                major: *major,
                minor: *minor,
            }),
            _ => None,
        };
        let known = version.filter(|version| *version >= OLDEST);
        known.ok_or_else(|| NotATrustee(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_too_old_ones_refused() {
        let read = |text: &str| text.parse::<Trustee>();
        assert_eq!(read("0.21"), Ok(Trustee::CURRENT));
        assert_eq!(read("v0.21.3"), Ok(Trustee::CURRENT));
        assert!(read("1.0").unwrap().keeps_a_map() && !read("0.18.2").unwrap().keeps_a_map());
        for text in ["0.13", "0", "", "v", "latest", "0.x", "0.-1", "-1.20"] {
            assert_eq!(read(text), Err(NotATrustee(text.into())));
        }
    }
}
