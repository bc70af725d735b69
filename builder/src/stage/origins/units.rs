//! Enabled units: a link below /etc/systemd is of an `[Install]` section of the unit that it leads to, and presets, or a
//! unit that is enabled with it, enable that unit. What deb-systemd-helper notes is of such sections, too.

use std::collections::BTreeSet;

use glob::Pattern;

use super::image::{Image, Outcome, destination};
use crate::model::contents::{Kind, Node};

/// Folders of units of the system and of users, the first first.
const UNITS: [&str; 2] = ["/etc/systemd/", "/usr/lib/systemd/"];

/// Where deb-systemd-helper notes what it has enabled, and the folder of links that it speaks of.
const STATES: [(&str, &str); 2] = [
    ("/var/lib/systemd/deb-systemd-helper-enabled/", "/etc/systemd/system/"),
    (
        "/var/lib/systemd/deb-systemd-user-helper-enabled/",
        "/etc/systemd/user/",
    ),
];

/// What follows the path of the note of a unit with several links.
const ALSO: &str = ".dsh-also";

/// What the `[Install]` section of a unit says.
#[derive(Debug, Default)]
struct Install<'a> {
    /// Folders of links, as `multi-user.target.wants`.
    folders: Vec<String>,
    aliases: Vec<&'a str>,
    also: Vec<&'a str>,
    default_instance: Option<&'a str>,
}

/// Looks at a link that enables a unit.
pub(super) fn link(image: &Image<'_>, node: &Node) -> Outcome {
    let Kind::Symlink { target } = &node.kind else {
        return Err("it is not a link".into());
    };
    let (kind, link) = kind_of(&node.path).ok_or("it is not below a folder of units")?;
    let name = last(link);
    let path = destination(&node.path, target);
    let unit = last(&path);
    let text = text(image, kind, unit).filter(|(known, _)| *known == path);
    let (_, text) = text.ok_or_else(|| format!("no package and no file of the recipe has the unit {path}"))?;
    let install = Install::read(text);
    let is_instance = !link.contains('/') || name == unit || template(name).as_deref() == Some(unit);
    if !is_instance || !install.links(unit, name).contains(link) {
        return Err(format!("the [Install] section of {unit} does not name this link"));
    }
    let named = if link.contains('/') { name } else { unit };
    if is_enabled(image, kind, named) || is_enabled(image, kind, unit) || is_enabled_with(image, kind, unit) {
        return Ok(());
    }
    Err(format!("no preset enables {unit}"))
}

/// Looks at what deb-systemd-helper notes: an empty file at the path of a link, or the links of a unit.
pub(super) fn state(image: &Image<'_>, node: &Node) -> Outcome {
    let state = STATES
        .iter()
        .find_map(|(folder, links)| Some((node.path.strip_prefix(folder)?, *links)));
    let (note, links) = state.ok_or("it is not below a folder of notes")?;
    let kind = kind_of(links).map_or("system", |(kind, _)| kind);
    let note_text = image.text(&node.path)?;
    let Some(unit) = note.strip_suffix(ALSO) else {
        let named = |text: &str| Install::read(text).links(last(note), last(note)).contains(note);
        let known = note_text.is_empty()
            && (text(image, kind, last(note)).is_some_and(|(_, text)| named(text)) || is_alias(image, kind, note));
        return if known {
            Ok(())
        } else {
            Err("no [Install] section names this link".into())
        };
    };
    let (_, unit_text) = text(image, kind, unit).ok_or_else(|| format!("there is no unit {unit}"))?;
    let install = Install::read(unit_text);
    let mut named: BTreeSet<String> = install
        .links(unit, unit)
        .into_iter()
        .map(|link| format!("{links}{link}"))
        .collect();
    for also in &install.also {
        let other = text(image, kind, also).map(|(_, text)| Install::read(text).links(also, also));
        named.extend(other.into_iter().flatten().map(|link| format!("{links}{link}")));
    }
    match note_text.lines().find(|line| !named.contains(*line)) {
        Some(line) => Err(format!("the [Install] section of {unit} does not name {line}")),
        None => Ok(()),
    }
}

/// Whether some unit has this other name.
fn is_alias(image: &Image<'_>, kind: &str, name: &str) -> bool {
    let folders = UNITS.map(|folder| format!("{folder}{kind}/"));
    folders.iter().any(|folder| {
        let units = image.owned_below(folder);
        units
            .iter()
            .any(|(_, text)| Install::read(text).aliases.contains(&name))
    })
}

/// `system` or `user`, and the path below that folder of /etc/systemd.
fn kind_of(path: &str) -> Option<(&'static str, &str)> {
    ["system", "user"].into_iter().find_map(|kind| {
        let below = path.strip_prefix("/etc/systemd/")?.strip_prefix(kind)?;
        Some((kind, below.strip_prefix('/')?))
    })
}

/// The path and text of a unit that a package, the recipe or a payload has; of its template, where it is an instance.
fn text<'a>(image: &Image<'a>, kind: &str, unit: &str) -> Option<(&'a str, &'a str)> {
    let names = [Some(unit.to_owned()), template(unit)];
    let paths = names
        .into_iter()
        .flatten()
        .flat_map(|name| UNITS.map(|folder| format!("{folder}{kind}/{name}")));
    paths.into_iter().find_map(|path| {
        let known = image.nodes.get_key_value(path.as_str())?.0;
        Some((*known, image.owned_text(known)?))
    })
}

/// `getty@.service` of `getty@tty1.service`.
fn template(unit: &str) -> Option<String> {
    let (name, instance) = unit.split_once('@')?;
    let (_, suffix) = instance.rsplit_once('.')?;
    Some(format!("{name}@.{suffix}"))
}

impl<'a> Install<'a> {
    fn read(text: &'a str) -> Self {
        let (mut install, mut inside) = (Self::default(), false);
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                inside = line == "[Install]";
            }
            let Some((name, values)) = line.split_once('=').filter(|_| inside) else {
                continue;
            };
            let values = values.split_whitespace();
            match name.trim() {
                "WantedBy" => install.folders.extend(values.map(|unit| format!("{unit}.wants"))),
                "RequiredBy" => install.folders.extend(values.map(|unit| format!("{unit}.requires"))),
                "UpheldBy" => install.folders.extend(values.map(|unit| format!("{unit}.upholds"))),
                "Alias" => install.aliases.extend(values),
                "Also" => install.also.extend(values),
                "DefaultInstance" => install.default_instance = values.last(),
                _ => {}
            }
        }
        install
    }

    /// The links that enabling `unit` makes, of an instance of it that is called `name`.
    fn links(&self, unit: &str, name: &str) -> BTreeSet<String> {
        let instance = self.default_instance.filter(|_| unit == name);
        let name = match instance {
            Some(instance) => name.replacen('@', &format!("@{instance}"), 1),
            None => name.to_owned(),
        };
        let instance = name
            .split_once('@')
            .and_then(|(_, rest)| Some(rest.rsplit_once('.')?.0))
            .unwrap_or_default();
        let filled = |text: &str| text.replace("%i", instance);
        let folders = self.folders.iter().map(|folder| format!("{}/{name}", filled(folder)));
        folders.chain(self.aliases.iter().map(|alias| filled(alias))).collect()
    }
}

/// Whether presets enable the unit: the first line that matches it decides, and without one it is enabled.
fn is_enabled(image: &Image<'_>, kind: &str, unit: &str) -> bool {
    let folders = UNITS.map(|folder| format!("{folder}{kind}-preset/"));
    let mut files: Vec<(&str, &str)> = folders.iter().flat_map(|folder| image.owned_below(folder)).collect();
    files.retain(|(path, _)| path.ends_with(".preset"));
    files.sort_by_key(|(path, _)| (last(path), *path));
    files.dedup_by_key(|(path, _)| last(path)); // those of /etc replace others of their name
    let mut lines = files
        .iter()
        .flat_map(|(_, text)| text.lines())
        .map(str::split_whitespace);
    let verdict = lines.find_map(|mut words| {
        let verb = words
            .next()
            .filter(|verb| ["enable", "disable", "ignore"].contains(verb))?;
        let pattern = words.next()?;
        let instances: Vec<&str> = words.collect();
        let matches = |pattern: &str| Pattern::new(pattern).is_ok_and(|pattern| pattern.matches(unit));
        let of_instance = instances
            .iter()
            .any(|instance| pattern.replacen('@', &format!("@{instance}"), 1) == unit);
        (of_instance || instances.is_empty() && matches(pattern)).then_some(verb == "enable")
    });
    verdict.unwrap_or(true)
}

/// Whether a unit that presets enable enables this one with it.
fn is_enabled_with(image: &Image<'_>, kind: &str, unit: &str) -> bool {
    let folders = UNITS.map(|folder| format!("{folder}{kind}/"));
    folders.iter().any(|folder| {
        image.owned_below(folder).iter().any(|(path, text)| {
            let other = last(path);
            Install::read(text).also.contains(&unit) && is_enabled(image, kind, other)
        })
    })
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}
