//! `begat verify`: is this release what it says?

use std::path::PathBuf;

use anyhow::Result;
use measure::Sha256;
use serde_json::{Value, json};

use crate::mend::{Exit, Told};
use crate::stage::verify::{Finding, Verdict, verify};

/// Compares every file of a release with its manifest
///
/// Exits with 0 if there is nothing to be said against the release, with 1 if there are findings.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    /// The digest of the manifest that the release must have; whoever can write to the folder can write a manifest too
    #[arg(long, value_name = "SHA256")]
    digest: Option<Sha256>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let verdict = verify(&self.release, self.digest)?;
        match self.json {
            true => println!("{:#}", self.machine(&verdict)),
            false => self.people(&verdict),
        }
        if verdict.findings.is_empty() {
            return Ok(());
        }
        Err(Told(Exit::No).into())
    }

    fn people(&self, verdict: &Verdict) {
        let shown = self.release.display();
        for finding in &verdict.findings {
            println!("{}: {finding}", finding.code());
        }
        match verdict.findings.len() {
            0 => println!("{shown}: {} files are those of its manifest", verdict.files()),
            1 => println!("{shown}: 1 finding"),
            findings => println!("{shown}: {findings} findings"),
        }
        if let Some(manifest) = &verdict.manifest {
            println!("release: {}", manifest.digest());
        }
        for unchecked in self.unchecked() {
            println!("not checked: {unchecked}");
        }
    }

    fn machine(&self, verdict: &Verdict) -> Value {
        json!({
            "findings": verdict.findings.iter().map(machine).collect::<Vec<_>>(),
            "not-checked": self.unchecked(),
            "release": verdict.release,
        })
    }

    /// What an empty list of findings does not mean.
    fn unchecked(&self) -> Vec<&'static str> {
        let digest = "whether this is the release that you want: --digest";
        let digest = self.digest.is_none().then_some(digest);
        let rest = ["the measurements, against the artifacts", "evidence, of who built it"];
        digest.into_iter().chain(rest).collect()
    }
}

impl Verdict {
    fn files(&self) -> usize {
        self.manifest.as_ref().map_or(0, |manifest| manifest.files.len())
    }
}

fn machine(finding: &Finding) -> Value {
    let mut value = json!(finding);
    value["message"] = finding.to_string().into();
    value
}
