//! The view as SPDX 3.0.1, JSON-LD: everything that is known, each file of the images included.
//!
//! Packages are packages; files of the release and of the images are files, so that what is asked of packages is asked
//! of what somebody packages. A package has its `.deb` as distribution artifact, as BSI TR-03183-2 wants it.

use std::collections::{BTreeMap, BTreeSet};

use measure::Sha256;
use serde::Serialize;
use serde_json::{Value, json};

use super::Role;
use super::agent::Agent;
use super::bill::{Bill, File, How};
use super::component::{Component, Form, Kind};
use crate::model::contents::Origin;
use crate::model::lock::{Package, Source};
use crate::model::payload;
use crate::model::supplier;
use crate::model::{self, OneByOne};

const CONTEXT: &str = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld";
const CREATION: &str = "_:creation";
const NOTHING: &str = "https://spdx.org/rdf/3.0.1/terms/Core/NoneElement";
const NO_LICENCE: &str = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense";

/// What the document itself may be used under: SPDX asks for this one.
const DATA_LICENCE: &str = "CC0-1.0";

/// Who is not known.
const NOBODY: Agent<'static> = Agent {
    kind: supplier::Kind::Organization,
    name: super::NOASSERTION,
    contact: None,
};

/// Returns the text of the document.
pub(super) fn text(bill: &Bill<'_>) -> String {
    let namespace = format!("https://spdx.org/spdxdocs/{}-{}#", bill.facts.name, bill.lineage);
    let view = View { bill, namespace };
    model::json_in_order(&Document {
        context: CONTEXT,
        graph: OneByOne(|| view.elements()),
    })
}

/// Its fields are sorted by name.
#[derive(Serialize)]
struct Document<'a, Elements> {
    #[serde(rename = "@context")]
    context: &'a str,
    #[serde(rename = "@graph")]
    graph: Elements,
}

struct View<'a> {
    bill: &'a Bill<'a>,
    namespace: String,
}

/// Elements of the document itself.
impl<'a> View<'a> {
    fn id(&self, name: &str) -> String {
        format!("{}{name}", self.namespace)
    }

    fn ids<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> Vec<String> {
        names.into_iter().map(|name| self.id(name)).collect()
    }

    fn element(&self, class: &str, id: &str, name: &str) -> Value {
        json!({ "type": class, "spdxId": self.id(id), "creationInfo": CREATION, "name": name })
    }

    fn elements(&self) -> impl Iterator<Item = Value> {
        [self.creation(), self.document(), self.bill_of_materials(), self.build()]
            .into_iter()
            .chain(self.tools())
            .chain(self.agents())
            .chain(self.licences())
            .chain(self.components())
            .chain(self.inputs())
            .chain(self.files())
            .chain(self.relations())
    }

    fn creation(&self) -> Value {
        let author = self.bill.supplier().map(|supplier| agent_id(&supplier));
        json!({
            "type": "CreationInfo",
            "@id": CREATION,
            "specVersion": "3.0.1",
            "created": self.bill.created(),
            "createdBy": [self.id(&author.unwrap_or_else(|| agent_id(&NOBODY)))],
            "createdUsing": [self.id(&begat_id())],
        })
    }

    fn document(&self) -> Value {
        let name = self.bill.facts.name.to_string();
        let mut document = self.element("SpdxDocument", "document", &name);
        document["rootElement"] = json!([self.id("sbom")]);
        document["profileConformance"] = json!(["build", "core", "simpleLicensing", "software"]);
        document["dataLicense"] = self.id(&licence_id(DATA_LICENCE)).into();
        document
    }

    fn bill_of_materials(&self) -> Value {
        let name = self.bill.facts.name.to_string();
        let mut sbom = self.element("software_Sbom", "sbom", &name);
        sbom["rootElement"] = self.ids(self.bill.artifacts().map(|(id, _)| id)).into();
        sbom["software_sbomType"] = json!(["analyzed", "build"]);
        sbom["profileConformance"] = json!(["build", "core", "simpleLicensing", "software"]);
        sbom
    }

    fn build(&self) -> Value {
        let lock = self.bill.facts.lock;
        let mut build = self.element("build_Build", "build", "begat build");
        build["build_buildType"] = "urn:begat:build".into();
        build["build_buildId"] = format!("sha256:{}", lock.digest()).into();
        build["build_configSourceDigest"] = json!([hash("sha256", lock.recipe)]);
        build["build_configSourceEntrypoint"] = json!(["recipe.toml"]);
        let parameter = |key, value| json!({ "type": "DictionaryEntry", "key": key, "value": value });
        build["build_parameter"] = json!([
            parameter("epoch", self.bill.created()),
            parameter("recipe.lock", format!("sha256:{}", lock.digest())),
        ]);
        build
    }

    fn tools(&self) -> Vec<Value> {
        let begat = format!("begat {}", env!("CARGO_PKG_VERSION"));
        let begat = self.element("Tool", &begat_id(), &begat);
        let locked = self.bill.facts.lock.tools().map(|tool| {
            let mut element = self.element("Tool", &tool_id(tool), &format!("{} {}", tool.name, tool.version));
            element["verifiedUsing"] = json!([hash("sha256", tool.sha256)]);
            element
        });
        [begat].into_iter().chain(locked).collect()
    }

    fn agents(&self) -> Vec<Value> {
        let components = self.bill.components.values();
        let named = components.flat_map(|part| [part.supplier.unwrap_or(NOBODY), part.originator.unwrap_or(NOBODY)]);
        let author = self.bill.supplier().unwrap_or(NOBODY);
        let all: BTreeSet<_> = named.chain([author]).collect();
        all.iter().map(|agent| self.agent(agent)).collect()
    }

    fn agent(&self, agent: &Agent<'_>) -> Value {
        let mut element = self.element(agent.kind.name(), &agent_id(agent), agent.name);
        let mail = agent.mail().map(|mail| identifier("email", mail));
        let url = agent.url().map(|url| identifier("urlScheme", url));
        if let Some(contact) = mail.or(url) {
            element["externalIdentifier"] = json!([contact]);
        }
        element
    }

    /// Expressions, each once, and the texts that they name.
    fn licences(&self) -> Vec<Value> {
        let components = self.bill.components.values().filter_map(|component| component.licence);
        let expressions: BTreeSet<_> = components.chain([DATA_LICENCE]).collect();
        let texts = self.bill.texts.iter().map(|(name, text)| {
            let mut element = self.element("simplelicensing_SimpleLicensingText", &text_id(name, text), name);
            element["simplelicensing_licenseText"] = (*text).into();
            element
        });
        let expressions = expressions.iter().map(|expression| self.expression(expression));
        expressions.chain(texts).collect()
    }

    fn expression(&self, expression: &str) -> Value {
        let mut element = json!({
            "type": "simplelicensing_LicenseExpression",
            "spdxId": self.id(&licence_id(expression)),
            "creationInfo": CREATION,
            "simplelicensing_licenseExpression": expression,
        });
        let names: BTreeSet<_> = expression.split(['(', ')', ' ']).collect();
        let named = names.iter().filter_map(|name| {
            let text = self.bill.texts.get(name)?;
            Some(json!({ "type": "DictionaryEntry", "key": name, "value": self.id(&text_id(name, text)) }))
        });
        let named: Vec<_> = named.collect();
        if !named.is_empty() {
            element["simplelicensing_customIdToUri"] = named.into();
        }
        element
    }
}

/// What is described.
impl<'a> View<'a> {
    fn components(&self) -> Vec<Value> {
        let described = self
            .bill
            .components
            .iter()
            .map(|(id, component)| match component.is_package() {
                true => self.package(id, component),
                false => self.artifact(id, component),
            });
        let files = self.deployables().map(|(id, component)| self.deployable(id, component));
        described.chain(files).collect()
    }

    /// What comes as a file that is not in the release.
    fn deployables(&self) -> impl Iterator<Item = (&'a String, &'a Component<'a>)> {
        let components = self.bill.components.iter();
        components
            .filter(|(_, component)| matches!(component.kind, Kind::Binary { .. } | Kind::Crate | Kind::Payload { .. }))
    }

    fn artifact(&self, id: &str, component: &Component<'_>) -> Value {
        let mut element = self.element("software_File", id, component.name);
        element["software_fileKind"] = "file".into();
        element["software_primaryPurpose"] = purpose(component.kind).into();
        element["software_additionalPurpose"] = additional(component.form()).into();
        self.say_what_is_known(&mut element, component);
        if let Some(url) = &component.url {
            element["externalIdentifier"] = json!([identifier("packageUrl", url)]);
        }
        element
    }

    fn package(&self, id: &str, component: &Component<'_>) -> Value {
        let mut element = self.element("software_Package", id, component.name);
        element["software_packageVersion"] = component.version.as_str().into();
        element["software_primaryPurpose"] = purpose(component.kind).into();
        element["software_copyrightText"] = super::NOASSERTION.into();
        self.say_what_is_known(&mut element, component);
        if let Some(url) = &component.url {
            element["software_packageUrl"] = url.as_str().into();
            element["externalIdentifier"] = json!([identifier("packageUrl", url)]);
        }
        if let Some(cpe) = component.cpe() {
            element["externalIdentifier"] = json!([identifier("cpe23", &cpe)]);
        }
        if let Some(url) = component.homepage {
            element["software_homePage"] = url.into();
        }
        if let Kind::Binary {
            source: (name, version),
        } = component.kind
        {
            element["software_sourceInfo"] = format!("built package from: {name} {version}").into();
        }
        element
    }

    fn say_what_is_known(&self, element: &mut Value, component: &Component<'_>) {
        element["suppliedBy"] = self.id(&agent_id(&component.supplier.unwrap_or(NOBODY))).into();
        element["originatedBy"] = json!([self.id(&agent_id(&component.originator.unwrap_or(NOBODY)))]);
        let sha256 = component.sha256.map(|digest| hash("sha256", digest));
        let sha512 = component.sha512.map(|digest| hash("sha512", digest));
        let hashes: Vec<_> = sha256.into_iter().chain(sha512).collect();
        if !hashes.is_empty() {
            element["verifiedUsing"] = hashes.into();
        }
    }

    /// The file that a package is handed out as.
    fn deployable(&self, id: &str, component: &Component<'_>) -> Value {
        let mut element = self.element(
            "software_File",
            &deployable_id(id),
            component.file.unwrap_or(component.name),
        );
        element["software_fileKind"] = "file".into();
        element["software_primaryPurpose"] = "install".into();
        element["software_additionalPurpose"] = additional(component.form()).into();
        self.say_what_is_known(&mut element, component);
        element
    }

    /// The recipe's own files.
    fn inputs(&self) -> impl Iterator<Item = Value> {
        self.bill.facts.lock.source.iter().map(|source| {
            let mut element = self.element("software_File", &source_id(source), &source.path);
            element["software_primaryPurpose"] = "source".into();
            element["verifiedUsing"] = json!([hash("sha256", source.sha256)]);
            element
        })
    }

    fn files(&self) -> impl Iterator<Item = Value> {
        self.bill.files.iter().map(|file| {
            let mut element = self.element("software_File", &file.id, &file.content.node.path);
            element["verifiedUsing"] = json!([hash("sha256", file.sha256)]);
            if file.form().executable {
                element["software_primaryPurpose"] = "executable".into();
            }
            element
        })
    }
}

/// What things are to each other.
impl<'a> View<'a> {
    fn relations(&self) -> Vec<Value> {
        let packages = self
            .bill
            .components
            .iter()
            .filter(|(_, component)| component.is_package());
        let licences = packages.flat_map(|(id, component)| self.licence(id, component));
        let artifacts = self.deployables().map(|(id, _)| {
            self.relation(
                id,
                ("hasDistributionArtifact", ""),
                &[self.id(&deployable_id(id))],
                Some(true),
            )
        });
        let between = self
            .bill
            .relations
            .iter()
            .flat_map(|((from, how), related)| self.between(from, *how, &related.to, related.complete));
        let (licences, artifacts): (Vec<_>, Vec<_>) = (licences.collect(), artifacts.collect());
        let files = self.files_of_images().into_iter().chain(self.files_of_packages());
        licences
            .into_iter()
            .chain(artifacts)
            .chain(between)
            .chain(files)
            .chain(self.around_build())
            .collect()
    }

    /// A relationship; `complete` is none where that is not known. `what` tells apart those of one kind from one thing.
    fn relation(&self, from: &str, (how, what): (&str, &str), to: &[String], complete: Option<bool>) -> Value {
        let id = format!("relation-{:.16}", Sha256::of(format!("{from}\0{how}\0{what}")));
        let completeness = match complete {
            Some(true) => "complete",
            Some(false) => "incomplete",
            None => "noAssertion",
        };
        let mut relation = json!({
            "type": "Relationship",
            "spdxId": self.id(&id),
            "creationInfo": CREATION,
            "from": self.id(from),
            "relationshipType": how,
            "to": to,
            "completeness": completeness,
        });
        if !what.is_empty() {
            relation["comment"] = what.into();
        }
        relation
    }

    /// A relationship that holds while the release is built.
    fn built(&self, how: &str, to: &[String], what: &str) -> Value {
        let mut relation = self.relation("build", (how, what), to, Some(true));
        relation["type"] = "LifecycleScopedRelationship".into();
        relation["scope"] = "build".into();
        relation
    }

    /// What Debian says in the copyright file is what it has concluded; nobody here has looked further.
    fn licence(&self, id: &str, component: &Component<'_>) -> [Value; 2] {
        let licence = component.licence.map(|expression| self.id(&licence_id(expression)));
        let licence = [licence.unwrap_or_else(|| NO_LICENCE.into())];
        ["hasConcludedLicense", "hasDeclaredLicense"].map(|how| self.relation(id, (how, ""), &licence, None))
    }

    /// Some relations go the other way around here.
    fn between(&self, from: &str, how: How, to: &BTreeSet<String>, complete: Option<bool>) -> Vec<Value> {
        let forward = |word| {
            let to = match to.is_empty() {
                true => vec![NOTHING.into()],
                false => self.ids(to),
            };
            vec![self.relation(from, (word, ""), &to, complete)]
        };
        let backward = |word| {
            let back = |other: &String| self.relation(other, (word, &format!("into {from}")), &[self.id(from)], None);
            to.iter().map(back).collect()
        };
        match how {
            How::Contains => forward("contains"),
            How::CopiedFrom => backward("copiedTo"),
            How::DependsOn => forward("dependsOn"),
            How::GeneratedFrom => backward("generates"),
            How::Installs => forward("descendantOf"),
            How::LinkedFrom => forward("hasStaticLink"),
        }
    }

    fn files_of_images(&self) -> Vec<Value> {
        let images = self.group(|file| Some(file.image.clone()));
        let all =
            |(image, files): (String, Vec<String>)| self.relation(&image, ("contains", "files"), &files, Some(true));
        images.into_iter().map(all).collect()
    }

    /// A package has more files than an image holds of it.
    fn files_of_packages(&self) -> Vec<Value> {
        let packages = self.group(|file| file.package.clone());
        let some = |(package, files): (String, Vec<String>)| {
            self.relation(&package, ("contains", "those in the images"), &files, Some(false))
        };
        packages.into_iter().map(some).collect()
    }

    fn group<K: Ord>(&self, key: impl Fn(&File<'_>) -> Option<K>) -> BTreeMap<K, Vec<String>> {
        let mut groups = BTreeMap::<K, Vec<String>>::new();
        for file in &self.bill.files {
            if let Some(key) = key(file) {
                groups.entry(key).or_default().push(self.id(&file.id));
            }
        }
        groups
    }

    /// What went into the build and came out of it; files that no package owns say how they came about.
    fn around_build(&self) -> Vec<Value> {
        let lock = self.bill.facts.lock;
        let tools: Vec<_> = lock.tools().map(tool_id).chain([begat_id()]).collect();
        let inputs: Vec<_> = self
            .deployables()
            .map(|(id, _)| deployable_id(id))
            .chain(lock.source.iter().map(source_id))
            .collect();
        let fixed = [
            self.built("usesTool", &self.ids(&tools), ""),
            self.built("hasInput", &self.ids(&inputs), ""),
            self.built("hasOutput", &self.ids(self.bill.artifacts().map(|(id, _)| id)), ""),
        ];
        let made = self.group(|file| made(&file.content.origin));
        let made = made.iter().map(|(how, files)| self.built("hasOutput", files, how));
        let sources: BTreeMap<_, _> = lock
            .source
            .iter()
            .map(|source| (source.path.as_str(), source))
            .collect();
        let copied = self.group(|file| match &file.content.origin {
            Origin::Recipe { path } => sources.get(path.as_str()).map(|source| source_id(source)),
            _ => None,
        });
        let copied = copied
            .iter()
            .map(|(source, files)| self.relation(source, ("copiedTo", ""), files, Some(true)));
        fixed.into_iter().chain(made).chain(copied).collect()
    }
}

/// How a file came about that was neither in a package nor in the recipe.
fn made(origin: &Origin) -> Option<String> {
    match origin {
        Origin::Generated { class } => Some(format!("generated: {class}")),
        Origin::NotDerived { class } => Some(format!("generated, not derived: {class}")),
        Origin::Allowed => Some("unexplained, allowed by the recipe".into()),
        Origin::Unexplained => Some("unexplained".into()),
        Origin::Package { .. } | Origin::Payload { .. } | Origin::Recipe { .. } => None,
    }
}

fn purpose(kind: Kind<'_>) -> &'static str {
    match kind {
        Kind::Artifact(Role::Disk) => "diskImage",
        Kind::Artifact(Role::Firmware { .. }) => "firmware",
        Kind::Artifact(Role::Initrd | Role::Root | Role::Volume) => "filesystemImage",
        Kind::Artifact(Role::Kernel { .. }) => "operatingSystem",
        Kind::Artifact(Role::Uki { .. }) => "executable",
        Kind::Artifact(Role::CommandLine) => "configuration",
        Kind::Artifact(Role::Verity | Role::VolumeVerity { .. }) | Kind::Section => "data",
        Kind::Payload {
            kind: payload::Kind::Model,
            ..
        } => "model",
        Kind::Payload {
            kind: payload::Kind::Data,
            ..
        } => "data",
        Kind::Binary { .. }
        | Kind::Payload {
            kind: payload::Kind::Software,
            ..
        } => "install",
        Kind::Crate => "library",
        Kind::Source => "source",
        Kind::System => "operatingSystem",
    }
}

/// As BSI TR-03183-2 maps its properties: what is structured is a `container`, what is not is `firmware`.
fn additional(form: Form) -> Vec<&'static str> {
    let archive = form.archive.then_some("archive");
    let structure = if form.structured { "container" } else { "firmware" };
    let executable = form.executable.then_some("executable");
    [archive, Some(structure), executable].into_iter().flatten().collect()
}

fn hash(algorithm: &str, digest: impl ToString) -> Value {
    json!({ "type": "Hash", "algorithm": algorithm, "hashValue": digest.to_string() })
}

fn identifier(kind: &str, text: &str) -> Value {
    json!({ "type": "ExternalIdentifier", "externalIdentifierType": kind, "identifier": text })
}

fn begat_id() -> String {
    format!("tool-begat-{}", env!("CARGO_PKG_VERSION"))
}

fn tool_id(package: &Package) -> String {
    super::element_id("tool", &package.name, package.sha256)
}

fn source_id(source: &Source) -> String {
    format!(
        "recipe-{:.16}",
        Sha256::of(format!("{}\0{}", source.path, source.sha256))
    )
}

fn deployable_id(package: &str) -> String {
    format!("{package}-as-file")
}

fn agent_id(agent: &Agent<'_>) -> String {
    let text = format!(
        "{}\0{}\0{}",
        agent.kind.name(),
        agent.name,
        agent.contact.unwrap_or_default()
    );
    format!("agent-{:.16}", Sha256::of(text))
}

fn licence_id(expression: &str) -> String {
    format!("licence-{:.16}", Sha256::of(expression))
}

fn text_id(name: &str, text: &str) -> String {
    format!("text-{:.16}", Sha256::of(format!("{name}\0{text}")))
}
