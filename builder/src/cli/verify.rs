//! `begat verify`: is this release what it says, and was it built where it should be?

use std::path::PathBuf;

use anyhow::Result;
use measure::Sha256;
use serde_json::{Value, json};

use super::judging::{self, Judging, code, machine};
use super::signing;
use crate::model;
use crate::model::Record;
use crate::model::log::VerifierKey;
use crate::model::quorum::{Quorum, Vote};
use crate::stage::account::account;
use crate::stage::appraise::Judge;
use crate::stage::chain::Generation;
use crate::stage::finding::Finding;
use crate::stage::recompute::LOCKED;
use crate::stage::signatures::Demand;
use crate::stage::verify::{ARTIFACTS, Verdict, verify_whole};
use crate::stage::{log, rebuilds};
use crate::world::Environment;
use crate::world::store::Store;

/// Compares every file of a release with its manifest, what is signed about it with what it is, what its files lead to with
/// what it predicts, and the evidence of the machine that built it with the release that this machine ran
///
/// Exits with 0 if there is nothing to be said against the release, with 1 if there are findings, with 4 if they are
/// about its time or number only.
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
    /// The release that the machine ran which built this one: only its own launches are accepted as evidence
    #[arg(long, value_name = "RELEASE")]
    parent: Option<PathBuf>,
    /// The key of the log that the release must be in, by the proof in it: NAME+ID+KEY
    #[arg(long, value_name = "VKEY")]
    log: Option<VerifierKey>,
    #[command(flatten)]
    judging: Judging,
    /// Read every file of the images again, and compare it with the bills of materials and the packages of the store
    #[arg(long)]
    deep: bool,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// What is not made again without the images' files and their packages.
const RECOMPUTED: &str =
    "files of the images and bills of materials, firmware, kernel and stub, as packages have them: --deep";

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let verifier = self.judging.read()?;
        let demand = Demand {
            key: self.key.as_deref().map(signing::public_key).transpose()?,
            at: verifier.at,
        };
        let judge = verifier.judge();
        let mut verdict = verify_whole(&self.release, self.digest, &demand)?;
        let logged = self.log.as_ref().map(|key| log::included(&verdict.on_disk, key));
        verdict.findings.extend(logged.and_then(Result::err).map(Finding::Log));
        let votes = verdict.rebuilds(judge.quorum);
        let mut unchecked = self.unchecked(&verdict, judge.quorum);
        for (findings, left) in [self.look_closer(&verdict)?, self.judge_builder(&verdict, &judge)?] {
            verdict.findings.extend(findings);
            unchecked.extend(left);
        }
        if self.deep {
            verdict.see_changes();
        }
        match self.json {
            true => print!("{}", model::json(&report(&verdict, &votes, &unchecked))),
            false => self.people(&verdict, &votes, &unchecked),
        }
        judging::exit(&verdict.findings)
    }

    /// Reads every file of the images of a release whose files are those of its manifest.
    fn look_closer(&self, verdict: &Verdict) -> Result<(Vec<Finding>, Vec<String>)> {
        if !verdict.measured {
            return Ok((Vec::new(), vec![ARTIFACTS.into()]));
        }
        if !self.deep {
            return Ok((Vec::new(), vec![RECOMPUTED.into(), LOCKED.into()]));
        }
        let store = Store::locate(None, &Environment::of_this_process())?;
        let account = account(&verdict.on_disk, &store)?;
        let findings = account.findings.into_iter().map(Finding::Account);
        let unchecked = account.unchecked.into_iter().chain([LOCKED.into()]);
        Ok((findings.collect(), unchecked.collect()))
    }

    /// Judges by the policy who built the release, where it names somebody or has evidence of it, and whether it is wanted.
    fn judge_builder(&self, verdict: &Verdict, judge: &Judge<'_>) -> Result<(Vec<Finding>, Vec<String>)> {
        let parent = self.parent.as_deref().map(Generation::read_at_any_time).transpose()?;
        let Some(mut generation) = Generation::of(verdict) else {
            // nobody built and signed it whom a policy could be about
            let unsigned = (parent.is_some() || self.judging.is_given()).then_some(Finding::Unsigned);
            return Ok((unsigned.into_iter().collect(), vec!["evidence, of who built it".into()]));
        };
        generation.findings.clear(); // they are the verdict's
        generation.judge(parent.as_ref(), judge);
        self.judge_number(&mut generation, parent.as_ref(), judge);
        generation.findings.extend(generation.not_current(judge));
        if generation.claims.is_empty() && generation.findings.is_empty() {
            generation.unchecked.insert("who built it: there is no evidence".into());
        }
        if let Some(parent) = parent {
            let what = format!("who built {}: begat chain verify", parent.folder.display());
            generation.unchecked.insert(what);
            generation.findings.extend(parent.in_its_folder());
        }
        let known = |finding: &Finding| verdict.findings.contains(finding);
        generation.findings.retain(|finding| !known(finding));
        Ok((generation.findings, generation.unchecked.into_iter().collect()))
    }

    /// Judges whether anybody vouches for the number of the generation. A key that must have signed its record does, and
    /// without a policy nobody asks; a digest vouches for the release alone.
    fn judge_number(&self, generation: &mut Generation, parent: Option<&Generation>, judge: &Judge<'_>) {
        if self.key.is_some() || !self.judging.is_given() {
            return;
        }
        generation.judge_number(parent, judge);
        let named = self.digest.is_some();
        let stranger = |finding: &Finding| matches!(finding, Finding::RootNotTrusted { .. });
        generation.findings.retain(|finding| !(named && stranger(finding)));
    }

    fn people(&self, verdict: &Verdict, votes: &[Vote], unchecked: &[String]) {
        let shown = self.release.display();
        for finding in &verdict.findings {
            println!("{}: {finding}", code(finding));
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
        for unchecked in unchecked {
            println!("not checked: {unchecked}");
        }
    }

    /// What no finding about files and signatures does not mean.
    fn unchecked(&self, verdict: &Verdict, quorum: Option<&Quorum>) -> Vec<String> {
        let digest = "whether this is the release that you want: --digest";
        let digest = self.digest.is_none().then_some(digest);
        let signed = match (&verdict.manifest, &self.key, &verdict.record) {
            (None, ..) => Some("signatures"),
            (_, Some(_), _) => None,
            (_, None, Some(_)) => Some("whether the one who signed is the one that you trust: --key"),
            (_, None, None) => Some("signatures: there are none"),
        };
        let log = "whether a log has the release: --log";
        let log = self.log.is_none().then_some(log);
        let rebuilt = match quorum.map(Quorum::asks) {
            Some(true) => None,
            Some(false) => Some("whether others have rebuilt it: the quorum asks nobody"),
            None => Some("whether others have rebuilt it: --quorum"),
        };
        let unchecked = digest.into_iter().chain(signed).chain(log).chain(rebuilt);
        unchecked.map(String::from).collect()
    }
}

fn report(verdict: &Verdict, votes: &[Vote], unchecked: &[String]) -> Value {
    json!({
        "findings": verdict.findings.iter().map(machine).collect::<Vec<_>>(),
        "key-id": verdict.record.as_ref().map(key_id),
        "not-checked": unchecked,
        "rebuilds": votes,
        "release": verdict.release,
    })
}

impl Verdict {
    /// What rebuilders say, with the findings that follow added to these.
    fn rebuilds(&mut self, quorum: Option<&Quorum>) -> Vec<Vote> {
        let Some(manifest) = &self.manifest else {
            return Vec::new();
        };
        let verdict = rebuilds::verify(&self.on_disk, manifest, quorum);
        self.findings.extend(verdict.findings.into_iter().map(Finding::Rebuild));
        verdict.votes
    }

    fn files(&self) -> usize {
        self.manifest.as_ref().map_or(0, |manifest| manifest.files.len())
    }
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
