//! Locked crates in, what they say of themselves out.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use measure::Sha512;
use serde::Deserialize;
use tar::Archive;

use crate::document::sbom;
use crate::model::payload::Payload;
use crate::model::program::Crate;
use crate::world::parallel;
use crate::world::store::Store;

/// What a `Cargo.toml` may have at most, in bytes.
const MANIFEST_LIMIT: u64 = 1 << 20;

/// What a crate says of itself: The Cargo Book, "The Manifest Format".
#[derive(Default, Deserialize)]
struct CargoToml {
    #[serde(default)]
    package: About,
}

#[derive(Default, Deserialize)]
struct About {
    license: Option<String>,
    #[serde(default)]
    authors: Vec<String>,
    homepage: Option<String>,
    repository: Option<String>,
}

/// Returns the crates that are in a payload, with what they say of themselves.
///
/// # Errors
/// A crate that is not in the store, or is none.
pub fn described(payload: &Payload, store: &Store) -> Result<Vec<sbom::Crate>> {
    let crates = payload.compiled.iter().flat_map(|compiled| &compiled.crates);
    let linked: Vec<_> = crates.filter(|one| one.linked).collect();
    let described = parallel::map(&linked, |one| describe(one, store));
    described.into_iter().collect()
}

fn describe(one: &Crate, store: &Store) -> Result<sbom::Crate> {
    let bytes = store.bytes(&one.sha256, one.size)?;
    let about = about(&bytes, &one.folder());
    let about = about.with_context(|| format!("cannot read the crate {} {}", one.name, one.version))?;
    Ok(sbom::Crate {
        name: one.name.clone(),
        version: one.version.clone(),
        file: format!("{}.crate", one.folder()),
        sha256: one.sha256,
        sha512: Sha512::of(&bytes),
        licence: about.license.as_deref().and_then(expression),
        author: about.authors.into_iter().next(),
        homepage: about.homepage.or(about.repository),
    })
}

fn about(bytes: &[u8], folder: &str) -> Result<About> {
    let wanted = Path::new(folder).join("Cargo.toml");
    for member in Archive::new(GzDecoder::new(bytes)).entries()? {
        let member = member?;
        if member.path()? == wanted {
            let mut text = String::new();
            member.take(MANIFEST_LIMIT).read_to_string(&mut text)?;
            return Ok(toml::from_str::<CargoToml>(&text)?.package);
        }
    }
    Ok(About::default())
}

/// Older crates write a slash where they mean `OR`; what is no expression is not known.
fn expression(text: &str) -> Option<String> {
    let canonical = spdx::Expression::canonicalize(text).ok()?;
    let text = canonical.as_deref().unwrap_or(text);
    spdx::Expression::parse(text).ok().map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_means_or_and_a_sentence_means_nothing() {
        assert_eq!(expression("MIT/Apache-2.0").as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(expression("MIT OR Apache-2.0").as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(expression("see the file"), None);
    }
}
