//! Release in, statement out: built again from its own recipe and lock, and compared file by file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;

use crate::document::provenance::{self, Times};
use crate::document::rebuild;
use crate::mend::Exit;
use crate::model::key::SigningKey;
use crate::model::{Lock, Manifest};
use crate::stage::build::Build;
use crate::stage::difference::{self, Difference};
use crate::stage::on_disk::OnDisk;
use crate::stage::parse::Project;
use crate::stage::release::{Existing, Staging};
use crate::stage::verify::{self, Judged};
use crate::stage::{compile, lock, rebuilds, recipe, sign};
use crate::world::net::Net;
use crate::world::scratch::Scratch;
use crate::world::store::Store;
use crate::world::workspace::Workspace;
use crate::world::{clock, host};

/// A release that is to be built again, with its recipe unpacked.
#[derive(Debug)]
pub struct Original {
    pub release: Judged,
    pub project: Project,
}

/// How it came out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rebuilt {
    /// The digest that names the release.
    pub release: measure::Sha256,
    /// That of what came out of the rebuild.
    pub rebuilt: measure::Sha256,
    /// The files that differ, the artifacts first; none where every file is the same.
    pub differences: Vec<Difference>,
    /// The version of begat that built the release, where it says so and it is another.
    pub other_version: Option<String>,
    /// Where the signed statement is.
    pub statement: PathBuf,
}

/// Where and with what a release is built again.
pub struct Means<'a> {
    pub store: &'a Store,
    pub net: &'a Net,
    pub workspace: &'a Workspace,
}

impl Original {
    /// Reads the release in `folder` and unpacks its recipe to `to`. Its files are those of the manifest, which is compared
    /// with that of the rebuild: whether they lead to each other is what the comparison shows, with the places.
    ///
    /// # Errors
    /// A release whose files are not those of its manifest, or without its recipe; a recipe that is not the one which the manifest names.
    pub fn read(folder: &Path, to: &Path) -> Result<Self> {
        let release = verify::verify(folder, None)?.judged()?;
        let project = recipe::unpack(&release.on_disk, to)?;
        let (found, wanted) = (project.digest, release.manifest.origin.recipe);
        if found != wanted {
            let problem = format!("{} holds the recipe {found}, the manifest names {wanted}", recipe::FILE);
            return Err(Exit::No.because(problem, "do not use the release: get it from elsewhere"));
        }
        Ok(Self { release, project })
    }

    /// Builds the release again, compares, and adds a statement signed with `key` about what came out to the folder
    /// `statements`, equal or not.
    ///
    /// # Errors
    /// As the stages of a build say; then nothing is stated.
    pub fn rebuild(&self, means: &Means<'_>, key: &SigningKey, statements: &Path) -> Result<Rebuilt> {
        let original = &self.release.manifest;
        let started = clock::now();
        let lock = lock::keep(&self.compiling(means), true)?;
        let place = Scratch::new(means.store.own(), "rebuild-")?;
        let releases = place.path().join("releases"); // whoever publishes locks it, and the place is locked already
        fs::create_dir(&releases).with_context(|| format!("cannot make {}", releases.display()))?;
        let folder = releases.join("release");
        let rebuilt = self.build(means, &lock, &folder)?;
        let differences = match rebuilt == *original {
            true => Vec::new(),
            false => difference::compare((&self.release.on_disk, original), (&OnDisk::open(&folder)?, &rebuilt)),
        };
        let bundle = statement(&rebuilt, &lock, started, key)?;
        Ok(Rebuilt {
            release: original.digest(),
            rebuilt: rebuilt.digest(),
            differences,
            other_version: self.other_version(),
            statement: rebuilds::add(statements, &key.public().id(), &bundle)?,
        })
    }

    fn build(&self, means: &Means<'_>, lock: &Lock, folder: &Path) -> Result<Manifest> {
        let build = Build {
            means: self.compiling(means),
            lock,
            signing: None,
        };
        build.run(Staging::begin(folder, Existing::Refuse)?)
    }

    fn compiling<'a>(&'a self, means: &Means<'a>) -> compile::Means<'a> {
        let Means { store, net, workspace } = *means;
        compile::Means {
            project: &self.project,
            net,
            store,
            workspace,
            again: true,
        }
    }

    /// A signed release says in its provenance who built it: another begat may well write other documents.
    fn other_version(&self) -> Option<String> {
        let run = provenance::run(&self.release.text(provenance::FILE).ok()?).ok()?;
        let version = run.version.replace(char::is_control, " ");
        (version != env!("CARGO_PKG_VERSION")).then_some(version)
    }
}

fn statement(rebuilt: &Manifest, lock: &Lock, started_on: Timestamp, key: &SigningKey) -> Result<String> {
    let finished_on = clock::now();
    let run = sign::run(Some(Times {
        started_on,
        finished_on,
    }))?;
    Ok(rebuild::bundle(rebuilt, lock, &run, &host::facts(), key))
}
