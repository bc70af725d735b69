//! What depmod(8) makes of the kernel's modules: every module that it names is a package's, and what is built in is what the
//! kernel's package says. Which of its devices a module drives is not compared.

use std::collections::BTreeSet;

use super::image::{Image, Outcome};
use crate::model::contents::Node;

/// An index of libkmod: `shared/util.h` and `libkmod/libkmod-index.c` of kmod 34.
const MAGIC: [u8; 8] = [0xb0, 0x07, 0xf4, 0x57, 0x00, 0x02, 0x00, 0x01];
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
const OFFSET: u32 = 0x0fff_ffff;

/// How long a key may be, in bytes: some ten times what one is.
const KEY: usize = 1 << 11;

/// Looks at an index of modules.
pub(super) fn index(image: &Image<'_>, node: &Node) -> Outcome {
    let bytes = image.texts.get(&node.path).ok_or("it cannot be read")?;
    let (folder, name) = node.path.rsplit_once('/').unwrap_or_default();
    let modules = modules(image, folder);
    let built_in = built_in(image, folder);
    let each = |key: &str, value: &str| {
        let known = match name {
            "modules.dep.bin" => is_dependency(&modules, key, value),
            "modules.builtin.bin" => value.is_empty() && built_in.contains(key),
            "modules.builtin.alias.bin" => built_in.contains(value),
            _ => modules.contains_key(value),
        };
        known
            .then_some(())
            .ok_or_else(|| format!("{key} leads to {value}, which no package of the kernel has"))
    };
    entries(bytes, each).ok_or("it is not an index of libkmod")?
}

/// Looks at a text of lines like `alias PATTERN MODULE`, `softdep MODULE pre: MODULE …` and `MODULE DEVICE NUMBER`.
pub(super) fn text(image: &Image<'_>, node: &Node) -> Outcome {
    let (folder, name) = node.path.rsplit_once('/').unwrap_or_default();
    let (modules, built_in) = (modules(image, folder), built_in(image, folder));
    let lines = image.text(&node.path)?.lines().filter(|line| !line.starts_with('#'));
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let named = match (name, words.as_slice()) {
            ("modules.devname", [module, _, _]) => vec![*module],
            ("modules.softdep", ["softdep", module, ..]) => vec![*module],
            ("modules.weakdep", ["weakdep", rest @ ..]) => rest.to_vec(),
            _ => return Err(format!("nothing makes the line {line:?}")),
        };
        let unknown = named
            .iter()
            .find(|module| !modules.contains_key(**module) && !built_in.contains(**module));
        if let Some(module) = unknown {
            return Err(format!("no package of the kernel has the module {module}"));
        }
    }
    Ok(())
}

type Modules = std::collections::BTreeMap<String, BTreeSet<String>>;

/// The modules of packages, by name, with their paths below `folder`.
fn modules(image: &Image<'_>, folder: &str) -> Modules {
    let prefix = format!("{folder}/");
    let paths = image.owned.iter().filter_map(|path| path.strip_prefix(prefix.as_str()));
    let mut modules = Modules::new();
    for path in paths.filter(|path| path.contains(".ko")) {
        modules.entry(module(path)).or_default().insert(path.to_owned());
    }
    modules
}

/// The names of what the kernel's package says is built in.
fn built_in(image: &Image<'_>, folder: &str) -> BTreeSet<String> {
    let lines = image
        .owned_text(&format!("{folder}/modules.builtin"))
        .unwrap_or_default()
        .lines()
        .map(module);
    let infos = image
        .texts
        .get(&format!("{folder}/modules.builtin.modinfo"))
        .map(Vec::as_slice);
    let is_owned = image.is_owned(&format!("{folder}/modules.builtin.modinfo"));
    let infos = infos.filter(|_| is_owned).unwrap_or_default().split(|byte| *byte == 0);
    let names = infos.filter_map(|info| Some(str::from_utf8(info).ok()?.split_once('.')?.0.replace('-', "_")));
    lines.chain(names).collect()
}

/// The name of the module in a file: `kernel/fs/a-b.ko.xz` has `a_b`.
fn module(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.split_once(".ko").map_or(name, |(name, _)| name).replace('-', "_")
}

/// `PATH: PATH …`: the module of this name, and others that it needs.
fn is_dependency(modules: &Modules, key: &str, value: &str) -> bool {
    let Some((path, needed)) = value.split_once(':') else {
        return false;
    };
    let has = |path: &str| modules.get(&module(path)).is_some_and(|paths| paths.contains(path));
    module(path) == key && has(path) && needed.split_whitespace().all(has)
}

/// Reads an index below a node: `each` is called with keys and values.
struct Reader<'a, F> {
    bytes: &'a [u8],
    /// The key so far.
    key: String,
    /// How many nodes there may still be.
    left: usize,
    each: F,
}

impl<F: FnMut(&str, &str) -> Outcome> Reader<'_, F> {
    /// None where the index is damaged.
    fn read(&mut self, node: u32) -> Option<Outcome> {
        self.left = self.left.checked_sub(1).filter(|_| self.key.len() < KEY)?;
        let (length, mut at) = (self.key.len(), usize::try_from(node & OFFSET).ok()?);
        if node & PREFIX != 0 {
            self.key += string(self.bytes, &mut at)?;
        }
        if node & CHILDREN != 0 {
            let (first, last) = (*self.bytes.get(at)?, *self.bytes.get(at + 1)?);
            at += 2;
            for letter in first..=last {
                let child = number(self.bytes, at)?;
                at += 4;
                if child & OFFSET != 0 {
                    self.key.push(char::from(letter));
                    let outcome = self.read(child)?;
                    self.key.pop();
                    if outcome.is_err() {
                        return Some(outcome);
                    }
                }
            }
        }
        let values = if node & VALUES != 0 { number(self.bytes, at)? } else { 0 };
        at += 4;
        for _ in 0..values {
            at += 4; // its priority
            let outcome = (self.each)(&self.key, string(self.bytes, &mut at)?);
            if outcome.is_err() {
                return Some(outcome);
            }
        }
        self.key.truncate(length);
        Some(Ok(()))
    }
}

/// Calls `each` with the keys and values of an index; none of a damaged one.
fn entries(bytes: &[u8], each: impl FnMut(&str, &str) -> Outcome) -> Option<Outcome> {
    let root = number(bytes.strip_prefix(&MAGIC)?, 0)?;
    let (key, left) = (String::new(), bytes.len() / 4);
    let mut reader = Reader { bytes, key, left, each };
    reader.read(root)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn string<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a str> {
    let rest = bytes.get(*at..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    *at += end + 1;
    str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key `ab` with one value, below the prefix `a`.
    fn small() -> Vec<u8> {
        let root: u32 = 12 | PREFIX | CHILDREN;
        let child: u32 = 20 | VALUES;
        [
            &MAGIC[..],
            &root.to_be_bytes(),
            b"a\0bb",
            &child.to_be_bytes(),
            &[0, 0, 0, 1, 0, 0, 0, 9],
            b"v\0",
        ]
        .concat()
    }

    fn read(bytes: &[u8]) -> Option<Vec<(String, String)>> {
        let mut found = Vec::new();
        let each = |key: &str, value: &str| {
            found.push((key.to_owned(), value.to_owned()));
            Ok(())
        };
        entries(bytes, each).map(|outcome| outcome.map(|()| found).unwrap())
    }

    #[test]
    fn an_index_is_read_and_a_damaged_one_refused() {
        assert_eq!(read(&small()), Some(vec![("ab".into(), "v".into())]));
        for length in 0..small().len() {
            assert_eq!(read(&small()[..length]), None, "{length}");
        }
        let mut endless = small();
        endless[16..20].copy_from_slice(&(12 | PREFIX | CHILDREN).to_be_bytes()); // its own child
        assert_eq!(read(&endless), None);
    }
}
