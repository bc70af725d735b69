//! `begat measure`: what a confidential VM will report, computed from files.

mod id_block;
mod snp;
mod tdx;

use std::ffi::OsString;

use anyhow::Result;
use serde::Serialize;

/// Computes what a confidential VM will report, from files alone.
#[derive(clap::Args)]
pub(super) struct Measure {
    #[command(subcommand)]
    platform: Platform,
}

#[derive(clap::Subcommand)]
enum Platform {
    Snp(Box<snp::Snp>),
    Tdx(tdx::Tdx),
    /// What sev-snp-measure calls the mode for an SVSM.
    #[command(name = "snp:svsm", hide = true, disable_help_flag = true)]
    Svsm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _anything: Vec<OsString>,
    },
}

impl Measure {
    pub(super) fn run(self) -> Result<()> {
        match self.platform {
            Platform::Snp(snp) => snp.run(),
            Platform::Tdx(tdx) => tdx.run(),
            Platform::Svsm { .. } => Err(snp::no_svsm()),
        }
    }
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use crate::cli::Cli;
    use crate::mend::{Exit, exit_code, report};

    /// Runs `begat measure` with these arguments and returns how it failed.
    pub(super) fn failure(arguments: &[&str]) -> (Exit, String) {
        let cli = Cli::try_parse_from([&["begat", "measure"], arguments].concat());
        let error = cli.unwrap_or_else(|error| panic!("{error}")).run().unwrap_err();
        (exit_code(&error), report(&error))
    }

    #[test]
    fn missing_files_come_from_outside() {
        let (exit, report) = failure(&["tdx", "--ovmf", "/nowhere/OVMF.fd"]);
        assert_eq!(exit, Exit::Outside);
        assert_eq!(
            report,
            "error: cannot open /nowhere/OVMF.fd\n  \
             because No such file or directory (os error 2)\n\
             mend: check the path and its permissions\n"
        );
    }

    #[test]
    fn files_that_are_no_firmware_are_a_question_that_cannot_be_asked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "no firmware").unwrap();
        let path = file.path().to_str().unwrap();
        for arguments in [&["snp", "--vmm-type=ec2", "--vcpus=1"][..], &["tdx"]] {
            let (exit, report) = failure(&[arguments, &["--ovmf", path]].concat());
            assert_eq!(exit, Exit::Usage);
            let reason = "because the image is 11 bytes long, expected a multiple of 4096 bytes, at most 4 GiB";
            assert!(report.contains(reason), "{report}");
        }
    }
}
