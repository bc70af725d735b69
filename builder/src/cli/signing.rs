//! Flags that several verbs share: who signs, and on which terms.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha384;

use crate::mend::Exit;
use crate::model::job::Ordered;
use crate::model::key::{PublicKey, SigningKey};
use crate::model::record::{self, Binding};
use crate::stage::sign;
use crate::world::given;

#[derive(clap::Args)]
pub(super) struct Key {
    /// Private key in PEM: PKCS#8, P-256 or Ed25519 [default: one that is made now and thrown away]
    #[arg(long, value_name = "PEM")]
    pub(super) key: Option<PathBuf>,
}

/// What is ordered: by a job, or by flags.
#[derive(clap::Args)]
pub(super) struct Order {
    /// The job, in TOML, that has the terms and the lock of what is to be built
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["generation", "previous", "not_before", "not_after", "binding"]
    )]
    job: Option<PathBuf>,
    #[command(flatten)]
    terms: Terms,
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
    /// How evidence is to bind the release: sha256-hex is text, for guest components of CoCo older than 0.21
    #[arg(long, value_name = "HOW", default_value = "sha384")]
    binding: Binding,
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

impl Order {
    /// Returns what is ordered.
    pub(super) fn get(&self) -> Result<Ordered> {
        let ordered = match &self.job {
            Some(job) => read_job(job)?,
            None => Ordered::from(self.terms.get()),
        };
        let record::Terms {
            not_before, not_after, ..
        } = &ordered.terms;
        if let (Some(from), Some(to)) = (not_before, not_after)
            && from > to
        {
            let problem = format!("a release that is valid from {from} to {to} never is");
            return Err(Exit::Usage.because(problem, "give a later --not-after"));
        }
        Ok(ordered)
    }
}

impl Terms {
    /// Returns the terms as the record has them.
    pub(super) const fn get(&self) -> record::Terms {
        record::Terms {
            binding: self.binding,
            job: None,
            generation: self.generation,
            previous: self.previous,
            not_before: self.not_before,
            not_after: self.not_after,
        }
    }
}

fn read_job(path: &Path) -> Result<Ordered> {
    Ordered::parse(&path.display().to_string(), &text(path, "give a job in TOML")?)
}

/// Reads a private key.
pub(super) fn private_key(path: &Path) -> Result<SigningKey> {
    SigningKey::from_pem(&text(path, PEM)?)
}

/// Reads a public key.
pub(super) fn public_key(path: &Path) -> Result<PublicKey> {
    PublicKey::from_pem(&text(path, PEM)?)
}

const PEM: &str = "give a key in PEM";

fn text(path: &Path, mend: &str) -> Result<String> {
    /// In bytes.
    const LIMIT: u64 = 64 << 10;
    let bytes = given::read(path, LIMIT, mend)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
