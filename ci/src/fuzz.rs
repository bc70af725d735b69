//! `cargo ci fuzz`: libFuzzer on every reader of outside bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::host;

/// Fuzzes the readers of outside bytes, two at a time; what reaches new code is kept beside the programs.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these: ovmf, tdvf, event-log …
    targets: Vec<String>,
    /// Seconds for each
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    seconds: u64,
}

/// What cargo-fuzz gives to the compiler; without a sanitizer, for there is no unsafe code, the stable one takes it.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Larger inputs find nothing more and are slow; a corpus in the repository stays small. In bytes.
const LONGEST: usize = 1 << 16;

/// What is no reader of bytes and needs no libFuzzer: whole releases with lies in them.
const RELEASES: &str = "releases";

impl Args {
    pub(crate) fn run(mut self) -> Result<()> {
        let all = self.targets.is_empty();
        if all || self.targets.iter().any(|target| target == RELEASES) {
            releases(self.seconds)?;
        }
        self.targets.retain(|target| target != RELEASES);
        if !all && self.targets.is_empty() {
            return Ok(());
        }
        let programs = build()?;
        let names = self.names()?;
        for pair in names.chunks(2) {
            let ran: Vec<Result<()>> = thread::scope(|threads| {
                let runs: Vec<_> = pair
                    .iter()
                    .map(|name| threads.spawn(|| fuzz(&programs, name, self.seconds)))
                    .collect();
                runs.into_iter()
                    .map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                    .collect()
            });
            ran.into_iter().collect::<Result<Vec<()>>>()?;
        }
        Ok(())
    }

    /// The targets that were asked for: all, if none was.
    fn names(&self) -> Result<Vec<String>> {
        let mut known = Vec::new();
        for entry in fs::read_dir(corpora())? {
            known.push(entry?.file_name().to_string_lossy().into_owned());
        }
        known.sort();
        if self.targets.is_empty() {
            return Ok(known);
        }
        if let Some(unknown) = self.targets.iter().find(|target| !known.contains(target)) {
            bail!("no fuzz target {unknown:?}: there are {}", known.join(", "));
        }
        Ok(self.targets.clone())
    }
}

/// Has lies about whole releases verified.
fn releases(seconds: u64) -> Result<()> {
    let (shell, seconds) = (host::shell()?, seconds.to_string());
    Ok(cmd!(
        shell,
        "cargo run --quiet --release --package fuzz --bin fuzz-releases -- {seconds}"
    )
    .run()?)
}

/// Compiles the targets as far as that needs no libFuzzer.
pub(crate) fn check(shell: &Shell) -> Result<()> {
    let check = cmd!(
        shell,
        "cargo check --quiet --release --package fuzz --features libfuzzer --bins"
    );
    Ok(check.env("CUSTOM_LIBFUZZER_PATH", "/nowhere/libnone.a").run()?)
}

fn corpora() -> PathBuf {
    host::repository().join("tests/fuzz/corpus")
}

/// Compiles the targets with libFuzzer and returns the folder of the programs.
fn build() -> Result<PathBuf> {
    let shell = host::shell()?;
    host::need(&shell, &[("c++", "g++")])?;
    let target = "x86_64-unknown-linux-gnu"; // named, so that build scripts are compiled as usual
    let folder = host::repository().join("target/fuzz");
    let cargo = cmd!(
        shell,
        "cargo build --quiet --release --package fuzz --features libfuzzer --bins --target {target} --target-dir {folder}"
    );
    cargo.env("RUSTFLAGS", COVERAGE).run()?;
    Ok(folder.join(target).join("release"))
}

/// Runs one target. A finding is kept where libFuzzer says.
fn fuzz(programs: &Path, name: &str, seconds: u64) -> Result<()> {
    let shell = host::shell()?;
    let program = programs.join(format!("fuzz-{name}"));
    let seeds = corpora().join(name);
    let work = host::repository().join("target/fuzz").join(name);
    let (corpus, findings) = (work.join("corpus"), work.join("findings"));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let prefix = format!("{}/", findings.display());
    let (seconds, longest) = (seconds.to_string(), LONGEST.to_string());
    let run = cmd!(
        shell,
        "{program} -max_total_time={seconds} -max_len={longest} -timeout=5 -rss_limit_mb=1024 -artifact_prefix={prefix}
         -print_final_stats=1 -verbosity=0 {corpus} {seeds}"
    );
    let output = run.quiet().ignore_status().output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: a finding in {prefix}:\n{said}");
    let count = said.lines().find(|line| line.contains("number_of_executed_units"));
    println!(
        "{name}: no finding in {seconds} s, {}",
        count.unwrap_or_default().trim()
    );
    Ok(())
}
