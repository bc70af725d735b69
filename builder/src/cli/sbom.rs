//! `begat sbom`: are the documents of a release true?

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::judging::{code, machine};
use crate::mend::{Exit, Told};
use crate::model;
use crate::model::contents::{Content, Node};
use crate::stage::account::{Account, account};
use crate::stage::finding::Finding;
use crate::stage::verify;
use crate::world::Environment;
use crate::world::store::Store;

/// Works with the bill of materials of a release
#[derive(clap::Subcommand)]
pub(super) enum Sbom {
    Check(Args),
}

/// Compares a release with its manifest, reads every file of its images again and compares it with files.jsonl, the three bills of materials, the
/// lock and, where the store has them, the packages; and every byte of its disk with what is in it
///
/// Exits with 0 if the documents are true, with 1 if there are findings.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    /// Folder of the store, for the packages [default: begat in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl Sbom {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Check(check) => check.run(),
        }
    }
}

impl Args {
    fn run(&self) -> Result<()> {
        let store = Store::locate(self.store.as_deref(), &Environment::of_this_process())?;
        let mut verdict = verify::verify(&self.release, None)?;
        let account = account(&verdict.on_disk, &store)?;
        verdict
            .findings
            .extend(account.findings.iter().cloned().map(Finding::Account));
        verdict.see_changes();
        match self.json {
            true => print!("{}", model::json(&report(&account, &verdict.findings))),
            false => self.people(&account, &verdict.findings),
        }
        if verdict.findings.is_empty() {
            return Ok(());
        }
        Err(Told(Exit::No).into())
    }

    /// Says which paths are as they are without a reason.
    fn believed(&self, account: &Account) {
        if account.believed.is_empty() {
            return;
        }
        let count = account.believed.len();
        println!("believed: {count} paths, in which nothing tells what has to be:");
        for content in &account.believed {
            let (origin, path) = belief(content);
            println!("  {path}: {origin}");
        }
    }

    fn people(&self, account: &Account, findings: &[Finding]) {
        let shown = self.release.display();
        for finding in findings {
            println!("{}: {finding}", code(finding));
        }
        match findings.len() {
            0 => println!(
                "{shown}: {} paths and {} packages are accounted for",
                account.paths, account.packages
            ),
            1 => println!("{shown}: 1 finding"),
            findings => println!("{shown}: {findings} findings"),
        }
        self.believed(account);
        if let Some(unchecked) = &account.unchecked {
            println!("not checked: {unchecked}");
        }
    }
}

/// Where a believed path comes from, and the path with its image.
fn belief(content: &Content) -> (String, String) {
    let Node { image, path, .. } = &content.node;
    (content.origin.to_string(), format!("{path} of {}", image.0))
}

fn report(account: &Account, findings: &[Finding]) -> Value {
    let believed = |content: &Content| {
        let Node { image, path, .. } = &content.node;
        json!({ "image": image.0, "origin": content.origin, "path": path })
    };
    json!({
        "believed": account.believed.iter().map(believed).collect::<Vec<_>>(),
        "findings": findings.iter().map(machine).collect::<Vec<_>>(),
        "not-checked": account.unchecked.iter().collect::<Vec<_>>(),
        "packages": account.packages,
        "paths": account.paths,
    })
}
