//! This machine: its programs, and who we are on it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

/// Where administrators' programs are, which ordinary users do not have in their path.
const ADMINISTRATORS: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// Returns a shell in the repository that finds the programs of administrators too.
pub(crate) fn shell() -> Result<Shell> {
    let shell = Shell::new()?;
    shell.change_dir(repository());
    let path = shell.var("PATH")?;
    shell.set_var("PATH", format!("{path}:{ADMINISTRATORS}"));
    Ok(shell)
}

/// The folder of the workspace.
pub(crate) fn repository() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.parent().expect("this crate lies in the workspace")
}

pub(crate) fn is_root(shell: &Shell) -> Result<bool> {
    Ok(cmd!(shell, "id -u").quiet().read()? == "0")
}

pub(crate) fn has(shell: &Shell, program: &str) -> bool {
    let found = cmd!(shell, "sh -c 'command -v \"$0\"' {program}").quiet();
    found.ignore_stdout().ignore_stderr().run().is_ok()
}

/// Sees to it that each program is there: root installs its Debian package, others are told to.
pub(crate) fn need(shell: &Shell, wanted: &[(&str, &str)]) -> Result<()> {
    let missing = wanted.iter().filter(|(program, _)| !has(shell, program));
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    install(shell, &packages)
}

/// Installs Debian packages.
pub(crate) fn install(shell: &Shell, packages: &[&str]) -> Result<()> {
    if !is_root(shell)? || !has(shell, "apt-get") {
        bail!("this needs programs of the Debian packages {packages:?}\n  mend: apt-get install them");
    }
    cmd!(shell, "apt-get update -qq").quiet().run()?;
    let install = cmd!(shell, "apt-get install -qq --no-install-recommends {packages...}");
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .quiet()
        .ignore_stdout()
        .run()
        .context("cannot install what this check needs")
}

/// Builds begat and returns where it is: beside this program.
pub(crate) fn begat(shell: &Shell) -> Result<PathBuf> {
    cmd!(shell, "cargo build --quiet --release --package builder --bin begat").run()?;
    Ok(target()?.join("begat"))
}

/// The folder that cargo puts programs of this profile in.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let folder = program.parent().context("this program is in no folder")?;
    Ok(folder.to_owned())
}
