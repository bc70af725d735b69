//! ID blocks, as snp-create-id-block makes them, their signatures as OpenSSL sees them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

/// What `begat measure snp --json` says, as far as it is of interest here.
#[derive(Deserialize)]
struct Measured {
    launches: Vec<Launch>,
    id_block: Reported,
}

#[derive(Deserialize)]
struct Launch {
    launch_digest: String,
}

#[derive(Deserialize, Serialize)]
struct Reported {
    id_key_digest: String,
    author_key_digest: Option<String>,
}

/// An ID block of ours, as the script reads it.
#[derive(Serialize)]
struct Case {
    /// Whether snp-create-id-block can make the same: it has no flags but those for keys, and wants both.
    theirs: bool,
    launch_digest: String,
    id_block: String,
    id_auth: String,
    #[serde(flatten)]
    reported: Reported,
}

/// Who signs, and what else is asked for.
const FLAGS: [&[&str]; 4] = [
    &["--id-key=id.pem", "--author-key=author.pem"],
    &["--id-key=author.pem", "--policy=0xb0000", "--guest-svn=7"],
    &[
        "--key-less",
        "--family-id=00112233445566778899aabbccddeeff",
        "--guest-svn=4294967295",
    ],
    &[
        "--key-less",
        "--image-id=00112233445566778899aabbccddeeff",
        "--author-key=author.pem",
    ],
];

/// Makes ID blocks with fresh keys and lets the script judge them.
pub(super) fn check(shell: &Shell, begat: &Path, python: &Path, ovmf: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ovmf = fs::canonicalize(ovmf)?;
    let _inside = shell.push_dir(folder.path());
    cmd!(shell, "{python} -c {SCRIPT}").quiet().run()?;
    let cases = FLAGS.map(|flags| make(shell, begat, &ovmf, flags));
    let cases = cases.into_iter().collect::<Result<Vec<Case>>>()?;
    shell.write_file("cases.json", serde_json::to_string(&cases)?)?;
    cmd!(shell, "{python} -c {SCRIPT} cases.json")
        .quiet()
        .run()
        .context("the ID blocks are not what they should be")?;
    println!(
        "oracle snp: {} ID blocks are valid, the first byte for byte that of snp-create-id-block but for signatures",
        cases.len()
    );
    Ok(())
}

fn make(shell: &Shell, begat: &Path, ovmf: &Path, flags: &[&str]) -> Result<Case> {
    let launch = [
        "--vcpus=3",
        "--vcpu-type=EPYC-Milan",
        "--json",
        "--id-block=block",
        "--id-auth=auth",
    ];
    let measured = cmd!(shell, "{begat} measure snp --ovmf {ovmf} {launch...} {flags...}")
        .quiet()
        .read()?;
    let Measured { launches, id_block } = serde_json::from_str(&measured)?;
    let launch = launches.into_iter().next().context("begat printed no launch")?;
    Ok(Case {
        theirs: flags == FLAGS[0],
        launch_digest: launch.launch_digest,
        id_block: shell.read_file("block")?,
        id_auth: shell.read_file("auth")?,
        reported: id_block,
    })
}

const SCRIPT: &str = include_str!("id_block.py");
