//! `begat measure`: what a confidential VM will report, computed from files.

mod files;
mod id_block;
mod machine;
mod release;
mod snp;
mod tdx;
mod tpm;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::mend::Exit;

/// Computes what a virtual machine will report, from files alone
///
/// With a release, everything that it predicts is computed again from its files: exits with 1 if it differs.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Measure {
    /// The folder of a release
    release: Option<PathBuf>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    platform: Option<Platform>,
}

#[derive(clap::Subcommand)]
enum Platform {
    Snp(snp::Snp),
    Tdx(tdx::Tdx),
    Tpm(tpm::Tpm),
    /// What sev-snp-measure calls the mode for an SVSM.
    #[command(name = "snp:svsm", hide = true, disable_help_flag = true)]
    Svsm {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _anything: Vec<OsString>,
    },
}

impl Measure {
    pub(super) fn run(self) -> Result<()> {
        match (self.platform, self.release) {
            (Some(Platform::Snp(snp)), _) => snp.run(),
            (Some(Platform::Tdx(tdx)), _) => tdx.run(),
            (Some(Platform::Tpm(tpm)), _) => tpm.run(),
            (Some(Platform::Svsm { .. }), _) => Err(snp::no_svsm()),
            (None, Some(release)) => release::run(&release, self.json),
            (None, None) => Err(Exit::Usage.because(
                "nothing to measure is given",
                "name the folder of a release, or a platform with its files: begat measure --help",
            )),
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
