//! The whole line, from a locked recipe to a release.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::document::launches::Predicted;
use crate::document::sbom::{self, Artifact, Distribution, Role};
use crate::mend::Exit;
use crate::model::artifacts::{Artifacts, file};
use crate::model::lock::Tree;
use crate::model::release::Origin;
use crate::model::{Lock, Manifest, Measurements};
use crate::stage::assemble::{self, Inputs};
use crate::stage::export::{self, PROFILE};
use crate::stage::guest::OTHER_OUTPUT;
use crate::stage::measure::{self, Measured};
use crate::stage::parse::{LOCK, Project};
use crate::stage::release::{Staging, Stamps};
use crate::stage::{fetch, rules, say};
use crate::world::net::Net;
use crate::world::room::{self, Place};
use crate::world::store::Store;
use crate::world::workspace::Workspace;

/// What a build works on and with.
pub struct Build<'a> {
    pub project: &'a Project,
    pub lock: &'a Lock,
    pub store: &'a Store,
    pub net: &'a Net,
    pub workspace: &'a Workspace,
}

impl Build<'_> {
    /// Makes the release in its staging folder and publishes it.
    ///
    /// # Errors
    /// As the stages say; then nothing is published.
    pub fn run(&self, staging: Staging) -> Result<Manifest> {
        fetch::fetch(self.lock, self.net)?;
        let tools = fetch::tool_tree(self.lock, Tree::Tools, self.net, self.store)?;
        let inputs = Inputs {
            project: self.project,
            lock: self.lock,
            store: self.store,
            tree: &tools.path,
            workspace: self.workspace,
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
        let recipe = &self.project.recipe;
        let (name, epoch) = (recipe.name.clone(), recipe.epoch);
        let origin = Origin {
            name,
            epoch,
            recipe: self.project.digest,
            lock: self.lock.digest(),
        };
        staging.publish(origin, stamps)
    }

    /// Fills the folder of the release.
    fn make(&self, inputs: &Inputs<'_>, staging: &Staging, folder: &Path) -> Result<Stamps> {
        let artifacts = assemble::assemble(inputs, folder)?;
        rules::check_artifacts(&artifacts, folder)?;
        say("measure", "what each launch will report");
        let stamps = staging.stamps(Stamps::new())?;
        let launches = measure::launches(&self.project.recipe.launch, &artifacts, &stamps)?;
        let measurements = Measured::read(&launches, folder)?.measure(launches)?;
        say("release", "documents and manifest");
        self.write_documents(folder, &artifacts, &stamps, &measurements)?;
        Ok(stamps)
    }

    fn write_documents(
        &self,
        folder: &Path,
        artifacts: &Artifacts,
        stamps: &Stamps,
        measurements: &Measurements,
    ) -> Result<()> {
        let mut documents = vec![
            ("measurements.json", measurements.text().into_bytes()),
            ("recipe.toml", self.project.text.clone().into_bytes()),
            (LOCK, self.lock.text().into_bytes()),
            ("sbom.spdx.json", self.sbom(artifacts, stamps)?.into_bytes()),
        ];
        documents.extend(self.for_verifiers(measurements)?);
        documents.iter().try_for_each(|(name, text)| {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))
        })
    }

    /// What verifiers are told, on the machines that the recipe names.
    fn for_verifiers(&self, measurements: &Measurements) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let recipe = &self.project.recipe;
        let platform = self.project.platform.as_ref();
        let profile = platform.map(|(profile, _)| profile);
        let release = Predicted::new(&recipe.name, self.lock.digest(), measurements, profile);
        let mut documents = export::documents(&release, recipe.epoch)?;
        documents.extend(platform.map(|(_, text)| (PROFILE, text.clone().into_bytes())));
        Ok(documents)
    }

    fn sbom(&self, artifacts: &Artifacts, stamps: &Stamps) -> Result<String> {
        let roles = self.roles(artifacts)?;
        let described: Vec<Artifact<'_>> = stamps
            .iter()
            .filter_map(|(name, stamp)| {
                let role = *roles.get(name.as_str())?;
                Some(Artifact {
                    name: name.as_str(),
                    stamp: *stamp,
                    role,
                })
            })
            .collect();
        let distribution = Distribution::of(&artifacts.os_release);
        let trees = [Tree::Initrd, Tree::Kernel, Tree::Root].into_iter();
        let distributions = trees.filter_map(|tree| Some((tree, distribution?))).collect();
        sbom::text(&sbom::Facts {
            name: &self.project.recipe.name,
            epoch: self.project.recipe.epoch,
            supplier: self.project.recipe.supplier.as_deref(),
            lock: self.lock,
            root_status: &artifacts.root_status,
            initrd_status: &artifacts.initrd_status,
            distributions: &distributions,
            artifacts: &described,
        })
    }

    /// What each file that boots is for.
    fn roles<'a>(&'a self, artifacts: &'a Artifacts) -> Result<BTreeMap<&'a str, Role<'a>>> {
        let image = |name: &str| name.ends_with(&artifacts.uname);
        let kernel = self.lock.packages(Tree::Kernel).find(|package| image(&package.name));
        let missing = || {
            Exit::Unsupported.because(
                format!(
                    "no package of the kernel is named after its release {}",
                    artifacts.uname
                ),
                "name another kernel package",
            )
        };
        let package = &kernel.ok_or_else(missing)?.name;
        let fixed = [
            (file::COMMAND_LINE, Role::CommandLine),
            (file::DISK, Role::Disk),
            (file::INITRD, Role::Initrd),
            (file::KERNEL, Role::Kernel { package }),
            (file::ROOT, Role::Root),
            (file::UKI, Role::Uki),
            (file::VERITY, Role::Verity),
        ];
        let firmware = artifacts.firmware.iter();
        let firmware = firmware.map(|firmware| {
            (
                firmware.file.as_str(),
                Role::Firmware {
                    package: &firmware.package,
                },
            )
        });
        Ok(fixed.into_iter().chain(firmware).collect())
    }
}
