//! The SBOM, as the schema of SPDX and the tools of its makers see it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use xshell::cmd;

use super::python;
use crate::host;

/// Returns the schema of SPDX 2.3 where it lies beside the repository; its licence keeps it out of it.
pub(crate) fn schema() -> Option<PathBuf> {
    let schema = host::repository().join("../shared/vectors/spdx/spdx-2.3-schema.json");
    schema.exists().then_some(schema)
}

pub(crate) fn check(release: &Path, schema: &Path) -> Result<()> {
    let shell = host::shell()?;
    let programs = python::programs(&shell)?;
    let (by_schema, by_tools) = (programs.join("check-jsonschema"), programs.join("pyspdxtools"));
    let document = release.join("sbom.spdx.json");
    cmd!(shell, "{by_schema} --quiet --schemafile {schema} {document}")
        .quiet()
        .run()
        .context("the SBOM is not what the schema of SPDX 2.3 allows")?;
    cmd!(shell, "{by_tools} --infile {document}")
        .quiet()
        .run()
        .context("spdx-tools finds fault with the SBOM")?;
    println!("oracle sbom: the schema of SPDX 2.3 and spdx-tools accept sbom.spdx.json");
    Ok(())
}
