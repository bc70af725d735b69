//! What packages say about others: `Depends`, `Conflicts`, `Provides` and the like.

use std::cmp::Ordering;
use std::fmt;

use super::version;

/// One package that another names: `name (>= version)`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Relation<'a> {
    pub name: &'a str,
    pub bound: Option<(Operator, &'a str)>,
}

/// How a version may relate to the one named.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Operator {
    Earlier,
    EarlierOrEqual,
    Equal,
    LaterOrEqual,
    Later,
}

/// The spelling of each operator: Debian Policy 7.1.
const OPERATORS: [(&str, Operator); 5] = [
    ("<<", Operator::Earlier),
    ("<=", Operator::EarlierOrEqual),
    ("=", Operator::Equal),
    (">=", Operator::LaterOrEqual),
    (">>", Operator::Later),
];

/// A relation that cannot be read.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("cannot read the relation {0:?}: expected `name` or `name (>= version)`")]
pub struct NotARelation(String);

/// Reads the value of a field: what commas part must all hold, what bars part are alternatives, the preferred first.
///
/// # Errors
/// Text that is no relation.
pub fn parse(field: &str) -> Result<Vec<Vec<Relation<'_>>>, NotARelation> {
    let clauses = field.split(',').map(str::trim).filter(|clause| !clause.is_empty());
    clauses
        .map(|clause| clause.split('|').map(Relation::parse).collect())
        .collect()
}

impl<'a> Relation<'a> {
    /// Reads one relation.
    ///
    /// The qualifiers `:any` and `:native` mean the one architecture that there is; another one stays part of the
    /// name, which no package has.
    fn parse(text: &'a str) -> Result<Self, NotARelation> {
        let wrong = || NotARelation(text.into());
        let (name, bound) = match text.split_once('(') {
            None => (text, None),
            Some((name, rest)) => (name, Some(rest.trim_end().strip_suffix(')').ok_or_else(wrong)?)),
        };
        let name = name.trim();
        let name = [":any", ":native"]
            .iter()
            .find_map(|any| name.strip_suffix(any))
            .unwrap_or(name);
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(wrong());
        }
        let bound = bound
            .map(|bound| parse_bound(bound.trim()).ok_or_else(wrong))
            .transpose()?;
        Ok(Self { name, bound })
    }

    /// Whether a package of this name with `version` is meant.
    pub fn holds(&self, version: &str) -> bool {
        self.bound
            .is_none_or(|(operator, bound)| operator.holds(version::compare(version, bound)))
    }
}

fn parse_bound(text: &str) -> Option<(Operator, &str)> {
    let (spelling, operator) = OPERATORS.iter().find(|(spelling, _)| text.starts_with(spelling))?;
    let version = text[spelling.len()..].trim();
    (!version.is_empty() && !version.contains(char::is_whitespace)).then_some((*operator, version))
}

impl Operator {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        let Some((operator, version)) = self.bound else {
            return Ok(());
        };
        let spelling = OPERATORS
            .iter()
            .find(|(_, known)| *known == operator)
            .map_or("", |known| known.0);
        write!(f, " ({spelling} {version})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(field: &str) -> String {
        let show = |clause: &Vec<Relation<'_>>| clause.iter().map(Relation::to_string).collect::<Vec<_>>().join(" | ");
        parse(field).unwrap().iter().map(show).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn alternatives_bounds_and_qualifiers_are_read() {
        assert_eq!(
            show("libc6 (>= 2.4),a:any|b(<<1:2-3~), perl:native , wine:i386,"),
            "libc6 (>= 2.4), a | b (<< 1:2-3~), perl, wine:i386"
        );
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_relation_is_refused() {
        for wrong in ["a |", "a (1)", "a (= )", "a (= 1", "a b", "(= 1)", "a (> 1 2)"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_hold_for_the_versions_they_name() {
        let table = [("<<", "-"), ("<=", "-="), ("=", "="), (">=", "=+"), (">>", "+")];
        for (spelling, expected) in table {
            let text = format!("a ({spelling} 2)");
            let relation = Relation::parse(&text).unwrap();
            let found: String = [("1", '-'), ("2", '='), ("3", '+')]
                .iter()
                .filter_map(|(version, sign)| relation.holds(version).then_some(*sign))
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*|[a(=)|,: ]*") {
            let _ = parse(&text);
        }
    }
}
