//! Attacks on a line of generations: on the releases and their evidence, and on the machines from outside of them.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use super::machine::Run;
use super::{Begat, Line, codes};

impl Line<'_> {
    /// Each attack must be found out, under its own name.
    pub(super) fn attack(&self, keys: &BTreeSet<String>) -> Result<()> {
        for (name, attack, code) in ATTACKS {
            let copies = self.copy()?;
            attack(&copies)?;
            let (exit, said) = self.verify(keys, &copies)?;
            let codes = codes(&said);
            ensure!(exit == 1 && codes.contains(code), "{name}: exit {exit}, {codes}");
            println!("bootstrap: {name}: {codes}");
        }
        let [first, _, rest @ ..] = self.releases.as_slice() else {
            return Ok(());
        };
        if rest.is_empty() {
            return Ok(());
        }
        let (exit, said) = self.verify(keys, &[std::slice::from_ref(first), rest].concat())?;
        let codes = codes(&said);
        ensure!(
            exit == 1 && codes.contains("parent-missing"),
            "a generation left out: {codes}"
        );
        println!("bootstrap: a generation left out: {codes}");
        Ok(())
    }

    /// Attacks on the machine of generation 0 and what it is given, from outside of it.
    pub(super) fn attack_machines(&self, keys: &BTreeSet<String>) -> Result<()> {
        let parent = &self.releases[0];
        let code = self.verdict_of_machine(keys, "another command line", &other_command_line(self)?, None)?;
        ensure!(code.contains("launch-unknown"), "another command line: {code}");
        let code = self.verdict_of_machine(
            keys,
            "an edited job",
            parent,
            Some((b"generation = 1", b"generation = 7")),
        )?;
        ensure!(code.contains("generation-differs"), "an edited job: {code}");
        let job = self.pack(Begat::Compiled, 1, parent)?;
        flip_middle(&job)?;
        self.boot(parent, &job)?.0.must_fail("an edited store")?;
        self.edit_scratch(parent)
    }

    /// Somebody writes to the scratch disk of a machine whose memory is too small to do without.
    fn edit_scratch(&self, parent: &Path) -> Result<()> {
        const LITTLE: &str = "640"; // MiB: less than a release and what measures it
        let line = self.measuring();
        let job = line.pack(Begat::Supplied, 1, parent)?;
        let (scratch, done) = (line.scratch(), AtomicBool::new(false));
        let run: Run = thread::scope(|threads| {
            let edits = threads.spawn(|| flip_until(&scratch, &done));
            let run = line.boot_with(LITTLE, parent, &job);
            done.store(true, Ordering::Relaxed);
            let flipped = edits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            ensure!(flipped > 0, "nothing was on the scratch disk");
            anyhow::Ok(run?.0)
        })?;
        run.must_fail("an edited scratch disk")
    }

    /// The same releases, of machines that measure again and sign.
    fn measuring(&self) -> Line<'_> {
        Line {
            site: self.site,
            begat: Begat::Supplied,
            releases: self.releases.clone(),
            here: self.here,
        }
    }

    /// Has generation 1 made on `machine` by a job in which something is replaced, and returns what is found out.
    fn verdict_of_machine(
        &self,
        keys: &BTreeSet<String>,
        name: &str,
        machine: &Path,
        edit: Option<(&[u8], &[u8])>,
    ) -> Result<String> {
        let line = self.measuring();
        let job = line.pack(Begat::Supplied, 1, &self.releases[0])?;
        if let Some((from, to)) = edit {
            edit_job(&job, from, to)?;
        }
        let (_, output) = line.boot(machine, &job)?;
        let release = line.unpack(&output, &name.replace(' ', "-"))?;
        let releases = [self.releases[0].clone(), release];
        let keys = keys.union(&line.keys(&releases)?).cloned().collect();
        let (exit, said) = line.verify(&keys, &releases)?;
        ensure!(exit == 1, "{name} is not found out");
        println!("bootstrap: {name}: {}", codes(&said));
        Ok(codes(&said))
    }

    /// The same files under other names; an attack replaces a name, never what is in a file.
    fn copy(&self) -> Result<Vec<PathBuf>> {
        let shell = &self.site.shell;
        let folder = self.site.path("attacked");
        shell.remove_path(&folder)?;
        fs::create_dir(&folder)?;
        let copy = |release: &PathBuf| {
            cmd!(shell, "cp --recursive --link {release} {folder}").quiet().run()?;
            Ok(folder.join(release.file_name().context("a release has a name")?))
        };
        self.releases.iter().map(copy).collect()
    }
}

/// Generation 0, started with one more parameter.
fn other_command_line(line: &Line<'_>) -> Result<PathBuf> {
    let (shell, from, to) = (
        &line.site.shell,
        &line.releases[0],
        line.site.path("other-command-line"),
    );
    cmd!(shell, "cp --recursive --link {from} {to}").quiet().run()?;
    let path = to.join("cmdline");
    let text = fs::read_to_string(&path)?;
    replace(&path, format!("{text} systemd.log_level=info"))?;
    Ok(to)
}

/// In the first member of the archive, whose checksum does not cover it.
fn edit_job(job: &Path, from: &[u8], to: &[u8]) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(job)?;
    let mut start = [0; 1024];
    file.read_exact_at(&mut start, 0)?;
    let place = start.windows(from.len()).position(|bytes| bytes == from);
    Ok(file.write_all_at(to, place.context("the job has no such text")? as u64)?)
}

fn flip_middle(file: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let (middle, mut byte) = (file.metadata()?.len() / 2, [0]);
    file.read_exact_at(&mut byte, middle)?;
    Ok(file.write_all_at(&[byte[0] ^ 1], middle)?)
}

/// A name, what is done to the copies of the releases, and the finding that it must come to.
type Attack = (&'static str, fn(&[PathBuf]) -> Result<()>, &'static str);

const ATTACKS: [Attack; 4] = [
    ("a replayed quote", replay, "report-data-differs"),
    ("a cut event log", cut_log, "tpm-"),
    ("an edited output", edit_output, "digest-differs"),
    ("an edited record", edit_record, "statement-differs"),
];

const DISPATCH: &str = "evidence/dispatch.json";
const COMPLETION: &str = "evidence/completion.json";

fn last(releases: &[PathBuf]) -> Result<&PathBuf> {
    releases.last().context("there is no release")
}

/// Writes a file anew, under the same name.
fn replace(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    fs::remove_file(path)?;
    Ok(fs::write(path, text)?)
}

/// The quote over the request, for that over the record.
fn replay(releases: &[PathBuf]) -> Result<()> {
    let release = last(releases)?;
    replace(&release.join(COMPLETION), fs::read(release.join(DISPATCH))?)
}

/// The log ends before the kernel was started.
fn cut_log(releases: &[PathBuf]) -> Result<()> {
    let path = last(releases)?.join(COMPLETION);
    let mut evidence: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let log = evidence["event-log"].as_str().context("there is no event log")?;
    let half = log.len() / 8 * 4; // four characters of base64 are three bytes
    evidence["event-log"] = log[..half].into();
    replace(&path, evidence.to_string())
}

fn edit_output(releases: &[PathBuf]) -> Result<()> {
    let path = last(releases)?.join("rootfs.erofs");
    let mut image = fs::read(&path)?;
    let middle = image.len() / 2;
    image[middle] ^= 1;
    replace(&path, image)
}

/// Another number, to look newer.
fn edit_record(releases: &[PathBuf]) -> Result<()> {
    let path = last(releases)?.join("record.json");
    let text = fs::read_to_string(&path)?;
    let number = releases.len() - 1;
    replace(
        &path,
        text.replace(
            &format!("\"generation\":{number},"),
            &format!("\"generation\":{},", number + 1),
        ),
    )
}

/// Flips bits all over a disk, again and again until it is done, and returns how many: whatever is read back was changed.
/// What is written first, which says that there is a file system, stays.
fn flip_until(disk: &Path, done: &AtomicBool) -> Result<u64> {
    const FIRST: u64 = 64 << 20;
    const STEP: usize = 1 << 16;
    let mut flipped = 0;
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_secs(3));
        let Ok(file) = OpenOptions::new().read(true).write(true).open(disk) else {
            continue; // the machine does not run yet
        };
        let mut byte = [0];
        for place in (FIRST..file.metadata()?.len()).step_by(STEP) {
            file.read_exact_at(&mut byte, place)?;
            if byte != [0] {
                file.write_all_at(&[byte[0] ^ 1], place)?;
                flipped += 1;
            }
        }
    }
    Ok(flipped)
}
