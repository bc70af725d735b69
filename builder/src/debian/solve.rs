//! From the names that are wanted to the packages that satisfy everything they say about each other.
//!
//! The SAT solver `resolvo` decides. Of each name only the newest version is in the universe: a version that security
//! support has replaced is never chosen to make something else fit. What the solver found is then walked from what is
//! wanted, so that every package that is kept has a reason, and nothing is kept without one.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;

use anyhow::Result;
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver,
    SolverCache, StringId, UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use super::packages::Package;
use super::relation::{self, NotARelation, Relation};
use super::version;
use crate::mend::Exit;

/// The packages of a suite, the newest version of each.
#[derive(Debug)]
pub struct Universe<'a> {
    /// Sorted by name.
    packages: Vec<Package<'a>>,
    /// What packages provide, sorted by its name, the preferred provider first.
    provided: Vec<Provided<'a>>,
}

#[derive(Debug)]
struct Provided<'a> {
    name: &'a str,
    version: Option<&'a str>,
    provider: usize,
}

/// A package that was chosen, and why.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    pub package: Package<'a>,
    pub why: String,
}

impl<'a> Universe<'a> {
    /// Returns the universe of these packages; of two with the same name and version, the first stays.
    ///
    /// # Errors
    /// A `Provides` that cannot be read.
    pub fn new(mut packages: Vec<Package<'a>>) -> Result<Self> {
        packages.sort_by(|a, b| a.name.cmp(b.name).then_with(|| version::compare(b.version, a.version)));
        packages.dedup_by_key(|package| package.name);
        let mut provided = Vec::new();
        for (provider, package) in packages.iter().enumerate() {
            let wrong = |error: NotARelation| unreadable(package, &error);
            for relation in relation::parse(package.provides).map_err(wrong)?.into_iter().flatten() {
                let version = relation.bound.map(|(_, version)| version);
                provided.push(Provided {
                    name: relation.name,
                    version,
                    provider,
                });
            }
        }
        provided.sort_by_key(|provided| (provided.name, packages[provided.provider].priority, provided.provider));
        Ok(Self { packages, provided })
    }

    /// Returns the package of this name.
    pub fn package(&self, name: &str) -> Option<&Package<'a>> {
        self.position(name).map(|at| &self.packages[at])
    }

    /// Returns the package of this name.
    ///
    /// # Errors
    /// A name that no package has, with who provides it, or the nearest that one has.
    pub fn wanted(&self, name: &str) -> Result<&Package<'a>> {
        let missing = || {
            let providers = self
                .providers(name)
                .map(|provided| self.packages[provided.provider].name);
            let providers: Vec<_> = providers.collect();
            let mend = match (providers.is_empty(), self.nearest(name)) {
                (false, _) => format!("name one of those that provide it: {}", providers.join(", ")),
                (true, Some(nearest)) => format!("did you mean `{nearest}`?"),
                (true, None) => "the suite has no packages: try another mirror".into(),
            };
            Exit::Usage.because(format!("no package is named {name:?}"), mend)
        };
        self.package(name).ok_or_else(missing)
    }

    fn nearest(&self, name: &str) -> Option<&'a str> {
        let names = self.packages.iter().map(|package| package.name);
        names.min_by_key(|known| strsim::damerau_levenshtein(name, known))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.packages.binary_search_by(|package| package.name.cmp(name)).ok()
    }

    fn providers(&self, name: &str) -> impl Iterator<Item = &Provided<'a>> {
        let start = self.provided.partition_point(|provided| provided.name < name);
        self.provided[start..]
            .iter()
            .take_while(move |provided| provided.name == name)
    }

    /// The packages that a relation means, the preferred first: who has the name, then who provides it.
    ///
    /// Debian Policy 7.5: what is provided without a version satisfies no relation that bounds it.
    fn meant(&self, relation: &Relation<'_>) -> Vec<usize> {
        let named = self
            .position(relation.name)
            .filter(|at| relation.holds(self.packages[*at].version));
        let provides = |provided: &&Provided<'_>| match provided.version {
            Some(version) => relation.holds(version),
            None => relation.bound.is_none(),
        };
        let providers = self
            .providers(relation.name)
            .filter(provides)
            .map(|provided| provided.provider);
        let mut meant = Vec::new();
        for at in named.into_iter().chain(providers) {
            if !meant.contains(&at) {
                meant.push(at);
            }
        }
        meant
    }

    /// What a package needs: for each clause its text and the packages of which one must be there.
    fn needs(&self, package: &Package<'a>) -> Result<Vec<(String, Vec<usize>)>, NotARelation> {
        let fields = [package.pre_depends, package.depends];
        let clauses = fields.into_iter().map(relation::parse).collect::<Result<Vec<_>, _>>()?;
        let alternatives = |clause: &[Relation<'_>]| -> Vec<usize> {
            clause.iter().flat_map(|relation| self.meant(relation)).collect()
        };
        let text = |clause: &[Relation<'_>]| clause.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ");
        Ok(clauses
            .iter()
            .flatten()
            .map(|clause| (text(clause), alternatives(clause)))
            .collect())
    }

    /// The packages that cannot be there together with one; it is never among them itself (Debian Policy 7.4).
    fn refuses(&self, at: usize) -> Result<Vec<usize>, NotARelation> {
        let package = &self.packages[at];
        let fields = [package.conflicts, package.breaks];
        let clauses = fields.into_iter().map(relation::parse).collect::<Result<Vec<_>, _>>()?;
        let meant = clauses
            .iter()
            .flatten()
            .flatten()
            .flat_map(|relation| self.meant(relation));
        Ok(meant.filter(|other| *other != at).collect())
    }
}

fn unreadable(package: &Package<'_>, error: &NotARelation) -> anyhow::Error {
    let problem = format!(
        "package {} {} of {}: {error}",
        package.name, package.version, package.archive
    );
    Exit::LockMismatch.because(problem, "try another mirror, or tell the archive")
}

/// Chooses the essential packages, those that are `wanted`, and what all these need, sorted by name.
///
/// What is wanted is there because of `why`.
///
/// # Errors
/// Names that no package has, and wishes that cannot be had together.
pub fn solve<'a>(universe: &Universe<'a>, wanted: &[&str], why: &str) -> Result<Vec<Chosen<'a>>> {
    let mut roots = BTreeMap::new();
    for (at, package) in universe.packages.iter().enumerate() {
        if package.essential {
            roots.insert(at, "essential".to_owned());
        }
    }
    for name in wanted {
        let package = universe.wanted(name)?;
        roots.extend(universe.position(package.name).map(|at| (at, why.to_owned())));
    }
    let installed = satisfy(universe, roots.keys().copied())?;
    let reasons = reasons(universe, roots, &installed)?;
    let chosen = reasons.into_iter().map(|(at, why)| Chosen {
        package: universe.packages[at],
        why,
    });
    Ok(chosen.collect())
}

/// Chooses one package and, of what it needs, only packages whose name begins with one of `prefixes`, sorted by name.
///
/// The package is there because of `why`.
///
/// # Errors
/// A name that no package has, and a need for such a package that the suite does not have.
pub fn follow<'a>(universe: &Universe<'a>, name: &str, prefixes: &[&str], why: &str) -> Result<Vec<Chosen<'a>>> {
    let first = Chosen {
        package: *universe.wanted(name)?,
        why: why.to_owned(),
    };
    let mut chosen = BTreeMap::from([(first.package.name, first.clone())]);
    let mut queue = vec![first.package];
    while let Some(package) = queue.pop() {
        let needs = universe.needs(&package).map_err(|error| unreadable(&package, &error))?;
        for (text, meant) in needs
            .iter()
            .filter(|(text, _)| prefixes.iter().any(|prefix| text.starts_with(prefix)))
        {
            let problem = || format!("{} needs {text}, which the suite does not have", package.name);
            let missing = || Exit::Usage.because(problem(), "take another package or suite");
            let needed = universe.packages[*meant.first().ok_or_else(missing)?];
            if !chosen.contains_key(needed.name) {
                let why = format!("needed by {}", package.name);
                chosen.insert(needed.name, Chosen { package: needed, why });
                queue.push(needed);
            }
        }
    }
    Ok(chosen.into_values().collect())
}

/// Asks the solver; the answer says of each package of the universe whether it is installed.
fn satisfy(universe: &Universe<'_>, roots: impl Iterator<Item = usize>) -> Result<Vec<bool>> {
    let requirements = roots.map(|at| Requirement::Single(present(at)).into()).collect();
    let mut solver = Solver::new(Provider::new(universe));
    match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solvables) => {
            let mut installed = vec![false; universe.packages.len()];
            for solvable in solvables {
                installed[position(solvable)] = true;
            }
            Ok(installed)
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let explanation = conflict.display_user_friendly(&solver).to_string();
            let problem = format!(
                "the wanted packages cannot be installed together\n{}",
                explanation.trim_end()
            );
            Err(Exit::Usage.because(problem, "leave one of them out of the recipe, or take another suite"))
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => {
            Err(Exit::Outside.because("the solver was stopped", "run it again"))
        }
    }
}

/// Walks from the roots along the preferred of what is installed.
fn reasons(
    universe: &Universe<'_>,
    roots: BTreeMap<usize, String>,
    installed: &[bool],
) -> Result<BTreeMap<usize, String>> {
    let mut reasons = roots;
    let mut queue: VecDeque<usize> = reasons.keys().copied().collect();
    while let Some(at) = queue.pop_front() {
        let package = &universe.packages[at];
        let needs = universe.needs(package).map_err(|error| unreadable(package, &error))?;
        for need in needs
            .iter()
            .filter_map(|(_, meant)| meant.iter().find(|at| installed[**at]))
        {
            if !reasons.contains_key(need) {
                reasons.insert(*need, format!("needed by {}", package.name));
                queue.push_back(*need);
            }
        }
    }
    Ok(reasons)
}

/// The universe as the solver asks for it.
///
/// A package is a name with one solvable, both with its position as identifier; it has two version sets: the package
/// present, and absent.
struct Provider<'u, 'a> {
    universe: &'u Universe<'a>,
    unions: RefCell<Vec<Vec<VersionSetId>>>,
    union_of: RefCell<BTreeMap<Vec<VersionSetId>, VersionSetUnionId>>,
    texts: RefCell<Vec<String>>,
}

fn number(position: usize) -> u32 {
    u32::try_from(position).expect("an index of less than 4 GiB has fewer packages")
}

fn position(solvable: SolvableId) -> usize {
    solvable.into_raw() as usize
}

fn present(position: usize) -> VersionSetId {
    VersionSetId(number(position) << 1)
}

fn absent(position: usize) -> VersionSetId {
    VersionSetId(number(position) << 1 | 1)
}

fn is_absent(set: VersionSetId) -> bool {
    set.0 & 1 == 1
}

impl<'u, 'a> Provider<'u, 'a> {
    fn new(universe: &'u Universe<'a>) -> Self {
        Self {
            universe,
            unions: RefCell::default(),
            union_of: RefCell::default(),
            texts: RefCell::default(),
        }
    }

    fn package(&self, at: usize) -> &Package<'a> {
        &self.universe.packages[at]
    }

    fn dependencies(&self, at: usize) -> Result<KnownDependencies, String> {
        let needs = self
            .universe
            .needs(self.package(at))
            .map_err(|error| error.to_string())?;
        let refuses = self.universe.refuses(at).map_err(|error| error.to_string())?;
        let mut requirements = Vec::new();
        for (text, meant) in needs {
            if meant.is_empty() {
                return Err(format!("it needs {text}, which the suite does not have"));
            }
            requirements.push(self.requirement(&meant));
        }
        let constrains = refuses.into_iter().map(absent).collect();
        Ok(KnownDependencies {
            requirements,
            constrains,
        })
    }

    fn requirement(&self, meant: &[usize]) -> ConditionalRequirement {
        let sets: Vec<_> = meant.iter().copied().map(present).collect();
        if let [set] = sets[..] {
            return set.into();
        }
        let mut unions = self.unions.borrow_mut();
        let next = VersionSetUnionId(number(unions.len()));
        let union = *self.union_of.borrow_mut().entry(sets.clone()).or_insert(next);
        if union == next {
            unions.push(sets);
        }
        union.into()
    }
}

impl Interner for Provider<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let package = self.package(position(solvable));
        format!("{} {}", package.name, package.version)
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl Display + '_ {
        let names: Vec<_> = solvables
            .iter()
            .map(|solvable| self.display_solvable(*solvable).to_string())
            .collect();
        names.join(" | ")
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.package(name.into_raw() as usize).name
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        if is_absent(set) { "to be absent" } else { "" }
    }

    fn display_string(&self, text: StringId) -> impl Display + '_ {
        self.texts.borrow()[text.0 as usize].clone()
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        NameId::from_raw(set.0 >> 1)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        NameId::from_raw(solvable.into_raw())
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.unions.borrow()[union.0 as usize].clone().into_iter()
    }

    fn resolve_condition(&self, _: ConditionId) -> Condition {
        unreachable!("no dependency of Debian has a condition")
    }
}

impl DependencyProvider for Provider<'_, '_> {
    async fn filter_candidates(&self, candidates: &[SolvableId], set: VersionSetId, inverse: bool) -> Vec<SolvableId> {
        if is_absent(set) == inverse {
            candidates.to_vec()
        } else {
            Vec::new()
        }
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        Some(Candidates {
            candidates: vec![SolvableId::from_raw(name.into_raw())],
            // The whole reach is encoded first: what must be there is known before anything is decided.
            hint_dependencies_available: HintDependenciesAvailable::All,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        solvables.sort_by_key(|solvable| Reverse(*solvable));
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        self.dependencies(position(solvable)).map_or_else(
            |problem| {
                let mut texts = self.texts.borrow_mut();
                texts.push(problem);
                Dependencies::Unknown(StringId(number(texts.len() - 1)))
            },
            Dependencies::Known,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::packages;
    use crate::mend;

    /// An index of packages, each a line of `name version` and further fields after semicolons.
    fn index(lines: &[&str]) -> String {
        let stanza = |line: &&str| {
            let (package, fields) = line.split_once(';').unwrap_or((line, ""));
            let (name, version) = package.split_once(' ').unwrap_or((package, "1"));
            let digest = measure::Sha256::of(line);
            format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\n\
                 SHA256: {digest}\n{}\n",
                fields
                    .split(';')
                    .map(|field| format!("{}\n", field.trim()))
                    .collect::<String>()
                    .trim_start()
            )
        };
        lines.iter().map(stanza).collect()
    }

    fn outcome(lines: &[&str], wanted: &[&str]) -> Result<String> {
        let index = index(lines);
        let universe = Universe::new(packages::parse("debian", &index)?)?;
        let chosen = solve(&universe, wanted, "recipe")?;
        let show = |chosen: &Chosen<'_>| format!("{} {}: {}", chosen.package.name, chosen.package.version, chosen.why);
        Ok(chosen.iter().map(show).collect::<Vec<_>>().join(", "))
    }

    fn refusal(lines: &[&str], wanted: &[&str]) -> String {
        mend::report(&outcome(lines, wanted).expect_err("this cannot be installed"))
    }

    /// A law, the packages of a universe, and what wanting `a` gives.
    const CASES: [(&str, &[&str], &str); 12] = [
        (
            "essential packages come unasked",
            &["a", "b; Essential: yes"],
            "a 1: recipe, b 1: essential",
        ),
        (
            "a need is followed",
            &["a; Depends: b", "b; Pre-Depends: c", "c", "d"],
            "a 1: recipe, b 1: needed by a, c 1: needed by b",
        ),
        (
            "a cycle ends",
            &["a; Depends: b", "b; Depends: c", "c; Depends: a"],
            "a 1: recipe, b 1: needed by a, c 1: needed by b",
        ),
        ("the newest version wins", &["a 1", "a 10", "a 9"], "a 10: recipe"),
        (
            "the first alternative is preferred",
            &["a; Depends: c | b", "b", "c"],
            "a 1: recipe, c 1: needed by a",
        ),
        (
            "an alternative that is there anyway suffices",
            &["a; Depends: b | c, d", "b", "c", "d; Depends: c"],
            "a 1: recipe, c 1: needed by a, d 1: needed by a",
        ),
        (
            "an alternative that cannot be is not taken",
            &["a; Depends: b | c", "b; Depends: nothing", "c"],
            "a 1: recipe, c 1: needed by a",
        ),
        (
            "a bound chooses the alternative",
            &["a; Depends: b (>= 2) | c", "b", "c"],
            "a 1: recipe, c 1: needed by a",
        ),
        (
            "the preferred provider is of higher priority",
            &["a; Depends: v", "b; Provides: v", "c; Provides: v; Priority: required"],
            "a 1: recipe, c 1: needed by a",
        ),
        (
            "a real package comes before a provider",
            &["a; Depends: b", "aa; Provides: b", "b"],
            "a 1: recipe, b 1: needed by a",
        ),
        (
            "a version that is provided counts",
            &[
                "a; Depends: v (>= 2)",
                "b; Provides: v",
                "c; Provides: v (= 1)",
                "d; Provides: v (= 2)",
            ],
            "a 1: recipe, d 1: needed by a",
        ),
        (
            "qualifiers mean the one architecture",
            &["a; Depends: b:any", "b"],
            "a 1: recipe, b 1: needed by a",
        ),
    ];

    #[test]
    fn packages_are_chosen_with_their_reasons() {
        for (law, lines, expected) in CASES {
            assert_eq!(outcome(lines, &["a"]).unwrap(), expected, "{law}");
        }
    }

    #[test]
    fn a_conflict_is_avoided_where_there_is_a_way_round() {
        let lines = [
            "a; Depends: v, d",
            "b; Provides: v; Conflicts: d",
            "c; Provides: v; Breaks: e (<< 2)",
            "d; Conflicts: w",
            "e",
            "f; Provides: v, w",
        ];
        assert_eq!(
            outcome(&lines, &["a"]).unwrap(),
            "a 1: recipe, c 1: needed by a, d 1: needed by a"
        );
        let with_e = "a 1: recipe, b 1: needed by a, e 1: recipe, g 1: recipe";
        let lines = [
            "a; Depends: v",
            lines[1],
            lines[2],
            lines[3],
            "e",
            lines[5],
            "g; Depends: b",
        ];
        assert_eq!(outcome(&lines, &["a", "e", "g"]).unwrap(), with_e);
    }

    #[test]
    fn a_package_does_not_conflict_with_itself() {
        let lines = ["a; Provides: v; Conflicts: v", "b; Provides: v (= 1); Breaks: v (<< 2)"];
        assert_eq!(outcome(&lines, &["a"]).unwrap(), "a 1: recipe");
        assert_eq!(outcome(&lines, &["b"]).unwrap(), "b 1: recipe");
        assert!(outcome(&lines, &["a", "b"]).is_err());
    }

    #[test]
    fn a_package_that_does_not_exist_is_named_with_the_nearest() {
        let report = refusal(&["systemd", "udev"], &["sistemd"]);
        assert_eq!(
            report,
            "error: no package is named \"sistemd\"\nmend: did you mean `systemd`?\n"
        );
        let report = refusal(&["b; Provides: v", "c; Provides: v"], &["v"]);
        assert!(
            report.ends_with("mend: name one of those that provide it: b, c\n"),
            "{report}"
        );
    }

    #[test]
    fn an_unsolvable_wish_is_explained() {
        let report = refusal(&["a; Depends: c", "b; Conflicts: c", "c"], &["a", "b"]);
        assert!(report.contains("b 1") && report.contains("a 1"), "{report}");
        let report = refusal(&["a; Depends: b", "b; Depends: c (>= 2)", "c"], &["a"]);
        assert!(
            report.contains("it needs c (>= 2), which the suite does not have"),
            "{report}"
        );
    }

    #[test]
    fn relations_that_cannot_be_read_are_not_passed_over() {
        assert!(refusal(&["a; Depends: b (1)", "b"], &["a"]).contains("cannot read the relation"));
        assert!(refusal(&["a; Provides: b (1)"], &["a"]).contains("cannot read the relation"));
    }
}
