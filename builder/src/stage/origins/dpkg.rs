//! dpkg's database: each package in it is a locked one, with the fields of its control file and the digests of its files.

use std::collections::{BTreeMap, BTreeSet};

use super::image::{Image, Outcome};
use crate::debian::deb822;
use crate::debian::members::{Members, below_usr};
use crate::model::contents::{Kind, Node};

/// What dpkg adds to the fields of a control file.
const STATUS: &str = "Status";
const CONFFILES: &str = "Conffiles";
const INSTALLED: &str = "install ok installed";

/// What stands for the MD5 of a file that a package no longer has.
const REMOVED: &str = "newconffile remove-on-upgrade";

/// Looks at the list of installed packages.
pub(super) fn status(image: &Image<'_>, node: &Node) -> Outcome {
    let mut missing: BTreeSet<&str> = image
        .packages
        .iter()
        .map(|(package, _)| package.name.as_str())
        .collect();
    for stanza in deb822::stanzas(image.text(&node.path)?) {
        let fields: BTreeMap<&str, &str> = deb822::fields(stanza).collect();
        let name = fields.get("Package").copied().unwrap_or_default();
        let known = image.packages.iter().find(|(package, _)| package.name == name);
        let (_, members) = known.ok_or_else(|| format!("the package {name} is not locked"))?;
        missing.remove(name);
        same_fields(&fields, members).map_err(|why| format!("the package {name}: {why}"))?;
    }
    match missing.first() {
        Some(name) => Err(format!("the package {name} is not in it")),
        None => Ok(()),
    }
}

fn same_fields(fields: &BTreeMap<&str, &str>, members: &Members) -> Result<(), String> {
    let control: BTreeMap<&str, &str> = deb822::fields(&members.control_file).collect();
    let bare = |text: &str| text.split_whitespace().collect::<String>();
    for (name, value) in fields {
        match *name {
            STATUS if *value == INSTALLED => {}
            CONFFILES => conffiles(value, members)?,
            _ if control.get(name).is_some_and(|wanted| bare(wanted) == bare(value)) => {}
            _ => return Err(format!("its control file does not say {name}: {value}")),
        }
    }
    match control.keys().find(|name| !fields.contains_key(*name)) {
        Some(name) => Err(format!("{name} is missing")),
        None => Ok(()),
    }
}

fn conffiles(value: &str, members: &Members) -> Result<(), String> {
    for line in value.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (path, md5) = line.split_once(' ').unwrap_or((line, ""));
        let known = members.md5.get(&below_usr(path)).is_some_and(|known| known == md5);
        if !known && (md5 != REMOVED || !is_removed(path, members)) {
            return Err(format!("it has no {path} with the MD5 {md5}"));
        }
    }
    Ok(())
}

/// Whether a package asks for a file of an older version to go.
fn is_removed(path: &str, members: &Members) -> bool {
    let lines = members
        .scripts
        .get("conffiles")
        .map(|text| String::from_utf8_lossy(text));
    lines.is_some_and(|lines| {
        lines
            .lines()
            .any(|line| line.strip_prefix("remove-on-upgrade ") == Some(path))
    })
}

/// Looks at the paths of a package, as dpkg lists them.
pub(super) fn list(image: &Image<'_>, node: &Node) -> Outcome {
    let name = node
        .path
        .strip_prefix("/var/lib/dpkg/info/")
        .and_then(|name| name.strip_suffix(".list"));
    let name = name.ok_or("it is not the list of a package")?;
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    let Kind::File { sha256, .. } = node.kind else {
        return Err("it is not a file".into());
    };
    match image
        .packages
        .iter()
        .any(|(package, members)| package.name == name && members.list == sha256)
    {
        true => Ok(()),
        false => Err("it does not list what the package has".into()),
    }
}

/// Looks at what is diverted: three lines for each path.
pub(super) fn diversions(image: &Image<'_>, node: &Node) -> Outcome {
    let lines: Vec<&str> = image.text(&node.path)?.lines().collect();
    for diversion in lines.chunks(3) {
        let &[path, to, package] = diversion else {
            return Err("a diversion has three lines".into());
        };
        let known = image.commands.iter().any(|(of, words)| {
            let has = |wanted: &str| words.iter().flatten().any(|word| word == wanted);
            of.name == package && has("dpkg-divert") && has(path) && has(to)
        });
        if !known {
            return Err(format!("no script of {package} diverts {path} to {to}"));
        }
    }
    Ok(())
}

/// Looks at what packages are told of.
pub(super) fn triggers(image: &Image<'_>, node: &Node) -> Outcome {
    let name = node.path.rsplit('/').next().unwrap_or_default();
    for line in image.text(&node.path)?.lines() {
        let (path, who) = if name == "File" {
            line.split_once(' ').unwrap_or((line, ""))
        } else {
            (name, line)
        };
        let (package, mode) = who.split_once('/').unwrap_or((who, ""));
        let package = package.split_once(':').map_or(package, |(name, _)| name);
        let wanted = |words: &[&str]| matches!(words, [verb, of] if verb.starts_with("interest") && *of == path && verb.ends_with(mode));
        let known = image.packages.iter().filter(|(known, _)| known.name == package);
        let mut lines = known.filter_map(|(_, members)| members.scripts.get("triggers"));
        if !lines.any(|text| {
            String::from_utf8_lossy(text)
                .lines()
                .any(|line| wanted(&line.split_whitespace().collect::<Vec<_>>()))
        }) {
            return Err(format!("the package {package} is not interested in {path}"));
        }
    }
    Ok(())
}

/// Looks at what dpkg-statoverride was told.
pub(super) fn overrides(image: &Image<'_>, node: &Node) -> Outcome {
    for line in image.text(&node.path)?.lines() {
        let bare = |word: &str| word.trim_start_matches('0').to_owned();
        let wanted: Vec<String> = line.split(' ').map(bare).collect();
        let said = image.commands("dpkg-statoverride").any(|words| {
            let words: Vec<String> = words.iter().flatten().map(|word| bare(word)).collect();
            words.windows(wanted.len()).any(|said| said == wanted)
        });
        if !said {
            return Err(format!("no script of a package overrides {line}"));
        }
    }
    Ok(())
}

/// Looks at what ucf knows of files that scripts copy: their packages, and their MD5.
pub(super) fn ucf(image: &Image<'_>, node: &Node) -> Outcome {
    for line in image.text(&node.path)?.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), Some(path)) = (words.next(), words.next()) else {
            continue;
        };
        let is_package = image.packages.iter().any(|(package, _)| package.name == first);
        let cached = format!("/var/lib/ucf/cache/{}", path.replace('/', ":"));
        let mut texts = [path, &cached].into_iter().filter_map(|path| image.texts.get(path));
        let mut is_md5 = || texts.any(|text| crate::debian::members::md5(text) == first);
        if !is_package && !is_md5() {
            return Err(format!("{first} is not of {path}"));
        }
    }
    Ok(())
}
