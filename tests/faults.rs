//! Bad input and faults, as a user meets them: which exit code, which message, and that nothing is lost.
//!
//! Packages come from a small archive whose tools are empty, so a build that gets past its faults ends where it starts
//! the first of them. What needs a whole build is in `interrupted.rs`; mirrors that stall, which takes minutes with the
//! limits of the command line, are in `fetch.rs`.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "the binary is what is tested, and a panic is how a test fails"
)]

mod archive;
mod begat;
mod hostile_mirror;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use archive::{Signer, Suite};
use begat::{Ended, Running, begat_at, names, run, wait_until, with_memory_at};
use builder::model::Lock;
use hostile_mirror::{Answer, Mirror};
use measure::Sha256;
use tempfile::TempDir;

const RECIPE: &str = r#"
name = "test"
epoch = "2026-01-01T00:00:00Z"
firmware = ["../firmware"]
kernel = "../kernel"
tools = "trixie"
command-line = ["console=ttyS0"]
[suites.trixie]
archive = "test"
keyring = "test.asc"
[root]
suite = "trixie"
packages = ["guest"]
[initrd]
suite = "trixie"
packages = ["kmod"]
modules = ["virtio_blk"]
"#;

/// How far a build gets with tools that are empty.
const PAST_FETCHING: &str = "mend: the tool tree lacks it";

/// A project, a mirror, a store and a folder for releases, all in one folder.
struct Site {
    folder: TempDir,
    /// Where the packages come from.
    mirror: String,
    release: String,
}

impl Site {
    fn new() -> Self {
        Self::with(&suite())
    }

    fn with(suite: &Suite) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mirror = format!("file://{}", folder.path().join("mirror").display());
        let release = "test".into();
        let site = Self {
            folder,
            mirror,
            release,
        };
        for folder in ["home", "recipe", "firmware", "kernel", "store", "releases"] {
            fs::create_dir(site.path(folder)).unwrap();
        }
        site.serve(suite, &Signer::new(1));
        site.recipe(RECIPE);
        fs::write(site.path("recipe/test.asc"), Signer::new(1).keyring()).unwrap();
        let firmware = "suite = \"trixie\"\npackage = \"ovmf\"\nfile = \"/OVMF.fd\"\nsupports = [\"snp\"]\n";
        let kernel = "suite = \"trixie\"\npackage = \"linux-image-cloud-amd64\"\n";
        for (file, text) in [("firmware/firmware.toml", firmware), ("kernel/kernel.toml", kernel)] {
            fs::write(site.path(file), format!("description = \"\"\n{text}")).unwrap();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn serve(&self, suite: &Suite, signer: &Signer) {
        archive::write(&self.path("mirror"), &suite.files(signer));
    }

    fn recipe(&self, text: &str) {
        fs::write(self.path("recipe/recipe.toml"), text).unwrap();
    }

    /// The same site, with packages from elsewhere.
    fn from(mut self, mirror: &str) -> Self {
        mirror.clone_into(&mut self.mirror);
        self
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = begat::begat(&self.path("home"));
        self.arguments(verb, &mut command);
        command
    }

    fn arguments(&self, verb: &str, command: &mut Command) {
        command.arg(verb).arg(self.path("recipe"));
        command.arg(format!("--mirror=test={}", self.mirror));
        command.arg("--store").arg(self.path("store"));
        if verb == "build" {
            command.arg("--output").arg(self.path("releases").join(&self.release));
        }
    }

    fn lock(&self) -> Ended {
        run(&mut self.command("lock"))
    }

    /// Builds, and checks that there is no trace of a release.
    #[track_caller]
    fn build(&self) -> Ended {
        let ended = run(&mut self.command("build"));
        assert_eq!(names(&self.path("releases")), [""; 0], "{}", ended.stderr);
        ended
    }

    /// Every fault before assembling is mended.
    #[track_caller]
    fn builds(&self) -> Ended {
        let ended = self.build();
        ended.fails(5, &[PAST_FETCHING]);
        ended
    }

    /// Where the store keeps a package, and its bytes.
    fn package(&self, name: &str) -> (PathBuf, Vec<u8>) {
        let lock = Lock::parse(&fs::read_to_string(self.path("recipe/recipe.lock")).unwrap()).unwrap();
        let package = lock.package.iter().find(|package| package.name == name).unwrap();
        let sha256 = package.sha256.to_string();
        let place = self.path("store/sha256").join(&sha256[..2]).join(&sha256);
        (place, fs::read(self.path("mirror").join(&package.path)).unwrap())
    }
}

fn suite() -> Suite {
    let mut suite = archive::trixie();
    suite.date = "Wed, 01 Jan 2025 00:00:00 UTC".into();
    suite
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(file).unwrap(); // files of the store are read-only
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_byte_flipped_in_the_store() {
    let site = Site::new();
    site.builds();
    let (place, bytes) = site.package("guest");
    flip(&place);
    let site = site.from("http://127.0.0.1:1/");
    let ended = run(site.command("build").arg("--offline"));
    ended.fails(
        3,
        &[
            "the store is damaged",
            &Sha256::of(&bytes).to_string(),
            "mend: remove it",
        ],
    );
    assert_eq!(names(&site.path("releases")), [""; 0]);
    let mirror = format!("file://{}", site.path("mirror").display());
    let site = site.from(&mirror);
    assert!(site.builds().stderr.contains("fetched 1 file"));
    assert_eq!(fs::read(place).unwrap(), bytes);
}

#[test]
fn a_byte_flipped_in_a_package_on_the_mirror() {
    let site = Site::new();
    site.lock().is_fine();
    let pool = site.path("mirror/pool/main/guest_1_amd64.deb");
    flip(&pool);
    let ended = site.build();
    ended.fails(
        3,
        &[
            "guest_1_amd64.deb: it has SHA-256",
            "the lock says",
            "mend: name a mirror",
        ],
    );
    flip(&pool);
    site.builds();
}

#[test]
fn a_byte_flipped_in_the_signed_metadata() {
    let site = Site::new();
    flip(&site.path("mirror/dists/trixie/InRelease"));
    site.lock().fails(3, &["InRelease", "mend: "]);
    site.build().fails(3, &["InRelease"]);
    assert_eq!(names(&site.path("recipe")), ["recipe.toml", "test.asc"]);
    site.serve(&suite(), &Signer::new(1));
    site.builds();
}

#[test]
fn metadata_signed_by_another_key() {
    let site = Site::new();
    site.serve(&suite(), &Signer::new(2));
    let ended = site.lock();
    ended.fails(
        3,
        &["no key of the keyring has signed dists/trixie/InRelease", "mend: "],
    );
    site.serve(&suite(), &Signer::new(1));
    site.builds();
}

#[test]
fn expired_metadata() {
    let mut expired = suite();
    expired.valid_until = Some("Wed, 08 Jan 2025 00:00:00 UTC".into());
    let site = Site::with(&expired);
    site.lock()
        .fails(4, &["has expired on 2025-01-08T00:00:00Z", "mend: try another mirror"]);
    site.serve(&suite(), &Signer::new(1));
    site.builds();
}

#[test]
fn metadata_older_than_the_lock() {
    let site = Site::new();
    site.lock().is_fine();
    let lock = || fs::read(site.path("recipe/recipe.lock")).unwrap();
    let before = lock();
    let mut old = suite();
    old.date = "Tue, 31 Dec 2024 00:00:00 UTC".into();
    site.serve(&old, &Signer::new(1));
    site.lock()
        .fails(4, &["is older than that of the lock", "mend: try another mirror"]);
    assert_eq!(lock(), before);
    site.builds(); // what is locked can still be had
}

#[test]
fn mirrors_that_lie_truncate_or_have_nothing() {
    let mut site = Site::new();
    site.builds();
    let (place, bytes) = site.package("guest");
    let cases = [
        (
            Answer::Status(404),
            6,
            "it is not there (status 404)",
            "the archive has moved on",
        ),
        (Answer::Status(403), 6, "it is refused with status 403", "try again"),
        (Answer::Status(500), 6, "status 500", "try again"),
        (Answer::Cut(100), 6, "it broke after", "try again"),
        (Answer::Lie(1), 3, "the lock says", "name a mirror"),
        (Answer::Wrong, 3, "it has SHA-256", "name a mirror"),
    ];
    for (answer, code, why, mend) in cases {
        fs::remove_file(&place).unwrap();
        let mirror = Mirror::start(&bytes, &[answer]);
        site = site.from(&mirror.url);
        site.build().fails(
            code,
            &[
                "no mirror gives pool/main/guest_1_amd64.deb",
                why,
                &format!("mend: {mend}"),
            ],
        );
        site = site.from(&Mirror::start(&bytes, &[Answer::Whole]).url);
        site.builds();
    }
}

#[test]
fn a_package_with_a_member_that_leaves_its_folder_or_is_a_device() {
    use tar::EntryType::{Char, Regular};
    for (name, kind, why) in [
        ("../../../evil", Regular, "has a `..`"),
        ("/tmp/begat-evil", Regular, "is absolute"),
        ("./usr/bin/evil", Char, "packages hold files, folders and links"),
    ] {
        let mut suite = suite();
        let zstd = suite.packages.iter_mut().find(|deb| deb.name == "zstd").unwrap();
        zstd.evil = Some((name.into(), kind));
        let site = Site::with(&suite);
        site.build()
            .fails(2, &["cannot unpack zstd 1", why, "mend: its digest is the locked one"]);
        assert_eq!(names(&site.path("store/trees")), [""; 0]);
        assert!(!Path::new("/tmp/begat-evil").exists() && !site.path("evil").exists());
        zstd_is_harmless_again(&site);
    }
}

/// A newer version without the member.
#[track_caller]
fn zstd_is_harmless_again(site: &Site) {
    let mut mended = suite();
    mended
        .packages
        .iter_mut()
        .find(|deb| deb.name == "zstd")
        .unwrap()
        .version = "2".into();
    site.serve(&mended, &Signer::new(1));
    site.lock().is_fine();
    site.builds();
}

#[test]
fn a_recipe_with_an_unknown_key_a_wrong_type_or_a_package_that_does_not_exist() {
    let site = Site::new();
    for (from, to, parts) in [
        (
            "packages",
            "pakages",
            ["unknown field `pakages`", "mend: did you mean `packages`?"],
        ),
        (
            "tools = \"trixie\"",
            "tools = 13",
            ["invalid type: integer `13`", "mend: correct recipe.toml"],
        ),
        ("\"guest\"", "\"gest\"", ["gest", "mend: did you mean `guest`?"]),
        (
            "keyring = \"test.asc\"",
            "keyring = \"text.asc\"",
            ["cannot read the keyring text.asc", "mend: put it"],
        ),
        ("[\"../firmware\"]", "[\"../firm\"]", ["firm/firmware.toml", "mend: "]),
    ] {
        site.recipe(&RECIPE.replacen(from, to, 1));
        site.lock().fails(2, &parts);
        site.build().fails(2, &parts);
        assert_eq!(names(&site.path("recipe")), ["recipe.toml", "test.asc"]);
    }
    site.recipe(RECIPE);
    site.builds();
}

#[test]
fn an_output_folder_that_exists() {
    let site = Site::new();
    let precious = site.path("releases/test/precious");
    fs::create_dir(site.path("releases/test")).unwrap();
    fs::write(&precious, "precious").unwrap();
    let ended = run(&mut site.command("build"));
    ended.fails(
        2,
        &[
            "releases/test exists",
            "mend: choose another name, or replace it: --force",
        ],
    );
    let ended = run(site.command("build").arg("--force"));
    ended.fails(
        2,
        &["it is no release, so it is not replaced", "mend: choose another name"],
    );
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert_eq!(names(&site.path("releases")), ["test"]);
    fs::write(site.path("releases/test/manifest.json"), "{}").unwrap();
    let ended = run(site.command("build").arg("--force"));
    ended.fails(5, &[PAST_FETCHING]); // the old one stays until the new one is whole
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert_eq!(names(&site.path("releases")), ["test"]);
}

#[test]
fn a_full_disk_under_the_store_the_lock_or_the_releases() {
    let site = Site::new();
    site.lock().is_fine();
    let full = |folder: &str, options: &str, parts: &[&str]| {
        let mounts = vec![(site.path(folder), options.to_owned())];
        let ran = with_memory_at(mounts, || {
            let ended = run(&mut site.command("build"));
            ended.fails(6, parts);
            ended.fails(6, &["No space left on device", "mend: make room", folder]);
            assert_eq!(names(&site.path("releases")), [""; 0]);
        });
        if !ran {
            println!("skipped: a small file system under {folder} needs root");
        }
    };
    full("store", "size=64k", &["--store FOLDER"]);
    full("store", "nr_inodes=30", &["--store FOLDER"]);
    full("releases", "nr_inodes=1", &["cannot make a folder", "--output DIR"]);
    site.builds();
}

#[test]
fn a_full_disk_under_the_recipe_keeps_the_old_lock() {
    let site = Site::new();
    let ran = with_memory_at(vec![(site.path("recipe"), "size=8k".into())], || {
        fs::write(site.path("recipe/test.asc"), Signer::new(1).keyring()).unwrap();
        site.recipe(RECIPE);
        site.lock().fails(
            6,
            &[
                "cannot write",
                "recipe.lock",
                "No space left on device",
                "mend: make room",
            ],
        );
        assert!(!site.path("recipe/recipe.lock").exists());
    });
    if !ran {
        println!("skipped: a small file system needs root");
    }
    site.builds();
}

#[test]
fn killed_while_it_locks() {
    let site = Site::new();
    let signed = fs::read(site.path("mirror/dists/trixie/InRelease")).unwrap();
    let stalled = Mirror::start(&signed, &[Answer::Stall(100)]);
    let (good, site) = (site.mirror.clone(), site.from(&stalled.url));
    let mut running = Running::start(&mut site.command("build"));
    running.wait_for("signed metadata");
    wait_until("it never asked the mirror", || !stalled.requests().is_empty());
    running.kill();
    assert_eq!(names(&site.path("recipe")), ["recipe.toml", "test.asc"]);
    let site = site.from(&good);
    site.builds();
}

#[test]
fn a_lock_that_was_half_written_is_not_the_recipes() {
    let site = Site::new();
    site.lock().is_fine();
    let before = fs::read_to_string(site.path("recipe/recipe.lock")).unwrap();
    fs::write(site.path("recipe/.recipe.lock.partial"), &before[..100]).unwrap();
    run(site.command("build").arg("--locked")).fails(5, &[PAST_FETCHING]);
    site.lock().is_fine();
    assert_eq!(fs::read_to_string(site.path("recipe/recipe.lock")).unwrap(), before);
    assert_eq!(names(&site.path("recipe")), ["recipe.lock", "recipe.toml", "test.asc"]);
}

#[test]
fn killed_while_it_fetches() {
    let site = Site::new();
    site.builds();
    let (place, bytes) = site.package("guest");
    fs::remove_file(&place).unwrap();
    let mirror = Mirror::start(&bytes, &[Answer::Stall(1000), Answer::Whole]);
    let site = site.from(&mirror.url);
    let running = Running::start(&mut site.command("build"));
    let partial = site.path("store/partial").join(place.file_name().unwrap());
    let arrived = || fs::metadata(&partial).is_ok_and(|found| found.len() == 1000);
    wait_until("nothing ever arrived", arrived);
    running.kill();
    assert!(names(&site.path("releases"))[0].starts_with(".test.partial-"));
    site.builds(); // and nothing is left in the folder of releases
    let ranges: Vec<_> = mirror.requests().into_iter().map(|(_, range)| range).collect();
    assert_eq!(ranges, [None, Some("bytes=1000-".to_owned())]);
    assert_eq!(fs::read(place).unwrap(), bytes);
}

#[test]
fn a_tool_tree_that_was_half_unpacked_is_thrown_away() {
    let site = Site::new();
    let half = site.path("store/trees/.partial-killed");
    fs::create_dir_all(half.join("tree/usr/bin")).unwrap();
    fs::write(half.join("tree/usr/bin/mkosi"), "").unwrap();
    site.builds();
    assert!(!half.exists());
    assert_eq!(names(&site.path("store/trees")).len(), 2); // a tree and its listing
}

/// With all that a store can say for it: whoever can change the program can change that, too.
#[test]
fn attack_a_program_in_the_tool_tree_of_a_store_that_was_carried_here() {
    let site = Site::new();
    assert!(site.builds().stderr.contains("unpacked"));
    let trees = site.path("store/trees");
    let name = names(&trees).into_iter().find(|name| !name.contains('.')).unwrap();
    let (tree, program) = (trees.join(&name), trees.join(&name).join("usr/bin/mkosi"));
    assert!(!site.builds().stderr.contains("unpacked"), "it was there");
    let vouched = fs::read_to_string(trees.join(format!("{name}.seal"))).unwrap();
    fs::write(&program, "#!/bin/sh\necho evil > /run/out/rootfs.erofs\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let listing = format!(
        "\"usr/bin/mkosi\" file 0755 {}\n",
        Sha256::of(fs::read(&program).unwrap())
    );
    for (file, text) in [
        ("list", &listing),
        ("seal", &Sha256::of(&listing).to_string()),
        ("seal", &vouched),
    ] {
        if !program.exists() {
            fs::write(&program, "evil").unwrap();
        }
        fs::write(trees.join(format!("{name}.{file}")), text).unwrap();
        let ended = run(site.command("build").arg("--locked"));
        ended.fails(5, &["it is unpacked again", PAST_FETCHING]);
        assert!(tree.exists() && !program.exists(), "{file}");
    }
    // in a store that others can write to, none is believed, and none of theirs is used
    fs::write(&program, "evil").unwrap();
    fs::set_permissions(site.path("store"), Permissions::from_mode(0o777)).unwrap();
    run(site.command("build").arg("--locked")).fails(5, &["others can write to it", PAST_FETCHING]);
}

#[test]
fn two_builds_at_once_on_one_store() {
    let mut site = Site::new();
    site.lock().is_fine();
    let commands = ["one", "two", "three"].map(|release| {
        site.release = release.into();
        site.command("build")
    });
    thread::scope(|scope| {
        for mut command in commands {
            scope.spawn(move || run(&mut command).fails(5, &[PAST_FETCHING]));
        }
    });
    assert_eq!(names(&site.path("releases")), [""; 0]);
    assert_eq!(names(&site.path("store/partial")), [""; 0]);
    assert_eq!(names(&site.path("store/trees")).len(), 2);
}

#[test]
fn a_host_without_namespaces() {
    let site = Site::new();
    let mut begat = site.command("build");
    // The limit holds in the namespace of users that this makes, and below.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"";
    let mut limited = Command::new("unshare");
    limited.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    limited.arg(begat.get_program()).args(begat.get_args());
    let namespaces = run(Command::new("unshare").args(["--user", "--map-root-user", "true"]));
    if namespaces.code != Some(0) {
        println!("skipped: this host is one; it must fail as it is");
        limited = std::mem::replace(&mut begat, Command::new("true"));
    }
    let ended = run(&mut limited);
    ended.fails(
        5,
        &["cannot make namespaces", "mend: run where user namespaces are allowed"],
    );
    assert_eq!(names(&site.path("releases")), [""; 0]);
}

/// A user whom nobody has heard of.
const NOBODY_IN_PARTICULAR: u32 = 64_123;

/// What an ordinary user gets, with these tables of subordinate users.
fn as_an_ordinary_user(site: &Site, mounts: Vec<(PathBuf, String)>, table: Option<&str>) -> Option<Ended> {
    if !nix::unistd::Uid::effective().is_root() {
        println!("skipped: only root can be somebody else");
        return None;
    }
    site.lock().is_fine();
    let binary = site.path("begat");
    fs::copy(env!("CARGO_BIN_EXE_begat"), &binary).unwrap();
    for folder in ["", "home", "store", "releases", "recipe"] {
        fs::set_permissions(site.path(folder), Permissions::from_mode(0o755)).unwrap();
        let owner = Some(NOBODY_IN_PARTICULAR);
        std::os::unix::fs::chown(site.path(folder), owner, owner).unwrap();
    }
    fs::remove_dir_all(site.path("store")).unwrap();
    let mut command = begat_at(&binary, &site.path("home"));
    site.arguments("build", &mut command);
    command.uid(NOBODY_IN_PARTICULAR).gid(NOBODY_IN_PARTICULAR);
    let mut ended = None;
    let ran = with_memory_at(mounts, || {
        if let Some(table) = table {
            for file in ["/etc/subuid", "/etc/subgid"] {
                bind_text(table, &site.path("table"), Path::new(file));
            }
        }
        ended = Some(run(&mut command));
        assert_eq!(names(&site.path("releases")), [""; 0]);
    });
    if !ran {
        println!("skipped: a file system of one's own needs root in this namespace");
    }
    ended
}

fn bind_text(text: &str, file: &Path, over: &Path) {
    use nix::mount::{MsFlags, mount};
    fs::write(file, text).unwrap();
    let none = None::<&str>;
    mount(Some(file), over, none, MsFlags::MS_BIND, none).unwrap();
}

#[test]
fn an_ordinary_user_without_subordinate_users() {
    let site = Site::new();
    let Some(ended) = as_an_ordinary_user(&site, Vec::new(), Some("")) else {
        return;
    };
    ended.fails(
        5,
        &[
            "/etc/subuid gives the user 64123 no range",
            "mend: as root: usermod --add-subuids",
        ],
    );
}

#[test]
fn a_host_without_newuidmap() {
    let site = Site::new();
    let programs = vec![(PathBuf::from("/usr/bin"), "size=4k".to_owned())];
    let table = format!("{NOBODY_IN_PARTICULAR}:100000:65536\n");
    let Some(ended) = as_an_ordinary_user(&site, programs, Some(&table)) else {
        return;
    };
    ended.fails(5, &["cannot start newuidmap", "mend: apt install uidmap"]);
}
