//! The base of a Debian tree: essential packages and what they depend on, unpacked before anything is configured, so
//! that maintainer scripts find the tools they may take for granted (Debian Policy 3.8). debootstrap and mkosi do the
//! same; mkosi starts two sandboxes for each package to do it, which takes longer than all the rest of its work.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::debian::{deb, deb822, relation};
use crate::mend::Exit;
use crate::stage::plain::Plain;
use crate::world::program::{Program, of_the_tree};

const TAR: Program = of_the_tree("tar");

/// Folders of the file system hierarchy that are links into /usr.
pub(crate) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// What dpkg brings along again where the recipe wants it.
const DOCUMENTATION: [&str; 5] = ["doc", "groff", "gtk-doc", "info", "man"];

/// Unpacks the base of `packages` into the new folder `tree` and returns the names of what it consists of.
///
/// # Errors
/// Packages that are not what they should be.
pub fn make(packages: &[&Plain], tree: &Path) -> Result<Vec<String>> {
    for name in MERGED {
        fs::create_dir_all(tree.join("usr").join(name))?;
        symlink(format!("usr/{name}"), tree.join(name))?;
    }
    let base = base(packages)?;
    for package in &base {
        unpack(package, tree).with_context(|| format!("cannot unpack {}", package.name))?;
    }
    for name in ["boot", "efi"] {
        // Where the boot partitions would be mounted; nobody writes below.
        fs::create_dir_all(tree.join(name))?;
        fs::set_permissions(tree.join(name), Permissions::from_mode(0o500))?;
    }
    fs::create_dir_all(tree.join("etc"))?;
    let machine_id = tree.join("etc/machine-id");
    fs::write(&machine_id, "uninitialized\n")?; // or systemd's scripts make one up
    fs::set_permissions(machine_id, Permissions::from_mode(0o444))?;
    base.iter().map(|package| name(package).map(String::from)).collect()
}

/// Owners and modes matter here, so that it is tar that unpacks.
fn unpack(package: &Plain, tree: &Path) -> Result<()> {
    let mut files = deb::part(File::open(&package.path)?, deb::Part::Data)?.into_inner();
    let fixed = ["-x", "-p", "--numeric-owner", "--keep-directory-symlink", "-C"].map(String::from);
    let excluded = DOCUMENTATION.map(|folder| format!("--exclude=./usr/share/{folder}/?*"));
    let mut tar = TAR.start(fixed.into_iter().chain([tree.display().to_string()]).chain(excluded))?;
    let mut pipe = tar.stdin.take().expect("its standard input is a pipe");
    let copied = io::copy(&mut files, &mut pipe);
    drop(pipe);
    let status = tar.wait().context("cannot wait for tar")?;
    copied?;
    if status.success() {
        return Ok(());
    }
    Err(Exit::Outside.because(format!("tar ended with {status}"), "see what it says above"))
}

/// Essential packages, `base-files`, and what they depend on.
fn base<'a>(packages: &[&'a Plain]) -> Result<Vec<&'a Plain>> {
    let begins = |package: &&Plain| {
        field(package, "Essential") == Some("yes") || field(package, "Package") == Some("base-files")
    };
    let mut waiting: Vec<&Plain> = packages.iter().copied().filter(begins).collect();
    let mut names = BTreeSet::new();
    while let Some(package) = waiting.pop() {
        if names.insert(name(package)?) {
            waiting.extend(needed(package, packages)?);
        }
    }
    let is_in = |package: &&Plain| name(package).is_ok_and(|name| names.contains(name));
    Ok(packages.iter().copied().filter(is_in).collect())
}

/// What of `packages` the package depends on; they were chosen so that each clause has one that holds.
fn needed<'a>(package: &Plain, packages: &[&'a Plain]) -> Result<Vec<&'a Plain>> {
    let mut needed = Vec::new();
    for text in ["Pre-Depends", "Depends"]
        .iter()
        .filter_map(|name| field(package, name))
    {
        let clauses = relation::parse(text)?;
        let holds = |any: &Vec<relation::Relation<'_>>| {
            packages
                .iter()
                .copied()
                .find(|one| any.iter().any(|name| is(one, name.name)))
        };
        needed.extend(clauses.iter().filter_map(holds));
    }
    Ok(needed)
}

/// Whether the package has this name, or provides it.
fn is(package: &Plain, wanted: &str) -> bool {
    let provided = field(package, "Provides")
        .and_then(|text| relation::parse(text).ok())
        .unwrap_or_default();
    name(package).is_ok_and(|name| name == wanted) || provided.iter().flatten().any(|one| one.name == wanted)
}

fn name(package: &Plain) -> Result<&str> {
    field(package, "Package").with_context(|| format!("{} has no name in its control file", package.name))
}

fn field<'a>(package: &'a Plain, wanted: &str) -> Option<&'a str> {
    deb822::fields(&package.control)
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value)
}
