//! The statement of a rebuilder: SLSA provenance v1 of its own build, over what came out of it, in a bundle with one
//! signature.
//!
//! SLSA lets a producer add fields whose names begin with its own: `begat_publicKey` is the key that signs, so that
//! whoever reads the statement can verify it before anybody is trusted; `begat_host` is what the host says of itself,
//! a claim.

use std::collections::BTreeMap;
use std::fmt::Display;

use data_encoding::BASE64;
use jiff::Timestamp;
use measure::Sha256;
use serde::Deserialize;
use serde_json::{Value, json};

use super::dsse::{self, Bundle};
use super::provenance::{self, Run};
use super::statement::NAMESPACE;
use crate::mend::quoted;
use crate::model::key::{PublicKey, SigningKey};
use crate::model::rebuild::{Fault, Rebuild, Said};
use crate::model::recipe::Name;
use crate::model::release::Origin;
use crate::model::{self, Lock, Manifest};

/// How the names of such files end.
pub const SUFFIX: &str = ".provenance.sigstore.json";

/// What a host says of itself.
pub type Facts = BTreeMap<&'static str, String>;

/// Returns the bundle with the statement of whoever built `manifest` from `lock` on such a host.
pub fn bundle(manifest: &Manifest, lock: &Lock, run: &Run, host: &Facts, key: &SigningKey) -> String {
    let public = key.public();
    let provenance = provenance::statement(manifest, lock, run);
    let mut statement: Value = serde_json::from_str(&provenance.text).expect("it was just written");
    let metadata = &mut statement["predicate"]["runDetails"]["metadata"];
    metadata["begat_host"] = json!(host);
    metadata["begat_publicKey"] = BASE64.encode(&public.spki()).into();
    let payload = model::json(&statement).into_bytes();
    Bundle {
        signature: key.sign(&dsse::pae(&payload)),
        payload: payload.into(),
        key: public.id().to_string(),
    }
    .text()
}

/// Reads a bundle and verifies its signature with the key that its statement names.
pub fn read(file: &str, text: &str) -> Rebuild {
    Rebuild {
        file: file.to_owned(),
        said: said(text),
    }
}

fn said(text: &str) -> Result<Said, Fault> {
    let bundle = Bundle::parse(text).map_err(unreadable)?;
    let statement: Statement = serde_json::from_slice(&bundle.payload).map_err(unreadable)?;
    let key = statement.key()?;
    let id = key.id();
    if bundle.key != id.as_str() || !bundle.is_signed_by(&key) {
        return Err(Fault::SignatureInvalid { key: id.to_string() });
    }
    statement.said(key)
}

fn unreadable(why: impl Display) -> Fault {
    Fault::Unreadable { why: quoted(why) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    predicate: Predicate,
    subject: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Predicate {
    build_definition: Definition,
    run_details: Details,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Definition {
    build_type: String,
    external_parameters: External,
    internal_parameters: Internal,
    resolved_dependencies: Vec<Resource>,
}

#[derive(Deserialize)]
struct External {
    recipe: Recipe,
}

#[derive(Deserialize)]
struct Recipe {
    name: String,
    sha256: Sha256,
}

#[derive(Deserialize)]
struct Internal {
    #[serde(rename = "SOURCE_DATE_EPOCH")]
    epoch: i64,
}

#[derive(Deserialize)]
struct Details {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "begat_publicKey")]
    key: String,
}

/// A resource descriptor of in-toto.
#[derive(Deserialize)]
struct Resource {
    name: String,
    digest: Digest,
}

#[derive(Deserialize)]
struct Digest {
    sha256: Sha256,
}

impl Statement {
    fn key(&self) -> Result<PublicKey, Fault> {
        let key = &self.predicate.run_details.metadata.key;
        let spki = BASE64.decode(key.as_bytes()).map_err(unreadable)?;
        PublicKey::from_spki(&spki).map_err(unreadable)
    }

    fn said(self, key: PublicKey) -> Result<Said, Fault> {
        let definition = self.predicate.build_definition;
        for (what, found, wanted) in [
            ("type", self.kind, "https://in-toto.io/Statement/v1".to_owned()),
            (
                "predicate type",
                self.predicate_type,
                "https://slsa.dev/provenance/v1".to_owned(),
            ),
            ("build type", definition.build_type, format!("{NAMESPACE}/build/v1")),
        ] {
            if found != wanted {
                return Err(unreadable(format!("its {what} is {found:?}, expected {wanted:?}")));
            }
        }
        let lock = lock(&definition.resolved_dependencies)?;
        let recipe = definition.external_parameters.recipe;
        let origin = Origin {
            name: Name::try_from(recipe.name).map_err(unreadable)?,
            epoch: Timestamp::from_second(definition.internal_parameters.epoch).map_err(unreadable)?,
            recipe: recipe.sha256,
            lock,
        };
        let mut subjects = BTreeMap::new();
        for Resource { name, digest } in self.subject {
            if let Some(other) = subjects.insert(name.clone(), digest.sha256) {
                return Err(unreadable(format!("it names {name:?} twice, as {other} first")));
            }
        }
        Ok(Said { key, origin, subjects })
    }
}

/// The lock that was built from. With two of them, it could not be told which one this is.
fn lock(dependencies: &[Resource]) -> Result<Sha256, Fault> {
    let mut locks = dependencies.iter().filter(|one| one.name == "recipe.lock");
    match (locks.next(), locks.next()) {
        (Some(lock), None) => Ok(lock.digest.sha256),
        (Some(_), Some(_)) => Err(unreadable("it names two locks")),
        (None, _) => Err(unreadable("it names no lock")),
    }
}
