//! What is made while an image is built: the closed list of what no package owns and yet belongs there.
//!
//! A class is as narrow as what makes it allows: no file of a class is executable or raises privileges, and a link that
//! only a pattern knows leads to something in the image.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use glob::{MatchOptions, Pattern};

use crate::model::contents::{Kind, Node};

/// Something that makes files, and where it makes them.
pub(super) struct Class {
    pub(super) name: &'static str,
    makes: Shape,
    patterns: Vec<Pattern>,
}

/// The kinds of thing that a class has.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Shape {
    Folders,
    Files,
    Links,
}

use Shape::{Files, Folders, Links};

/// Name, kind and paths of each class; `*` stops at a slash, `**` does not.
const CLASSES: &[(&str, Shape, &[&str])] = &[
    (
        "accounts: adduser, sysusers",
        Files,
        &[
            "/etc/group",
            "/etc/group-",
            "/etc/gshadow",
            "/etc/gshadow-",
            "/etc/passwd",
            "/etc/passwd-",
            "/etc/shadow",
            "/etc/shadow-",
            "/etc/subgid",
            "/etc/subgid-",
            "/etc/subuid",
            "/etc/subuid-",
        ],
    ),
    (
        "alternatives: update-alternatives",
        Files,
        &["/var/lib/dpkg/alternatives/*"],
    ),
    ("alternatives: update-alternatives", Links, &["/etc/alternatives/*"]),
    (
        "debconf: answers and templates",
        Files,
        &["/var/cache/debconf/*.dat", "/var/cache/debconf/*.dat-old"],
    ),
    (
        "dpkg: database",
        Files,
        &[
            "/var/lib/dpkg/arch-native",
            "/var/lib/dpkg/available",
            "/var/lib/dpkg/diversions",
            "/var/lib/dpkg/diversions-old",
            "/var/lib/dpkg/info/format",
            "/var/lib/dpkg/lock",
            "/var/lib/dpkg/statoverride",
            "/var/lib/dpkg/statoverride-old",
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/triggers/*",
        ],
    ),
    ("dpkg: database", Folders, &["/var/lib/dpkg/triggers"]),
    (
        "depmod: index of kernel modules",
        Files,
        &[
            "/usr/lib/modules/*/modules.alias",
            "/usr/lib/modules/*/modules.alias.bin",
            "/usr/lib/modules/*/modules.builtin.alias.bin",
            "/usr/lib/modules/*/modules.builtin.bin",
            "/usr/lib/modules/*/modules.dep",
            "/usr/lib/modules/*/modules.dep.bin",
            "/usr/lib/modules/*/modules.devname",
            "/usr/lib/modules/*/modules.softdep",
            "/usr/lib/modules/*/modules.symbols",
            "/usr/lib/modules/*/modules.symbols.bin",
            "/usr/lib/modules/*/modules.weakdep",
        ],
    ),
    ("install-info: directory", Files, &["/usr/share/info/dir"]),
    ("ldconfig: cache of libraries", Files, &["/etc/ld.so.cache"]),
    (
        "mkosi: image without a clock and an identity",
        Files,
        &["/etc/machine-id", "/usr/lib/clock-epoch"],
    ),
    ("mkosi: initrd", Links, &["/etc/initrd-release", "/init"]),
    (
        "maintainer scripts of base-files",
        Files,
        &[
            "/etc/environment",
            "/etc/motd",
            "/etc/profile",
            "/root/.bashrc",
            "/root/.profile",
            "/usr/share/info/dir",
        ],
    ),
    (
        "maintainer scripts of base-files",
        Folders,
        &[
            "/etc/opt",
            "/media",
            "/mnt",
            "/opt",
            "/srv",
            "/usr/local",
            "/usr/local/*",
            "/usr/local/share/man",
            "/usr/local/lib/**",
            "/usr/local/share/**",
            "/var/mail",
            "/var/opt",
        ],
    ),
    (
        "maintainer scripts of base-files",
        Links,
        &["/etc/dpkg/origins/default", "/usr/local/man", "/var/spool/mail"],
    ),
    ("maintainer scripts of kmod", Files, &["/etc/modules"]),
    ("maintainer scripts of libc-bin", Files, &["/etc/nsswitch.conf"]),
    (
        "pam-auth-update: stacks of modules",
        Files,
        &[
            "/etc/pam.d/common-account",
            "/etc/pam.d/common-auth",
            "/etc/pam.d/common-password",
            "/etc/pam.d/common-session",
            "/etc/pam.d/common-session-noninteractive",
            "/etc/security/opasswd",
            "/var/lib/pam/*",
        ],
    ),
    (
        "systemctl: units that are started",
        Links,
        &[
            "/etc/systemd/system/*.requires/*",
            "/etc/systemd/system/*.wants/*",
            "/etc/systemd/user/*.requires/*",
            "/etc/systemd/user/*.wants/*",
        ],
    ),
    (
        "systemd-hwdb: database of hardware",
        Files,
        &["/etc/udev/hwdb.bin", "/usr/lib/udev/hwdb.bin"],
    ),
    (
        "systemd: catalog of messages",
        Files,
        &["/var/lib/systemd/catalog/database"],
    ),
    (
        "systemd: deb-systemd-helper",
        Files,
        &["/var/lib/systemd/deb-systemd-helper-enabled/**"],
    ),
    (
        "systemd: maintainer scripts",
        Links,
        &["/etc/default/locale", "/etc/vconsole.conf"],
    ),
    (
        "systemd-tmpfiles",
        Folders,
        &[
            "/root/.ssh",
            "/var/cache/private",
            "/var/lib/private",
            "/var/lib/systemd/*",
            "/var/log/**",
        ],
    ),
    ("systemd-tmpfiles", Links, &["/etc/mtab", "/var/lock", "/var/run"]),
    ("update-shells", Files, &["/etc/shells", "/var/lib/shells.state"]),
];

/// Links in a bin folder to `/etc/alternatives`: the other half of update-alternatives.
const ALTERNATIVES: &str = "/etc/alternatives/";

static PARSED: LazyLock<Vec<Class>> = LazyLock::new(|| CLASSES.iter().map(Class::parse).collect());

impl Class {
    fn parse((name, makes, patterns): &(&'static str, Shape, &[&str])) -> Self {
        let pattern = |text: &&str| Pattern::new(text).expect("the patterns of the list are well-formed");
        Self {
            name,
            makes: *makes,
            patterns: patterns.iter().map(pattern).collect(),
        }
    }

    fn has(&self, node: &Node) -> bool {
        Some(self.makes) == shape(&node.kind) && self.patterns.iter().any(|pattern| matches(pattern, &node.path))
    }
}

/// Returns the name of the class that has the node, by its path, its kind and the other `paths` of its image.
pub(super) fn class(node: &Node, paths: &BTreeSet<String>) -> Option<&'static str> {
    let listed = PARSED.iter().find(|class| class.has(node)).map(|class| class.name);
    let Kind::Symlink { target } = &node.kind else {
        return listed;
    };
    let leads = paths.contains(&destination(&node.path, target));
    match is_alternative(target) {
        true => leads.then_some("alternatives: update-alternatives"),
        false => listed.filter(|_| leads || is_listed_by_name(&node.path)),
    }
}

fn is_alternative(target: &str) -> bool {
    target
        .strip_prefix(ALTERNATIVES)
        .is_some_and(|name| !name.contains('/'))
}

fn is_listed_by_name(path: &str) -> bool {
    CLASSES.iter().any(|(_, _, patterns)| patterns.contains(&path))
}

/// Where a link at `path` leads, by the words of both.
fn destination(path: &str, target: &str) -> String {
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
    format!("/{}", parts.join("/"))
}

/// Returns whether a pattern matches a path: `*` stops at a slash, `**` does not.
pub(super) fn matches(pattern: &Pattern, path: &str) -> bool {
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    pattern.matches_with(path, options)
}

fn shape(kind: &Kind) -> Option<Shape> {
    match kind {
        Kind::Directory => Some(Folders),
        Kind::File { .. } => Some(Files),
        Kind::Symlink { .. } => Some(Links),
        _ => None,
    }
}
