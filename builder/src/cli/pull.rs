//! `begat pull`: a release out of an OCI registry.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use measure::Sha256;
use serde_json::json;

use crate::mend::{Exit, OrMend as _};
use crate::model;
use crate::model::oci::{Digest, Reference};
use crate::stage::pull::{Pulled, Wanted, pull};
use crate::stage::release::{Existing, Staging};
use crate::world::environment::Environment;
use crate::world::registry::{Access, Registry};
use crate::world::store::Store;

/// Brings a release from an OCI registry, and verifies it before it appears
#[derive(clap::Args)]
pub(super) struct Args {
    /// Where it is: HOST[:PORT]/REPOSITORY:TAG or HOST[:PORT]/REPOSITORY@sha256:DIGEST
    reference: Reference,
    /// Folder of the release
    #[arg(value_name = "DIR")]
    output: PathBuf,
    /// The digest of the manifest that the release must have; whoever runs the registry can write a manifest too
    #[arg(long, value_name = "SHA256")]
    digest: Option<Sha256>,
    /// Whose provenance and signatures shall come along, where several builds are attached
    #[arg(long, value_name = "sha256:DIGEST")]
    build: Option<Digest>,
    /// Replace the release that is there
    #[arg(long)]
    force: bool,
    /// Speak plain HTTP to that registry; to this machine it always is
    #[arg(long)]
    plain_http: bool,
    /// Folder of files named by their SHA-256, where what arrives is kept [default: begat in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Print what came as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let environment = Environment::of_this_process();
        let registry = Registry::new(&self.reference, &Access::of(&environment, self.plain_http))?;
        let store = Store::locate(self.store.as_deref(), &environment)?;
        let wanted = Wanted {
            reference: self.reference.clone(),
            release: self.digest,
            build: self.build,
        };
        let pulled = pull(&wanted, &registry, &store, self.stage()?)?;
        match self.json {
            true => print!("{}", model::json(&self.machine(&pulled))),
            false => self.people(&pulled),
        }
        Ok(())
    }

    fn stage(&self) -> Result<Staging> {
        let existing = if self.force {
            Existing::Replace
        } else {
            Existing::Refuse
        };
        if let Some(parent) = self.output.parent() {
            let problem = format!("cannot make {}", parent.display());
            fs::create_dir_all(parent).or_mend(Exit::Outside, problem, "choose another folder")?;
        }
        Staging::begin(&self.output, existing)
    }

    fn people(&self, pulled: &Pulled) {
        let files = pulled.manifest.files.len();
        println!("{}: {files} files are those of its manifest", self.output.display());
        println!("release: {}", pulled.manifest.digest());
        for unchecked in self.unchecked() {
            println!("not checked: {unchecked}");
        }
    }

    fn unchecked(&self) -> Vec<String> {
        let wanted = "whether this is the release that you want: --digest";
        let wanted = self.digest.is_none().then(|| wanted.to_owned());
        let shown = self.output.display();
        let others = format!("who built and signed it, and whether it is valid now: begat verify {shown}");
        wanted.into_iter().chain([others]).collect()
    }

    fn machine(&self, pulled: &Pulled) -> serde_json::Value {
        json!({
            "artifact": pulled.artifact,
            "build": pulled.build,
            "files": pulled.manifest.files.len(),
            "release": pulled.manifest.digest(),
            "not-checked": self.unchecked(),
        })
    }
}
