//! `provenance.intoto.json`: how a release was built, as SLSA provenance v1 of the specification 1.2.
//!
//! Subjects are every reproducible file of the release and its manifest; dependencies are every entry of the lock. The
//! wall clock is allowed here, because this file belongs to one build and is not reproduced.

use jiff::Timestamp;
use measure::evidence::Evidence;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::sbom::purl;
use super::statement::{self, NAMESPACE, PROVENANCE, Statement, described, resource};
use crate::model::lock::{Metadata, Package, Source};
use crate::model::payload::Payload;
use crate::model::program::Crate;
use crate::model::release::Stamp;
use crate::model::{Lock, Manifest};

/// The name of the file in a release.
pub use crate::model::file::PROVENANCE as FILE;

/// One run of a builder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    pub id: Uuid,
    pub builder: Builder,
    /// The version of begat.
    pub version: String,
    /// When the build started and finished, where whoever signs has seen it.
    pub times: Option<Times>,
    /// The payloads that were compiled in it; others that are compiled were taken by the digest that the lock names.
    pub compiled: Vec<String>,
}

/// When a build ran.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Times {
    pub started_on: Timestamp,
    pub finished_on: Timestamp,
}

/// Who builds: each mode of different security has an identity of its own, as SLSA demands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Builder {
    /// Any host: nobody attests it.
    Unattested,
    /// A machine that attests itself.
    Attested(Machine),
    /// Any host ran the build. A machine that attests itself, and ran nothing of the recipe, measured the outcome again.
    Split(Machine),
}

/// What attests a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Machine {
    /// SEV-SNP, which protects it.
    Snp,
    /// TDX, which protects it.
    Tdx,
    /// A TPM, which tells what it booted.
    Tpm,
}

impl Run {
    /// Returns a run of this begat that has compiled nothing.
    pub fn new(id: Uuid, builder: Builder, times: Option<Times>) -> Self {
        Self {
            id,
            builder,
            version: env!("CARGO_PKG_VERSION").into(),
            times,
            compiled: Vec::new(),
        }
    }
}

impl Builder {
    /// Returns the URI of this builder.
    pub fn id(self) -> String {
        let mode = match self {
            Self::Unattested => "unattested".into(),
            Self::Attested(machine) => machine.name().to_owned(),
            Self::Split(machine) => format!("{}-split", machine.name()),
        };
        format!("{NAMESPACE}/builder/v1/{mode}")
    }

    fn with_id(id: &str) -> Option<Self> {
        let attested = Machine::ALL.map(Self::Attested).into_iter();
        let split = Machine::ALL.map(Self::Split).into_iter();
        let mut all = attested.chain(split).chain([Self::Unattested]);
        all.find(|one| one.id() == id)
    }
}

impl Machine {
    const ALL: [Self; 3] = [Self::Snp, Self::Tdx, Self::Tpm];

    const fn name(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Tpm => "tpm",
        }
    }

    /// Returns what attests the machine that this evidence is of.
    pub fn of(evidence: &Evidence) -> Self {
        match evidence {
            Evidence::Snp(_) => Self::Snp,
            Evidence::Tdx(_) => Self::Tdx,
            Evidence::Tpm(evidence) => match &evidence.hcl {
                Some(hcl) => Self::of(&hcl.hardware),
                None => Self::Tpm,
            },
        }
    }
}

/// Returns the provenance of the release that `lock` and `run` made.
pub fn statement(manifest: &Manifest, lock: &Lock, run: &Run) -> Statement {
    let files = manifest.files.iter().map(resource);
    let subject = [statement::manifest_of(manifest)].into_iter().chain(files).collect();
    let predicate = json!({
        "buildDefinition": definition(manifest, lock),
        "runDetails": details(manifest, lock, run),
    });
    Statement {
        name: PROVENANCE.into(),
        text: statement::text(subject, "https://slsa.dev/provenance/v1", &predicate),
    }
}

/// What was asked for, and everything that entered: two builds of equal definition make equal bytes.
fn definition(manifest: &Manifest, lock: &Lock) -> Value {
    let origin = &manifest.origin;
    json!({
        "buildType": format!("{NAMESPACE}/build/v1"),
        "externalParameters": {
            "recipe": {"name": origin.name, "sha256": origin.recipe},
        },
        "internalParameters": {
            "SOURCE_DATE_EPOCH": origin.epoch.as_second(),
        },
        "resolvedDependencies": dependencies(manifest, lock),
    })
}

fn dependencies(manifest: &Manifest, lock: &Lock) -> Vec<Value> {
    let lock_itself = [described("recipe.lock", manifest.origin.lock)];
    let metadata = lock.metadata.iter().map(metadata);
    let packages = lock.package.iter().map(package);
    let sources = lock.source.iter().map(source);
    let payloads = lock.payload.iter().flat_map(payload);
    lock_itself
        .into_iter()
        .chain(metadata)
        .chain(packages)
        .chain(sources)
        .chain(payloads)
        .collect()
}

/// A signed metadata file: the root of what is believed about packages.
fn metadata(metadata: &Metadata) -> Value {
    let name = format!("{}/dists/{}/InRelease", metadata.archive, metadata.suite);
    let mut resource = described(&name, metadata.sha256);
    resource["annotations"] = json!({
        "date": metadata.date,
        "signed-by": metadata.signed_by,
        "size": metadata.size,
    });
    resource
}

fn package(package: &Package) -> Value {
    let mut resource = described(package.file_name(), package.sha256);
    resource["uri"] = purl::binary(package, None).into();
    resource["annotations"] = json!({
        "path": format!("{}/{}", package.archive, package.path),
        "size": package.size,
        "trees": package.why.keys().collect::<Vec<_>>(),
    });
    resource
}

fn source(source: &Source) -> Value {
    let mut resource = described(&format!("recipe/{}", source.path), source.sha256);
    resource["annotations"] = json!({"executable": source.executable, "size": source.size});
    resource
}

/// A payload, and what it is compiled from: its source and the crates.
fn payload(payload: &Payload) -> Vec<Value> {
    let mut resource = described(&format!("{PROGRAM}{}", payload.name), payload.sha256);
    if let Some(uri) = payload
        .source
        .as_ref()
        .map(ToString::to_string)
        .or(payload.purl.clone())
    {
        resource["uri"] = uri.into();
    }
    resource["annotations"] = json!({"size": payload.size, "version": payload.version});
    let Some(compiled) = &payload.compiled else {
        return vec![resource];
    };
    let Stamp { sha256, size } = compiled.source;
    resource["annotations"]["compiled"] = true.into();
    let mut source = described(&format!("source/{}", payload.name), sha256);
    source["annotations"] = json!({"size": size});
    let crates = compiled.crates.iter().map(registered);
    [resource, source].into_iter().chain(crates).collect()
}

fn registered(one: &Crate) -> Value {
    let mut resource = described(&format!("{}.crate", one.folder()), one.sha256);
    resource["uri"] = purl::cargo(&one.name, &one.version).into();
    resource["annotations"] = json!({"linked": one.linked, "size": one.size});
    resource
}

fn details(manifest: &Manifest, lock: &Lock, run: &Run) -> Value {
    let mut metadata = json!(run.times);
    if metadata.is_null() {
        metadata = json!({});
    }
    metadata["invocationId"] = json!(run.id);
    json!({
        "builder": {"id": run.builder.id(), "version": {"begat": run.version}},
        "byproducts": byproducts(manifest, lock, run),
        "metadata": metadata,
    })
}

/// What a build leaves beside what boots: who debugs one looks there. And the programs that were compiled.
fn byproducts(manifest: &Manifest, lock: &Lock, run: &Run) -> Vec<Value> {
    const NAMES: [&str; 3] = ["files.jsonl", "image.buildinfo", "measurements.json"];
    let files = manifest.files.iter().filter(|(name, _)| NAMES.contains(&name.as_str()));
    let compiled = lock.payload.iter();
    let compiled = compiled.filter(|payload| run.compiled.contains(&payload.name.to_string()));
    let programs = compiled.map(|payload| described(&format!("{PROGRAM}{}", payload.name), payload.sha256));
    files.map(resource).chain(programs).collect()
}

/// What the names of programs begin with.
const PROGRAM: &str = "payload/";

/// Reads the run that a provenance names, and nothing else of it.
///
/// # Errors
/// Why it is no provenance of ours.
pub fn run(text: &str) -> Result<Run, String> {
    let read: Read = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Details {
        builder,
        metadata,
        byproducts,
    } = read.predicate.run_details;
    let compiled = byproducts.iter().filter_map(|one| one.name.strip_prefix(PROGRAM));
    let known = Builder::with_id(&builder.id);
    let times = match (metadata.started_on, metadata.finished_on) {
        (Some(started_on), Some(finished_on)) => Some(Times {
            started_on,
            finished_on,
        }),
        _ => None,
    };
    Ok(Run {
        id: metadata.invocation_id,
        builder: known.ok_or_else(|| format!("the builder {:?} is unknown", builder.id))?,
        version: builder.version.begat,
        times,
        compiled: compiled.map(String::from).collect(),
    })
}

#[derive(Deserialize)]
struct Read {
    predicate: Predicate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    run_details: Details,
}

#[derive(Deserialize)]
struct Details {
    builder: ReadBuilder,
    metadata: ReadMetadata,
    #[serde(default)]
    byproducts: Vec<Byproduct>,
}

#[derive(Deserialize)]
struct Byproduct {
    name: String,
}

#[derive(Deserialize)]
struct ReadBuilder {
    id: String,
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    begat: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadMetadata {
    invocation_id: Uuid,
    started_on: Option<Timestamp>,
    finished_on: Option<Timestamp>,
}
