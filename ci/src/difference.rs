//! What differs between two releases: the file, the partition, and the path in the file system or in the initrd.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::host;
use crate::listing::{self, Listing};

/// How two releases compare.
pub(crate) struct Comparison {
    /// How many files were compared.
    pub(crate) files: usize,
    /// A line for each file that is not the same.
    differences: Vec<String>,
}

/// A partition and where it lies on its disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Partition {
    pub(crate) name: String,
    /// Of its first byte.
    pub(crate) start: u64,
    /// In bytes.
    pub(crate) size: u64,
}

impl Comparison {
    /// Returns whether each of these files is said to differ in this path.
    pub(crate) fn blames(&self, path: &str, files: &[&str]) -> bool {
        let blamed = |file: &str| {
            let mut lines = self.differences.iter();
            lines.any(|line| line.starts_with(file) && line.contains(path))
        };
        files.iter().all(|file| blamed(file))
    }

    /// Prints every difference; returns whether there is none.
    pub(crate) fn print(&self) -> bool {
        self.differences.iter().for_each(|line| println!("differs: {line}"));
        self.differences.is_empty()
    }
}

/// Compares every file of two releases.
pub(crate) fn compare(one: &Path, other: &Path) -> Result<Comparison> {
    let names: BTreeSet<String> = names(one)?.into_iter().chain(names(other)?).collect();
    let mut differences = Vec::new();
    for name in &names {
        let (one, other) = (one.join(name), other.join(name));
        if !(one.exists() && other.exists()) {
            differences.push(format!("{name}: only one release has it"));
        } else if !same(&one, &other)? {
            let why = explain(name, &one, &other).unwrap_or_else(|error| format!("cannot say where: {error:#}"));
            differences.push(format!("{name}: {why}"));
        }
    }
    Ok(Comparison {
        files: names.len(),
        differences,
    })
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.collect()
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    Ok(fs::metadata(one)?.len() == fs::metadata(other)?.len() && fs::read(one)? == fs::read(other)?)
}

fn explain(name: &str, one: &Path, other: &Path) -> Result<String> {
    match name {
        "disk.raw" => in_disk(one, other),
        "rootfs.erofs" => Ok(in_listing(&of_erofs(one)?, &of_erofs(other)?)),
        "initrd.cpio.zst" => Ok(in_listing(&of_initrd(one)?, &of_initrd(other)?)),
        _ => Ok(in_bytes(&fs::read(one)?, &fs::read(other)?)),
    }
}

fn in_disk(one: &Path, other: &Path) -> Result<String> {
    let (tables, disks) = (
        (partitions(one)?, partitions(other)?),
        (File::open(one)?, File::open(other)?),
    );
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let (ours, theirs) = (folder.path().join("one"), folder.path().join("other"));
    let mut found = Vec::new();
    for (partition, counterpart) in tables.0.iter().zip(&tables.1) {
        let name = &partition.name;
        extract(&disks.0, partition, &ours)?;
        extract(&disks.1, counterpart, &theirs)?;
        if !same(&ours, &theirs)? {
            let file = if name == "root" { "rootfs.erofs" } else { "" };
            found.push(format!("partition {name}: {}", explain(file, &ours, &theirs)?));
        }
    }
    if !found.is_empty() {
        return Ok(found.join("; "));
    }
    Ok(if tables.0 == tables.1 {
        "no partition, but the space between them or the partition table".into()
    } else {
        "the partition table: other places or names".into()
    })
}

/// Returns the partitions of a disk in their order on it.
pub(crate) fn partitions(disk: &Path) -> Result<Vec<Partition>> {
    let table = gpt::GptConfig::new().writable(false).open(disk)?;
    let block = *table.logical_block_size();
    let mut found = Vec::new();
    for partition in table.partitions().values() {
        found.push(Partition {
            name: partition.name.clone(),
            start: partition.bytes_start(block)?,
            size: partition.bytes_len(block)?,
        });
    }
    found.sort_by_key(|partition| partition.start);
    Ok(found)
}

/// Copies what is in a partition to a file.
pub(crate) fn extract(mut disk: &File, partition: &Partition, to: &Path) -> Result<()> {
    disk.seek(SeekFrom::Start(partition.start))?;
    std::io::copy(&mut disk.take(partition.size), &mut File::create(to)?)?;
    Ok(())
}

fn of_erofs(image: &Path) -> Result<Listing> {
    let shell = host::shell()?;
    host::need(&shell, &[("fsck.erofs", "erofs-utils")])?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let tree = folder.path().join("tree");
    cmd!(shell, "fsck.erofs --extract={tree} {image}")
        .quiet()
        .ignore_stdout()
        .run()?;
    listing::of_folder(&tree)
}

fn of_initrd(archive: &Path) -> Result<Listing> {
    let shell = host::shell()?;
    host::need(&shell, &[("zstd", "zstd")])?;
    let archive = cmd!(shell, "zstd -dcq {archive}").quiet().output()?;
    listing::of_archive(&archive.stdout)
}

/// Names the first path that differs, and how.
fn in_listing(one: &Listing, other: &Listing) -> String {
    let paths: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differences = paths.iter().filter_map(|path| {
        let what = match (one.get(*path), other.get(*path)) {
            (Some(one), Some(other)) => one.differs(other),
            _ => vec!["only one of them has it".to_owned()],
        };
        (!what.is_empty()).then(|| format!("{path}: {}", what.join(", ")))
    });
    let differences: Vec<String> = differences.collect();
    match differences.split_first() {
        Some((first, rest)) => format!("{first} (and {} more paths)", rest.len()),
        None => "no path; how the files are laid out".into(),
    }
}

fn in_bytes(one: &[u8], other: &[u8]) -> String {
    let first = one.iter().zip(other).position(|(one, other)| one != other);
    let first = first.unwrap_or(one.len().min(other.len()));
    format!("from byte {first} on; {} and {} bytes", one.len(), other.len())
}
