//! `begat self`: what is this program?

use std::path::PathBuf;

use anyhow::Result;
use measure::Sha256;
use serde_json::json;

use crate::mend::{Exit, Told};
use crate::model;
use crate::model::Lock;
use crate::model::payload::Payload;
use crate::stage::itself::Itself;
use crate::stage::parse::LOCK;
use crate::stage::verify;

/// Prints what this program was compiled from, and whether a release has it
///
/// Exits with 0 if the release has this very program, with 1 if not, or if its source is another.
#[derive(clap::Args)]
pub(super) struct Args {
    /// A release whose guest may have it
    release: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let itself = Itself::read()?;
        let lock = self.lock()?;
        let found = lock.as_ref().and_then(|lock| itself.in_lock(lock));
        let matches = lock
            .as_ref()
            .map(|_| found.is_some_and(|found| itself.has_the_source_of(found)));
        match self.json {
            true => {
                let mut value = json!(itself);
                value["matches"] = json!(matches);
                print!("{}", model::json(&value));
            }
            false => people(&itself, lock.is_some(), found),
        }
        match matches {
            Some(false) => Err(Told(Exit::No).into()),
            _ => Ok(()),
        }
    }

    /// The lock of a release whose files are those of its manifest.
    fn lock(&self) -> Result<Option<Lock>> {
        let Some(folder) = &self.release else {
            return Ok(None);
        };
        let release = verify::verify(folder, None)?.judged()?;
        Lock::parse(&release.text(LOCK)?).map(Some)
    }
}

fn people(itself: &Itself, compared: bool, found: Option<&Payload>) {
    let digest = |digest: &Option<Sha256>| match digest {
        Some(digest) => digest.to_string(),
        None => "not known: begat has not compiled it".into(),
    };
    println!("begat     {}", itself.version);
    println!("program   {}", itself.sha256);
    println!("source    {}", digest(&itself.source));
    println!("compiler  {}", digest(&itself.compiler));
    if !compared {
        return;
    }
    match found {
        Some(payload) if itself.has_the_source_of(payload) => {
            println!("release   has it, as the payload {} {}", payload.name, payload.version);
        }
        Some(payload) => println!(
            "release   has it, and says that {} comes from another source",
            payload.name
        ),
        None => println!("release   has another program, or none"),
    }
}
