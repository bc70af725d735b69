//! Short names of licences and what SPDX calls them.
//!
//! The names are those of [copyright format 1.0][1], section 7.1; others are taken where they are identifiers of SPDX
//! themselves. Neither case nor a `.0` at the end of a version matters. Names that stand for several licences, such as
//! `BSD`, `GPL` without a version or `Apache`, are not here: only their text tells.
//!
//! [1]: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/#license-short-name

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::expression::Expression;

/// Of GNU, whose identifiers say whether later versions do: `-only` and `-or-later`.
const GNU: [(&str, &str); 14] = [
    ("agpl-1", "AGPL-1.0"),
    ("agpl-3", "AGPL-3.0"),
    ("gfdl-1.1", "GFDL-1.1"),
    ("gfdl-1.2", "GFDL-1.2"),
    ("gfdl-1.3", "GFDL-1.3"),
    ("gfdl-niv-1.1", "GFDL-1.1-no-invariants"),
    ("gfdl-niv-1.2", "GFDL-1.2-no-invariants"),
    ("gfdl-niv-1.3", "GFDL-1.3-no-invariants"),
    ("gpl-1", "GPL-1.0"),
    ("gpl-2", "GPL-2.0"),
    ("gpl-3", "GPL-3.0"),
    ("lgpl-2", "LGPL-2.0"),
    ("lgpl-2.1", "LGPL-2.1"),
    ("lgpl-3", "LGPL-3.0"),
];

/// Names that are not SPDX's. `Artistic` is the text of base-files' `common-licenses`, which is Perl's.
const OTHERS: [(&str, &str); 8] = [
    ("artistic", "Artistic-1.0-Perl"),
    ("boost-1", "BSL-1.0"),
    ("cc0", "CC0-1.0"),
    ("expat", "MIT"),
    ("openldap-2.8", "OLDAP-2.8"),
    ("zope-1.1", "ZPL-1.1"),
    ("zope-2", "ZPL-2.0"),
    ("zope-2.1", "ZPL-2.1"),
];

/// Identifiers of SPDX that Debian's files use, or define, for more than what SPDX means.
const AMBIGUOUS: [&str; 3] = ["artistic-1", "mit", "w3c"];

/// Exceptions whose identifier is not their name with `-exception`.
const EXCEPTIONS: [(&str, &str); 6] = [
    ("autoconf-2", "Autoconf-exception-2.0"),
    ("autoconf-3", "Autoconf-exception-3.0"),
    ("bison-2.2", "Bison-exception-2.2"),
    ("classpath", "Classpath-exception-2.0"),
    ("font", "Font-exception-2.0"),
    ("gcc-runtime-3.1", "GCC-exception-3.1"),
];

/// What makes `MIT` the licence of that name at SPDX: these words, after which nothing else follows in a sentence.
const EXPAT: &str = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and \
    associated documentation files (the \"Software\"), to deal in the Software without restriction, including without \
    limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the \
    Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions: The \
    above copyright notice and this permission notice shall be included in all copies or substantial portions of the \
    Software. THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT \
    LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL \
    THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF \
    CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN \
    THE SOFTWARE.";

static WORDS_OF_EXPAT: LazyLock<String> = LazyLock::new(|| words(EXPAT));

/// The identifiers of SPDX that are in force, by [`plain`] names.
static LICENCES: LazyLock<BTreeMap<String, &str>> = LazyLock::new(|| {
    let names = spdx::identifiers::LICENSES.iter().map(|licence| licence.name);
    let current = names.filter(|name| spdx::license_id(name).is_some_and(|id| !id.is_deprecated()));
    current.map(|name| (plain(name), name)).collect()
});

static SPDX_EXCEPTIONS: LazyLock<BTreeMap<String, &str>> = LazyLock::new(|| {
    let names = spdx::identifiers::EXCEPTIONS.iter().map(|exception| exception.name);
    let current = names.filter(|name| spdx::exception_id(name).is_some_and(|id| !id.is_deprecated()));
    current.map(|name| (plain(name), name)).collect()
});

/// Returns what SPDX calls the licence of this short name, where that is certain; `text` is that of the licence.
pub(super) fn spdx(name: &str, text: Option<&str>) -> Option<Expression> {
    let term = |name: String| Some(Expression::Term(name));
    let mut parts = name.split(' ');
    let licence = plain(parts.next()?);
    let licence = licence.as_str();
    if let Some(with) = parts.next() {
        if !with.eq_ignore_ascii_case("with") {
            return None;
        }
        let exception = exception(&parts.collect::<Vec<_>>())?;
        return term(format!("{} WITH {exception}", identifier(licence)?));
    }
    match licence {
        "mit" if text.is_some_and(|text| words(text).contains(WORDS_OF_EXPAT.as_str())) => term("MIT".into()),
        "perl" => Some(Expression::any(
            ["GPL-1.0-or-later", "Artistic-1.0-Perl"].map(|name| Expression::Term(name.into())),
        )),
        name => identifier(name).and_then(term),
    }
}

fn identifier(plain: &str) -> Option<String> {
    let (name, later) = plain.strip_suffix('+').map_or((plain, false), |name| (name, true));
    if let Some(gnu) = find(&GNU, name) {
        return Some(format!("{gnu}{}", if later { "-or-later" } else { "-only" }));
    }
    let known = find(&OTHERS, name).or_else(|| LICENCES.get(name).copied());
    let known = known.filter(|_| !AMBIGUOUS.contains(&name))?;
    match later {
        false => Some(known.into()),
        true => version_of(name).map(|_| format!("{known}+")),
    }
}

/// The exception of `WORDS exception`.
fn exception(words: &[&str]) -> Option<&'static str> {
    let [name, _exception] = words else { return None };
    let name = plain(name);
    let spdx = |name: &str| SPDX_EXCEPTIONS.get(name).copied();
    find(&EXCEPTIONS, &name)
        .or_else(|| spdx(&name))
        .or_else(|| spdx(&format!("{name}-exception")))
}

fn find(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, spdx)| *spdx)
}

/// A name in lower case, its version without `.0` at the end: section 7.1 takes `2`, `2.0` and `2.0.0` for the same.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let (mut stem, plus) = name.strip_suffix('+').map_or((name.as_str(), ""), |stem| (stem, "+"));
    while let Some(shorter) = version_of(stem).and_then(|_| stem.strip_suffix(".0")) {
        stem = shorter;
    }
    format!("{stem}{plus}")
}

/// What follows the last dash, where it is a version.
fn version_of(name: &str) -> Option<&str> {
    let (_, version) = name.rsplit_once('-')?;
    let is_version = version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_version.then_some(version)
}

/// The words of a text and nothing else, so that line breaks, quotes and list marks do not matter.
fn words(text: &str) -> String {
    let words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_ascii_lowercase()
}

/// Everything that the tables give.
#[cfg(test)]
pub(super) fn all() -> Vec<String> {
    let gnu = GNU
        .iter()
        .flat_map(|(_, spdx)| ["-only", "-or-later"].map(|later| format!("{spdx}{later}")));
    let others = OTHERS.iter().map(|(_, spdx)| String::from(*spdx));
    let exceptions = EXCEPTIONS.iter().map(|(_, spdx)| format!("GPL-2.0-only WITH {spdx}"));
    gnu.chain(others).chain(exceptions).collect()
}
