//! `begat inside`: begat started again by itself, as the processes of a sandbox. Not for people.

use anyhow::Result;

use crate::stage::Work;
use crate::world::sandbox;

#[derive(clap::Args)]
pub(super) struct Args {
    process: Process,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Process {
    First,
    Second,
    Third,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        match self.process {
            Process::First => sandbox::first(),
            Process::Second => sandbox::second(),
            Process::Third => {
                let (work, line) = sandbox::third::<Work>()?;
                work.perform(line)
            }
        }
    }
}
