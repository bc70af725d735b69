//! What is made while an image is built: the closed list of what no package owns and yet belongs there.
//!
//! A class is as narrow as what makes it allows: no file of a class is executable or raises privileges, and what is in it is
//! compared with what packages and the recipe lead to. A class without a comparison is believed by its paths alone: such
//! paths are counted, and named to whoever asks.

use std::sync::LazyLock;

use glob::{MatchOptions, Pattern};

use super::image::{Image, Outcome};
use super::{accounts, alternatives, certificates, dpkg, hwdb, kernel, loader, pam, units, written};
use crate::model::contents::{Kind, Node};

/// Compares a generated path with what it is made from.
type Proof = fn(&Image<'_>, &Node) -> Outcome;

/// Something that makes files, and where it makes them.
pub(super) struct Class {
    pub(super) name: &'static str,
    makes: Shape,
    patterns: Vec<Pattern>,
    /// None where nothing tells what has to be in such a file.
    pub(super) proof: Option<Proof>,
}

/// The kinds of thing that a class has. Folders need no class: one is there for what is in it.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Shape {
    Files,
    Links,
}

use Shape::{Files, Links};

/// What makes it, kind, paths and comparison of each class; `*` stops at a slash, `**` does not.
type Listed = (&'static str, Shape, &'static [&'static str], Option<Proof>);

#[rustfmt::skip]
const CLASSES: &[Listed] = &[
    ("adduser, base-passwd, systemd-sysusers", Files, &[
        "/etc/group", "/etc/gshadow", "/etc/passwd", "/etc/shadow", "/etc/subgid", "/etc/subuid",
    ], Some(accounts::check)),
    ("base-files", Links, &["/etc/dpkg/origins/default", "/usr/local/man", "/var/spool/mail"], Some(written::link)),
    ("cryptsetup", Files, &["/etc/crypttab"], Some(written::text)),
    ("deb-systemd-helper", Files, &[
        "/var/lib/systemd/deb-systemd-helper-enabled/**", "/var/lib/systemd/deb-systemd-user-helper-enabled/**",
    ], Some(units::state)),
    ("deb-systemd-helper", Links, &["/etc/systemd/system/*.*", "/etc/systemd/user/*.*"], Some(units::link)),
    ("depmod", Files, &[
        "/usr/lib/modules/*/modules.alias.bin", "/usr/lib/modules/*/modules.builtin.alias.bin",
        "/usr/lib/modules/*/modules.builtin.bin", "/usr/lib/modules/*/modules.dep.bin",
        "/usr/lib/modules/*/modules.symbols.bin",
    ], Some(kernel::index)),
    ("depmod", Files, &[
        "/usr/lib/modules/*/modules.devname", "/usr/lib/modules/*/modules.softdep", "/usr/lib/modules/*/modules.weakdep",
    ], Some(kernel::text)),
    ("dh_apparmor", Files, &["/etc/apparmor.d/local/*"], Some(written::empty)),
    ("dpkg", Files, &["/var/lib/dpkg/available", "/var/lib/dpkg/triggers/Unincorp"], Some(written::empty)),
    ("dpkg", Files, &["/var/lib/dpkg/arch-native", "/var/lib/dpkg/info/format"], Some(written::text)),
    ("dpkg", Files, &["/var/lib/dpkg/diversions"], Some(dpkg::diversions)),
    ("dpkg", Files, &["/var/lib/dpkg/info/*.list"], Some(dpkg::list)),
    ("dpkg", Files, &["/var/lib/dpkg/statoverride"], Some(dpkg::overrides)),
    ("dpkg", Files, &["/var/lib/dpkg/status"], Some(dpkg::status)),
    ("dpkg", Files, &["/var/lib/dpkg/triggers/*"], Some(dpkg::triggers)),
    ("fontconfig", Links, &["/etc/fonts/conf.d/*.conf"], Some(written::enabled)),
    ("install-info", Files, &["/usr/share/info/dir"], Some(written::text)),
    ("kmod", Files, &["/etc/modules"], Some(written::text)),
    ("ldconfig", Files, &["/etc/ld.so.cache"], Some(loader::cache)),
    ("libpam-modules", Files, &["/etc/environment", "/etc/security/opasswd"], Some(written::empty)),
    ("libwrap0", Files, &["/etc/hosts.allow", "/etc/hosts.deny"], Some(written::text)),
    ("locales", Files, &["/etc/locale.conf"], Some(written::text)),
    ("locales", Files, &["/etc/locale.gen", "/usr/lib/locale/locale-archive"], None),
    ("mandb", Files, &["/var/lib/man-db/auto-update"], Some(written::empty)),
    ("mkosi", Files, &["/etc/machine-id", "/usr/lib/clock-epoch"], Some(written::empty)),
    ("mkosi", Links, &["/etc/initrd-release", "/init"], Some(written::link)),
    ("netbase", Files, &["/etc/hosts", "/etc/networks"], Some(written::text)),
    ("pam-auth-update", Files, &[
        "/etc/pam.d/common-account", "/etc/pam.d/common-auth", "/etc/pam.d/common-password",
        "/etc/pam.d/common-session", "/etc/pam.d/common-session-noninteractive",
    ], Some(pam::common)),
    ("pam-auth-update", Files, &[
        "/var/lib/pam/account", "/var/lib/pam/auth", "/var/lib/pam/password", "/var/lib/pam/seen", "/var/lib/pam/session",
        "/var/lib/pam/session-noninteractive",
    ], Some(pam::saved)),
    ("python3", Files, &["/etc/python3/debian_config"], None),
    ("python3", Files, &["/var/lib/python/python3*_installed"], Some(written::empty)),
    ("sgml-base, xml-core", Files, &["/etc/xml/*", "/var/lib/sgml-base/supercatalog", "/var/lib/xml-core/*"], None),
    ("sgml-base, xml-core", Links, &["/etc/sgml/catalog"], Some(written::link)),
    ("systemctl preset", Links, &[
        "/etc/systemd/system/*.requires/*", "/etc/systemd/system/*.upholds/*", "/etc/systemd/system/*.wants/*",
        "/etc/systemd/user/*.requires/*", "/etc/systemd/user/*.upholds/*", "/etc/systemd/user/*.wants/*",
    ], Some(units::link)),
    ("systemd-hwdb", Files, &["/etc/udev/hwdb.bin", "/usr/lib/udev/hwdb.bin"], Some(hwdb::database)),
    ("systemd-tmpfiles", Links, &[
        "/etc/default/locale", "/etc/mtab", "/etc/vconsole.conf", "/var/lib/dbus/machine-id", "/var/lock", "/var/run",
    ], Some(written::link)),
    ("tzdata", Files, &["/etc/timezone"], None),
    ("tzdata", Links, &["/etc/localtime"], Some(written::enabled)),
    ("ucf", Files, &["/var/lib/ucf/cache/*"], Some(written::copy)),
    ("ucf", Files, &["/var/lib/ucf/hashfile", "/var/lib/ucf/registry"], Some(dpkg::ucf)),
    ("update-alternatives", Files, &["/var/lib/dpkg/alternatives/*"], Some(alternatives::known)),
    ("update-alternatives", Links, &["/etc/alternatives/*"], Some(alternatives::chosen)),
    ("update-ca-certificates", Files, &["/etc/ca-certificates.conf"], Some(certificates::selected)),
    ("update-ca-certificates", Files, &["/etc/ssl/certs/ca-certificates.crt"], Some(certificates::bundle)),
    ("update-ca-certificates", Links, &["/etc/ssl/certs/*"], Some(certificates::link)),
    ("update-mime-database", Files, &["/usr/share/mime/**"], None),
    ("update-rc.d", Links, &["/etc/rc?.d/*"], Some(written::enabled)),
    ("update-shells", Files, &["/etc/shells", "/var/lib/shells.state"], Some(written::shells)),
];

/// Links to `/etc/alternatives`, which are anywhere: the other half of update-alternatives.
static ALTERNATIVE: Class = Class {
    name: "update-alternatives",
    makes: Links,
    patterns: Vec::new(),
    proof: Some(alternatives::link),
};

static PARSED: LazyLock<Vec<Class>> = LazyLock::new(|| CLASSES.iter().map(Class::parse).collect());

impl Class {
    fn parse((name, makes, patterns, proof): &Listed) -> Self {
        let pattern = |text: &&str| Pattern::new(text).expect("the patterns of the list are well-formed");
        Self {
            name,
            makes: *makes,
            patterns: patterns.iter().map(pattern).collect(),
            proof: *proof,
        }
    }

    fn has(&self, node: &Node) -> bool {
        Some(self.makes) == shape(&node.kind) && self.patterns.iter().any(|pattern| matches(pattern, &node.path))
    }
}

/// Returns the class that has the node, by its path and its kind.
pub(super) fn class(node: &Node) -> Option<&'static Class> {
    match &node.kind {
        Kind::Symlink { target } if alternatives::is_alternative(target) => Some(&ALTERNATIVE),
        _ => PARSED.iter().find(|class| class.has(node)),
    }
}

/// Returns whether only a run of a script would tell that the node is of this class.
pub(super) fn is_unsaid(class: &Class, image: &Image<'_>, node: &Node) -> bool {
    class.name == ALTERNATIVE.name && alternatives::is_unsaid(image, node)
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
