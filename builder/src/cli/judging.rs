//! Flags that several verbs share: by what policy evidence is judged, and as of when. And how findings are printed.

use std::path::PathBuf;

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

#[derive(clap::Args)]
pub(super) struct Judging {
    /// The trust policy, in TOML: what is believed that evidence cannot show [default: the strict one]
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// Who must have rebuilt a release that nobody attested, a file in the grammar of C2SP tlog-policy:
    /// `witness NAME KEY-ID`, `group NAME K|any|all NAME…`, `quorum NAME`
    #[arg(long, value_name = "FILE")]
    quorum: Option<PathBuf>,
    /// The time at which releases, certificates and collateral must be valid [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
}

impl Judging {
    /// Returns the time of verification.
    pub(super) fn at(&self) -> Timestamp {
        self.at.unwrap_or_else(clock::now)
    }

    /// Returns who must have rebuilt a release that nobody attested.
    pub(super) fn quorum(&self) -> Result<Option<Quorum>> {
        let read = |path: &PathBuf| {
            let text = String::from_utf8(given::read(path, LIMIT, "give a quorum file")?);
            Quorum::parse(&text.or_mend(Exit::Usage, "the quorum file is no UTF-8", "write it anew")?)
        };
        self.quorum.as_ref().map(read).transpose()
    }

    fn text(&self) -> Result<Vec<u8>> {
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
        let quorum = self.quorum()?;
        trust.min_generation = floor.unwrap_or(trust.min_generation);
        Ok(f(&Judge {
            roots: &roots,
            trust: &trust,
            quorum: quorum.as_ref(),
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
