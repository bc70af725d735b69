//! What is made while an image is built: the closed list of what no package owns and yet belongs there.
//!
//! A class is as narrow as what makes it allows: no file of a class is executable or raises privileges, and a link that
//! only a pattern knows leads to something in the image. What is in a file of a class is not known from anywhere else: it
//! was made inside the image, by programs of locked packages.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use glob::{MatchOptions, Pattern};

use crate::debian::members::below_usr;
use crate::model::contents::{Kind, Node};

/// Something that makes files, and where it makes them.
pub(super) struct Class {
    pub(super) name: &'static str,
    makes: Shape,
    patterns: Vec<Pattern>,
}

/// The kinds of thing that a class has. Folders need no class: one is there for what is in it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Shape {
    Files,
    Links,
}

use Shape::{Files, Links};

/// What makes it, kind and paths of each class; `*` stops at a slash, `**` does not.
#[rustfmt::skip]
const CLASSES: &[(&str, Shape, &[&str])] = &[
    ("adduser, base-passwd, systemd-sysusers", Files, &[
        "/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-", "/etc/passwd", "/etc/passwd-", "/etc/shadow",
        "/etc/shadow-", "/etc/subgid", "/etc/subgid-", "/etc/subuid", "/etc/subuid-",
    ]),
    ("base-files", Links, &["/etc/dpkg/origins/default", "/usr/local/man", "/var/spool/mail"]),
    ("cryptsetup", Files, &["/etc/crypttab"]),
    ("deb-systemd-helper", Files, &[
        "/var/lib/systemd/deb-systemd-helper-enabled/**", "/var/lib/systemd/deb-systemd-user-helper-enabled/**",
    ]),
    ("deb-systemd-helper", Links, &["/etc/systemd/system/*.service", "/etc/systemd/system/*.socket"]),
    ("debconf", Files, &[
        "/var/cache/debconf/config.dat", "/var/cache/debconf/config.dat-old", "/var/cache/debconf/passwords.dat",
        "/var/cache/debconf/templates.dat", "/var/cache/debconf/templates.dat-old",
    ]),
    ("depmod", Files, &[
        "/usr/lib/modules/*/modules.alias", "/usr/lib/modules/*/modules.alias.bin",
        "/usr/lib/modules/*/modules.builtin.alias.bin", "/usr/lib/modules/*/modules.builtin.bin",
        "/usr/lib/modules/*/modules.dep", "/usr/lib/modules/*/modules.dep.bin", "/usr/lib/modules/*/modules.devname",
        "/usr/lib/modules/*/modules.softdep", "/usr/lib/modules/*/modules.symbols",
        "/usr/lib/modules/*/modules.symbols.bin", "/usr/lib/modules/*/modules.weakdep",
    ]),
    ("dh_apparmor", Files, &["/etc/apparmor.d/local/*"]),
    ("dpkg", Files, &[
        "/var/lib/dpkg/arch-native", "/var/lib/dpkg/available", "/var/lib/dpkg/diversions",
        "/var/lib/dpkg/diversions-old", "/var/lib/dpkg/info/format", "/var/lib/dpkg/lock",
        "/var/lib/dpkg/statoverride", "/var/lib/dpkg/statoverride-old", "/var/lib/dpkg/status",
        "/var/lib/dpkg/triggers/*",
    ]),
    ("fontconfig", Files, &["/var/cache/fontconfig/CACHEDIR.TAG"]),
    ("fontconfig", Links, &["/etc/fonts/conf.d/*.conf"]),
    ("install-info", Files, &["/usr/share/info/dir"]),
    ("kmod", Files, &["/etc/modules"]),
    ("ldconfig", Files, &["/etc/ld.so.cache"]),
    ("libpam-modules", Files, &["/etc/environment", "/etc/security/opasswd"]),
    ("libwrap0", Files, &["/etc/hosts.allow", "/etc/hosts.deny"]),
    ("locales", Files, &["/etc/locale.conf", "/etc/locale.gen", "/usr/lib/locale/locale-archive"]),
    ("mandb", Files, &["/var/cache/man/CACHEDIR.TAG", "/var/cache/man/index.db", "/var/lib/man-db/auto-update"]),
    ("mkosi", Files, &["/etc/machine-id", "/usr/lib/clock-epoch"]),
    ("mkosi", Links, &["/etc/initrd-release", "/init"]),
    ("netbase", Files, &["/etc/networks"]),
    ("pam-auth-update", Files, &[
        "/etc/pam.d/common-account", "/etc/pam.d/common-auth", "/etc/pam.d/common-password",
        "/etc/pam.d/common-session", "/etc/pam.d/common-session-noninteractive", "/var/lib/pam/account",
        "/var/lib/pam/auth", "/var/lib/pam/password", "/var/lib/pam/seen", "/var/lib/pam/session",
        "/var/lib/pam/session-noninteractive",
    ]),
    ("python3", Files, &["/etc/python3/debian_config", "/var/lib/python/python3*_installed"]),
    ("sgml-base, xml-core", Files, &[
        "/etc/xml/*", "/var/lib/sgml-base/supercatalog", "/var/lib/sgml-base/supercatalog.old", "/var/lib/xml-core/*",
    ]),
    ("sgml-base, xml-core", Links, &["/etc/sgml/catalog"]),
    ("systemctl preset", Links, &[
        "/etc/systemd/system/*.requires/*", "/etc/systemd/system/*.wants/*", "/etc/systemd/user/*.requires/*",
        "/etc/systemd/user/*.wants/*",
    ]),
    ("systemd-hwdb", Files, &["/etc/udev/hwdb.bin", "/usr/lib/udev/hwdb.bin"]),
    ("journalctl --update-catalog", Files, &["/var/lib/systemd/catalog/database"]),
    ("systemd-tmpfiles", Files, &["/etc/hosts"]),
    ("systemd-tmpfiles", Links, &[
        "/etc/default/locale", "/etc/mtab", "/etc/vconsole.conf", "/var/lib/dbus/machine-id", "/var/lock", "/var/run",
    ]),
    ("tzdata", Files, &["/etc/timezone"]),
    ("tzdata", Links, &["/etc/localtime"]),
    ("ucf", Files, &["/var/lib/ucf/cache/*", "/var/lib/ucf/hashfile*", "/var/lib/ucf/registry*"]),
    ("update-alternatives", Files, &["/var/lib/dpkg/alternatives/*"]),
    ("update-alternatives", Links, &["/etc/alternatives/*"]),
    ("update-ca-certificates", Files, &["/etc/ca-certificates.conf", "/etc/ssl/certs/ca-certificates.crt"]),
    ("update-ca-certificates", Links, &["/etc/ssl/certs/*"]),
    ("update-mime-database", Files, &["/usr/share/mime/**"]),
    ("update-rc.d", Links, &["/etc/rc?.d/*"]),
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
        return listed.or_else(|| byte_code(&node.path, paths));
    };
    let leads = paths.contains(&destination(&node.path, target));
    match is_alternative(target) {
        true => leads.then_some("update-alternatives"),
        false => listed.filter(|_| leads || is_listed_by_name(&node.path)),
    }
}

/// The byte code of a Python module is beside it: PEP 3147. What is in it is believed.
fn byte_code(path: &str, paths: &BTreeSet<String>) -> Option<&'static str> {
    let (folder, file) = path.strip_suffix(".pyc")?.split_once("/__pycache__/")?;
    let (module, _) = file.split_once(".cpython-")?;
    paths.contains(&format!("{folder}/{module}.py")).then_some("py3compile")
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
    below_usr(&format!("/{}", parts.join("/")))
}

/// Returns whether a pattern matches a path: `*` stops at a slash, `**` does not.
pub(super) fn matches(pattern: &Pattern, path: &str) -> bool {
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    pattern.matches_with(path, options)
}

/// Files to which the scripts of their package give more than the package does, with the permissions that they then have.
const PRIVILEGED: [(&str, u16); 4] = [
    ("/usr/bin/fusermount3", 0o4755), // so that users can mount their own file systems
    ("/usr/bin/ssh-agent", 0o2755),   // so that no other process of the user can read its keys
    ("/usr/lib/dbus-1.0/dbus-daemon-launch-helper", 0o4754), // so that the bus can start services as root
    ("/usr/lib/polkit-1/polkit-agent-helper-1", 0o4755), // so that it can look at passwords
];

/// Returns whether the scripts of a package are known to give the node its permissions.
pub(super) fn is_privileged(node: &Node) -> bool {
    PRIVILEGED.contains(&(node.path.as_str(), node.mode))
}

fn shape(kind: &Kind) -> Option<Shape> {
    match kind {
        Kind::File { .. } => Some(Files),
        Kind::Symlink { .. } => Some(Links),
        _ => None,
    }
}
