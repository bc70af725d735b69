//! `cargo ci boot`: both shapes of a release start; a tampered one does not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use crate::host;

/// Starts a release in both shapes, and a copy with one byte flipped, which must not come up.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the release
    release: PathBuf,
}

/// What the initrd prints when it finds no root that it may use.
const REFUSED: &str = "begat: refused";
const READY: &str = "begat: ready";

/// In the first block, in front of the superblock: the file system is still found, and the block is not what was hashed.
const FLIPPED: u64 = 100;

/// How a guest ended.
struct Run {
    code: Option<i32>,
    console: String,
    seconds: u64,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let shell = host::shell()?;
        check(&host::begat(&shell)?, &fs::canonicalize(&self.release)?)
    }
}

/// The three guests run side by side: each spends much of its time on one processor.
pub(crate) fn check(begat: &Path, release: &Path) -> Result<()> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let tampered = folder.path();
    tamper(release, tampered)?;
    let (direct, disk, refused) = thread::scope(|threads| {
        let direct = threads.spawn(|| boot(begat, release, "--direct"));
        let disk = threads.spawn(|| boot(begat, release, "--disk"));
        let refused = threads.spawn(|| boot(begat, tampered, "--direct"));
        (direct.join(), disk.join(), refused.join())
    });
    let ended = |run: thread::Result<Result<Run>>| run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    ended(direct)?.expect("direct boot", Some(0), READY)?;
    ended(disk)?.expect("disk boot", Some(0), READY)?;
    let refused = ended(refused)?;
    refused.expect("direct boot with a byte of rootfs.erofs flipped", Some(1), REFUSED)?;
    ensure!(!refused.console.contains(READY), "the tampered guest came up");
    Ok(())
}

/// Copies a release, its root image with one byte flipped.
fn tamper(release: &Path, folder: &Path) -> Result<()> {
    for entry in fs::read_dir(release)? {
        let entry = entry?;
        if entry.file_type()?.is_file() && entry.file_name() != "disk.raw" {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    let root = folder.join("rootfs.erofs");
    let root = OpenOptions::new().read(true).write(true).open(root)?;
    let mut byte = [0];
    root.read_exact_at(&mut byte, FLIPPED)?;
    root.write_all_at(&[!byte[0]], FLIPPED).context("cannot flip a byte")
}

fn boot(begat: &Path, release: &Path, shape: &str) -> Result<Run> {
    let shell = host::shell()?;
    let start = Instant::now();
    let output = cmd!(shell, "{begat} boot {release} {shape}")
        .quiet()
        .ignore_status()
        .output()?;
    let console = [output.stdout.as_slice(), &output.stderr].concat();
    Ok(Run {
        code: output.status.code(),
        console: String::from_utf8_lossy(&console).into_owned(),
        seconds: start.elapsed().as_secs(),
    })
}

impl Run {
    fn expect(&self, name: &str, code: Option<i32>, line: &str) -> Result<()> {
        let found = self.console.lines().find(|found| found.contains(line));
        if self.code != code || found.is_none() {
            let lines: Vec<&str> = self.console.lines().collect();
            println!("{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
        ensure!(self.code == code, "{name}: exit code {:?} and not {code:?}", self.code);
        let found = found.with_context(|| format!("{name}: the console has no line {line:?}"))?;
        println!("{name}: {} after {} s", found.trim(), self.seconds);
        Ok(())
    }
}
