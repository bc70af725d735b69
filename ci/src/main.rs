//! Every check that CI runs, in the order it runs them: `cargo ci`. What needs files or time has a command of its own.

mod bench;
mod boot;
mod bootstrap;
mod closed;
mod compile;
mod difference;
mod flip;
mod fuzz;
mod gate;
mod host;
mod listing;
mod near;
mod offline;
mod oracle;
mod rebuild;
mod reproduce;
mod site;
mod truth;
mod volumes;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

/// Runs everything that the gate runs, or one part of it.
#[derive(clap::Parser)]
struct Ci {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    Reproduce(reproduce::Args),
    Offline,
    Boot(boot::Args),
    Bootstrap(bootstrap::Args),
    Compile(compile::Args),
    Flip(flip::Args),
    Fuzz(fuzz::Args),
    Truth(truth::Args),
    /// Rebuilds a release as another user, and one with a planted difference.
    Rebuild,
    /// Lets a recipe try to reach TEE devices, the guest's REST API and begat's memory.
    Closed,
    /// Builds a release with volumes, boots it, and one of which somebody has changed a volume.
    Volumes,
    /// Measures time and memory, side by side with other tools.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Compares results with those of other people's tools.
    #[command(subcommand)]
    Oracle(oracle::Oracle),
}

fn main() -> ExitCode {
    match Ci::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Ci {
    fn run(self) -> Result<()> {
        match self.command {
            None => gate::run(),
            Some(Command::Reproduce(reproduce)) => reproduce.run(),
            Some(Command::Offline) => offline::run(),
            Some(Command::Boot(boot)) => boot.run(),
            Some(Command::Bootstrap(bootstrap)) => bootstrap.run(),
            Some(Command::Compile(compile)) => compile.run(),
            Some(Command::Flip(flip)) => flip.run(),
            Some(Command::Fuzz(fuzz)) => fuzz.run(),
            Some(Command::Truth(truth)) => truth.run(),
            Some(Command::Rebuild) => rebuild::run(),
            Some(Command::Closed) => closed::run(),
            Some(Command::Volumes) => volumes::run(),
            Some(Command::Bench(bench)) => bench.run(),
            Some(Command::Oracle(oracle)) => oracle.run(),
        }
    }
}
