//! What dpkg says is installed: dpkg(1), "package states"; deb-control(5).

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;

use crate::debian::deb822;
use crate::mend::Exit;
use crate::model::lock::Package;

const MEND: &str = "look at /var/lib/dpkg/status of that tree, and at what the recipe's scripts do to it";

/// What tells one binary package from another.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Identity {
    name: String,
    version: String,
    architecture: String,
}

/// Packages that are installed, each with its maintainer.
pub(super) type Installed = BTreeMap<Identity, Option<String>>;

impl From<&Package> for Identity {
    fn from(package: &Package) -> Self {
        Self {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.version, self.architecture)
    }
}

/// Reads the text of `/var/lib/dpkg/status`; `tree` is its name in messages.
///
/// # Errors
/// A package without a name, an architecture or a status, neither installed nor gone, or there twice.
pub(super) fn installed(tree: &str, status: &str) -> Result<Installed> {
    let mut installed = Installed::new();
    for stanza in deb822::stanzas(status) {
        let stanza: Stanza = deb822::fields(stanza).collect();
        let package = identity(tree, &stanza)?;
        let maintainer = stanza.get("Maintainer").map(|maintainer| maintainer.to_string());
        if is_installed(tree, &package, field(tree, &stanza, "Status")?)?
            && installed.insert(package.clone(), maintainer).is_some()
        {
            return Err(Exit::No.because(format!("{package} is installed twice in the {tree}"), MEND));
        }
    }
    Ok(installed)
}

type Stanza<'a> = BTreeMap<&'a str, &'a str>;

fn identity(tree: &str, stanza: &Stanza<'_>) -> Result<Identity> {
    Ok(Identity {
        name: field(tree, stanza, "Package")?.into(),
        version: stanza.get("Version").copied().unwrap_or_default().into(), // one that is gone may have none
        architecture: field(tree, stanza, "Architecture")?.into(),
    })
}

fn field<'a>(tree: &str, stanza: &Stanza<'a>, name: &str) -> Result<&'a str> {
    let package = stanza.get("Package").unwrap_or(&"a package");
    let problem = || format!("{package} in the dpkg status of the {tree} has no {name}");
    let value = stanza.get(name).copied();
    value.ok_or_else(|| Exit::No.because(problem(), MEND))
}

/// The third word of `Status` is the state; what has it by halves is no state to hand out.
fn is_installed(tree: &str, package: &Identity, status: &str) -> Result<bool> {
    match status.split_whitespace().nth(2) {
        Some("installed") => Ok(true),
        Some("config-files" | "not-installed") => Ok(false),
        _ => Err(Exit::No.because(format!("{package} in the {tree} has the status {status:?}"), MEND)),
    }
}
