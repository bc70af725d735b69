//! Two file trees: of root images, of initrds, of EFI system partitions.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use measure::cpio::{self, Archives};
use measure::erofs::{self, Erofs};
use measure::fat::{self, Fat};
use measure::{ReadAt, Sha256};
use sha2::Digest as _;

use super::{Cause, KEEP, Place, cause};
use crate::model::contents::escape;
use crate::stage::contents;
use crate::world::files::Opened;

/// What is at a path. What a format has no room for is as nothing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Entry {
    /// What it is, with the target of a link and the number of a device.
    kind: String,
    mode: u16,
    owner: (u32, u32),
    /// Seconds since 1970, and nanoseconds.
    time: (u64, u32),
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Option<Sha256>,
}

pub(super) type Listing = BTreeMap<Vec<u8>, Entry>;

/// A file tree.
pub(super) trait Tree {
    /// Returns every path, and the start of the content of the file `keep`.
    fn read(&self, keep: Option<&[u8]>) -> Result<(Listing, Vec<u8>)>;
}

/// Returns the first path that differs, and how.
pub(super) fn compare(one: &impl Tree, other: &impl Tree) -> Result<Place> {
    let ((ours, _), (theirs, _)) = (one.read(None)?, other.read(None)?);
    let paths: BTreeSet<&Vec<u8>> = ours.keys().chain(theirs.keys()).collect();
    let mut differing = paths.into_iter().filter(|path| ours.get(*path) != theirs.get(*path));
    let Some(path) = differing.next() else {
        return Ok(Place::said("no path; how the files are laid out"));
    };
    let (what, looks_like) = match (ours.get(path), theirs.get(path)) {
        (Some(ours), Some(theirs)) => {
            let (_, one) = one.read(Some(path))?;
            let (_, other) = other.read(Some(path))?;
            ours.differs(theirs, (&one, &other))
        }
        (Some(_), None) => ("only the first has it".to_owned(), None),
        _ => ("only the second has it".to_owned(), None),
    };
    Ok(Place {
        path: Some(escape(path).replace(char::is_control, " ")),
        more: differing.count(),
        what,
        looks_like,
    })
}

impl Entry {
    /// Says what differs, and what that looks like.
    fn differs(&self, other: &Self, contents: (&[u8], &[u8])) -> (String, Option<Cause>) {
        let mut found = Vec::new();
        if self.kind != other.kind {
            found.push((format!("{} and {}", self.kind, other.kind), None));
        }
        if self.content != other.content {
            found.push(("content".to_owned(), cause::of(contents.0, contents.1)));
        }
        if self.mode != other.mode {
            found.push((
                format!("mode {:04o} and {:04o}", self.mode, other.mode),
                Some(Cause::Permissions),
            ));
        }
        if self.owner != other.owner {
            found.push((
                format!("owner {:?} and {:?}", self.owner, other.owner),
                Some(Cause::Permissions),
            ));
        }
        if self.time != other.time {
            found.push((
                format!("time {} and {}", self.time.0, other.time.0),
                Some(Cause::TimeStamp),
            ));
        }
        if self.xattrs != other.xattrs {
            found.push(("extended attributes".to_owned(), None));
        }
        let looks_like = found.iter().find_map(|(_, cause)| *cause);
        let what: Vec<String> = found.into_iter().map(|(what, _)| what).collect();
        (what.join(", "), looks_like)
    }
}

/// Takes in the content of a file: its digest, and its start where that is asked for.
struct Sink {
    sha256: sha2::Sha256,
    kept: Option<Vec<u8>>,
}

impl Sink {
    fn new(keep: bool) -> Self {
        Self {
            sha256: sha2::Sha256::new(),
            kept: keep.then(Vec::new),
        }
    }

    fn take(&mut self, piece: &[u8]) {
        self.sha256.update(piece);
        if let Some(kept) = &mut self.kept {
            let left = (KEEP as usize).saturating_sub(kept.len());
            kept.extend_from_slice(&piece[..left.min(piece.len())]);
        }
    }

    fn finish(self, start: &mut Vec<u8>) -> Option<Sha256> {
        start.extend(self.kept.unwrap_or_default());
        Some(<[u8; 32]>::from(self.sha256.finalize()).into())
    }
}

/// An image of a root or of a volume.
pub(super) struct Image<'a, R>(pub(super) &'a R);

impl<R: ReadAt> Tree for Image<'_, R> {
    fn read(&self, keep: Option<&[u8]>) -> Result<(Listing, Vec<u8>)> {
        let image = Erofs::read(self.0)?;
        let (mut listing, mut start) = (Listing::new(), Vec::new());
        for erofs::Node { path, inode } in image.walk()? {
            let mut entry = Entry {
                kind: match &inode.kind {
                    erofs::Kind::File { .. } => "a file".into(),
                    other => format!("{other:?}"),
                },
                mode: inode.mode,
                owner: (inode.uid, inode.gid),
                time: inode.time,
                xattrs: inode.xattrs.clone(),
                content: None,
            };
            let wanted = keep == Some(path.as_slice());
            if matches!(inode.kind, erofs::Kind::File { .. }) && (wanted || keep.is_none()) {
                let mut sink = Sink::new(wanted);
                image.content(&inode, |piece| sink.take(piece))?;
                entry.content = sink.finish(&mut start);
            }
            listing.insert(path, entry);
        }
        Ok((listing, start))
    }
}

/// An initrd, packed with zstd.
pub(super) struct Initrd<'a>(pub(super) &'a Opened);

impl Tree for Initrd<'_> {
    fn read(&self, keep: Option<&[u8]>) -> Result<(Listing, Vec<u8>)> {
        let mut archives = Archives::new(contents::unpacked(self.0)?);
        let (mut listing, mut start) = (Listing::new(), Vec::new());
        while let Some(cpio::Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            time,
        }) = archives.next_entry()?
        {
            let mut entry = Entry {
                kind: match &kind {
                    cpio::Kind::File { .. } => "a file".into(),
                    other => format!("{other:?}"),
                },
                mode,
                owner: (uid, gid),
                time: (time.into(), 0),
                ..Entry::default()
            };
            if let cpio::Kind::File { .. } = kind {
                let mut sink = Sink::new(keep == Some(path.as_slice()));
                archives.content(|piece| sink.take(piece))?;
                entry.content = sink.finish(&mut start);
            }
            listing.insert(path, entry);
        }
        Ok((listing, start))
    }
}

/// An EFI system partition.
pub(super) struct Esp<'a, R>(pub(super) &'a R);

impl<R: ReadAt> Tree for Esp<'_, R> {
    fn read(&self, keep: Option<&[u8]>) -> Result<(Listing, Vec<u8>)> {
        let (mut listing, mut start) = (Listing::new(), Vec::new());
        for file in Fat::read(self.0)?.contents()?.files {
            let mut sink = Sink::new(keep == Some(file.path.as_bytes()));
            self.content(&file, &mut sink)
                .with_context(|| format!("cannot read {}", file.path))?;
            let entry = Entry {
                kind: "a file".into(),
                content: sink.finish(&mut start),
                ..Entry::default()
            };
            listing.insert(file.path.into_bytes(), entry);
        }
        Ok((listing, start))
    }
}

impl<R: ReadAt> Esp<'_, R> {
    fn content(&self, file: &fat::File, sink: &mut Sink) -> Result<()> {
        /// In bytes.
        const PIECE: u64 = 1 << 20;
        let mut left = file.size;
        let mut buffer = Vec::new();
        for extent in &file.extents {
            let mut offset = extent.start;
            while offset < extent.end && left > 0 {
                let length = PIECE.min(extent.end - offset).min(left);
                buffer.resize(length as usize, 0);
                self.0.read_at(offset, &mut buffer)?;
                sink.take(&buffer);
                offset += length;
                left -= length;
            }
        }
        Ok(())
    }
}
