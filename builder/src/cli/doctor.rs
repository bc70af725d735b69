//! `begat doctor`: what does this host lack?

use anyhow::Result;

use crate::mend::{Exit, Told};
use crate::model;
use crate::stage::doctor::{Check, checks};

/// Says what this host lacks for building, booting and attesting, each with its mend
///
/// Exits with 5 where something is missing for building or booting.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print the checks as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let checks = checks();
        match self.json {
            true => print!("{}", model::json(&serde_json::to_value(&checks)?)),
            false => checks.iter().for_each(show),
        }
        match checks.iter().any(|check| check.needed && check.mend.is_some()) {
            true => Err(Told(Exit::Unsupported).into()),
            false => Ok(()),
        }
    }
}

fn show(check: &Check) {
    let answer = if check.mend.is_some() { "no" } else { "ok" };
    println!("{:>6}  {answer}  {}: {}", check.verb, check.what, check.found);
    if let Some(mend) = &check.mend {
        println!("            mend: {mend}");
    }
}
