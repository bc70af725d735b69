//! Flags that several verbs share: who signs, and on which terms.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha384;

use crate::mend::Exit;
use crate::model::key::{PublicKey, SigningKey};
use crate::model::record;
use crate::stage::sign;
use crate::world::given;

#[derive(clap::Args)]
pub(super) struct Key {
    /// Private key in PEM: PKCS#8, P-256 or Ed25519 [default: one that is made now and thrown away]
    #[arg(long, value_name = "PEM")]
    pub(super) key: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(super) struct Terms {
    /// The number of the generation
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    generation: u32,
    /// The digest of the record of the generation that this one was built in
    #[arg(long, value_name = "SHA384")]
    previous: Option<Sha384>,
    /// When the release begins to be valid
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// The last instant at which the release is valid
    #[arg(long, value_name = "TIME")]
    not_after: Option<Timestamp>,
}

impl Key {
    /// Reads the key, or makes one.
    pub(super) fn get(&self) -> Result<SigningKey> {
        match &self.key {
            Some(path) => private_key(path),
            None => sign::ephemeral(),
        }
    }
}

impl Terms {
    /// Returns the terms as the record has them.
    pub(super) fn get(&self) -> Result<record::Terms> {
        if let (Some(from), Some(to)) = (self.not_before, self.not_after)
            && from > to
        {
            let problem = format!("a release that is valid from {from} to {to} never is");
            return Err(Exit::Usage.because(problem, "give a later --not-after"));
        }
        Ok(record::Terms {
            generation: self.generation,
            previous: self.previous,
            not_before: self.not_before,
            not_after: self.not_after,
        })
    }
}

/// Reads a private key.
pub(super) fn private_key(path: &Path) -> Result<SigningKey> {
    SigningKey::from_pem(&pem(path)?)
}

/// Reads a public key.
pub(super) fn public_key(path: &Path) -> Result<PublicKey> {
    PublicKey::from_pem(&pem(path)?)
}

fn pem(path: &Path) -> Result<String> {
    /// In bytes.
    const LIMIT: u64 = 64 << 10;
    let bytes = given::read(path, LIMIT, "give a key in PEM")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
