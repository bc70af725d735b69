use std::panic;
use std::process::{self, ExitCode};

use builder::mend::Exit;
use builder::{cli, mend};
use clap::Parser as _;

fn main() -> ExitCode {
    end_with_the_reader();
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", mend::report(&error));
            mend::exit_code(&error).into()
        }
    }
}

/// Whoever reads what we print may have read enough, as `head` does: that ends us, and is no fault to be traced.
fn end_with_the_reader() {
    let other = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let what = panic.payload_as_str().unwrap_or_default();
        if what.starts_with("failed printing to stdout: Broken pipe") {
            process::exit(Exit::Outside as i32);
        }
        other(panic);
    }));
}
