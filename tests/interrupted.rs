//! Whole builds of `recipes/minimal`, from the real archive: killed in each stage, two at once, and on a full disk.
//!
//! One test after the other, because each takes what the machine has. Packages that this user's store has are taken
//! from there; the rest comes from the mirrors of the host.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the binary is what is tested, and a panic is how a test fails"
)]

mod begat;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use begat::{Running, names, run, wait_until, with_memory_at};
use builder::world::Environment;
use tempfile::TempDir;

/// A checkout of the recipe, a store of its own, and a folder for releases.
struct Site {
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let site = Self { folder };
        fs::create_dir(site.path("recipes")).unwrap();
        for name in ["firmware", "kernels", "recipes/minimal"] {
            copy("-a", &checkout.join(name), &site.path(name));
        }
        let _ = fs::remove_file(site.path("recipes/minimal/recipe.lock"));
        fs::create_dir(site.path("releases")).unwrap();
        fs::create_dir(site.path("store")).unwrap();
        let cached = Environment::of_this_process().cache.unwrap().join("begat/sha256");
        if cached.exists() && !copy("-al", &cached, &site.path("store/sha256")) {
            copy("-a", &cached, &site.path("store/sha256")); // another file system
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A build; it sees the environment, because the way to the mirrors may lead through a proxy.
    fn build(&self, release: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_begat"));
        command.arg("build").arg(self.path("recipes/minimal"));
        command.arg("--store").arg(self.path("store"));
        command.arg("--output").arg(self.path("releases").join(release));
        command
    }

    /// Starts a build, waits until it says `text` and `happened` is true, and kills it.
    #[track_caller]
    fn kill(&self, text: &str, happened: impl Fn(&Running) -> bool) {
        let mut running = Running::start(&mut self.build("minimal"));
        running.wait_for(text);
        wait_until(text, || happened(&running));
        running.kill();
        println!("killed at {text:?}");
        assert!(!self.path("releases/minimal").exists(), "half a release after {text:?}");
    }

    /// A file of the release that is being built.
    fn partial(&self, file: &str) -> Option<PathBuf> {
        let folder = names(&self.path("releases"))
            .into_iter()
            .find(|name| name.starts_with(".minimal.partial-"))?;
        Some(self.path("releases").join(folder).join(file))
    }

    fn manifest(&self, release: &str) -> Vec<u8> {
        fs::read(self.path("releases").join(release).join("manifest.json")).unwrap()
    }
}

/// Copies a folder with its links and modes; false where `cp` cannot.
fn copy(how: &str, from: &Path, to: &Path) -> bool {
    let _ = fs::remove_dir_all(to);
    Command::new("cp")
        .arg(how)
        .arg(from)
        .arg(to)
        .status()
        .unwrap()
        .success()
}

#[test]
fn killed_in_each_stage_then_on_full_disks_then_two_at_once() {
    let site = Site::new();
    site.kill("signed metadata", |_| true);
    assert!(!site.path("recipes/minimal/recipe.lock").exists());
    site.kill("fetch", |_| true);
    let trees = || names(&site.path("store/trees"));
    site.kill("fetch", |_| trees().iter().any(|name| name.starts_with(".partial-")));
    let half = trees();
    site.kill("with mkosi", |running| running.processes() > 4);
    assert!(
        half.iter().all(|name| !trees().contains(name)),
        "half a tool tree stays: {half:?}"
    );
    site.kill("root image and initrd", |_| true);
    let disk = || site.partial("disk.raw").and_then(|disk| fs::metadata(disk).ok());
    site.kill("dm-verity", |_| disk().is_some_and(|disk| disk.len() > 0));
    site.kill("documents and manifest", |_| true);
    full_disks(&site);
    two_at_once(&site);
}

fn full_disks(site: &Site) {
    let full = |folder: &str, size: &str, mend: &str| {
        fs::create_dir_all(site.path(folder)).unwrap();
        let ran = with_memory_at(vec![(site.path(folder), size.into())], || {
            let mut build = site.build("minimal");
            if folder == "work" {
                build.arg("--workspace").arg(site.path(folder));
            }
            let ended = run(&mut build);
            ended.fails(
                6,
                &["the disk of the", "is full", folder, "mend: make room there", mend],
            );
            assert_eq!(names(&site.path("releases")), [""; 0]);
        });
        if !ran {
            println!("skipped: a small file system under {folder} needs root");
        }
    };
    full("releases", "size=24m", "--output DIR");
    full("work", "size=80m", "--workspace DIR");
}

/// One of them replaces what is there. Same lock, same bytes.
fn two_at_once(site: &Site) {
    let old = site.path("releases/other");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("manifest.json"), "{}").unwrap();
    fs::write(old.join("old"), "old").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| run(&mut site.build("minimal")).is_fine());
        scope.spawn(|| run(site.build("other").arg("--force")).is_fine());
    });
    assert_eq!(names(&site.path("releases")), ["minimal", "other"]);
    assert!(!old.join("old").exists());
    assert_eq!(site.manifest("minimal"), site.manifest("other"));
    for release in ["minimal", "other"] {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_begat"));
        run(verify.arg("verify").arg(site.path("releases").join(release))).is_fine();
    }
    assert_eq!(names(&site.path("store/partial")), [""; 0]);
    assert!(
        names(&site.path("store/trees"))
            .iter()
            .all(|name| !name.starts_with('.'))
    );
}
