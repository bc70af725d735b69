//! What the writers of `image` write, asked of the programs that everybody uses. A program that is not installed is
//! named and its test passes: `apt install cryptsetup-bin dosfstools mtools fdisk cpio`.
#![allow(
    clippy::disallowed_methods,
    reason = "the programs are those of the host, where the environment says they are"
)]

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

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
