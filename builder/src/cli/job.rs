//! `begat job`: work for a builder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::signing::Terms;
use super::supply::Supply;
use crate::mend::Exit;
use crate::model::record::{self, Record};
use crate::stage::compile::Means;
use crate::stage::parse::Project;
use crate::stage::rebuild::Original;
use crate::stage::{job, lock, verify};
use crate::world::workspace::Workspace;

/// Packs all that a builder needs to build a recipe, or to measure a release again and sign it
///
/// The result is a tar archive: `begat boot BUILDER --tpm --input JOB --output DISK` has the builder do it. In there,
/// --open unpacks it into the current folder: the recipe, its lock and files by their digest, or a release, and nothing else.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The recipe's folder
    #[arg(required_unless_present_any = ["split", "open"])]
    recipe: Option<PathBuf>,
    /// A release that another machine has built: the builder measures it again, and signs it
    #[arg(long, value_name = "RELEASE", conflicts_with = "recipe")]
    split: Option<PathBuf>,
    /// The release that the builder is: what it builds is the generation after this one
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["generation", "previous"])]
    parent: Option<PathBuf>,
    #[command(flatten)]
    terms: Terms,
    /// Take along what is compiled: the builder takes it by the digest that the lock names, and need not compile it
    #[arg(long, conflicts_with = "split")]
    compiled: bool,
    /// Write to this file
    #[arg(long, short, value_name = "FILE", required_unless_present = "open")]
    output: Option<PathBuf>,
    /// Unpack this job into the current folder, as a builder does
    #[arg(long, value_name = "JOB", exclusive = true)]
    open: Option<PathBuf>,
    #[command(flatten)]
    supply: Supply,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        if let Some(job) = &self.open {
            return job::open(job, Path::new("."));
        }
        let terms = self.terms()?;
        let output = self.output.as_deref().expect("it is required without --open");
        if let Some(release) = &self.split {
            return self.split(release, &terms, output);
        }
        let recipe = self.recipe.as_deref().expect("it is required without a release");
        self.build(recipe, &terms, output)
    }

    fn build(&self, recipe: &Path, terms: &record::Terms, output: &Path) -> Result<()> {
        self.pack(&Project::read(recipe)?, |means| {
            let lock = lock::keep(means, false)?;
            job::of_recipe(means, (&lock, terms), self.compiled, output)
        })
    }

    fn split(&self, release: &Path, terms: &record::Terms, output: &Path) -> Result<()> {
        let place = tempfile::tempdir().context("cannot make a temporary folder")?;
        let Original { release, project } = Original::read(release, place.path())?;
        self.pack(&project, |means| job::of_release(means, &release, terms, output))
    }

    /// Packs with what the flags supply.
    fn pack(&self, project: &Project, pack: impl FnOnce(&Means<'_>) -> Result<()>) -> Result<()> {
        let (store, net) = self.supply.open(&project.recipe)?;
        pack(&Means {
            project,
            net: &net,
            store: &store,
            workspace: &Workspace::take(None, store.own())?,
            again: false,
        })
    }

    fn terms(&self) -> Result<record::Terms> {
        let terms = self.terms.get();
        let Some(parent) = &self.parent else {
            return Ok(terms);
        };
        let parent = record_of(parent)?;
        let number = parent.terms.generation.checked_add(1).ok_or_else(|| {
            let problem = format!(
                "the parent is generation {}, the last number that there is",
                parent.terms.generation
            );
            Exit::Usage.because(problem, "begin another chain")
        })?;
        Ok(record::Terms {
            generation: number,
            previous: Some(parent.digest()),
            ..terms
        })
    }
}

fn record_of(release: &Path) -> Result<Record> {
    let unsigned = || {
        let problem = format!("{} has no record", release.display());
        Exit::Usage.because(problem, "name the folder of a signed release")
    };
    verify::judge(release)?.record.ok_or_else(unsigned)
}
