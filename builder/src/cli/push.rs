//! `begat push`: a release into an OCI registry.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use crate::mend::Exit;
use crate::model;
use crate::model::oci::{Name, Reference};
use crate::stage::push::{Pushed, Tagged, push};
use crate::world::environment::Environment;
use crate::world::registry::{Access, Registry};

/// Sends a release to an OCI registry, with what refers to it
///
/// Credentials are read where podman and docker keep theirs. Files that the registry has are not sent again.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    /// Where it shall be: HOST[:PORT]/REPOSITORY:TAG
    reference: Reference,
    /// Move the tag if it names another release
    #[arg(long)]
    force: bool,
    /// Speak plain HTTP to that registry; to this machine it always is
    #[arg(long)]
    plain_http: bool,
    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let Name::Tag(tag) = &self.reference.name else {
            let problem = format!("{} names no tag, and a digest cannot be chosen", self.reference);
            return Err(Exit::Usage.because(problem, "name it HOST/REPOSITORY:TAG"));
        };
        let access = Access::of(&Environment::of_this_process(), self.plain_http);
        let registry = Registry::new(&self.reference, &access)?;
        let tagged = if self.force { Tagged::Move } else { Tagged::Refuse };
        let pushed = push(&self.release, &registry, tag, tagged)?;
        match self.json {
            true => print!("{}", model::json(&json!(pushed))),
            false => self.people(&pushed),
        }
        Ok(())
    }

    fn people(&self, pushed: &Pushed) {
        let Reference { host, repository, .. } = &self.reference;
        println!("{host}/{repository}@{}", pushed.artifact);
        println!("release: {}", pushed.release);
        println!("{} files sent, {} were there", pushed.sent, pushed.there);
        for attached in &pushed.attached {
            println!("attached: {} {}", attached.digest, attached.artifact_type);
        }
        if pushed.referrers_api == Some(false) {
            println!(
                "listed under the tag {}: the registry has no referrers API",
                pushed.artifact.fallback_tag()
            );
        }
    }
}
