//! One file per arrow of the line from recipe to release.

pub mod account;
pub mod appraise;
pub mod archive;
pub mod assemble;
pub mod attested;
pub mod base;
pub mod boot;
pub mod build;
pub mod cargo_lock;
pub mod chain;
pub mod collateral;
pub mod collect;
pub mod compared;
pub mod compile;
pub mod contents;
pub mod crates;
pub mod derived;
pub mod describe;
pub mod difference;
pub mod disk;
pub mod doctor;
pub mod explain;
pub mod export;
pub mod fetch;
pub mod finding;
pub mod guest;
pub mod host;
pub mod itself;
pub mod job;
pub mod lock;
pub mod log;
pub mod measure;
pub mod modules;
pub mod on_disk;
pub mod origins;
pub mod parse;
pub mod payload;
mod pins;
pub mod plain;
pub mod prove;
pub mod pull;
pub mod push;
pub mod rebuild;
pub mod rebuilds;
pub mod recipe;
pub mod recompute;
pub mod release;
pub mod resolve;
pub mod rules;
pub mod secure_boot;
pub mod sign;
pub mod signatures;
pub mod verify;
pub mod volume;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::world::sandbox::Line;

/// What is done inside a tool tree.
#[derive(Debug, Deserialize, Serialize)]
pub enum Work {
    Boot(boot::Machine),
    Compile(compile::Job),
    Guest(guest::Guest),
}

impl Work {
    /// Does it; what whoever asked for it wants to know goes over the line.
    ///
    /// # Errors
    /// As the work says.
    pub fn perform(&self, line: Line) -> Result<()> {
        match self {
            Self::Boot(machine) => line.answer(&()).and_then(|()| machine.boot()),
            Self::Compile(job) => job.compile(line),
            Self::Guest(guest) => guest.make(line),
        }
    }
}

/// Says on standard error what is being done.
pub fn say(stage: &str, what: &str) {
    eprintln!("{stage:>9}  {what}");
}
