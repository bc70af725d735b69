//! `begat verify`: is this release what it says?

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;
use serde_json::{Value, json};

use super::signing;
use crate::mend::{Exit, OrMend as _, Told};
use crate::model::Record;
use crate::model::quorum::{Quorum, Vote};
use crate::stage::rebuilds;
use crate::stage::signatures::Demand;
use crate::stage::verify::{Finding, Verdict, verify_signed};
use crate::world::{clock, given};

/// Compares every file of a release with its manifest, and what is signed about it with what it is
///
/// Exits with 0 if there is nothing to be said against the release, with 1 if there are findings, with 4 if they are
/// about its time only.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    /// The digest of the manifest that the release must have; whoever can write to the folder can write a manifest too
    #[arg(long, value_name = "SHA256")]
    digest: Option<Sha256>,
    /// The public key, in PEM, that must have signed the release
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// The time at which the release must be valid [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Who must have rebuilt the release, a file in the grammar of C2SP tlog-policy:
    /// `witness NAME KEY-ID`, `group NAME K|any|all NAME…`, `quorum NAME`
    #[arg(long, value_name = "FILE")]
    quorum: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let demand = Demand {
            key: self.key.as_deref().map(signing::public_key).transpose()?,
            at: self.at.unwrap_or_else(clock::now),
        };
        let quorum = self.quorum.as_deref().map(quorum).transpose()?;
        let mut verdict = verify_signed(&self.release, self.digest, &demand)?;
        let votes = verdict.rebuilds(&self.release, quorum.as_ref());
        match self.json {
            true => println!("{:#}", self.machine(&verdict, &votes)),
            false => self.people(&verdict, &votes),
        }
        if verdict.findings.is_empty() {
            return Ok(());
        }
        let time = verdict.findings.iter().all(Finding::is_about_time);
        Err(Told(if time { Exit::Expired } else { Exit::No }).into())
    }

    fn people(&self, verdict: &Verdict, votes: &[Vote]) {
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
        if let Some(record) = &verdict.record {
            println!("signed by: {}, generation {}", key_id(record), record.terms.generation);
        }
        for vote in votes {
            println!("rebuilt by: {}", vote_of(vote));
        }
        for unchecked in self.unchecked(verdict) {
            println!("not checked: {unchecked}");
        }
    }

    fn machine(&self, verdict: &Verdict, votes: &[Vote]) -> Value {
        json!({
            "findings": verdict.findings.iter().map(machine).collect::<Vec<_>>(),
            "key-id": verdict.record.as_ref().map(key_id),
            "not-checked": self.unchecked(verdict),
            "rebuilds": votes,
            "release": verdict.release,
        })
    }

    /// What an empty list of findings does not mean.
    fn unchecked(&self, verdict: &Verdict) -> Vec<&'static str> {
        let digest = "whether this is the release that you want: --digest";
        let digest = self.digest.is_none().then_some(digest);
        let signed = match (&verdict.manifest, &self.key, &verdict.record) {
            (None, ..) => Some("signatures"),
            (_, Some(_), _) => None,
            (_, None, Some(_)) => Some("whether the one who signed is the one that you trust: --key"),
            (_, None, None) => Some("signatures: there are none"),
        };
        let rest = ["the measurements, against the artifacts", "evidence, of who built it"];
        let rebuilt = "whether others have rebuilt it: --quorum";
        let rebuilt = self.quorum.is_none().then_some(rebuilt);
        digest.into_iter().chain(signed).chain(rest).chain(rebuilt).collect()
    }
}

impl Verdict {
    /// What rebuilders say, with the findings that follow added to these.
    fn rebuilds(&mut self, release: &Path, quorum: Option<&Quorum>) -> Vec<Vote> {
        let Some(manifest) = &self.manifest else {
            return Vec::new();
        };
        let verdict = rebuilds::verify(release, manifest, quorum);
        self.findings.extend(verdict.findings.into_iter().map(Finding::Rebuild));
        verdict.votes
    }

    fn files(&self) -> usize {
        self.manifest.as_ref().map_or(0, |manifest| manifest.files.len())
    }
}

fn quorum(path: &Path) -> Result<Quorum> {
    /// In bytes.
    const LIMIT: u64 = 1 << 20;
    let bytes = given::read(path, LIMIT, "give a quorum file")?;
    let text = String::from_utf8(bytes);
    Quorum::parse(&text.or_mend(Exit::Usage, "the quorum file is no UTF-8", "write it anew")?)
}

fn vote_of(vote: &Vote) -> String {
    let who = vote.operator.as_deref().unwrap_or("somebody unknown");
    let answer = match &vote.differs {
        None => "the same".to_owned(),
        Some(subject) => format!("{subject:?} came out otherwise"),
    };
    format!("{who}, {}: {answer}", vote.key)
}

/// The name of the key that a record names, which no terminal has to obey.
fn key_id(record: &Record) -> String {
    record.key().map_or("nobody".into(), |key| key.id().to_string())
}

fn machine(finding: &Finding) -> Value {
    let mut value = json!(finding);
    value["message"] = finding.to_string().into();
    value
}
