//! `cargo ci volumes`: a release with a model and, out of a registry, a data set beside its root is the same wherever it is
//! built, is accounted for in bills that validators accept, mounts both in either shape, and does not come up where somebody has changed one.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;
use xshell::cmd;

use crate::boot::{self, Tampered};
use crate::host;
use crate::oracle::registry::Server;
use crate::oracle::sbom;
use crate::reproduce::{self, CONDITIONS};
use crate::site::{Site, add_package};

/// What the recipe has besides: a model of one file, and an archive of a data set, which a registry has.
const VOLUMES: &str = r#"
[[volume]]
name = "model"
target = "/srv/model"

[[volume]]
name = "data"
target = "/srv/my-data"

[[payload]]
name = "weights"
version = "1.0"
kind = "model"
source = "weights.bin"
volume = "model"
target = "/lib/weights.bin"
supplier = "Organization: Example (https://example.org/)"
licence = "Apache-2.0"

[[payload]]
name = "table"
version = "2026"
kind = "data"
source = "TABLE"
unpack = true
volume = "data"
target = "/"
supplier = "Person: A. Person (a@example.org)"
licence = "CC0-1.0"
"#;

/// How large the model is, in bytes: no whole number of blocks.
const MODEL: usize = 3_000_001;

pub(crate) fn run() -> Result<()> {
    check(&host::begat(&host::shell()?)?)
}

pub(crate) fn check(begat: &Path) -> Result<()> {
    let site = Site::with(begat)?;
    let registry = Server::start(&site.shell)?;
    add_volumes(&site, &registry)?;
    site.lock()?;
    let release = site.path("first");
    site.build(&CONDITIONS[0], &release)?;
    reproduce::another(&site, &release)?;
    account(&site, &release)?;
    sbom::check(&release)?;
    const CHANGED: Tampered = Tampered {
        file: "volume-model.erofs",
        says: "data block 0 is corrupted",
    };
    boot::check(&site.begat, &release, &site.path("evidence"), &CHANGED)
}

fn add_volumes(site: &Site, registry: &Server) -> Result<()> {
    let (shell, recipe) = (&site.shell, site.recipe());
    add_package(&recipe, "systemd-cryptsetup")?;
    let model: Vec<u8> = (0..MODEL).map(|index| (index * index % 251) as u8).collect();
    fs::write(recipe.join("weights.bin"), model)?;
    let (data, archive) = (site.path("data"), site.path("table.tar"));
    fs::create_dir_all(data.join("tables"))?;
    fs::write(data.join("tables/2026.csv"), "1,2,3\n")?;
    symlink("tables/2026.csv", data.join("latest.csv"))?;
    cmd!(shell, "tar --create --directory {data} --file {archive} .")
        .quiet()
        .run()?;
    let volumes = VOLUMES.replace("TABLE", &registry.offer(shell, &archive)?);
    let mut file = OpenOptions::new().append(true).open(recipe.join("recipe.toml"))?;
    Ok(file.write_all(volumes.as_bytes())?)
}

/// Every path is listed and every byte of the disk explained, and the model and the data set are what they are.
fn account(site: &Site, release: &Path) -> Result<()> {
    let (shell, begat) = (&site.shell, &site.begat);
    cmd!(shell, "{begat} sbom check {release}").quiet().run()?;
    let verify = cmd!(shell, "{begat} verify --deep {release}");
    verify.quiet().ignore_stdout().run()?;
    let bill: Value = serde_json::from_slice(&fs::read(release.join("sbom.cdx.json"))?)?;
    for (name, kind) in [("weights", "machine-learning-model"), ("table", "data")] {
        let mut components = bill["components"].as_array().into_iter().flatten();
        ensure!(
            components.any(|component| component["name"] == name && component["type"] == kind),
            "the bill of materials has no {kind} {name}"
        );
    }
    Ok(())
}
