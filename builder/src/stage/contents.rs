//! Images in, their paths out: read back from the bytes of a finished release.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};

use anyhow::{Context as _, Result};
use data_encoding::BASE64;
use measure::Sha256;
use measure::cpio::{self, Archives, CpioError, Entry, Stream};
use measure::erofs::{self, Erofs, ErofsError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use sha2::Digest as _;

use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::file;
use crate::model::contents::{Image, Kind, Node, escape};
use crate::model::volume;
use crate::stage::on_disk::OnDisk;
use crate::world::files::{self, Opened, Reader};
use crate::world::parallel;

/// What an initrd may unpack to, in bytes: some fifty times what one has.
const INITRD_LIMIT: u64 = 4 << 30;

const MEND: &str = "do not use the release: build it anew";

/// Returns every path of the root image, of the initrd and of the volumes of a release, sorted by image and path.
///
/// # Errors
/// Files that cannot be read, and images that are damaged.
pub fn read(release: &OnDisk) -> Result<Vec<Node>> {
    let volumes = release.volumes();
    let volumes = volumes.iter().map(volume::Name::image);
    let images = [file::ROOT.to_owned()].into_iter().chain(volumes);
    let of_image = |image: String| {
        let nodes = of_image(release, &image);
        nodes.or_mend(Exit::No, format!("cannot read {image}"), MEND)
    };
    let images = || images.map(of_image).collect::<Result<Vec<_>>>();
    let initrd = || {
        release
            .file(file::INITRD)
            .context("cannot open it")
            .and_then(|initrd| of_initrd(&initrd))
    };
    let (images, initrd) = parallel::both(images, initrd);
    let initrd = initrd.or_mend(Exit::No, format!("cannot read {}", file::INITRD), MEND)?;
    let mut nodes: Vec<Node> = images?.into_iter().flatten().chain(initrd).collect();
    nodes.sort_by(|a, b| (&a.image, &a.path).cmp(&(&b.image, &b.path)));
    Ok(nodes)
}

/// The content of a file: its size in bytes and its digest.
#[derive(Clone, Copy)]
struct Content {
    size: u64,
    sha256: Sha256,
}

/// The content of each file of an archive, by the first path of the file.
type Contents = BTreeMap<Vec<u8>, Content>;

/// A path, and by what its file is told from others.
type Found<K> = (Node, Option<K>);

fn of_image(release: &OnDisk, name: &str) -> Result<Vec<Node>> {
    let image = release.file(name).context("cannot open it")?;
    let image = Erofs::read(&*image)?;
    let nodes = image.walk()?;
    let files: BTreeMap<u64, &erofs::Inode> = nodes
        .iter()
        .filter(|node| matches!(node.inode.kind, erofs::Kind::File { .. }))
        .map(|node| (node.inode.nid, &*node.inode))
        .collect();
    let contents = hash_files(&image, files.values().copied().collect())?;
    let found = nodes.iter().map(|node| of_erofs(name, node, &contents));
    Ok(with_links(found.collect()))
}

/// The largest come first, so that no core waits for another's last file.
fn hash_files(image: &Erofs<'_, Opened>, mut files: Vec<&erofs::Inode>) -> Result<BTreeMap<u64, Content>, ErofsError> {
    let size = |inode: &erofs::Inode| match inode.kind {
        erofs::Kind::File { size } => size,
        _ => 0,
    };
    files.sort_by_key(|inode| (std::cmp::Reverse(size(inode)), inode.nid));
    let hashed = files::for_each(&files, |inode| {
        let mut sha256 = sha2::Sha256::new();
        image.content(inode, |piece| sha256.update(piece))?;
        let sha256 = digest(sha256);
        let size = size(inode);
        Ok((inode.nid, Content { size, sha256 }))
    });
    hashed.into_iter().collect()
}

fn digest(sha256: sha2::Sha256) -> Sha256 {
    <[u8; 32]>::from(sha256.finalize()).into()
}

fn of_erofs(image: &str, node: &erofs::Node, contents: &BTreeMap<u64, Content>) -> Found<u64> {
    let inode = &node.inode;
    let content = contents.get(&inode.nid); // of files only
    let kind = match inode.kind {
        erofs::Kind::File { .. } => file_of(content.expect("all files were hashed")),
        erofs::Kind::Directory => Kind::Directory,
        erofs::Kind::Symlink { ref target } => Kind::Symlink { target: escape(target) },
        erofs::Kind::CharacterDevice { major, minor } => Kind::CharacterDevice { major, minor },
        erofs::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        erofs::Kind::Fifo => Kind::Fifo,
        erofs::Kind::Socket => Kind::Socket,
    };
    let xattrs = inode.xattrs.iter();
    let node = Node {
        image: Image(image.into()),
        path: escape(&node.path),
        kind,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        xattrs: xattrs
            .map(|(name, value)| (escape(name), BASE64.encode(value)))
            .collect(),
    };
    (node, content.map(|_| inode.nid))
}

fn file_of(content: &Content) -> Kind {
    Kind::File {
        size: content.size,
        sha256: content.sha256,
        same_as: None,
    }
}

/// Sorts the paths, and names at every further path of a file its first.
fn with_links<K: Ord>(mut found: Vec<Found<K>>) -> Vec<Node> {
    found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let mut first = BTreeMap::new();
    let named = found.into_iter().map(|(mut node, file)| {
        if let (Kind::File { same_as, .. }, Some(file)) = (&mut node.kind, file) {
            *same_as = first.get(&file).cloned();
            first.entry(file).or_insert_with(|| node.path.clone());
        }
        node
    });
    named.collect()
}

/// The bytes that zstd has packed into a file.
pub(super) fn unpacked(file: &Opened) -> Result<Unpacked<StreamingDecoder<BufReader<Reader<'_>>, FrameDecoder>>> {
    let bytes = StreamingDecoder::new(BufReader::with_capacity(1 << 18, file.reader())).context("it is no zstd")?;
    let left = INITRD_LIMIT;
    Ok(Unpacked { bytes, left })
}

fn of_initrd(initrd: &Opened) -> Result<Vec<Node>> {
    let mut archives = Archives::new(unpacked(initrd)?);
    let (entries, contents) = read_archives(&mut archives)?;
    let mut behind = archives.into_stream().bytes.into_inner();
    if !behind.fill_buf()?.is_empty() {
        return Err(Exit::No.because("there are bytes behind its zstd frame", MEND));
    }
    let found = entries.into_iter().map(|entry| of_cpio(entry, &contents));
    Ok(with_links(found.collect()))
}

/// All entries, and the content of each file by its first path in the archive.
fn read_archives<S: Stream>(archives: &mut Archives<S>) -> Result<(Vec<Entry>, Contents), CpioError> {
    let (mut entries, mut contents) = (Vec::new(), BTreeMap::new());
    while let Some(entry) = archives.next_entry()? {
        if let cpio::Kind::File { size, link } = &entry.kind {
            let mut sha256 = sha2::Sha256::new();
            archives.content(|piece| sha256.update(piece))?;
            let content = Content {
                size: *size,
                sha256: digest(sha256),
            };
            let known = contents.entry(link.as_ref().unwrap_or(&entry.path).clone());
            let known = known.or_insert(content);
            if known.size == 0 {
                *known = content; // of several paths, one has the content
            }
        }
        entries.push(entry);
    }
    Ok((entries, contents))
}

fn of_cpio(entry: Entry, contents: &Contents) -> Found<Vec<u8>> {
    let first = match &entry.kind {
        cpio::Kind::File { link, .. } => Some(link.as_ref().unwrap_or(&entry.path).clone()),
        _ => None,
    };
    let content = first.as_ref().and_then(|first| contents.get(first));
    let kind = match entry.kind {
        cpio::Kind::File { .. } => file_of(content.expect("all files were hashed")),
        cpio::Kind::Directory => Kind::Directory,
        cpio::Kind::Symlink { target } => Kind::Symlink {
            target: escape(&target),
        },
        cpio::Kind::CharacterDevice { major, minor } => Kind::CharacterDevice { major, minor },
        cpio::Kind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
        cpio::Kind::Fifo => Kind::Fifo,
        cpio::Kind::Socket => Kind::Socket,
    };
    let node = Node {
        image: Image(file::INITRD.into()),
        path: escape(&entry.path),
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        xattrs: BTreeMap::new(), // the format has none
    };
    (node, first)
}

/// What zstd unpacks, up to a limit.
pub(super) struct Unpacked<R> {
    bytes: R,
    left: u64,
}

impl<R: Read> Stream for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let size = self.bytes.read(buffer).map_err(|error| error.to_string())?;
        let left = self.left.checked_sub(size as u64);
        self.left = left.ok_or_else(|| format!("it unpacks to more than {INITRD_LIMIT} bytes"))?;
        Ok(size)
    }
}
