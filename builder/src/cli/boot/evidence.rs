//! Where what a machine's TPM says is kept, and what it comes to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::cli::explain;
use crate::mend::{Exit, OrMend as _, Told};
use crate::stage::boot::{Observed, Shape};
use crate::stage::host::Host;
use crate::stage::on_disk::OnDisk;
use crate::stage::{prove, say};

/// A folder for what a machine's TPM says; one that nobody named vanishes.
pub(super) struct Evidence {
    pub(super) folder: PathBuf,
    _vanishes: Option<TempDir>,
}

impl Evidence {
    pub(super) fn new(named: Option<&Path>) -> Result<Self> {
        let Some(named) = named else {
            let folder = tempfile::tempdir().context("cannot make a folder for evidence")?;
            return Ok(Self {
                folder: folder.path().into(),
                _vanishes: Some(folder),
            });
        };
        const OTHER: &str = "name another one: --evidence DIR";
        let made = fs::create_dir_all(named).and_then(|()| fs::canonicalize(named));
        let folder = made.or_mend(
            Exit::Outside,
            format!("cannot make the folder {}", named.display()),
            OTHER,
        )?;
        if fs::read_dir(&folder)?.next().is_some() {
            return Err(Exit::Usage.because(format!("the folder {} is not empty", named.display()), OTHER));
        }
        Ok(Self {
            folder,
            _vanishes: None,
        })
    }

    /// Prints the firmware's log beside the prediction, event by event.
    pub(super) fn compare(&self, release: &OnDisk, shape: Shape) -> Result<()> {
        let (observed, host) = (Observed::load(&self.folder)?, Host::load(&self.folder)?);
        say("boot", "the firmware's log beside the prediction, event by event");
        let explanation = prove::prove(release, shape, &observed, host)?;
        explain::show(&explanation);
        if explanation.agree() {
            return Ok(());
        }
        Err(Told(Exit::No).into())
    }
}
