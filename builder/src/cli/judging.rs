//! Flags that several verbs share: by what policy evidence is judged, and as of when. And how findings are printed.

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;
use serde_json::{Value, json};

use crate::mend::{Exit, OrMend as _, Told};
use crate::model::Trust;
use crate::model::quorum::Quorum;
use crate::stage::appraise::{Judge, Roots};
use crate::stage::finding::Finding;
use crate::world::{clock, given};

/// In bytes: more than a file that people write.
const LIMIT: u64 = 1 << 20;

/// By what evidence is judged.
#[derive(clap::Args)]
pub(super) struct Policy {
    /// The trust policy, in TOML: what is believed that evidence cannot show [default: the strict one]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The time at which releases, certificates and collateral must be valid [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

/// By what releases are judged.
#[derive(clap::Args)]
pub(super) struct Judging {
    #[command(flatten)]
    policy: Policy,
    /// Who must have rebuilt a release that nobody attested, a file in the grammar of C2SP tlog-policy:
    /// `witness NAME KEY-ID`, `group NAME K|any|all NAME…`, `quorum NAME`
    #[arg(long, value_name = "FILE")]
    quorum: Option<PathBuf>,
    /// The lowest generation that is not rolled back, if the policy takes a lower one
    #[arg(long, value_name = "NUMBER")]
    min_generation: Option<u32>,
}

/// Who verifies: all that was given, read once, so that what is applied is what is named.
pub(super) struct Verifier {
    roots: Roots<'static>,
    pub(super) trust: Trust,
    /// Who must have rebuilt a release that nobody attested, and the digest of the text that says so.
    pub(super) quorum: Option<(Quorum, Sha256)>,
    /// The time of verification.
    pub(super) at: Timestamp,
    /// The digest of the policy's text; of an empty one, where there is no file.
    pub(super) policy: Sha256,
}

impl Verifier {
    pub(super) fn judge(&self) -> Judge<'_> {
        Judge {
            roots: &self.roots,
            trust: &self.trust,
            quorum: self.quorum.as_ref().map(|(quorum, _)| quorum),
            at: self.at,
        }
    }
}

impl Policy {
    /// Returns who verifies: by the roots of the vendors, and no others.
    pub(super) fn read(&self) -> Result<Verifier> {
        let (name, text) = match &self.trust {
            None => (String::new(), String::new()),
            Some(path) => (path.display().to_string(), text(path, "a trust policy")?),
        };
        Ok(Verifier {
            roots: Roots::of_vendors(),
            trust: Trust::parse(&name, &text)?,
            quorum: None,
            at: self.at.unwrap_or_else(clock::now),
            policy: Sha256::of(text),
        })
    }
}

impl Judging {
    /// Whether anything was said about whom to trust: without, a release is compared with what it says itself.
    pub(super) const fn is_given(&self) -> bool {
        self.policy.trust.is_some() || self.min_generation.is_some()
    }

    /// Returns who verifies. Policy and flags hold together: the higher floor counts.
    pub(super) fn read(&self) -> Result<Verifier> {
        let mut verifier = self.policy.read()?;
        let floor = self.min_generation.unwrap_or(0);
        verifier.trust.min_generation = verifier.trust.min_generation.max(floor);
        let quorum = |path: &PathBuf| -> Result<_> {
            let text = text(path, "a quorum file")?;
            Ok((Quorum::parse(&text)?, Sha256::of(text)))
        };
        verifier.quorum = self.quorum.as_ref().map(quorum).transpose()?;
        Ok(verifier)
    }
}

fn text(path: &Path, what: &str) -> Result<String> {
    let bytes = given::read(path, LIMIT, &format!("give {what}"))?;
    let problem = format!("{} is not UTF-8", path.display());
    String::from_utf8(bytes).or_mend(Exit::Usage, problem, format!("give {what}"))
}

/// The exit code that findings lead to.
pub(super) fn exit<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Result<()> {
    let mut findings = findings.into_iter().peekable();
    if findings.peek().is_none() {
        return Ok(());
    }
    let time = findings.all(Finding::is_about_time);
    Err(Told(if time { Exit::Expired } else { Exit::No }).into())
}

/// A finding as JSON: its code, its values and what people are told.
pub(super) fn machine(finding: &(impl serde::Serialize + ToString)) -> Value {
    let mut value = json!(finding);
    value["message"] = finding.to_string().into();
    value
}

/// The name of this kind of finding; it does not change between versions.
pub(super) fn code(finding: &impl serde::Serialize) -> String {
    json!(finding)["code"].as_str().unwrap_or_default().into()
}
