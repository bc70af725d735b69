//! The cache of the dynamic loader: ldconfig(8) writes into it the libraries of the folders that `ld.so.conf` names.

use super::image::{Image, Outcome};
use crate::debian::members::below_usr;
use crate::model::contents::Node;

/// `struct cache_file_new` of glibc, and `struct file_entry_new`.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;

/// Where the loader looks for libraries, as built.
const FOLDERS: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/lib64", "/usr/lib32"];

/// What folders of libraries for newer processors are called.
const HARDWARE: &str = "/glibc-hwcaps/";

/// Looks at the cache: each name leads to the library of that name, in the first folder that has it.
pub(super) fn cache(image: &Image<'_>, node: &Node) -> Outcome {
    let bytes = image.texts.get(&node.path).ok_or("it cannot be read")?;
    let count = bytes
        .strip_prefix(MAGIC)
        .and_then(|_| number(bytes, 20))
        .ok_or("it is not a cache of glibc")?;
    let (folders, mut seen) = (folders(image), Vec::new());
    for at in (0..count).map(|at| HEADER + at * ENTRY) {
        let text = |at: usize| number(bytes, at).and_then(|offset| string(bytes, offset));
        let (key, value) = text(at + 4).zip(text(at + 8)).ok_or("an entry leads out of it")?;
        let path = below_usr(value);
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        let folder = folder.split_once(HARDWARE).map_or(folder, |(folder, _)| folder);
        let place = folders.iter().position(|known| known == folder);
        let place = place.ok_or_else(|| format!("{value} is not in a folder of libraries"))?;
        if name != key || image.resolve(&path).is_none() {
            return Err(format!("{key} leads to {value}"));
        }
        if !image.is_owned(&path) {
            return Err(format!("no package has the library {value}"));
        }
        if !path.contains(HARDWARE) {
            seen.push((key, place));
        }
    }
    ordered(&seen)
}

/// Of several libraries with one name, that of the first folder comes first: it is taken.
fn ordered(seen: &[(&str, usize)]) -> Outcome {
    match seen
        .windows(2)
        .find(|pair| pair[0].0 == pair[1].0 && pair[0].1 > pair[1].1)
    {
        Some(pair) => Err(format!("{} of a later folder comes first", pair[0].0)),
        None => Ok(()),
    }
}

/// The folders of libraries, the first first.
fn folders(image: &Image<'_>) -> Vec<String> {
    let files = image.owned_below("/etc/ld.so.conf.d/");
    let lines = files.iter().flat_map(|(_, text)| text.lines()).map(str::trim);
    let named = lines
        .filter(|line| line.starts_with('/'))
        .map(|line| below_usr(line.trim_end_matches('/')));
    named.chain(FOLDERS.map(String::from)).collect()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
}

fn string(bytes: &[u8], at: usize) -> Option<&str> {
    let bytes = bytes.get(at..)?;
    str::from_utf8(&bytes[..bytes.iter().position(|byte| *byte == 0)?]).ok()
}
