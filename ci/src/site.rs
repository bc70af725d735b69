//! A place for a run of checks: a copy of the project that is locked anew, begat itself, and the releases.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use xshell::{Shell, cmd};

use crate::host;
use crate::reproduce::{Conditions, Place, User};

/// What is built.
const RECIPE: &str = "recipes/minimal";

/// A temporary folder, readable by all, since ordinary users build there too.
pub(crate) struct Site {
    folder: TempDir,
    /// The program, where every user can start it.
    pub(crate) begat: PathBuf,
    pub(crate) shell: Shell,
    /// What is built, below the project.
    recipe: &'static str,
}

impl Site {
    /// Builds begat and makes a place for it.
    pub(crate) fn new() -> Result<Self> {
        Self::with(&host::begat(&host::shell()?)?)
    }

    /// Copies the project and a begat that is built already to a new place on disk.
    pub(crate) fn with(built: &Path) -> Result<Self> {
        let site = Self::empty(built, RECIPE)?;
        site.copy_project()?;
        Ok(site)
    }

    /// Clones the project as it is committed, sources and all; a recipe that compiles them is built.
    pub(crate) fn cloned(built: &Path, recipe: &'static str) -> Result<Self> {
        let site = Self::empty(built, recipe)?;
        let (from, project) = (host::repository(), site.path("project"));
        cmd!(site.shell, "git clone --quiet {from} {project}").quiet().run()?;
        site.let_others_read()?;
        Ok(site)
    }

    fn empty(built: &Path, recipe: &'static str) -> Result<Self> {
        let shell = host::shell()?;
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix("begat-ci-").permissions(Permissions::from_mode(0o755));
        let folder = folder
            .tempdir_in("/var/tmp")
            .context("cannot make a folder to work in")?;
        let begat = folder.path().join("begat");
        fs::copy(built, &begat)?;
        Ok(Self {
            folder,
            begat,
            shell,
            recipe,
        })
    }

    fn copy_project(&self) -> Result<()> {
        let project = self.path("project");
        fs::create_dir(&project)?;
        for part in ["firmware", "kernels", "recipes"] {
            let from = host::repository().join(part);
            cmd!(self.shell, "cp -r {from} {project}").quiet().run()?;
        }
        let lock = self.recipe().join("recipe.lock");
        if lock.exists() {
            fs::remove_file(lock)?;
        }
        self.let_others_read()
    }

    fn let_others_read(&self) -> Result<()> {
        let (project, begat) = (self.path("project"), &self.begat);
        cmd!(self.shell, "chmod -R u+rwX,go+rX {project} {begat}")
            .quiet()
            .run()
            .context("cannot let others read the project")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn recipe(&self) -> PathBuf {
        self.path("project").join(self.recipe)
    }

    /// Resolves the recipe to what the archive has today.
    pub(crate) fn lock(&self) -> Result<()> {
        let (begat, recipe) = (&self.begat, self.recipe());
        Ok(cmd!(self.shell, "{begat} lock {recipe}").quiet().run()?)
    }

    /// Builds the release under these conditions, from a copy of the project that is made under them too.
    pub(crate) fn build(&self, conditions: &Conditions, release: &Path) -> Result<()> {
        let here = self.path(conditions.folder);
        fs::create_dir_all(&here)?;
        let mut flags = self.supply(conditions, &here)?;
        if let Place::Disk = conditions.workspace {
            flags.push(format!("--workspace={}", here.join("work").display()));
        }
        let project = self.path("project");
        let (recipe, output) = (here.join("project").join(self.recipe), here.join("release"));
        let (begat, prefix) = (&self.begat, &conditions.prefix(&self.shell)?);
        cmd!(self.shell, "env {prefix...} cp -r {project} {here}")
            .quiet()
            .run()?;
        let build = cmd!(
            self.shell,
            "env {prefix...} {begat} build --locked {recipe} --output {output} {flags...}"
        );
        build.quiet().ignore_stdout().run()?;
        fs::rename(output, release)?;
        fs::remove_dir_all(here).context("cannot clear up after the build")
    }

    /// Root takes its store; another user, who cannot read that, gets a copy of what the lock names, and the folder.
    pub(crate) fn supply(&self, conditions: &Conditions, here: &Path) -> Result<Vec<String>> {
        let User::Ordinary = conditions.user(&self.shell)? else {
            return Ok(Vec::new());
        };
        let store = here.join("store");
        self.copy_store(&store)?;
        conditions.give(&self.shell, here)?;
        Ok(vec![format!("--store={}", store.display())])
    }

    /// Copies what the lock names, as far as it was fetched before; what is compiled is compiled again.
    pub(crate) fn copy_store(&self, to: &Path) -> Result<()> {
        let from = self.store()?.join("sha256");
        let lock = fs::read_to_string(self.recipe().join("recipe.lock"))?;
        let compiled = compiled(&lock)?;
        let digests = lock.split('"').filter(|text| text.len() == 64);
        for digest in digests.filter(|digest| !compiled.contains(*digest)) {
            let name = Path::new(&digest[..2]).join(digest);
            let target = to.join("sha256").join(&name);
            fs::create_dir_all(target.parent().context("the store is a folder")?)?;
            if from.join(&name).exists() {
                fs::copy(from.join(&name), target)?;
            }
        }
        Ok(())
    }

    fn store(&self) -> Result<PathBuf> {
        let cache = self.shell.var("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|_| Ok::<_, xshell::Error>(Path::new(&self.shell.var("HOME")?).join(".cache")))?;
        Ok(cache.join("begat"))
    }
}

/// Has the recipe in this folder ask for one more package of the root.
pub(crate) fn add_package(recipe: &Path, name: &str) -> Result<()> {
    let file = recipe.join("recipe.toml");
    let text = fs::read_to_string(&file)?;
    let (before, root) = text.split_once("\n[root]\n").context("the recipe has no [root]")?;
    let (between, packages) = root.split_once("packages = [").context("[root] has no packages")?;
    let changed = format!("{before}\n[root]\n{between}packages = [\"{name}\", {packages}");
    Ok(fs::write(file, changed)?)
}

/// The digests of payloads that are compiled.
fn compiled(lock: &str) -> Result<BTreeSet<String>> {
    let lock: toml::Table = lock.parse()?;
    let payloads = lock
        .get("payload")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let compiled = payloads.filter(|payload| payload.get("compiled").is_some());
    Ok(compiled
        .filter_map(|payload| payload["sha256"].as_str().map(String::from))
        .collect())
}
