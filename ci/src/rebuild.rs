//! `cargo ci rebuild`: an independent rebuilder agrees with a release, is counted by a quorum, and says where a release
//! that somebody has changed differs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use measure::Sha256;
use serde_json::Value;
use xshell::cmd;

use crate::host;
use crate::reproduce::{CONDITIONS, Conditions};
use crate::site::Site;

/// Another user, in another folder, with a store of its own.
const REBUILDER: &Conditions = &CONDITIONS[1];

/// Builds a release; then does the check.
pub(crate) fn run() -> Result<()> {
    let site = Site::new()?;
    let release = site.path("first");
    site.lock()?;
    site.build(&CONDITIONS[0], &release)?;
    check(&site, &release)
}

/// Rebuilds the release, verifies it with a quorum, and rebuilds one with a planted difference.
pub(crate) fn check(site: &Site, release: &Path) -> Result<()> {
    let key = key(site, "rebuilder.pem")?;
    let rebuilder = Rebuilder {
        conditions: REBUILDER,
        key: &key,
    };
    let same = rebuilder.rebuild(site, release)?;
    ensure!(same.exit == 0, "the rebuild ends with {}: {:#}", same.exit, same.said);
    println!("rebuild: another user gets the same: {}", same.said["rebuilt"]);
    vote(site, release, &same)?;
    let planted = site.path("planted");
    plant(site, release, &planted)?;
    let other = rebuilder.rebuild(site, &planted)?;
    ensure!(
        other.exit == 1,
        "the rebuild of a planted difference ends with {}",
        other.exit
    );
    located(&other.said)?;
    println!(
        "rebuild: a planted difference is located: {}",
        other.said["differences"][0]
    );
    disagree(site, &planted, &other)
}

/// What a rebuild said.
pub(crate) struct Outcome {
    pub(crate) exit: i32,
    pub(crate) said: Value,
    /// The text of its statement.
    pub(crate) statement: String,
}

/// Makes a key that other users can read, too.
pub(crate) fn key(site: &Site, name: &str) -> Result<PathBuf> {
    let key = site.path(name);
    host::need(&site.shell, &[("openssl", "openssl")])?;
    cmd!(site.shell, "openssl genpkey -quiet -algorithm ED25519 -out {key}")
        .quiet()
        .run()?;
    cmd!(site.shell, "chmod 644 {key}").quiet().run()?;
    Ok(key)
}

/// Who rebuilds, and with which key.
pub(crate) struct Rebuilder<'a> {
    conditions: &'a Conditions,
    key: &'a Path,
}

impl<'a> Rebuilder<'a> {
    /// This user.
    pub(crate) fn here(key: &'a Path) -> Self {
        let conditions = &CONDITIONS[0];
        Self { conditions, key }
    }

    /// Another user, in another folder, with a store of its own.
    pub(crate) fn elsewhere(key: &'a Path) -> Self {
        let conditions = &CONDITIONS[3];
        Self { conditions, key }
    }

    /// Rebuilds from a copy of the release and, where the user is another, a copy of the store.
    pub(crate) fn rebuild(&self, site: &Site, release: &Path) -> Result<Outcome> {
        let (here, key) = (site.path(self.conditions.folder), self.key);
        fs::create_dir_all(&here)?;
        let copy = here.join("release");
        cmd!(site.shell, "cp -r {release} {copy}").quiet().run()?;
        let flags = site.supply(self.conditions, &here)?;
        let (begat, prefix) = (&site.begat, self.conditions.prefix(&site.shell)?);
        let (work, output) = (here.join("work"), here.join("statements"));
        let run = cmd!(
            site.shell,
            "env {prefix...} {begat} rebuild {copy} --json --key {key} --output {output} --workspace {work} {flags...}"
        );
        let run = run.quiet().ignore_status().output()?;
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        let problem = || format!("{text}\n{}", String::from_utf8_lossy(&run.stderr));
        let said: Value = serde_json::from_str(&text).with_context(problem)?;
        let statement = said["statement"].as_str().with_context(problem)?;
        let statement = fs::read_to_string(statement)?;
        fs::remove_dir_all(here)?;
        Ok(Outcome {
            exit: run.status.code().unwrap_or(-1),
            said,
            statement,
        })
    }
}

/// A quorum that names the rebuilder is met; one that wants two operators is not.
fn vote(site: &Site, release: &Path, outcome: &Outcome) -> Result<()> {
    let copy = with_statement(site, release, outcome, "agreeing")?;
    let key = outcome.said["key-id"].as_str().context("there is no key")?;
    let one = format!("witness rebuilder {key}\nquorum rebuilder\n");
    let met = verify(site, &copy, &one)?;
    ensure!(
        met.0 == 0 && met.1.contains("the same"),
        "the quorum is not met:\n{}",
        met.1
    );
    let other = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
    let two = format!("witness rebuilder {key}\nwitness other {other}\ngroup both all rebuilder other\nquorum both\n");
    let missed = verify(site, &copy, &two)?;
    ensure!(
        missed.0 == 1 && missed.1.contains("quorum-not-met"),
        "one of two is enough:\n{}",
        missed.1
    );
    println!("rebuild: a quorum of one is met, one of two is not");
    Ok(fs::remove_dir_all(copy)?)
}

/// The statement about what came out blocks the release that somebody has changed.
fn disagree(site: &Site, planted: &Path, outcome: &Outcome) -> Result<()> {
    let copy = with_statement(site, planted, outcome, "disagreeing")?;
    let key = outcome.said["key-id"].as_str().context("there is no key")?;
    let blocked = verify(site, &copy, &format!("witness rebuilder {key}\nquorum none\n"))?;
    ensure!(
        blocked.0 == 1 && blocked.1.contains("rebuild-disagrees"),
        "it does not block:\n{}",
        blocked.1
    );
    println!("rebuild: a signed disagreement blocks");
    Ok(())
}

fn with_statement(site: &Site, release: &Path, outcome: &Outcome, name: &str) -> Result<std::path::PathBuf> {
    let copy = site.path(name);
    cmd!(site.shell, "cp -r {release} {copy}").quiet().run()?;
    let folder = copy.join("rebuilds");
    fs::create_dir(&folder)?;
    fs::write(folder.join("rebuilder.provenance.sigstore.json"), &outcome.statement)?;
    Ok(copy)
}

fn verify(site: &Site, release: &Path, quorum: &str) -> Result<(i32, String)> {
    let (begat, file) = (&site.begat, site.path("quorum"));
    fs::write(&file, quorum)?;
    let run = cmd!(site.shell, "{begat} verify {release} --quorum {file}")
        .quiet()
        .ignore_status()
        .output()?;
    Ok((
        run.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&run.stdout).into_owned(),
    ))
}

/// A file of the root image is changed in its image and on the disk, and the manifest is written anew: every file is that
/// of its manifest.
fn plant(site: &Site, release: &Path, planted: &Path) -> Result<()> {
    cmd!(site.shell, "cp -r {release} {planted}").quiet().run()?;
    let mut changed = 0;
    for file in ["rootfs.erofs", "disk.raw"] {
        let path = planted.join(file);
        let mut bytes = fs::read(&path)?;
        let (old, new) = (b"Readiness marker on".as_slice(), b"Readiness market on".as_slice());
        while let Some(at) = bytes.windows(old.len()).position(|window| window == old) {
            bytes[at..at + new.len()].copy_from_slice(new);
            changed += 1;
        }
        fs::write(path, bytes)?;
    }
    ensure!(
        changed == 2,
        "the file is not once in the image and once on the disk as it is, but {changed} times"
    );
    reseal(planted)
}

fn reseal(release: &Path) -> Result<()> {
    let path = release.join("manifest.json");
    let mut text = fs::read_to_string(&path)?;
    let manifest: Value = serde_json::from_str(&text)?;
    for file in manifest["files"].as_array().context("the manifest has no files")? {
        let (name, old) = (file["name"].as_str(), file["sha256"].as_str());
        let (name, old) = name.zip(old).context("a file has no digest")?;
        text = text.replace(old, &Sha256::of(fs::read(release.join(name))?).to_string());
    }
    Ok(fs::write(path, text)?)
}

/// The first difference is in the root image, and the disk's is in its root partition, at the path that was changed.
fn located(said: &Value) -> Result<()> {
    let differences = said["differences"].as_array().context("there are no differences")?;
    let path = |file: &str| {
        let mut differences = differences.iter();
        differences
            .find(|it| it["file"] == file)
            .map(|it| (it["path"].clone(), it["partition"].clone()))
    };
    let (root, _) = path("rootfs.erofs").context("the root image does not differ")?;
    let (disk, partition) = path("disk.raw").context("the disk does not differ")?;
    let located = root
        .as_str()
        .is_some_and(|path| path.starts_with("/usr/lib/systemd/system/"))
        && root == disk;
    ensure!(located && partition.is_string(), "it is not located:\n{said:#}");
    Ok(())
}
