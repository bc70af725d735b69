//! `cargo ci bootstrap`: generations that build each other inside booted machines, the verdict on their chain, and what
//! attacks on the real evidence come to.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use crate::site::{Site, add_package};
use crate::{host, rebuild};

/// Builds generation 0 here, boots it with a software TPM, has it build generation 1 inside, boots that, and so on; then
/// verifies the chain, and attacks it. The last generation has a package more, if there are three.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The last generation
    #[arg(long, default_value_t = 3)]
    generation: u32,
    /// The machines measure again and sign what was built here, which takes minutes, instead of building it
    #[arg(long)]
    split: bool,
    /// The machines compile begat, too; on an emulated processor that takes hours, and they take it by the digest of the lock
    #[arg(long, conflicts_with = "split")]
    compile: bool,
}

/// What is built.
pub(crate) const RECIPE: &str = "recipes/builder";

/// What the machine of a builder has, in MiB: with so much of it, a build is done in memory.
const TO_BUILD: &str = "10240";
const TO_MEASURE: &str = "2048";

/// What no release of a builder exceeds, in bytes; and no builder's work.
const OUTPUT: u64 = 4 << 30;
const SCRATCH: u64 = 16 << 30;

/// Seconds for what a machine does; compiling begat on an emulated processor takes hours.
const PATIENCE: &str = "7200";
const TO_COMPILE: &str = "28800";

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let begat = host::begat(&host::shell()?)?;
        let (site, begat) = match (self.split, self.compile) {
            (true, _) => (Site::with(&begat)?, Begat::Supplied),
            (false, true) => (Site::cloned(&begat, RECIPE)?, Begat::CompiledInside),
            (false, false) => (Site::cloned(&begat, RECIPE)?, Begat::Compiled),
        };
        let (line, keys) = line(&site, self.generation, begat)?;
        line.attack(&keys)?;
        line.attack_machines(&keys)
    }
}

/// The reduced loop: one generation, measured again and signed in a booted machine of the one before it.
pub(crate) fn check(site: &Site) -> Result<()> {
    let (line, keys) = line(site, 1, Begat::Supplied)?;
    line.attack(&keys)
}

/// Where the begat in the guests comes from, and so what their machines do.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Begat {
    /// It is the one that was built here, pinned as it is; machines measure again and sign.
    Supplied,
    /// It is compiled from the sources for generation 0 and by its rebuilders; machines build, and take it by its digest.
    Compiled,
    /// Machines compile it, too.
    CompiledInside,
}

/// What the next generation is built from.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Next {
    /// The same lock: it must come out the same.
    Same,
    /// A recipe with one package more.
    Changed,
}

/// Makes the line up to generation `last`, and judges it; returns it with the keys of the machines.
fn line(site: &Site, last: u32, begat: Begat) -> Result<(Line<'_>, BTreeSet<String>)> {
    let (first, here) = first(site, begat)?;
    let mut line = Line {
        site,
        begat,
        releases: vec![first],
        here,
    };
    quorum(site, &line.releases[0], begat)?;
    for number in 1..=last {
        let changed = number == last && last > 2;
        line.extend(number, if changed { Next::Changed } else { Next::Same })?;
    }
    let keys = line.keys(&line.releases)?;
    line.judge(&keys)?;
    Ok((line, keys))
}

/// Locks the recipe of the builder with a begat of this very source, and builds generation 0.
fn first(site: &Site, from: Begat) -> Result<(PathBuf, Duration)> {
    let (begat, program) = (&site.begat, site.path("payload"));
    if from == Begat::Supplied {
        host::need(&site.shell, &[("strip", "binutils")])?;
        cmd!(site.shell, "strip -o {program} {begat}").quiet().run()?;
        pin(&recipe(site))?;
    }
    let (recipe, release) = (recipe(site), site.path("generation-0"));
    lock(site, from)?;
    let start = Instant::now();
    cmd!(site.shell, "{begat} build --locked --sign {recipe} --output {release}")
        .quiet()
        .ignore_stdout()
        .run()?;
    Ok((release, start.elapsed()))
}

fn lock(site: &Site, from: Begat) -> Result<()> {
    let (begat, recipe) = (&site.begat, recipe(site));
    let supplied = match from {
        Begat::Supplied => Some(format!("--supply=begat={}", site.path("payload").display())),
        Begat::Compiled | Begat::CompiledInside => None,
    };
    cmd!(site.shell, "cargo fetch --quiet --locked").quiet().run()?;
    Ok(cmd!(site.shell, "{begat} lock {recipe} {supplied...}").quiet().run()?)
}

/// Takes what is compiled out of the recipe: whoever locks it supplies the program.
fn pin(recipe: &Path) -> Result<()> {
    let file = recipe.join("recipe.toml");
    let text = fs::read_to_string(&file)?;
    let (before, rest) = text.split_once("\n[payload.compile]").context("nothing is compiled")?;
    let (_, after) = rest.split_once("\n\n").context("nothing follows")?;
    let kept = before.lines().filter(|line| !line.starts_with("compiler = "));
    let kept = kept.collect::<Vec<_>>().join("\n");
    Ok(fs::write(file, format!("{kept}\n\n{after}"))?)
}

/// Nobody attested who built generation 0: two operators rebuild it, and both must agree. Where begat is compiled, one of
/// them is another user who compiles it again, elsewhere.
fn quorum(site: &Site, first: &Path, from: Begat) -> Result<()> {
    let alice = rebuild::key(site, "alice")?;
    let here = rebuild::Rebuilder::here(&alice);
    let bob = rebuild::key(site, "bob")?;
    let other = match from {
        Begat::Supplied => rebuild::Rebuilder::here(&bob),
        Begat::Compiled | Begat::CompiledInside => rebuild::Rebuilder::elsewhere(&bob),
    };
    let mut text = String::new();
    for (name, rebuilder) in [("alice", here), ("bob", other)] {
        let outcome = rebuilder.rebuild(site, first)?;
        ensure!(outcome.exit == 0, "{name} gets another release: {:#}", outcome.said);
        let key = outcome.said["key-id"].as_str().context("a rebuilder has a key")?;
        text += &format!("witness {name} {key}\n");
        let statements = first.join("rebuilds");
        fs::create_dir_all(&statements)?;
        fs::write(
            statements.join(format!("{name}.provenance.sigstore.json")),
            outcome.statement,
        )?;
    }
    text += "group both all alice bob\nquorum both\n";
    fs::write(site.path(QUORUM), text)?;
    println!("bootstrap: two rebuilders agree with generation 0");
    Ok(())
}

const QUORUM: &str = "quorum";

fn recipe(site: &Site) -> PathBuf {
    site.path("project").join(RECIPE)
}

/// Releases, each one after the first built in the one before it.
struct Line<'a> {
    site: &'a Site,
    begat: Begat,
    releases: Vec<PathBuf>,
    /// How long the build of generation 0 took here.
    here: Duration,
}

impl Line<'_> {
    /// Has the last generation build the next one, from the same lock, or from one of a recipe with one package more.
    fn extend(&mut self, number: u32, next: Next) -> Result<()> {
        if next == Next::Changed {
            add_package(&recipe(self.site), "hello")?;
            lock(self.site, self.begat)?;
        }
        let start = Instant::now();
        let parent = self.releases.last().context("there is no first generation")?;
        let job = self.pack(self.begat, number, parent)?;
        let (run, output) = self.boot(parent, &job)?;
        run.must_succeed(number - 1)?;
        if self.begat != Begat::Supplied {
            run.compare_times(self.here);
        }
        let release = self.unpack(&output, &format!("generation-{number}"))?;
        println!("bootstrap: generation {number} after {} s", start.elapsed().as_secs());
        match next {
            Next::Same => same(parent, &release)?,
            Next::Changed => self.changed(parent, &release)?,
        }
        self.releases.push(release);
        Ok(())
    }

    /// A package more in the root changes the root and what names it, and nothing else that is measured.
    fn changed(&self, parent: &Path, release: &Path) -> Result<()> {
        let begat = &self.site.begat;
        let explained = cmd!(self.site.shell, "{begat} explain {parent} {release}").quiet();
        let explained = explained.ignore_status().read()?;
        let differs = |name: &str| explained.lines().any(|line| line.starts_with(&format!("{name}: ")));
        let kept = ["vmlinuz", "initrd.cpio.zst", "OVMF-generic.fd", "OVMF-amdsev.fd"];
        let changed: Vec<&str> = kept.into_iter().filter(|name| differs(name)).collect();
        ensure!(changed.is_empty(), "a package more changes {changed:?}");
        ensure!(differs("rootfs.erofs"), "a package more changes nothing");
        explained
            .lines()
            .filter(|line| !line.starts_with(' '))
            .for_each(|line| println!("bootstrap: changed: {line}"));
        Ok(())
    }

    fn pack(&self, from: Begat, number: u32, parent: &Path) -> Result<PathBuf> {
        let (shell, begat, recipe) = (&self.site.shell, &self.site.begat, recipe(self.site));
        let job = self.site.path(&format!("job-{number}.tar"));
        if from != Begat::Supplied {
            let compiled = (from == Begat::Compiled).then_some("--compiled");
            cmd!(
                shell,
                "{begat} job {recipe} {compiled...} --parent {parent} --output {job}"
            )
            .quiet()
            .run()?;
            return Ok(job);
        }
        let built = self.site.path("built");
        cmd!(shell, "{begat} build --locked --force {recipe} --output {built}")
            .quiet()
            .ignore_stdout()
            .run()?;
        cmd!(shell, "{begat} job --split {built} --parent {parent} --output {job}")
            .quiet()
            .run()?;
        Ok(job)
    }

    /// Boots the parent with the job; returns what it said, and the disk that it wrote to.
    fn boot(&self, parent: &Path, job: &Path) -> Result<(Run, PathBuf)> {
        let (shell, begat) = (&self.site.shell, &self.site.begat);
        let (output, scratch) = (self.site.path("output"), self.site.path("scratch"));
        File::create(&output)?.set_len(OUTPUT)?;
        File::create(&scratch)?.set_len(SCRATCH)?;
        let (memory, patience) = match self.begat {
            Begat::Supplied => (TO_MEASURE, PATIENCE),
            Begat::Compiled => (TO_BUILD, PATIENCE),
            Begat::CompiledInside => (TO_BUILD, TO_COMPILE),
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

    fn unpack(&self, output: &Path, name: &str) -> Result<PathBuf> {
        let (shell, release) = (&self.site.shell, self.site.path(name));
        fs::create_dir(&release)?;
        cmd!(
            shell,
            "tar --extract --strip-components=1 --directory {release} --file {output}"
        )
        .quiet()
        .run()?;
        fs::remove_file(output)?;
        Ok(release)
    }

    /// Without a word of the policy on their keys, software TPMs vouch for nothing. Returns those keys.
    fn keys(&self, releases: &[PathBuf]) -> Result<BTreeSet<String>> {
        let (exit, said) = self.verify(&BTreeSet::new(), releases)?;
        ensure!(exit == 1, "software TPMs are believed: exit {exit}");
        let keys = findings(&said).filter_map(|finding| finding["key"].as_str().map(String::from));
        let keys: BTreeSet<String> = keys.collect();
        let machines = releases.len() - 1;
        ensure!(keys.len() == machines, "{} keys of {machines} machines", keys.len());
        println!("bootstrap: without a policy that names the TPMs, {}", codes(&said));
        Ok(keys)
    }

    fn judge(&self, keys: &BTreeSet<String>) -> Result<()> {
        let (exit, said) = self.verify(keys, &self.releases)?;
        ensure!(exit == 0, "the chain does not verify: exit {exit}, {}", codes(&said));
        for one in said["line"].as_array().into_iter().flatten() {
            println!("bootstrap: generation {} {}", one["generation"], one["release"]);
        }
        println!("bootstrap: the chain of {} generations verifies", self.releases.len());
        Ok(())
    }

    /// Each attack must be found out, under its own name.
    fn attack(&self, keys: &BTreeSet<String>) -> Result<()> {
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
    fn attack_machines(&self, keys: &BTreeSet<String>) -> Result<()> {
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
        let (run, _) = self.boot(parent, &job)?;
        ensure!(
            run.code != Some(0) && run.text.contains(FAILED),
            "an edited store is believed"
        );
        println!("bootstrap: an edited store: {FAILED}");
        Ok(())
    }

    /// Has generation 1 made on `machine` by a job in which something is replaced, and returns what is found out.
    fn verdict_of_machine(
        &self,
        keys: &BTreeSet<String>,
        name: &str,
        machine: &Path,
        edit: Option<(&[u8], &[u8])>,
    ) -> Result<String> {
        let line = Line {
            site: self.site,
            begat: Begat::Supplied,
            releases: self.releases.clone(),
            here: self.here,
        };
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

    fn verify(&self, keys: &BTreeSet<String>, releases: &[PathBuf]) -> Result<(i32, Value)> {
        let policy = self.site.path("trust.toml");
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let text = format!(
            "allow-split = {}\n[tpm]\nallow-measured-boot = true\nkeys = [{}]\n",
            self.begat == Begat::Supplied,
            keys.join(", ")
        );
        fs::write(&policy, text)?;
        let (begat, quorum) = (&self.site.begat, self.site.path(QUORUM));
        let run = cmd!(
            self.site.shell,
            "{begat} chain verify --json --trust {policy} --quorum {quorum} {releases...}"
        );
        let run = run.quiet().ignore_status().output()?;
        let said = serde_json::from_slice(&run.stdout);
        let said = said.with_context(|| String::from_utf8_lossy(&run.stderr).into_owned())?;
        Ok((run.status.code().unwrap_or(-1), said))
    }
}

/// What a machine said, and how it ended.
struct Run {
    code: Option<i32>,
    text: String,
}

impl Run {
    fn must_succeed(&self, number: u32) -> Result<()> {
        let said = self.text.lines().filter(|line| line.contains("job["));
        said.for_each(|line| println!("generation {number}: {line}"));
        ensure!(self.code == Some(0), "generation {number} failed:\n{}", self.text);
        Ok(())
    }
}

impl Run {
    /// Says how long the job took, next to the same build here, and what of it took how long.
    fn compare_times(&self, here: Duration) {
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

/// The fixed point: the same lock makes the same release, wherever it is built.
fn same(outside: &Path, inside: &Path) -> Result<()> {
    let manifests = [outside, inside].map(|release| fs::read(release.join("manifest.json")));
    let [outside, inside] = manifests.map(|manifest| manifest.map(measure::Sha256::of));
    let (outside, inside) = (outside?, inside?);
    ensure!(outside == inside, "built here it is {outside}, built inside {inside}");
    println!("bootstrap: fixed point {inside}");
    Ok(())
}

fn findings(said: &Value) -> impl Iterator<Item = &Value> {
    let line = said["line"].as_array().into_iter().flatten();
    line.flat_map(|one| one["findings"].as_array().into_iter().flatten())
}

fn codes(said: &Value) -> String {
    let codes: BTreeSet<&str> = findings(said).filter_map(|finding| finding["code"].as_str()).collect();
    codes.into_iter().collect::<Vec<_>>().join(", ")
}
