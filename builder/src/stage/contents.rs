//! Images in, their paths out: read back from the bytes of a finished release.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read};

use anyhow::{Context as _, Result, ensure};
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

/// How much of the files of an image is kept as text, in bytes: some twice what the largest image needs.
const TEXTS_LIMIT: u64 = 96 << 20;

/// The contents of files of one image, by path.
pub type Texts = BTreeMap<String, Vec<u8>>;

/// What is in the images of a release.
pub struct Images {
    /// Every path, sorted by image and path.
    pub nodes: Vec<Node>,
    /// The contents of the files that were asked for, by image. What is too large is left out.
    pub texts: BTreeMap<String, Texts>,
}

const MEND: &str = "do not use the release: build it anew";

/// Returns every path of the root image, of the initrd and of the volumes of a release, sorted by image and path.
///
/// # Errors
/// Files that cannot be read, and images that are damaged.
pub fn read(release: &OnDisk) -> Result<Vec<Node>> {
    Ok(read_with(release, |_| false)?.nodes)
}

/// Returns the same, and the contents of the files whose paths are `wanted`.
///
/// # Errors
/// As [`read`].
pub fn read_with(release: &OnDisk, wanted: fn(&str) -> bool) -> Result<Images> {
    let volumes = release.volumes();
    let volumes = volumes.iter().map(volume::Name::image);
    let images = [file::ROOT.to_owned()].into_iter().chain(volumes);
    let of_image = |image: String| {
        let read = of_image(release, &image, wanted);
        read.or_mend(Exit::No, format!("cannot read {image}"), MEND)
    };
    let images = || images.map(of_image).collect::<Result<Vec<_>>>();
    let initrd = || {
        release
            .file(file::INITRD)
            .context("cannot open it")
            .and_then(|initrd| of_initrd(&initrd, wanted))
    };
    let (images, initrd) = parallel::both(images, initrd);
    let initrd = initrd.or_mend(Exit::No, format!("cannot read {}", file::INITRD), MEND)?;
    let (mut nodes, mut texts) = (Vec::new(), BTreeMap::new());
    for (of_image, kept) in images?.into_iter().chain([initrd]) {
        if let Some(first) = of_image.first() {
            texts.insert(first.image.0.clone(), kept);
        }
        nodes.extend(of_image);
    }
    nodes.sort_by(|a, b| (&a.image, &a.path).cmp(&(&b.image, &b.path)));
    Ok(Images { nodes, texts })
}

/// Returns the text of a file of the root image.
///
/// # Errors
/// An image that is damaged, or that has no such file, or something else than a short text in it.
pub fn text_of_root(release: &OnDisk, path: &str) -> Result<String> {
    const LIMIT: u64 = 1 << 20;
    let image = release.file(file::ROOT).context("cannot open the root image")?;
    let image = Erofs::read(&*image)?;
    let nodes = image.walk()?;
    let node = nodes.iter().find(|node| node.path == path.as_bytes());
    let inode = &node.with_context(|| format!("the root image has no {path}"))?.inode;
    let short = matches!(inode.kind, erofs::Kind::File { size } if size <= LIMIT);
    ensure!(
        short,
        "{path} of the root image is no file, or has more than {LIMIT} bytes"
    );
    let mut bytes = Vec::new();
    image.content(inode, |piece| bytes.extend_from_slice(piece))?;
    String::from_utf8(bytes).with_context(|| format!("{path} of the root image is no text"))
}

/// The content of a file: its size in bytes, its digest, and itself where it is wanted.
struct Content {
    size: u64,
    sha256: Sha256,
    text: Option<Vec<u8>>,
}

/// The content of each file of an archive, by the first path of the file.
type Contents = BTreeMap<Vec<u8>, Content>;

/// A path, and by what its file is told from others.
type Found<K> = (Node, Option<K>);

fn of_image(release: &OnDisk, name: &str, wanted: fn(&str) -> bool) -> Result<(Vec<Node>, Texts)> {
    let image = release.file(name).context("cannot open it")?;
    let image = Erofs::read(&*image)?;
    let nodes = image.walk()?;
    let files: BTreeMap<u64, &erofs::Inode> = nodes
        .iter()
        .filter(|node| matches!(node.inode.kind, erofs::Kind::File { .. }))
        .map(|node| (node.inode.nid, &*node.inode))
        .collect();
    let kept = kept(&nodes, wanted);
    let contents = hash_files(&image, files.values().copied().collect(), &kept)?;
    let found = nodes.iter().map(|node| of_erofs(name, node, &contents));
    Ok(with_links(found.collect(), &contents, wanted))
}

/// The files whose contents are wanted, as far as the limit goes.
fn kept(nodes: &[erofs::Node], wanted: fn(&str) -> bool) -> BTreeSet<u64> {
    let (mut kept, mut left) = (BTreeSet::new(), TEXTS_LIMIT);
    for node in nodes.iter().filter(|node| wanted(&escape(&node.path))) {
        if let erofs::Kind::File { size } = node.inode.kind
            && size <= left
            && kept.insert(node.inode.nid)
        {
            left -= size;
        }
    }
    kept
}

/// The largest come first, so that no core waits for another's last file.
fn hash_files(
    image: &Erofs<'_, Opened>,
    mut files: Vec<&erofs::Inode>,
    kept: &BTreeSet<u64>,
) -> Result<BTreeMap<u64, Content>, ErofsError> {
    let size = |inode: &erofs::Inode| match inode.kind {
        erofs::Kind::File { size } => size,
        _ => 0,
    };
    files.sort_by_key(|inode| (std::cmp::Reverse(size(inode)), inode.nid));
    let hashed = files::for_each(&files, |inode| {
        let (mut sha256, mut text) = (sha2::Sha256::new(), kept.contains(&inode.nid).then(Vec::new));
        image.content(inode, |piece| {
            sha256.update(piece);
            text.iter_mut().for_each(|text| text.extend_from_slice(piece));
        })?;
        let sha256 = digest(sha256);
        let size = size(inode);
        Ok((inode.nid, Content { size, sha256, text }))
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

/// Sorts the paths, names at every further path of a file its first, and takes what is wanted of the contents.
fn with_links<K: Ord>(
    mut found: Vec<Found<K>>,
    contents: &BTreeMap<K, Content>,
    wanted: fn(&str) -> bool,
) -> (Vec<Node>, Texts) {
    found.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let (mut first, mut texts) = (BTreeMap::new(), Texts::new());
    let named = found.into_iter().map(|(mut node, file)| {
        let text = file.as_ref().and_then(|file| contents.get(file)?.text.clone());
        texts.extend(
            text.filter(|_| wanted(&node.path))
                .map(|text| (node.path.clone(), text)),
        );
        if let (Kind::File { same_as, .. }, Some(file)) = (&mut node.kind, file) {
            *same_as = first.get(&file).cloned();
            first.entry(file).or_insert_with(|| node.path.clone());
        }
        node
    });
    (named.collect(), texts)
}

/// The bytes that zstd has packed into a file.
pub(super) fn unpacked(file: &Opened) -> Result<Unpacked<StreamingDecoder<BufReader<Reader<'_>>, FrameDecoder>>> {
    let bytes = StreamingDecoder::new(BufReader::with_capacity(1 << 18, file.reader())).context("it is no zstd")?;
    let left = INITRD_LIMIT;
    Ok(Unpacked { bytes, left })
}

fn of_initrd(initrd: &Opened, wanted: fn(&str) -> bool) -> Result<(Vec<Node>, Texts)> {
    let mut archives = Archives::new(unpacked(initrd)?);
    let (entries, contents) = read_archives(&mut archives, wanted)?;
    let mut behind = archives.into_stream().bytes.into_inner();
    if !behind.fill_buf()?.is_empty() {
        return Err(Exit::No.because("there are bytes behind its zstd frame", MEND));
    }
    let found = entries.into_iter().map(|entry| of_cpio(entry, &contents));
    Ok(with_links(found.collect(), &contents, wanted))
}

/// All entries, and the content of each file by its first path in the archive.
fn read_archives<S: Stream>(
    archives: &mut Archives<S>,
    wanted: fn(&str) -> bool,
) -> Result<(Vec<Entry>, Contents), CpioError> {
    let (mut entries, mut contents, mut left) = (Vec::new(), Contents::new(), TEXTS_LIMIT);
    while let Some(entry) = archives.next_entry()? {
        if let cpio::Kind::File { size, link } = &entry.kind {
            let is_kept = *size <= left && wanted(&escape(&entry.path));
            let (mut sha256, mut text) = (sha2::Sha256::new(), is_kept.then(Vec::new));
            archives.content(|piece| {
                sha256.update(piece);
                text.iter_mut().for_each(|text| text.extend_from_slice(piece));
            })?;
            left -= if is_kept { *size } else { 0 };
            let content = Content {
                size: *size,
                sha256: digest(sha256),
                text,
            };
            let first = link.as_ref().unwrap_or(&entry.path);
            if contents.get(first).is_none_or(|known| known.size == 0) {
                contents.insert(first.clone(), content); // of several paths, one has the content
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
