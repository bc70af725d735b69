//! `begat sbom`: are the documents of a release true?

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use crate::mend::{Exit, Told};
use crate::model;
use crate::stage::account::{Account, Finding, account};
use crate::world::Environment;
use crate::world::store::Store;

/// Works with the bill of materials of a release
#[derive(clap::Subcommand)]
pub(super) enum Sbom {
    Check(Args),
}

/// Reads every file of a release's images again and compares it with files.jsonl, the three bills of materials, the
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
        let account = account(&self.release, &store)?;
        match self.json {
            true => print!("{}", model::json(&machine(&account))),
            false => self.people(&account),
        }
        if account.findings.is_empty() {
            return Ok(());
        }
        Err(Told(Exit::No).into())
    }

    fn people(&self, account: &Account) {
        let shown = self.release.display();
        for finding in &account.findings {
            println!("{}: {finding}", code(finding));
        }
        match account.findings.len() {
            0 => println!(
                "{shown}: {} paths and {} packages are accounted for",
                account.paths, account.packages
            ),
            1 => println!("{shown}: 1 finding"),
            findings => println!("{shown}: {findings} findings"),
        }
        for unchecked in &account.unchecked {
            println!("not checked: {unchecked}");
        }
    }
}

/// The name of this kind of finding; it does not change between versions.
fn code(finding: &Finding) -> String {
    json!(finding)["code"].as_str().unwrap_or_default().into()
}

fn machine(account: &Account) -> Value {
    let finding = |finding: &Finding| {
        let mut value = json!(finding);
        value["message"] = finding.to_string().into();
        value
    };
    json!({
        "findings": account.findings.iter().map(finding).collect::<Vec<_>>(),
        "not-checked": account.unchecked,
        "packages": account.packages,
        "paths": account.paths,
    })
}
