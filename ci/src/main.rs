//! Every check that CI runs, in the order it runs them: `cargo ci`. What needs files or time has a command of its own.

mod oracle;

use anyhow::Result;
use clap::Parser as _;
use xshell::{Shell, cmd};

/// Runs the checks that need nothing but the repository, or one that needs more.
#[derive(clap::Parser)]
struct Ci {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Compares results with those of other people's tools.
    #[command(subcommand)]
    Oracle(oracle::Oracle),
}

fn main() -> Result<()> {
    match Ci::parse().command {
        None => check(),
        Some(Command::Oracle(oracle)) => oracle.run(),
    }
}

fn check() -> Result<()> {
    let shell = Shell::new()?;
    cmd!(shell, "cargo fmt --all --check").run()?;
    cmd!(shell, "cargo clippy --workspace --all-targets -- --deny warnings").run()?;
    cmd!(shell, "cargo test --workspace").run()?;
    Ok(())
}
