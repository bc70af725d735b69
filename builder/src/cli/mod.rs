//! One file per verb: flags and printing.

mod measure;

use anyhow::Result;

/// Builds guest images of confidential VMs: reproducible, measured before the first boot.
#[derive(clap::Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Measure(measure::Measure),
}

impl Cli {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Measure(measure) => measure.run(),
        }
    }
}
