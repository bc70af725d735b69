//! A TPM 2.0 in software, for one virtual machine: a new one each time, that nobody has manufactured.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::program::Program;

const SWTPM: Program = Program {
    name: "swtpm",
    mend: "apt install swtpm, or leave --host-qemu out",
};

/// A running TPM with all banks that libtpms has, SHA-256 and SHA-384 among them; dropped, it is gone.
#[derive(Debug)]
pub struct Swtpm {
    process: Child,
    state: TempDir,
}

impl Swtpm {
    /// Starts a TPM. It ends with the machine that it is for.
    ///
    /// # Errors
    /// swtpm is not to be had here.
    pub fn start() -> Result<Self> {
        let state = tempfile::tempdir().context("cannot make a folder for the state of a TPM")?;
        let socket = UnixListener::bind(socket(state.path())).context("cannot make a socket for a TPM")?;
        let place = format!("dir={}", state.path().display());
        let arguments = [
            "socket",
            "--tpm2",
            "--terminate",
            "--ctrl",
            "type=unixio,fd=0",
            "--tpmstate",
            &place,
        ];
        let process = SWTPM.serve(socket, arguments)?;
        Ok(Self { process, state })
    }

    /// Returns the socket that QEMU's `tpm-emulator` speaks to.
    pub fn socket(&self) -> PathBuf {
        socket(self.state.path())
    }
}

fn socket(state: &Path) -> PathBuf {
    state.join("control")
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill(); // ended already is as good
        let _ = self.process.wait();
    }
}
