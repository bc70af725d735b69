//! Which URLs serve an archive. Mirrors are untrusted: bytes count, hosts do not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};

use crate::mend::Exit;
use crate::model::Recipe;

/// Where this host's package manager says what it installs from.
const APT: &str = "/etc/apt";

/// The mirrors of every archive, in the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub struct Mirrors {
    mirrors: Vec<Mirror>,
}

/// A mirror of the command line: `[ARCHIVE=]URL`.
///
/// Without `ARCHIVE=` it serves the archive that the URL's last segment names, or every archive where it names none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mirror {
    archive: Option<String>,
    url: String,
}

impl Mirrors {
    /// Returns the mirrors of the recipe, those of the command line, then the URLs of the host's apt.
    ///
    /// # Errors
    /// A URL in the recipe with another scheme than `http`, `https` or `file`.
    pub fn new(recipe: &Recipe, named: &[Mirror], apt: &[String]) -> Result<Self> {
        let archives: BTreeSet<&str> = recipe.suites.values().map(|suite| suite.archive.as_str()).collect();
        let mut mirrors = Vec::new();
        for suite in recipe.suites.values() {
            for url in &suite.mirrors {
                mirrors.push(Mirror::serving(&suite.archive, url)?);
            }
        }
        mirrors.extend(named.iter().map(|mirror| mirror.among(&archives)));
        for url in apt {
            mirrors.push(Mirror::serving(last_segment(url), url)?);
        }
        Ok(Self { mirrors })
    }

    /// Returns the URLs that serve an archive, without a final slash, each once.
    ///
    /// # Errors
    /// An archive without a mirror.
    pub fn of(&self, archive: &str) -> Result<Vec<&str>> {
        let mut urls = Vec::new();
        for mirror in &self.mirrors {
            let serves = mirror.archive.as_deref().is_none_or(|name| name == archive);
            if serves && !urls.contains(&mirror.url.as_str()) {
                urls.push(mirror.url.as_str());
            }
        }
        if urls.is_empty() {
            let problem =
                format!("no mirror of the archive {archive:?}: neither the recipe nor apt's sources name one");
            return Err(Exit::Usage.because(problem, format!("name one: --mirror {archive}=URL")));
        }
        Ok(urls)
    }
}

impl Mirror {
    /// Returns a mirror that serves this archive alone.
    ///
    /// # Errors
    /// A URL with another scheme than `http`, `https` or `file`.
    pub fn serving(archive: &str, url: &str) -> Result<Self> {
        Ok(Self {
            archive: Some(archive.to_owned()),
            url: supported(url)?,
        })
    }

    fn among(&self, archives: &BTreeSet<&str>) -> Self {
        let of_its_name = || Some(last_segment(&self.url).to_owned()).filter(|name| archives.contains(name.as_str()));
        Self {
            archive: self.archive.clone().or_else(of_its_name),
            url: self.url.clone(),
        }
    }
}

impl FromStr for Mirror {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        match text.split_once('=').filter(|(archive, _)| archive.chars().all(plain)) {
            Some((archive, url)) => Self::serving(archive, url),
            None => Ok(Self {
                archive: None,
                url: supported(text)?,
            }),
        }
    }
}

/// Returns the URLs of this host's apt configuration that begat can read from; no configuration, no URLs.
///
/// # Errors
/// A configuration that cannot be read.
pub fn of_host() -> Result<Vec<String>> {
    of_apt(Path::new(APT))
}

fn of_apt(folder: &Path) -> Result<Vec<String>> {
    let mut files = vec![folder.join("sources.list")];
    files.extend(listed(&folder.join("sources.list.d"))?);
    let mut urls = Vec::new();
    for file in files {
        let parse = match file.extension() {
            Some(extension) if extension == "list" => one_line_format,
            Some(extension) if extension == "sources" => deb822_format,
            _ => continue,
        };
        let text = absent_is_empty(fs::read(&file)).with_context(|| format!("cannot read {}", file.display()))?;
        urls.extend(parse(&String::from_utf8_lossy(&text)));
    }
    urls.retain(|url| supported(url).is_ok());
    Ok(urls)
}

/// `deb [option=value …] URI suite component …`: sources.list(5).
fn one_line_format(text: &str) -> Vec<String> {
    let uri = |line: &str| {
        let rest = line.strip_prefix("deb")?;
        let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
        let rest = rest
            .strip_prefix('[')
            .map_or(Some(rest), |options| Some(options.split_once(']')?.1))?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter_map(uri).collect()
}

/// Stanzas with `Types`, `URIs` and `Enabled`: sources.list(5).
fn deb822_format(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let stanzas = lines.split(|line| line.trim().is_empty());
    let enabled = stanzas.filter(|stanza| {
        let off = ["no", "false", "without", "off", "disable"];
        let binary = words(stanza, "Types").any(|kind| kind == "deb");
        binary && !words(stanza, "Enabled").any(|word| off.contains(&word))
    });
    enabled
        .flat_map(|stanza| words(stanza, "URIs").map(str::to_owned))
        .collect()
}

/// The words of a field, those of its continuation lines included.
fn words<'a>(stanza: &'a [&'a str], field: &'a str) -> impl Iterator<Item = &'a str> {
    let named = move |line: &&&str| {
        line.split(':')
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(field))
    };
    let start = stanza.iter().position(|line| named(&line));
    let lines = start.map_or(&stanza[..0], |start| &stanza[start..]);
    let continued = lines.iter().skip(1).take_while(|line| line.starts_with([' ', '\t']));
    let first = lines
        .first()
        .and_then(|line| line.split_once(':'))
        .map(|(_, value)| value);
    first
        .into_iter()
        .chain(continued.copied())
        .flat_map(str::split_whitespace)
}

fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(cannot)?,
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<io::Result<_>>().with_context(cannot)?;
    paths.sort();
    Ok(paths)
}

fn absent_is_empty(read: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// The URL without a final slash, when begat can read from it.
fn supported(url: &str) -> Result<String> {
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let folder = url.strip_prefix("file://");
    let plain = !url.contains(|c: char| c.is_whitespace() || c.is_control() || "?#\"<>".contains(c));
    let whole = host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        || folder.is_some_and(|folder| folder.starts_with('/'));
    if whole && plain {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let forms = "http://HOST/PATH, https://HOST/PATH or file:///PATH"; // in the problem: clap prints that alone
    Err(Exit::Usage.because(format!("the mirror {url:?} is not {forms}"), "correct it"))
}

fn last_segment(url: &str) -> &str {
    url.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mend;

    fn recipe(mirrors: &str) -> Recipe {
        let text = include_str!("../../../recipes/minimal/recipe.toml");
        let archive = "archive = \"debian\"\n";
        Recipe::parse(&text.replacen(archive, &format!("{archive}mirrors = {mirrors}\n"), 1)).unwrap()
    }

    #[test]
    fn recipe_comes_before_command_line_before_apt() {
        let named = ["debian=https://b.test/snapshot/1", "http://c.test/debian/"].map(|text| text.parse().unwrap());
        let apt = ["http://d.test/debian", "http://d.test/debian-security"].map(str::to_owned);
        let mirrors = Mirrors::new(&recipe(r#"["http://a.test/"]"#), &named, &apt).unwrap();
        let expected = [
            "http://a.test",
            "https://b.test/snapshot/1",
            "http://c.test/debian",
            "http://d.test/debian",
        ];
        assert_eq!(mirrors.of("debian").unwrap(), expected);
        assert_eq!(
            mirrors.of("debian-security").unwrap(),
            ["http://d.test/debian-security"]
        );
    }

    #[test]
    fn an_archive_without_a_mirror_is_refused() {
        let refusal = Mirrors::new(&recipe("[]"), &[], &[]).unwrap().of("debian").unwrap_err();
        assert_eq!(mend::exit_code(&refusal), Exit::Usage);
        assert!(mend::report(&refusal).ends_with("mend: name one: --mirror debian=URL\n"));
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in [
            "ftp://a.test/debian",
            "http://",
            "file://etc",
            "debian=/srv/debian",
            "http://a.test/?x=1",
        ] {
            let refusal = url.parse::<Mirror>().unwrap_err();
            assert_eq!(mend::exit_code(&refusal), Exit::Usage, "{url}");
        }
    }

    #[test]
    fn apt_sources_are_read_in_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let lists = folder.path().join("sources.list.d");
        fs::create_dir(&lists).unwrap();
        let list = "# deb http://no.test/debian x y\ndeb-src http://no.test/debian x\n\
                    deb [arch=amd64 signed-by=/a b] http://a.test/debian trixie main # why\n\
                    deb cdrom:[Debian]/ x y\ndeb mirror+file:/etc/apt/mirrors.list x y\n";
        fs::write(folder.path().join("sources.list"), list).unwrap();
        let sources = "Types: deb deb-src\n# comment\nURIs: http://b.test/debian\n  https://c.test/debian/\nSuites: x\n\n\
                       Enabled: no\nTypes: deb\nURIs: http://no.test/debian\n\nTypes: deb-src\nURIs: http://no.test/x\n";
        fs::write(lists.join("a.sources"), sources).unwrap();
        fs::write(lists.join("b.list.disabled"), "deb http://no.test/debian x y\n").unwrap();
        let urls = of_apt(folder.path()).unwrap();
        assert_eq!(
            urls,
            ["http://a.test/debian", "http://b.test/debian", "https://c.test/debian/"]
        );
    }

    #[test]
    fn a_host_without_apt_has_no_mirrors() {
        let folder = tempfile::tempdir().unwrap();
        assert!(of_apt(&folder.path().join("none")).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn apt_sources_of_any_text(text in "((deb|deb-src|#|Types:|URIs:|Enabled:|\\[| |\\]|\n|http://a)?\\PC{0,3}){0,20}") {
            let found = one_line_format(&text).into_iter().chain(deb822_format(&text));
            prop_assert!(found.into_iter().all(|url| text.contains(&url)));
        }
    }
}
