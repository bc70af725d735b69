//! `begat inspect`: what is in this release?

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::words;
use crate::mend::{Exit, OrMend as _};
use crate::model::lock::{Package, Tree};
use crate::model::measurements::Measurement;
use crate::model::release::{FileName, Stamp};
use crate::model::{self, file};
use crate::model::{Lock, Manifest, Measurements};
use crate::stage::on_disk::OnDisk;

/// Shows what a release says about itself
///
/// Nothing is verified: that is what `begat verify` is for.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The release's folder
    release: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// What a release says about itself.
struct Release {
    manifest: Manifest,
    measurements: Measurements,
    lock: Lock,
}

/// How many of the largest packages are shown.
const LARGEST: usize = 5;

impl Args {
    pub(super) fn run(self) -> Result<()> {
        show(&self.release, self.json)
    }
}

/// Prints what the release in `folder` says about itself.
pub(super) fn show(folder: &Path, json: bool) -> Result<()> {
    let on_disk = OnDisk::open(folder)?;
    let release = Release {
        manifest: on_disk.manifest()?,
        measurements: Measurements::parse(&read(&on_disk, file::MEASUREMENTS)?)?,
        lock: Lock::parse(&read(&on_disk, file::LOCK)?)?,
    };
    match json {
        true => print!("{}", model::json(&release.machine())),
        false => release.people(),
    }
    Ok(())
}

fn read(release: &OnDisk, name: &str) -> Result<String> {
    let problem = format!("cannot read {}", release.path().join(name).display());
    release
        .text(name)
        .or_mend(Exit::No, problem, "see what is missing: begat verify DIR")
}

impl Release {
    fn people(&self) {
        let origin = &self.manifest.origin;
        println!("name     {}", origin.name);
        println!("release  {}", self.manifest.digest());
        println!("recipe   {}", origin.recipe);
        println!("lock     {}", origin.lock);
        println!("epoch    {}", origin.epoch);
        println!("\nfiles");
        for (name, stamp) in &self.manifest.files {
            println!("{:>11}  {name}", size(stamp.size));
        }
        println!("\nmeasurements");
        self.measurements.launches.iter().for_each(show_launch);
        println!("\npackages");
        for (tree, name) in [(Tree::Root, "root"), (Tree::Initrd, "initrd")] {
            println!("{:>11}  {name}", self.lock.packages(tree).count());
        }
        println!("\nlargest packages, as downloaded");
        for package in self.largest() {
            println!("{:>11}  {}", size(package.size), plain(&package.name));
        }
    }

    fn machine(&self) -> Value {
        let manifest = &self.manifest;
        let origin = &manifest.origin;
        let file =
            |(name, stamp): (&FileName, &Stamp)| json!({"name": name, "sha256": stamp.sha256, "size": stamp.size});
        let package =
            |package: &Package| json!({"name": package.name, "size": package.size, "version": package.version});
        json!({
            "epoch": origin.epoch,
            "files": manifest.files.iter().map(file).collect::<Vec<_>>(),
            "largest-packages": self.largest().into_iter().map(package).collect::<Vec<_>>(),
            "launches": self.measurements.launches,
            "lock": origin.lock,
            "name": origin.name,
            "packages": {
                "initrd": self.lock.packages(Tree::Initrd).count(),
                "root": self.lock.packages(Tree::Root).count(),
            },
            "recipe": origin.recipe,
            "release": manifest.digest(),
        })
    }

    /// The largest packages of the guest, largest first.
    fn largest(&self) -> Vec<&Package> {
        let guest = |package: &&Package| {
            [Tree::Root, Tree::Initrd]
                .iter()
                .any(|tree| package.why.contains_key(tree))
        };
        let mut packages: Vec<_> = self.lock.package.iter().filter(guest).collect();
        packages.sort_by_key(|package| std::cmp::Reverse(package.size)); // stable: by name among equals
        packages.truncate(LARGEST);
        packages
    }
}

fn show_launch(measurement: &Measurement) {
    println!("  {}", measurement.launch);
    for value in &measurement.values {
        let case = value.case.as_deref().map(|case| format!(", {}", plain(case)));
        println!("    {}{}", value.quantity, case.unwrap_or_default());
        println!("      {}", value.shown());
        let facts = [
            ("covers", words(&value.covers)),
            ("varies with", words(&value.varies_with)),
        ];
        let facts = facts.iter().filter(|(_, words)| !words.is_empty());
        let facts: Vec<String> = facts.map(|(verb, words)| format!("{verb} {words}")).collect();
        if !facts.is_empty() {
            println!("      {}", facts.join("; "));
        }
    }
}

/// Text of a release that nobody has verified, without what a terminal would obey.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

/// A size for people, in units of 1024 bytes and to a tenth of them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = bytes.saturating_mul(10);
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        (tenths, unit) = (tenths.div_ceil(1024), next);
    }
    match unit {
        "B" => format!("{bytes} B"),
        _ => format!("{}.{} {unit}", tenths / 10, tenths % 10),
    }
}
