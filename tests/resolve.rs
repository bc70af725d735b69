//! From signed metadata to a lock, and every way in which a mirror could lie about it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod archive;

use std::collections::BTreeMap;

use anyhow::Result;
use archive::{Deb, HashAlgorithm, Signer, Suite, trixie};
use builder::debian::openpgp::Keyring;
use builder::mend::{self, Exit};
use builder::model::lock::{Lock, Source, Tree};
use builder::model::recipe::{self, Firmware, Kernel, Recipe};
use builder::stage::resolve::{self, Archive, Wanted};
use jiff::Timestamp;
use measure::Sha256;

const RECIPE: &str = r#"
name = "test"
epoch = "2026-01-01T00:00:00Z"
firmware = ["firmware"]
kernel = "kernel"
tools = "trixie"
[suites.trixie]
archive = "debian"
keyring = "test.asc"
[suites.trixie-security]
archive = "security"
keyring = "test.asc"
[root]
suite = "trixie"
packages = ["guest"]
[initrd]
suite = "trixie"
packages = ["kmod"]
modules = []
"#;

fn security() -> Suite {
    let mut libc6 = Deb::new("libc6", "Source: glibc\n");
    libc6.version = "1+deb13u1".into();
    Suite::new("trixie-security", vec![libc6])
}

/// The archives as a mirror shows them.
struct Mirror(BTreeMap<(&'static str, String), Vec<u8>>);

impl Mirror {
    fn new(trixie: &Suite) -> Self {
        let mut mirror = Self(BTreeMap::new());
        mirror.put("debian", trixie.files(&Signer::new(1)));
        mirror.put("security", security().files(&Signer::new(1)));
        mirror
    }

    fn put(&mut self, archive: &'static str, files: BTreeMap<String, Vec<u8>>) {
        self.0
            .extend(files.into_iter().map(|(path, bytes)| ((archive, path), bytes)));
    }

    /// Changes each file of `debian` whose path ends so.
    fn forge(mut self, end: &str, forge: impl Fn(&str) -> String) -> Self {
        for ((archive, path), bytes) in &mut self.0 {
            if *archive == "debian" && path.ends_with(end) {
                *bytes = forge(str::from_utf8(bytes).unwrap()).into_bytes();
            }
        }
        self
    }

    fn file(&self, archive: &str, path: &str) -> Option<Vec<u8>> {
        let mut files = self.0.iter();
        files
            .find(|((a, p), _)| *a == archive && p == path)
            .map(|(_, bytes)| bytes.clone())
    }
}

impl Archive for Mirror {
    fn signed(&self, archive: &str, path: &str) -> Result<Vec<u8>> {
        self.file(archive, path)
            .ok_or_else(|| Exit::Outside.because(format!("no file {path}"), "none"))
    }

    fn index(&self, archive: &str, paths: &[String], _: Sha256, _: u64) -> Result<Vec<u8>> {
        paths
            .iter()
            .find_map(|path| self.file(archive, path))
            .ok_or_else(|| Exit::Outside.because("no index", "none"))
    }
}

fn lock(mirror: &Mirror, recipe: &str, previous: Option<&Lock>) -> Result<Lock> {
    let recipe = Recipe::parse(recipe)?;
    let source = Source {
        path: "recipe.toml".into(),
        sha256: Sha256::of("recipe"),
        size: 6,
        executable: false,
    };
    let firmware: Firmware = recipe::parse(
        "firmware.toml",
        "description = \"\"\nsuite = \"trixie\"\npackage = \"ovmf\"\nfile = \"/OVMF.fd\"\nsupports = [\"snp\"]",
    )?;
    let kernel: Kernel = recipe::parse(
        "kernel.toml",
        "description = \"\"\nsuite = \"trixie\"\npackage = \"linux-image-cloud-amd64\"",
    )?;
    let wanted = Wanted {
        recipe: &recipe,
        digest: Sha256::of("folder"),
        sources: vec![source],
        firmware: &[firmware],
        kernel: &kernel,
        keyrings: &BTreeMap::from([("test.asc".into(), Signer::new(1).keyring())]),
    };
    resolve::resolve(&wanted, previous, now(), mirror)
}

fn now() -> Timestamp {
    "2026-01-08T00:00:00Z".parse().unwrap()
}

/// What a user sees, and the exit code.
fn refusal(mirror: &Mirror) -> (Exit, String) {
    refusal_of(lock(mirror, RECIPE, None))
}

fn refusal_of(outcome: Result<Lock>) -> (Exit, String) {
    let error = outcome.expect_err("this mirror lies");
    (mend::exit_code(&error), mend::report(&error))
}

#[test]
fn a_lock_names_each_package_with_its_reasons() {
    let lock = lock(&Mirror::new(&trixie()), RECIPE, None).unwrap();
    let of = |tree| -> Vec<_> {
        lock.packages(tree)
            .map(|package| format!("{} {}: {}", package.name, package.version, package.why[&tree]))
            .collect()
    };
    let root = [
        "base-files 1: essential",
        "guest 1: recipe",
        "kmod 1: needed by guest",
        "libc6 1+deb13u1: needed by guest",
    ];
    assert_eq!(of(Tree::Root), root);
    assert_eq!(of(Tree::Initrd), ["base-files 1: essential", "kmod 1: recipe"]);
    assert_eq!(of(Tree::Firmware), ["ovmf 1: recipe"]);
    let kernel = [
        "linux-image-6-cloud-amd64 1: needed by linux-image-cloud-amd64",
        "linux-image-cloud-amd64 1: recipe",
        "linux-modules-6 1: needed by linux-image-6-cloud-amd64",
    ];
    assert_eq!(of(Tree::Kernel), kernel);
    assert_eq!(of(Tree::Boot).len(), 4);
    assert_eq!(of(Tree::Tools).len(), 12);
    assert_eq!(lock.metadata.len(), 2);
    assert_eq!(lock.metadata[0].signed_by, [Signer::new(1).fingerprint()]);
    assert_eq!(Lock::parse(&lock.text()).unwrap(), lock);
}

#[test]
fn the_same_archive_gives_the_same_lock() {
    let mut shuffled = trixie();
    shuffled.packages.reverse();
    let without_metadata = |suite: &Suite| lock(&Mirror::new(suite), RECIPE, None).unwrap().package;
    assert_eq!(without_metadata(&trixie()), without_metadata(&shuffled));
    let text = || lock(&Mirror::new(&trixie()), RECIPE, None).unwrap().text();
    assert_eq!(text(), text());
}

#[test]
fn metadata_signed_by_another_key() {
    let mut mirror = Mirror::new(&trixie());
    mirror.put("debian", trixie().files(&Signer::new(2)));
    let (exit, report) = refusal(&mirror);
    assert_eq!(exit, Exit::LockMismatch);
    assert!(
        report.contains("no key of the keyring has signed dists/trixie/InRelease"),
        "{report}"
    );
}

#[test]
fn metadata_signed_by_a_key_that_may_not_sign_or_has_expired() {
    for signer in [Signer::with(1, false, 0), Signer::with(1, true, 60)] {
        let keyring = Keyring::parse("test.asc", &signer.keyring()).unwrap();
        assert!(
            keyring
                .verify("InRelease", signer.sign("Suite: trixie\n").as_bytes(), now())
                .is_err()
        );
    }
}

#[test]
fn metadata_signed_with_a_weak_hash() {
    let signer = Signer::rsa(1);
    let keyring = Keyring::parse("test.asc", &signer.keyring()).unwrap();
    let accepts = |hash| {
        keyring
            .verify("InRelease", signer.sign_with("Suite: trixie", hash).as_bytes(), now())
            .is_ok()
    };
    assert!(accepts(HashAlgorithm::Sha256));
    assert!(!accepts(HashAlgorithm::Sha1));
    assert!(!accepts(HashAlgorithm::Md5));
}

#[test]
fn a_byte_flipped_in_signed_metadata() {
    for (from, to) in [
        ("Origin: Test", "Origin: Tess"),
        ("Codename", "codename"),
        ("SHA256:\n ", "SHA256:\n  "),
    ] {
        let mirror = Mirror::new(&trixie()).forge("InRelease", |text| text.replacen(from, to, 1));
        assert_eq!(refusal(&mirror).0, Exit::LockMismatch, "{to}");
    }
}

#[test]
fn every_byte_of_signed_metadata_counts() {
    let signer = Signer::new(1);
    let keyring = Keyring::parse("test.asc", &signer.keyring()).unwrap();
    let text = "Suite: trixie\n- a dash\n\n-----\nend";
    let file = signer.sign(text).into_bytes();
    assert_eq!(keyring.verify("InRelease", &file, now()).unwrap().text(), text);
    for at in 0..file.len() {
        let mut forged = file.clone();
        forged[at] ^= 1;
        if let Ok(signed) = keyring.verify("InRelease", &forged, now()) {
            assert_eq!(signed.text(), text, "byte {at}");
        }
    }
}

#[test]
fn text_appended_before_or_after_the_signed_part() {
    let evil = "Codename: forky\n";
    let before = |text: &str| format!("{evil}{text}");
    let after = |text: &str| format!("{text}{evil}");
    let twice = |text: &str| format!("{text}{text}");
    let between = |text: &str| {
        text.replace(
            "-----BEGIN PGP SIGNATURE",
            &format!("-----\n{evil}-----BEGIN PGP SIGNATURE"),
        )
    };
    let header = |text: &str| text.replacen("\n\n", &format!("\n{evil}\n"), 1);
    let forgeries: [&dyn Fn(&str) -> String; 5] = [&before, &after, &twice, &between, &header];
    for forge in forgeries {
        match lock(&Mirror::new(&trixie()).forge("InRelease", forge), RECIPE, None) {
            Err(error) => assert_eq!(mend::exit_code(&error), Exit::LockMismatch),
            Ok(_) => panic!("{}", forge("…\n\n-----BEGIN PGP SIGNATURE-----")),
        }
    }
}

#[test]
fn expired_metadata() {
    let mut suite = trixie();
    suite.valid_until = Some("Wed, 07 Jan 2026 00:00:00 UTC".into());
    let mirror = Mirror::new(&suite);
    let (exit, report) = refusal(&mirror);
    assert_eq!(exit, Exit::Expired);
    assert!(
        report.contains("expired on 2026-01-07T00:00:00Z: it is 2026-01-08T00:00:00Z"),
        "{report}"
    );
    let lenient = RECIPE.replacen("keyring", "ignore-valid-until = \"a test\"\nkeyring", 1);
    let lock = lock(&mirror, &lenient, None).unwrap();
    assert_eq!(lock.metadata[0].ignored_valid_until.as_deref(), Some("a test"));
    assert_eq!(
        lock.metadata[0].valid_until.unwrap().to_string(),
        "2026-01-07T00:00:00Z"
    );
}

#[test]
fn metadata_of_the_future() {
    let mut suite = trixie();
    suite.date = "Sat, 10 Jan 2026 00:00:00 UTC".into();
    assert_eq!(refusal(&Mirror::new(&suite)).0, Exit::Expired);
}

#[test]
fn metadata_older_than_the_lock() {
    let known = lock(&Mirror::new(&trixie()), RECIPE, None).unwrap();
    let mut old = trixie();
    old.date = "Wed, 31 Dec 2025 23:59:59 UTC".into();
    let (exit, report) = refusal_of(lock(&Mirror::new(&old), RECIPE, Some(&known)));
    assert_eq!(exit, Exit::Expired);
    assert!(report.contains("is older than that of the lock"), "{report}");
    assert_eq!(lock(&Mirror::new(&trixie()), RECIPE, Some(&known)).unwrap(), known);
}

#[test]
fn metadata_of_another_suite() {
    let mut mirror = Mirror::new(&trixie());
    let mut other = trixie();
    other.codename = "forky".into();
    let forky = other.files(&Signer::new(1));
    mirror.put(
        "debian",
        BTreeMap::from([("dists/trixie/InRelease".into(), forky["dists/forky/InRelease"].clone())]),
    );
    let (exit, report) = refusal(&mirror);
    assert_eq!(exit, Exit::LockMismatch);
    assert!(
        report.contains("asked for the suite trixie and got signed metadata of forky"),
        "{report}"
    );
}

#[test]
fn an_index_with_another_digest() {
    let mut mirror = Mirror::new(&trixie());
    let mut other = trixie();
    other.packages.pop();
    let forged = other.files(&Signer::new(1))["dists/trixie/main/binary-amd64/Packages.xz"].clone();
    for ((archive, path), bytes) in &mut mirror.0 {
        if *archive == "debian" && (path.ends_with(".xz") || path.contains("by-hash")) {
            bytes.clone_from(&forged);
        }
    }
    let (exit, report) = refusal(&mirror);
    assert_eq!(exit, Exit::LockMismatch);
    assert!(report.contains("its signed metadata names"), "{report}");
}

#[test]
fn a_package_that_does_not_exist() {
    let recipe = RECIPE.replace("\"guest\"", "\"gest\"");
    let (exit, report) = refusal_of(lock(&Mirror::new(&trixie()), &recipe, None));
    assert_eq!(exit, Exit::Usage);
    assert!(report.ends_with("mend: did you mean `guest`?\n"), "{report}");
}

#[test]
fn packages_that_cannot_be_installed_together() {
    let mut suite = trixie();
    suite.packages.push(Deb::new("rival", "Conflicts: guest\n"));
    let recipe = RECIPE.replace("\"guest\"", "\"guest\", \"rival\"");
    let (exit, report) = refusal_of(lock(&Mirror::new(&suite), &recipe, None));
    assert_eq!(exit, Exit::Usage);
    assert!(report.contains("cannot be installed together"), "{report}");
}

#[test]
fn packages_of_tests_are_packages() {
    let folder = tempfile::tempdir().unwrap();
    archive::write(folder.path(), &trixie().files(&Signer::new(1)));
    let deb = std::fs::read(folder.path().join("pool/main/guest_1_amd64.deb")).unwrap();
    let mut members = ar::Archive::new(&deb[..]);
    let mut names = Vec::new();
    while let Some(member) = members.next_entry() {
        names.push(String::from_utf8(member.unwrap().header().identifier().to_vec()).unwrap());
    }
    assert_eq!(names, ["debian-binary", "control.tar", "data.tar"]);
}
