//! The view as SPDX 2.3: ISO/IEC 5962 as amended, JSON schema of tag v2.3.
//!
//! Files of the release are packages here: a file element needs a SHA-1, and a package that contains files needs more
//! of them (sections 7.9 and 8.4).

use std::collections::BTreeSet;

use measure::Sha256;
use serde::Serialize;

use super::{Artifact, Bill, Distribution, Role, element_id, purl};
use crate::model;
use crate::model::lock::{Package as Deb, Tree};

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const NOASSERTION: &str = "NOASSERTION";
const DEBIAN: &str = "Organization: Debian";

/// Returns the text of the document; its namespace is the digest of the rest.
pub(super) fn text(bill: &Bill<'_>) -> String {
    let mut document = document(bill);
    let content = Sha256::of(model::json(&document));
    document.document_namespace = format!("https://spdx.org/spdxdocs/{}-{content}", bill.facts.name);
    model::json(&document)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(rename = "SPDXID")]
    id: &'static str,
    spdx_version: &'static str,
    data_license: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: BTreeSet<Package>,
    relationships: BTreeSet<Relationship>,
}

#[derive(Serialize)]
struct CreationInfo {
    created: String,
    creators: BTreeSet<String>,
}

#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
struct Package {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    primary_package_purpose: Purpose,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<String>,
    supplier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    originator: Option<String>,
    download_location: &'static str,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_info: Option<String>,
    license_concluded: &'static str,
    license_declared: &'static str,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
}

/// Section 7.24. Consumers take OPERATING_SYSTEM for the distribution, so no file has it.
#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Purpose {
    Application,
    Archive,
    File,
    Firmware,
    Install,
    OperatingSystem,
    Source,
}

#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

#[derive(Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: Relation,
    related_spdx_element: String,
}

/// Section 11.1.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Relation {
    Contains,
    Describes,
    ExpandedFromArchive,
    GeneratedFrom,
}

fn document(bill: &Bill<'_>) -> Document {
    let tool = format!("Tool: begat-{}", env!("CARGO_PKG_VERSION"));
    let facts = bill.facts;
    Document {
        id: DOCUMENT,
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        name: facts.name.to_string(),
        document_namespace: String::new(),
        creation_info: CreationInfo {
            created: facts.epoch.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            creators: facts.supplier.map(Into::into).into_iter().chain([tool]).collect(),
        },
        packages: packages(bill),
        relationships: relationships(bill),
    }
}

fn packages(bill: &Bill<'_>) -> BTreeSet<Package> {
    let artifacts = bill.artifacts().map(|artifact| of_artifact(bill, artifact));
    let binaries = bill.packages().map(|package| of_binary(bill, package));
    let sources = bill.packages().map(|package| of_source(bill, package));
    let systems = bill.facts.distributions.get(&Tree::Root).map(of_distribution);
    artifacts.chain(binaries).chain(sources).chain(systems).collect()
}

impl Package {
    /// What every element says, and nothing that is not known.
    fn new(id: String, name: &str, purpose: Purpose) -> Self {
        Self {
            id,
            name: name.into(),
            version_info: None,
            primary_package_purpose: purpose,
            package_file_name: None,
            supplier: NOASSERTION.into(),
            originator: None,
            download_location: NOASSERTION,
            files_analyzed: false,
            checksums: Vec::new(),
            source_info: None,
            license_concluded: NOASSERTION,
            license_declared: NOASSERTION,
            copyright_text: NOASSERTION,
            external_refs: Vec::new(),
        }
    }
}

/// A file of the release; what is taken out of a package as it is comes from Debian, the rest from whoever hands it out.
fn of_artifact(bill: &Bill<'_>, artifact: &Artifact<'_>) -> Package {
    let supplier = match artifact.role.source() {
        Some(_) => DEBIAN,
        None => bill.facts.supplier.unwrap_or(NOASSERTION),
    };
    Package {
        version_info: Some(format!("sha256:{}", artifact.stamp.sha256)),
        package_file_name: Some(artifact.name.into()),
        supplier: supplier.into(),
        checksums: vec![sha256(artifact.stamp.sha256)],
        ..Package::new(artifact.id(), artifact.name, purpose(artifact.role))
    }
}

fn purpose(role: Role<'_>) -> Purpose {
    match role {
        Role::Disk | Role::Initrd | Role::Root => Purpose::Archive,
        Role::CommandLine | Role::Kernel { .. } | Role::Verity => Purpose::File,
        Role::Firmware { .. } => Purpose::Firmware,
        Role::Uki => Purpose::Application,
    }
}

fn of_binary(bill: &Bill<'_>, package: &Deb) -> Package {
    let (name, version) = package.source_package();
    Package {
        version_info: Some(package.version.clone()),
        package_file_name: Some(package.path.clone()),
        supplier: DEBIAN.into(),
        originator: bill.maintainer(package).map(actor),
        checksums: vec![sha256(package.sha256)],
        source_info: Some(format!("built package from: {name} {version}")),
        external_refs: vec![package_url(purl::binary(package, bill.distribution(package)))],
        ..Package::new(binary_id(package), &package.name, Purpose::Install)
    }
}

fn of_source(bill: &Bill<'_>, package: &Deb) -> Package {
    let (name, version) = package.source_package();
    Package {
        version_info: Some(version.into()),
        supplier: DEBIAN.into(),
        external_refs: vec![package_url(source_url(bill, package))],
        ..Package::new(source_id(bill, package), name, Purpose::Source)
    }
}

fn of_distribution(distribution: &Distribution<'_>) -> Package {
    Package {
        version_info: Some(distribution.version.into()),
        supplier: DEBIAN.into(),
        ..Package::new(distribution_id(distribution), distribution.id, Purpose::OperatingSystem)
    }
}

fn relationships(bill: &Bill<'_>) -> BTreeSet<Relationship> {
    let artifacts = bill.artifacts().flat_map(|artifact| around_artifact(bill, artifact));
    let binaries = bill
        .packages()
        .map(|package| relation(binary_id(package), Relation::GeneratedFrom, source_id(bill, package)));
    artifacts.chain(binaries).collect()
}

fn around_artifact(bill: &Bill<'_>, artifact: &Artifact<'_>) -> Vec<Relationship> {
    let id = artifact.id();
    let described = relation(DOCUMENT.into(), Relation::Describes, id.clone());
    let parts = bill.artifacts().filter_map(|other| {
        let how = between(artifact.role, other.role)?;
        Some(relation(id.clone(), how, other.id()))
    });
    let packages = bill.packages().filter_map(|package| {
        let how = holds(artifact.role, package)?;
        Some(relation(id.clone(), how, binary_id(package)))
    });
    let system = bill.facts.distributions.get(&Tree::Root);
    let system = system.filter(|_| artifact.role == Role::Root);
    let system = system.map(|system| relation(id.clone(), Relation::Contains, distribution_id(system)));
    [described]
        .into_iter()
        .chain(parts)
        .chain(packages)
        .chain(system)
        .collect()
}

/// What one file of a release is to another.
fn between(role: Role<'_>, other: Role<'_>) -> Option<Relation> {
    match (role, other) {
        (Role::Disk, Role::Root | Role::Uki | Role::Verity) => Some(Relation::Contains),
        (Role::Uki, Role::CommandLine | Role::Initrd | Role::Kernel { .. }) => Some(Relation::Contains),
        (Role::Verity, Role::Root) => Some(Relation::GeneratedFrom),
        _ => None,
    }
}

/// What a file of a release is to a package. The initrd holds modules out of the kernel's package, not all of it.
fn holds(role: Role<'_>, package: &Deb) -> Option<Relation> {
    let enters = |tree| package.why.contains_key(&tree);
    match role {
        Role::Root => enters(Tree::Root).then_some(Relation::Contains),
        Role::Initrd if enters(Tree::Initrd) => Some(Relation::Contains),
        Role::Initrd => enters(Tree::Kernel).then_some(Relation::GeneratedFrom),
        _ => {
            let (tree, name) = role.source()?;
            (enters(tree) && package.name == name).then_some(Relation::ExpandedFromArchive)
        }
    }
}

fn relation(element: String, how: Relation, related: String) -> Relationship {
    Relationship {
        spdx_element_id: element,
        relationship_type: how,
        related_spdx_element: related,
    }
}

impl Artifact<'_> {
    fn id(&self) -> String {
        element_id("file", self.name, self.stamp.sha256)
    }
}

fn binary_id(package: &Deb) -> String {
    element_id("deb", &package.name, package.sha256)
}

/// A source package goes by its URL: nobody has locked its bytes.
fn source_id(bill: &Bill<'_>, package: &Deb) -> String {
    element_id(
        "source",
        package.source_package().0,
        Sha256::of(source_url(bill, package)),
    )
}

fn source_url(bill: &Bill<'_>, package: &Deb) -> String {
    let (name, version) = package.source_package();
    purl::source(name, version, bill.distribution(package))
}

fn distribution_id(distribution: &Distribution<'_>) -> String {
    let Distribution { id, version } = distribution;
    element_id("system", id, Sha256::of(format!("{id}-{version}")))
}

fn sha256(digest: Sha256) -> Checksum {
    Checksum {
        algorithm: "SHA256",
        checksum_value: digest.to_string(),
    }
}

fn package_url(url: String) -> ExternalRef {
    ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: url,
    }
}

/// A maintainer, `Name <address>`, as section 7.6 spells one. A mailing list is no person.
fn actor(maintainer: &str) -> String {
    const LISTS: [&str; 4] = [
        "lists.debian.org",
        "lists.alioth.debian.org",
        "alioth-lists.debian.net",
        "tracker.debian.org",
    ];
    let (name, address) = maintainer.split_once('<').unwrap_or((maintainer, ""));
    let address = address.trim_end_matches('>');
    let kind = match address.split_once('@') {
        Some((_, host)) if LISTS.contains(&host) => "Organization",
        _ => "Person",
    };
    format!("{kind}: {} ({address})", name.trim())
}
