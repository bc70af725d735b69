//! `begat chain`: which release was built in which, and does the line deserve trust?

use std::path::PathBuf;

use anyhow::Result;
use measure::{Sha256, Sha384};
use serde_json::{Value, json};

use super::judging::{self, Judging, Verifier, code, machine};
use super::signing::Key;
use crate::document::rvps;
use crate::document::summary::{self, Summary};
use crate::mend::Exit;
use crate::model;
use crate::stage::chain::{self, Chain, Generation};
use crate::stage::signatures::Demand;
use crate::world::given;

/// Shows releases as a chain of generations, as a tree where one built several
///
/// What is shown is what the releases say; `begat chain verify` judges it.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verify: Option<Command>,
    /// The releases' folders
    #[arg(required = true)]
    releases: Vec<PathBuf>,
    /// Print the chain as JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Command {
    Verify(Verify),
}

/// Verifies the last of the releases, and every generation before it down to generation 0
///
/// Each must be what its manifest and its signatures say, and lead to what it predicts; evidence must show that the one
/// before it, and nothing else, built it; generation 0 must be vouched for. Exits with 0 if there is nothing to be said
/// against any of them.
#[derive(clap::Args)]
struct Verify {
    /// The releases' folders, in any order; that which is to be verified comes last
    #[arg(required = true)]
    releases: Vec<PathBuf>,
    #[command(flatten)]
    judging: Judging,
    /// The digest of the manifest that the last release must have
    #[arg(long, value_name = "SHA256")]
    digest: Option<Sha256>,
    /// Write an in-toto verification summary (SLSA VSA) of the last release to this file, signed
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    #[command(flatten)]
    key: Key,
    /// Write the reference values of the last generation up to which nothing is to be said against the chain to this file,
    /// as the message that Trustee takes
    #[arg(long, value_name = "FILE")]
    message: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        if let Some(Command::Verify(verify)) = self.verify {
            return verify.run();
        }
        let demand = Demand {
            key: None,
            at: crate::world::clock::now(),
        };
        let chain = Chain::read(&self.releases, &demand)?;
        match self.json {
            true => print!("{}", model::json(&json!(tree(&chain, None)))),
            false => show(&chain, None, 0),
        }
        Ok(())
    }
}

/// Prints the generations that were built in the one with this record, each further to the right than its parent.
fn show(chain: &Chain, parent: Option<Sha384>, depth: usize) {
    for one in chain.built_in(parent) {
        let orphan = parent.is_none() && one.record.terms.previous.is_some();
        let orphan = if orphan {
            "  (the release that it was built in was not given)"
        } else {
            ""
        };
        let indent = "  ".repeat(depth);
        println!(
            "{indent}{}  {}  {}{orphan}",
            one.number(),
            one.release(),
            one.folder.display()
        );
        show(chain, Some(one.record.digest()), depth + 1);
    }
}

fn tree(chain: &Chain, parent: Option<Sha384>) -> Vec<Value> {
    let built = chain.built_in(parent).into_iter();
    let node = |one: &Generation| {
        json!({
            "built": tree(chain, Some(one.record.digest())),
            "generation": one.number(),
            "record": one.record.digest(),
            "release": one.release(),
        })
    };
    built.map(node).collect()
}

impl Verify {
    fn run(self) -> Result<()> {
        if self.key.key.is_some() && self.summary.is_none() {
            return Err(Exit::Usage.because("a key, and nothing to sign", "add --summary FILE"));
        }
        let verifier = self.judging.read()?;
        let (judge, at) = (verifier.judge(), verifier.at);
        let chain = Chain::read(&self.releases, &Demand { key: None, at })?;
        let mut line = chain.line(&judge, self.digest);
        if let Some(last) = line.last_mut().filter(|_| self.digest.is_none()) {
            let what = "whether the last one is the release that you want: --digest";
            last.unchecked.insert(what.into());
        }
        let good = chain::last_good(&line, &judge);
        match self.json {
            true => print!("{}", model::json(&report(&line))),
            false => people(&line, good),
        }
        self.write_message(good)?;
        judging::exit(line.iter().flat_map(|one| &one.findings))?;
        self.write_summary(&line, &verifier)
    }

    fn write_message(&self, good: Option<&Generation>) -> Result<()> {
        let (Some(file), Some(good)) = (&self.message, good) else {
            return Ok(());
        };
        given::write(file, good.bytes(rvps::FILE)?)
    }

    fn write_summary(&self, line: &[Generation], verifier: &Verifier) -> Result<()> {
        let (Some(file), Some(last)) = (&self.summary, line.last()) else {
            return Ok(());
        };
        let records: Vec<_> = line.iter().map(|one| (one.number(), one.record.digest())).collect();
        let summary = Summary {
            manifest: &last.manifest,
            policy: verifier.policy,
            quorum: verifier.quorum.as_ref().map(|(_, digest)| *digest),
            floor: verifier.trust.min_generation,
            at: verifier.at,
            records: &records,
            unchecked: &line.iter().flat_map(|one| one.unchecked.clone()).collect(),
        };
        given::write(file, summary::bundle(&summary, &self.key.get()?))
    }
}

fn people(line: &[Generation], good: Option<&Generation>) {
    for one in line {
        println!(
            "generation {}  {}  {}",
            one.number(),
            one.release(),
            one.folder.display()
        );
        for finding in &one.findings {
            println!("  {}: {finding}", code(finding));
        }
        for unchecked in &one.unchecked {
            println!("  not checked: {unchecked}");
        }
    }
    let findings: usize = line.iter().map(|one| one.findings.len()).sum();
    match (findings, line.last()) {
        (0, Some(last)) => println!("the chain is verified up to generation {}", last.number()),
        (1, _) => println!("1 finding"),
        (findings, _) => println!("{findings} findings"),
    }
    if let Some(good) = good.filter(|_| findings > 0) {
        println!("nothing was found up to generation {}", good.number());
    }
}

fn report(line: &[Generation]) -> Value {
    let generation = |one: &Generation| {
        json!({
            "claims": one.claims,
            "findings": one.findings.iter().map(machine).collect::<Vec<_>>(),
            "generation": one.number(),
            "not-checked": one.unchecked,
            "record": one.record.digest(),
            "release": one.release(),
        })
    };
    json!({"line": line.iter().map(generation).collect::<Vec<_>>()})
}
