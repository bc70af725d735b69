//! What dpkg says is installed: dpkg(1), "package states"; deb-control(5).

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;

use crate::debian::deb822;
use crate::mend::Exit;
use crate::model::lock::Package;

const MEND: &str = "look at /var/lib/dpkg/status of that tree, and at what the recipe's scripts do to it";

/// What tells one binary package from another.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Identity<'a> {
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) architecture: &'a str,
}

/// What a package says about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct About<'a> {
    pub(super) maintainer: Option<&'a str>,
    pub(super) homepage: Option<&'a str>,
    /// `Pre-Depends` and `Depends`.
    pub(super) depends: Vec<&'a str>,
    pub(super) provides: Option<&'a str>,
    /// `Built-Using` and `Static-Built-Using`: source packages of which parts are in there.
    pub(super) built_using: Vec<&'a str>,
}

/// Packages that are installed.
pub(super) type Installed<'a> = BTreeMap<Identity<'a>, About<'a>>;

impl<'a> From<&'a Package> for Identity<'a> {
    fn from(package: &'a Package) -> Self {
        Self {
            name: &package.name,
            version: &package.version,
            architecture: &package.architecture,
        }
    }
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.version, self.architecture)
    }
}

impl<'a> About<'a> {
    /// Reads the control file of a package that is not installed.
    pub(super) fn of(control: &'a str) -> Self {
        Self::from(&deb822::fields(control).collect())
    }
}

impl<'a> From<&Stanza<'a>> for About<'a> {
    fn from(stanza: &Stanza<'a>) -> Self {
        let field = |name: &'static str| stanza.get(name).copied();
        let all = |names: [&'static str; 2]| names.into_iter().filter_map(field).collect();
        Self {
            maintainer: field("Maintainer"),
            homepage: field("Homepage"),
            depends: all(["Pre-Depends", "Depends"]),
            provides: field("Provides"),
            built_using: all(["Built-Using", "Static-Built-Using"]),
        }
    }
}

/// Reads the text of `/var/lib/dpkg/status`; `tree` is its name in messages.
///
/// # Errors
/// A package without a name, an architecture or a status, neither installed nor gone, or there twice.
pub(super) fn installed<'a>(tree: &str, status: &'a str) -> Result<Installed<'a>> {
    let mut installed = Installed::new();
    for stanza in deb822::stanzas(status) {
        let stanza: Stanza<'_> = deb822::fields(stanza).collect();
        let package = identity(tree, &stanza)?;
        if is_installed(tree, &package, field(tree, &stanza, "Status")?)?
            && installed.insert(package, About::from(&stanza)).is_some()
        {
            return Err(Exit::No.because(format!("{package} is installed twice in the {tree}"), MEND));
        }
    }
    Ok(installed)
}

type Stanza<'a> = BTreeMap<&'a str, &'a str>;

fn identity<'a>(tree: &str, stanza: &Stanza<'a>) -> Result<Identity<'a>> {
    Ok(Identity {
        name: field(tree, stanza, "Package")?,
        version: stanza.get("Version").copied().unwrap_or_default(), // one that is gone may have none
        architecture: field(tree, stanza, "Architecture")?,
    })
}

fn field<'a>(tree: &str, stanza: &Stanza<'a>, name: &str) -> Result<&'a str> {
    let package = stanza.get("Package").unwrap_or(&"a package");
    let problem = || format!("{package} in the dpkg status of the {tree} has no {name}");
    let value = stanza.get(name).copied();
    value.ok_or_else(|| Exit::No.because(problem(), MEND))
}

/// The third word of `Status` is the state; what has it by halves is no state to hand out.
fn is_installed(tree: &str, package: &Identity<'_>, status: &str) -> Result<bool> {
    match status.split_whitespace().nth(2) {
        Some("installed") => Ok(true),
        Some("config-files" | "not-installed") => Ok(false),
        _ => Err(Exit::No.because(format!("{package} in the {tree} has the status {status:?}"), MEND)),
    }
}
