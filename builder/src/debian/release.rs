//! `Release`: which indices a suite has, and until when to believe them.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use measure::Sha256;

use super::deb822;
use crate::mend::{Exit, OrMend as _};

/// The fields of a `Release` file that we use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Release {
    pub suite: Option<String>,
    pub codename: Option<String>,
    pub date: Timestamp,
    pub valid_until: Option<Timestamp>,
    /// Indices can be had by their digest, which does not change under the reader.
    pub by_hash: bool,
    /// Digest and size in bytes of each index, by its path below the suite.
    pub indices: BTreeMap<String, (Sha256, u64)>,
}

const MEND: &str = "try another mirror: --mirror, or mirrors of the suite in recipe.toml";

impl Release {
    /// Reads the text of a `Release` file: believe it only when its signature verified.
    ///
    /// # Errors
    /// A date, digest or size that cannot be read, and a file without `Date`.
    pub fn parse(text: &str) -> Result<Self> {
        let stanza = deb822::stanzas(text).next().unwrap_or("");
        let fields: BTreeMap<_, _> = deb822::fields(stanza).collect();
        let text = |name: &str| fields.get(name).map(|value| (*value).to_owned());
        let moment = |name: &str| fields.get(name).map(|value| moment(name, value)).transpose();
        let date = moment("Date")?.ok_or_else(|| Exit::LockMismatch.because("Release has no Date", MEND))?;
        Ok(Self {
            suite: text("Suite"),
            codename: text("Codename"),
            date,
            valid_until: moment("Valid-Until")?,
            by_hash: fields.get("Acquire-By-Hash") == Some(&"yes"),
            indices: indices(fields.get("SHA256").copied().unwrap_or(""))?,
        })
    }

    /// Whether this is the suite that was asked for, by either of its names.
    pub fn is(&self, suite: &str) -> bool {
        [&self.suite, &self.codename]
            .into_iter()
            .flatten()
            .any(|name| name == suite)
    }
}

/// `Sat, 12 Sep 2026 07:55:41 UTC`: RFC 2822 but for the name of the zone.
fn moment(field: &str, text: &str) -> Result<Timestamp> {
    let plain = text.strip_suffix("UTC").map(|plain| format!("{plain}+0000"));
    let plain = plain.as_deref().unwrap_or(text);
    let problem = format!("Release has a {field} that is no date: {text:?}");
    DateTimeParser::new()
        .parse_timestamp(plain)
        .or_mend(Exit::LockMismatch, problem, MEND)
}

/// Lines of digest, size and path.
fn indices(list: &str) -> Result<BTreeMap<String, (Sha256, u64)>> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let wrong = || Exit::LockMismatch.because(format!("Release lists an index it cannot name: {line:?}"), MEND);
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            let [digest, size, path] = words[..] else {
                return Err(wrong());
            };
            let digest = digest.parse().map_err(|_| wrong())?;
            Ok((path.to_owned(), (digest, size.parse().map_err(|_| wrong())?)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STABLE: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n\
        Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\nMD5Sum:\n x 1 main/Release\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n";

    #[test]
    fn the_fields_we_use_are_read() {
        let release = Release::parse(STABLE).unwrap();
        assert!(release.is("stable") && release.is("trixie") && !release.is("bookworm"));
        assert_eq!(release.date.to_string(), "2026-09-12T07:55:41Z");
        assert_eq!(release.valid_until.unwrap().to_string(), "2026-09-19T07:55:41Z");
        assert!(release.by_hash);
        assert_eq!(release.indices["main/binary-amd64/Packages"], (Sha256::of(""), 0));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (from, to) in [
            ("Date: Sat", "Date: Someday"),
            ("Date", "Dated"),
            ("e3b0", "E3B0"),
            ("  0 main", "  0"),
        ] {
            let text = STABLE.replacen(from, to, 1);
            assert_ne!(text, STABLE);
            assert!(Release::parse(&text).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*", date in "[A-Z0-9:, ]*", line in "[0-9a-f ]*") {
            let _ = Release::parse(&text);
            let _ = Release::parse(&format!("Date: {date}\nSHA256: {line}\n"));
        }
    }
}
