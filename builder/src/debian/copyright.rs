//! `copyright` files: under which licences a package says that it is, as an SPDX expression; never a guess.
//!
//! Machine-readable ones, the [format][1] of version 1.0, say it by short names, which the module `names` translates one by one.
//! What has no certain translation is a `LicenseRef` that carries its text; what is written freely, as a whole too.
//!
//! [1]: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

mod expression;
mod names;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use measure::Sha256;

use super::deb822;
use expression::Expression;

/// Under which licences a package is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Licence {
    /// An expression of SPDX 2.3, annex D, strictly: all of what is said of any file of the package. None where the
    /// file says nothing.
    pub declared: Option<String>,
    /// The text of each `LicenseRef` in the expression.
    pub texts: BTreeMap<String, String>,
    /// The file is not UTF-8, and was read as ISO 8859-1, which may not be what was meant.
    pub latin_1: bool,
}

/// Returns where a package keeps its copyright file, below the root: Debian Policy 12.5. Its folder, or the file, may be
/// a link: [`linked`].
pub fn path(package: &str) -> String {
    format!("{DOCUMENTATION}{package}/copyright")
}

/// Returns where the copyright file of `package` is, below the root, when its folder or the file itself is a link to
/// `target`: Debian Policy 12.3 and 12.5. None for a target that is not the documentation of a package.
pub fn linked(package: &str, target: &str) -> Option<String> {
    let target = target.strip_suffix("/copyright").unwrap_or(target);
    let other = [&format!("/{DOCUMENTATION}"), "../../doc/", "../doc/", "../"]
        .iter()
        .find_map(|folder| target.strip_prefix(*folder))
        .unwrap_or(target);
    let other = other.trim_end_matches('/');
    let is_one = !other.is_empty() && !other.contains('/') && ![".", "..", package].contains(&other);
    is_one.then(|| path(other))
}

/// Below the root, where every package has a folder.
const DOCUMENTATION: &str = "usr/share/doc/";

/// Returns the licences of `package`, whose copyright file has these bytes.
///
/// Any bytes give a valid expression: what cannot be read as the format says is one `LicenseRef` with the whole text.
pub fn licence(package: &str, copyright: &[u8]) -> Licence {
    let (text, latin_1) = decoded(copyright);
    if text.trim().is_empty() {
        return Licence {
            latin_1,
            ..Licence::default()
        };
    }
    let mut reader = Reader {
        package,
        text: &text,
        stand_alone: BTreeMap::new(),
        whole: None,
        texts: BTreeMap::new(),
    };
    let uncommented = uncommented(&text);
    let declared = Form::read(&uncommented).map(|form| reader.union(&form).to_string());
    let valid = declared.filter(|declared| spdx::Expression::parse(declared).is_ok());
    let declared = valid.unwrap_or_else(|| {
        reader.texts.clear();
        reader.whole_text().to_string()
    });
    Licence {
        declared: Some(declared),
        texts: reader.texts,
        latin_1,
    }
}

/// The text, without blanks at the ends of lines, and whether it had to be taken for ISO 8859-1.
fn decoded(bytes: &[u8]) -> (String, bool) {
    let text = std::str::from_utf8(bytes).map(Cow::Borrowed);
    let latin_1 = text.is_err();
    let text = text.unwrap_or_else(|_| bytes.iter().copied().map(char::from).collect());
    let text = text.trim_start_matches('\u{feff}');
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    (lines.join("\n"), latin_1)
}

/// The text without comments: the format has none, and what writes and reads it knows them from control files.
fn uncommented(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.join("\n")
}

/// A file in the machine-readable form: its `License` fields.
struct Form<'a> {
    /// Of the `Files` paragraphs, none where one has no licence; without such paragraphs, of the header.
    of_files: Vec<Option<Field<'a>>>,
    stand_alone: Vec<Field<'a>>,
}

/// The value of a `License` field: a synopsis, and lines of text, which may be absent.
#[derive(Clone, Copy)]
struct Field<'a> {
    synopsis: &'a str,
    text: &'a str,
}

/// What the field `Format` of the header says, up to the scheme and a slash.
const FORMAT: &str = "://www.debian.org/doc/packaging-manuals/copyright-format/1.0";

impl<'a> Form<'a> {
    /// Reads the paragraphs; none where the text is in no form, or breaks it.
    fn read(text: &'a str) -> Option<Self> {
        let mut paragraphs = deb822::stanzas(text);
        let header = paragraphs.next()?;
        let format = field(header, "Format")?.trim().trim_end_matches('/');
        if !["http", "https"].contains(&format.strip_suffix(FORMAT)?) || !is_sound(header) {
            return None;
        }
        let (mut of_files, mut stand_alone) = (Vec::new(), Vec::new());
        for paragraph in paragraphs {
            let licence = Field::of(paragraph);
            match (field(paragraph, "Files").is_some(), licence) {
                _ if !is_sound(paragraph) => return None,
                (true, licence) => of_files.push(licence),
                (false, Some(licence)) => stand_alone.push(licence),
                (false, None) => {}
            }
        }
        if of_files.is_empty() {
            of_files.push(Field::of(header));
        }
        Some(Self { of_files, stand_alone })
    }
}

/// Whether each line is a field or continues one: a text whose blanks were forgotten would lose its end.
fn is_sound(paragraph: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let is_field = |line: &str| line.split_once(':').is_some_and(|(name, _)| is_name(name));
    paragraph
        .lines()
        .all(|line| line.starts_with([' ', '\t']) || is_field(line))
}

fn field<'a>(paragraph: &'a str, wanted: &str) -> Option<&'a str> {
    deb822::folded_fields(paragraph)
        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value)
}

impl<'a> Field<'a> {
    fn of(paragraph: &'a str) -> Option<Self> {
        let value = field(paragraph, "License")?;
        let (synopsis, text) = value.split_once('\n').unwrap_or((value, ""));
        let synopsis = synopsis.trim();
        Some(Self { synopsis, text })
    }

    /// The text as its author wrote it: without the blank that begins each line, and the dot of empty ones.
    fn unfolded(&self) -> Option<String> {
        let lines = self.text.lines().map(|line| match line.get(1..) {
            Some(".") | None => "",
            Some(line) => line,
        });
        let lines: Vec<&str> = lines.collect();
        (!self.text.trim().is_empty()).then(|| lines.join("\n"))
    }
}

/// A text that a `LicenseRef` may carry, with its digest, which is taken once.
struct Text {
    text: String,
    sha256: Sha256,
}

impl Text {
    fn new(text: String) -> Self {
        let sha256 = Sha256::of(&text);
        Self { text, sha256 }
    }
}

struct Reader<'a> {
    package: &'a str,
    text: &'a str,
    /// The paragraphs that are of a licence alone, by their synopsis in lower case.
    stand_alone: BTreeMap<String, Text>,
    /// The name of the whole text, once it was needed.
    whole: Option<String>,
    /// Of what the expression refers to.
    texts: BTreeMap<String, String>,
}

impl Reader<'_> {
    fn union(&mut self, form: &Form<'_>) -> Expression {
        for licence in &form.stand_alone {
            let Some(text) = licence.unfolded() else { continue };
            let name = licence.synopsis.to_lowercase();
            self.stand_alone.entry(name).or_insert_with(|| Text::new(text));
        }
        Expression::all(form.of_files.iter().map(|licence| match licence {
            Some(licence) => self.field(licence),
            None => self.whole_text(),
        }))
    }

    fn field(&mut self, licence: &Field<'_>) -> Expression {
        let text = licence.unfolded().map(Text::new);
        match expression::read(licence.synopsis) {
            Some(expression) => expression.map(&mut |name| self.term(name, licence.synopsis, text.as_ref())),
            None => self.term(licence.synopsis, licence.synopsis, text.as_ref()),
        }
    }

    /// One licence of a paragraph, by its short name: what SPDX calls it, else its text.
    fn term(&mut self, name: &str, synopsis: &str, inline: Option<&Text>) -> Expression {
        let alone = |name: &str| self.stand_alone.get(&name.to_lowercase());
        let inline_first = inline.filter(|_| name == synopsis);
        let text = inline_first.or(alone(name)).or(inline).or(alone(synopsis));
        if let Some(known) = names::spdx(name, text.map(|text| text.text.as_str())) {
            return known;
        }
        let Some(Text { text, sha256 }) = text else {
            return self.whole_text();
        };
        let reference = format!("LicenseRef-Debian-{}-{sha256:.12}", slug(name));
        if !self.texts.contains_key(&reference) {
            self.texts.insert(reference.clone(), text.clone());
        }
        Expression::Term(reference)
    }

    /// The file itself: nothing smaller holds the text.
    fn whole_text(&mut self) -> Expression {
        let name = self.whole.get_or_insert_with(|| {
            let sha256 = Sha256::of(self.text);
            format!("LicenseRef-Debian-copyright-{}-{sha256:.12}", slug(self.package))
        });
        if !self.texts.contains_key(name) {
            self.texts.insert(name.clone(), self.text.into());
        }
        Expression::Term(name.clone())
    }
}

/// What of a name may be in an identifier of SPDX, in lower case; at most 40 characters.
fn slug(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let words = name.split(|c| !plain(c)).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    slug.truncate(40);
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "unnamed".into() } else { slug.into() }
}
