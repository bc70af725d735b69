//! The work that only the documents of a release need, done again on a finished one: its time on all cores and on the
//! wall, part by part. `cargo ci bench documents` calls it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use builder::debian::members::Members;
use builder::model::artifacts::file;
use builder::model::lock::{Lock, Tree};
use builder::model::record::Terms;
use builder::model::release::{MANIFEST, Manifest};
use builder::stage::derived::Source;
use builder::stage::describe::{self, Described};
use builder::stage::guest::Deb;
use builder::stage::on_disk::OnDisk;
use builder::stage::origins::Packages;
use builder::stage::parse::Project;
use builder::stage::plain::{self, Pool};
use builder::stage::release::{Existing, Hashes, Staging, Stamps};
use builder::stage::{contents, payload, sign};
use builder::world::environment::Environment;
use builder::world::files;
use builder::world::store::Store;
use measure::Sha512;
use measure::uki::Uki;

/// What is worked on.
struct Bench {
    project: Project,
    lock: Lock,
    store: Store,
    release: PathBuf,
    manifest: Manifest,
}

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).filter(|argument| argument != "--bench"); // cargo's own
    let arguments: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let [recipe, release] = arguments.as_slice() else {
        println!("usage: documents RECIPE RELEASE");
        return Ok(());
    };
    Bench::open(recipe, release)?.run()
}

impl Bench {
    fn open(recipe: &Path, release: &Path) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(release.join(name)).with_context(|| format!("there is no {name}"));
        Ok(Self {
            project: Project::read(recipe)?,
            lock: Lock::parse(&read("recipe.lock")?)?,
            store: Store::locate(None, &Environment::of_this_process())?,
            release: release.into(),
            manifest: Manifest::parse(&read(MANIFEST)?)?,
        })
    }

    fn run(&self) -> Result<()> {
        let memory = tempfile::tempdir_in("/dev/shm").context("there is no memory to work in")?;
        let debs = self.debs();
        let decompressed = timed("packages decompressed", || {
            plain::decompress(&self.store, debs.iter(), &memory.path().join("packages"))
        });
        let (pool, mut packages) = decompressed?;
        self.read_members(&debs, &pool)?;
        timed("members handed over", || hand_over(&packages))?;
        let beside = timed("packages beside", || describe::packages_beside(&self.lock, &self.store));
        packages.extend(beside?);
        let hashes = self.hash()?;
        timed("images read back", || {
            contents::read(&OnDisk::open(&self.release)?).map(drop)
        })?;
        timed("images and documents", || self.describe(&packages, &hashes))?;
        self.sign(memory.path())
    }

    fn debs(&self) -> Vec<Deb> {
        let trees = [Tree::Root, Tree::Initrd, Tree::Kernel].into_iter();
        let mut seen = BTreeSet::new();
        let debs = trees.flat_map(|tree| self.lock.packages(tree).map(Deb::from));
        debs.filter(|deb| seen.insert(deb.sha256)).collect()
    }

    /// What decompressing does beside reading packages, decompressing, writing, and the digest that apt is told.
    fn read_members(&self, debs: &[Deb], pool: &Pool) -> Result<()> {
        let read = |deb: &Deb| {
            Ok((
                fs::read(self.store.path(&deb.sha256))?,
                File::open(&pool[&deb.sha256].path)?,
            ))
        };
        let packages: Vec<_> = debs.iter().map(read).collect::<Result<_>>()?;
        timed("members of packages", || {
            let members = files::for_each(&packages, |(deb, plain)| Members::read_from(plain, Sha512::of(deb)));
            members.into_iter().try_for_each(|members| members.map(drop))
        })
    }

    /// What the digests that only bills of materials ask for add to those of the manifest.
    fn hash(&self) -> Result<Hashes> {
        let staging = Staging::begin(&self.release, Existing::Replace)?; // never published
        staging.take_over(|path| !file::boots(&path.to_string_lossy()))?;
        let (_, stamps) = measured(|| staging.stamps(Stamps::new()))?;
        let (hashes, both) = measured(|| staging.hashes())?;
        let (cpu, wall) = (both.cpu - stamps.cpu, both.wall - stamps.wall);
        print("SHA-512 of what boots", &Time { cpu, wall });
        Ok(hashes)
    }

    fn describe(&self, packages: &Packages, hashes: &Hashes) -> Result<()> {
        let (project, lock) = (&self.project, &self.lock);
        let described = Described {
            release: &OnDisk::open(&self.release)?,
            recipe: &project.recipe,
            lock,
            uname: &self.uname()?,
            firmware: &Source { project, lock }.firmware(),
            hashes,
            packages,
            payloads: &payload::all(&self.lock, &self.store)?,
        };
        described.documents().map(drop)
    }

    /// Signs a copy of the release as a build does.
    fn sign(&self, folder: &Path) -> Result<()> {
        let staging = Staging::begin(&folder.join("signed"), Existing::Refuse)?;
        for name in self.manifest.files.keys().map(|name| name.as_str()).chain([MANIFEST]) {
            if name != file::DISK {
                fs::copy(self.release.join(name), staging.folder().join(name))?;
            }
        }
        timed("signing", || {
            let key = sign::ephemeral()?;
            sign::sign_new(&staging, &self.manifest, &sign::run(None)?, Terms::default(), &key).map(drop)
        })
    }

    /// The kernel's release.
    fn uname(&self) -> Result<String> {
        let uki = fs::read(self.release.join(file::UKI))?;
        let uki = Uki::read(&uki).context("the UKI cannot be read")?;
        Ok(str::from_utf8(uki.section(".uname").context("the UKI has no .uname")?)?.into())
    }
}

/// The line from the sandbox.
fn hand_over(packages: &Packages) -> Result<()> {
    let line = serde_json::to_vec(packages)?;
    serde_json::from_slice::<Packages>(&line)?;
    Ok(())
}

/// CPU time and time on the wall, both in seconds.
struct Time {
    cpu: f64,
    wall: f64,
}

/// Does the work and prints its name and its time.
fn timed<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (done, time) = measured(work)?;
    print(name, &time);
    Ok(done)
}

fn measured<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Time)> {
    let (start, clock) = (cpu()?, Instant::now());
    let done = work()?;
    let (cpu, wall) = (cpu()? - start, clock.elapsed().as_secs_f64());
    Ok((done, Time { cpu, wall }))
}

fn print(name: &str, Time { cpu, wall }: &Time) {
    println!("{name}\t{cpu:.2}\t{wall:.2}");
}

/// CPU time of this process, in seconds: `utime` and `stime` of proc_pid_stat(5), in ticks, of which a second has 100.
fn cpu() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').context("the process has no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}
