//! `begat explain`: why is this value not the one that was predicted?

use std::path::PathBuf;

use anyhow::Result;
use measure::event_log::Digests;

use crate::mend::{Exit, Told};
use crate::stage::explain::{self, Difference, Explanation, Line, Side, Verdict};

/// Says why two values differ: which event, file, package or choice of the host makes the difference
///
/// Each side is the folder of a release, an event log (binary_bios_measurements of a TPM, or the data of a TD's CCEL
/// table), a report of SEV-SNP or a TDX quote. Of these only a release is verified; what is wrong with it is said, and
/// what it says is compared all the same. Exits with 0 if nothing differs and nothing is wrong, else with 1.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What was predicted: a release, or a log
    predicted: PathBuf,
    /// What was observed: a release, a log, a report or a quote
    observed: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let explanation = explain::explain(&Side::read(&self.predicted)?, &Side::read(&self.observed)?)?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&explanation)?),
            false => show(&explanation),
        }
        if explanation.agree() {
            return Ok(());
        }
        Err(Told(Exit::No).into())
    }
}

/// Prints an explanation for people.
pub(super) fn show(explanation: &Explanation) {
    println!("compared: {}", explanation.compared);
    let wrong = explanation.findings.iter();
    wrong.for_each(|finding| println!("not what it says: {finding}"));
    explanation.events.iter().for_each(show_event);
    explanation.differences.iter().for_each(show_difference);
    if explanation.agree() {
        println!("they agree");
    }
}

fn show_difference(difference: &Difference) {
    println!("{}", difference.what);
    if !difference.files.is_empty() {
        let files: Vec<&str> = difference.files.iter().map(String::as_str).collect();
        println!("  covers {}", files.join(", "));
    }
    if !difference.varies_with.is_empty() {
        println!("  varies with {}", super::words(&difference.varies_with));
    }
}

fn show_event(line: &Line) {
    let sign = match line.verdict {
        Verdict::Equal => "=",
        Verdict::Changed => "≠",
        Verdict::Missing => "−",
        Verdict::Unexpected => "+",
        Verdict::Unpredictable => "?",
    };
    let [predicted, observed] = [line.predicted, line.observed].map(short);
    println!(
        "{sign} {:6} {:32} {predicted} {observed}  {}",
        line.register.to_string(),
        line.kind,
        line.subject
    );
    if let Some(reason) = line.reason {
        println!("  {reason}");
    }
}

/// The first half of the first 16 digits: enough to see what differs.
fn short(digests: Option<Digests>) -> String {
    let digests = digests.unwrap_or_default();
    let longest = digests
        .sha384
        .map(|digest| digest.to_string())
        .or_else(|| digests.sha256.map(|digest| digest.to_string()));
    longest.map_or_else(|| "-".repeat(16), |digest| digest[..16].into())
}
