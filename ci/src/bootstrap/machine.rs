//! The machine of a generation: it is given a job, and says what it does.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use xshell::cmd;

use super::{Begat, Line};

/// What the machine of a builder has, in MiB: with so much of it, a build is done in memory.
const TO_BUILD: &str = "10240";
const TO_MEASURE: &str = "2048";

/// What no release of a builder exceeds, in bytes; and no builder's work.
const OUTPUT: u64 = 4 << 30;
const SCRATCH: u64 = 16 << 30;

/// Seconds for what a machine does; compiling begat on an emulated processor takes hours.
const PATIENCE: &str = "7200";
const TO_COMPILE: &str = "28800";

impl Line<'_> {
    /// Boots the parent with the job; returns what it said, and the disk that it wrote to.
    pub(super) fn boot(&self, parent: &Path, job: &Path) -> Result<(Run, PathBuf)> {
        let memory = match self.begat {
            Begat::Supplied => TO_MEASURE,
            Begat::Compiled | Begat::CompiledInside => TO_BUILD,
        };
        self.boot_with(memory, parent, job)
    }

    /// As [`Self::boot`], on a machine with so much memory.
    pub(super) fn boot_with(&self, memory: &str, parent: &Path, job: &Path) -> Result<(Run, PathBuf)> {
        let (shell, begat) = (&self.site.shell, &self.site.begat);
        let (output, scratch) = (self.site.path("output"), self.scratch());
        File::create(&output)?.set_len(OUTPUT)?;
        File::create(&scratch)?.set_len(SCRATCH)?;
        let patience = match self.begat {
            Begat::Supplied | Begat::Compiled => PATIENCE,
            Begat::CompiledInside => TO_COMPILE,
        };
        let machine = cmd!(
            shell,
            "{begat} boot {parent} --tpm --memory {memory} --timeout {patience}"
        );
        let machine = machine.arg("--input").arg(job).arg("--output").arg(&output);
        let machine = machine.arg("--scratch").arg(&scratch);
        let run = machine.quiet().ignore_status().output()?;
        let (console, told) = (
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr),
        );
        let run = Run {
            code: run.status.code(),
            text: format!("{console}\n{told}"),
        };
        if run.code == Some(0) {
            ensure!(
                run.text.contains(ON_SCRATCH),
                "the machine has not worked on its scratch disk"
            );
            sealed(&scratch)?;
        }
        Ok((run, output))
    }

    /// The scratch disk of the machine that runs.
    pub(super) fn scratch(&self) -> PathBuf {
        self.site.path("scratch")
    }
}

/// What a machine said, and how it ended.
pub(super) struct Run {
    code: Option<i32>,
    text: String,
}

impl Run {
    pub(super) fn must_succeed(&self, number: u32) -> Result<()> {
        let said = self.text.lines().filter(|line| line.contains("job["));
        said.for_each(|line| println!("generation {number}: {line}"));
        ensure!(self.code == Some(0), "generation {number} failed:\n{}", self.text);
        Ok(())
    }

    pub(super) fn must_fail(&self, attack: &str) -> Result<()> {
        ensure!(
            self.code != Some(0) && self.text.contains(FAILED),
            "{attack} is believed"
        );
        println!("bootstrap: {attack}: {FAILED}");
        Ok(())
    }

    /// Says how long the job took, next to the same build here, and what of it took how long.
    pub(super) fn compare_times(&self, here: Duration) {
        let told: Vec<(f64, &str)> = self.text.lines().filter_map(told).collect();
        let (Some((start, _)), Some((end, _))) = (told.first(), told.last()) else {
            return;
        };
        let (inside, here) = (end - start, here.as_secs_f64());
        println!(
            "bench: the build took {here:.0} s here and {inside:.0} s inside, {:.0} times as long",
            inside / here
        );
        for pair in told.windows(2) {
            let (time, what) = (pair[1].0 - pair[0].0, pair[0].1);
            if time >= 1.0 {
                println!("bench: {time:8.0} s  after {what:?}");
            }
        }
    }
}

/// A line of the job on the console: when it was said, in seconds since the guest started, and what.
fn told(line: &str) -> Option<(f64, &str)> {
    let (time, rest) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    let (_, said) = rest.split_once(" job[")?;
    let (_, said) = said.split_once("]: ")?;
    Some((time.trim().parse().ok()?, said.trim()))
}

/// What the guest prints when its job fails.
const FAILED: &str = "begat: the job failed";

/// What the guest prints when its job has the scratch disk.
const ON_SCRATCH: &str = "the job works on the scratch disk";

/// Who has the scratch disk of a job cannot read it: not even the name of a file that is in each release.
fn sealed(scratch: &Path) -> Result<()> {
    const NAME: &[u8] = b"rootfs.erofs";
    let (mut file, mut chunk, mut written) = (File::open(scratch)?, vec![0; 1 << 20], 0);
    while let length @ 1.. = file.read(&mut chunk)? {
        let chunk = &chunk[..length];
        if chunk.iter().any(|byte| *byte != 0) {
            written += length;
            let told = chunk.windows(NAME.len()).any(|bytes| bytes == NAME);
            ensure!(!told, "the scratch disk can be read by whoever has it");
        }
    }
    ensure!(written > 0, "nothing was written to the scratch disk");
    println!(
        "bootstrap: {} MiB of the scratch disk written, nothing to be read",
        written >> 20
    );
    Ok(fs::remove_file(scratch)?)
}
