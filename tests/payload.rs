//! Payloads: what a recipe may say, where their bytes are had, and how they enter a tree.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod hostile_mirror;
mod hostile_registry;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use builder::mend::{self, Exit};
use builder::model::Recipe;
use builder::model::contents::Kind;
use builder::model::lock::Lock;
use builder::model::payload::Payload;
use builder::model::release::Stamp;
use builder::stage::parse::Project;
use builder::stage::payload;
use builder::world::environment::{Environment, Proxies};
use builder::world::net::{Limits, Reach};
use builder::world::{Mirrors, Net, Store};
use hostile_mirror::{Answer, Mirror};
use hostile_registry::{Fault, Registry, digest};
use measure::Sha256;
use serde_json::json;
use tempfile::TempDir;

const MINIMAL: &str = include_str!("../recipes/minimal/recipe.toml");

const LIMITS: Limits = Limits {
    stall: Duration::from_secs(20),
    attempts: 2,
    pause: Duration::from_millis(1),
    connections: 2,
};

/// A recipe's folder with these payloads, and a store.
struct Fixture {
    folder: TempDir,
    project: Project,
    store: Store,
}

impl Fixture {
    fn new(payloads: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recipe = folder.path().join("recipe");
        fs::create_dir(&recipe).unwrap();
        fs::write(recipe.join("own.txt"), "own").unwrap();
        fs::write(recipe.join("recipe.toml"), with(payloads).replace("../../", "")).unwrap();
        for named in [
            "firmware/amdsev/firmware.toml",
            "firmware/generic/firmware.toml",
            "kernels/debian-cloud/kernel.toml",
        ] {
            let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(named);
            fs::create_dir_all(recipe.join(named).parent().unwrap()).unwrap();
            fs::copy(from, recipe.join(named)).unwrap();
        }
        let store = Store::open(folder.path().join("store")).unwrap();
        let project = Project::read(&recipe).unwrap_or_else(|error| panic!("{}", mend::report(&error)));
        Self { folder, project, store }
    }

    fn net(&self, reach: Reach, supplied: &[(&str, Stamp)]) -> Net {
        let mirrors = Mirrors::new(&self.project.recipe, &[], &[]).unwrap();
        let supplied: BTreeMap<_, _> = supplied
            .iter()
            .map(|(name, stamp)| ((*name).to_owned(), *stamp))
            .collect();
        Net::new(self.store.clone(), mirrors, Proxies::default(), LIMITS, reach).with(Environment::default(), supplied)
    }

    #[track_caller]
    fn lock(&self, reach: Reach, supplied: &[(&str, Stamp)]) -> Lock {
        let locked = payload::lock(&self.project, &self.net(reach, supplied));
        let mut lock = Lock::new(Sha256::of(""), Vec::new(), Vec::new(), Vec::new());
        lock.payload = locked.unwrap_or_else(|error| panic!("{}", mend::report(&error)));
        Lock::parse(&lock.text()).unwrap()
    }

    fn fetch(&self, lock: &Lock, reach: Reach) -> anyhow::Result<()> {
        payload::fetch(lock, &self.project, &self.net(reach, &[]), &self.store)
    }

    /// The bytes of the only payload, fetched as it was locked.
    #[track_caller]
    fn fetched(&self, lock: &Lock) -> Vec<u8> {
        self.fetch(lock, Reach::Online)
            .unwrap_or_else(|error| panic!("{}", mend::report(&error)));
        let Stamp { sha256, size } = lock.payload[0].stamp();
        self.store.bytes(&sha256, size).unwrap()
    }

    /// A tree and a folder to work in.
    fn tree(&self) -> (PathBuf, PathBuf) {
        let (tree, work) = (self.folder.path().join("tree"), self.folder.path().join("work"));
        for folder in [&work, &tree.join("usr/lib"), &tree.join("etc")] {
            fs::create_dir_all(folder).unwrap();
        }
        symlink("usr/lib", tree.join("lib")).unwrap();
        symlink("/etc", tree.join("out")).unwrap();
        fs::write(tree.join("etc/taken"), "package").unwrap();
        (tree, work)
    }

    fn place(&self, payload: &Payload) -> (PathBuf, anyhow::Result<()>) {
        let (tree, work) = self.tree();
        let placed = payload::place(payload, &self.store, &work, &tree);
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
        (tree, placed)
    }
}

fn with(payloads: &str) -> String {
    format!("{MINIMAL}\n{payloads}")
}

fn report(error: &anyhow::Error) -> String {
    mend::report(error)
}

#[test]
fn what_a_payload_cannot_be_is_refused() {
    const GOOD: &str = "[[payload]]\nname = \"a\"\nversion = \"1\"\ntarget = \"/usr/bin/a\"\n";
    Recipe::parse(&with(GOOD)).unwrap();
    for (more, why) in [
        ("target = \"/a\"", "duplicate key"),
        ("surce = \"a\"", "unknown field"),
        ("source = \"../a\"", "a source is"),
        ("source = \"ftp://a/b\"", "a source is"),
        ("source = \"oci://registry.example/a:latest\"", "a tag moves"),
        ("source = \"https://a.example/a\"", "need their `sha256`"),
        ("mode = \"4755\"", "a mode is"),
        ("mode = \"755\"\nunpack = true", "leave `mode` out"),
        ("purl = \"npm/a\"", "begins with `pkg:`"),
        ("licence = \"GPL 2 or so\"", "no SPDX expression"),
        ("tree = \"boot\"", "unknown variant"),
        (
            "[[payload]]\nname = \"a\"\nversion = \"1\"\ntarget = \"/b\"",
            "another payload has its name",
        ),
    ] {
        let error = Recipe::parse(&with(&format!("{GOOD}{more}\n"))).expect_err(more);
        assert!(report(&error).contains(why), "{more}: {}", report(&error));
        assert_eq!(mend::exit_code(&error), Exit::Usage);
    }
    for target in ["usr/bin/a", "/", "/../a", "/a//b", "/a/", "/./a", "/a\\b"] {
        let text = GOOD.replace("/usr/bin/a", &target.replace('\\', "\\\\"));
        assert!(Recipe::parse(&with(&text)).is_err(), "{target}");
    }
}

#[test]
fn a_file_of_the_recipe_is_locked_and_a_changed_one_is_refused() {
    let fixture =
        Fixture::new("[[payload]]\nname = \"own\"\nversion = \"1\"\nsource = \"own.txt\"\ntarget = \"/etc/own\"\n");
    let lock = fixture.lock(Reach::Offline, &[]);
    assert_eq!(fixture.fetched(&lock), b"own");
    fs::remove_dir_all(fixture.store.root().join("sha256")).unwrap();
    fs::write(fixture.project.folder.join("own.txt"), "other").unwrap();
    let error = fixture.fetch(&lock, Reach::Online).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::LockMismatch, "{}", report(&error));
}

fn from_url(mirror: &Mirror, content: &[u8]) -> Fixture {
    let sha256 = Sha256::of(content);
    let url = &mirror.url;
    Fixture::new(&format!(
        "[[payload]]\nname = \"agent\"\nversion = \"1\"\nsource = \"{url}/agent\"\nsha256 = \"{sha256}\"\ntarget = \"/usr/bin/agent\"\n"
    ))
}

#[test]
fn a_url_gives_the_size_and_the_bytes_and_a_cut_is_resumed() {
    let content = vec![7; 50_000];
    let mirror = Mirror::start(&content, &[Answer::Whole, Answer::Cut(40_000), Answer::Whole]);
    let fixture = from_url(&mirror, &content);
    let lock = fixture.lock(Reach::Online, &[]);
    assert_eq!(lock.payload[0].size, 50_000);
    assert_eq!(fixture.fetched(&lock), content);
    assert_eq!(mirror.requests()[2].1.as_deref(), Some("bytes=40000-"));
    fixture.fetch(&lock, Reach::Offline).unwrap();
}

#[test]
fn a_url_with_other_bytes_is_refused() {
    let content = vec![7; 50_000];
    let mirror = Mirror::start(&content, &[Answer::Whole, Answer::Wrong]);
    let fixture = from_url(&mirror, &content);
    let lock = fixture.lock(Reach::Online, &[]);
    let error = fixture.fetch(&lock, Reach::Online).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::LockMismatch, "{}", report(&error));
    assert!(report(&error).contains("the payload agent"), "{}", report(&error));
}

/// An artifact of these layers in a registry, and a recipe that takes one.
fn from_registry(layers: &[&[u8]], sha256: Option<&[u8]>) -> (Registry, Fixture) {
    let registry = Registry::start();
    layers.iter().for_each(|layer| registry.put_blob(layer));
    let described: Vec<_> = layers
        .iter()
        .map(|layer| json!({"mediaType": "a/b", "digest": digest(layer), "size": layer.len()}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(b"{}"), "size": 2},
        "layers": described});
    let manifest = manifest.to_string();
    registry.put_manifest("tag", manifest.as_bytes());
    let pin = sha256.map_or(String::new(), |bytes| format!("sha256 = \"{}\"\n", Sha256::of(bytes)));
    let fixture = Fixture::new(&format!(
        "[[payload]]\nname = \"agent\"\nversion = \"1\"\nsource = \"oci://{}/a/b@{}\"\n{pin}target = \"/usr/bin/agent\"\nmode = \"0755\"\n",
        registry.host,
        digest(manifest.as_bytes())
    ));
    (registry, fixture)
}

#[test]
fn an_artifact_by_digest_gives_its_only_layer() {
    let (_registry, fixture) = from_registry(&[b"agent"], None);
    let lock = fixture.lock(Reach::Online, &[]);
    assert_eq!(fixture.fetched(&lock), b"agent");
    fixture.fetch(&lock, Reach::Offline).unwrap();
}

#[test]
fn of_several_layers_the_pinned_one_is_taken() {
    let (_registry, fixture) = from_registry(&[b"one", b"agent"], Some(b"agent"));
    assert_eq!(fixture.fetched(&fixture.lock(Reach::Online, &[])), b"agent");
    for pin in [None, Some(&b"absent"[..])] {
        let (_registry, fixture) = from_registry(&[b"one", b"agent"], pin);
        let error = payload::lock(&fixture.project, &fixture.net(Reach::Online, &[])).unwrap_err();
        assert!(report(&error).contains("of the layers of"), "{}", report(&error));
        assert_eq!(mend::exit_code(&error), Exit::Usage);
    }
}

#[test]
fn a_registry_with_another_manifest_or_another_layer_is_refused() {
    let (registry, fixture) = from_registry(&[b"agent"], None);
    registry.plan("GET", "manifests/", 100, Fault::Wrong);
    let error = payload::lock(&fixture.project, &fixture.net(Reach::Online, &[])).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::No, "{}", report(&error));
    let (registry, fixture) = from_registry(&[b"agent"], None);
    let lock = fixture.lock(Reach::Online, &[]);
    registry.plan("GET", "blobs/", 100, Fault::Wrong);
    let error = fixture.fetch(&lock, Reach::Online).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::LockMismatch, "{}", report(&error));
}

const UNSOURCED: &str = "[[payload]]\nname = \"agent\"\nversion = \"1.2\"\ntarget = \"/usr/bin/agent\"\n
[[payload]]\nname = \"hub\"\nversion = \"3\"\nsha256 = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\ntarget = \"/usr/bin/hub\"\n";

#[test]
fn all_that_is_missing_is_named_and_can_be_supplied() {
    let fixture = Fixture::new(UNSOURCED);
    let error = payload::lock(&fixture.project, &fixture.net(Reach::Online, &[])).unwrap_err();
    let text = report(&error);
    for part in [
        "2 payloads are missing",
        "agent 1.2, digest unknown",
        "hub 3, SHA-256 ba7816bf",
        "mend: ",
        "--supply agent=FILE --supply hub=FILE",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(mend::exit_code(&error), Exit::Outside);
    let file = fixture.folder.path().join("file");
    fs::write(&file, "abc").unwrap();
    let stamp = fixture.store.add_file(&file).unwrap();
    let lock = fixture.lock(Reach::Offline, &[("agent", stamp)]);
    assert_eq!(
        lock.payload.iter().map(|payload| payload.sha256).collect::<Vec<_>>(),
        [Sha256::of("abc"); 2]
    );
    fixture.fetch(&lock, Reach::Offline).unwrap();
    fs::remove_dir_all(fixture.store.root().join("sha256")).unwrap();
    let error = fixture.fetch(&lock, Reach::Offline).unwrap_err();
    let text = report(&error);
    assert!(
        text.contains("2 payloads are missing") && text.contains("hub 3, SHA-256 ba7816bf"),
        "{text}"
    );
    assert_eq!(mend::exit_code(&error), Exit::Outside);
}

/// begat hands out none of the programs that a guest of Confidential Containers consists of.
#[test]
fn the_recipe_of_a_coco_guest_says_what_is_missing() {
    let fixture = Fixture::new("");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/coco-guest");
    let project = Project::read(&recipe).unwrap_or_else(|error| panic!("{}", mend::report(&error)));
    let error = payload::lock(&project, &fixture.net(Reach::Offline, &[])).unwrap_err();
    let text = report(&error);
    for part in [
        "6 payloads are missing",
        "kata-agent 4.1.0, digest unknown",
        "pause-bundle 3.10, digest unknown",
        "--supply attestation-agent=FILE",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(mend::exit_code(&error), Exit::Outside);
}

#[test]
fn another_file_than_the_pinned_one_cannot_be_supplied() {
    let fixture = Fixture::new(UNSOURCED);
    let stamp = Stamp {
        sha256: Sha256::of("evil"),
        size: 4,
    };
    let error = payload::lock(&fixture.project, &fixture.net(Reach::Offline, &[("hub", stamp)])).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::LockMismatch, "{}", report(&error));
}

/// The lock of one payload whose bytes are supplied, with these lines in the recipe.
fn placed(content: &[u8], lines: &str) -> (Fixture, PathBuf, Payload, anyhow::Result<()>) {
    let fixture = Fixture::new(&format!("[[payload]]\nname = \"own\"\nversion = \"1\"\n{lines}\n"));
    let sha256 = fixture.store.add(content).unwrap();
    let size = content.len() as u64;
    let lock = fixture.lock(Reach::Offline, &[("own", Stamp { sha256, size })]);
    let payload = lock.payload[0].clone();
    let (tree, outcome) = fixture.place(&payload);
    (fixture, tree, payload, outcome)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_file_goes_through_the_links_of_the_tree_with_its_mode() {
    let (_fixture, tree, _, outcome) = placed(b"own", "target = \"/lib/a/b/own\"\nmode = \"0755\"");
    outcome.unwrap();
    assert_eq!(fs::read(tree.join("usr/lib/a/b/own")).unwrap(), b"own");
    assert_eq!(
        [mode(&tree.join("usr/lib/a/b/own")), mode(&tree.join("usr/lib/a"))],
        [0o755, 0o755]
    );
}

#[test]
fn what_is_there_stays_unless_the_recipe_says_otherwise() {
    let (_fixture, tree, _, outcome) = placed(b"own", "target = \"/etc/taken\"");
    let error = outcome.unwrap_err();
    assert!(report(&error).contains("replace = true"), "{}", report(&error));
    assert_eq!(fs::read(tree.join("etc/taken")).unwrap(), b"package");
    let (_fixture, tree, _, outcome) = placed(b"own", "target = \"/etc/taken\"\nreplace = true");
    outcome.unwrap();
    assert_eq!(fs::read(tree.join("etc/taken")).unwrap(), b"own");
}

#[test]
fn a_link_of_the_tree_that_leaves_it_is_not_followed() {
    let (_fixture, _, _, outcome) = placed(b"own", "target = \"/out/begat-was-here\"");
    assert!(report(&outcome.unwrap_err()).contains("leaves the folder"));
    assert!(!Path::new("/etc/begat-was-here").exists());
}

/// A folder, a program and a link, compressed or not.
fn archive() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o4755);
    header.set_size(5);
    archive
        .append_data(&mut header, "./usr/local/bin/agent", &b"agent"[..])
        .unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    archive
        .append_link(&mut header, "lib/agent", "../local/bin/agent")
        .unwrap();
    archive.into_inner().unwrap()
}

#[test]
fn an_archive_is_unpacked_below_its_target_and_described_as_it_is_placed() {
    let mut compressed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut compressed, &archive()).unwrap();
    for bytes in [archive(), compressed.finish().unwrap()] {
        let (fixture, tree, payload, outcome) = placed(&bytes, "target = \"/\"\nunpack = true");
        outcome.unwrap();
        assert_eq!(fs::read(tree.join("usr/local/bin/agent")).unwrap(), b"agent");
        assert_eq!(mode(&tree.join("usr/local/bin/agent")), 0o755); // set-user-id is dropped
        assert_eq!(
            fs::read_link(tree.join("usr/lib/agent")).unwrap(),
            Path::new("../local/bin/agent")
        );
        let contents = payload::contents(&payload, &fixture.store).unwrap();
        let paths: Vec<&str> = contents.iter().map(|node| node.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "/lib",
                "/usr/lib/agent",
                "/usr",
                "/usr/local",
                "/usr/local/bin",
                "/usr/local/bin/agent"
            ]
        );
        let sha256 = Sha256::of("agent");
        assert_eq!(
            contents[5].kind,
            Kind::File {
                size: 5,
                sha256,
                same_as: None
            }
        );
        assert_eq!(
            (contents[5].mode, contents[5].image.0.as_str()),
            (0o755, "rootfs.erofs")
        );
    }
}

#[test]
fn an_archive_that_leaves_its_target_is_refused() {
    let mut bytes = archive();
    bytes[..9].copy_from_slice(b"../../etc");
    let sum: u32 = bytes[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let (_fixture, _, _, outcome) = placed(&bytes, "target = \"/\"\nunpack = true");
    assert!(report(&outcome.unwrap_err()).contains("has a `..`"));
}

#[test]
fn a_payload_that_was_changed_in_the_store_is_refused() {
    let (fixture, _, payload, outcome) = placed(b"own", "target = \"/a\"");
    outcome.unwrap();
    let place = fixture.store.path(&payload.sha256);
    fs::remove_file(&place).unwrap();
    fs::write(&place, "owm").unwrap();
    let error = fixture
        .fetch(
            &fixture.lock(Reach::Offline, &[("own", payload.stamp())]),
            Reach::Offline,
        )
        .unwrap_err();
    assert!(report(&error).contains("own 1"), "{}", report(&error));
    let (_, outcome) = fixture.place_again(&payload);
    assert_eq!(mend::exit_code(&outcome.unwrap_err()), Exit::LockMismatch);
}

impl Fixture {
    fn place_again(&self, payload: &Payload) -> (PathBuf, anyhow::Result<()>) {
        let tree = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let work = self.folder.path().join("work");
        let outcome = payload::place(payload, &self.store, &work, &tree);
        (tree, outcome)
    }
}
