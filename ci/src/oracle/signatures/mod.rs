//! Signatures, as other implementations of DSSE and of Sigstore bundles see them: `cargo ci oracle signatures RELEASE`.
//!
//! A copy of the release is signed with a key on P-256 and with one for Ed25519. Each judge must accept every bundle, and
//! refuse one whose payload has one byte changed.

mod judge;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use data_encoding::BASE64;
use serde_json::Value;
use tempfile::TempDir;
use xshell::{Shell, cmd};

use self::judge::Judge;
use crate::host;

/// With every judge.
pub(crate) fn run(release: &Path) -> Result<()> {
    let shell = host::shell()?;
    let judges = [
        Judge::securesystemslib(&shell)?,
        Judge::sigstore(&shell)?,
        Judge::cosign(&shell)?,
    ];
    check(&shell, &host::begat(&shell)?, release, &judges)
}

/// With those that are there at once; says who is not.
pub(crate) fn quick(begat: &Path, release: &Path) -> Result<()> {
    let shell = host::shell()?;
    let mut judges = vec![Judge::securesystemslib(&shell)?];
    let npm = host::has(&shell, "npm");
    let sigstore = npm.then(|| Judge::sigstore(&shell)).transpose();
    match sigstore {
        Ok(Some(sigstore)) => judges.push(sigstore),
        Ok(None) => println!("oracle signatures: npm is not installed, so @sigstore/verify was not asked"),
        Err(error) => println!("oracle signatures: @sigstore/verify was not asked: {error:#}"),
    }
    check(&shell, begat, release, &judges)
}

fn check(shell: &Shell, begat: &Path, release: &Path, judges: &[Judge]) -> Result<()> {
    for algorithm in ["EC", "ED25519"] {
        let signed = Signed::new(shell, begat, release, algorithm)?;
        for judge in judges {
            signed
                .judge(shell, judge)
                .with_context(|| format!("{} and a key of the kind {algorithm}", judge.name()))?;
            println!(
                "oracle signatures: {} accepts {} {algorithm} bundles and refuses a changed one",
                judge.name(),
                signed.bundles.len()
            );
        }
    }
    Ok(())
}

/// A signed copy of the release.
struct Signed {
    folder: TempDir,
    key: PathBuf,
    bundles: Vec<Bundle>,
}

/// A bundle, with what a judge wants to know of its statement.
struct Bundle {
    path: PathBuf,
    /// The type of its predicate.
    predicate: String,
    /// A file that is one of its subjects.
    subject: PathBuf,
}

impl Signed {
    fn new(shell: &Shell, begat: &Path, release: &Path, algorithm: &str) -> Result<Self> {
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let copy = folder.path().join("release");
        let (private, key) = (folder.path().join("private.pem"), folder.path().join("public.pem"));
        let curve: &[&str] = if algorithm == "EC" {
            &["-pkeyopt", "ec_paramgen_curve:P-256"]
        } else {
            &[]
        };
        cmd!(
            shell,
            "openssl genpkey -quiet -algorithm {algorithm} {curve...} -out {private}"
        )
        .quiet()
        .ignore_stderr()
        .run()?;
        cmd!(shell, "openssl pkey -in {private} -pubout -out {key}")
            .quiet()
            .run()?;
        cmd!(shell, "cp -r {release} {copy}").quiet().run()?;
        cmd!(shell, "{begat} sign {copy} --force --key {private}")
            .quiet()
            .ignore_stdout()
            .run()?;
        cmd!(shell, "{begat} verify {copy} --key {key}")
            .quiet()
            .ignore_stdout()
            .run()?;
        let bundles = bundles(&copy)?;
        Ok(Self { folder, key, bundles })
    }

    fn judge(&self, shell: &Shell, judge: &Judge) -> Result<()> {
        for bundle in &self.bundles {
            ensure!(
                judge.accepts(shell, &self.key, bundle)?,
                "{} is refused",
                bundle.path.display()
            );
        }
        let good = self.bundles.first().context("nothing is signed")?;
        let path = self.folder.path().join("changed.sigstore.json");
        fs::write(&path, changed(&fs::read_to_string(&good.path)?)?)?;
        let bad = Bundle {
            path,
            predicate: good.predicate.clone(),
            subject: good.subject.clone(),
        };
        ensure!(!judge.accepts(shell, &self.key, &bad)?, "a changed bundle is accepted");
        Ok(())
    }
}

fn bundles(release: &Path) -> Result<Vec<Bundle>> {
    let mut bundles = Vec::new();
    for entry in fs::read_dir(release)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".sigstore.json") {
            let bundle: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
            let statement: Value = serde_json::from_slice(&payload(&bundle)?)?;
            let text = |value: &Value| value.as_str().map(str::to_owned).context("it is no statement");
            bundles.push(Bundle {
                path,
                predicate: text(&statement["predicateType"])?,
                subject: release.join(text(&statement["subject"][0]["name"])?),
            });
        }
    }
    Ok(bundles)
}

fn payload(bundle: &Value) -> Result<Vec<u8>> {
    let payload = bundle["dsseEnvelope"]["payload"]
        .as_str()
        .context("it has no payload")?;
    BASE64
        .decode(payload.as_bytes())
        .ok()
        .context("its payload is no base64")
}

/// The bundle with another digit in the first digest of its statement, which stays a statement.
fn changed(bundle: &str) -> Result<String> {
    let mut bundle: Value = serde_json::from_str(bundle)?;
    let mut payload = payload(&bundle)?;
    let digest = payload
        .windows(11)
        .position(|bytes| bytes == b"\"sha256\": \"")
        .context("it names no digest")?;
    let digit = &mut payload[digest + 11];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    bundle["dsseEnvelope"]["payload"] = BASE64.encode(&payload).into();
    Ok(bundle.to_string())
}
