//! cpio archives of the kind the kernel unpacks as an initramfs: "newc".
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst, and init/initramfs.c.

use std::io::{Read, Write};

use anyhow::{Context as _, Result};

use super::copy_exactly;
use crate::mend::Exit;

/// An archive that is being written, entry by entry, in the byte order of their paths.
pub struct Archive<W> {
    out: W,
    mtime: u32,
    entries: u32,
    last: Vec<u8>,
}

/// Who owns an entry and who may use it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// The permission bits, with set-uid, set-gid and sticky: at most 0o7777.
    pub mode: u16,
}

/// What an entry is.
pub enum Node<'a> {
    Directory,
    /// `size` in bytes. A file of several names is written once for each: the kernel would need them in a row.
    File {
        size: u64,
        content: &'a mut dyn Read,
    },
    Symlink {
        target: &'a [u8],
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

impl<W: Write> Archive<W> {
    /// Starts an archive; every entry gets `epoch`, in seconds since 1970, as its time.
    pub fn new(out: W, epoch: u64) -> Result<Self> {
        let mtime = field(epoch, "epoch")?;
        Ok(Self {
            out,
            mtime,
            entries: 0,
            last: Vec::new(),
        })
    }

    /// Writes one entry. `path` has no leading slash, and comes behind the last one in byte order.
    pub fn append(&mut self, path: &[u8], owner: Owner, node: Node<'_>) -> Result<()> {
        let name = String::from_utf8_lossy(path).into_owned();
        check_path(path, &self.last)?;
        self.last = path.to_vec();
        self.entries += 1; // inode numbers count from 1: 0 is the trailer's
        let header = Header {
            inode: self.entries,
            mode: node.kind() | u32::from(owner.mode & 0o7777),
            uid: owner.uid,
            gid: owner.gid,
            links: if matches!(node, Node::Directory) { 2 } else { 1 },
            mtime: self.mtime,
            size: field(node.size(), &name)?,
            device: node.device(),
        };
        self.write_header(&header, path)
            .with_context(|| format!("cannot write {name}"))?;
        match node {
            Node::File { size, content } => copy_exactly(content, size, &name, &mut self.out)?,
            Node::Symlink { target } => self.out.write_all(target)?,
            Node::Directory | Node::CharacterDevice { .. } | Node::Fifo => {}
        }
        self.pad(u64::from(header.size))
    }

    /// Writes the trailer and returns the output. Its end is aligned: another archive may follow.
    pub fn finish(mut self) -> Result<W> {
        let header = Header {
            links: 1,
            ..Header::default()
        };
        self.write_header(&header, TRAILER)?;
        Ok(self.out)
    }

    fn write_header(&mut self, header: &Header, path: &[u8]) -> Result<()> {
        write!(self.out, "{}", header.text(path.len() + 1))?;
        self.out.write_all(path)?;
        self.out.write_all(b"\0")?;
        self.pad((HEADER + path.len() + 1) as u64)
    }

    /// Name and content each end on a multiple of four bytes from the start of the header.
    fn pad(&mut self, written: u64) -> Result<()> {
        let pad = (written.next_multiple_of(4) - written) as usize;
        Ok(self.out.write_all(&[0; 3][..pad])?)
    }
}

impl Node<'_> {
    /// `S_IFMT` of the mode: inode(7).
    fn kind(&self) -> u32 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharacterDevice { .. } => 0o020_000,
            Self::Directory => 0o040_000,
            Self::File { .. } => 0o100_000,
            Self::Symlink { .. } => 0o120_000,
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Symlink { target } => target.len() as u64,
            Self::Directory | Self::CharacterDevice { .. } | Self::Fifo => 0,
        }
    }

    fn device(&self) -> (u32, u32) {
        match self {
            Self::CharacterDevice { major, minor } => (*major, *minor),
            _ => (0, 0),
        }
    }
}

/// Refuses a path that would leave the root, end the archive early, or stand out of order: parents come first.
fn check_path(path: &[u8], last: &[u8]) -> Result<()> {
    let name = path.escape_ascii();
    let refuse = |why: String| {
        Err(Exit::Usage.because(
            format!("path {name} of the archive {why}"),
            "give relative paths without \"..\", in byte order, each once",
        ))
    };
    let hidden = |part: &[u8]| part.is_empty() || part == b"..";
    if path.contains(&0) || path == TRAILER || path.split(|byte| *byte == b'/').any(hidden) {
        return refuse("cannot be stored".into());
    }
    if path.len() >= PATH_MAX {
        return refuse(format!("has {} bytes, expected fewer than {PATH_MAX}", path.len()));
    }
    if path <= last {
        return refuse(format!("does not come behind {}", last.escape_ascii()));
    }
    Ok(())
}

/// Every number is eight hex digits.
fn field(value: u64, what: &str) -> Result<u32> {
    let refuse = |_| {
        Exit::Usage.because(
            format!("{what}: {value} does not fit the 32-bit fields of a cpio archive"),
            "keep files of 4 GiB and more out of the initrd",
        )
    };
    u32::try_from(value).map_err(refuse)
}

/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// Bytes of a header: the magic and thirteen numbers.
const HEADER: usize = 6 + 13 * 8;

/// Longer names the kernel skips: `PATH_MAX`, init/initramfs.c.
const PATH_MAX: usize = 4096;

#[derive(Default)]
struct Header {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    mtime: u32,
    size: u32,
    device: (u32, u32),
}

impl Header {
    fn text(&self, name_size: usize) -> String {
        let (major, minor) = self.device;
        let numbers = [
            self.inode, self.mode, self.uid, self.gid, self.links, self.mtime, self.size,
        ];
        let numbers: String = numbers.iter().map(|number| format!("{number:08x}")).collect();
        // 0, 0: the device it was on; the last 0: the checksum, which "newc" leaves out
        format!(
            "070701{numbers}{:08x}{:08x}{major:08x}{minor:08x}{name_size:08x}{:08x}",
            0, 0, 0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_the_kernel_documents() {
        let mut archive = Archive::new(Vec::new(), 0x10).expect("epoch");
        let owner = Owner {
            uid: 1,
            gid: 2,
            mode: 0o644,
        };
        let node = Node::File {
            size: 5,
            content: &mut "hello".as_bytes(),
        };
        archive.append(b"a", owner, node).expect("room");
        let bytes = archive.finish().expect("room");
        let text = String::from_utf8(bytes).expect("ASCII");
        assert_eq!(
            text,
            "07070100000001000081a40000000100000002000000010000001000000005\
             0000000000000000000000000000000000000002\
             00000000a\0hello\0\0\0\
             07070100000000000000000000000000000000000000010000000000000000\
             000000000000000000000000000000000000000b\
             00000000TRAILER!!!\0\0\0\0"
        );
    }

    #[test]
    fn paths_that_cannot_be_stored_are_refused() {
        for (path, message) in [
            (&b""[..], "path  of the archive cannot be stored"),
            (b"/etc", "path /etc of the archive cannot be stored"),
            (b"etc/../x", "path etc/../x of the archive cannot be stored"),
            (b"TRAILER!!!", "path TRAILER!!! of the archive cannot be stored"),
            (b"x\0y", r"path x\x00y of the archive cannot be stored"),
            (b"bin", "path bin of the archive does not come behind bin"),
            (b"a", "path a of the archive does not come behind bin"),
            (&[b'x'; 4096], "of the archive has 4096 bytes, expected fewer than 4096"),
        ] {
            let mut archive = Archive::new(Vec::new(), 0).expect("epoch");
            archive
                .append(b"bin", Owner::default(), Node::Directory)
                .expect("in order");
            let error = archive.append(path, Owner::default(), Node::Fifo).expect_err(message);
            assert!(error.to_string().ends_with(message), "{error}");
        }
    }

    #[test]
    fn numbers_of_more_than_32_bits_are_refused() {
        assert!(Archive::new(Vec::new(), 1 << 32).is_err());
        let mut archive = Archive::new(Vec::new(), 0).expect("epoch");
        let node = Node::File {
            size: 1 << 32,
            content: &mut std::io::empty(),
        };
        assert!(archive.append(b"big", Owner::default(), node).is_err());
    }
}
