//! Mirrors that lie, stall and break: what arrives in the store is what the lock names, or nothing.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod hostile_mirror;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Error;
use builder::mend::{self, Exit};
use builder::model::Recipe;
use builder::stage::resolve::Archive as _;
use builder::world::environment::Proxies;
use builder::world::net::{Limits, Reach, Wanted};
use builder::world::{Mirrors, Net, Store};
use hostile_mirror::{Answer, Mirror};
use measure::Sha256;
use tempfile::TempDir;

const LIMITS: Limits = Limits {
    stall: Duration::from_millis(400),
    attempts: 3,
    pause: Duration::from_millis(1),
    connections: 8,
};

struct Fixture {
    folder: TempDir,
    store: Store,
    content: Vec<u8>,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let content = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        Self { folder, store, content }
    }

    fn mirror(&self, answers: &[Answer]) -> Mirror {
        Mirror::start(&self.content, answers)
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            archive: "debian".into(),
            path: "pool/a/a_1+b~c_amd64.deb".into(),
            sha256: Sha256::of(&self.content),
            size: self.content.len() as u64,
        }
    }

    fn net(&self, urls: &[&str], reach: Reach) -> Net {
        self.net_behind(Proxies::default(), urls, reach)
    }

    fn net_behind(&self, proxies: Proxies, urls: &[&str], reach: Reach) -> Net {
        let recipe = Recipe::parse(include_str!("../recipes/minimal/recipe.toml")).unwrap();
        let named: Vec<_> = urls
            .iter()
            .map(|url| format!("debian={url}").parse().unwrap())
            .collect();
        let mirrors = Mirrors::new(&recipe, &named, &[]).unwrap();
        Net::new(self.store.clone(), mirrors, proxies, LIMITS, reach)
    }

    fn fetch(&self, mirrors: &[&Mirror]) -> Result<(), Error> {
        let urls: Vec<&str> = mirrors.iter().map(|mirror| mirror.url.as_str()).collect();
        self.net(&urls, Reach::Online).fetch(&[self.wanted()])
    }

    #[track_caller]
    fn arrives(&self, mirrors: &[&Mirror]) {
        if let Err(error) = self.fetch(mirrors) {
            panic!("{}", mend::report(&error));
        }
        let wanted = self.wanted();
        assert_eq!(self.store.bytes(&wanted.sha256, wanted.size).unwrap(), self.content);
    }

    #[track_caller]
    fn fails(&self, mirrors: &[&Mirror], exit: Exit, part: &str) {
        let error = self.fetch(mirrors).expect_err(part);
        let report = mend::report(&error);
        assert!(report.contains(part), "{report}");
        assert_eq!(mend::exit_code(&error), exit, "{report}");
        assert!(!self.store.path(&self.wanted().sha256).exists());
    }
}

fn ranges(mirror: &Mirror) -> Vec<Option<String>> {
    mirror.requests().into_iter().map(|(_, range)| range).collect()
}

fn from(byte: u64) -> Option<String> {
    Some(format!("bytes={byte}-"))
}

#[test]
fn a_good_mirror_is_asked_once_and_then_never() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Whole]);
    fixture.arrives(&[&mirror]);
    fixture.arrives(&[&mirror]);
    assert_eq!(
        mirror.requests(),
        [("/debian/pool/a/a_1+b~c_amd64.deb".to_owned(), None)]
    );
}

#[test]
fn a_damaged_file_of_the_store_is_fetched_again() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Whole]);
    fixture.arrives(&[&mirror]);
    let place = fixture.store.path(&fixture.wanted().sha256);
    for damage in [&fixture.content[1..], b""] {
        fs::remove_file(&place).unwrap();
        fs::write(&place, damage).unwrap();
        fixture.arrives(&[&mirror]);
    }
    assert_eq!(mirror.requests().len(), 3);
}

#[test]
fn wrong_bytes_lead_to_the_next_mirror() {
    let fixture = Fixture::new();
    let (bad, good) = (fixture.mirror(&[Answer::Wrong]), fixture.mirror(&[Answer::Whole]));
    fixture.arrives(&[&bad, &good]);
    assert_eq!((bad.requests().len(), good.requests().len()), (1, 1));
}

#[test]
fn wrong_bytes_everywhere_are_a_lock_mismatch_with_url_and_both_digests() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Wrong]);
    let found = Sha256::of(vec![b'!'; fixture.content.len()]).to_string();
    for part in [&mirror.url, &fixture.wanted().sha256.to_string(), &found] {
        fixture.fails(&[&mirror], Exit::LockMismatch, part);
    }
}

#[test]
fn an_archive_that_moved_on_is_told_apart() {
    let fixture = Fixture::new();
    let (a, b) = (
        fixture.mirror(&[Answer::Status(404)]),
        fixture.mirror(&[Answer::Status(410)]),
    );
    fixture.fails(
        &[&a, &b],
        Exit::Outside,
        "mend: the archive has moved on: begat lock RECIPE",
    );
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

#[test]
fn a_mirror_that_recovers_is_asked_again() {
    let fixture = Fixture::new();
    fixture.arrives(&[&fixture.mirror(&[Answer::Status(500), Answer::Status(503), Answer::Whole])]);
}

#[test]
fn a_mirror_that_does_not_recover_is_given_up() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Status(500)]);
    fixture.fails(&[&mirror], Exit::Outside, "status 500");
    assert_eq!(mirror.requests().len(), 3);
}

#[test]
fn a_refusal_is_not_asked_again() {
    let fixture = Fixture::new();
    let (bad, good) = (fixture.mirror(&[Answer::Status(403)]), fixture.mirror(&[Answer::Whole]));
    fixture.arrives(&[&bad, &good]);
    assert_eq!(bad.requests().len(), 1);
}

#[test]
fn a_stalled_mirror_is_left_in_time() {
    let fixture = Fixture::new();
    let (bad, good) = (fixture.mirror(&[Answer::Stall(1000)]), fixture.mirror(&[Answer::Whole]));
    let start = Instant::now();
    fixture.arrives(&[&bad, &good]);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(ranges(&good), [from(3000)]); // a thousand of each attempt
}

#[test]
fn a_mirror_that_trickles_is_left_in_time() {
    let mut fixture = Fixture::new();
    fixture.content.truncate(1000);
    let (bad, good) = (fixture.mirror(&[Answer::Trickle]), fixture.mirror(&[Answer::Whole]));
    let start = Instant::now();
    fixture.arrives(&[&bad, &good]);
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(good.requests().len(), 1);
}

#[test]
fn a_cut_download_goes_on_where_it_was_cut() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Cut(1000), Answer::Cut(500), Answer::Whole]);
    fixture.arrives(&[&mirror]);
    assert_eq!(ranges(&mirror), [None, from(1000), from(1500)]);
}

#[test]
fn the_next_run_goes_on_where_the_last_was_cut() {
    let fixture = Fixture::new();
    fixture.fails(
        &[&fixture.mirror(&[Answer::Cut(100)])],
        Exit::Outside,
        "after 300 of 400000 bytes",
    );
    let good = fixture.mirror(&[Answer::Whole]);
    fixture.arrives(&[&good]);
    assert_eq!(ranges(&good), [from(300)]);
}

#[test]
fn wrong_bytes_before_the_cut_are_fetched_again() {
    let fixture = Fixture::new();
    let evil = vec![b'!'; fixture.content.len()];
    let evil = Mirror::start(&evil, &[Answer::Cut(1000), Answer::Status(404)]);
    let good = fixture.mirror(&[Answer::Whole]);
    fixture.arrives(&[&evil, &good]);
    assert_eq!(ranges(&good), [from(1000), None]);
}

#[test]
fn a_partial_file_that_somebody_changed_does_no_harm() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Whole]);
    let name = fixture.wanted().sha256;
    let partial = fixture.store.root().join("partial").join(name.to_string());
    for size in [100, fixture.content.len(), fixture.content.len() + 1] {
        fs::write(&partial, vec![b'!'; size]).unwrap();
        fixture.arrives(&[&mirror]);
        fs::remove_file(fixture.store.path(&name)).unwrap();
    }
}

#[test]
fn a_mirror_without_ranges_is_read_from_the_start() {
    let fixture = Fixture::new();
    fixture.arrives(&[&fixture.mirror(&[Answer::Cut(1000), Answer::IgnoreRange])]);
}

#[test]
fn a_range_from_elsewhere_is_not_believed() {
    let fixture = Fixture::new();
    fixture.arrives(&[&fixture.mirror(&[Answer::Cut(1000), Answer::WrongRange, Answer::Whole])]);
}

#[test]
fn a_lie_about_the_size_leads_to_the_next_mirror() {
    for lie in [-1, 1, 1 << 40] {
        let fixture = Fixture::new();
        let liar = fixture.mirror(&[Answer::Lie(lie)]);
        fixture.fails(&[&liar], Exit::LockMismatch, "bytes there, the lock says 400000");
        fixture.arrives(&[&liar, &fixture.mirror(&[Answer::Whole])]);
    }
}

#[test]
fn an_endless_body_is_cut_off_at_the_locked_size() {
    let fixture = Fixture::new();
    fixture.arrives(&[&fixture.mirror(&[Answer::Endless])]); // its first bytes are right
    let fixture = Fixture::new();
    fixture.fails(
        &[&Mirror::start(b"!!!!", &[Answer::Endless])],
        Exit::LockMismatch,
        "the lock says",
    );
}

#[test]
fn signed_metadata_has_a_size_limit() {
    let fixture = Fixture::new();
    let signed = |mirror: &Mirror| {
        let net = fixture.net(&[&mirror.url], Reach::Online);
        net.signed("debian", "dists/trixie/InRelease")
    };
    let error = signed(&Mirror::start(&[b'!'; 1 << 16], &[Answer::Endless])).unwrap_err();
    assert!(error.to_string().contains("more than 16777216 bytes"), "{error}");
    let bytes = signed(&fixture.mirror(&[Answer::Status(500), Answer::Whole])).unwrap();
    assert_eq!(bytes, fixture.content);
}

#[test]
fn an_index_is_tried_under_each_of_its_names() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Status(404), Answer::Whole]);
    let net = fixture.net(&[&mirror.url], Reach::Online);
    let Wanted { sha256, size, .. } = fixture.wanted();
    let paths = ["dists/x/by-hash/SHA256/x", "dists/x/Packages.xz"].map(str::to_owned);
    for _ in 0..2 {
        assert_eq!(net.index("debian", &paths, sha256, size).unwrap(), fixture.content);
    }
    let asked: Vec<_> = mirror.requests().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, paths.map(|path| format!("/debian/{path}")));
}

#[test]
fn two_begat_at_once_fetch_a_file_once() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Cut(1000), Answer::Whole]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fixture.arrives(&[&mirror]));
        }
    });
    assert_eq!(mirror.requests().len(), 2);
}

#[test]
fn offline_uses_the_store_and_folders_alone() {
    let fixture = Fixture::new();
    let mirror = fixture.mirror(&[Answer::Whole]);
    let fetch = |url: &str| fixture.net(&[url], Reach::Offline).fetch(&[fixture.wanted()]);
    let report = mend::report(&fetch(&mirror.url).unwrap_err());
    assert!(report.contains("without --offline"), "{report}");

    let file = fixture.folder.path().join("debian").join(fixture.wanted().path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, &fixture.content).unwrap();
    fetch(&format!("file://{}/debian", fixture.folder.path().display())).unwrap();
    fetch(&mirror.url).unwrap();
    assert!(mirror.requests().is_empty());
}

#[test]
fn a_proxy_is_asked_to_connect() {
    let fixture = Fixture::new();
    let proxy = fixture.mirror(&[Answer::Whole]);
    let proxies = Proxies {
        http: Some(proxy.url.replace("/debian", "")),
        ..Proxies::default()
    };
    let net = fixture.net_behind(proxies, &["http://mirror.invalid/debian"], Reach::Online);
    net.fetch(&[fixture.wanted()]).unwrap();
    let asked: Vec<_> = proxy.requests().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, ["mirror.invalid:80", "/debian/pool/a/a_1+b~c_amd64.deb"]);
}

#[test]
fn a_link_in_place_of_a_partial_file_is_not_written_through() {
    let fixture = Fixture::new();
    let precious = fixture.folder.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let partial = fixture
        .store
        .root()
        .join("partial")
        .join(fixture.wanted().sha256.to_string());
    std::os::unix::fs::symlink(&precious, partial).unwrap();
    fixture.fails(&[&fixture.mirror(&[Answer::Whole])], Exit::Outside, "cannot write");
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

#[test]
fn a_mirror_that_nobody_runs_is_named() {
    let fixture = Fixture::new();
    let net = fixture.net(&["http://127.0.0.1:1/debian"], Reach::Online);
    let error = net.fetch(&[fixture.wanted()]).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::Outside);
    assert!(error.to_string().contains("http://127.0.0.1:1/debian/pool"), "{error}");
}

#[test]
fn a_full_disk_is_the_fault_of_the_store_and_not_of_the_mirror() {
    let mut fixture = Fixture::new();
    let small = fixture.folder.path().join("small");
    fs::create_dir(&small).unwrap();
    if !run(
        "mount",
        &["-t", "tmpfs", "-o", "size=64k", "tmpfs", small.to_str().unwrap()],
    ) {
        println!("skipped: mounting a small file system takes root");
        return;
    }
    fixture.store = Store::open(&small).unwrap();
    let mirror = fixture.mirror(&[Answer::Whole]);
    let outcome = fixture.fetch(&[&mirror]);
    assert!(run("umount", &[small.to_str().unwrap()]));
    let report = mend::report(&outcome.unwrap_err());
    assert!(
        report.contains("No space left") && report.contains("make room"),
        "{report}"
    );
    assert_eq!(mirror.requests().len(), 1);
}

#[expect(clippy::disallowed_methods, reason = "mount is no part of a build")]
fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}
