//! Who must have rebuilt a release so that generation 0 counts: a file in the grammar of C2SP tlog-policy.
//!
//! Rebuilders stand where witnesses stand, and a signed rebuild where a cosignature stands:
//!
//! ```text
//! # NAME is the operator: whoever answers for the machine and the key
//! witness alice SHA256:fyjlbGIgRyAY3A3j3+53V9ydCVHX6kBFTDi+lGx2+WM https://alice.example
//! witness bob   SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU
//! witness bob   MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE…
//! group anybody 1 alice bob
//! quorum anybody
//! ```
//!
//! It differs from tlog-policy in three points. A key is what `begat sign` and `ssh-keygen -l` show of it, or its SPKI
//! in DER as base64: a vkey signs notes, not provenance. A `witness` line with a name that another has adds a key to
//! the same operator, who keeps one vote. And a `log` line is refused, because nothing here would look at the log.
//! Everything else is as there: names are defined before they are used, each is a member once, a key has one name.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use data_encoding::{BASE64, BASE64_NOPAD};
use serde::Serialize;

use super::key::PublicKey;
use super::rebuild::{Fault, Rebuild, Said};
use super::release::{Manifest, Origin};
use crate::mend::Exit;

/// The rule, and who is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Quorum {
    /// The operator of each key, by the id of the key.
    operators: BTreeMap<String, String>,
    /// In the order of the file: members come before the groups that they are in.
    groups: Vec<Group>,
    /// The operator or group that decides; `None` is the `none` of the file.
    decides: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Group {
    name: String,
    threshold: usize,
    members: Vec<String>,
}

/// What rebuilds say about a release.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// Each statement that is about this release, in the order of its files.
    pub votes: Vec<Vote>,
    /// Reasons not to trust it.
    pub findings: Vec<Finding>,
}

/// What one statement says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Vote {
    pub file: String,
    /// The id of the key that has signed it.
    pub key: String,
    /// Whose key it is; `None` is somebody whom the quorum does not name, and who does not count.
    pub operator: Option<String>,
    /// The first file that came out otherwise; `None` is a rebuild that agrees.
    pub differs: Option<String>,
}

/// One reason not to trust what was rebuilt.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Finding {
    #[error("{file} is no statement of a rebuild: {why}")]
    RebuildUnreadable { file: String, why: String },
    #[error("{file} is not signed by the key {key} that it names")]
    RebuildSignatureInvalid { file: String, key: String },
    #[error("{file} is about another release: {what} differs")]
    RebuildOfAnotherRelease { file: String, what: &'static str },
    #[error("{operator} says in {file} that {subject} came out otherwise")]
    RebuildDisagrees {
        file: String,
        operator: String,
        key: String,
        subject: String,
    },
    #[error("the quorum {quorum} is not met: {}", voters(.votes))]
    QuorumNotMet { quorum: String, votes: BTreeSet<String> },
}

impl Finding {
    /// Returns the name of this kind of finding; it does not change between versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RebuildUnreadable { .. } => "rebuild-unreadable",
            Self::RebuildSignatureInvalid { .. } => "rebuild-signature-invalid",
            Self::RebuildOfAnotherRelease { .. } => "rebuild-of-another-release",
            Self::RebuildDisagrees { .. } => "rebuild-disagrees",
            Self::QuorumNotMet { .. } => "quorum-not-met",
        }
    }
}

fn voters(votes: &BTreeSet<String>) -> String {
    let names: Vec<&str> = votes.iter().map(String::as_str).collect();
    match names.is_empty() {
        true => "nobody whom it names has rebuilt this release".into(),
        false => format!("of those whom it names, only {} agrees", names.join(", ")),
    }
}

/// Returns what the rebuilds say about the release with this manifest, by the rule of `quorum`.
///
/// One vote per operator, however many keys and statements. A signed disagreement of an operator blocks, whether the
/// quorum is met or not; what strangers sign is listed and counts nothing.
pub fn evaluate(quorum: &Quorum, manifest: &Manifest, rebuilds: &[Rebuild]) -> Verdict {
    let mut verdict = Verdict::default();
    for rebuild in rebuilds {
        match quorum.vote(manifest, rebuild) {
            Ok(vote) => {
                verdict.findings.extend(vote.disagreement());
                verdict.votes.push(vote);
            }
            Err(finding) => verdict.findings.push(finding),
        }
    }
    let agreeing = verdict.votes.iter().filter(|vote| vote.differs.is_none());
    let votes: BTreeSet<String> = agreeing.filter_map(|vote| vote.operator.clone()).collect();
    verdict.findings.extend(quorum.not_met(votes));
    verdict
}

impl Vote {
    fn disagreement(&self) -> Option<Finding> {
        Some(Finding::RebuildDisagrees {
            file: self.file.clone(),
            operator: self.operator.clone()?,
            key: self.key.clone(),
            subject: self.differs.clone()?,
        })
    }
}

impl Quorum {
    /// Reads the text of a quorum file.
    ///
    /// # Errors
    /// A line that is not of the grammar; a name that is defined twice, not at all, or too late; a key of two names.
    pub fn parse(text: &str) -> Result<Self> {
        let mut reader = Reader::default();
        if let Some(control) = text.chars().find(|c| c.is_ascii_control() && !"\t\n".contains(*c)) {
            return Err(refuse(0, format!("it has the control character {control:?}")));
        }
        for (number, line) in text.split('\n').enumerate() {
            let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if words.first().is_some_and(|word| !word.starts_with('#')) {
                reader.line(&words).map_err(|why| refuse(number + 1, why))?;
            }
        }
        match reader.decided {
            true => Ok(reader.quorum),
            false => Err(refuse(0, "it has no quorum line".into())),
        }
    }

    /// Whether anybody must have rebuilt a release: the quorum `none` asks nobody, and so vouches for nothing.
    pub const fn asks(&self) -> bool {
        self.decides.is_some()
    }

    /// What the statement says; a reason why it says nothing about this release.
    fn vote(&self, manifest: &Manifest, rebuild: &Rebuild) -> Result<Vote, Finding> {
        let file = rebuild.file.clone();
        let said = match &rebuild.said {
            Ok(said) => said,
            Err(Fault::Unreadable { why }) => return Err(Finding::RebuildUnreadable { file, why: why.clone() }),
            Err(Fault::SignatureInvalid { key }) => {
                return Err(Finding::RebuildSignatureInvalid { file, key: key.clone() });
            }
        };
        if let Some(what) = differing(&said.origin, &manifest.origin) {
            return Err(Finding::RebuildOfAnotherRelease { file, what });
        }
        let Said { key, .. } = said;
        let key = key.id().to_string();
        Ok(Vote {
            file,
            operator: self.operators.get(&key).cloned(),
            key,
            differs: said.disagreement(manifest),
        })
    }

    fn not_met(&self, votes: BTreeSet<String>) -> Option<Finding> {
        let decides = self.decides.as_ref()?;
        let mut met = votes.clone();
        for group in &self.groups {
            let members = group.members.iter().filter(|member| met.contains(*member));
            if members.count() >= group.threshold {
                met.insert(group.name.clone());
            }
        }
        let quorum = decides.clone();
        (!met.contains(decides)).then_some(Finding::QuorumNotMet { quorum, votes })
    }
}

fn differing(found: &Origin, wanted: &Origin) -> Option<&'static str> {
    [
        ("the recipe", found.recipe == wanted.recipe),
        ("the lock", found.lock == wanted.lock),
        ("the name", found.name == wanted.name),
        ("the epoch", found.epoch == wanted.epoch),
    ]
    .into_iter()
    .find_map(|(what, same)| (!same).then_some(what))
}

fn refuse(number: usize, why: String) -> anyhow::Error {
    let place = if number == 0 {
        String::new()
    } else {
        format!("line {number} of ")
    };
    let problem = format!("{place}the quorum file: {why}");
    let mend = "lines are: witness NAME KEY [URL] · group NAME K|any|all MEMBER… · quorum NAME|none · # comment";
    Exit::Usage.because(problem, mend)
}

/// The name that nobody can have.
const NONE: &str = "none";

/// What has been read so far.
#[derive(Default)]
struct Reader {
    quorum: Quorum,
    /// Operators and groups share their names.
    names: BTreeSet<String>,
    /// Who is a member already.
    members: BTreeSet<String>,
    decided: bool,
}

impl Reader {
    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        match *words {
            ["witness", name, key] | ["witness", name, key, _] => self.operator(name, key),
            ["group", name, threshold, ref members @ ..] if !members.is_empty() => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            ["log", ..] => Err("it names a log, and rebuilds are not read from one".into()),
            [word @ ("witness" | "group" | "quorum"), ..] => Err(format!("{word} has other parts than it is to have")),
            [word, ..] => Err(format!("{word:?} begins no line")),
            [] => Ok(()),
        }
    }

    fn operator(&mut self, name: &str, key: &str) -> Result<(), String> {
        if name == NONE || self.quorum.groups.iter().any(|group| group.name == name) {
            return Err(format!("the name {name:?} is taken"));
        }
        let id = key_id(key)?;
        if let Some(other) = self.quorum.operators.insert(id, name.to_owned()) {
            return Err(format!("{name} has a key that is named already, as one of {other}"));
        }
        self.names.insert(name.to_owned());
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), String> {
        let all = members.len();
        for member in members {
            self.known(member)?;
            if !self.members.insert((*member).to_owned()) {
                return Err(format!("{member} is a member already: it would count twice"));
            }
        }
        if name == NONE || !self.names.insert(name.to_owned()) {
            return Err(format!("the name {name:?} is taken"));
        }
        self.quorum.groups.push(Group {
            name: name.to_owned(),
            threshold: number(threshold, all)?,
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.decided {
            return Err("there is a quorum already".into());
        }
        if name != NONE {
            self.known(name)?;
            self.quorum.decides = Some(name.to_owned());
        }
        self.decided = true;
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), String> {
        match self.names.contains(name) {
            true => Ok(()),
            false => Err(format!("{name:?} is not defined above")),
        }
    }
}

fn number(threshold: &str, all: usize) -> Result<usize, String> {
    let decimal = !threshold.starts_with('0') && threshold.bytes().all(|byte| byte.is_ascii_digit());
    let number = match threshold {
        "any" => Some(1),
        "all" => Some(all),
        _ if decimal => threshold.parse().ok(),
        _ => None,
    };
    let number = number.filter(|number| (1..=all).contains(number));
    number.ok_or_else(|| format!("the threshold is any, all, or a number from 1 to {all}; found {threshold:?}"))
}

/// The id of a key: as it is, or of an SPKI.
fn key_id(key: &str) -> Result<String, String> {
    let wrong = || format!("{key:?} is no key: expected SHA256:…, or an SPKI in DER as base64");
    if let Some(digest) = key.strip_prefix("SHA256:") {
        let digest = BASE64_NOPAD.decode(digest.as_bytes()).map_err(|_| wrong())?;
        return match digest.len() {
            32 => Ok(key.to_owned()),
            _ => Err(wrong()),
        };
    }
    let spki = BASE64.decode(key.as_bytes()).map_err(|_| wrong())?;
    let key = PublicKey::from_spki(&spki).map_err(|_| wrong())?;
    Ok(key.id().to_string())
}

#[cfg(test)]
mod tests;
