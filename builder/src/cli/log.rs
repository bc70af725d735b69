//! `begat log`: which releases were there, and when one came before the other?

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::judging::{code, machine};
use super::signing;
use crate::mend::{Exit, Told};
use crate::model;
use crate::model::key::SigningKey;
use crate::model::log::{LogFinding, VerifierKey};
use crate::stage::log::{self, PROOF, Verdict};
use crate::world::given;

/// Keeps an audit log of releases: a folder that anybody can serve, check and copy (C2SP tlog-tiles)
#[derive(clap::Subcommand)]
pub(super) enum Log {
    Append(Append),
    Verify(Verify),
    Prove(Prove),
}

/// Appends the records of signed releases to a log
///
/// Prints the key that verifies the log.
#[derive(clap::Args)]
pub(super) struct Append {
    /// The log's folder; it is made where there is none
    log: PathBuf,
    /// The releases' folders
    #[arg(required = true)]
    releases: Vec<PathBuf>,
    /// Private key of the log in PEM: PKCS#8, Ed25519
    #[arg(long, value_name = "PEM")]
    key: PathBuf,
    /// The name of a new log: a domain or folder of yours, as in example.com/log
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Verifies a log: its signature, its entries, its hashes, and that it only grew since an older checkpoint
///
/// Exits with 0 if there is nothing to be said against the log, with 1 if there are findings, with 4 if it is older than
/// the older checkpoint or than its own files.
#[derive(clap::Args)]
pub(super) struct Verify {
    /// The log's folder
    log: PathBuf,
    /// The key of the log, as append prints it: NAME+ID+KEY
    #[arg(long, value_name = "VKEY")]
    key: VerifierKey,
    /// A checkpoint that was kept, out of which the log must have grown
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Print the verdict as JSON
    #[arg(long)]
    json: bool,
}

/// Writes into a release the proof that its record is in a log: record.tlog-proof
#[derive(clap::Args)]
pub(super) struct Prove {
    /// The log's folder
    log: PathBuf,
    /// The release's folder
    release: PathBuf,
}

impl Log {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Self::Append(append) => append.run(),
            Self::Verify(verify) => verify.run(),
            Self::Prove(prove) => prove.run(),
        }
    }
}

impl Append {
    fn run(&self) -> Result<()> {
        let SigningKey::Ed25519(key) = signing::private_key(&self.key)? else {
            let mend = "make one: openssl genpkey -algorithm ed25519 -out KEY";
            return Err(Exit::Usage.because("the key of a log is one of Ed25519, this is one of P-256", mend));
        };
        let (head, entries) = log::append(&self.log, &self.releases, self.origin.as_deref(), &key)?;
        let key = VerifierKey::new(&head.origin, key.verifying_key())?.to_string();
        if self.json {
            let head =
                json!({"entries": entries, "key": key, "origin": head.origin, "root": head.root, "size": head.size});
            println!("{head:#}");
            return Ok(());
        }
        for entry in &entries {
            let known = if entry.known { ", there already" } else { "" };
            println!("entry    {}: release {}{known}", entry.index, entry.release);
        }
        println!("log      {}, {} entries, root {}", head.origin, head.size, head.root);
        println!("key      {key}");
        Ok(())
    }
}

impl Verify {
    fn run(&self) -> Result<()> {
        /// In bytes.
        const LIMIT: u64 = 64 << 10;
        let read = |path| given::read(path, LIMIT, "give a checkpoint of the log");
        let older = self.checkpoint.as_deref().map(read).transpose()?;
        let older = older.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let verdict = log::verify(&self.log, &self.key, older.as_deref())?;
        match self.json {
            true => print!("{}", model::json(&self.machine(&verdict))),
            false => self.people(&verdict),
        }
        if verdict.findings.is_empty() {
            return Ok(());
        }
        let rolled_back = |finding: &LogFinding| {
            matches!(
                finding,
                LogFinding::LogRolledBack { .. } | LogFinding::LogUncounted { .. }
            )
        };
        let only = verdict.findings.iter().all(rolled_back);
        Err(Told(if only { Exit::Expired } else { Exit::No }).into())
    }

    fn people(&self, verdict: &Verdict) {
        for finding in &verdict.findings {
            println!("{}: {finding}", code(finding));
        }
        if let Some(head) = &verdict.checkpoint {
            println!("log      {}, {} entries, root {}", head.origin, head.size, head.root);
        }
        if let Some(unchecked) = self.unchecked() {
            println!("not checked: {unchecked}");
        }
    }

    fn machine(&self, verdict: &Verdict) -> Value {
        let findings = verdict.findings.iter().map(machine);
        let head = verdict.checkpoint.as_ref();
        json!({
            "findings": findings.collect::<Vec<_>>(),
            "not-checked": self.unchecked(),
            "root": head.map(|head| head.root),
            "size": head.map(|head| head.size),
        })
    }

    /// What an empty list of findings does not mean.
    fn unchecked(&self) -> Option<&'static str> {
        let history =
            "whether the log shows everybody the same: keep its checkpoint, and give it next time: --checkpoint";
        self.checkpoint.is_none().then_some(history)
    }
}

impl Prove {
    fn run(&self) -> Result<()> {
        let proof = log::prove(&self.log, &self.release)?;
        println!("entry    {}: {}", proof.index, self.release.join(PROOF).display());
        Ok(())
    }
}
