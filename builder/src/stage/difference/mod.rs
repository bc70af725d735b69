//! Two builds of one recipe and lock: which files differ, where in them, and what kind of cause that looks like.
//!
//! The images are read from their bytes: what a document says of them is not believed. Nothing here fails: a file that
//! cannot be looked into differs all the same.

mod cause;
mod tree;

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, Result};
use measure::ReadAt as _;
use measure::gpt::Gpt;
use serde::Serialize;

pub use cause::Cause;
use tree::{Esp, Image, Initrd};

use crate::model::Manifest;
use crate::model::artifacts::file;
use crate::model::release::FileName;
use crate::model::volume::Name;
use crate::stage::disk::Window;
use crate::stage::on_disk::OnDisk;
use crate::world::files::Opened;

/// A file that differs, and where in it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    pub file: String,
    /// The partition, of a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(flatten)]
    pub place: Place,
}

/// Where in a file two builds differ first, and how.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Place {
    /// The first path, of a file that holds others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How many more paths differ.
    pub more: usize,
    /// What differs of it.
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looks_like: Option<Cause>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        if let Some(partition) = &self.partition {
            write!(f, "partition {partition}: ")?;
        }
        let Place {
            path,
            more,
            what,
            looks_like,
        } = &self.place;
        if let Some(path) = path {
            write!(f, "{path}: ")?;
        }
        f.write_str(&what.replace(char::is_control, " "))?;
        if let Some(cause) = looks_like {
            write!(f, "; it looks like {cause}")?;
        }
        match more {
            0 => Ok(()),
            more => write!(f, " (and {more} more paths)"),
        }
    }
}

/// The files that others follow from come first.
fn rank(name: &str) -> usize {
    let first = [file::ROOT, file::INITRD, file::KERNEL];
    let before_disk = first.len() + 1;
    match name {
        file::DISK => before_disk,
        name if Name::of_image(name).is_some() => first.len(),
        name => first.iter().position(|first| *first == name).unwrap_or(before_disk + 1),
    }
}

/// How much of a file is looked at for a cause, in bytes.
const KEEP: u64 = 64 << 20;

/// Returns what differs between two releases, each with its manifest.
pub fn compare(one: (&OnDisk, &Manifest), other: (&OnDisk, &Manifest)) -> Vec<Difference> {
    let (ours, theirs) = (&one.1.files, &other.1.files);
    let names: BTreeSet<&FileName> = ours.keys().chain(theirs.keys()).collect();
    let mut names: Vec<&str> = names
        .into_iter()
        .filter(|name| ours.get(name) != theirs.get(name))
        .map(FileName::as_str)
        .collect();
    names.sort_by_key(|name| rank(name));
    let differences = names.into_iter().flat_map(|name| in_file(name, one.0, other.0));
    differences.collect()
}

fn in_file(name: &str, one: &OnDisk, other: &OnDisk) -> Vec<Difference> {
    let difference = |place| Difference {
        file: name.to_owned(),
        partition: None,
        place,
    };
    if !(one.has(name) && other.has(name)) {
        return vec![difference(Place::said("only one of them has it"))];
    }
    let found = || {
        let (one, other) = (one.file(name)?, other.file(name)?);
        let place = match name {
            file::DISK => return in_disk(&[&one, &other]),
            name if name == file::ROOT || Name::of_image(name).is_some() => {
                tree::compare(&Image(&*one), &Image(&*other))
            }
            file::INITRD => tree::compare(&Initrd(&one), &Initrd(&other)),
            _ => in_bytes(&one, &other),
        };
        place.map(|place| vec![difference(place)])
    };
    found().unwrap_or_else(|error| vec![difference(Place::said(format!("cannot say where: {error:#}")))])
}

impl Place {
    fn said(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            ..Self::default()
        }
    }

    /// The first byte that differs, of what fits into memory.
    fn of_bytes(one: &[u8], other: &[u8]) -> Self {
        let first = one.iter().zip(other).position(|(one, other)| one != other);
        let first = first.unwrap_or(one.len().min(other.len()));
        Self {
            what: format!("from byte {first} on; {} and {} bytes", one.len(), other.len()),
            looks_like: cause::of(one, other),
            ..Self::default()
        }
    }
}

fn in_bytes(one: &Opened, other: &Opened) -> Result<Place> {
    let sizes = [one.len(), other.len()];
    if sizes.iter().any(|size| *size > KEEP) {
        return Ok(Place::said(format!("{} and {} bytes", sizes[0], sizes[1])));
    }
    Ok(Place::of_bytes(&one.bytes(KEEP)?, &other.bytes(KEEP)?))
}

/// Each partition that differs; where none does, the table and what is between.
fn in_disk(disks: &[&Opened; 2]) -> Result<Vec<Difference>> {
    /// Our tables are far smaller, in bytes.
    const TABLE: u64 = 1 << 20;
    let mut tables = Vec::new();
    for disk in disks {
        let mut start = vec![0; disk.size().min(TABLE) as usize];
        disk.read_at(0, &mut start)?;
        tables.push(Gpt::read(&start)?.partitions()?);
    }
    let difference = |partition: Option<String>, place| Difference {
        file: file::DISK.to_owned(),
        partition,
        place,
    };
    let mut found = Vec::new();
    for (ours, theirs) in tables[0].iter().zip(&tables[1]) {
        let ours_on_disk = Window::new(disks[0], ours.bytes.clone());
        let theirs_on_disk = Window::new(disks[1], theirs.bytes.clone());
        if let Some(place) = in_partition(&ours_on_disk, &theirs_on_disk).context("cannot read a partition")? {
            found.push(difference(Some(ours.name.clone()), place));
        }
    }
    if found.is_empty() {
        let table = tables[0] != tables[1];
        let what = if table {
            "the partition table"
        } else {
            "what is between the partitions"
        };
        found.push(difference(None, Place::said(what)));
    }
    Ok(found)
}

/// A partition is looked into by what it is: a root file system, an ESP, or bytes.
fn in_partition(one: &Window<'_>, other: &Window<'_>) -> Result<Option<Place>> {
    let Some(first) = first_difference(one, other)? else {
        return Ok(None);
    };
    let place = tree::compare(&Image(one), &Image(other));
    let place = place.or_else(|_| tree::compare(&Esp(one), &Esp(other)));
    Ok(Some(
        place.unwrap_or_else(|_| Place::said(format!("from byte {first} on"))),
    ))
}

fn first_difference(one: &Window<'_>, other: &Window<'_>) -> Result<Option<u64>> {
    /// In bytes.
    const PIECE: u64 = 1 << 20;
    let size = one.size().min(other.size());
    let mut buffers = [Vec::new(), Vec::new()];
    let mut start = 0;
    while start < size {
        let length = PIECE.min(size - start) as usize;
        buffers.iter_mut().for_each(|buffer| buffer.resize(length, 0));
        one.read_at(start, &mut buffers[0])?;
        other.read_at(start, &mut buffers[1])?;
        let differing = buffers[0].iter().zip(&buffers[1]).position(|(one, other)| one != other);
        if let Some(differing) = differing {
            return Ok(Some(start + differing as u64));
        }
        start += length as u64;
    }
    Ok((one.size() != other.size()).then_some(size))
}

#[cfg(test)]
mod tests;
