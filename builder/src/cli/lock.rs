//! `begat lock`: resolve a recipe and write its lock.

use std::path::PathBuf;

use anyhow::Result;

use crate::cli::supply::Supply;
use crate::stage::compile::Means;
use crate::stage::lock;
use crate::stage::parse::Project;
use crate::world::workspace::Workspace;

/// Resolves a recipe to exact packages, compiles what is to be compiled, and writes recipe.lock
#[derive(clap::Args)]
pub(super) struct Args {
    /// The recipe's folder
    recipe: PathBuf,
    /// Folder to compile in [default: memory, or where that is short, the store]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    #[command(flatten)]
    supply: Supply,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let project = Project::read(&self.recipe)?;
        let (store, net) = self.supply.open(&project.recipe)?;
        let lock = lock::renew(&Means {
            project: &project,
            net: &net,
            store: &store,
            workspace: &Workspace::take(self.workspace.as_deref(), store.own())?,
            again: false,
        })?;
        println!(
            "{} {}",
            lock.digest(),
            project.folder.join(crate::stage::parse::LOCK).display()
        );
        Ok(())
    }
}
