//! `begat lock`: resolve a recipe and write its lock.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::supply::Supply;
use crate::stage::lock;
use crate::stage::parse::Project;

/// Resolves a recipe to exact packages and writes recipe.lock
#[derive(clap::Args)]
pub(super) struct Args {
    /// The recipe's folder
    recipe: PathBuf,
    #[command(flatten)]
    supply: Supply,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let project = Project::read(&self.recipe)?;
        let (_, net) = self.supply.open(&project.recipe)?;
        let lock = lock::renew(&project, &net)?;
        println!(
            "{} {}",
            lock.digest(),
            project.folder.join(crate::stage::parse::LOCK).display()
        );
        Ok(())
    }
}
