//! The whole line, from a locked recipe to a release.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ::measure::uki::Uki;
use ::measure::{Sha256, Sha512};
use anyhow::{Context as _, Result};

use crate::debian::deb;
use crate::document::reference_values;
use crate::document::sbom::{self, Artifact, Distribution, Licence, PackageFacts, Role};
use crate::mend::Exit;
use crate::model::artifacts::{Artifacts, file};
use crate::model::lock::Tree;
use crate::model::release::Origin;
use crate::model::{Lock, Manifest, Measurements};
use crate::stage::assemble::{self, Inputs};
use crate::stage::guest::OTHER_OUTPUT;
use crate::stage::measure::{self, Measured};
use crate::stage::parse::{LOCK, Project};
use crate::stage::release::{Staging, Stamps};
use crate::stage::{fetch, rules, say};
use crate::world::files;
use crate::world::net::Net;
use crate::world::room::{self, Place};
use crate::world::store::Store;
use crate::world::workspace::Workspace;

/// The package of the tool tree whose stub begins the UKI.
const STUB_PACKAGE: &str = "systemd-boot-efi";

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
        let sbom = self.sbom(folder, artifacts, stamps)?;
        let documents = [
            ("measurements.json", measurements.text()),
            ("recipe.toml", self.project.text.clone()),
            (LOCK, self.lock.text()),
            ("reference-values.json", reference_values::text(measurements)),
            ("sbom.cdx.json", sbom.cyclonedx),
            ("sbom.spdx.json", sbom.spdx2),
            ("sbom.spdx3.json", sbom.spdx3),
        ];
        documents.iter().try_for_each(|(name, text)| {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))
        })
    }

    fn sbom(&self, folder: &Path, artifacts: &Artifacts, stamps: &Stamps) -> Result<sbom::Documents> {
        let roles = self.roles(artifacts)?;
        let roles: Vec<_> = stamps
            .iter()
            .filter_map(|(name, stamp)| Some((name.as_str(), *stamp, *roles.get(name.as_str())?)))
            .collect();
        let digests = files::for_each(&roles, |(name, _, _)| {
            files::open(&folder.join(name)).and_then(|mut file| files::sha512(&mut file))
        });
        let described = roles.into_iter().zip(digests).map(|((name, stamp, role), sha512)| {
            let sha512 = sha512.with_context(|| format!("cannot read {name} of the release"))?;
            Ok(Artifact {
                name,
                stamp,
                sha512,
                role,
            })
        });
        let described: Vec<_> = described.collect::<Result<_>>()?;
        let uki = fs::read(folder.join(file::UKI)).context("cannot read the UKI")?;
        let distribution = Distribution::of(&artifacts.os_release);
        let trees = [Tree::Initrd, Tree::Kernel, Tree::Root].into_iter();
        let distributions = trees.filter_map(|tree| Some((tree, distribution?))).collect();
        sbom::documents(&sbom::Facts {
            name: &self.project.recipe.name,
            epoch: self.project.recipe.epoch,
            supplier: self.project.recipe.supplier.as_deref(),
            lock: self.lock,
            root_status: &artifacts.root_status,
            initrd_status: &artifacts.initrd_status,
            distributions: &distributions,
            artifacts: &described,
            sections: &sections(&uki)?,
            contents: &[],
            payloads: &[],
            packages: &self.package_facts()?,
        })
    }

    /// What the packages say that are in the release, and the one whose stub begins the UKI.
    fn package_facts(&self) -> Result<BTreeMap<Sha256, PackageFacts>> {
        let packages = self.lock.package.iter();
        let packages: Vec<_> = packages
            .filter(|package| sbom::ships(package) || package.name == STUB_PACKAGE)
            .collect();
        let facts = files::for_each(&packages, |package| {
            let deb = self.store.bytes(&package.sha256, package.size)?;
            let facts = PackageFacts {
                sha512: Sha512::of(&deb),
                licence: Licence::default(),
                control: deb::control(deb.as_slice())?,
            };
            Ok((package.sha256, facts))
        });
        facts.into_iter().collect()
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
            (file::UKI, Role::Uki { stub: STUB_PACKAGE }),
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

/// The digests of the sections of a UKI that are measured.
fn sections(uki: &[u8]) -> Result<BTreeMap<&'static str, Sha256>> {
    let uki = Uki::read(uki).context("the UKI cannot be read back")?;
    Ok(uki
        .measured()
        .map(|section| (section.name, Sha256::of(section.data)))
        .collect())
}
