//! Flags that several verbs share: by what policy evidence is judged, and as of when. And how findings are printed.

use std::path::PathBuf;

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;
use serde_json::{Value, json};

use crate::mend::{Exit, Told};
use crate::model::Trust;
use crate::stage::appraise::{Judge, Roots};
use crate::stage::finding::Finding;
use crate::world::{clock, given};

#[derive(clap::Args)]
pub(super) struct Judging {
    /// The trust policy, in TOML: what is believed that evidence cannot show [default: the strict one]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The time at which releases, certificates and collateral must be valid [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

impl Judging {
    /// Returns the time of verification.
    pub(super) fn at(&self) -> Timestamp {
        self.at.unwrap_or_else(clock::now)
    }

    fn text(&self) -> Result<Vec<u8>> {
        /// In bytes: more than a file that people write.
        const LIMIT: u64 = 1 << 20;
        let read = |path: &PathBuf| given::read(path, LIMIT, "give a trust policy in TOML");
        self.trust.as_ref().map_or_else(|| Ok(Vec::new()), read)
    }

    fn trust(&self) -> Result<Trust> {
        let name = self
            .trust
            .as_ref()
            .map_or_else(String::new, |path| path.display().to_string());
        Trust::parse(&name, &String::from_utf8_lossy(&self.text()?))
    }

    /// Returns the digest of the policy's text; of none, where there is no file.
    pub(super) fn policy(&self) -> Result<Sha256> {
        Ok(Sha256::of(self.text()?))
    }

    /// Calls `f` with whoever judges: by the roots of the vendors, and no others; `floor` is the lowest generation that is
    /// accepted, if it is not the policy's.
    pub(super) fn judge<T>(&self, floor: Option<u32>, f: impl FnOnce(&Judge<'_>) -> T) -> Result<T> {
        let (roots, mut trust, at) = (Roots::of_vendors(), self.trust()?, self.at());
        trust.min_generation = floor.unwrap_or(trust.min_generation);
        Ok(f(&Judge {
            roots: &roots,
            trust: &trust,
            at,
        }))
    }
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
