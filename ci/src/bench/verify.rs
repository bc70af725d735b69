//! `begat verify` against hashing the files of a release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use super::middle;
use crate::host;

/// `begat verify` of a release against SHA-256 of its files, as many at once as there are cores.
///
/// Two programs hash: OpenSSL's, which has the instructions of the processor for it as begat does, and sha256sum, which
/// may not. Signatures are not hashed. The runs alternate; all files are in memory.
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// The folder of the release
    release: PathBuf,
    /// How often to run each
    #[arg(long, default_value_t = 9)]
    runs: usize,
}

/// One run: its wall time in seconds, and the memory of its largest process in KiB.
type Sample = (f64, f64);

impl Verify {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(self.runs > 0, "no runs, no times");
        let shell = host::shell()?;
        host::need(&shell, &[("time", "time"), ("openssl", "openssl")])?;
        let (begat, release) = (host::begat(&shell)?, fs::canonicalize(&self.release)?);
        let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rows = [
            ("begat verify", text(&[&begat.to_string_lossy(), "verify", "."])),
            ("openssl dgst -sha256", hash("openssl dgst -sha256")),
            ("sha256sum", hash("sha256sum")),
        ];
        let mut samples: [Vec<Sample>; 3] = Default::default();
        for run in 0..=self.runs {
            for ((_, command), samples) in rows.iter().zip(&mut samples) {
                let sample = sample(&shell, &release, command)?;
                // the first run only brings the files into memory
                samples.extend((run > 0).then_some(sample));
            }
        }
        let medians = samples.map(|samples| {
            let (seconds, memory): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
            (middle(seconds), middle(memory))
        });
        println!("{:22} {:>8} {:>8} {:>8}", "median", "s", "ratio", "MiB");
        for ((name, _), (seconds, memory)) in rows.iter().zip(medians) {
            let ratio = medians[0].0 / seconds;
            println!("{name:22} {seconds:8.2} {ratio:8.2} {:8.0}", memory / 1024.0);
        }
        Ok(())
    }
}

/// Hashes the files of a folder, the largest first.
fn hash(program: &str) -> Vec<String> {
    let files = "ls -S | grep --invert-match sigstore";
    let script = format!("{files} | xargs --max-args=1 --max-procs=$(nproc) {program} > /dev/null");
    ["sh", "-c", &script].map(String::from).into()
}

fn sample(shell: &Shell, release: &Path, command: &[String]) -> Result<Sample> {
    let _inside = shell.push_dir(release);
    let run = cmd!(shell, "env time --format '%e %M' {command...}").quiet();
    let output = run.ignore_stdout().output()?;
    let figures = String::from_utf8(output.stderr)?;
    let (seconds, memory) = figures.trim().split_once(' ').context("time printed no two figures")?;
    Ok((seconds.parse()?, memory.parse()?))
}
