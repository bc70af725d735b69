//! The grammar of a licence's synopsis, and its canonical form.
//!
//! `and` binds closer than `or`, and either closer than one after a comma: [copyright format 1.0][1], section 7.2.
//!
//! [1]: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-syntax

use std::collections::BTreeSet;
use std::fmt;

/// Licences, as they apply together. Sets hold two or more, and none of their own kind.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Expression {
    /// One licence, with its exception where it has one.
    Term(String),
    All(BTreeSet<Expression>),
    Any(BTreeSet<Expression>),
}

/// A synopsis with more words than this is one that nobody can read; each may ask for a text.
const WORDS: usize = 100;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    And,
    Or,
    CommaAnd,
    CommaOr,
}

/// What parts an expression, the loosest first.
const LEVELS: [Token<'_>; 4] = [Token::CommaOr, Token::CommaAnd, Token::Or, Token::And];

/// Reads a synopsis; its terms are short names as they are written. None where it does not keep to the grammar.
pub(super) fn read(synopsis: &str) -> Option<Expression> {
    let words: Vec<&str> = synopsis.split_whitespace().take(WORDS + 1).collect();
    if words.len() > WORDS {
        return None;
    }
    level(&tokens(&words)?, &LEVELS)
}

fn tokens<'a>(words: &[&'a str]) -> Option<Vec<Token<'a>>> {
    let mut tokens = Vec::new();
    let mut comma = false;
    for word in words {
        let (name, next_comma) = word.strip_suffix(',').map_or((*word, false), |name| (name, true));
        let token = match (name.to_ascii_lowercase().as_str(), comma) {
            ("and", false) => Token::And,
            ("and", true) => Token::CommaAnd,
            ("or" | "and/or", false) => Token::Or, // both at once are an alternative, too, where either is
            ("or" | "and/or", true) => Token::CommaOr,
            (_, true) => return None,
            (_, false) => Token::Word(name),
        };
        if next_comma && !matches!(token, Token::Word(_)) || name.contains(['(', ')', ',', '|']) {
            return None;
        }
        comma = next_comma;
        tokens.push(token);
    }
    (!comma).then_some(tokens)
}

fn level(tokens: &[Token<'_>], levels: &[Token<'_>]) -> Option<Expression> {
    let [loosest, closer @ ..] = levels else {
        return term(tokens);
    };
    let parts = tokens.split(|token| token == loosest).map(|part| level(part, closer));
    let parts = parts.collect::<Option<Vec<_>>>()?;
    Some(match loosest {
        Token::CommaAnd | Token::And => Expression::all(parts),
        _ => Expression::any(parts),
    })
}

/// A short name, or `NAME with WORDS exception`: section 7.2 again.
fn term(tokens: &[Token<'_>]) -> Option<Expression> {
    let words = tokens.iter().map(|token| match token {
        Token::Word(word) => Some(*word),
        _ => None,
    });
    let words: Vec<&str> = words.collect::<Option<_>>()?;
    let is = |word: &str, wanted: &str| word.eq_ignore_ascii_case(wanted);
    match words[..] {
        [_] => {}
        [_, with, _, .., end] if is(with, "with") && is(end, "exception") => {}
        _ => return None,
    }
    Some(Expression::Term(words.join(" ")))
}

impl Expression {
    /// All of `parts`; at least one.
    pub(super) fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut set = BTreeSet::new();
        for part in parts {
            match part {
                Self::All(parts) => set.extend(parts),
                part => drop(set.insert(part)),
            }
        }
        Self::of(set, Self::All)
    }

    /// Any of `parts`; at least one.
    pub(super) fn any(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut set = BTreeSet::new();
        for part in parts {
            match part {
                Self::Any(parts) => set.extend(parts),
                part => drop(set.insert(part)),
            }
        }
        Self::of(set, Self::Any)
    }

    fn of(mut set: BTreeSet<Self>, several: impl Fn(BTreeSet<Self>) -> Self) -> Self {
        match (set.len(), set.pop_first()) {
            (1, Some(only)) => only,
            (_, first) => {
                set.extend(first);
                several(set)
            }
        }
    }

    /// The expression with another one in the place of each term.
    pub(super) fn map(self, of_term: &mut impl FnMut(&str) -> Self) -> Self {
        match self {
            Self::Term(name) => of_term(&name),
            Self::All(parts) => Self::all(parts.into_iter().map(|part| part.map(of_term)).collect::<Vec<_>>()),
            Self::Any(parts) => Self::any(parts.into_iter().map(|part| part.map(of_term)).collect::<Vec<_>>()),
        }
    }
}

/// As SPDX 2.3 spells it, annex D; what is in another has parentheses, also where they are not needed.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, operator) = match self {
            Self::Term(name) => return f.write_str(name),
            Self::All(parts) => (parts, " AND "),
            Self::Any(parts) => (parts, " OR "),
        };
        for (index, part) in parts.iter().enumerate() {
            let before = if index == 0 { "" } else { operator };
            match part {
                Self::Term(name) => write!(f, "{before}{name}")?,
                part => write!(f, "{before}({part})")?,
            }
        }
        Ok(())
    }
}
