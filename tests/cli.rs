//! Transcripts of the command line: what is typed, what is printed, which exit code. `TRYCMD=overwrite cargo test --test
//! cli` writes them anew.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};

use builder::model::key::{PublicKey, SigningKey};
use builder::model::record::Terms;
use builder::model::{Lock, Manifest, Record};
use builder::stage::parse::{LOCK, Project};
use builder::stage::release::Existing;
use builder::stage::sign;
use uuid::Uuid;

#[test]
fn transcripts() {
    let folder = tempfile::tempdir().unwrap();
    releases(folder.path());
    records(folder.path());
    policies(folder.path());
    recipes(folder.path());
    std::env::set_current_dir(folder.path()).unwrap(); // transcripts name what they are about by relative paths
    let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cli/*.trycmd");
    trycmd::TestCases::new()
        .register_bin("begat", PathBuf::from(env!("CARGO_BIN_EXE_begat")))
        .case(transcripts)
        .run();
}

/// The releases that transcripts are about: a good one, and what somebody did to others.
fn releases(folder: &Path) {
    for name in ["good", "flipped", "crowded", "unread", "swapped"] {
        fixture::publish(&folder.join(name), Existing::Refuse);
    }
    for name in ["whole", "sealed"] {
        whole::publish(&folder.join(name));
    }
    fs::write(folder.join("flipped/vmlinuz"), "kermit".repeat(300)).unwrap();
    fs::write(folder.join("crowded/evil.sh"), "").unwrap();
    fs::remove_file(folder.join("crowded/cmdline")).unwrap();
    fs::write(folder.join("unread/manifest.json"), "{").unwrap();
    fs::create_dir(folder.join("empty")).unwrap();
    for key in ["p256.pem", "p256.pub", "p384.pem"] {
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/keys");
        fs::copy(keys.join(key), folder.join(key)).unwrap();
    }
}

/// What exports of the release `good` are asked for with: its generation record and others, and platform profiles.
fn records(folder: &Path) {
    let good = Manifest::parse(&fs::read_to_string(folder.join("good/manifest.json")).unwrap()).unwrap();
    let key = fs::read_to_string(folder.join("p256.pub")).unwrap();
    let key = PublicKey::from_pem(&key).unwrap();
    let record = |name: &str, manifest: &Manifest, not_after: &str| {
        let terms = Terms {
            generation: 3,
            not_before: "2026-01-01T00:00:00Z".parse().ok(),
            not_after: not_after.parse().ok(),
            ..Terms::default()
        };
        let record = Record::new(manifest, Uuid::nil(), terms, &key, vec![]);
        fs::write(folder.join(name), record.text()).unwrap();
    };
    record("record.json", &good, "2200-01-01T00:00:00Z");
    record("expired.json", &good, "2026-02-01T00:00:00Z");
    record("never.json", &good, "2025-01-01T00:00:00Z");
    record("endless.json", &good, "9000-01-01T00:00:00Z");
    let mut stray = good.clone();
    stray.origin.lock = measure::Sha256::ZERO;
    record("stray.json", &stray, "2200-01-01T00:00:00Z");
    let profile = "[snp]\ntcb = [{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }]\nsmt = true\ntsme = false\n";
    fs::write(folder.join("platform.toml"), profile).unwrap();
    fs::write(folder.join("wrong.toml"), profile.replace("219", "\"219\"")).unwrap();
    fs::write(
        folder.join("swapped/measurements.json"),
        fs::read(folder.join("good/measurements.json")).unwrap().repeat(2),
    )
    .unwrap();
}

/// A release that calls itself generation 3, which nobody attests, and policies that say so or not.
fn policies(folder: &Path) {
    let signed = folder.join("signed");
    let release = whole::publish(&signed).digest();
    let key = SigningKey::from_pem(&fs::read_to_string(folder.join("p256.pem")).unwrap()).unwrap();
    let terms = Terms {
        generation: 3,
        ..Terms::default()
    };
    let claims = sign::claims(&signed, Existing::Refuse, terms, &key.public()).unwrap();
    sign::append(&signed, &claims.signed_by(&key)).unwrap();
    let policy = |name: &str, text: &str| {
        let root = format!("[[root]]\nrelease = \"{release}\"\n");
        fs::write(folder.join(name), text.replace("ROOT\n", &root)).unwrap();
    };
    policy("named.toml", "ROOT\n");
    policy("numbered.toml", "min-generation = 2\nROOT\ngeneration = 3\n");
    policy("floor.toml", "min-generation = 4\nROOT\ngeneration = 3\n");
    policy("twice.toml", "ROOT\nROOT\n");
    policy("recipes.toml", &format!("recipes = [\"{}\"]\n", measure::Sha256::ZERO));
    fs::write(folder.join("nobody.quorum"), "quorum none\n").unwrap();
}

/// A payload that is compiled.
const PROGRAM: &str = "
[[payload]]
name = \"hello\"
version = \"1\"
target = \"/usr/bin/hello\"

[payload.compile]
workspace = \"nowhere\"
source = [\"Cargo.toml\", \"Cargo.lock\", \"src\"]
package = \"hello\"
binary = \"hello\"
";

/// The recipes that transcripts are about: a good one, and what somebody mistyped in others.
fn recipes(folder: &Path) {
    const MINIMAL: &str = include_str!("../recipes/minimal/recipe.toml");
    let recipe = |name: &str, from: &str, to: &str| {
        let text = MINIMAL.replacen(from, to, 1).replace("../../", "../");
        fs::create_dir(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("recipe.toml"), text).unwrap();
    };
    recipe("minimal", "", "");
    recipe("unknown-key", "packages", "pakages");
    recipe("wrong-type", "tools = \"trixie\"", "tools = 13");
    recipe("undeclared-suite", "tools = \"trixie\"", "tools = \"trixy\"");
    recipe("bad-name", "\"minimal\"", "\"../minimal\"");
    recipe("for-one-machine", "console=ttyS0", "nr_cpus=4");
    recipe("no-firmware", "firmware/generic", "firmware/generous");
    recipe("locked", "", "");
    let program = format!("{PROGRAM}\n[[launch]]");
    recipe("no-compiler", "[[launch]]", &program);
    let compiler = "tools = \"trixie\"\ncompiler = \"trixie\"";
    recipe("no-source", "tools = \"trixie\"", compiler);
    let file = folder.join("no-source/recipe.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + PROGRAM).unwrap();
    for named in [
        "firmware/amdsev/firmware.toml",
        "firmware/generic/firmware.toml",
        "kernels/debian-cloud/kernel.toml",
    ] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(named);
        fs::create_dir_all(folder.join(named).parent().unwrap()).unwrap();
        fs::copy(from, folder.join(named)).unwrap();
    }
    let locked = folder.join("locked");
    let lock = Lock::new(Project::read(&locked).unwrap().digest, vec![], vec![], vec![]);
    fs::write(locked.join(LOCK), lock.text()).unwrap();
}
