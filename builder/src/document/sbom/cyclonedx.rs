//! The view as CycloneDX 1.6 (ECMA-424): packages, files of the release, and files of the images that no package owns.
//!
//! Properties of the taxonomies of BSI (TR-03183-2), trivy and syft stand for what the format has no field for.

use std::collections::{BTreeMap, BTreeSet};

use measure::Sha256;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::agent::Agent;
use super::bill::{Bill, File, How};
use super::component::{Component, Form, Kind};
use super::{LISTING, NOASSERTION, Role, element_id};
use crate::model::contents::Origin;
use crate::model::lock::Package;
use crate::model::payload;
use crate::model::{self, OneByOne};

/// Returns the text of the document; `listing` is the digest of the view that lists the files.
///
/// A release does not know its generation, so that this is the first version of its document.
pub(super) fn text(bill: &Bill<'_>, listing: Sha256) -> String {
    model::json_in_order(&Document {
        format: "CycloneDX",
        components: OneByOne(|| components(bill)),
        compositions: compositions(bill),
        dependencies: dependencies(bill),
        external_references: json!([{
            "type": "bom",
            "url": LISTING,
            "comment": "The same, with every file of the images.",
            "hashes": [hash("SHA-256", listing)],
        }]),
        formulation: json!([{ "bom-ref": "build", "components": tools(bill) }]),
        metadata: metadata(bill),
        serial_number: bill.lineage.urn().to_string(),
        specification: "1.6",
        version: 1,
    })
}

/// Its fields are sorted by name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<Components> {
    #[serde(rename = "bomFormat")]
    format: &'static str,
    components: Components,
    compositions: Vec<Value>,
    dependencies: Vec<Value>,
    external_references: Value,
    formulation: Value,
    metadata: Value,
    serial_number: String,
    #[serde(rename = "specVersion")]
    specification: &'static str,
    version: u64,
}

fn components(bill: &Bill<'_>) -> impl Iterator<Item = Value> {
    let files = bill.files.iter().filter(|file| file.package.is_none());
    let parts = bill.components.iter();
    let parts = parts.filter(|(_, part)| !is_product(part) && part.kind != Kind::Source);
    let parts = parts.map(|(id, part)| component(bill, id, part));
    parts.chain(files.map(|file| unowned(bill, file)))
}

/// The document is about the disk: everything else is in it or boots it.
fn is_product(component: &Component<'_>) -> bool {
    component.kind == Kind::Artifact(Role::Disk)
}

fn metadata(bill: &Bill<'_>) -> Value {
    let begat = json!({ "type": "application", "name": "begat", "version": env!("CARGO_PKG_VERSION") });
    let mut metadata = json!({
        "timestamp": bill.created(),
        "lifecycles": [{ "phase": "build" }, { "phase": "post-build" }],
        "tools": { "components": [begat] },
        "supplier": organization(bill.supplier()),
        "manufacturer": organization(bill.supplier()),
    });
    if let Some((id, product)) = bill.artifacts().find(|(_, artifact)| is_product(artifact)) {
        metadata["component"] = component(bill, id, product);
    }
    metadata
}

fn component(bill: &Bill<'_>, id: &str, component: &Component<'_>) -> Value {
    let file = component.file.unwrap_or(component.name);
    let mut properties = form(file, component.form());
    if let Kind::Binary { source: package } = component.kind {
        properties.extend(source(component, package));
    }
    let mut value = json!({
        "bom-ref": id,
        "type": kind(component.kind),
        "name": component.name,
        "version": component.version,
        "supplier": organization(component.supplier),
        "hashes": hashes(component),
        "licenses": [licence(component)],
        "properties": properties,
    });
    let fields = value.as_object_mut().expect("it was just made");
    let mut add = |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
    add("purl", component.url.as_deref().map(Into::into));
    add("cpe", component.cpe().map(Into::into));
    add("authors", component.originator.map(|author| json!([contact(&author)])));
    add("pedigree", ancestors(bill, id));
    let homepage = |url| json!([{ "type": "website", "url": url }]);
    add(
        "externalReferences",
        component.homepage.filter(|url| is_plain(url)).map(homepage),
    );
    value
}

fn kind(kind: Kind<'_>) -> &'static str {
    match kind {
        Kind::Artifact(Role::Disk) => "platform",
        Kind::Artifact(Role::Firmware { .. }) => "firmware",
        Kind::Artifact(_) | Kind::Section => "file",
        Kind::Payload {
            kind: payload::Kind::Software,
            ..
        } => "application",
        Kind::Payload {
            kind: payload::Kind::Model,
            ..
        } => "machine-learning-model",
        Kind::Payload {
            kind: payload::Kind::Data,
            ..
        } => "data",
        Kind::Binary { .. } | Kind::Crate | Kind::Source => "library",
        Kind::System => "operating-system",
    }
}

/// Schemas want a URL, maintainers write anything.
fn is_plain(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/?#@!$&'()*+,;=%".contains(c);
    rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(allowed))
}

/// A file of an image that no package owns.
fn unowned(bill: &Bill<'_>, file: &File<'_>) -> Value {
    let mut properties = form(&file.content.node.path, file.form());
    properties.push(property("begat:image", &file.content.node.image.0));
    properties.push(property("begat:origin", &origin(&file.content.origin)));
    json!({
        "bom-ref": file.id,
        "type": "file",
        "name": file.content.node.path,
        "version": format!("sha256:{}", file.sha256),
        "supplier": organization(bill.supplier()),
        "hashes": [hash("SHA-256", file.sha256)],
        "licenses": [no_licence()],
        "properties": properties,
    })
}

/// Where a file comes from, in a word or two.
fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Package { name, .. } => format!("package {name}"),
        Origin::Recipe { path } => format!("recipe {path}"),
        Origin::Payload { name } => format!("payload {name}"),
        Origin::Generated { class } => format!("generated: {class}"),
        Origin::NotDerived { class } => format!("generated, not derived: {class}"),
        Origin::Allowed => "unexplained, allowed by the recipe".into(),
        Origin::Unexplained => "unexplained".into(),
    }
}

/// The source package is an ancestor and no component: readers take components for what is installed.
fn ancestors(bill: &Bill<'_>, id: &str) -> Option<Value> {
    let sources = bill.relations.get(&(id.to_owned(), How::GeneratedFrom))?.to.iter();
    let sources = sources.filter_map(|source| bill.components.get(source));
    let sources = sources.filter(|source| source.kind == Kind::Source);
    let ancestor = |source: &Component<'_>| {
        let (name, version, purl) = (source.name, &source.version, &source.url);
        json!({ "type": "library", "name": name, "version": version, "purl": purl })
    };
    let ancestors: Vec<_> = sources.map(ancestor).collect();
    (!ancestors.is_empty()).then(|| json!({ "ancestors": ancestors }))
}

fn hashes(component: &Component<'_>) -> Vec<Value> {
    let sha256 = component.sha256.map(|digest| hash("SHA-256", digest));
    let sha512 = component.sha512.map(|digest| hash("SHA-512", digest));
    sha256.into_iter().chain(sha512).collect()
}

fn hash(algorithm: &str, digest: impl ToString) -> Value {
    json!({ "alg": algorithm, "content": digest.to_string() })
}

/// What a copyright file says is what Debian has found about its licences; nobody here has looked further.
fn licence(component: &Component<'_>) -> Value {
    match component.licence {
        Some(expression) => json!({ "expression": expression, "acknowledgement": "concluded" }),
        None => no_licence(),
    }
}

fn no_licence() -> Value {
    json!({ "license": { "name": NOASSERTION } })
}

fn organization(agent: Option<Agent<'_>>) -> Value {
    let Some(agent) = agent else {
        return json!({ "name": NOASSERTION });
    };
    let mut organization = json!({ "name": agent.name });
    if let Some(url) = agent.url() {
        organization["url"] = json!([url]);
    }
    if agent.mail().is_some() {
        organization["contact"] = json!([contact(&agent)]);
    }
    organization
}

fn contact(agent: &Agent<'_>) -> Value {
    let fields = [("name", Some(agent.name)), ("email", agent.mail())].into_iter();
    let known = fields.filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    known.collect::<Map<_, _>>().into()
}

/// The taxonomy of BSI, version 0.1.2.
fn form(file: &str, form: Form) -> Vec<Value> {
    let either = |is, yes, no| if is { yes } else { no };
    vec![
        property("bsi:component:filename", file),
        property(
            "bsi:component:executable",
            either(form.executable, "executable", "non-executable"),
        ),
        property("bsi:component:archive", either(form.archive, "archive", "no archive")),
        property(
            "bsi:component:structured",
            either(form.structured, "structured", "unstructured"),
        ),
    ]
}

/// The source package, by which Debian tracks vulnerabilities, as trivy and syft read it.
fn source(package: &Component<'_>, (name, version): (&str, &str)) -> Vec<Value> {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    let id = format!("{}@{}", package.name, package.version);
    let values = [
        ("aquasecurity:trivy:PkgID", id.as_str()),
        ("aquasecurity:trivy:PkgType", "debian"),
        ("aquasecurity:trivy:SrcEpoch", epoch),
        ("aquasecurity:trivy:SrcName", name),
        ("aquasecurity:trivy:SrcRelease", release),
        ("aquasecurity:trivy:SrcVersion", upstream),
        ("syft:package:metadataType", "dpkg-db-entry"),
        ("syft:metadata:source", name),
        ("syft:metadata:sourceVersion", version),
    ];
    let known = values.into_iter().filter(|(_, value)| !value.is_empty());
    known.map(|(name, value)| property(name, value)).collect()
}

fn property(name: &str, value: &str) -> Value {
    json!({ "name": name, "value": value })
}

fn tools(bill: &Bill<'_>) -> Vec<Value> {
    let tool = |package: &Package| {
        json!({
            "bom-ref": element_id("tool", &package.name, package.sha256),
            "type": "application",
            "name": package.name,
            "version": package.version,
            "hashes": [hash("SHA-256", package.sha256)],
        })
    };
    bill.facts.lock.tools().map(tool).collect()
}

/// What each thing consists of and depends on; files of images hang on their image.
fn dependencies(bill: &Bill<'_>) -> Vec<Value> {
    let mut files = BTreeMap::<&String, Vec<&String>>::new();
    for file in bill.files.iter().filter(|file| file.package.is_none()) {
        files.entry(&file.image).or_default().push(&file.id);
    }
    let firmware = bill
        .artifacts()
        .filter(|(_, artifact)| boots(artifact))
        .map(|(id, _)| id);
    let firmware: Vec<_> = firmware.collect();
    let components = bill
        .components
        .iter()
        .filter(|(_, component)| component.kind != Kind::Source);
    let components = components.map(|(id, component)| {
        let composed = [
            How::Contains,
            How::CopiedFrom,
            How::DependsOn,
            How::GeneratedFrom,
            How::Installs,
            How::LinkedFrom,
        ];
        let related = composed
            .iter()
            .filter_map(|how| bill.relations.get(&(id.clone(), *how)));
        let related = related
            .flat_map(|related| &related.to)
            .filter(|to| !is_source(bill, to));
        let firmware = firmware.iter().filter(|_| is_product(component)).copied();
        let files = files.get(id).into_iter().flatten().copied();
        json!({ "ref": id, "dependsOn": related.chain(firmware).chain(files).collect::<BTreeSet<_>>() })
    });
    components.collect()
}

fn boots(component: &Component<'_>) -> bool {
    matches!(component.kind, Kind::Artifact(Role::Firmware { .. }))
}

fn is_source(bill: &Bill<'_>, id: &str) -> bool {
    bill.components
        .get(id)
        .is_some_and(|component| component.kind == Kind::Source)
}

/// Which dependencies are all there are.
fn compositions(bill: &Bill<'_>) -> Vec<Value> {
    let state = |id: &String| {
        let hows = [How::Contains, How::DependsOn, How::LinkedFrom];
        let mut known = hows.iter().filter_map(|how| bill.relations.get(&(id.clone(), *how)));
        known.next().and_then(|related| related.complete)
    };
    let of = |aggregate: &str, wanted: Option<bool>| {
        let components = bill
            .components
            .iter()
            .filter(|(_, component)| component.kind != Kind::Source);
        let ids: Vec<_> = components.map(|(id, _)| id).filter(|id| state(id) == wanted).collect();
        (!ids.is_empty()).then(|| json!({ "aggregate": aggregate, "dependencies": ids }))
    };
    let all = [("complete", Some(true)), ("incomplete", Some(false)), ("unknown", None)];
    all.into_iter()
        .filter_map(|(aggregate, wanted)| of(aggregate, wanted))
        .collect()
}
