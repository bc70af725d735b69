//! The model: components of every kind, what they are to each other, and files.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use measure::Sha256;
use uuid::{Builder, Uuid};

use super::agent::{self, Agent};
use super::component::{Component, Form, Kind};
use super::dpkg::{About, Identity, Installed};
use super::{
    Artifact, Crate, Distribution, Facts, PackageFacts, Payload, Role, SHIPPED, depends, element_id, purl, ships,
};
use crate::debian::relation;
use crate::mend::Exit;
use crate::model::Supplier;
use crate::model::contents::{Content, Kind as NodeKind, Origin};
use crate::model::lock::{Package, Tree};

/// The facts, after they have been found to agree.
pub(super) struct Bill<'a> {
    pub(super) facts: &'a Facts<'a>,
    /// What the documents are named by: it derives from all that they are made of.
    pub(super) lineage: Uuid,
    /// Everything but files and tools, by identifier.
    pub(super) components: BTreeMap<String, Component<'a>>,
    pub(super) relations: BTreeMap<(String, How), Related>,
    /// The regular files of the images, as they are listed.
    pub(super) files: Vec<File<'a>>,
    /// The texts of licences that have no name on the SPDX list, by the name that they have here.
    pub(super) texts: BTreeMap<&'a str, &'a str>,
    /// The packages that are in the release, each once.
    packages: Vec<&'a Package>,
    about: BTreeMap<Identity<'a>, About<'a>>,
}

/// What one thing is to others.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum How {
    Contains,
    /// It, or a part of it, is a file of the package.
    CopiedFrom,
    DependsOn,
    GeneratedFrom,
    /// Parts of a source package, or of a crate, are in it.
    LinkedFrom,
    /// It is an installation of the distribution.
    Installs,
}

/// The others.
#[derive(Clone, Debug, Default)]
pub(super) struct Related {
    pub(super) to: BTreeSet<String>,
    /// Whether there are none beside them; unknown where that is not known.
    pub(super) complete: Option<bool>,
}

/// A regular file of an image.
pub(super) struct File<'a> {
    pub(super) id: String,
    pub(super) sha256: Sha256,
    pub(super) content: &'a Content,
    /// The component that is the image.
    pub(super) image: String,
    /// The component that is the package or the payload.
    pub(super) package: Option<String>,
}

impl<'a> Bill<'a> {
    /// Builds the model from facts and what is installed in root image and initrd.
    ///
    /// # Errors
    /// As [`super::documents`] says.
    pub(super) fn new(facts: &'a Facts<'a>, trees: [Installed<'a>; 2]) -> Result<Self> {
        super::check_sources_of_artifacts(facts)?;
        let mut bill = Self {
            facts,
            lineage: lineage(facts),
            components: BTreeMap::new(),
            relations: BTreeMap::new(),
            files: Vec::new(),
            texts: texts(facts),
            packages: packages(facts),
            about: BTreeMap::new(),
        };
        for tree in &trees {
            bill.about
                .extend(tree.iter().map(|(package, about)| (*package, about.clone())));
        }
        bill.read_control_files();
        bill.add_packages()?;
        trees.iter().try_for_each(|tree| bill.relate_dependencies(tree))?;
        bill.add_payloads();
        bill.add_system();
        facts.artifacts.iter().for_each(|artifact| bill.add_artifact(artifact));
        bill.add_sections();
        bill.files = bill.list_files()?;
        Ok(bill)
    }

    /// The components that are files of the release, each with its identifier.
    pub(super) fn artifacts(&self) -> impl Iterator<Item = (&String, &Component<'a>)> {
        let artifact = |(_, component): &(_, &Component<'_>)| matches!(component.kind, Kind::Artifact(_));
        self.components.iter().filter(artifact)
    }

    /// Who hands out the image.
    pub(super) fn supplier(&self) -> Option<Agent<'a>> {
        self.facts.supplier.map(Agent::supplier)
    }

    /// When the documents say that they were made: RFC 3339 in whole seconds.
    pub(super) fn created(&self) -> String {
        self.facts.epoch.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn known(&self, package: &Package) -> Option<&'a PackageFacts> {
        self.facts.packages.get(&package.sha256)
    }

    /// The distribution that a package belongs to, by the first of its trees where that is known.
    fn distribution(&self, package: &Package) -> Option<Distribution<'a>> {
        let trees = SHIPPED.iter().filter(|tree| package.why.contains_key(tree));
        let mut known = trees.flat_map(|tree| self.facts.distributions.get(tree));
        known.next().copied()
    }

    /// What is not installed, firmware and kernel, speaks through its own control file.
    fn read_control_files(&mut self) {
        for package in self.packages.clone() {
            if let Some(known) = self.known(package) {
                let about = || About::of(&known.control);
                self.about.entry(Identity::from(package)).or_insert_with(about);
            }
        }
    }

    fn relate(&mut self, from: &str, how: How, to: String, complete: Option<bool>) {
        let related = self.relations.entry((from.into(), how)).or_insert_with(|| Related {
            complete,
            ..Related::default()
        });
        related.to.insert(to);
        related.complete = related.complete.min(complete); // unknown, no, yes
    }

    fn add_packages(&mut self) -> Result<()> {
        for package in self.packages.clone() {
            let (id, source) = (binary_id(package), self.add_source(package.source_package(), package));
            self.components.insert(id.clone(), self.binary(package));
            self.relate(&id, How::GeneratedFrom, source, Some(true));
            let about = self.about.get(&Identity::from(package)).cloned().unwrap_or_default();
            for field in about.built_using {
                for (name, version) in built_using(package, field)? {
                    let source = self.add_source((name, version), package);
                    self.relate(&id, How::LinkedFrom, source, Some(true));
                }
            }
        }
        Ok(())
    }

    fn binary(&self, package: &'a Package) -> Component<'a> {
        let about = self.about.get(&Identity::from(package));
        let known = self.known(package);
        Component {
            kind: Kind::Binary {
                source: package.source_package(),
            },
            name: &package.name,
            version: package.version.clone(),
            sha256: Some(package.sha256),
            sha512: known.map(|known| known.sha512),
            file: Some(package.file_name()),
            supplier: Some(agent::DEBIAN),
            originator: about.and_then(|about| about.maintainer).map(Agent::maintainer),
            licence: known.and_then(|known| known.licence.declared.as_deref()),
            url: Some(purl::binary(package, self.distribution(package))),
            homepage: about.and_then(|about| about.homepage),
        }
    }

    /// A source package goes by its URL: nobody has locked its bytes. Returns its identifier.
    fn add_source(&mut self, (name, version): (&'a str, &'a str), package: &Package) -> String {
        let url = purl::source(name, version, self.distribution(package));
        let id = element_id("source", name, Sha256::of(&url));
        let component = Component {
            supplier: Some(agent::DEBIAN),
            url: Some(url),
            ..Component::new(Kind::Source, name, version.into())
        };
        self.components.insert(id.clone(), component);
        id
    }

    fn relate_dependencies(&mut self, tree: &Installed<'a>) -> Result<()> {
        let ids: BTreeMap<_, _> = self
            .packages
            .iter()
            .map(|package| (Identity::from(*package), binary_id(package)))
            .collect();
        for (package, dependencies) in depends::dependencies(tree)? {
            let Some(id) = ids.get(&package) else { continue };
            let related = self.relations.entry((id.clone(), How::DependsOn));
            let related = related.or_insert_with(|| Related {
                complete: Some(true),
                ..Related::default()
            });
            related.complete = related.complete.min(Some(dependencies.complete));
            let on = dependencies.on.iter().filter_map(|on| ids.get(on));
            related.to.extend(on.cloned());
        }
        Ok(())
    }

    fn add_payloads(&mut self) {
        for payload in self.facts.payloads {
            let compiler = payload.compiled.and(self.supplier());
            let supplier = payload.supplier.map(Agent::supplier).or(compiler);
            let kind = Kind::Payload {
                kind: payload.kind,
                archive: payload.archive,
                executable: payload.executable,
            };
            let component = Component {
                sha256: Some(payload.sha256),
                sha512: Some(payload.sha512),
                file: Some(payload.name),
                licence: payload.licence,
                url: payload.url.map(Into::into),
                supplier,
                originator: supplier,
                ..Component::new(kind, payload.name, payload.version.into())
            };
            self.components.insert(payload_id(payload), component);
            if let Some((source, crates)) = payload.compiled {
                self.add_program(payload, supplier, source, crates);
            }
        }
    }

    /// What a program was compiled from, and what was linked into it: crates, and libraries of the compiler.
    fn add_program(&mut self, payload: &'a Payload<'a>, by: Option<Agent<'a>>, source: Sha256, crates: &'a [Crate]) {
        let (id, from) = (payload_id(payload), element_id("source", payload.name, source));
        let component = Component {
            sha256: Some(source),
            supplier: by,
            originator: by,
            licence: payload.licence,
            url: Some(purl::program(payload.name, payload.version, source)),
            ..Component::new(Kind::Source, payload.name, payload.version.into())
        };
        self.components.insert(from.clone(), component);
        self.relate(&id, How::GeneratedFrom, from, Some(true));
        for one in crates {
            let linked = element_id("crate", &one.name, one.sha256);
            self.components.insert(linked.clone(), Component::of_crate(one));
            self.relate(&id, How::LinkedFrom, linked, Some(true));
        }
        let lock = self.facts.lock;
        for library in lock.packages(Tree::Compiler).filter(|package| is_linked(package)) {
            let library = self.add_source(library.source_package(), library);
            self.relate(&id, How::LinkedFrom, library, Some(true));
        }
    }

    fn add_system(&mut self) {
        if let Some(system) = self.facts.distributions.get(&Tree::Root) {
            let component = Component {
                supplier: Some(agent::DEBIAN),
                originator: Some(agent::DEBIAN),
                ..Component::new(Kind::System, system.id, system.version.into())
            };
            self.components.insert(system_id(system), component);
        }
    }

    fn add_artifact(&mut self, artifact: &'a Artifact<'a>) {
        let id = artifact_id(artifact);
        for (how, other) in self.parts(artifact) {
            self.relate(&id, how, other, Some(true));
        }
        let supplier = match artifact.role.is_copied() {
            true => Some(agent::DEBIAN),
            false => self.supplier(),
        };
        let component = Component {
            sha256: Some(artifact.stamp.sha256),
            sha512: Some(artifact.sha512),
            file: Some(artifact.name),
            supplier,
            originator: supplier,
            url: Some(purl::artifact(self.facts.name, artifact)),
            ..Component::new(
                Kind::Artifact(artifact.role),
                artifact.name,
                format!("sha256:{}", artifact.stamp.sha256),
            )
        };
        self.components.insert(id, component);
    }

    /// What an artifact consists of and comes from.
    fn parts(&self, artifact: &Artifact<'_>) -> Vec<(How, String)> {
        let artifacts = self.facts.artifacts.iter().filter_map(|other| {
            let how = between(artifact.role, other)?;
            Some((how, artifact_id(other)))
        });
        let packages = self.packages.iter().filter_map(|package| {
            let how = holds(artifact.role, package)?;
            Some((how, binary_id(package)))
        });
        let payloads = self.facts.payloads.iter();
        let payloads = payloads.filter(|payload| artifact.name == payload.image);
        let payloads = payloads.map(|payload| (How::Contains, payload_id(payload)));
        let system = self.facts.distributions.get(&Tree::Root);
        let system = system.filter(|_| artifact.role == Role::Root);
        let system = system.map(|system| (How::Installs, system_id(system)));
        artifacts.chain(packages).chain(payloads).chain(system).collect()
    }

    /// A section that is an artifact, byte for byte, is that artifact.
    fn add_sections(&mut self) {
        let mut artifacts = self.facts.artifacts.iter();
        let Some(uki) = artifacts.find(|artifact| matches!(artifact.role, Role::Uki { .. })) else {
            return;
        };
        for (name, sha256) in self.facts.sections {
            let same = |artifact: &&Artifact<'_>| artifact.stamp.sha256 == *sha256;
            if self.facts.artifacts.iter().any(|artifact| same(&artifact)) {
                continue;
            }
            let id = element_id("section", name, *sha256);
            let component = Component {
                sha256: Some(*sha256),
                supplier: self.supplier(),
                ..Component::new(Kind::Section, name, format!("sha256:{sha256}"))
            };
            self.components.insert(id.clone(), component);
            self.relate(&artifact_id(uki), How::Contains, id, Some(true));
        }
    }

    fn list_files(&self) -> Result<Vec<File<'a>>> {
        let homes = Homes::of(self);
        let files = self.facts.contents.iter();
        let files = files.filter_map(|content| match &content.node.kind {
            NodeKind::File { sha256, .. } => Some(homes.file(content, *sha256)),
            _ => None,
        });
        files.collect()
    }
}

/// The identifiers of what files are in and come from.
struct Homes<'a> {
    images: BTreeMap<&'a str, String>,
    packages: BTreeMap<Sha256, String>,
    payloads: BTreeMap<&'a str, String>,
}

impl<'a> Homes<'a> {
    fn of(bill: &Bill<'a>) -> Self {
        let (images, payloads) = (bill.facts.artifacts.iter(), bill.facts.payloads.iter());
        let packages = bill.packages.iter();
        Self {
            images: images.map(|image| (image.name, artifact_id(image))).collect(),
            packages: packages.map(|package| (package.sha256, binary_id(package))).collect(),
            payloads: payloads.map(|payload| (payload.name, payload_id(payload))).collect(),
        }
    }

    fn file(&self, content: &'a Content, sha256: Sha256) -> Result<File<'a>> {
        let image = self.images.get(content.node.image.0.as_str());
        Ok(File {
            id: file_id(content, sha256),
            sha256,
            content,
            image: image.ok_or_else(|| foreign(content, "an image"))?.clone(),
            package: self.package(content)?,
        })
    }

    /// The package or the payload that the file comes from.
    fn package(&self, content: &Content) -> Result<Option<String>> {
        let (home, what) = match &content.origin {
            Origin::Package { sha256, .. } => (self.packages.get(sha256), "a package"),
            Origin::Payload { name } => (self.payloads.get(name.as_str()), "a payload"),
            _ => return Ok(None),
        };
        Ok(Some(home.ok_or_else(|| foreign(content, what))?.clone()))
    }
}

impl File<'_> {
    pub(super) fn form(&self) -> Form {
        Form {
            executable: self.content.node.mode & 0o111 != 0,
            archive: false,
            structured: false,
        }
    }
}

/// Whether a package of the compiler has libraries that end up in every static program.
fn is_linked(package: &Package) -> bool {
    let name = package.name.as_str();
    ["libc6-dev", "libstd-rust-dev"].contains(&name) || (name.starts_with("libgcc-") && name.ends_with("-dev"))
}

/// The packages that are in the release or that a file of it is copied from.
fn packages<'a>(facts: &Facts<'a>) -> Vec<&'a Package> {
    let sources = facts.artifacts.iter().filter_map(|artifact| artifact.role.source());
    let sources: BTreeSet<_> = sources.collect();
    let is_source = |package: &Package| {
        let mut trees = package.why.keys();
        trees.any(|tree| sources.contains(&(*tree, package.name.as_str())))
    };
    let packages = facts.lock.package.iter();
    packages
        .filter(|package| ships(package) || is_source(package))
        .collect()
}

fn texts<'a>(facts: &Facts<'a>) -> BTreeMap<&'a str, &'a str> {
    let licences = facts.packages.values().map(|package| &package.licence);
    let texts = licences.flat_map(|licence| &licence.texts);
    texts.map(|(name, text)| (name.as_str(), text.as_str())).collect()
}

/// A UUID of version 8 (RFC 9562, section 5.8). All that a release is made of decides on it: images are named by their
/// digests, packages and the recipe by the lock's.
fn lineage(facts: &Facts<'_>) -> Uuid {
    let mut text = format!(
        "begat {}\n{}\n{}\n{}\n{}\n",
        env!("CARGO_PKG_VERSION"),
        facts.name,
        facts.epoch,
        facts.supplier.map(Supplier::to_string).unwrap_or_default(),
        facts.lock.digest()
    );
    for artifact in facts.artifacts {
        text.extend([artifact.name, " ", &artifact.stamp.sha256.to_string(), "\n"]);
    }
    let digest = Sha256::of(text);
    let bytes = digest.bytes().first_chunk();
    Builder::from_custom_bytes(*bytes.expect("a SHA-256 has more than 16 bytes")).into_uuid()
}

/// What one file of a release is to another.
fn between(role: Role<'_>, other: &Artifact<'_>) -> Option<How> {
    match (role, other.role) {
        (Role::Disk, Role::Root | Role::Uki { .. } | Role::Verity | Role::Volume | Role::VolumeVerity { .. }) => {
            Some(How::Contains)
        }
        (Role::VolumeVerity { image }, Role::Volume) => (other.name == image).then_some(How::GeneratedFrom),
        (Role::Uki { .. }, Role::CommandLine | Role::Initrd | Role::Kernel { .. }) => Some(How::Contains),
        (Role::Verity, Role::Root) => Some(How::GeneratedFrom),
        _ => None,
    }
}

/// What a file of a release is to a package. The initrd holds modules out of the kernel's package, not all of it.
fn holds(role: Role<'_>, package: &Package) -> Option<How> {
    let enters = |tree| package.why.contains_key(&tree);
    match role {
        Role::Root => enters(Tree::Root).then_some(How::Contains),
        Role::Initrd if enters(Tree::Initrd) => Some(How::Contains),
        Role::Initrd => enters(Tree::Kernel).then_some(How::GeneratedFrom),
        _ => {
            let (tree, name) = role.source()?;
            (enters(tree) && package.name == name).then_some(How::CopiedFrom)
        }
    }
}

/// The source packages of a `Built-Using`: Debian Policy 7.8, `name (= version)`.
fn built_using<'a>(package: &Package, field: &'a str) -> Result<Vec<(&'a str, &'a str)>> {
    let clauses = relation::parse(field).map_err(|why| {
        let problem = format!("{} {} says what cannot be: {why}", package.name, package.version);
        Exit::No.because(problem, "its control file is wrong: name another package")
    })?;
    let named = clauses.into_iter().flatten();
    Ok(named
        .filter_map(|source| Some((source.name, source.bound?.1)))
        .collect())
}

fn foreign(content: &Content, what: &str) -> anyhow::Error {
    let problem = format!(
        "{} of {} is of {what} that is not in the release",
        content.node.path, content.node.image.0
    );
    Exit::No.because(problem, "the list of files is of another release: make both anew")
}

fn artifact_id(artifact: &Artifact<'_>) -> String {
    element_id("file", artifact.name, artifact.stamp.sha256)
}

pub(super) fn binary_id(package: &Package) -> String {
    element_id("deb", &package.name, package.sha256)
}

fn payload_id(payload: &Payload<'_>) -> String {
    element_id("payload", payload.name, payload.sha256)
}

fn system_id(Distribution { id, version }: &Distribution<'_>) -> String {
    element_id("system", id, Sha256::of(format!("{id}-{version}")))
}

fn file_id(content: &Content, sha256: Sha256) -> String {
    let (image, path) = (&content.node.image.0, &content.node.path);
    format!("path-{:.16}", Sha256::of(format!("{image}\0{path}\0{sha256}")))
}
