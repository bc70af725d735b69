//! The whole line, from a locked recipe to a release.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use uuid::Uuid;

use crate::document::provenance::{Builder, Run, Times};
use crate::model::artifacts::Artifacts;
use crate::model::key::SigningKey;
use crate::model::lock::Tree;
use crate::model::record::Terms;
use crate::model::release::Origin;
use crate::model::{Lock, Manifest, Measurements, Request};
use crate::stage::assemble::{self, Inputs};
use crate::stage::attested::{Attesting, Witness};
use crate::stage::compile::Means;
use crate::stage::derived::{Derived, Source};
use crate::stage::describe::{self, Described};
use crate::stage::guest::OTHER_OUTPUT;
use crate::stage::measure::{self, Measured};
use crate::stage::on_disk::OnDisk;
use crate::stage::origins::Packages;
use crate::stage::release::{Hashes, Staging, Stamps};
use crate::stage::{fetch, payload, recipe, rules, say, sign};
use crate::world::clock;
use crate::world::room::{self, Place};

/// What a build works on and with.
pub struct Build<'a> {
    pub means: Means<'a>,
    pub lock: &'a Lock,
    /// Who signs, if anybody does.
    pub signing: Option<&'a Signing>,
}

/// Who signs a build.
pub struct Signing {
    pub key: SigningKey,
    pub terms: Terms,
    /// When the build started.
    pub started: Timestamp,
    /// Who vouches for the build, if anybody is to.
    pub attesting: Option<Attesting>,
}

/// A build that will be signed, and was vouched for.
struct Dispatched<'a> {
    signing: &'a Signing,
    id: Uuid,
    witness: Option<Witness<'a>>,
}

impl Signing {
    /// Before anything of the recipe runs.
    fn dispatch(&self, origin: &Origin) -> Result<Dispatched<'_>> {
        let id = sign::build_id()?;
        let request = Request::new(id, self.terms.clone(), origin, &self.key.public());
        let witness = self.attesting.as_ref().map(|attesting| attesting.dispatch(&request));
        Ok(Dispatched {
            signing: self,
            id,
            witness: witness.transpose()?.flatten(),
        })
    }
}

impl Dispatched<'_> {
    fn sign(&self, staging: &Staging, manifest: &Manifest, compiled: Vec<String>) -> Result<()> {
        say("sign", "provenance, documents and record");
        let Signing {
            key, terms, started, ..
        } = self.signing;
        let machine = self.witness.as_ref().map(Witness::machine);
        let builder = machine.map_or(Builder::Unattested, Builder::Attested);
        let times = Times {
            started_on: *started,
            finished_on: clock::now(),
        };
        let mut run = Run::new(self.id, builder, Some(times));
        run.compiled = compiled;
        let record = sign::sign_new(staging, manifest, &run, terms.clone(), key)?;
        match &self.witness {
            Some(witness) => sign::write(staging, &witness.complete(&record)?),
            None => Ok(()),
        }
    }
}

impl Build<'_> {
    /// Makes the release in its staging folder and publishes it.
    ///
    /// # Errors
    /// As the stages say; then nothing is published.
    pub fn run(&self, staging: Staging) -> Result<Manifest> {
        let origin = self.source().origin();
        let dispatched = self.signing.map(|signing| signing.dispatch(&origin)).transpose()?;
        payload::fetch(self.lock, self.means.project, self.means.net, self.means.store)?;
        fetch::fetch(self.lock, self.means.net)?;
        let compiled = self.means.fetch(self.lock)?;
        let tools = fetch::tool_tree(self.lock, Tree::Tools, self.means.net, self.means.store)?;
        let inputs = Inputs {
            project: self.means.project,
            lock: self.lock,
            store: self.means.store,
            tree: &tools.path,
            workspace: self.means.workspace,
        };
        let folder = staging.folder().to_owned();
        let made = self.make(&inputs, &staging, &folder);
        let releases = folder.parent().unwrap_or(&folder);
        let place = Place {
            folder: &folder,
            name: format!("the release, {},", releases.display()),
            mend: OTHER_OUTPUT,
        };
        let stamps = room::explain(made, &[place])?;
        let manifest = staging.seal(origin, stamps)?;
        if let Some(dispatched) = dispatched {
            dispatched.sign(&staging, &manifest, compiled)?;
        }
        staging.appear()?;
        Ok(manifest)
    }

    fn source(&self) -> Source<'_> {
        Source {
            project: self.means.project,
            lock: self.lock,
        }
    }

    /// Fills the folder of the release.
    fn make(&self, inputs: &Inputs<'_>, staging: &Staging, folder: &Path) -> Result<Stamps> {
        let (artifacts, mut packages) = assemble::assemble(inputs, folder)?;
        packages.extend(describe::packages_beside(self.lock, self.means.store)?);
        rules::check_artifacts(&artifacts, folder)?;
        say("measure", "what each launch will report");
        let hashes = staging.hashes()?;
        let stamps = hashes.iter().map(|(name, (stamp, _))| (name.clone(), *stamp)).collect();
        let launches = measure::launches(&self.means.project.recipe.launch, &artifacts.firmware, &stamps)?;
        let release = OnDisk::open(folder)?;
        let measurements = Measured::read(&launches, &release)?.measure(launches)?;
        say("release", "documents and manifest");
        self.write_documents(&release, (&artifacts, &packages), (&stamps, &hashes), &measurements)?;
        Ok(stamps)
    }

    fn write_documents(
        &self,
        release: &OnDisk,
        (artifacts, packages): (&Artifacts, &Packages),
        (stamps, hashes): (&Stamps, &Hashes),
        measurements: &Measurements,
    ) -> Result<()> {
        let payloads = payload::all(self.lock, self.means.store)?;
        let described = Described {
            payloads: &payloads,
            release,
            recipe: &self.means.project.recipe,
            lock: self.lock,
            uname: &artifacts.uname,
            firmware: &artifacts.firmware,
            hashes,
            packages,
        };
        let derived = Derived {
            source: self.source(),
            files: stamps,
            measurements,
        };
        let described = described.documents()?.into_iter();
        let described = described.map(|(name, text)| (name, text.into_bytes()));
        let archive = (recipe::FILE, recipe::pack(self.means.project)?);
        let documents = derived.documents()?.into_iter().chain(described).chain([archive]);
        let documents: Vec<_> = documents.collect();
        documents.iter().try_for_each(|(name, text)| {
            fs::write(release.path().join(name), text).with_context(|| format!("cannot write {name}"))
        })
    }
}
