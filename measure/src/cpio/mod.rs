//! Reader of the archives that the kernel unpacks as an initramfs: cpio, "newc", one behind another.
//!
//! Source: Linux 6.12, Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c. What the kernel
//! skips, overwrites or reads otherwise than other tools is refused: two readers must not see two trees.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes that come one after another.
pub trait Stream {
    /// Fills the start of `buffer`, which is not empty, and returns how many bytes that was; 0 at the end.
    ///
    /// # Errors
    /// Whoever has the bytes cannot give them.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String>;
}

impl Stream for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, String> {
        let size = buffer.len().min(self.len());
        let (bytes, rest) = self.split_at(size);
        buffer[..size].copy_from_slice(bytes);
        *self = rest;
        Ok(size)
    }
}

/// The archives of a stream, entry by entry.
pub struct Archives<S> {
    stream: S,
    /// How many bytes have been read.
    offset: u64,
    /// What is left of the content of the last entry.
    content: u64,
    /// What there is so far, by its path.
    seen: BTreeMap<Vec<u8>, Seen>,
    /// First paths of files of several paths, since the last trailer: with what all paths say.
    links: BTreeMap<Identity, (Vec<u8>, About)>,
    /// What names and targets have had, in bytes.
    names: u64,
    /// Whether a trailer is to come.
    inside: bool,
}

/// Device and inode.
type Identity = ((u32, u32), u32);

/// Mode, owner, group and time.
type About = (u32, u32, u32, u32);

#[derive(Clone, Copy, Eq, PartialEq)]
enum Seen {
    Directory,
    /// Of so many bytes.
    File(u64),
    Other,
}

/// An entry of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Absolute; no part of it is empty, `.` or `..`.
    pub path: Vec<u8>,
    pub kind: Kind,
    /// Permissions with set-user-id, set-group-id and sticky bit: 12 bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Of the last modification, in seconds since 1970.
    pub time: u32,
}

/// What an entry is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    File {
        /// In bytes, of what is here: all of it but for links, of which one has it.
        size: u64,
        /// The first path of the same file.
        link: Option<Vec<u8>>,
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    Socket,
}

/// Why archives cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CpioError {
    #[error("cannot read on at offset {offset:#x}: {why}")]
    Unreadable { offset: u64, why: String },
    #[error("the archive ends at offset {offset:#x}, inside an entry or without a trailer")]
    Truncated { offset: u64 },
    #[error("the entry at offset {offset:#x} is damaged: {why}")]
    Damaged { offset: u64, why: String },
    #[error("the entry {path}, at offset {offset:#x}, {why}")]
    Refused {
        path: String,
        offset: u64,
        why: &'static str,
    },
    #[error("the names of the entries take more than {limit} bytes")]
    TooMuch { limit: u64 },
}

/// What all names and targets may have, in bytes.
const NAMES_LIMIT: u64 = 256 << 20;

/// `PATH_MAX`, with the NUL: an entry with a longer name or target is skipped by the kernel.
const PATH_LIMIT: u32 = 4096;

const TRAILER: &[u8] = b"TRAILER!!!";

const HEADER: usize = 110;

/// `NAME_MAX`.
const NAME_LIMIT: usize = 255;

/// The numbers of a header, in their order.
struct Header {
    at: u64,
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    links: u32,
    time: u32,
    size: u32,
    device: (u32, u32),
    number: (u32, u32),
    name_size: u32,
}

impl<S: Stream> Archives<S> {
    /// Starts to read; nothing is read yet.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            offset: 0,
            content: 0,
            seen: BTreeMap::new(),
            links: BTreeMap::new(),
            names: 0,
            inside: false,
        }
    }

    /// Returns the stream, behind what was read.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Returns the next entry of any archive; none at the end. Content that was not asked for is skipped.
    ///
    /// # Errors
    /// Bytes that are no archive, and what the kernel would not unpack as it is said here.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, CpioError> {
        self.content(|_| {})?;
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let name = self.name(&header)?;
            if name == TRAILER {
                header.check_trailer()?;
                self.links.clear();
                self.inside = false;
                continue;
            }
            return self.entry(&header, &name).map(Some);
        }
    }

    /// Hands the content of the last entry to `sink`, piece by piece.
    ///
    /// # Errors
    /// An archive that ends before, or that cannot be read.
    pub fn content(&mut self, mut sink: impl FnMut(&[u8])) -> Result<(), CpioError> {
        let mut buffer = alloc::vec![0; self.content.min(64 << 10) as usize];
        while self.content > 0 {
            let size = buffer.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
            let size = self.some(&mut buffer[..size])?;
            if size == 0 {
                return Err(CpioError::Truncated { offset: self.offset });
            }
            sink(&buffer[..size]);
            self.content -= size as u64;
        }
        self.pad()
    }

    /// The next header: at once inside an archive, behind any number of zeros before one.
    fn header(&mut self) -> Result<Option<Header>, CpioError> {
        let mut bytes = [0; HEADER];
        let mut at = self.offset;
        while !self.inside {
            match self.some(&mut bytes[..1])? {
                0 => return Ok(None),
                _ if bytes[0] == 0 => at = self.offset,
                _ if !at.is_multiple_of(4) => return Err(damaged(at, "it is not at a multiple of four bytes".into())),
                _ => break,
            }
        }
        let have = (self.offset - at) as usize;
        self.fill(&mut bytes[have..])?;
        self.inside = true;
        Header::parse(at, &bytes).map(Some)
    }

    /// The name behind a header, without its NUL.
    fn name(&mut self, header: &Header) -> Result<Vec<u8>, CpioError> {
        let size = header.name_size;
        if !(2..=PATH_LIMIT).contains(&size) {
            return Err(damaged(header.at, format!("its name has {size} bytes with its NUL")));
        }
        let mut name = self.take(size)?;
        self.pad()?;
        match name.pop() == Some(0) && !name.contains(&0) {
            true => Ok(name),
            false => Err(damaged(header.at, "its name does not end at its NUL".into())),
        }
    }

    fn entry(&mut self, header: &Header, name: &[u8]) -> Result<Entry, CpioError> {
        let refuse = |why| header.refused(name, why);
        let path = normal(name).map_err(refuse)?;
        if self.seen.contains_key(&path) {
            return Err(refuse("is there twice"));
        }
        let end = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        if end > 0 && self.seen.get(&path[..end]) != Some(&Seen::Directory) {
            return Err(refuse("is in no folder that is there before it"));
        }
        let kind = self.kind(header, name, &path)?;
        let seen = match &kind {
            Kind::Directory => Seen::Directory,
            Kind::File { size, .. } => Seen::File(*size),
            _ => Seen::Other,
        };
        self.seen.insert(path.clone(), seen);
        Ok(Entry {
            path,
            kind,
            mode: (header.mode & 0o7777) as u16,
            uid: header.uid,
            gid: header.gid,
            time: header.time,
        })
    }

    fn kind(&mut self, header: &Header, name: &[u8], path: &[u8]) -> Result<Kind, CpioError> {
        let (major, minor) = header.number;
        let kind = match header.mode {
            0o010_000..=0o017_777 => Kind::Fifo,
            0o020_000..=0o027_777 => Kind::CharacterDevice { major, minor },
            0o040_000..=0o047_777 => Kind::Directory,
            0o060_000..=0o067_777 => Kind::BlockDevice { major, minor },
            0o100_000..=0o107_777 => return self.file(header, name, path),
            0o120_000..=0o127_777 => return self.symlink(header),
            0o140_000..=0o147_777 => Kind::Socket,
            mode => return Err(damaged(header.at, format!("its mode is {mode:o}"))),
        };
        if header.size > 0 {
            return Err(header.refused(name, "has content and is no file"));
        }
        if header.links > 1 && kind != Kind::Directory {
            return Err(header.refused(name, "is a link of what is no file"));
        }
        Ok(kind)
    }

    fn symlink(&mut self, header: &Header) -> Result<Kind, CpioError> {
        if !(1..PATH_LIMIT).contains(&header.size) {
            return Err(damaged(header.at, format!("its target has {} bytes", header.size)));
        }
        let target = self.take(header.size)?;
        self.pad()?;
        match target.contains(&0) {
            true => Err(damaged(header.at, "its target has a NUL".into())),
            false => Ok(Kind::Symlink { target }),
        }
    }

    fn file(&mut self, header: &Header, name: &[u8], path: &[u8]) -> Result<Kind, CpioError> {
        let size = u64::from(header.size);
        let link = match header.links {
            0 | 1 => None,
            _ => self.link(header, name, path)?,
        };
        self.content = size;
        Ok(Kind::File { size, link })
    }

    /// The first path of the same file; what the kernel would change for all paths is the same, and one has the content.
    fn link(&mut self, header: &Header, name: &[u8], path: &[u8]) -> Result<Option<Vec<u8>>, CpioError> {
        let size = u64::from(header.size);
        let about = (header.mode, header.uid, header.gid, header.time);
        let Some((first, wanted)) = self.links.get(&(header.device, header.inode)) else {
            let first = (path.to_vec(), about);
            self.links.insert((header.device, header.inode), first);
            return Ok(None);
        };
        if about != *wanted {
            return Err(header.refused(name, "is a link with another mode, owner or time"));
        }
        match self.seen.get_mut(first) {
            Some(Seen::File(known)) if size == 0 || *known == 0 => *known += size,
            _ => return Err(header.refused(name, "is a link with content, as another was")),
        }
        Ok(Some(first.clone()))
    }

    /// `size` bytes of a name or a target.
    fn take(&mut self, size: u32) -> Result<Vec<u8>, CpioError> {
        self.names += u64::from(size);
        if self.names > NAMES_LIMIT {
            return Err(CpioError::TooMuch { limit: NAMES_LIMIT });
        }
        let mut bytes = alloc::vec![0; size as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Names and contents end at a multiple of four bytes, filled up with zeros.
    fn pad(&mut self) -> Result<(), CpioError> {
        let at = self.offset;
        let mut bytes = [0; 3];
        let bytes = &mut bytes[..(at.next_multiple_of(4) - at) as usize];
        self.fill(bytes)?;
        match bytes.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(damaged(at, "there are bytes where there should be zeros".into())),
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), CpioError> {
        while !buffer.is_empty() {
            match self.some(buffer)? {
                0 => return Err(CpioError::Truncated { offset: self.offset }),
                size => buffer = &mut buffer[size..],
            }
        }
        Ok(())
    }

    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, CpioError> {
        let (offset, room) = (self.offset, buffer.len());
        let size = self.stream.read(buffer);
        let size = size.map_err(|why| CpioError::Unreadable { offset, why })?.min(room);
        self.offset += size as u64;
        Ok(size)
    }
}

impl Header {
    fn parse(at: u64, bytes: &[u8; HEADER]) -> Result<Self, CpioError> {
        let (magic, numbers) = bytes.split_at(6);
        if magic != b"070701" {
            return Err(damaged(at, format!("its magic is {:?}", magic.escape_ascii())));
        }
        let mut values = [0; 13];
        for (value, digits) in values.iter_mut().zip(numbers.chunks_exact(8)) {
            let number = data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok();
            let number = number.and_then(|number| number.try_into().ok());
            let number = number.ok_or_else(|| damaged(at, format!("{:?} is no number", digits.escape_ascii())))?;
            *value = u32::from_be_bytes(number);
        }
        let [
            inode,
            mode,
            uid,
            gid,
            links,
            time,
            size,
            major,
            minor,
            rmajor,
            rminor,
            name_size,
            _,
        ] = values;
        Ok(Self {
            at,
            inode,
            mode,
            uid,
            gid,
            links,
            time,
            size,
            device: (major, minor),
            number: (rmajor, rminor),
            name_size,
        })
    }

    /// The kernel ends an archive by the name alone, other tools do not.
    fn check_trailer(&self) -> Result<(), CpioError> {
        match (self.mode, self.size) {
            (0, 0) => Ok(()),
            (mode, size) => Err(damaged(
                self.at,
                format!("a trailer has the mode {mode:o} and {size} bytes"),
            )),
        }
    }

    fn refused(&self, name: &[u8], why: &'static str) -> CpioError {
        CpioError::Refused {
            path: format!("{}", name.escape_ascii()),
            offset: self.at,
            why,
        }
    }
}

fn damaged(offset: u64, why: String) -> CpioError {
    CpioError::Damaged { offset, why }
}

/// The absolute path of a name: `.`, `./etc`, `etc` and `/etc` are ways to write one.
fn normal(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name == b"." || name == b"/" {
        return Ok(b"/".into());
    }
    let below = name.strip_prefix(b"./").or(name.strip_prefix(b"/")).unwrap_or(name);
    let good = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && part.len() <= NAME_LIMIT;
    match below.split(|byte| *byte == b'/').all(good) {
        true => Ok([b"/", below].concat()),
        false => Err("has a part that is empty, . or .., or has more than 255 bytes"),
    }
}

#[cfg(test)]
mod tests;
