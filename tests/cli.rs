//! Transcripts of the command line: what is typed, what is printed, which exit code. `TRYCMD=overwrite cargo test --test
//! cli` writes them anew.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;

use std::fs;
use std::path::{Path, PathBuf};

use builder::stage::release::Existing;

#[test]
fn transcripts() {
    let folder = tempfile::tempdir().unwrap();
    releases(folder.path());
    std::env::set_current_dir(folder.path()).unwrap(); // transcripts name what they are about by relative paths
    let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli/*.trycmd");
    trycmd::TestCases::new()
        .register_bin("begat", PathBuf::from(env!("CARGO_BIN_EXE_begat")))
        .case(transcripts)
        .run();
}

/// The releases that transcripts are about: a good one, and what somebody did to others.
fn releases(folder: &Path) {
    for name in ["good", "flipped", "crowded", "unread"] {
        fixture::publish(&folder.join(name), Existing::Refuse);
    }
    fs::write(folder.join("flipped/vmlinuz"), "kermit".repeat(300)).unwrap();
    fs::write(folder.join("crowded/evil.sh"), "").unwrap();
    fs::remove_file(folder.join("crowded/cmdline")).unwrap();
    fs::write(folder.join("unread/manifest.json"), "{").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
}
