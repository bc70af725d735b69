//! The bill of materials, as schemas, rule checkers and readers of others see it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use super::python;
use crate::host;

const SPDX3: &str = "sbom.spdx3.json";
const CYCLONEDX: &str = "sbom.cdx.json";
const SPDX2: &str = "sbom.spdx.json";

/// Validators that are libraries of Python.
const LIBRARIES: &str = include_str!("sbom.py");

/// What sbom-tools finds and what is no fault: document, rule, component, and why.
const KNOWN: [(&str, &str, &str, &str); 5] = [
    (
        CYCLONEDX,
        "SBOM-CISA2026-SIGNATURE",
        "",
        "signatures are beside the document, so that whoever rebuilds it gets the same bytes",
    ),
    (SPDX3, "SBOM-CISA2026-SIGNATURE", "", "as above"),
    (
        SPDX3,
        "SBOM-CISA2026-GENERATION-CONTEXT",
        "",
        "it is in software_sbomType, which sbom-tools does not read",
    ),
    (
        SPDX3,
        "SBOM-CISA2026-LICENSE",
        "debian",
        "it is NoAssertionLicense, which sbom-tools does not read; packages have licences of their own",
    ),
    (
        "",
        "SBOM-CISA2026-HASH",
        "debian",
        "the distribution is what scanners look up, not a file that could be hashed",
    ),
];

/// A release, and the programs that judge it.
struct Judges<'a> {
    shell: Shell,
    programs: PathBuf,
    release: &'a Path,
}

pub(crate) fn check(release: &Path) -> Result<()> {
    let shell = host::shell()?;
    let programs = python::programs(&shell)?;
    let judges = Judges {
        shell,
        programs,
        release,
    };
    judges.library(&["cyclonedx"], CYCLONEDX, &[])?;
    judges.spdx_tools()?;
    judges.rules()?;
    judges.readers()?;
    let resources = host::repository().join("../shared/vectors/spdx");
    match resources.exists() {
        true => judges.schemas(&resources)?,
        false => println!("oracle sbom: no schemas and shapes of SPDX: their licence keeps them beside the repository"),
    }
    match host::has(&judges.shell, "sbom-tools") {
        true => judges.minimum_elements(),
        false => {
            println!(
                "oracle sbom: no sbom-tools: cargo install sbom-tools --version 0.3.0 --no-default-features --features cli"
            );
            Ok(())
        }
    }
}

impl Judges<'_> {
    fn document(&self, name: &str) -> PathBuf {
        self.release.join(name)
    }

    fn library(&self, judge: &[&str], document: &str, resources: &[PathBuf]) -> Result<()> {
        let (shell, python, path) = (&self.shell, self.programs.join("python"), self.document(document));
        let said = cmd!(shell, "{python} -c {LIBRARIES} {judge...} {path} {resources...}")
            .quiet()
            .read()
            .with_context(|| format!("{judge:?} finds fault with {document}"))?;
        println!("oracle sbom: {document}: {}: {said}", judge.concat());
        Ok(())
    }

    fn schemas(&self, resources: &Path) -> Result<()> {
        let (shell, by_schema, document) = (
            &self.shell,
            self.programs.join("check-jsonschema"),
            self.document(SPDX2),
        );
        let schema = resources.join("spdx-2.3-schema.json");
        cmd!(shell, "{by_schema} --quiet --schemafile {schema} {document}")
            .quiet()
            .run()
            .context("the SBOM is not what the schema of SPDX 2.3 allows")?;
        println!("oracle sbom: {SPDX2}: schema");
        self.library(
            &["schema"],
            SPDX3,
            &[resources.join("schema/3.0.1/spdx-json-schema.json")],
        )?;
        let shapes = ["rdf/3.0.1/spdx-context.jsonld", "rdf/3.0.1/spdx-model.ttl"].map(|file| resources.join(file));
        self.library(&["shapes"], SPDX3, &shapes)
    }

    fn spdx_tools(&self) -> Result<()> {
        let (shell, by_tools, document) = (&self.shell, self.programs.join("pyspdxtools"), self.document(SPDX2));
        cmd!(shell, "{by_tools} --infile {document}")
            .quiet()
            .run()
            .context("spdx-tools finds fault with the SBOM")?;
        println!("oracle sbom: {SPDX2}: spdx-tools");
        Ok(())
    }

    /// What NTIA and BSI ask. The NTIA checker warns of what only SPDX's own terms name, `NoneElement`, and of source
    /// packages, which are no part of the image; its verdict does not count them.
    fn rules(&self) -> Result<()> {
        let (shell, checker) = (&self.shell, self.programs.join("ntia-checker"));
        for (format, document) in [("spdx2", SPDX2), ("spdx3", SPDX3)] {
            let path = self.document(document);
            let output = cmd!(shell, "{checker} -s {format} -c ntia {path}")
                .quiet()
                .ignore_status()
                .output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(output.status.success(), "{document} is not what ntia asks for:\n{said}");
            println!("oracle sbom: {document}: ntia");
        }
        self.library(&["bsi"], SPDX3, &[])
    }

    /// syft reads the distribution, the packages and their source packages as the lock has them.
    fn readers(&self) -> Result<()> {
        let (shell, syft) = (&self.shell, self.programs.join("syft"));
        let locked = self.locked()?;
        for document in [CYCLONEDX, SPDX2] {
            let path = self.document(document);
            let read = cmd!(shell, "{syft} convert --quiet {path} --output syft-json")
                .env("SYFT_CHECK_FOR_APP_UPDATE", "false")
                .quiet()
                .read()?;
            let read: Value = serde_json::from_str(&read)?;
            let distribution = (read["distro"]["id"].as_str(), read["distro"]["versionID"].as_str());
            ensure!(
                distribution == (Some("debian"), Some("13")),
                "syft takes {document} for {distribution:?}"
            );
            let found = packages(&read);
            let differ: Vec<_> = found.symmetric_difference(&locked).collect();
            ensure!(
                differ.is_empty(),
                "syft and recipe.lock do not agree on {document}: {differ:#?}"
            );
            println!(
                "oracle sbom: {document}: syft reads {} packages of debian 13 and their sources",
                found.len()
            );
        }
        Ok(())
    }

    /// Name, version and source of each package of the release.
    fn locked(&self) -> Result<BTreeSet<[String; 3]>> {
        let lock: toml::Table = toml::from_str(&self.shell.read_file(self.document("recipe.lock"))?)?;
        let packages = lock["package"].as_array().context("recipe.lock has no packages")?;
        let shipped = packages.iter().filter(|package| {
            let trees = ["root", "initrd", "kernel", "firmware"];
            let stub = package["name"].as_str() == Some("systemd-boot-efi");
            stub || trees.iter().any(|tree| package["why"].get(tree).is_some())
        });
        let facts = shipped.map(|package| {
            let text = |field: &str| package.get(field).and_then(|value| value.as_str()).unwrap_or_default();
            let source = text("source").split(' ').next().filter(|source| !source.is_empty());
            [text("name"), text("version"), source.unwrap_or(text("name"))].map(Into::into)
        });
        Ok(facts.collect())
    }

    /// CISA's minimum elements of 2026.
    fn minimum_elements(&self) -> Result<()> {
        let shell = &self.shell;
        for document in [CYCLONEDX, SPDX3] {
            let path = self.document(document);
            let judged = cmd!(shell, "sbom-tools validate {path} --standard cisa-2026 --output json");
            let judged = judged.quiet().ignore_stderr().ignore_status().read()?;
            let judged: Value = serde_json::from_str(&judged).context("sbom-tools gives no verdict")?;
            let violations = judged["violations"].as_array().context("sbom-tools gives no verdict")?;
            let unknown: Vec<_> = violations
                .iter()
                .filter(|violation| !is_known(document, violation))
                .collect();
            ensure!(unknown.is_empty(), "{document} is not what CISA asks for: {unknown:#?}");
            println!(
                "oracle sbom: {document}: cisa-2026, {} known findings",
                violations.len()
            );
        }
        Ok(())
    }
}

fn is_known(document: &str, violation: &Value) -> bool {
    let text = |field| violation[field].as_str().unwrap_or_default();
    let same = |(of, rule, element, _): &(&str, &str, &str, &str)| {
        (of.is_empty() || *of == document) && *rule == text("rule_id") && *element == text("element")
    };
    KNOWN.iter().any(same)
}

/// Name, version and source of each package that syft takes for one; source packages are no part of the image.
fn packages(read: &Value) -> BTreeSet<[String; 3]> {
    let artifacts = read["artifacts"].as_array().into_iter().flatten();
    let binary = artifacts.filter(|artifact| {
        let source = artifact["metadata"]["architecture"] == "source";
        artifact["type"] == "deb" && !source
    });
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let facts = binary.map(|artifact| {
        let source = &artifact["metadata"]["source"];
        [&artifact["name"], &artifact["version"], source].map(text)
    });
    facts.collect()
}
