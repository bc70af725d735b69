//! `begat measure` against sev-snp-measure, and against hashing the same files.

use std::collections::BTreeSet;
use std::fs;
use std::iter::zip;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use measure::snp::CpuSignature;
use serde_json::Value;
use xshell::{Shell, cmd};

use super::middle;
use crate::host;
use crate::oracle::python;

/// Every value of a release against one digest of sev-snp-measure, and against sha256sum and sha384sum of the same files.
///
/// begat runs twice and the times are added: once for SEV-SNP with 1 to 512 vCPUs of every CPU model, once for all that
/// the release predicts: MRTD, RTMRs and PCRs of each way to boot, and its own launches of SEV-SNP. The disk is not
/// hashed, as only its partition table is measured. The runs alternate; all files are in memory.
#[derive(clap::Args)]
pub(crate) struct Measure {
    /// The folder of the release
    release: PathBuf,
    /// How often to run each
    #[arg(long, default_value_t = 9)]
    runs: usize,
}

/// What is run: a name and a command.
type Row = (&'static str, Vec<String>);

/// What a release is measured from.
struct Files {
    /// Every file that is read as a whole.
    all: Vec<String>,
    /// The arguments of a launch of SEV-SNP, which both programs take.
    snp: Vec<String>,
}

impl Measure {
    pub(crate) fn run(self) -> Result<()> {
        ensure!(self.runs > 0, "no runs, no times");
        let shell = host::shell()?;
        let rows = rows(&shell, &fs::canonicalize(&self.release)?)?;
        let mut times: [Vec<f64>; 5] = Default::default();
        for run in 0..=self.runs {
            for ((_, command), times) in zip(&rows, &mut times) {
                let seconds = seconds(&shell, command)?;
                // the first run only brings the files into memory
                times.extend((run > 0).then_some(seconds));
            }
        }
        print(&rows, times);
        Ok(())
    }
}

/// Runs a command to its end and returns the time on the wall.
fn seconds(shell: &Shell, command: &[String]) -> Result<f64> {
    let start = Instant::now();
    cmd!(shell, "env {command...}").quiet().ignore_stdout().run()?;
    Ok(start.elapsed().as_secs_f64())
}

fn rows(shell: &Shell, release: &Path) -> Result<[Row; 5]> {
    let begat = host::begat(shell)?.display().to_string();
    let theirs = python::programs(shell)?.join("sev-snp-measure").display().to_string();
    let Files { all, snp } = Files::of(release)?;
    let words = |words: &[&str]| words.iter().map(|word| String::from(*word)).collect::<Vec<_>>();
    let models: Vec<_> = CpuSignature::named().map(|(name, _)| name).collect();
    let matrix = words(&[
        &begat,
        "measure",
        "snp",
        "--vcpus=1-512",
        "--vcpu-type",
        &models.join(","),
    ]);
    let release = release.display().to_string();
    let one = words(&[&theirs, "--mode=snp", "--vcpus=1", "--vcpu-type=EPYC-v4"]);
    Ok([
        ("begat measure snp", [matrix, snp.clone()].concat()),
        ("begat measure RELEASE", words(&[&begat, "measure", &release])),
        ("sev-snp-measure", [one, snp].concat()),
        ("sha256sum", [words(&["sha256sum"]), all.clone()].concat()),
        ("sha384sum", [words(&["sha384sum"]), all].concat()),
    ])
}

impl Files {
    fn of(release: &Path) -> Result<Self> {
        let path = |name: &str| release.join(name).display().to_string();
        let measurements: Value = serde_json::from_slice(&fs::read(release.join("measurements.json"))?)?;
        let launches = measurements["launches"].as_array().context("a release has launches")?;
        let firmware = |launch: &Value| launch["firmware"]["name"].as_str().map(path);
        let all: BTreeSet<String> = launches.iter().filter_map(firmware).collect();
        let snp = launches.iter().find(|launch| launch["platform"] == "snp");
        let ovmf = snp.and_then(firmware).context("the release has no launch of SEV-SNP")?;
        let [kernel, initrd, cmdline, uki] = ["vmlinuz", "initrd.cpio.zst", "cmdline", "uki.efi"].map(path);
        let append = fs::read_to_string(&cmdline)?;
        let snp = [
            "--ovmf", &ovmf, "--kernel", &kernel, "--initrd", &initrd, "--append", &append,
        ];
        Ok(Self {
            snp: snp.map(String::from).into(),
            all: all.into_iter().chain([kernel, initrd, cmdline, uki]).collect(),
        })
    }
}

fn print(rows: &[Row], times: [Vec<f64>; 5]) {
    let row = |name: &str, seconds: f64| println!("{name:24} {:6.0}", seconds * 1e3);
    println!("median of {} runs, in milliseconds", times[0].len());
    for ((name, _), times) in zip(rows, &times) {
        row(name, middle(times.clone()));
    }
    let [snp, release, theirs, sha256, sha384] = times;
    let (ours, theirs, hashing) = (both(&snp, &release), middle(theirs), both(&sha256, &sha384));
    row("begat, both", ours);
    row("hashing, both", hashing);
    println!("begat / sev-snp-measure  {:6.2} (aim: below 1)", ours / theirs);
    println!("begat / hashing          {:6.2} (aim: below 1.5)", ours / hashing);
}

/// The median of what each run of two programs takes together.
fn both(one: &[f64], other: &[f64]) -> f64 {
    middle(zip(one, other).map(|(one, other)| one + other).collect())
}
