//! `begat sign`: who stands by this release?

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::signing::{self, Key, Order};
use crate::document::claims::Claims;
use crate::model;
use crate::model::key::PublicKey;
use crate::stage::release::Existing;
use crate::stage::{secure_boot, sign};

/// Signs a release: its provenance, its documents and its generation record
///
/// Prints the public key, with which `begat verify --key` and other tools verify the signatures.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    order: Order,
    /// Write what is to be signed, NAME.pae for each statement, for a key that is elsewhere
    #[arg(long, value_name = "DIR", requires = "public_key", conflicts_with_all = ["key", "attach"])]
    detached: Option<PathBuf>,
    /// The public half of the key that is elsewhere
    #[arg(long, value_name = "PEM", requires = "detached")]
    public_key: Option<PathBuf>,
    /// Attach what came back, NAME.sig for each NAME.pae
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["key", "job", "generation", "previous", "not_before", "not_after", "binding"]
    )]
    attach: Option<PathBuf>,
    /// Put a UKI that sbsign has signed for Secure Boot beside the one that is reproduced, and sign nothing else
    #[arg(
        long,
        value_name = "EFI",
        conflicts_with_all = ["attach", "detached", "force", "json", "key", "job", "generation", "previous", "not_before", "not_after", "binding"]
    )]
    uki: Option<PathBuf>,
    /// Replace the signatures that are there
    #[arg(long)]
    force: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        if let Some(uki) = &self.uki {
            return secure_boot::attach(&self.release, uki);
        }
        let (claims, key) = match (&self.detached, &self.attach) {
            (Some(to), _) => self.detach(to)?,
            (None, Some(from)) => self.attach(from)?,
            (None, None) => self.sign()?,
        };
        match self.json {
            true => {
                let shown = json!({"key": key.pem(), "key-id": key.id().as_str(), "record": claims.record});
                print!("{}", model::json(&shown));
            }
            false => show(&claims, &key),
        }
        Ok(())
    }

    fn sign(&self) -> Result<(Claims, PublicKey)> {
        let key = self.key.get()?;
        let claims = self.claims(&key.public())?;
        sign::append(&self.release, &claims.signed_by(&key))?;
        Ok((claims, key.public()))
    }

    fn detach(&self, to: &Path) -> Result<(Claims, PublicKey)> {
        let key = self.public_key.as_deref().map(signing::public_key);
        let key = key.expect("the flags require each other")?;
        let claims = self.claims(&key)?;
        sign::detach(&claims, to)?;
        Ok((claims, key))
    }

    fn attach(&self, from: &Path) -> Result<(Claims, PublicKey)> {
        let (claims, files) = sign::attach(&self.release, self.existing(), from)?;
        sign::append(&self.release, &files)?;
        let key = claims.record.key()?;
        Ok((claims, key))
    }

    fn claims(&self, key: &PublicKey) -> Result<Claims> {
        let ordered = self.order.get()?;
        let claims = sign::claims(&self.release, self.existing(), ordered.terms.clone(), key)?;
        ordered.check(claims.record.lock)?;
        Ok(claims)
    }

    fn existing(&self) -> Existing {
        match self.force {
            true => Existing::Replace,
            false => Existing::Refuse,
        }
    }
}

pub(super) fn show(claims: &Claims, key: &PublicKey) {
    println!("release  {}", claims.record.release);
    println!("record   {}", claims.record.digest());
    println!("key      {}", key.id());
    for statement in &claims.statements {
        println!("signed   {}", statement.name);
    }
    print!("\n{}", key.pem());
}
