//! Who judges: programs of others, in folders of their own beside what cargo builds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

use super::Bundle;
use crate::host;
use crate::oracle::python;

/// A program that verifies bundles.
pub(super) enum Judge {
    /// go: the client that people have.
    Cosign { program: PathBuf },
    /// Python: the reference implementation of DSSE.
    Securesystemslib { python: PathBuf },
    /// JavaScript: the library that npm verifies provenance with.
    Sigstore { script: PathBuf },
}

/// What npm installs: pinned, since another version may judge otherwise.
const NPM: [&str; 2] = ["@sigstore/bundle@4.0.0", "@sigstore/verify@3.1.1"];

/// The suite that has a cosign which reads bundles of version 0.3.
const SUITE: &str = "forky";

impl Judge {
    pub(super) fn securesystemslib(shell: &Shell) -> Result<Self> {
        let python = python::programs(shell)?.join("python");
        Ok(Self::Securesystemslib { python })
    }

    pub(super) fn sigstore(shell: &Shell) -> Result<Self> {
        host::need(shell, &[("node", "nodejs"), ("npm", "npm")])?;
        let folder = host::target()?.join("npm");
        let stamp = folder.join("installed");
        if !shell.read_file(&stamp).is_ok_and(|installed| installed == NPM.concat()) {
            shell.create_dir(&folder)?;
            cmd!(
                shell,
                "npm install --silent --no-audit --no-fund --fetch-retries=1 --prefix {folder} {NPM...}"
            )
            .quiet()
            .run()?;
            shell.write_file(stamp, NPM.concat())?;
        }
        let script = folder.join("bundles.mjs");
        shell.write_file(&script, include_str!("bundles.mjs"))?;
        Ok(Self::Sigstore { script })
    }

    /// Takes cosign out of a package of testing, which is not installed: nothing of this machine changes.
    pub(super) fn cosign(shell: &Shell) -> Result<Self> {
        let folder = host::target()?.join("cosign");
        let program = folder.join("usr/bin/cosign");
        if !program.exists() {
            host::need(shell, &[("dpkg-deb", "dpkg"), ("apt-get", "apt")])?;
            let apt = Apt::of(SUITE, shell, &folder.join("apt"))?;
            let package = apt.download(shell, "cosign")?;
            cmd!(shell, "dpkg-deb --extract {package} {folder}").quiet().run()?;
        }
        Ok(Self::Cosign { program })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Cosign { .. } => "cosign",
            Self::Securesystemslib { .. } => "securesystemslib",
            Self::Sigstore { .. } => "@sigstore/verify",
        }
    }

    /// Whether this program accepts the bundle as signed by `key`.
    pub(super) fn accepts(&self, shell: &Shell, key: &Path, bundle: &Bundle) -> Result<bool> {
        let Bundle {
            path,
            predicate,
            subject,
        } = bundle;
        let judge = match self {
            Self::Cosign { program } => {
                let with = ["--insecure-ignore-tlog", "--type", &short(predicate)];
                cmd!(
                    shell,
                    "{program} verify-blob-attestation {with...} --bundle {path} --key {key} {subject}"
                )
            }
            Self::Securesystemslib { python } => {
                let script = include_str!("envelopes.py");
                cmd!(shell, "{python} -c {script} {key} {path}")
            }
            Self::Sigstore { script } => cmd!(shell, "node {script} {key} {path}"),
        };
        let output = judge.quiet().ignore_status().output()?;
        Ok(output.status.success())
    }
}

/// What cosign calls this type of predicate.
fn short(predicate: &str) -> String {
    let short = match predicate {
        "https://slsa.dev/provenance/v1" => "slsaprovenance1",
        "https://spdx.dev/Document" => "spdxjson",
        "https://cyclonedx.org/bom" => "cyclonedx",
        other => other,
    };
    short.to_owned()
}

/// An apt with lists and archives of its own.
struct Apt {
    flags: Vec<String>,
    folder: PathBuf,
}

impl Apt {
    /// For a suite of the archive that this machine installs from.
    fn of(suite: &str, shell: &Shell, folder: &Path) -> Result<Self> {
        let targets = cmd!(shell, "apt-get indextargets --format $(SITE)").quiet().read()?;
        let archive = targets.lines().find(|site| site.ends_with("/debian"));
        let archive = archive.context("apt on this machine knows no mirror of Debian")?;
        for part in ["archives/partial", "lists/partial", "parts"] {
            shell.create_dir(folder.join(part))?;
        }
        let sources = folder.join("sources.list");
        let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
        shell.write_file(&sources, format!("deb [signed-by={keys}] {archive} {suite} main\n"))?;
        let shown = folder.display();
        let flags = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            format!("Dir::Etc::sourceparts={shown}/parts"),
            format!("Dir::State::lists={shown}/lists"),
            format!("Dir::Cache={shown}"),
            "Acquire::Check-Valid-Until=false".into(), // mirrors of testing may lag
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "APT::Sandbox::User=".into(),
        ];
        let flags = flags.into_iter().map(|flag| format!("--option={flag}")).collect();
        let folder = folder.to_owned();
        let apt = Self { flags, folder };
        let flags = &apt.flags;
        cmd!(shell, "apt-get {flags...} --quiet=2 update").quiet().run()?;
        Ok(apt)
    }

    /// Returns the package's file.
    fn download(&self, shell: &Shell, package: &str) -> Result<PathBuf> {
        let (flags, folder) = (&self.flags, &self.folder);
        let here = shell.push_dir(folder);
        cmd!(shell, "apt-get {flags...} --quiet=2 download {package}")
            .quiet()
            .run()?;
        drop(here);
        let entries = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
        let mut paths = entries.into_iter().map(|entry| entry.path());
        let file = paths.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
        file.with_context(|| format!("apt-get downloads no {package}"))
    }
}
