//! What two contents of one file look like: guesses for whoever looks for the cause, and no more than that.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

/// What kind of cause a difference looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The clock.
    TimeStamp,
    /// Where it was built.
    Path,
    /// The order of a directory or of a map.
    Order,
    /// A key, an identifier, a seed.
    RandomBytes,
    /// Another version of a tool or a package.
    Version,
    /// The umask, or who built it.
    Permissions,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimeStamp => "a time stamp",
            Self::Path => "a path of the build",
            Self::Order => "another order of the same",
            Self::RandomBytes => "random bytes",
            Self::Version => "another version",
            Self::Permissions => "the umask or the owner of a build",
        })
    }
}

/// Returns what the difference of two contents looks like; nothing where it looks like nothing known.
pub(super) fn of(one: &[u8], other: &[u8]) -> Option<Cause> {
    match (std::str::from_utf8(one), std::str::from_utf8(other)) {
        (Ok(one), Ok(other)) if !one.contains('\0') => of_texts(one, other),
        _ => of_binaries(one, other),
    }
}

fn of_texts(one: &str, other: &str) -> Option<Cause> {
    if is_reordered(one.lines(), other.lines()) || is_reordered(words(one), words(other)) {
        return Some(Cause::Order);
    }
    let mut pairs = words(one).zip(words(other));
    let (one, other) = pairs.find(|(one, other)| one != other)?;
    of_words(one, other)
}

fn is_reordered<'a>(one: impl Iterator<Item = &'a str>, other: impl Iterator<Item = &'a str>) -> bool {
    let (mut one, mut other): (Vec<&str>, Vec<&str>) = (one.collect(), other.collect());
    let differ = one != other;
    one.sort_unstable();
    other.sort_unstable();
    differ && one == other
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| c.is_whitespace() || "\"'=,;()[]{}<>".contains(c);
    text.split(between).filter(|word| !word.is_empty())
}

fn of_words(one: &str, other: &str) -> Option<Cause> {
    let both = |test: fn(&str) -> bool| test(one) && test(other);
    if both(is_time) {
        Some(Cause::TimeStamp)
    } else if both(is_version) {
        Some(Cause::Version)
    } else if both(is_random) {
        Some(Cause::RandomBytes)
    } else if both(|word| word.starts_with('/')) {
        Some(Cause::Path)
    } else {
        None
    }
}

/// A date, a time of day, a year, or the seconds since 1970 of a time in this century.
fn is_time(word: &str) -> bool {
    let number = word.parse().is_ok_and(is_recent);
    let parts: Vec<&str> = word
        .split(['-', ':', 'T', 'Z', '+', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    let digits = parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
    let date = word.contains('-') && parts.len() >= 3 && parts[0].len() == 4;
    let clock = word.matches(':').count() == 2;
    number || (digits && (date || clock))
}

/// In seconds: from 2001, when the number got its tenth digit, to 2096.
fn is_recent(seconds: i64) -> bool {
    (1_000_000_000..4_000_000_000).contains(&seconds) && Timestamp::from_second(seconds).is_ok()
}

/// Numbers with dots between them, as Debian writes versions, and what may follow those.
fn is_version(word: &str) -> bool {
    let word = word.trim_start_matches('v');
    let start: String = word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let parts: Vec<&str> = start.trim_end_matches('.').split('.').collect();
    parts.len() >= 2 && parts.iter().all(|part| !part.is_empty() && part.len() <= 8)
}

/// A UUID, a digest, a key: long, and of digits and letters that are mixed.
fn is_random(word: &str) -> bool {
    let plain: Vec<u8> = word.bytes().filter(|byte| *byte != b'-').collect();
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/_".contains(byte);
    let has = |test: fn(&u8) -> bool| plain.iter().any(test);
    plain.len() >= 16
        && plain.iter().all(alphabet)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !word.starts_with('/')
}

fn of_binaries(one: &[u8], other: &[u8]) -> Option<Cause> {
    let first = one.iter().zip(other).position(|(one, other)| one != other)?;
    let after = |start: usize| one.get(start + 4..start + 8) == other.get(start + 4..start + 8);
    let is_time = |start: usize| is_time_at(one, start) && is_time_at(other, start) && after(start);
    let time = (first.saturating_sub(3)..=first).any(is_time);
    let (text, counterpart) = (printable(one, first), printable(other, first));
    let said = (text.len() >= 4 && counterpart.len() >= 4).then(|| of_words(text, counterpart));
    let random = || are_random(&one[first..], &other[first..]).then_some(Cause::RandomBytes);
    match said {
        Some(Some(cause)) => Some(cause),
        _ if time => Some(Cause::TimeStamp),
        Some(None) => None,
        None => random(),
    }
}

/// Whether the four bytes from `start` on, in either order, are the seconds of a time in this century.
fn is_time_at(bytes: &[u8], start: usize) -> bool {
    let word = bytes
        .get(start..start + 4)
        .and_then(|word| <[u8; 4]>::try_from(word).ok());
    word.is_some_and(|word| is_recent(u32::from_le_bytes(word).into()) || is_recent(u32::from_be_bytes(word).into()))
}

/// The characters around a position that belong to one word.
fn printable(bytes: &[u8], position: usize) -> &str {
    let word = |byte: &u8| byte.is_ascii_graphic() && !b"\"'=,;()[]{}<>".contains(byte);
    let start = bytes[..position]
        .iter()
        .rposition(|byte| !word(byte))
        .map_or(0, |at| at + 1);
    let end = bytes[position..]
        .iter()
        .position(|byte| !word(byte))
        .map_or(bytes.len(), |at| position + at);
    std::str::from_utf8(&bytes[start..end]).unwrap_or_default()
}

/// Sixteen bytes in a row that have next to nothing in common, and that no byte dominates.
fn are_random(one: &[u8], other: &[u8]) -> bool {
    const ENOUGH: usize = 16;
    let (Some(one), Some(other)) = (one.get(..ENOUGH), other.get(..ENOUGH)) else {
        return false;
    };
    let same = one.iter().zip(other).filter(|(one, other)| one == other).count();
    let varied = |bytes: &[u8]| bytes.iter().collect::<std::collections::BTreeSet<_>>().len() >= ENOUGH * 3 / 4;
    same <= 2 && varied(one) && varied(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_guessed_from_two_contents() {
        let key = |seed: u8| -> Vec<u8> {
            (0..32_u8)
                .map(|n| n.wrapping_mul(37).wrapping_add(seed) ^ seed)
                .collect()
        };
        let time = |seconds: u32| [&b"\x7fELF\0\0"[..], &seconds.to_le_bytes(), b"\0\0same"].concat();
        for (one, other, cause) in [
            (
                &b"built 2026-11-22T10:00:00Z here"[..],
                &b"built 2026-11-23T11:30:10Z here"[..],
                Some(Cause::TimeStamp),
            ),
            (b"epoch=1789171200\n", b"epoch=1789171201\n", Some(Cause::TimeStamp)),
            (b"date 10:00:01\n", b"date 10:00:02\n", Some(Cause::TimeStamp)),
            (b"dir=/one/a/b\n", b"dir=/two/u/b\n", Some(Cause::Path)),
            (b"one\ntwo\nthree\n", b"two\none\nthree\n", Some(Cause::Order)),
            (b"MODULES=a b c\n", b"MODULES=c b a\n", Some(Cause::Order)),
            (
                b"id 0b9c7f6e-0a2b-4f6d-8c31-9f0f8b3ad7a1\n",
                b"id 5e3a1c1d-7f7c-49b0-b9e4-3a4f0c2c1e7d\n",
                Some(Cause::RandomBytes),
            ),
            (b"mkosi 25.3-7\n", b"mkosi 27.1-1\n", Some(Cause::Version)),
            (b"PRETTY_NAME=\"good\"\n", b"PRETTY_NAME=\"evil\"\n", None),
            (&time(1_789_171_200), &time(1_789_171_999), Some(Cause::TimeStamp)),
            (b"\0\x01GCC 12.2.0\0", b"\0\x01GCC 14.2.0\0", Some(Cause::Version)),
            (b"\0\xff/src/one/x.c\0", b"\0\xff/src/two/x.c\0", Some(Cause::Path)),
            (
                &[b"\0\xff\0".as_slice(), &key(3)].concat(),
                &[b"\0\xff\0".as_slice(), &key(90)].concat(),
                Some(Cause::RandomBytes),
            ),
            (b"\0\x01\x02", b"\0\x01", None),
            (b"", b"more", None),
        ] {
            let shown = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
            assert_eq!(of(one, other), cause, "{shown:?}");
            assert_eq!(of(other, one), cause, "{shown:?}");
        }
    }
}
