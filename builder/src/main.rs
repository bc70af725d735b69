use std::process::ExitCode;

use builder::{cli, mend};
use clap::Parser as _;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", mend::report(&error));
            mend::exit_code(&error).into()
        }
    }
}
