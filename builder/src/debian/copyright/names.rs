//! Short names of licences and what SPDX calls them.
//!
//! The names are those of [copyright format 1.0][1], section 7.1: neither case nor a `.0` at the end of a version
//! matters. Others are taken where they are identifiers of SPDX, to the letter but for its case. Names that stand for
//! several licences, such as `BSD`, `GPL` without a version or `Apache`, are not here: only their text tells.
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

/// Licences whose versions have the same numbers at SPDX.
const FAMILIES: [&str; 14] = [
    "apache",
    "artistic",
    "cc-by",
    "cc-by-nc",
    "cc-by-nc-nd",
    "cc-by-nc-sa",
    "cc-by-nd",
    "cc-by-sa",
    "cc0",
    "cddl",
    "cpl",
    "efl",
    "lppl",
    "mpl",
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

/// Identifiers of SPDX that Debian's files use for other licences, too: the text of Perl's for `Artistic-1.0`, that of
/// ncurses for `X11`, the Open Publication License for `OPL-1.0`.
const AMBIGUOUS: [&str; 5] = ["artistic-1", "mit", "opl-1", "w3c", "x11"];

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
    let licence = parts.next()?;
    if let Some(with) = parts.next() {
        if !with.eq_ignore_ascii_case("with") {
            return None;
        }
        let exception = exception(&parts.collect::<Vec<_>>())?;
        return term(format!("{} WITH {exception}", identifier(licence)?));
    }
    match licence.to_ascii_lowercase().as_str() {
        "mit" if text.is_some_and(|text| words(text).contains(WORDS_OF_EXPAT.as_str())) => term("MIT".into()),
        "perl" => Some(Expression::any(
            ["GPL-1.0-or-later", "Artistic-1.0-Perl"].map(|name| Expression::Term(name.into())),
        )),
        _ => identifier(licence).and_then(term),
    }
}

fn identifier(name: &str) -> Option<String> {
    let plain = plain(name);
    let (stem, later) = plain
        .strip_suffix('+')
        .map_or((plain.as_str(), false), |stem| (stem, true));
    if let Some(gnu) = find(&GNU, stem) {
        return Some(format!("{gnu}{}", if later { "-or-later" } else { "-only" }));
    }
    if AMBIGUOUS.contains(&stem) {
        return None;
    }
    let known = LICENCES.get(stem).copied();
    if without_version(stem) != stem && FAMILIES.contains(&without_version(stem)) {
        return known.map(|known| format!("{known}{}", if later { "+" } else { "" }));
    }
    let known = find(&OTHERS, stem).or_else(|| known.filter(|known| known.eq_ignore_ascii_case(name)));
    known.filter(|_| !later).map(Into::into)
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
    while let Some(shorter) = stem.strip_suffix(".0").filter(|_| without_version(stem) != stem) {
        stem = shorter;
    }
    format!("{stem}{plus}")
}

/// What is before the last dash, where a version follows it, else the whole name.
fn without_version(name: &str) -> &str {
    let is_version = |version: &str| {
        version.starts_with(|c: char| c.is_ascii_digit())
            && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    };
    let (stem, version) = name.rsplit_once('-').unwrap_or((name, ""));
    if is_version(version) { stem } else { name }
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
