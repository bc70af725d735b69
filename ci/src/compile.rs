//! `cargo ci compile`: a program that a recipe compiles comes out the same for another user, in another folder, on
//! another number of processors; and it is what the image has.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use xshell::cmd;

use crate::reproduce::{self, CONDITIONS};
use crate::site::Site;
use crate::{bootstrap, host};

/// Builds a recipe that compiles a small program, as different users in different folders, and compares.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// begat instead, as recipes/builder has it, from clones of the repository as it is committed
    #[arg(long)]
    begat: bool,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let begat = host::begat(&host::shell()?)?;
        match self.begat {
            true => twice(&Site::cloned(&begat, bootstrap::RECIPE)?, "/usr/bin/begat"),
            false => check(&begat),
        }
    }
}

/// Compiles a small program twice.
pub(crate) fn check(begat: &Path) -> Result<()> {
    let site = Site::with(begat)?;
    add_program(&site)?;
    twice(&site, "/usr/bin/hello")
}

fn twice(site: &Site, path: &str) -> Result<()> {
    let first = site.path("first");
    cmd!(site.shell, "cargo fetch --quiet --locked").quiet().run()?;
    site.lock()?;
    site.build(&CONDITIONS[0], &first)?;
    reproduce::another(site, &first)?;
    let locked = locked(&site.recipe())?;
    let found = in_image(&first, path)?;
    ensure!(found == locked, "{path} of the image is {found}, locked is {locked}");
    println!("compile: {path} is {found} in the lock, in the image, and for another user who compiles it");
    Ok(())
}

/// The digest of the only payload that is compiled.
fn locked(recipe: &Path) -> Result<String> {
    let lock: toml::Table = fs::read_to_string(recipe.join("recipe.lock"))?.parse()?;
    let mut payloads = lock["payload"].as_array().into_iter().flatten();
    let payload = payloads.find(|payload| payload.get("compiled").is_some());
    let digest = payload.and_then(|payload| payload["sha256"].as_str());
    digest.map(String::from).context("the lock has no program")
}

/// What the list of files, which is read back from the image, says of a path.
fn in_image(release: &Path, path: &str) -> Result<String> {
    let listed = fs::read_to_string(release.join("files.jsonl"))?;
    let lines = listed
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut there = lines.filter(|line| line["path"] == path);
    let found = there.next().with_context(|| format!("the image has no {path}"))?;
    found["sha256"].as_str().map(String::from).context("it is no file")
}

/// A workspace beside the recipe, of one program with one crate.
fn add_program(site: &Site) -> Result<()> {
    let project = site.path("project");
    fs::create_dir_all(project.join("hello/src"))?;
    fs::write(project.join("hello/Cargo.toml"), MANIFEST)?;
    fs::write(project.join("hello/src/main.rs"), SOURCE)?;
    fs::write(project.join("hello/Cargo.lock"), cargo_lock()?)?;
    let file = site.recipe().join("recipe.toml");
    let text = fs::read_to_string(&file)?;
    let tools = "tools = \"trixie\"";
    ensure!(text.contains(tools), "the recipe takes its tools from elsewhere");
    let text = text.replacen(tools, &format!("{tools}\ncompiler = \"trixie-backports\""), 1);
    Ok(fs::write(file, text + PAYLOAD)?)
}

/// The crate is one of our own, so that cargo has fetched it.
fn cargo_lock() -> Result<String> {
    let lock: toml::Table = fs::read_to_string(host::repository().join("Cargo.lock"))?.parse()?;
    let mut packages = lock["package"].as_array().into_iter().flatten();
    let one = packages.find(|package| package["name"].as_str() == Some("cfg-if"));
    let one = toml::to_string(one.context("Cargo.lock has no cfg-if")?)?;
    let hello = "[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\ndependencies = [\"cfg-if\"]\n";
    Ok(format!("version = 4\n\n[[package]]\n{one}\n{hello}"))
}

const MANIFEST: &str = "\
[package]
name = \"hello\"
version = \"0.1.0\"
edition = \"2024\"

[dependencies]
cfg-if = \"1\"
";

/// It has in it what varies from place to place where nobody takes care.
const SOURCE: &str = "\
fn main() {
    cfg_if::cfg_if! {
        if #[cfg(unix)] { println!(\"{} {}\", file!(), env!(\"CARGO_MANIFEST_DIR\")) } else { unreachable!() }
    }
    assert!(option_env!(\"BEGAT_SOURCE\").is_some() && option_env!(\"USER\").is_none());
}
";

const PAYLOAD: &str = "
[suites.trixie-backports]
archive = \"debian\"

[[payload]]
name = \"hello\"
version = \"0.1.0\"
target = \"/usr/bin/hello\"
mode = \"0755\"
licence = \"Apache-2.0\"

[payload.compile]
workspace = \"../../hello\"
source = [\"Cargo.toml\", \"Cargo.lock\", \"src\"]
package = \"hello\"
binary = \"hello\"
";
