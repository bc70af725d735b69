//! Releases appear whole or not at all; whatever is done to one afterwards is a finding, named after what was done.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use builder::mend::{self, Exit};
use builder::model::release::{MANIFEST, Manifest};
use builder::stage::explain::{Side, explain};
use builder::stage::export::Release;
use builder::stage::finding::Finding;
use builder::stage::release::{Existing, Staging, Stamps};
use builder::stage::verify;
use fixture::{fill, origin, publish};
use measure::Sha256;
use tempfile::TempDir;

/// A published release and the folder that it lies in.
struct Published {
    parent: TempDir,
    release: PathBuf,
    manifest: Manifest,
}

impl Published {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let release = parent.path().join("minimal");
        let manifest = publish(&release, Existing::Refuse);
        Self {
            parent,
            release,
            manifest,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.release.join(name)
    }

    fn findings(&self) -> Vec<String> {
        codes(&verify::verify(&self.release, None).unwrap().findings)
    }

    /// What verification says after the manifest's text was changed.
    fn with_manifest(&self, change: impl Fn(String) -> String) -> Vec<Finding> {
        let text = fs::read_to_string(self.path(MANIFEST)).unwrap();
        let changed = change(text.clone());
        assert_ne!(changed, text);
        fs::write(self.path(MANIFEST), changed).unwrap();
        verify::verify(&self.release, None).unwrap().findings
    }

    /// What else lies beside the release.
    fn neighbours(&self) -> Vec<String> {
        neighbours(self.parent.path(), "minimal")
    }
}

fn neighbours(parent: &Path, release: &str) -> Vec<String> {
    let entries = fs::read_dir(parent).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != release).collect()
}

fn codes(findings: &[Finding]) -> Vec<String> {
    let code = |finding: &Finding| {
        let json = serde_json::to_value(finding).unwrap();
        assert_eq!(json["code"], finding.code());
        let path = json.get("file").or(json.get("path")).and_then(|path| path.as_str());
        format!("{} {}", finding.code(), path.unwrap_or_default())
            .trim_end()
            .to_owned()
    };
    findings.iter().map(code).collect()
}

#[test]
fn an_untouched_release_has_no_findings_and_is_named_by_its_manifest() {
    let published = Published::new();
    let verdict = verify::verify(&published.release, Some(published.manifest.digest())).unwrap();
    assert_eq!(verdict.findings, []);
    assert_eq!(verdict.release, Some(published.manifest.digest()));
    assert_eq!(
        verdict.release,
        Some(Sha256::of(fs::read(published.path(MANIFEST)).unwrap()))
    );
    assert_eq!(published.neighbours(), Vec::<String>::new());
}

#[test]
fn the_same_files_are_the_same_release() {
    assert_eq!(Published::new().manifest, Published::new().manifest);
}

#[test]
fn one_flipped_byte() {
    let published = Published::new();
    let mut bytes = fs::read(published.path("vmlinuz")).unwrap();
    bytes[0] ^= 1;
    fs::write(published.path("vmlinuz"), bytes).unwrap();
    assert_eq!(published.findings(), ["digest-differs vmlinuz"]);
}

#[test]
fn swapped_files() {
    let published = Published::new();
    fs::rename(published.path("vmlinuz"), published.path("swap")).unwrap();
    fs::rename(published.path("cmdline"), published.path("vmlinuz")).unwrap();
    fs::rename(published.path("swap"), published.path("cmdline")).unwrap();
    assert_eq!(published.findings(), ["size-differs cmdline", "size-differs vmlinuz"]);
}

#[test]
fn added_file() {
    let published = Published::new();
    fs::write(published.path("evil.sh"), "").unwrap();
    fs::create_dir_all(published.path("evidence/empty")).unwrap();
    assert_eq!(
        published.findings(),
        ["not-listed evidence/empty", "not-listed evil.sh"]
    );
}

#[test]
fn removed_file() {
    let published = Published::new();
    fs::remove_file(published.path("cmdline")).unwrap();
    assert_eq!(published.findings(), ["file-missing cmdline"]);
}

#[test]
fn symlink_instead_of_file() {
    let published = Published::new();
    let elsewhere = published.parent.path().join("elsewhere");
    fs::rename(published.path("vmlinuz"), &elsewhere).unwrap();
    symlink(&elsewhere, published.path("vmlinuz")).unwrap();
    assert_eq!(published.findings(), ["not-a-file vmlinuz"]);
}

#[test]
fn symlink_instead_of_folder() {
    let published = Published::new();
    let elsewhere = published.parent.path().join("elsewhere");
    fs::rename(published.path("volumes"), &elsewhere).unwrap();
    symlink(&elsewhere, published.path("volumes")).unwrap();
    assert_eq!(
        published.findings(),
        ["file-missing volumes/model.erofs", "not-listed volumes"]
    );
}

#[test]
fn directory_instead_of_file() {
    let published = Published::new();
    fs::remove_file(published.path("vmlinuz")).unwrap();
    fs::create_dir(published.path("vmlinuz")).unwrap();
    assert_eq!(published.findings(), ["not-a-file vmlinuz"]);
}

#[test]
fn pipe_instead_of_file() {
    let published = Published::new();
    for name in ["vmlinuz", MANIFEST] {
        fs::remove_file(published.path(name)).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&published.path(name), mode).unwrap();
        let expected = if name == MANIFEST {
            "manifest-invalid"
        } else {
            "not-a-file vmlinuz"
        };
        assert_eq!(published.findings(), [expected]);
    }
}

#[test]
fn manifest_that_leaves_the_release() {
    let findings = Published::new().with_manifest(|text| text.replace("\"vmlinuz\"", "\"../vmlinuz\""));
    assert_eq!(codes(&findings), ["manifest-invalid"]);
    assert!(findings[0].to_string().contains("plain path"), "{findings:?}");
}

#[test]
fn manifest_that_lists_a_file_twice() {
    let findings = Published::new().with_manifest(|text| text.replace("\"vmlinuz\"", "\"cmdline\""));
    assert_eq!(codes(&findings), ["manifest-invalid"]);
    assert!(findings[0].to_string().contains("twice"), "{findings:?}");
}

#[test]
fn truncated_manifest() {
    let findings = Published::new().with_manifest(|text| text[..text.len() / 2].to_owned());
    assert_eq!(codes(&findings), ["manifest-invalid"]);
}

#[test]
fn removed_manifest() {
    let published = Published::new();
    fs::remove_file(published.path(MANIFEST)).unwrap();
    assert_eq!(published.findings(), ["manifest-missing"]);
}

#[test]
fn symlink_instead_of_manifest() {
    let published = Published::new();
    let elsewhere = published.parent.path().join("elsewhere");
    fs::rename(published.path(MANIFEST), &elsewhere).unwrap();
    symlink(&elsewhere, published.path(MANIFEST)).unwrap();
    assert_eq!(published.findings(), ["manifest-invalid"]);
}

#[test]
fn swapped_manifest_is_consistent_but_another_release() {
    let published = Published::new();
    let wanted = published.manifest.digest();
    fs::write(published.path("cmdline"), "init=/bin/sh").unwrap();
    let forged = Staging::begin(&published.parent.path().join("forged"), Existing::Refuse).unwrap();
    fill(forged.folder());
    fs::write(forged.folder().join("cmdline"), "init=/bin/sh").unwrap();
    let forged = forged.publish(origin(), Stamps::new()).unwrap();
    fs::write(published.path(MANIFEST), forged.text()).unwrap();
    assert_eq!(published.findings(), Vec::<String>::new());
    let verdict = verify::verify(&published.release, Some(wanted)).unwrap();
    assert_eq!(codes(&verdict.findings), ["release-differs"]);
}

#[test]
fn lock_of_another_release() {
    let published = Published::new();
    let lock = published.manifest.origin.lock.to_string();
    let other = Sha256::of("other").to_string();
    let text = |text: String| text.replace(&format!("\"lock\": \"{lock}\""), &format!("\"lock\": \"{other}\""));
    assert_eq!(codes(&published.with_manifest(text)), ["lock-differs"]);
}

#[test]
fn a_release_that_exists_is_refused_before_any_work() {
    let published = Published::new();
    let error = Staging::begin(&published.release, Existing::Refuse).expect_err("it exists");
    assert_eq!(mend::exit_code(&error), mend::Exit::Usage);
    assert!(mend::report(&error).contains("--force"));
    assert_eq!(published.neighbours(), Vec::<String>::new());
}

#[test]
fn a_replaced_release_leaves_nothing_of_the_old_one() {
    let published = Published::new();
    fs::write(published.path("old"), "old").unwrap();
    publish(&published.release, Existing::Replace);
    assert_eq!(published.findings(), Vec::<String>::new());
    assert_eq!(published.neighbours(), Vec::<String>::new());
}

#[test]
fn force_does_not_remove_a_folder_that_is_no_release() {
    let home = tempfile::tempdir().unwrap();
    let precious = home.path().join("precious");
    fs::write(&precious, "x").unwrap();
    for path in [home.path(), &precious] {
        let error = Staging::begin(path, Existing::Replace).expect_err("it is no release");
        assert_eq!(mend::exit_code(&error), mend::Exit::Usage);
    }
    assert!(precious.exists());
}

#[test]
fn a_destination_made_meanwhile_is_not_overwritten() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("minimal");
    let late = Staging::begin(&release, Existing::Refuse).unwrap();
    fill(late.folder());
    let first = publish(&release, Existing::Refuse);
    assert!(late.publish(origin(), Stamps::new()).is_err());
    assert_eq!(verify::verify(&release, Some(first.digest())).unwrap().findings, []);
    assert_eq!(neighbours(parent.path(), "minimal"), Vec::<String>::new());
}

#[test]
fn an_abandoned_build_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let staging = Staging::begin(&parent.path().join("minimal"), Existing::Refuse).unwrap();
    fill(staging.folder());
    drop(staging);
    assert_eq!(neighbours(parent.path(), ""), Vec::<String>::new());
}

#[test]
fn leftovers_of_a_killed_run_go_and_those_of_a_live_one_stay() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("minimal");
    let live = Staging::begin(&release, Existing::Refuse).unwrap();
    let killed = parent.path().join(".minimal.partial-killed");
    let other = parent.path().join(".minimal-2.partial-other");
    for folder in [&killed, &other] {
        fs::create_dir(folder).unwrap();
        File::create(folder.join("vmlinuz")).unwrap();
    }
    let _next = Staging::begin(&release, Existing::Refuse).unwrap();
    assert!(live.folder().exists());
    assert!(!killed.exists());
    assert!(other.exists(), "it belongs to another release");
}

#[test]
fn what_no_release_has_is_not_published() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("minimal");
    let staging = Staging::begin(&release, Existing::Refuse).unwrap();
    fill(staging.folder());
    symlink("/etc/passwd", staging.folder().join("link")).unwrap();
    let error = staging.publish(origin(), Stamps::new()).expect_err("a symbolic link");
    assert!(error.to_string().contains("\"link\" cannot be in a release"), "{error}");
    assert!(!release.exists());
}

#[test]
fn of_two_builds_at_once_one_is_published() {
    let parent = tempfile::tempdir().unwrap();
    let (release, start) = (parent.path().join("minimal"), Barrier::new(4));
    let build = || {
        let staging = Staging::begin(&release, Existing::Refuse).unwrap();
        fill(staging.folder());
        start.wait();
        staging.publish(origin(), Stamps::new()).is_ok()
    };
    let published = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        builds
            .into_iter()
            .filter_map(|build| build.join().ok())
            .filter(|done| *done)
            .count()
    });
    assert_eq!(published, 1);
    assert_eq!(verify::verify(&release, None).unwrap().findings, []);
    assert_eq!(neighbours(parent.path(), "minimal"), Vec::<String>::new());
}

/// Replaces a file of the release with these texts in turn, each by a rename, while `f` runs.
fn with_renames<T>(path: &Path, texts: [&str; 2], f: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let beside = path.with_extension("beside");
    let beside = path.parent().unwrap().join("..").join(beside.file_name().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            for text in texts.iter().cycle() {
                fs::write(&beside, text).unwrap();
                fs::rename(&beside, path).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let outcome = f();
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

/// What is taken from a release that was judged is what was judged, whatever happens to it meanwhile.
#[test]
fn attack_a_file_that_is_renamed_while_the_release_is_verified() {
    let published = Published::new();
    let path = published.path("rvps-message.json");
    let good = fs::read_to_string(&path).unwrap();
    let evil = good.replace('a', "b");
    assert_eq!(
        verify::judge(&published.release)
            .unwrap()
            .text("rvps-message.json")
            .unwrap(),
        good
    );
    let judged = with_renames(&path, [&evil, &good], || {
        let mut judged = 0;
        for _ in 0..200 {
            if let Ok(release) = verify::judge(&published.release) {
                judged += 1;
                let text = release.text("rvps-message.json").unwrap();
                assert_eq!(text, good);
            }
        }
        judged
    });
    assert!(judged > 0, "the attack was never late");
}

/// One file, written in place: who reads it may get half of each.
#[test]
fn attack_a_file_that_is_written_in_place_while_the_release_is_verified() {
    let published = Published::new();
    let path = published.path("policy.rego");
    let good = fs::read(&path).unwrap();
    let evil: Vec<u8> = good.iter().map(|byte| byte ^ 1).collect();
    let (done, release) = (AtomicBool::new(false), &published.release);
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            for text in [&evil, &good].into_iter().cycle() {
                std::os::unix::fs::FileExt::write_all_at(&file, text, 0).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..200 {
            let text = verify::judge(release).and_then(|release| release.text("policy.rego"));
            assert!(text.is_err() || text.unwrap().as_bytes() == good);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn attack_a_document_larger_than_any() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("minimal");
    let staging = Staging::begin(&release, Existing::Refuse).unwrap();
    fill(staging.folder());
    for (name, size) in [("platform.toml", (1 << 20) + 1), ("image.buildinfo", 4 << 20)] {
        let file = File::create(staging.folder().join(name)).unwrap();
        file.set_len(size).unwrap();
    }
    staging.publish(origin(), Stamps::new()).unwrap();
    let findings = verify::verify(&release, None).unwrap().findings;
    assert_eq!(codes(&findings), ["file-too-large platform.toml"]);
    let manifest = fs::OpenOptions::new().write(true).open(release.join(MANIFEST));
    manifest.unwrap().set_len(1 << 30).unwrap();
    assert_eq!(
        codes(&verify::verify(&release, None).unwrap().findings),
        ["manifest-invalid"]
    );
}

/// Whoever writes into the release asks only where its files are.
#[test]
fn attack_a_release_that_was_changed_and_is_exported_or_explained() {
    let published = Published::new();
    let read = || Release::read(&published.release, None).map(drop);
    let side = || Side::read(&published.release).unwrap();
    let honest = side();
    read().unwrap();
    assert!(explain(&honest, &side()).unwrap().agree());
    let measurements = fs::read_to_string(published.path("measurements.json")).unwrap();
    fs::write(published.path("measurements.json"), format!("{measurements} ")).unwrap();
    assert_eq!(mend::exit_code(&read().unwrap_err()), Exit::No);
    for (predicted, observed) in [(&honest, &side()), (&side(), &honest)] {
        let explanation = explain(predicted, observed).unwrap();
        let wrong = format!("{}: measurements.json", published.release.display());
        assert!(
            explanation.findings[0].starts_with(&wrong),
            "{:?}",
            explanation.findings
        );
        assert!(explanation.differences.is_empty() && !explanation.agree());
    }
}

/// Runs `begat export` with this shell command in front of it; returns whether it succeeded.
#[expect(clippy::disallowed_methods, reason = "the program that is tested")]
fn export(release: &Path, to: &Path, before: &str) -> bool {
    let command = format!("{before}; exec \"$0\" export values \"$1\" --output \"$2\"");
    let mut shell = Command::new("/bin/sh");
    let status = shell
        .args(["-c", &command, env!("CARGO_BIN_EXE_begat")])
        .args([release, to]);
    status.stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn attack_a_disk_that_is_full_when_a_file_is_written_that_somebody_named() {
    let published = Published::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.json");
    fs::write(&file, "the good ones").unwrap();
    assert!(!export(&published.release, &file, "trap '' XFSZ; ulimit -f 0"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "the good ones");
    assert!(!export(&published.release, &file, "ulimit -f 0"), "killed as it writes");
    assert_eq!(fs::read_to_string(&file).unwrap(), "the good ones");
    assert!(export(&published.release, &file, "true"));
    let values = fs::read(published.path("reference-values.json")).unwrap();
    assert_eq!(fs::read(&file).unwrap(), values);
}
