//! The database of hardware: systemd-hwdb(8) makes it of the texts in `hwdb.d`, and it says the same as they.

use std::collections::BTreeMap;

use super::image::{Image, Outcome};
use crate::model::contents::Node;

/// `struct trie_header_f` of systemd: where its fields are, in bytes.
const MAGIC: &[u8] = b"KSLPHHRH";
const NODE_SIZE: usize = 32;
const CHILD_SIZE: usize = 40;
const VALUE_SIZE: usize = 48;
const ROOT: usize = 56;

/// How long a pattern may be, in bytes: some ten times what one is.
const PATTERN: usize = 1 << 11;

const FOLDERS: [&str; 2] = ["/usr/lib/udev/hwdb.d/", "/etc/udev/hwdb.d/"];

/// What the texts say: for a pattern and a name, all values.
type Properties<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a str>>;

/// Looks at the database: each property is of a text, and none is missing.
pub(super) fn database(image: &Image<'_>, node: &Node) -> Outcome {
    let bytes = image.texts.get(&node.path).ok_or("it cannot be read")?;
    let texts = FOLDERS.iter().flat_map(|folder| image.owned_below(folder));
    let wanted = texts.fold(Properties::new(), |wanted, (_, text)| read(wanted, text));
    let mut count = 0;
    let whole = walk(bytes, |pattern, name, value| {
        count += 1;
        let known = wanted.get(&(pattern, name.trim_start_matches(' ')));
        known
            .is_some_and(|values| values.contains(&value))
            .then_some(())
            .ok_or_else(|| format!("no package says {name}={value} of {pattern}"))
    });
    whole.ok_or("it is not a database of systemd")??;
    match count == wanted.len() {
        true => Ok(()),
        false => Err(format!("it has {count} properties, not {}", wanted.len())),
    }
}

/// Lines with patterns, then lines with properties, which begin with a space.
fn read<'a>(mut properties: Properties<'a>, text: &'a str) -> Properties<'a> {
    let (mut patterns, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        let line = line
            .split_once('#')
            .map_or(line, |(line, _)| line)
            .trim_end_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        let Some(property) = line.strip_prefix(' ') else {
            if inside {
                patterns.clear();
            }
            inside = false;
            patterns.push(line);
            continue;
        };
        inside = true;
        let (name, value) = property.split_once('=').unwrap_or((property, ""));
        for pattern in &patterns {
            properties.entry((*pattern, name.trim_start())).or_default().push(value);
        }
    }
    properties
}

/// Reads a database below a node: `each` is called with the pattern, the name and the value of each property.
struct Reader<'a, F> {
    bytes: &'a [u8],
    sizes: [usize; 3],
    /// The pattern so far.
    pattern: String,
    /// How many nodes there may still be.
    left: usize,
    each: F,
}

impl<F: FnMut(&str, &str, &str) -> Outcome> Reader<'_, F> {
    /// None where the database is damaged.
    fn read(&mut self, at: usize) -> Option<Outcome> {
        self.left = self.left.checked_sub(1).filter(|_| self.pattern.len() < PATTERN)?;
        let (read, [node, child, value]) = (read_node(self.bytes, at)?, self.sizes);
        let (length, children) = (self.pattern.len(), at + node);
        self.pattern += read.prefix;
        for number in 0..read.children {
            let (letter, to) = child_at(self.bytes, children + number * child)?;
            self.pattern.push(char::from(letter));
            let outcome = self.read(to)?;
            self.pattern.pop();
            if outcome.is_err() {
                return Some(outcome);
            }
        }
        let values = children + read.children * child;
        for number in 0..read.values {
            let (name, text) = value_at(self.bytes, values + number * value)?;
            let outcome = (self.each)(&self.pattern, name, text);
            if outcome.is_err() {
                return Some(outcome);
            }
        }
        self.pattern.truncate(length);
        Some(Ok(()))
    }
}

/// Calls `each` with the pattern, the name and the value of each property; none of a damaged database.
fn walk(bytes: &[u8], each: impl FnMut(&str, &str, &str) -> Outcome) -> Option<Outcome> {
    let size = |at: usize| number(bytes, at);
    let sizes = [size(NODE_SIZE)?, size(CHILD_SIZE)?, size(VALUE_SIZE)?];
    if !bytes.starts_with(MAGIC) || sizes.iter().any(|size| !(16..=256).contains(size)) {
        return None;
    }
    let (pattern, left) = (String::new(), bytes.len() / sizes[0]);
    let mut reader = Reader {
        bytes,
        sizes,
        pattern,
        left,
        each,
    };
    reader.read(size(ROOT)?)
}

struct Read<'a> {
    prefix: &'a str,
    children: usize,
    values: usize,
}

fn read_node(bytes: &[u8], at: usize) -> Option<Read<'_>> {
    Some(Read {
        prefix: string(bytes, number(bytes, at)?)?,
        children: usize::from(*bytes.get(at.checked_add(8)?)?),
        values: number(bytes, at.checked_add(16)?).filter(|values| *values < bytes.len())?,
    })
}

fn child_at(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    Some((*bytes.get(at)?, number(bytes, at.checked_add(8)?)?))
}

fn value_at(bytes: &[u8], at: usize) -> Option<(&str, &str)> {
    Some((
        string(bytes, number(bytes, at)?)?,
        string(bytes, number(bytes, at.checked_add(8)?)?)?,
    ))
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    usize::try_from(u64::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn string(bytes: &[u8], at: usize) -> Option<&str> {
    let bytes = bytes.get(at..)?;
    str::from_utf8(&bytes[..bytes.iter().position(|byte| *byte == 0)?]).ok()
}
