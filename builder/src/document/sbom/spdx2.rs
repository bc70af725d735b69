//! The view as SPDX 2.3: ISO/IEC 5962 as amended, JSON schema of tag v2.3. For tools that read nothing newer.
//!
//! Files of the release are packages here: a file element needs a SHA-1, and a package that contains files needs more
//! of them (sections 7.9 and 8.4).

use measure::Sha256;
use serde_json::{Map, Value, json};

use super::agent::Agent;
use super::bill::{Bill, How, Related};
use super::component::{Component, Kind};
use super::{LISTING, NOASSERTION, Role, element_id};
use crate::model;
use crate::model::lock::Package;
use crate::model::payload;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";

/// Returns the text of the document; `listing` is the digest of the view that lists the files.
pub(super) fn text(bill: &Bill<'_>, listing: Sha256) -> String {
    let facts = bill.facts;
    let author = bill.supplier().map(|supplier| actor(&supplier));
    let tool = format!("Tool: begat-{}", env!("CARGO_PKG_VERSION"));
    let mut document = json!({
        "SPDXID": DOCUMENT,
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "name": facts.name.to_string(),
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", facts.name, bill.lineage),
        "comment": format!("Each file of the images is in {LISTING}, sha256:{listing}."),
        "creationInfo": {
            "created": bill.created(),
            "creators": author.into_iter().chain([tool]).collect::<Vec<_>>(),
            "comment": "Generation context: build; read back from the finished images.",
        },
    });
    document["packages"] = packages(bill).into();
    document["relationships"] = relationships(bill).into();
    let texts = extracted(bill);
    if !texts.is_empty() {
        document["hasExtractedLicensingInfos"] = texts.into();
    }
    model::json_of(document)
}

fn packages(bill: &Bill<'_>) -> Vec<Value> {
    let components = bill.components.iter().map(|(id, component)| package(id, component));
    components.chain(bill.facts.lock.tools().map(tool)).collect()
}

fn package(id: &str, component: &Component<'_>) -> Value {
    let licence = component.licence.unwrap_or(NOASSERTION);
    let mut package = json!({
        "SPDXID": format!("SPDXRef-{id}"),
        "name": component.name,
        "versionInfo": component.version,
        "primaryPackagePurpose": purpose(component.kind),
        "supplier": component.supplier.map_or(NOASSERTION.into(), |supplier| actor(&supplier)),
        "downloadLocation": NOASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": NOASSERTION,
    });
    let fields = package.as_object_mut().expect("it was just made");
    let mut add = |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
    add("checksums", checksums(component));
    add("externalRefs", references(component));
    add("homepage", component.homepage.map(Into::into));
    add(
        "originator",
        component.originator.map(|originator| actor(&originator).into()),
    );
    add("packageFileName", component.file.map(Into::into));
    if let Kind::Binary {
        source: (name, version),
    } = component.kind
    {
        add(
            "sourceInfo",
            Some(format!("built package from: {name} {version}").into()),
        );
    }
    package
}

/// A program that built the release. It is not in there, so that scanners get no URL to take it for installed.
fn tool(package: &Package) -> Value {
    json!({
        "SPDXID": tool_id(package),
        "name": package.name,
        "versionInfo": package.version,
        "primaryPackagePurpose": "APPLICATION",
        "supplier": actor(&super::agent::DEBIAN),
        "downloadLocation": NOASSERTION,
        "filesAnalyzed": false,
        "checksums": [checksum("SHA256", package.sha256)],
        "packageFileName": package.file_name(),
    })
}

/// Section 7.24. Consumers take OPERATING_SYSTEM for the distribution, so no file has it.
fn purpose(kind: Kind<'_>) -> &'static str {
    match kind {
        Kind::Artifact(Role::Disk | Role::Initrd | Role::Root | Role::Volume) => "ARCHIVE",
        Kind::Artifact(Role::Firmware { .. }) => "FIRMWARE",
        Kind::Artifact(Role::Uki { .. }) => "APPLICATION",
        Kind::Artifact(_) | Kind::Section => "FILE",
        Kind::Payload {
            kind: payload::Kind::Data | payload::Kind::Model,
            ..
        } => "OTHER",
        Kind::Binary { .. }
        | Kind::Payload {
            kind: payload::Kind::Software,
            ..
        } => "INSTALL",
        Kind::Crate => "LIBRARY",
        Kind::Source => "SOURCE",
        Kind::System => "OPERATING_SYSTEM",
    }
}

fn checksums(component: &Component<'_>) -> Option<Value> {
    let sha256 = component.sha256.map(|digest| checksum("SHA256", digest));
    let sha512 = component.sha512.map(|digest| checksum("SHA512", digest));
    let all: Vec<_> = sha256.into_iter().chain(sha512).collect();
    (!all.is_empty()).then(|| all.into())
}

fn checksum(algorithm: &str, digest: impl ToString) -> Value {
    json!({ "algorithm": algorithm, "checksumValue": digest.to_string() })
}

fn references(component: &Component<'_>) -> Option<Value> {
    let url = component.url.clone().map(|url| ("PACKAGE-MANAGER", "purl", url));
    let cpe = component.cpe().map(|cpe| ("SECURITY", "cpe23Type", cpe));
    let (category, kind, locator) = url.or(cpe)?;
    Some(json!([{ "referenceCategory": category, "referenceType": kind, "referenceLocator": locator }]))
}

/// An agent as section 7.5 spells one.
fn actor(agent: &Agent<'_>) -> String {
    let (kind, name) = (agent.kind.name(), agent.name);
    match agent.mail() {
        Some(mail) => format!("{kind}: {name} ({mail})"),
        None => format!("{kind}: {name}"),
    }
}

/// The texts of licences that have no name on the SPDX list.
fn extracted(bill: &Bill<'_>) -> Vec<Value> {
    let texts = bill.texts.iter();
    let info = |(id, text)| json!({ "licenseId": id, "extractedText": text, "name": NOASSERTION });
    texts.map(info).collect()
}

fn relationships(bill: &Bill<'_>) -> Vec<Value> {
    let described = bill
        .artifacts()
        .map(|(id, _)| relation(DOCUMENT, "DESCRIBES", &reference(id)));
    let related = bill
        .relations
        .iter()
        .flat_map(|((from, how), related)| each(from, *how, related));
    let disk = bill
        .artifacts()
        .find(|(_, artifact)| artifact.kind == Kind::Artifact(Role::Disk));
    let tools = disk.into_iter().flat_map(|(disk, _)| {
        let tools = bill.facts.lock.tools();
        tools.map(|tool| relation(&tool_id(tool), "BUILD_TOOL_OF", &reference(disk)))
    });
    described.chain(related).chain(tools).collect()
}

fn each<'a>(from: &'a str, how: How, related: &'a Related) -> impl Iterator<Item = Value> + 'a {
    related
        .to
        .iter()
        .map(move |to| relation(&reference(from), word(how), &reference(to)))
}

/// Section 11.1.
fn word(how: How) -> &'static str {
    match how {
        How::Contains | How::Installs => "CONTAINS",
        How::CopiedFrom => "EXPANDED_FROM_ARCHIVE",
        How::DependsOn => "DEPENDS_ON",
        How::GeneratedFrom => "GENERATED_FROM",
        How::LinkedFrom => "STATIC_LINK",
    }
}

fn relation(element: &str, how: &str, related: &str) -> Value {
    let fields = [
        ("spdxElementId", element),
        ("relationshipType", how),
        ("relatedSpdxElement", related),
    ];
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn reference(id: &str) -> String {
    format!("SPDXRef-{id}")
}

fn tool_id(package: &Package) -> String {
    reference(&element_id("tool", &package.name, package.sha256))
}
