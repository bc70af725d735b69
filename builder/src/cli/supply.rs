//! Flags that several verbs share: where inputs come from and where they are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use crate::model::Recipe;
use crate::model::release::Stamp;
use crate::world::environment::Environment;
use crate::world::mirror::{self, Mirror, Mirrors};
use crate::world::net::{Limits, Net, Reach};
use crate::world::store::Store;

#[derive(clap::Args)]
pub(super) struct Supply {
    /// Folder of files named by their SHA-256 [default: begat in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// A mirror of a package archive; several may be given [default: those of the recipe, then of the host's apt]
    #[arg(long, value_name = "[ARCHIVE=]URL")]
    mirror: Vec<Mirror>,
    /// A payload's file, for one that cannot be fetched; its name is needed where the recipe does not pin its digest
    #[arg(long, value_name = "[NAME=]FILE")]
    supply: Vec<String>,
    /// Refuse the network
    #[arg(long)]
    pub(super) offline: bool,
}

impl Supply {
    /// Opens the store and the way to the mirrors.
    pub(super) fn open(&self, recipe: &Recipe) -> Result<(Store, Net)> {
        let environment = Environment::of_this_process();
        let store = Store::locate(self.store.as_deref(), &environment)?;
        let mirrors = Mirrors::new(recipe, &self.mirror, &mirror::of_host()?)?;
        let reach = if self.offline { Reach::Offline } else { Reach::Online };
        let proxies = environment.proxies.clone();
        let net = Net::new(store.clone(), mirrors, proxies, Limits::default(), reach);
        let supplied = self.take_in(recipe, &store)?;
        Ok((store, net.with(environment, supplied)))
    }

    /// Copies the supplied files into the store, and returns those that were given a payload's name.
    fn take_in(&self, recipe: &Recipe, store: &Store) -> Result<BTreeMap<String, Stamp>> {
        let names: BTreeSet<String> = recipe.payload.iter().map(|payload| payload.name.to_string()).collect();
        let mut named = BTreeMap::new();
        for text in &self.supply {
            match text.split_once('=').filter(|(name, _)| names.contains(*name)) {
                Some((name, file)) => {
                    named.insert(name.to_owned(), store.add_file(file.as_ref())?);
                }
                None => drop(store.add_file(text.as_ref())?),
            }
        }
        Ok(named)
    }
}
