//! What a generated path is compared with: the rest of its image, and what the locked packages say in their scripts.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use measure::Sha256;

use super::alternatives::Choice;
use crate::debian::members::{Members, below_usr};
use crate::debian::script::{self, Words};
use crate::model::contents::{Kind, Node};
use crate::model::lock::Package;
use crate::stage::contents::Texts;

/// What a distribution is called.
pub const OS_RELEASE: &str = "/usr/lib/os-release";

/// What dpkg keeps of the packages that are installed.
pub const STATUS: &str = "/var/lib/dpkg/status";

/// Folders and files below which contents are read: what generated files are made of, and they themselves.
const READ: [&str; 20] = [
    "/etc/",
    "/usr/lib/modules/",
    OS_RELEASE,
    "/usr/lib/systemd/system-preset/",
    "/usr/lib/systemd/system/",
    "/usr/lib/systemd/user-preset/",
    "/usr/lib/systemd/user/",
    "/usr/lib/sysusers.d/",
    "/usr/lib/tmpfiles.d/",
    "/usr/lib/udev/hwdb.",
    "/usr/local/share/ca-certificates/",
    "/usr/share/base-passwd/",
    "/usr/share/ca-certificates/",
    "/usr/share/debianutils/",
    "/usr/share/pam",
    "/var/lib/dpkg/",
    "/var/lib/pam/",
    "/var/lib/shells.state",
    "/var/lib/systemd/deb-systemd-",
    "/var/lib/ucf/",
];

/// Files below those folders that say nothing.
fn is_bulk(path: &str) -> bool {
    let info = path.starts_with("/var/lib/dpkg/info/") && !path.ends_with("/format");
    info || path.contains("/kernel/") && path.contains(".ko")
}

/// Returns whether the contents of the file at `path` are needed to say where files come from.
pub fn is_read(path: &str) -> bool {
    READ.iter().any(|prefix| path.starts_with(prefix)) && !is_bulk(path)
}

/// An image, as far as its paths are explained without looking into generated files.
pub(super) struct Image<'a> {
    pub(super) nodes: BTreeMap<&'a str, &'a Node>,
    /// The files that are a package's, the recipe's or a payload's.
    pub(super) owned: BTreeSet<&'a str>,
    pub(super) texts: &'a Texts,
    pub(super) packages: &'a [(&'a Package, &'a Members)],
    pub(super) commands: &'a [(&'a Package, Words)],
    /// The first path of each content of a package.
    pub(super) contents: &'a BTreeMap<Sha256, (&'a str, &'a str)>,
    /// What scripts install as alternatives, once somebody has asked for that.
    pub(super) choices: OnceCell<Vec<Choice<'a>>>,
    /// The day of the epoch, counted from 1970.
    pub(super) day: i64,
}

/// Whether a generated file is what it should be, or why not.
pub(super) type Outcome = Result<(), String>;

impl<'a> Image<'a> {
    /// The text of a file of the image.
    pub(super) fn text(&self, path: &str) -> Result<&'a str, String> {
        let bytes = self
            .texts
            .get(path)
            .ok_or_else(|| format!("{path} cannot be read, or is too large"))?;
        str::from_utf8(bytes).map_err(|_| format!("{path} is not UTF-8"))
    }

    /// The text of a file that a package, the recipe or a payload has; such a file may be reached by a link that is theirs.
    pub(super) fn owned_text(&self, path: &str) -> Option<&'a str> {
        let path = self.resolve(path)?;
        self.owned.contains(path).then(|| self.text(path).ok())?
    }

    /// The owned files below a folder, with their texts, sorted by path.
    pub(super) fn owned_below(&self, folder: &str) -> Vec<(&'a str, &'a str)> {
        let paths = self.owned.range::<str, _>((Bound::Included(folder), Bound::Unbounded));
        let paths = paths.take_while(|path| path.starts_with(folder));
        paths.filter_map(|path| Some((*path, self.text(path).ok()?))).collect()
    }

    /// The path at which the node is that `path` names, links followed.
    pub(super) fn resolve(&self, path: &str) -> Option<&'a str> {
        let mut path = below_usr(path);
        for _ in 0..8 {
            let (known, node) = self.nodes.get_key_value(path.as_str())?;
            match &node.kind {
                Kind::Symlink { target } => path = destination(known, target),
                _ => return Some(known),
            }
        }
        None
    }

    /// Whether there is a file that a package, the recipe or a payload has.
    pub(super) fn is_owned(&self, path: &str) -> bool {
        self.resolve(path).is_some_and(|path| self.owned.contains(path))
    }

    /// The commands of maintainer scripts that run `program`, by its last name.
    pub(super) fn commands(&self, program: &'a str) -> impl Iterator<Item = &'a Words> {
        let runs = move |words: &Words| {
            let name = words.first().and_then(Option::as_deref);
            name.is_some_and(|name| name.rsplit('/').next() == Some(program))
        };
        self.commands
            .iter()
            .map(|(_, words)| words)
            .filter(move |words| runs(words))
    }
}

/// Returns the commands of the scripts of packages.
pub(super) fn commands<'a>(packages: &[(&'a Package, &'a Members)]) -> Vec<(&'a Package, Words)> {
    let scripts = packages.iter().flat_map(|(package, members)| {
        let scripts = members
            .scripts
            .iter()
            .filter(|(name, _)| *name != "conffiles" && *name != "triggers");
        scripts.map(|(_, text)| (*package, String::from_utf8_lossy(text)))
    });
    let commands = scripts.flat_map(|(package, text)| {
        let commands = script::commands(&text, &package.name);
        commands.into_iter().map(move |words| (package, words))
    });
    commands.collect()
}

/// Where a link at `path` leads, by the words of both.
pub(super) fn destination(path: &str, target: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let start = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    below_usr(&format!("/{}", parts.join("/")))
}
