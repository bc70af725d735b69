//! Registries that lie, cut and refuse: what is pulled is the release, or nothing appears; and nobody sees a password
//! who should not.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;
mod hostile_registry;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Error;
use builder::mend::{self, Exit};
use builder::model::oci::Reference;
use builder::stage::pull::{Pulled, Wanted, pull};
use builder::stage::push::{Pushed, Tagged, push};
use builder::stage::release::{Existing, Staging, Stamps};
use builder::world::Store;
use builder::world::net::Limits;
use builder::world::registry::{Access, Registry as Client};
use hostile_registry::{Fault, Registry, Request, digest};
use measure::Sha256;
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMITS: Limits = Limits {
    stall: Duration::from_secs(20),
    attempts: 3,
    pause: Duration::from_millis(1),
    connections: 2,
};

struct Fixture {
    folder: TempDir,
    access: Access,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fixture::publish(&folder.path().join("release"), Existing::Refuse);
        let access = Access {
            limits: LIMITS,
            ..Access::default()
        };
        Self { folder, access }
    }

    /// A release with a file that is sent in two pieces.
    fn large() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let staging = Staging::begin(&folder.path().join("release"), Existing::Refuse).unwrap();
        fixture::fill(staging.folder());
        let large: Vec<u8> = (0..2_500_000_u32).flat_map(u32::to_le_bytes).collect();
        fs::write(staging.folder().join("rootfs.verity"), large).unwrap();
        staging.publish(fixture::origin(), Stamps::new()).unwrap();
        let access = Access {
            limits: LIMITS,
            ..Access::default()
        };
        Self { folder, access }
    }

    /// With a file of credentials as podman writes it.
    fn with_login(self, registry: &Registry, auth: &str) -> Self {
        let file = self.path("auth.json");
        let host = &registry.host;
        fs::write(&file, json!({"auths": {host: {"auth": auth}}}).to_string()).unwrap();
        let access = Access {
            logins: vec![self.path("absent.json"), file],
            ..self.access.clone()
        };
        Self { access, ..self }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self, registry: &Registry) -> (Reference, Client) {
        let reference: Reference = format!("{}/a/b:1", registry.host).parse().unwrap();
        let client = Client::new(&reference, &self.access).unwrap();
        (reference, client)
    }

    fn push(&self, registry: &Registry) -> Result<Pushed, Error> {
        push(&self.path("release"), &self.client(registry).1, "1", Tagged::Refuse)
    }

    fn pull(&self, registry: &Registry) -> Result<Pulled, Error> {
        self.pull_wanted(registry, None)
    }

    fn pull_wanted(&self, registry: &Registry, release: Option<Sha256>) -> Result<Pulled, Error> {
        let (reference, client) = self.client(registry);
        let wanted = Wanted {
            reference,
            release,
            build: None,
        };
        let store = Store::open(self.path("store")).unwrap();
        let staging = Staging::begin(&self.path("pulled/release"), Existing::Refuse);
        pull(&wanted, &client, &store, staging?)
    }

    #[track_caller]
    fn comes_back(&self, registry: &Registry) {
        fs::create_dir(self.path("pulled")).unwrap();
        if let Err(error) = self.pull(registry) {
            panic!("{}", mend::report(&error));
        }
        assert_eq!(files(&self.path("pulled/release")), files(&self.path("release")));
        assert_eq!(fs::read_dir(self.path("pulled")).unwrap().count(), 1);
    }

    /// Nothing appears, and the report says why.
    #[track_caller]
    fn is_refused(&self, registry: &Registry, exit: Exit, why: &str) {
        let _ = fs::create_dir(self.path("pulled"));
        let error = self.pull(registry).expect_err(why);
        let report = mend::report(&error);
        assert!(report.contains(why), "{report}");
        assert_eq!(mend::exit_code(&error), exit, "{report}");
        assert_eq!(fs::read_dir(self.path("pulled")).unwrap().count(), 0, "{report}");
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = builder::world::files::list(folder).unwrap().into_iter();
    let files = entries.filter(|entry| entry.kind == builder::world::files::Kind::File);
    files
        .map(|file| (file.path.clone(), fs::read(folder.join(file.path)).unwrap()))
        .collect()
}

fn count(requests: &[Request], method: &str, path: &str) -> usize {
    requests
        .iter()
        .filter(|request| request.method == method && request.path.contains(path))
        .count()
}

/// The release's artifact with a change, under the tag.
fn tamper(registry: &Registry, change: impl FnOnce(&mut Value)) {
    let mut manifest: Value = serde_json::from_slice(&registry.manifest("1").unwrap()).unwrap();
    change(&mut manifest);
    registry.put_manifest("1", manifest.to_string().as_bytes());
}

#[test]
fn a_release_comes_back_as_it_was_and_is_not_sent_twice() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let first = fixture.push(&registry).unwrap();
    registry.forget_requests();
    let second = fixture.push(&registry).unwrap();
    assert_eq!((second.sent, second.there), (0, first.sent));
    assert_eq!(first.artifact, second.artifact);
    assert_eq!(count(&registry.requests(), "POST", ""), 0);
    fixture.comes_back(&registry);
}

#[test]
fn the_artifact_says_nothing_of_time_and_place() {
    let (one, other) = (Registry::start(), Registry::start());
    let (first, second) = (Fixture::new().push(&one).unwrap(), Fixture::new().push(&other).unwrap());
    assert_eq!(first.artifact, second.artifact);
    assert_eq!(one.manifest("1"), other.manifest("1"));
    let manifest: Value = serde_json::from_slice(&one.manifest("1").unwrap()).unwrap();
    assert_eq!(
        manifest["annotations"]["org.opencontainers.image.created"],
        "2026-09-12T00:00:00Z"
    );
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.oci.empty.v1+json");
}

/// A release with an SBOM, whose attachment others look for.
fn with_sbom() -> Fixture {
    let fixture = Fixture::new();
    fs::remove_dir_all(fixture.path("release")).unwrap();
    let staging = Staging::begin(&fixture.path("release"), Existing::Refuse).unwrap();
    fixture::fill(staging.folder());
    fs::write(staging.folder().join("sbom.spdx.json"), "{}").unwrap();
    staging.publish(fixture::origin(), Stamps::new()).unwrap();
    fixture
}

#[test]
fn the_sbom_refers_to_the_release() {
    let (fixture, registry) = (with_sbom(), Registry::start());
    let pushed = fixture.push(&registry).unwrap();
    assert_eq!(pushed.referrers_api, Some(true));
    let found = fixture.client(&registry).1.referrers(&pushed.artifact).unwrap();
    let types: Vec<_> = found.iter().map(|found| found.artifact_type.as_deref()).collect();
    assert_eq!(types, [Some("application/spdx+json")]);
    assert_eq!(registry.manifest(&pushed.artifact.fallback_tag()), None);
    fixture.comes_back(&registry);
}

#[test]
fn without_the_referrers_api_a_tag_lists_it_after_what_others_have_listed() {
    let (fixture, registry) = (with_sbom(), Registry::start().without_referrers_api());
    let artifact = fixture.push(&Registry::start()).unwrap().artifact;
    let theirs = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(b"theirs"),
        "size": 6, "artifactType": "application/theirs", "urls": ["https://theirs.example"]});
    let index = json!({"schemaVersion": 2, "manifests": [theirs]});
    registry.put_manifest(&artifact.fallback_tag(), index.to_string().as_bytes());
    for _ in 0..2 {
        assert_eq!(fixture.push(&registry).unwrap().referrers_api, Some(false));
    }
    let index: Value = serde_json::from_slice(&registry.manifest(&artifact.fallback_tag()).unwrap()).unwrap();
    assert_eq!(index["manifests"][0], theirs);
    assert_eq!(index["manifests"][1]["artifactType"], "application/spdx+json");
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    let found = fixture.client(&registry).1.referrers(&artifact).unwrap();
    assert_eq!(found.len(), 2);
    fixture.comes_back(&registry);
}

#[test]
fn a_download_that_is_cut_at_90_percent_goes_on_from_there() {
    let (fixture, registry) = (Fixture::large(), Registry::start());
    fixture.push(&registry).unwrap();
    let large = digest(&fs::read(fixture.path("release/rootfs.verity")).unwrap());
    registry.forget_requests();
    registry.plan("GET", &large, 1, Fault::CutAnswer(9_000_000));
    fixture.comes_back(&registry);
    let ranges: Vec<_> = registry
        .requests()
        .into_iter()
        .filter_map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, ["bytes=9000000-"]);
}

#[test]
fn an_upload_that_is_cut_goes_on_from_there() {
    let (fixture, registry) = (Fixture::large(), Registry::start());
    registry.plan("PATCH", "", 1, Fault::CutUpload(5_000_000));
    fixture.push(&registry).unwrap();
    let requests = registry.requests();
    let pieces = requests.iter().filter(|request| request.method == "PATCH");
    let pieces: Vec<_> = pieces
        .map(|request| request.headers["content-range"].as_str())
        .collect();
    assert_eq!(pieces, ["0-8388607", "5000000-9999999"]);
    fixture.comes_back(&registry);
}

#[test]
fn an_upload_that_the_registry_forgets_begins_again() {
    let (fixture, registry) = (Fixture::large(), Registry::start());
    registry.plan("PATCH", "", 1, Fault::Forget);
    fixture.push(&registry).unwrap();
    fixture.comes_back(&registry);
}

#[test]
fn an_upload_that_is_always_cut_at_the_same_place_is_given_up() {
    let (fixture, registry) = (Fixture::large(), Registry::start());
    registry.plan("PATCH", "", 100, Fault::Forget);
    let error = fixture.push(&registry).unwrap_err();
    let report = mend::report(&error);
    assert!(
        report.contains("cannot send rootfs.verity") && report.contains("mend: try again"),
        "{report}"
    );
    assert_eq!(count(&registry.requests(), "PATCH", ""), 3);
    assert_eq!(registry.manifest("1"), None);
}

#[test]
fn a_push_that_dies_before_its_end_leaves_nothing_to_pull() {
    let (fixture, registry) = (with_sbom(), Registry::start());
    registry.plan("PUT", "manifests/1", 100, Fault::Status(500, Vec::new()));
    let error = fixture.push(&registry).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::Outside);
    fixture.is_refused(&registry, Exit::Outside, "there is no 1 in that repository");
}

#[test]
fn other_bytes_of_a_file_are_refused() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    fixture.push(&registry).unwrap();
    let kernel = digest(&fs::read(fixture.path("release/vmlinuz")).unwrap());
    registry.plan("GET", &kernel, 100, Fault::Wrong);
    fixture.is_refused(&registry, Exit::No, "cannot fetch vmlinuz");
}

#[test]
fn other_bytes_of_a_manifest_are_refused() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let pushed = fixture.push(&registry).unwrap();
    let name = builder::model::oci::Name::Digest(pushed.artifact);
    registry.plan("GET", "manifests/sha256:", 100, Fault::Wrong);
    let error = fixture.client(&registry).1.manifest(&name).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::No);
    assert!(
        mend::report(&error).contains("its bytes have the digest"),
        "{}",
        mend::report(&error)
    );
}

#[test]
fn another_release_than_the_wanted_one_is_refused_before_anything_is_fetched() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let pushed = fixture.push(&registry).unwrap();
    fs::create_dir(fixture.path("pulled")).unwrap();
    fixture.pull_wanted(&registry, Some(pushed.release)).unwrap();
    fs::remove_dir_all(fixture.path("pulled/release")).unwrap();
    registry.forget_requests();
    let error = fixture.pull_wanted(&registry, Some(Sha256::of("another"))).unwrap_err();
    assert!(mend::report(&error).contains("wanted"), "{}", mend::report(&error));
    assert_eq!(mend::exit_code(&error), Exit::No);
    assert_eq!(count(&registry.requests(), "GET", "/blobs/"), 0);
    assert_eq!(fs::read_dir(fixture.path("pulled")).unwrap().count(), 0);
}

#[test]
fn a_planted_a_removed_and_a_swapped_file_are_refused() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    fixture.push(&registry).unwrap();
    let good = registry.manifest("1").unwrap();
    registry.put_blob(b"evil");
    let planted = |name: &str| {
        json!({"mediaType": "application/octet-stream", "digest": digest(b"evil"), "size": 4,
            "annotations": {"org.opencontainers.image.title": name}})
    };
    for (name, why) in [
        ("evil.sh", "do not agree about evil.sh"),
        ("../evil.sh", "a plain path below it"),
        ("/etc/evil.sh", "a plain path below it"),
        ("vmlinuz", "there are two files vmlinuz"),
    ] {
        tamper(&registry, |manifest| {
            manifest["layers"].as_array_mut().unwrap().push(planted(name))
        });
        fixture.is_refused(&registry, Exit::No, why);
        registry.put_manifest("1", &good);
    }
    tamper(&registry, |manifest| {
        drop(manifest["layers"].as_array_mut().unwrap().remove(0))
    });
    fixture.is_refused(&registry, Exit::No, "do not agree about OVMF.fd");
    registry.put_manifest("1", &good);
    tamper(&registry, |manifest| {
        manifest["layers"][0]["digest"] = digest(b"evil").into()
    });
    fixture.is_refused(&registry, Exit::No, "do not agree about OVMF.fd");
    registry.put_manifest("1", &good);
    tamper(&registry, |manifest| {
        manifest["artifactType"] = "application/evil".into()
    });
    fixture.is_refused(&registry, Exit::No, "application/evil");
}

/// Attaches a file to the release as a build does; it consists of its own name.
fn attach(registry: &Registry, name: &str) {
    attach_with(registry, name, |_| {});
}

/// As [`attach`], with a change.
fn attach_with(registry: &Registry, name: &str, change: impl FnOnce(&mut Value)) {
    let subject = digest(&registry.manifest("1").unwrap());
    registry.put_blob(name.as_bytes());
    let mut build = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.begat.build.v1",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2},
        "layers": [{"mediaType": "text/plain", "digest": digest(name.as_bytes()), "size": name.len(),
            "annotations": {"org.opencontainers.image.title": name}}],
        "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 1}});
    change(&mut build);
    registry.put_manifest(&digest(build.to_string().as_bytes()), build.to_string().as_bytes());
}

#[test]
fn what_somebody_has_attached_cannot_change_the_release() {
    for (name, why) in [
        ("evil.sh", "brings the file evil.sh, which is none of a build"),
        ("vmlinuz", "brings the file vmlinuz"),
        ("manifest.json", "brings the file manifest.json"),
        ("../evil.sh", "a plain path below it"),
    ] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        fixture.push(&registry).unwrap();
        attach(&registry, name);
        fixture.is_refused(&registry, Exit::No, why);
    }
}

#[test]
fn attack_records_and_signatures_that_are_none_are_attached() {
    for (name, why) in [
        ("record.json", "signature-unreadable: record.json"),
        ("record.sigstore.json", "signature-missing: record.json"),
    ] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        fixture.push(&registry).unwrap();
        attach(&registry, name);
        fixture.is_refused(&registry, Exit::No, why);
    }
}

#[test]
fn attack_a_build_of_another_release_is_attached() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    fixture.push(&registry).unwrap();
    attach_with(&registry, "record.json", |build| {
        build["subject"]["digest"] = digest(b"another").into();
    });
    registry.lists_all_as_referrers();
    fixture.is_refused(&registry, Exit::No, "is a build of another release");
}

#[test]
fn attack_files_that_would_fill_any_disk_are_attached() {
    for size in [u64::MAX, 1 << 40] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        fixture.push(&registry).unwrap();
        attach_with(&registry, "record.json", |build| {
            build["layers"][0]["size"] = size.into();
        });
        fixture.is_refused(&registry, Exit::No, "more than any release");
        assert_eq!(count(&registry.requests(), "GET", &digest(b"record.json")), 0);
    }
}

#[test]
fn of_two_builds_one_must_be_chosen() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    fixture.push(&registry).unwrap();
    attach(&registry, "record.json");
    attach(&registry, "record.sigstore.json");
    fixture.is_refused(&registry, Exit::Usage, "--build DIGEST");
}

#[test]
fn a_tag_is_moved_only_when_asked() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let (first, moved) = (fixture.push(&registry).unwrap(), with_sbom());
    let error = moved.push(&registry).unwrap_err();
    assert!(mend::report(&error).contains("--force"), "{}", mend::report(&error));
    assert_eq!(digest(&registry.manifest("1").unwrap()), first.artifact.to_string());
    let pushed = push(&moved.path("release"), &moved.client(&registry).1, "1", Tagged::Move).unwrap();
    assert_eq!(digest(&registry.manifest("1").unwrap()), pushed.artifact.to_string());
}

#[test]
fn a_changed_release_is_not_sent() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    fs::write(fixture.path("release/vmlinuz"), "kermit").unwrap();
    let error = fixture.push(&registry).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::No);
    assert!(registry.requests().is_empty());
}

#[test]
fn attack_a_record_that_is_none_is_not_sent() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    fs::write(fixture.path("release/record.json"), "{\"forged\":true}").unwrap();
    let error = fixture.push(&registry).unwrap_err();
    assert!(mend::report(&error).contains("record.json"), "{}", mend::report(&error));
    assert_eq!(mend::exit_code(&error), Exit::No);
    assert_eq!(registry.requests().len(), 0);
}

#[test]
fn what_a_registry_answers_is_said_with_the_mend() {
    for (status, why, mend, requests) in [
        (403, "status 403: SOME_CODE what the registry says", "podman login", 1),
        (429, "status 429", "try again", 3),
        (503, "status 503", "try again", 3),
        (418, "status 418", "ask who runs it", 1),
    ] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        registry.plan("GET", "manifests/1", 100, Fault::Status(status, Vec::new()));
        let error = fixture.push(&registry).unwrap_err();
        let report = mend::report(&error);
        assert!(report.contains(why) && report.contains(mend), "{report}");
        assert_eq!(registry.requests().len(), requests, "{report}");
        fixture.is_refused(&registry, Exit::Outside, why);
    }
}

/// `printf alice:s3cret | base64`
const ALICE: &str = "YWxpY2U6czNjcmV0";

#[test]
fn a_password_opens_and_is_never_shown() {
    let registry = Registry::start();
    registry.wants(&format!("Basic {ALICE}"), "Basic realm=\"registry\"");
    let error = Fixture::new().push(&registry).unwrap_err();
    assert!(
        mend::report(&error).contains("podman login"),
        "{}",
        mend::report(&error)
    );
    let wrong = Fixture::new().with_login(&registry, "YWxpY2U6d3Jvbmc="); // alice:wrong
    let report = mend::report(&wrong.push(&registry).unwrap_err());
    assert!(!report.contains("wrong") && !report.contains("YWxpY2U6"), "{report}");
    assert_eq!(count(&registry.requests(), "POST", ""), 0);
    let fixture = Fixture::new().with_login(&registry, ALICE);
    fixture.push(&registry).unwrap();
    fixture.comes_back(&registry);
}

#[test]
fn a_token_is_had_from_where_the_registry_says() {
    let registry = Registry::start();
    let realm = format!(
        "Bearer realm=\"http://{}/token\",service=\"s\",scope=\"repository:a/b:pull,push\"",
        registry.host
    );
    registry.wants("Bearer t0ken", &realm);
    registry.gives("t0ken", &format!("Basic {ALICE}"));
    let report = mend::report(&Fixture::new().push(&registry).unwrap_err());
    assert!(
        report.contains("its token server") && report.contains("podman login"),
        "{report}"
    );
    let fixture = Fixture::new().with_login(&registry, ALICE);
    fixture.push(&registry).unwrap();
    fixture.comes_back(&registry);
    assert_eq!(count(&registry.requests(), "GET", "/token"), 3); // one refused, one a push, one a pull
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let (registry, other) = (Registry::start(), Registry::start());
    registry.wants(&format!("Basic {ALICE}"), "Basic realm=\"registry\"");
    let fixture = Fixture::new().with_login(&registry, ALICE);
    fixture.push(&registry).unwrap();
    let kernel = fs::read(fixture.path("release/vmlinuz")).unwrap();
    other.put_blob(&kernel);
    let elsewhere = format!("http://{}/v2/a/b/blobs/{}", other.host, digest(&kernel));
    registry.plan(
        "GET",
        &digest(&kernel),
        1,
        Fault::Status(307, vec![("Location", elsewhere)]),
    );
    fixture.comes_back(&registry);
    let there = other.requests();
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].headers.get("authorization"), None);
}

/// Another host that a registry leads to, asks for credentials, and names itself as who hands out tokens for them.
fn greedy() -> Registry {
    let other = Registry::start();
    let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", other.host);
    other.wants("Bearer t0ken", &realm);
    other.gives("t0ken", &format!("Basic {ALICE}"));
    other
}

#[track_caller]
fn was_told_nothing(other: &Registry) {
    let requests = other.requests();
    assert_ne!(requests.len(), 0);
    assert!(
        requests
            .iter()
            .all(|request| !request.headers.contains_key("authorization"))
    );
}

#[test]
fn attack_a_host_that_a_redirect_leads_to_asks_for_the_password() {
    let (registry, other) = (Registry::start(), greedy());
    registry.wants(&format!("Basic {ALICE}"), "Basic realm=\"registry\"");
    let fixture = Fixture::new().with_login(&registry, ALICE);
    fixture.push(&registry).unwrap();
    let kernel = digest(&fs::read(fixture.path("release/vmlinuz")).unwrap());
    let elsewhere = format!("http://{}/blob", other.host);
    registry.plan("GET", &kernel, 100, Fault::Status(307, vec![("Location", elsewhere)]));
    fixture.is_refused(&registry, Exit::Outside, "another host, which wants credentials");
    was_told_nothing(&other);
}

#[test]
fn attack_an_upload_and_a_list_that_go_on_at_another_host() {
    let (registry, other) = (Registry::start(), greedy());
    registry.wants(&format!("Basic {ALICE}"), "Basic realm=\"registry\"");
    let fixture = Fixture::new().with_login(&registry, ALICE);
    let elsewhere = format!("http://{}/upload", other.host);
    registry.plan(
        "POST",
        "uploads",
        100,
        Fault::Status(202, vec![("Location", elsewhere)]),
    );
    let report = mend::report(&fixture.push(&registry).unwrap_err());
    assert!(report.contains("another host, which wants credentials"), "{report}");
    was_told_nothing(&other);

    let (registry, other) = (Registry::start(), greedy());
    registry.wants(&format!("Basic {ALICE}"), "Basic realm=\"registry\"");
    let fixture = Fixture::new().with_login(&registry, ALICE);
    fixture.push(&registry).unwrap();
    registry.goes_on(&format!("http://{}/more", other.host));
    fixture.is_refused(&registry, Exit::Outside, "another host, which wants credentials");
    was_told_nothing(&other);
}

#[test]
fn a_redirect_to_plain_http_and_one_in_a_circle_are_refused() {
    for (location, why) in [
        ("http://192.0.2.1/blob", "only https may be followed"),
        ("CIRCLE", "redirects more than"),
        ("file:///etc/passwd", "no URL"),
    ] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        fixture.push(&registry).unwrap();
        let kernel = digest(&fs::read(fixture.path("release/vmlinuz")).unwrap());
        let location = location.replace("CIRCLE", &format!("/v2/a/b/blobs/{kernel}"));
        registry.plan("GET", &kernel, 100, Fault::Status(307, vec![("Location", location)]));
        fixture.is_refused(&registry, Exit::Outside, why);
    }
}

#[test]
fn a_token_server_without_https_is_not_told_the_password() {
    let registry = Registry::start();
    registry.wants("Bearer t", "Bearer realm=\"http://192.0.2.1/token\",service=\"s\"");
    let fixture = Fixture::new().with_login(&registry, ALICE);
    let report = mend::report(&fixture.push(&registry).unwrap_err());
    assert!(
        report.contains("only https may be followed") && !report.contains(ALICE),
        "{report}"
    );
}
