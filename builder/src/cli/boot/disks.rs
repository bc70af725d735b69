//! Files that a guest gets as disks, besides those of its release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::mend::{Exit, OrMend as _};
use crate::stage::boot::Purpose;

#[derive(clap::Args)]
pub(super) struct Disks {
    /// A file that the guest gets as a disk to read, /dev/disk/by-id/virtio-input: the job of a builder
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A file that the guest gets as a disk to write, /dev/disk/by-id/virtio-output: where a builder puts its release
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A file that the guest gets as a disk to work on, /dev/disk/by-id/virtio-scratch: a builder encrypts it with a key of
    /// this boot; without such a disk it works in memory
    #[arg(long, value_name = "FILE")]
    scratch: Option<PathBuf>,
}

impl Disks {
    /// The files on this host.
    pub(super) fn files(&self) -> Result<Vec<(Purpose, PathBuf)>> {
        let named = [
            (Purpose::Input, &self.input),
            (Purpose::Output, &self.output),
            (Purpose::Scratch, &self.scratch),
        ];
        let named = named
            .into_iter()
            .filter_map(|(purpose, file)| Some((purpose, file.as_deref()?)));
        named.map(|(purpose, file)| Ok((purpose, disk(file)?))).collect()
    }
}

/// A file that is to be a disk.
fn disk(path: &Path) -> Result<PathBuf> {
    let mend = "name a file: whole sectors of 512 bytes";
    let shown = path.display();
    let size = fs::metadata(path)
        .or_mend(Exit::Usage, format!("cannot see {shown}"), mend)?
        .len();
    if size == 0 || size % 512 != 0 {
        return Err(Exit::Usage.because(format!("{shown} has {size} bytes, which no disk has"), mend));
    }
    Ok(fs::canonicalize(path)?)
}
