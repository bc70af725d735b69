//! `cargo ci boot`: both shapes of a release start; a tampered one does not.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use xshell::cmd;

use crate::host;

/// Starts a release in both shapes, compares each event that its TPM logged with the prediction, and starts a copy of which
/// the host flips a byte while the guest starts: that must not come up.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the release
    release: PathBuf,
    /// Keep the logs in this folder: direct/log.bin and disk/log.bin
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

/// A file of the release that the host changes under the running guest, since begat starts no release that was changed
/// before, and what the guest prints then.
pub(crate) struct Tampered {
    pub(crate) file: &'static str,
    pub(crate) says: &'static str,
}

/// The initrd finds no root that it may use.
pub(crate) const ROOT: Tampered = Tampered {
    file: "rootfs.erofs",
    says: "begat: refused",
};

const READY: &str = "begat: ready";

/// What the kernel prints first, long before anybody looks for the root.
const STARTS: &str = "Linux version";

/// What begat says when every event and register is as predicted.
const AGREED: &str = "they agree";

/// In the first block, in front of the superblock: the file system is still found, and the block is not what was hashed.
const FLIPPED: u64 = 100;

/// In seconds: three times what the slowest guest needed. One has hung for ten minutes with its processors stalled; why, is
/// not known.
const TIMEOUT: &str = "360";

/// How a guest ended.
struct Run {
    code: Option<i32>,
    console: String,
    seconds: u64,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let shell = host::shell()?;
        let begat = host::begat(&shell)?;
        let release = fs::canonicalize(&self.release)?;
        let kept = tempfile::tempdir_in("/var/tmp")?;
        check(&begat, &release, self.evidence.as_deref().unwrap_or(kept.path()), &ROOT)
    }
}

/// The three guests run side by side: each spends much of its time on one processor. What the TPMs of the first two say
/// is then in the folder `evidence`.
pub(crate) fn check(begat: &Path, release: &Path, evidence: &Path, attack: &Tampered) -> Result<()> {
    let (direct, disk, refused) = thread::scope(|threads| {
        let direct = threads.spawn(|| boot(begat, release, "--direct", Some(&evidence.join("direct"))));
        let disk = threads.spawn(|| boot(begat, release, "--disk", Some(&evidence.join("disk"))));
        let refused = threads.spawn(|| boot_tampered(begat, release, attack.file));
        (direct.join(), disk.join(), refused.join())
    });
    let ended = |run: thread::Result<Result<Run>>| run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    for (name, run) in [("direct boot", direct), ("disk boot", disk)] {
        let run = ended(run)?;
        run.expect(name, Some(0), READY)?;
        run.expect(name, Some(0), AGREED)?;
        let equal = run.console.lines().filter(|line| line.starts_with("= PCR "));
        println!("{name}: {} events as predicted", equal.count());
    }
    let refused = ended(refused)?;
    let name = format!("direct boot with a byte of {} flipped under it", attack.file);
    refused.expect(&name, Some(1), attack.says)?;
    ensure!(!refused.console.contains(READY), "the tampered guest came up");
    Ok(())
}

/// Flips one byte of an image.
fn flip(image: &Path) -> Result<()> {
    let image = OpenOptions::new().read(true).write(true).open(image)?;
    let mut byte = [0];
    image.read_exact_at(&mut byte, FLIPPED)?;
    image.write_all_at(&[!byte[0]], FLIPPED).context("cannot flip a byte")
}

/// Starts a release; with a folder for evidence, on a machine with a TPM. Once more where the processors stopped: nothing is
/// shown then, neither that a guest comes up nor that it does not.
fn boot(begat: &Path, release: &Path, shape: &str, evidence: Option<&Path>) -> Result<Run> {
    let flags: Vec<&OsStr> = evidence
        .iter()
        .flat_map(|folder| ["--tpm".as_ref(), "--evidence".as_ref(), folder.as_os_str()])
        .chain([shape.as_ref()])
        .collect();
    twice(&format!("{shape} boot"), || start(begat, release, &flags, || Ok(())))
}

/// Starts a copy of the release, of which the host flips a byte of an image when the kernel starts.
fn boot_tampered(begat: &Path, release: &Path, image: &str) -> Result<Run> {
    twice(&format!("boot with {image} flipped"), || {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let (shell, copy) = (host::shell()?, folder.path().join("release"));
        cmd!(shell, "cp -r {release} {copy}").quiet().run()?;
        start(begat, &copy, &["--direct".as_ref()], || flip(&copy.join(image)))
    })
}

fn twice(name: &str, start: impl Fn() -> Result<Run>) -> Result<Run> {
    let run = start()?;
    let Some(stall) = run.stall() else { return Ok(run) };
    println!("{name}: once more, {} s after {stall}", run.seconds);
    start()
}

/// Starts a release and waits for its end; calls `meanwhile` when its kernel starts.
fn start(begat: &Path, release: &Path, flags: &[&OsStr], meanwhile: impl FnOnce() -> Result<()>) -> Result<Run> {
    let (shell, start) = (host::shell()?, Instant::now());
    const WITH_ERRORS: &str = "exec \"$0\" \"$@\" 2>&1";
    let command = cmd!(
        shell,
        "sh -c {WITH_ERRORS} {begat} boot {release} {flags...} --timeout {TIMEOUT}"
    );
    let mut child = Command::from(command).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("its standard output is a pipe")?);
    let (mut console, mut meanwhile) = (String::new(), Some(meanwhile));
    let mut line = Vec::new();
    while output.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        if text.contains(STARTS) {
            meanwhile.take().map_or(Ok(()), |act| act())?;
        }
        console.push_str(&text);
        line.clear();
    }
    Ok(Run {
        code: child.wait()?.code(),
        console,
        seconds: start.elapsed().as_secs(),
    })
}

impl Run {
    /// Returns the kernel's own words where the guest never ended because its processors stopped.
    fn stall(&self) -> Option<&str> {
        let mut lines = self.console.lines().map(str::trim);
        let stall = |line: &&str| line.contains("rcu: ") && (line.contains("stall") || line.contains("starved"));
        if self.console.contains("the guest was not ready after") {
            lines.find(stall)
        } else {
            None
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    fn run(console: &str) -> Run {
        Run {
            code: Some(1),
            console: console.into(),
            seconds: 0,
        }
    }

    #[test]
    fn a_guest_whose_processors_stopped_is_told_from_others() {
        const STALL: &str = "[  589.9] rcu: rcu_sched kthread starved for 5252 jiffies! g1 f0x0 ->cpu=1";
        const OVER: &str = "error: the guest was not ready after 360 s";
        assert_eq!(run(&format!("\n{STALL}\r\n{OVER}")).stall(), Some(STALL));
        assert_eq!(
            run(&format!("[ 1.0] rcu: Hierarchical RCU\n{OVER}")).stall(),
            None,
            "slow"
        );
        assert_eq!(run(&format!("{STALL}\nbegat: refused")).stall(), None, "it recovered");
    }
}
