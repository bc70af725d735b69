//! `cargo ci bench`: whole-process time and peak memory, side by side with other tools.

mod documents;
mod measure;
mod mkosi;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::host;
use crate::site::Site;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    Build(Build),
    Documents(documents::Documents),
    Measure(measure::Measure),
    Verify(verify::Verify),
}

/// `begat build` against plain mkosi of the same tool tree, which makes a disk of the same configuration.
///
/// The store is warm and both work in memory; the runs alternate. mkosi finds its package repository and the kernel
/// already unpacked, and makes no measurements and no documents.
#[derive(clap::Args)]
pub(crate) struct Build {
    /// How often to run each
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// One run of a program, with all that it started.
struct Sample {
    seconds: f64,
    /// Of the largest of its processes, in KiB.
    memory: u64,
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Build(build) => build.run(),
            Self::Documents(documents) => documents.run(),
            Self::Measure(measure) => measure.run(),
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl Build {
    fn run(self) -> Result<()> {
        let site = Site::new()?;
        let shell = &site.shell;
        ensure!(
            host::is_root(shell)?,
            "mkosi is put into its tool tree by root: run this as root"
        );
        ensure!(self.runs > 0, "no runs, no times");
        host::need(shell, &[("time", "time")])?;
        site.lock()?;
        let store = site.path("store");
        site.copy_store(&store)?;
        let begat = begat(&site, &store);
        sample(shell, &site, &begat)?; // fetches what is missing and unpacks the tool tree
        let mkosi = mkosi::prepare(&site, &store)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 1..=self.runs {
            ours.push(sample(shell, &site, &begat)?);
            theirs.push(sample(shell, &site, &mkosi)?);
            let last = [&ours, &theirs].map(|samples| samples[run - 1].seconds);
            println!("run {run}: begat {:.1} s, mkosi {:.1} s", last[0], last[1]);
        }
        print(&ours, &theirs);
        Ok(())
    }
}

fn begat(site: &Site, store: &Path) -> Vec<String> {
    let text = |path: PathBuf| path.display().to_string();
    let fixed = ["build", "--locked", "--force", "--output"].map(String::from);
    let begat = std::iter::once(text(site.begat.clone())).chain(fixed);
    begat
        .chain([
            text(site.path("release")),
            "--store".into(),
            text(store.into()),
            text(site.recipe()),
        ])
        .collect()
}

/// Runs a command to its end. It is not the shell's builtin `time`, which knows nothing of memory.
fn sample(shell: &Shell, site: &Site, command: &[String]) -> Result<Sample> {
    let (figures, log) = (site.path("figures"), site.path("log"));
    let run = cmd!(shell, "env time --format '%e %M' --output {figures} {command...}");
    let output = run.quiet().ignore_status().output()?;
    shell.write_file(&log, [output.stdout.as_slice(), &output.stderr].concat())?;
    ensure!(output.status.success(), "{}\n{command:?} failed", shell.read_file(log)?);
    let figures = shell.read_file(figures)?;
    let (seconds, memory) = figures.trim().split_once(' ').context("time printed no two figures")?;
    Ok(Sample {
        seconds: seconds.parse()?,
        memory: memory.parse()?,
    })
}

fn print(ours: &[Sample], theirs: &[Sample]) {
    let [begat, mkosi] = [ours, theirs].map(|samples| {
        let seconds = |sample: &Sample| sample.seconds;
        let memory = |sample: &Sample| sample.memory as f64 / 1024.0;
        [median(samples, seconds), median(samples, memory)]
    });
    println!("\nmedian of {} runs      begat build    mkosi   ratio", ours.len());
    for (index, name) in ["wall time, s", "largest process, MiB"].iter().enumerate() {
        let (begat, mkosi) = (begat[index], mkosi[index]);
        println!("{name:22} {begat:10.1} {mkosi:8.1} {:7.2}", begat / mkosi);
    }
}

fn median(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> f64 {
    middle(samples.iter().map(figure).collect())
}

/// The median of figures, of which there are some.
fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    (figures[middle] + figures[(figures.len() - 1) / 2]) / 2.0
}
