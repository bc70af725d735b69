//! What rebuilders say about a release, and what is found out when somebody changes it; tests are named after what was
//! done.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;

use std::fs;
use std::path::PathBuf;

use builder::document::dsse::{self, Bundle};
use builder::document::{provenance, rebuild};
use builder::model::Lock;
use builder::model::key::SigningKey;
use builder::model::quorum::{Quorum, Verdict};
use builder::model::release::Manifest;
use builder::stage::finding::Finding;
use builder::stage::on_disk::OnDisk;
use builder::stage::release::Existing;
use builder::stage::{rebuilds, sign, verify};
use fixture::publish;
use serde_json::Value;
use tempfile::TempDir;

/// A release, and who rebuilds it.
struct Site {
    _parent: TempDir,
    release: PathBuf,
    manifest: Manifest,
}

impl Site {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let release = parent.path().join("minimal");
        let manifest = publish(&release, Existing::Refuse);
        Self {
            _parent: parent,
            release,
            manifest,
        }
    }

    fn lock(&self) -> Lock {
        Lock::parse(&fs::read_to_string(self.release.join("recipe.lock")).unwrap()).unwrap()
    }

    /// The statement of whoever has this key about what came out.
    fn bundle(&self, manifest: &Manifest, number: u8) -> String {
        let run = sign::run(None).unwrap();
        let host = [("kernel", "Linux".to_owned())].into();
        rebuild::bundle(manifest, &self.lock(), &run, &host, &key(number))
    }

    fn add(&self, bundle: &str, number: u8) -> PathBuf {
        let folder = self.release.join(rebuilds::FOLDER);
        rebuilds::add(&folder, &key(number).public().id(), bundle).unwrap()
    }

    fn judge(&self, quorum: &str) -> Verdict {
        let quorum = Quorum::parse(quorum).unwrap();
        rebuilds::verify(&OnDisk::open(&self.release).unwrap(), &self.manifest, Some(&quorum))
    }

    fn codes(&self, quorum: &str) -> Vec<&'static str> {
        self.judge(quorum)
            .findings
            .iter()
            .map(|finding| finding.code())
            .collect()
    }
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_random([number; 32]).unwrap()
}

/// A quorum of one, who has the key 1.
fn one() -> String {
    format!("witness alice {}\nquorum alice\n", key(1).public().id())
}

/// The bundle with another statement, signed or not.
fn edit(bundle: &str, number: Option<u8>, change: impl Fn(&mut Value)) -> String {
    let mut bundle = Bundle::parse(bundle).unwrap();
    let mut statement: Value = serde_json::from_slice(&bundle.payload).unwrap();
    change(&mut statement);
    bundle.payload = statement.to_string().into_bytes().into();
    if let Some(number) = number {
        bundle.signature = key(number).sign(&dsse::pae(&bundle.payload));
    }
    bundle.text()
}

#[test]
fn a_rebuild_is_part_of_a_release_and_counts() {
    let site = Site::new();
    assert_eq!(site.codes(&one()), ["quorum-not-met"]);
    let path = site.add(&site.bundle(&site.manifest, 1), 1);
    assert!(path.starts_with(site.release.join("rebuilds")));
    assert_eq!(verify::verify(&site.release, None).unwrap().findings, []);
    let verdict = site.judge(&one());
    assert_eq!(verdict.findings, []);
    assert_eq!(verdict.votes[0].operator.as_deref(), Some("alice"));
    assert_eq!(verdict.votes[0].differs, None);
}

#[test]
fn the_host_of_a_rebuild_is_a_claim_in_its_provenance() {
    let site = Site::new();
    let bundle = Bundle::parse(&site.bundle(&site.manifest, 1)).unwrap();
    let statement: Value = serde_json::from_slice(&bundle.payload).unwrap();
    let details = &statement["predicate"]["runDetails"];
    assert_eq!(details["metadata"]["begat_host"]["kernel"], "Linux");
    assert!(
        provenance::run(str::from_utf8(&bundle.payload).unwrap()).is_ok(),
        "it is a provenance like any other"
    );
}

#[test]
fn a_second_statement_of_a_key_replaces_no_first_one() {
    let site = Site::new();
    let mut other = site.manifest.clone();
    other.files.pop_last();
    let first = site.add(&site.bundle(&other, 1), 1);
    let second = site.add(&site.bundle(&site.manifest, 1), 1);
    assert_ne!(first, second);
    assert_eq!(site.codes(&one()), ["rebuild-disagrees"]);
}

#[test]
fn a_strange_file_beside_the_statements_is_found() {
    let site = Site::new();
    site.add(&site.bundle(&site.manifest, 1), 1);
    for (name, codes) in [
        ("rebuilds/evil.sh", &["not-listed"][..]),
        ("rebuilds/.provenance.sigstore.json", &["not-listed"]),
        ("rebuilds/a/b.provenance.sigstore.json", &["not-listed", "not-listed"]),
    ] {
        let path = site.release.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "evil").unwrap();
        let found = verify::verify(&site.release, None).unwrap().findings;
        let found: Vec<String> = found.iter().map(Finding::code).collect();
        assert_eq!(found, codes, "{name}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_statement_that_nobody_signed_counts_nothing() {
    let site = Site::new();
    let bundle = site.bundle(&site.manifest, 1);
    site.add(&edit(&bundle, None, |_| {}), 1); // the same, written otherwise
    assert_eq!(site.codes(&one()), ["rebuild-signature-invalid", "quorum-not-met"]);
}

#[test]
fn a_statement_signed_by_another_key_than_it_names_counts_nothing() {
    let site = Site::new();
    let bundle = site.bundle(&site.manifest, 1);
    site.add(&edit(&bundle, Some(2), |_| {}), 1);
    assert_eq!(site.codes(&one()), ["rebuild-signature-invalid", "quorum-not-met"]);
}

#[test]
fn a_key_of_ones_own_is_a_stranger() {
    let site = Site::new();
    site.add(&site.bundle(&site.manifest, 2), 1); // under the name of the key 1
    assert_eq!(site.codes(&one()), ["quorum-not-met"]);
    assert_eq!(site.judge(&one()).votes[0].operator, None);
}

#[test]
fn the_statement_of_another_release_is_found() {
    let site = Site::new();
    let mut other = site.manifest.clone();
    other.origin.recipe = measure::Sha256::of("another recipe");
    site.add(&site.bundle(&other, 1), 1);
    assert_eq!(site.codes(&one()), ["rebuild-of-another-release", "quorum-not-met"]);
}

#[test]
#[expect(clippy::type_complexity, reason = "a table")]
fn statements_of_another_kind_are_found() {
    let site = Site::new();
    let bundle = site.bundle(&site.manifest, 1);
    let changes: [(&str, fn(&mut Value)); 7] = [
        ("its predicate type", |it| {
            it["predicateType"] = "https://cyclonedx.org/bom".into()
        }),
        ("its type", |it| {
            it["_type"] = "https://in-toto.io/Statement/v0.1".into()
        }),
        ("its build type", |it| {
            it["predicate"]["buildDefinition"]["buildType"] = "x".into()
        }),
        ("it names no lock", |it| {
            it["predicate"]["buildDefinition"]["resolvedDependencies"] = Value::Array(Vec::new())
        }),
        ("it names two locks", |it| {
            let dependencies = &mut it["predicate"]["buildDefinition"]["resolvedDependencies"];
            let mut second = dependencies[0].clone();
            second["digest"]["sha256"] = measure::Sha256::of("evil").to_string().into();
            dependencies.as_array_mut().unwrap().push(second);
        }),
        ("twice", |it| {
            let first = it["subject"][0].clone();
            it["subject"].as_array_mut().unwrap().push(first);
        }),
        ("missing field", |it| {
            it["predicate"]["runDetails"]["metadata"] = Value::Object(serde_json::Map::new())
        }),
    ];
    for (why, change) in changes {
        let path = site.add(&edit(&bundle, Some(1), change), 1);
        let verdict = site.judge(&one());
        let found = verdict.findings[0].to_string();
        assert_eq!(verdict.findings[0].code(), "rebuild-unreadable", "{found}");
        assert!(found.contains(why), "{found}");
        fs::remove_file(path).unwrap();
    }
    fs::write(site.release.join("rebuilds/x.provenance.sigstore.json"), b"\xff\x1b[2J").unwrap();
    assert_eq!(site.codes(&one()), ["rebuild-unreadable", "quorum-not-met"]);
}

/// A disagreement behind the last one that is read would not be seen.
#[test]
fn attack_more_statements_than_anybody_reads() {
    let site = Site::new();
    let folder = site.release.join("rebuilds");
    fs::create_dir_all(&folder).unwrap();
    let bundle = site.bundle(&site.manifest, 1);
    let add = |number: usize| fs::write(folder.join(format!("{number:04}.provenance.sigstore.json")), &bundle).unwrap();
    (0..1024).for_each(add);
    assert_eq!(site.codes(&one()), [""; 0]);
    add(1024);
    let verdict = site.judge(&one());
    let found = verdict.findings[0].to_string();
    assert!(found.contains("no more than 1024 statements are read"), "{found}");
}
