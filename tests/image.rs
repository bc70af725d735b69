//! What the writers of `image` write, asked of the programs that everybody uses. A program that is not installed is
//! named and its test passes: `apt install cryptsetup-bin dosfstools mtools fdisk cpio systemd-ukify systemd-boot-efi`.
#![allow(
    clippy::disallowed_methods,
    reason = "the programs are those of the host, where the environment says they are"
)]

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use builder::image::cpio::{Archive, Node, Owner};
use builder::image::fat::{Volume, write_esp};
use builder::image::gpt::{Kind, Partition, write_disk};
use builder::image::uki::{Uki, write_uki};
use builder::image::verity::write_verity;
use tempfile::TempDir;
use uuid::Uuid;

const UUID: Uuid = Uuid::from_u128(0x0123_4567_89ab_8def_8123_4567_89ab_cdef);

#[test]
fn verity_trees_are_those_of_veritysetup() {
    let Some(program) = program("veritysetup") else { return };
    let folder = TempDir::new().expect("temporary folder");
    let (data, theirs, ours) = (
        folder.path().join("data"),
        folder.path().join("theirs"),
        folder.path().join("ours"),
    );
    for blocks in [1, 2, 128, 129, 128 * 128, 128 * 128 + 1] {
        fs::write(&theirs, b"").expect("room");
        let file = numbered_blocks(&data, blocks);
        let salt = [0xa5; 32];
        let root = write_verity(&file, blocks * 4096, &salt, UUID, &mut create(&ours)).expect("a tree");
        let options = [format!("--uuid={UUID}"), format!("--salt={}", "a5".repeat(32))];
        let said = run(Command::new(&program)
            .arg("format")
            .args(options)
            .args([&data, &theirs]));
        assert!(said.contains(&format!("{root}")), "{blocks} blocks: {root}, but {said}");
        assert!(
            fs::read(&ours).expect("ours") == fs::read(&theirs).expect("theirs"),
            "{blocks} blocks"
        );
    }
}

#[test]
fn the_esp_is_clean_and_read_by_mtools() {
    let (Some(fsck), Some(mcopy)) = (program("fsck.fat"), program("mcopy")) else {
        return;
    };
    let folder = TempDir::new().expect("temporary folder");
    let (esp, copy) = (folder.path().join("esp"), folder.path().join("copy"));
    for size in [1, 512, 5_000_001, 60 << 20, 300 << 20] {
        let content = noise(size);
        let volume = Volume {
            id: 0xdead_beef,
            label: *b"ESP        ",
        };
        write_esp(&mut &content[..], size as u64, volume, &mut create(&esp)).expect("an ESP");
        let said = run(Command::new(&fsck).args(["-n", "-v"]).arg(&esp));
        assert!(
            said.contains("4 files, ") && !said.contains("Dirty bit") && !said.contains("wrong"),
            "{size}: {said}"
        );
        let _ = fs::remove_file(&copy);
        run(Command::new(&mcopy)
            .arg("-i")
            .arg(&esp)
            .arg("::/EFI/BOOT/BOOTX64.EFI")
            .arg(&copy));
        assert!(fs::read(&copy).expect("the copy") == content, "{size}");
    }
}

#[test]
fn the_disk_pleases_sfdisk() {
    let Some(program) = program("sfdisk") else { return };
    let folder = TempDir::new().expect("temporary folder");
    let path = folder.path().join("disk");
    let kinds = [Kind::Esp, Kind::Root, Kind::RootVerity, Kind::Volume];
    let contents = [noise(3_000_000), noise(1 << 20), vec![0; 5 << 20], noise(1)];
    let mut streams = contents.each_ref().map(|content| &content[..]);
    let partition = |(nth, (kind, content)): (usize, (_, &mut &[u8]))| (kind, nth as u128, content.len() as u64);
    let described: Vec<_> = kinds.into_iter().zip(&mut streams).enumerate().map(partition).collect();
    let mut partitions: Vec<_> = described
        .into_iter()
        .zip(&mut streams)
        .map(|((kind, nth, size), content)| Partition {
            kind,
            guid: Uuid::from_u128(nth + 1),
            name: "part",
            size,
            content,
        })
        .collect();
    write_disk(UUID, &mut partitions, &mut create(&path)).expect("a disk");
    let said = run(Command::new(&program).arg("--verify").arg(&path));
    assert!(said.contains("No errors detected"), "{said}");
    let said = run(Command::new(&program).arg("--dump").arg(&path)).to_lowercase();
    for wanted in [
        format!("label-id: {UUID}"),
        "start=        2048, size=        6144, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b".into(),
        "start=        8192, size=        2048, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709".into(),
        "start=       10240, size=       10240, type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5".into(),
        "start=       20480, size=        2048, type=0fc63daf-8483-4772-8e79-3d69d8477de4".into(),
        "name=\"part\", attrs=\"guid:60\"".into(),
    ] {
        assert!(said.contains(&wanted), "no {wanted} in {said}");
    }
}

#[test]
fn cpio_lists_the_archive() {
    let Some(program) = program("cpio") else { return };
    let folder = TempDir::new().expect("temporary folder");
    let path = folder.path().join("initrd");
    let mut archive = Archive::new(BufWriter::new(create(&path)), 1_760_000_000).expect("the epoch");
    let owner = |mode| Owner { uid: 0, gid: 42, mode };
    let content = noise(1001);
    archive.append(b"dev", owner(0o755), Node::Directory).expect("room");
    archive
        .append(
            b"dev/console",
            owner(0o600),
            Node::CharacterDevice { major: 5, minor: 1 },
        )
        .expect("room");
    let file = Node::File {
        size: 1001,
        content: &mut &content[..],
    };
    archive.append(b"dev/file", owner(0o4755), file).expect("room");
    archive.append(b"dev/pipe", owner(0o644), Node::Fifo).expect("room");
    archive
        .append(
            b"init",
            owner(0o777),
            Node::Symlink {
                target: b"usr/lib/systemd/systemd",
            },
        )
        .expect("room");
    archive.finish().expect("room").flush().expect("room");
    let input = || File::open(&path).expect("the archive");
    let said = run(Command::new(&program)
        .args(["-itnv", "--quiet"])
        .env("TZ", "UTC")
        .stdin(input()));
    let said: Vec<_> = said
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let wanted = [
        "drwxr-xr-x 2 0 42 0 Oct 9 2025 dev",
        "crw------- 1 0 42 5, 1 Oct 9 2025 dev/console",
        "-rwsr-xr-x 1 0 42 1001 Oct 9 2025 dev/file",
        "prw-r--r-- 1 0 42 0 Oct 9 2025 dev/pipe",
        "lrwxrwxrwx 1 0 42 23 Oct 9 2025 init -> usr/lib/systemd/systemd",
    ];
    assert_eq!(said, wanted);
    let unpacked = Command::new(&program)
        .args(["-i", "--to-stdout", "--quiet", "dev/file"])
        .stdin(input())
        .output();
    assert!(unpacked.expect("cpio").stdout == content);
}

/// `BEGAT_TEST_STUB` and `BEGAT_TEST_KERNEL` name the inputs where the host has none of its own.
#[test]
fn the_uki_is_that_of_ukify() {
    let given = |name: &str, place: &str| env::var_os(name).map_or_else(|| PathBuf::from(place), PathBuf::from);
    let stub = given("BEGAT_TEST_STUB", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub");
    let kernel = given("BEGAT_TEST_KERNEL", "/vmlinuz");
    let Some(program) = program("ukify").filter(|_| present(&stub) && present(&kernel)) else {
        return;
    };
    let folder = TempDir::new().expect("temporary folder");
    let [initrd, os_release, ours, theirs] =
        ["initrd", "os-release", "ours", "theirs"].map(|name| folder.path().join(name));
    fs::write(&initrd, noise(1_234_567)).expect("room");
    fs::write(&os_release, "ID=begat\nVERSION_ID=1\n").expect("room");
    let uki = Uki {
        stub: &fs::read(&stub).expect("the stub"),
        os_release: "ID=begat\nVERSION_ID=1\n",
        command_line: "console=ttyS0 ro",
        uname: "6.12.0-test",
        linux: File::open(&kernel).expect("the kernel"),
        initrd: File::open(&initrd).expect("the initrd"),
    };
    write_uki(uki, &mut create(&ours)).expect("an image");
    let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let paths = [
        option("stub", &stub),
        option("linux", &kernel),
        option("initrd", &initrd),
        option("output", &theirs),
    ];
    let texts = [
        format!("--os-release=@{}", os_release.display()),
        "--uname=6.12.0-test".into(),
    ];
    run(Command::new(program)
        .arg("build")
        .args(paths)
        .args(texts)
        .args(["--cmdline=console=ttyS0 ro", "--efi-arch=x64"]));
    assert!(fs::read(&ours).expect("ours") == fs::read(&theirs).expect("theirs"));
}

/// Where the program is, as the administrator's shell would find it; says so when it is nowhere.
fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

fn present(path: &Path) -> bool {
    if !path.is_file() {
        println!("skipped: there is no {}", path.display());
    }
    path.is_file()
}

/// Returns what the program said, which must have ended well.
fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().expect("it starts");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn create(path: &Path) -> File {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .expect("room")
}

/// A sparse file in which every block begins with its number.
fn numbered_blocks(path: &Path, blocks: u64) -> File {
    let file = create(path);
    file.set_len(blocks * 4096).expect("room");
    for block in 0..blocks {
        file.write_all_at(&(block + 1).to_le_bytes(), block * 4096)
            .expect("room");
    }
    file
}

/// The same bytes on every run, without a pattern that sectors or clusters have (xorshift).
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..size).map(|_| next()).collect()
}
