//! Alternatives: what `update-alternatives --install` of maintainer scripts says: which links there are, where they may lead,
//! and which of several leads.

use std::collections::BTreeMap;

use super::image::{Image, Outcome};
use crate::debian::members::below_usr;
use crate::model::contents::{Kind, Node};

/// The folder of links that are chosen, and that of what is known of them.
const CHOSEN: &str = "/etc/alternatives/";
const KNOWN: &str = "/var/lib/dpkg/alternatives/";

/// The folder of pages of manuals.
const MANUALS: &str = "/usr/share/man/";

/// A name in /etc/alternatives with the link that leads to it, and where it may lead.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry<'a> {
    link: &'a str,
    name: &'a str,
    path: &'a str,
}

/// One `--install` of a script.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    main: Entry<'a>,
    priority: i64,
    slaves: Vec<Entry<'a>>,
}

/// Returns whether a link is one half of an alternative, by where it leads.
pub(super) fn is_alternative(target: &str) -> bool {
    target.strip_prefix(CHOSEN).is_some_and(|name| !name.contains('/'))
}

/// Looks at a link to /etc/alternatives.
pub(super) fn link(image: &Image<'_>, node: &Node) -> Outcome {
    let name = target(node)?
        .strip_prefix(CHOSEN)
        .ok_or("it does not lead to /etc/alternatives")?;
    let named = |entry: &Entry<'_>| entry.name == name && below_usr(entry.link) == node.path;
    let mut entries = choices(image).iter().flat_map(Choice::entries);
    match entries.any(|entry| named(&entry)) || is_manual(&node.path, name) {
        true => Ok(()),
        false => Err(format!(
            "no script of a package installs this link as the alternative {name}"
        )),
    }
}

/// Looks at a link in /etc/alternatives: it leads to the best choice that is there.
pub(super) fn chosen(image: &Image<'_>, node: &Node) -> Outcome {
    let (name, target) = (node.path.strip_prefix(CHOSEN).unwrap_or_default(), target(node)?);
    let choices = choices(image);
    let has_name = |choice: &&Choice<'_>| choice.entries().any(|entry| entry.name == name);
    let named: Vec<&Choice<'_>> = choices.iter().filter(has_name).collect();
    if named.is_empty() && is_manual(target, name) && image.is_owned(target) {
        return Ok(());
    }
    let is_there = |choice: &&&Choice<'_>| image.is_owned(choice.main.path);
    let there: Vec<&Choice<'_>> = named.into_iter().filter(|choice| is_there(&choice)).collect();
    let best = there.iter().map(|choice| choice.priority).max();
    let best = there.iter().filter(|choice| Some(choice.priority) == best);
    let mut paths = best.flat_map(|choice| choice.entries().filter(|entry| entry.name == name));
    match paths.any(|entry| entry.path == target) {
        true if image.is_owned(target) => Ok(()),
        true => Err(format!("no package has {target}")),
        false => Err(format!(
            "no script of a package installs {target} as the best alternative for {name}"
        )),
    }
}

/// Looks at what update-alternatives knows of an alternative.
pub(super) fn known(image: &Image<'_>, node: &Node) -> Outcome {
    let name = node.path.strip_prefix(KNOWN).unwrap_or_default();
    let (text, choices) = (image.text(&node.path)?, choices(image));
    let of_name: Vec<&Choice<'_>> = choices.iter().filter(|choice| choice.main.name == name).collect();
    let mut lines = text.lines();
    if lines.next() != Some("auto") {
        return Err("it was not chosen by priority".into());
    }
    if of_name.is_empty() && text.lines().all(is_of_manuals) {
        return Ok(());
    }
    let is_link = |link: &str| of_name.iter().any(|choice| choice.main.link == link);
    let link = lines.next().unwrap_or_default();
    if !is_link(link) {
        return Err(format!("no script of a package installs the link {link}"));
    }
    let mut slaves = Vec::new();
    while let Some(slave) = lines.next().filter(|line| !line.is_empty()) {
        let link = lines.next().unwrap_or_default();
        let is_slave = |entry: &Entry<'_>| (entry.name, entry.link) == (slave, link);
        if !of_name.iter().any(|choice| choice.slaves.iter().any(is_slave)) {
            return Err(format!("no script of a package installs the link {link} as {slave}"));
        }
        slaves.push(slave);
    }
    while let Some(path) = lines.next().filter(|line| !line.is_empty()) {
        let priority = lines.next().unwrap_or_default();
        let paths: Vec<&str> = lines.by_ref().take(slaves.len()).collect();
        let is_said = |choice: &&&Choice<'_>| {
            let same = (choice.main.path, choice.priority.to_string().as_str()) == (path, priority);
            same && slaves
                .iter()
                .zip(&paths)
                .all(|(name, path)| choice.has_slave(name, path))
        };
        if of_name.iter().find(is_said).is_none() {
            return Err(format!(
                "no script of a package installs {path} with the priority {priority}"
            ));
        }
    }
    Ok(())
}

/// Whether only a run of a script would tell what follows such an alternative: some package installs one with words that are
/// not data, has what the link leads to, and links it in the same folder.
pub(super) fn is_unsaid(image: &Image<'_>, node: &Node) -> bool {
    let open = image.commands.iter().filter(|(_, words)| {
        let at = words.iter().position(|word| word.as_deref() == Some("--install"));
        let is_open = at.is_some_and(|at| words[at..].iter().skip(5).any(Option::is_none));
        is_open && words.iter().flatten().any(|word| word == "update-alternatives")
    });
    let has = |name: &str, path: &str| {
        let known = image.packages.iter().filter(|(package, _)| package.name == name);
        known
            .into_iter()
            .any(|(_, members)| members.data.contains_key(&below_usr(path)))
    };
    let is_said = |name: &str| {
        choices(image)
            .iter()
            .flat_map(Choice::entries)
            .any(|entry| entry.name == name)
    };
    let Ok(target) = target(node) else {
        let name = node.path.strip_prefix(KNOWN);
        return open
            .into_iter()
            .any(|(_, words)| words.iter().any(|word| word.as_deref() == name));
    };
    let folder = |path: &str| path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
    let leads = match target.strip_prefix(CHOSEN) {
        None if is_said(node.path.strip_prefix(CHOSEN).unwrap_or_default()) => return false,
        None => target,
        Some(name) if !node.path.ends_with(&format!("/{name}")) => return false,
        Some(_) => match image.nodes.get(target).map(|node| &node.kind) {
            Some(Kind::Symlink { target: leads }) if folder(leads) == folder(&node.path) => leads,
            _ => return false,
        },
    };
    open.into_iter().any(|(package, _)| has(&package.name, leads))
}

/// Pages of manuals are chosen by scripts that read folders, and say nothing of what there is in them.
fn is_manual(path: &str, name: &str) -> bool {
    let is_page = path.starts_with(MANUALS) || path.starts_with("/usr/share/") && path.contains("/man/man");
    is_page && path.ends_with(".gz") && path.rsplit('/').next() == Some(name)
}

/// A line of what is known of a page: a page, its name, a priority.
fn is_of_manuals(line: &str) -> bool {
    let is_name = line.ends_with(".gz") && !line.contains('/');
    let is_number = line.bytes().all(|byte| byte.is_ascii_digit());
    is_number || is_name || line == "auto" || is_manual(line, line.rsplit('/').next().unwrap_or_default())
}

impl<'a> Choice<'a> {
    /// The choice that a command installs.
    fn read(words: &'a [Option<String>]) -> Option<Self> {
        let words: Vec<&str> = words.iter().map(|word| word.as_deref().unwrap_or("\0")).collect();
        let at = words.iter().position(|word| *word == "--install")?;
        let &[link, name, path, priority] = words.get(at + 1..at + 5)? else {
            return None;
        };
        let slaves = words
            .iter()
            .enumerate()
            .filter(|(_, word)| matches!(**word, "--slave" | "--follower"));
        let slaves = slaves.filter_map(|(at, _)| match words.get(at + 1..at + 4)? {
            &[link, name, path] => Some(Entry { link, name, path }),
            _ => None,
        });
        Some(Self {
            main: Entry { link, name, path },
            priority: priority.parse().ok()?,
            slaves: slaves.collect(),
        })
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'a>> {
        [self.main].into_iter().chain(self.slaves.iter().copied())
    }

    /// Whether the slave leads there; one that is not there leads nowhere.
    fn has_slave(&self, name: &str, path: &str) -> bool {
        path.is_empty() || self.slaves.iter().any(|entry| (entry.name, entry.path) == (name, path))
    }
}

/// What scripts install. One that is named in several commands has all of its slaves.
fn choices<'i, 'a>(image: &'i Image<'a>) -> &'i [Choice<'a>] {
    image.choices.get_or_init(|| read(image))
}

fn read<'a>(image: &Image<'a>) -> Vec<Choice<'a>> {
    let commands = image.commands.iter().map(|(_, words)| words);
    let runs = |words: &&&Vec<Option<String>>| {
        words
            .iter()
            .take(3)
            .flatten()
            .any(|word| word.rsplit('/').next() == Some("update-alternatives"))
    };
    let mut choices = BTreeMap::<_, Choice<'a>>::new();
    for choice in commands
        .filter(|words| runs(&words))
        .filter_map(|words| Choice::read(words))
    {
        let key = (choice.main.name, choice.main.path, choice.priority, choice.main.link);
        match choices.get_mut(&key) {
            Some(known) => known.slaves.extend(choice.slaves),
            None => drop(choices.insert(key, choice)),
        }
    }
    choices.into_values().collect()
}

fn target(node: &Node) -> Result<&str, String> {
    match &node.kind {
        Kind::Symlink { target } => Ok(target),
        _ => Err("it is not a link".into()),
    }
}
