//! Plain mkosi in the tool tree of the lock: the same packages, kernel and recipe, made into a disk by systemd-repart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use toml::{Table, Value};
use xshell::cmd;

use crate::site::Site;

/// What a recipe does not say to mkosi: begat says it on mkosi's command line, and to programs of its own.
const SETTINGS: [(&str, &str); 5] = [
    ("mkosi.conf.d/disk.conf", include_str!("mkosi/disk.conf")),
    (
        "mkosi.images/initrd/mkosi.conf.d/initrd.conf",
        include_str!("mkosi/initrd.conf"),
    ),
    ("mkosi.repart/00-esp.conf", include_str!("mkosi/esp.conf")),
    ("mkosi.repart/10-root.conf", include_str!("mkosi/root.conf")),
    ("mkosi.repart/20-root-verity.conf", include_str!("mkosi/verity.conf")),
];

const ENTER: &str = include_str!("enter.sh");
const PREPARE: &str = include_str!("prepare.sh");

/// Makes the repository, the kernel's tree and the configuration; returns the command that builds the disk.
pub(super) fn prepare(site: &Site, store: &Path) -> Result<Vec<String>> {
    let here = site.path("bench");
    let recipe: Table = fs::read_to_string(site.recipe().join("recipe.toml"))?.parse()?;
    configure(site, &recipe, &here.join("config"))?;
    copy_packages(site, store, &here)?;
    fs::create_dir_all(here.join("out"))?;
    let enter = &enter(site, &tool_tree(store)?, &here)?;
    let (suite, shell) = (format!("SUITE={}", text(&recipe["root"]["suite"])), &site.shell);
    cmd!(shell, "env {enter...} env {suite} sh -c {PREPARE}")
        .quiet()
        .run()?;
    let mkosi = ["mkosi", "--directory", "/run/here/config", "--force", "build"];
    Ok(enter.iter().cloned().chain(mkosi.map(String::from)).collect())
}

/// The recipe's own configuration of mkosi, and beside it what makes a disk of it.
fn configure(site: &Site, recipe: &Table, config: &Path) -> Result<()> {
    let (shell, folder, initrd) = (&site.shell, site.recipe(), config.join("mkosi.images/initrd"));
    let main = [folder.join("mkosi.conf"), folder.join("mkosi.extra")];
    fs::create_dir_all(config.join("mkosi.images"))?;
    let from = folder.join("initrd");
    cmd!(shell, "cp -r {main...} {config}").quiet().run()?;
    cmd!(shell, "cp -r {from} {initrd}").quiet().run()?;
    let modules = list(&recipe["initrd"]["modules"], "|");
    let values = [
        ("@SUITE@", text(&recipe["root"]["suite"])),
        ("@ROOT@", list(&recipe["root"]["packages"], ",")),
        ("@INITRD@", list(&recipe["initrd"]["packages"], ",")),
        ("@MODULES@", format!("/({modules})\\.ko")),
        ("@COMMAND-LINE@", list(&recipe["command-line"], " ")),
        ("@EPOCH@", seconds(site, &text(&recipe["epoch"]))?),
        ("@UNAME@", uname(site)?),
    ];
    for (name, template) in SETTINGS {
        let filled = values
            .iter()
            .fold(template.to_owned(), |text, (key, value)| text.replace(key, value));
        let path = config.join(name);
        fs::create_dir_all(path.parent().context("a setting lies in a folder")?)?;
        fs::write(path, filled)?;
    }
    Ok(())
}

/// The release of the locked kernel, after which Debian names its package.
fn uname(site: &Site) -> Result<String> {
    let names = packages(site)?;
    let names = names.iter().map(|package| text(&package["name"]));
    let mut releases = names.filter_map(|name| name.strip_prefix("linux-image-").map(String::from));
    let found = releases.find(|release| release.starts_with(|c: char| c.is_ascii_digit()));
    found.context("the lock has no kernel")
}

fn packages(site: &Site) -> Result<Vec<Value>> {
    let lock: Table = fs::read_to_string(site.recipe().join("recipe.lock"))?.parse()?;
    let packages = lock["package"].as_array().context("the lock has no packages")?;
    Ok(packages.clone())
}

fn seconds(site: &Site, date: &str) -> Result<String> {
    Ok(cmd!(site.shell, "date --date {date} +%s").quiet().read()?)
}

/// Copies the locked packages of root and initrd to the pool, and those of the kernel beside it.
fn copy_packages(site: &Site, store: &Path, here: &Path) -> Result<()> {
    let (pool, kernel) = (here.join("repository/pool"), here.join("kernel"));
    fs::create_dir_all(&pool)?;
    fs::create_dir_all(&kernel)?;
    for package in packages(site)? {
        let (digest, path) = (text(&package["sha256"]), text(&package["path"]));
        let name = Path::new(&path).file_name().context("a package has a file name")?;
        let file = store.join("sha256").join(&digest[..2]).join(&digest);
        let wanted_by = |trees: &[&str]| trees.iter().any(|tree| package["why"].get(tree).is_some());
        if wanted_by(&["root", "initrd"]) {
            fs::copy(&file, pool.join(name))?;
        }
        if wanted_by(&["kernel"]) {
            fs::copy(&file, kernel.join(name))?;
        }
    }
    Ok(())
}

/// The store holds the trees of one lock; that with mkosi is the one that builds.
fn tool_tree(store: &Path) -> Result<PathBuf> {
    let trees = fs::read_dir(store.join("trees"))?;
    let mut trees = trees.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let found = trees.find(|tree| tree.join("usr/bin/mkosi").exists());
    found.context("the store has no tool tree with mkosi")
}

/// Namespaces with the tool tree as the root folder, no network, and memory to work in.
fn enter(site: &Site, tree: &Path, here: &Path) -> Result<Vec<String>> {
    let script = site.path("enter.sh");
    fs::write(&script, ENTER)?;
    let unshare = ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "sh"].map(String::from);
    let arguments = [script.as_path(), tree, here].map(|path| path.display().to_string());
    Ok(unshare.into_iter().chain(arguments).collect())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value, separator: &str) -> String {
    let items = value.as_array().map(|items| items.iter().map(text).collect::<Vec<_>>());
    items.unwrap_or_default().join(separator)
}
