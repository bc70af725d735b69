//! What installed packages depend on: Debian Policy 7.2, resolved among those that are there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::dpkg::{About, Identity, Installed};
use crate::debian::relation::{self, NotARelation, Operator, Relation};
use crate::mend::Exit;

/// What a package depends on.
#[derive(Clone, Debug, Default)]
pub(super) struct Dependencies<'a> {
    pub(super) on: BTreeSet<Identity<'a>>,
    /// Whether each of its clauses is met by a package that is there.
    pub(super) complete: bool,
}

/// Who goes by a name: the version that it has under this name, where it has one, and the package.
type Names<'a> = BTreeMap<&'a str, Vec<(Option<&'a str>, Identity<'a>)>>;

/// Returns the dependencies of every package of a tree.
///
/// # Errors
/// A field that is no list of relations.
pub(super) fn dependencies<'a>(installed: &Installed<'a>) -> Result<BTreeMap<Identity<'a>, Dependencies<'a>>> {
    let unreadable = |package: &Identity<'_>, why: NotARelation| {
        let problem = format!("{package} is installed and says what cannot be: {why}");
        Exit::No.because(problem, "look at /var/lib/dpkg/status of the built trees")
    };
    let mut names = Names::new();
    for (package, about) in installed {
        let provided = names_of(package, about).map_err(|why| unreadable(package, why))?;
        for (name, version) in provided {
            names.entry(name).or_default().push((version, *package));
        }
    }
    let resolved = installed.iter().map(|(package, about)| {
        let met = resolve(package, about, &names).map_err(|why| unreadable(package, why))?;
        Ok((*package, met))
    });
    resolved.collect()
}

/// The names that a package goes by, each with its version.
fn names_of<'a>(package: &Identity<'a>, about: &About<'a>) -> Result<Vec<(&'a str, Option<&'a str>)>, NotARelation> {
    let provided = relation::parse(about.provides.unwrap_or_default())?;
    let provided = provided.into_iter().flatten().map(|Relation { name, bound }| {
        let version = bound.filter(|(operator, _)| *operator == Operator::Equal);
        (name, version.map(|(_, version)| version))
    });
    Ok([(package.name, Some(package.version))]
        .into_iter()
        .chain(provided)
        .collect())
}

/// Of alternatives, the first that anything meets; what meets it is all of its providers that are there.
fn resolve<'a>(package: &Identity<'a>, about: &About<'a>, names: &Names<'a>) -> Result<Dependencies<'a>, NotARelation> {
    let mut met = Dependencies {
        complete: true,
        ..Dependencies::default()
    };
    for field in &about.depends {
        for clause in relation::parse(field)? {
            let mut alternatives = clause.iter().map(|wanted| meeting(wanted, names));
            match alternatives.find(|found| !found.is_empty()) {
                Some(found) => met.on.extend(found),
                None => met.complete = false,
            }
        }
    }
    met.on.remove(package);
    Ok(met)
}

fn meeting<'a>(wanted: &Relation<'_>, names: &Names<'a>) -> Vec<Identity<'a>> {
    let holds = |version: Option<&str>| match version {
        Some(version) => wanted.holds(version),
        None => wanted.bound.is_none(),
    };
    let known = names.get(wanted.name).into_iter().flatten();
    known
        .filter(|(version, _)| holds(*version))
        .map(|(_, package)| *package)
        .collect()
}
