//! configfs-tsm: reports of SEV-SNP and quotes of TDX from Linux 6.7 on (`Documentation/ABI/testing/configfs-tsm-report`).

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use rustix::io::Errno;

use super::Silence;
use crate::mend::{Exit, OrMend as _};
use crate::world::random;

/// Where the kernel has it.
pub const ROOT: &str = "/sys/kernel/config/tsm/report";

/// Largest file that the kernel gives, in bytes: `TSM_REPORT_OUTBLOB_MAX` of Linux 7.
const LARGEST: u64 = 16 << 20;

/// How often a request is made again, because somebody else wrote to it.
const ATTEMPTS: u32 = 3;

/// How often a busy TEE is asked, and how long each pause is: half a minute in all.
const PATIENCE: (u32, Duration) = (60, Duration::from_millis(500));

/// What the kernel gives for one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blobs {
    pub provider: Provider,
    /// The report or the quote.
    pub out: Vec<u8>,
    /// What came along: of SEV-SNP the table of certificates, in the format of the GHCB; empty where there is none.
    pub aux: Vec<u8>,
}

/// Which TEE answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Provider {
    Snp,
    Tdx,
}

/// Where requests are made: a folder of configfs, in which a new folder has the files of a request at once.
pub trait Tree: Debug {
    /// Makes the folder of a request.
    ///
    /// # Errors
    /// As mkdir(2).
    fn make(&self, request: &Path) -> io::Result<()>;

    /// Removes the folder of a request with its files.
    ///
    /// # Errors
    /// As rmdir(2).
    fn remove(&self, request: &Path) -> io::Result<()>;

    /// Returns what a file says, at most 16 MiB.
    ///
    /// # Errors
    /// As read(2).
    fn read(&self, file: &Path) -> io::Result<Vec<u8>>;

    /// Writes to a file that exists, at once.
    ///
    /// # Errors
    /// As write(2).
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;
}

/// That of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Configfs;

impl Tree for Configfs {
    fn make(&self, request: &Path) -> io::Result<()> {
        fs::create_dir(request)
    }

    fn remove(&self, request: &Path) -> io::Result<()> {
        fs::remove_dir(request) // of configfs: its files go with it
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(file)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > LARGEST {
            true => Err(ErrorKind::FileTooLarge.into()),
            false => Ok(bytes),
        }
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        match OpenOptions::new().write(true).open(file)?.write(bytes)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }
}

/// Returns what the TEE says for this report data. Whatever happens, the folder of the request is removed again.
///
/// # Errors
/// There is no TEE behind `root`, or it fails, or stays busy for half a minute.
pub fn ask(tree: &dyn Tree, root: &Path, data: &[u8; 64]) -> Result<Blobs, Silence> {
    for _ in 0..ATTEMPTS {
        let request = Request::make(tree, root)?;
        if let Some(blobs) = request.ask(data)? {
            return Ok(blobs);
        }
    }
    let problem = format!("somebody else writes to each request below {}", root.display());
    Err(Exit::Outside
        .because(problem, "see which other program asks for evidence")
        .into())
}

struct Request<'a> {
    tree: &'a dyn Tree,
    folder: PathBuf,
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let _ = self.tree.remove(&self.folder); // nothing can be done about it
    }
}

impl<'a> Request<'a> {
    /// Makes a request of our own: its name is nobody else's.
    fn make(tree: &'a dyn Tree, root: &Path) -> Result<Self, Silence> {
        let name: [u8; 8] = random::bytes().context("the kernel has no random bytes")?;
        let folder = root.join(format!("begat-{}", HEXLOWER.encode(&name)));
        match tree.make(&folder) {
            Ok(()) => Ok(Self { tree, folder }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Silence::Absent(format!("there is no {}", root.display())))
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NXIO) => {
                Err(Silence::Absent(format!("no TEE stands behind {}", root.display())))
            }
            Err(error) => {
                let problem = format!("cannot make a request in {}", root.display());
                let failed = anyhow::Error::new(error).context(problem);
                Err(Exit::Outside
                    .because(format!("{failed:#}"), "run begat attest as root")
                    .into())
            }
        }
    }

    /// Returns the answer; nothing where it may be the answer to somebody else's words.
    fn ask(&self, data: &[u8; 64]) -> anyhow::Result<Option<Blobs>> {
        let provider = self.provider()?;
        let wrote = self.tree.write(&self.folder.join("inblob"), data);
        wrote.or_mend(Exit::Outside, "the kernel takes no report data", MEND)?;
        let out = self.patiently("outblob")?;
        let aux = match provider {
            Provider::Snp => self.patiently("auxblob")?,
            Provider::Tdx => Vec::new(),
        };
        // One for each write to the request, errors included: ours was one.
        let ours = self.text("generation")? == "1";
        Ok(ours.then_some(Blobs { provider, out, aux }))
    }

    fn provider(&self) -> anyhow::Result<Provider> {
        match self.text("provider")?.as_str() {
            "sev_guest" => Ok(Provider::Snp),
            "tdx_guest" => Ok(Provider::Tdx),
            other => {
                let problem = format!("the TEE of this VM is {other:?}, begat knows sev_guest and tdx_guest");
                Err(Exit::Unsupported.because(problem, "run in a VM with SEV-SNP or TDX"))
            }
        }
    }

    fn text(&self, name: &str) -> anyhow::Result<String> {
        let bytes = self.tree.read(&self.folder.join(name));
        let bytes = bytes.or_mend(Exit::Outside, format!("the kernel does not say the {name}"), MEND)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Reads a file that the TEE makes; while it is busy, for somebody else, it is asked again.
    fn patiently(&self, name: &str) -> anyhow::Result<Vec<u8>> {
        let (attempts, pause) = PATIENCE;
        for _ in 1..attempts {
            match self.tree.read(&self.folder.join(name)) {
                Err(error) if is_busy(&error) => thread::sleep(pause),
                outcome => return given(name, outcome),
            }
        }
        given(name, self.tree.read(&self.folder.join(name)))
    }
}

fn given(name: &str, outcome: io::Result<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    outcome.or_mend(Exit::Outside, format!("the TEE gives no {name}"), MEND)
}

fn is_busy(error: &io::Error) -> bool {
    let errors = [Errno::BUSY, Errno::WOULDBLOCK, Errno::TIMEDOUT];
    Errno::from_io_error(error).is_some_and(|errno| errors.contains(&errno))
}

const MEND: &str = "see what the kernel says of it (dmesg), and whether the host offers attestation";
