//! `cargo ci bootstrap`: generations that build each other inside booted machines, the verdict on their chain, and what
//! attacks on the real evidence come to.

mod attacks;
mod machine;

use std::collections::BTreeSet;
use std::fs;
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

/// What `chain verify` exports: reference values of the last good generation.
const MESSAGE: &str = "message.json";

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
        let message = fs::remove_file(self.site.path(MESSAGE));
        message.context("of generation 0, which is good, no reference values are exported")?;
        println!("bootstrap: without a policy that names the TPMs, {}", codes(&said));
        Ok(keys)
    }

    fn judge(&self, keys: &BTreeSet<String>) -> Result<()> {
        let (exit, said) = self.verify(keys, &self.releases)?;
        ensure!(exit == 0, "the chain does not verify: exit {exit}, {}", codes(&said));
        for one in said["line"].as_array().into_iter().flatten() {
            println!("bootstrap: generation {} {}", one["generation"], one["release"]);
        }
        let last = self.releases.last().context("there is no generation")?;
        let [wanted, found] = [last.join("rvps-message.json"), self.site.path(MESSAGE)].map(fs::read);
        ensure!(
            wanted? == found?,
            "other reference values are exported than those of the last generation"
        );
        println!("bootstrap: the chain of {} generations verifies", self.releases.len());
        Ok(())
    }

    fn verify(&self, keys: &BTreeSet<String>, releases: &[PathBuf]) -> Result<(i32, Value)> {
        let policy = self.site.path("trust.toml");
        let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
        let text = format!(
            "allow-split = {}\n[tpm]\nallow-measured-boot = true\nallow-weaker-than-predicted = true\nkeys = [{}]\n",
            self.begat == Begat::Supplied,
            keys.join(", ")
        );
        fs::write(&policy, text)?;
        let (begat, quorum, message) = (&self.site.begat, self.site.path(QUORUM), self.site.path(MESSAGE));
        let run = cmd!(
            self.site.shell,
            "{begat} chain verify --json --trust {policy} --quorum {quorum} --message {message} {releases...}"
        );
        let run = run.quiet().ignore_status().output()?;
        let said = serde_json::from_slice(&run.stdout);
        let said = said.with_context(|| String::from_utf8_lossy(&run.stderr).into_owned())?;
        Ok((run.status.code().unwrap_or(-1), said))
    }
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
