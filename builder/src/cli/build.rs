//! `begat build`: from a recipe to a release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::inspect;
use super::signing::{Key, Order};
use super::supply::Supply;
use super::tee::Tee;
use crate::mend::{Exit, OrMend as _};
use crate::model::job::Ordered;
use crate::stage::attested::Attesting;
use crate::stage::build::{Build, Signing};
use crate::stage::compile::Means;
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
    /// Have the TEE of this VM vouch for the build, before anything of the recipe runs and at the end, and sign the
    /// release; `required` fails where there is no TEE, otherwise the release says that it is unattested
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "possible",
        conflicts_with = "key"
    )]
    attest: Option<When>,
    #[command(flatten)]
    tee: Tee,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    order: Order,
    #[command(flatten)]
    supply: Supply,
}

/// When a build is attested.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum When {
    /// Where there is a TEE
    Possible,
    /// Always: it fails where there is no TEE
    Required,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let project = Project::read(&self.recipe)?;
        let named = || Path::new("releases").join(format!("{}-0", project.recipe.name));
        let output = self.output.clone().unwrap_or_else(named);
        let staging = self.stage(&output)?;
        let ordered = self.order.get()?;
        let signing = self.signing(&ordered)?;
        let (store, net) = self.supply.open(&project.recipe)?;
        let means = Means {
            project: &project,
            net: &net,
            store: &store,
            workspace: &Workspace::take(self.workspace.as_deref(), store.own())?,
            again: false,
        };
        let lock = lock::keep(&means, self.locked)?;
        ordered.check(lock.digest())?;
        let build = Build {
            means,
            lock: &lock,
            signing: signing.as_ref(),
        };
        build.run(staging)?;
        inspect::show(&output, self.json)
    }

    fn signing(&self, ordered: &Ordered) -> Result<Option<Signing>> {
        if self.tee.is_given() && self.attest.is_none() {
            return Err(Exit::Usage.because("a TEE, for a build that is not to be attested", "add --attest"));
        }
        if self.sign || self.attest.is_some() {
            return Ok(Some(Signing {
                key: self.key.get()?,
                terms: ordered.terms.clone(),
                started: clock::now(),
                attesting: self.attest.map(|when| self.attesting(when)).transpose()?,
            }));
        }
        if self.key.key.is_some() || *ordered != Ordered::default() {
            let problem = "a key, or terms, for a release that is not to be signed";
            return Err(Exit::Usage.because(problem, "add --sign, or --attest"));
        }
        Ok(None)
    }

    fn attesting(&self, when: When) -> Result<Attesting> {
        Ok(Attesting {
            places: self.tee.places()?,
            source: self.tee.source(),
            required: when == When::Required,
        })
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
