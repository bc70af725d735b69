//! `begat build`: from a recipe to a release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::inspect;
use super::signing::{Key, Terms};
use super::supply::Supply;
use crate::mend::{Exit, OrMend as _};
use crate::model::record;
use crate::stage::build::{Build, Signing};
use crate::stage::lock;
use crate::stage::parse::Project;
use crate::stage::release::{Existing, Staging};
use crate::world::clock;
use crate::world::workspace::Workspace;

/// Builds a recipe into a release
#[derive(clap::Args)]
pub(super) struct Args {
    /// The recipe's folder
    recipe: PathBuf,
    /// Folder of the release [default: releases/NAME-0]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace the release that is there
    #[arg(long)]
    force: bool,
    /// Keep to recipe.lock, whatever the recipe says
    #[arg(long)]
    locked: bool,
    /// Folder to work in [default: memory, or where that is short, the store]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Print the release as JSON
    #[arg(long)]
    json: bool,
    /// Sign the release
    #[arg(long)]
    sign: bool,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    terms: Terms,
    #[command(flatten)]
    supply: Supply,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let project = Project::read(&self.recipe)?;
        let named = || Path::new("releases").join(format!("{}-0", project.recipe.name));
        let output = self.output.clone().unwrap_or_else(named);
        let staging = self.stage(&output)?;
        let signing = self.signing()?;
        let (store, net) = self.supply.open(&project.recipe)?;
        let lock = lock::keep(&project, &net, self.locked)?;
        let workspace = Workspace::take(self.workspace.as_deref(), store.root())?;
        let build = Build {
            project: &project,
            lock: &lock,
            store: &store,
            net: &net,
            workspace: &workspace,
            signing: signing.as_ref(),
        };
        build.run(staging)?;
        inspect::show(&output, self.json)
    }

    fn signing(&self) -> Result<Option<Signing>> {
        let terms = self.terms.get()?;
        if self.sign {
            let (key, started) = (self.key.get()?, clock::now());
            return Ok(Some(Signing { key, terms, started }));
        }
        if self.key.key.is_some() || terms != record::Terms::default() {
            let problem = "a key, or terms, for a release that is not to be signed";
            return Err(Exit::Usage.because(problem, "add --sign"));
        }
        Ok(None)
    }

    fn stage(&self, output: &Path) -> Result<Staging> {
        let existing = if self.force {
            Existing::Replace
        } else {
            Existing::Refuse
        };
        if let Some(parent) = output.parent() {
            fs::create_dir_all(parent).or_mend(
                Exit::Outside,
                format!("cannot make {}", parent.display()),
                "choose another folder: --output DIR",
            )?;
        }
        Staging::begin(output, existing)
    }
}
