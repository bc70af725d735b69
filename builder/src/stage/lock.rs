//! The lock of a recipe: kept, renewed or refused.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::mend::{Exit, OrMend as _};
use crate::model::Lock;
use crate::model::lock::Tree;
use crate::model::recipe::Firmware;
use crate::stage::compile::Means;
use crate::stage::parse::{LOCK, PARTIAL_LOCK, Project};
use crate::stage::resolve::{Wanted, resolve};
use crate::stage::{payload, say};
use crate::world::clock;
use crate::world::folder::Folder;

/// Returns the recipe's lock; where there is none, or an older recipe's, writes a new one unless `locked`.
///
/// # Errors
/// As [`renew`]; with `locked`, a lock that is missing or not this recipe's.
pub fn keep(means: &Means<'_>, locked: bool) -> Result<Lock> {
    let project = means.project;
    let problem = match read(project)? {
        Some(lock) if lock.recipe == project.digest => return Ok(lock),
        Some(lock) => format!(
            "recipe.lock is of the recipe {:.16}…, this is {:.16}…",
            lock.recipe, project.digest
        ),
        None => "there is no recipe.lock".to_owned(),
    };
    if locked {
        return Err(Exit::LockMismatch.because(problem, "write it: begat lock RECIPE, or leave --locked out"));
    }
    say("lock", &problem);
    renew(means)
}

/// Resolves the recipe as the archives are now, compiles what is to be compiled, and writes its lock.
///
/// # Errors
/// As [`resolve`] and [`Means::lock`], and a lock that cannot be written.
pub fn renew(means: &Means<'_>) -> Result<Lock> {
    let Means { project, net, .. } = *means;
    say("lock", "signed metadata and dependencies");
    let previous = read(project)?;
    let firmware: Vec<Firmware> = project.firmware.iter().map(|(_, firmware)| firmware.clone()).collect();
    let wanted = Wanted {
        recipe: &project.recipe,
        digest: project.digest,
        sources: project.sources.clone(),
        firmware: &firmware,
        kernel: &project.kernel,
        keyrings: &project.keyrings,
    };
    let payload = payload::lock(project, net)?; // before the archives are asked: it fails sooner
    let mut lock = resolve(&wanted, previous.as_ref(), clock::now(), net)?;
    lock.payload = payload;
    let compiled = means.lock(&lock)?;
    lock.payload.extend(compiled);
    lock.payload.sort();
    write(project, &lock)?;
    let count = |tree| lock.packages(tree).count();
    let (root, initrd, tools) = (count(Tree::Root), count(Tree::Initrd), count(Tree::Tools));
    say(
        "lock",
        &format!("{root} packages for the root, {initrd} for the initrd, {tools} tools"),
    );
    Ok(lock)
}

fn place(project: &Project) -> PathBuf {
    project.folder.join(LOCK)
}

fn read(project: &Project) -> Result<Option<Lock>> {
    match fs::read_to_string(place(project)) {
        Ok(text) => Lock::parse(&text).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read recipe.lock"),
    }
}

/// The old lock or the new one, whatever happens in between; of two begat one writes after the other.
fn write(project: &Project, lock: &Lock) -> Result<()> {
    let steps = || -> io::Result<()> {
        let alone = File::open(&project.folder)?;
        alone.lock()?;
        Folder::open(&project.folder)?.write_as(PARTIAL_LOCK, LOCK, lock.text())
    };
    steps().or_mend(
        Exit::Outside,
        format!("cannot write {}", place(project).display()),
        "make room on its disk, or make the recipe's folder writable for this user",
    )
}
