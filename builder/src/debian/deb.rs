//! Debian packages: deb(5). An `ar` archive of two compressed tar archives.

use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

use crate::mend::Exit;

/// What a part may unpack to at most, in bytes: the largest package of Debian has some 2 GiB.
const CONTROL_LIMIT: u64 = 64 << 20;
const DATA_LIMIT: u64 = 8 << 30;

/// What the name of a member, or the target of a link, may have at most, in bytes: some sixteen times what Linux allows.
const NAME_LIMIT: u64 = 64 << 10;

/// What [`extract_file`] may take into memory, in bytes: a firmware has some 16 MiB.
const FILE_LIMIT: u64 = 1 << 30;

/// What a decompressor may use, in KiB: `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 128 << 10;

/// How many links [`extract_file`] follows.
const LINKS: usize = 8;

/// One of the two archives in a package.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// What the package manager reads: `control`, `md5sums`, maintainer scripts.
    Control,
    /// The files of the package.
    Data,
}

/// Opens a part of a package for reading.
///
/// # Errors
/// Bytes that are no package, and a compression that begat does not know.
pub fn part<'a>(mut deb: impl Read + 'a, part: Part) -> Result<tar::Archive<Box<dyn Read + 'a>>> {
    let (stem, limit) = match part {
        Part::Control => ("control.tar", CONTROL_LIMIT),
        Part::Data => ("data.tar", DATA_LIMIT),
    };
    let mut magic = [0; 8];
    deb.read_exact(&mut magic).context("it is no Debian package")?;
    if magic != *b"!<arch>\n" {
        return Err(damaged("it is no Debian package: it does not begin with !<arch>"));
    }
    loop {
        let (name, size) = member(&mut deb)?.ok_or_else(|| damaged(format!("it has no member {stem}")))?;
        if let Some(compression) = name.strip_prefix(stem) {
            let bytes = decompressed(BufReader::new(deb.take(size)), compression)?;
            let bytes = Bounded { bytes, left: limit };
            return Ok(tar::Archive::new(Box::new(Screened::new(bytes))));
        }
        let padded = size + size % 2;
        let skipped = io::copy(&mut deb.by_ref().take(padded), &mut io::sink())?;
        if skipped < size {
            return Err(damaged(format!("it ends inside its member {name}")));
        }
    }
}

/// Returns one regular file of a package; links to other files of the same package are followed.
///
/// # Errors
/// Bytes that are no package, and a package without such a file.
pub fn extract_file(deb: &[u8], path: &str) -> Result<Vec<u8>> {
    let mut wanted = normal(Path::new(path));
    for _ in 0..LINKS {
        match find(deb, &wanted)? {
            Some(Found::File(bytes)) => return Ok(bytes),
            Some(Found::Link(target)) => wanted = target,
            None => break,
        }
    }
    let problem = format!("the package has no file {path}");
    Err(Exit::Usage.because(problem, "name one that it has: dpkg --contents FILE.deb lists them"))
}

enum Found {
    File(Vec<u8>),
    Link(PathBuf),
}

fn find(deb: &[u8], wanted: &Path) -> Result<Option<Found>> {
    let mut archive = part(deb, Part::Data)?;
    for entry in archive.entries()? {
        let mut entry = entry?;
        if normal(&entry.path()?) != wanted {
            continue;
        }
        let kind = entry.header().entry_type();
        let target = entry.link_name()?.map(std::borrow::Cow::into_owned).unwrap_or_default();
        if kind.is_hard_link() {
            return Ok(Some(Found::Link(normal(&target))));
        }
        if kind.is_symlink() {
            let folder = wanted.parent().unwrap_or(Path::new(""));
            return Ok(Some(Found::Link(normal(&folder.join(target)))));
        }
        if entry.size() > FILE_LIMIT {
            return Err(damaged(format!(
                "its file {} has {} bytes",
                wanted.display(),
                entry.size()
            )));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        return Ok(Some(Found::File(bytes)).filter(|_| kind.is_file()));
    }
    Ok(None)
}

/// The path below the package's root: `/a/./b/../c` is `a/c`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir | Component::Prefix(_) | Component::RootDir => {}
        }
    }
    normal
}

/// The name and size of the next `ar` member; none at the end.
fn member(deb: &mut impl Read) -> Result<Option<(String, u64)>> {
    let mut header = Vec::with_capacity(60);
    deb.take(60).read_to_end(&mut header)?;
    if header.is_empty() {
        return Ok(None);
    }
    if header.len() < 60 || header[58..] != *b"`\n" {
        return Err(damaged("the header of an ar member is damaged"));
    }
    let text = |range| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
    let size = text(48..58).parse().ok();
    let size = size.ok_or_else(|| damaged("the size of an ar member is no number"))?;
    Ok(Some((text(0..16).trim_end_matches('/').to_owned(), size)))
}

/// Opens bytes that may be compressed, as their first ones say.
///
/// # Errors
/// Bytes that cannot be read, and a damaged head of a compressed file.
pub fn by_magic<'a>(mut bytes: impl io::BufRead + 'a) -> Result<Box<dyn Read + 'a>> {
    let compression = match bytes.fill_buf().context("cannot read its first bytes")? {
        [0x1f, 0x8b, ..] => ".gz",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ".xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ".zst",
        _ => "",
    };
    decompressed(bytes, compression)
}

fn decompressed<'a>(bytes: impl io::BufRead + 'a, compression: &str) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        "" => Box::new(bytes),
        ".gz" => Box::new(GzDecoder::new(bytes)),
        ".xz" => Box::new(XzReader::new_mem_limit(bytes, true, XZ_MEMORY)),
        ".zst" => Box::new(StreamingDecoder::new(bytes).map_err(|error| damaged(error.to_string()))?),
        other => {
            let problem = format!("begat cannot decompress {other} in a package");
            return Err(Exit::Unsupported.because(problem, "use a package with .xz, .zst, .gz or no compression"));
        }
    })
}

pub(super) fn damaged(problem: impl std::fmt::Display) -> anyhow::Error {
    Exit::Usage.because(
        problem,
        "its digest is the locked one, so it was made like that: lock another version",
    )
}

/// Reads at most `left` bytes, and fails where there are more.
struct Bounded<R> {
    bytes: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "it unpacks to more bytes than begat accepts",
            )
        })?;
        Ok(count)
    }
}

/// Looks at tar headers on their way to the `tar` crate, which reads extended headers into memory whatever their size.
///
/// Long names are limited. Headers of pax and sparse files are refused, as dpkg refuses them.
struct Screened<R> {
    bytes: R,
    header: tar::Header,
    /// How much of the header was handed on.
    handed: usize,
    /// What is left of the member's content and its padding, in bytes.
    content: u64,
}

impl<R: Read> Screened<R> {
    fn new(bytes: R) -> Self {
        let header = tar::Header::new_old();
        Self {
            bytes,
            handed: header.as_bytes().len(),
            header,
            content: 0,
        }
    }

    /// Reads the next header; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        let mut block = Vec::with_capacity(512);
        self.bytes.by_ref().take(512).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(false);
        }
        let block: [u8; 512] = block
            .try_into()
            .map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        *self.header.as_mut_bytes() = block;
        self.handed = 0;
        let size = if block == [0; 512] {
            0
        } else {
            self.header.entry_size()?
        };
        let kind = self.header.entry_type();
        let long_name = kind.is_gnu_longname() || kind.is_gnu_longlink();
        let extended = kind.is_pax_local_extensions() || kind.is_pax_global_extensions() || kind.is_gnu_sparse();
        if extended || (long_name && size > NAME_LIMIT) || size > DATA_LIMIT {
            let problem = format!("a member {kind:?} of {size} bytes, which packages do not have");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        self.content = size.next_multiple_of(512);
        Ok(true)
    }
}

impl<R: Read> Read for Screened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.handed == 512 && self.content == 0 && !self.next()? {
            return Ok(0);
        }
        if self.handed < 512 {
            let count = (&self.header.as_bytes()[self.handed..]).read(buffer)?;
            self.handed += count;
            return Ok(count);
        }
        let count = self.bytes.by_ref().take(self.content).read(buffer)?;
        self.content -= count as u64;
        if count == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            bytes.extend(
                format!(
                    "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                    0,
                    0,
                    0,
                    100_644,
                    content.len()
                )
                .bytes(),
            );
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    pub(crate) fn tar(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o755);
            header.set_uid(0);
            header.set_gid(0);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn linked() -> Vec<u8> {
        let mut tar = tar::Builder::new(tar(&[("./usr/share/OVMF.fd", "fd\n")]));
        tar.get_mut().truncate(1024); // goes on after the file
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        for (name, target) in [("./usr/lib/OVMF.fd", "../share/OVMF.fd"), ("./usr/lib/loop", "loop")] {
            tar.append_link(&mut header, name, target).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_file_is_found_under_its_name_and_through_links() {
        let deb = ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar/", b""),
            ("data.tar", &linked()),
        ]);
        assert_eq!(extract_file(&deb, "/usr/share/OVMF.fd").unwrap(), b"fd\n");
        assert_eq!(extract_file(&deb, "usr/lib/OVMF.fd").unwrap(), b"fd\n");
        assert!(extract_file(&deb, "/usr/lib/loop").is_err());
        assert!(extract_file(&deb, "/usr/lib").is_err());
    }

    #[test]
    fn damaged_packages_are_refused() {
        let whole = ar(&[("debian-binary", b"2.0\n"), ("data.tar", &linked())]);
        for damaged in [
            &whole[..4],
            &whole[..70],
            &whole[..200],
            &b"PK\x03\x04 is a zip archive"[..],
        ] {
            assert!(extract_file(damaged, "/usr/share/OVMF.fd").is_err());
        }
        let bad = ar(&[("data.tar.xz", b"no xz")]);
        assert!(extract_file(&bad, "/usr/share/OVMF.fd").is_err());
        let bad = ar(&[("data.tar.rar", b"")]);
        assert!(part(&bad[..], Part::Data).is_err());
    }

    #[test]
    fn long_names_are_read_and_endless_ones_refused() {
        let long = "a/".repeat(200) + "file";
        let deb = ar(&[("data.tar", &tar(&[(&long, "x"), ("b", "y")]))]);
        assert_eq!(extract_file(&deb, &long).unwrap(), b"x");
        assert_eq!(extract_file(&deb, "b").unwrap(), b"y");
        for (kind, size) in [(b'L', 1 << 30), (b'K', 1 << 30), (b'x', 10), (b'g', 10), (b'S', 10)] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_size(size);
            header.set_cksum();
            let deb = ar(&[("data.tar", header.as_bytes())]);
            let error = extract_file(&deb, "b").unwrap_err();
            assert!(format!("{error:#}").contains("which packages do not have"), "{error:#}");
        }
    }

    #[test]
    fn a_package_that_unpacks_to_too_much_is_refused() {
        let mut bounded = Bounded {
            bytes: io::repeat(0),
            left: 1 << 16,
        };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
