//! `begat rebuild`: does the same recipe and lock give the same release here?

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::signing::Key;
use super::supply::Supply;
use crate::mend::{Exit, Told};
use crate::model;
use crate::model::key::PublicKey;
use crate::stage::rebuild::{Means, Original, Rebuilt};
use crate::stage::rebuilds;
use crate::world::workspace::Workspace;

/// Builds a release again from the recipe and the lock that it carries, and compares every file
///
/// Writes a signed statement about what came out, equal or not, into the release, for those whose quorum names the key:
/// `begat verify --quorum`. Exits with 0 if every file is the same, with 1 if one differs.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    /// Folder for the signed statement [default: rebuilds in the release]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Folder to work in [default: memory, or where that is short, the store]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    supply: Supply,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let key = self.key.get()?;
        let place = tempfile::tempdir().context("cannot make a temporary folder")?;
        let original = Original::read(&self.release, place.path())?;
        let (store, net) = self.supply.open(&original.project.recipe)?;
        let workspace = Workspace::take(self.workspace.as_deref(), store.own())?;
        let means = Means {
            store: &store,
            net: &net,
            workspace: &workspace,
        };
        let statements = self
            .output
            .clone()
            .unwrap_or_else(|| self.release.join(rebuilds::FOLDER));
        let rebuilt = original.rebuild(&means, &key, &statements)?;
        match self.json {
            true => print!("{}", model::json(&machine(&rebuilt, &key.public()))),
            false => people(&rebuilt, &key.public()),
        }
        match rebuilt.is_equal() {
            true => Ok(()),
            false => Err(Told(Exit::No).into()),
        }
    }
}

impl Rebuilt {
    fn is_equal(&self) -> bool {
        self.release == self.rebuilt
    }
}

fn machine(rebuilt: &Rebuilt, key: &PublicKey) -> serde_json::Value {
    let mut value = json!(rebuilt);
    value["key"] = key.pem().into();
    value["key-id"] = key.id().as_str().into();
    value
}

fn people(rebuilt: &Rebuilt, key: &PublicKey) {
    println!("release    {}", rebuilt.release);
    println!("rebuilt    {}", rebuilt.rebuilt);
    for difference in &rebuilt.differences {
        println!("differs    {difference}");
    }
    if let Some(version) = rebuilt.other_version.as_ref().filter(|_| !rebuilt.is_equal()) {
        println!("built by   begat {version}; this is {}", env!("CARGO_PKG_VERSION"));
    }
    println!("statement  {}", rebuilt.statement.display());
    println!("key        {}", key.id());
    print!("\n{}", key.pem());
}
