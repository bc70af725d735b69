//! The files that are measured.

use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::NamedTempFile;
use xshell::{Shell, cmd};

use crate::host;

pub(super) struct Input {
    pub(super) ovmf: PathBuf,
    pub(super) kernel: Option<PathBuf>,
    pub(super) initrd: Option<PathBuf>,
    /// Holds the firmware where it had to be unpacked.
    pub(super) _unpacked: Option<NamedTempFile>,
}

impl Input {
    /// Returns files of Debian that lie beside the repository, if they do.
    pub(super) fn beside_the_repository(shell: &Shell, python: &Path) -> Result<Option<Self>> {
        let vectors = host::repository().join("../shared/vectors");
        let packed = vectors.join("inputs/OVMF.amdsev-2026.08.fd.xz");
        if !packed.exists() {
            return Ok(None);
        }
        let ovmf = NamedTempFile::new()?;
        let path = ovmf.path();
        cmd!(shell, "{python} -c {UNPACK} {packed} {path}").quiet().run()?;
        Ok(Some(Self {
            ovmf: path.into(),
            kernel: Some(vectors.join("inputs/vmlinuz-7.2.12-cloud")),
            initrd: Some(vectors.join("tdx/local/initrd.gz")),
            _unpacked: Some(ovmf),
        }))
    }
}

const UNPACK: &str = "import lzma, sys; open(sys.argv[2], 'wb').write(lzma.open(sys.argv[1]).read())";
