//! What is made while an image is built, and whoever changes it.

use super::*;

/// The files of a package from which others are made.
const FILES: &[(&str, &str)] = &[
    (
        "/usr/share/base-passwd/passwd.master",
        "root:*:0:0:root:/root:/bin/bash\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    (
        "/usr/share/base-passwd/group.master",
        "root:*:0:\nadm:*:4:\nnogroup:*:65534:\n",
    ),
    ("/usr/bin/bash", "bash"),
    ("/usr/sbin/nologin", "nologin"),
    (
        "/usr/lib/sysusers.d/net.conf",
        "# networks\nu! net - \"The Network\" /run/net\ng input -\nm net adm\n",
    ),
    (
        "/usr/lib/systemd/system/hi.service",
        "[Service]\nExecStart=hi\n[Install]\nWantedBy=multi-user.target\nAlias=hey.service\nAlso=hi.socket\n",
    ),
    (
        "/usr/lib/systemd/system/hi.socket",
        "[Install]\nWantedBy=sockets.target\n",
    ),
    (
        "/usr/lib/systemd/system/tty@.service",
        "[Install]\nWantedBy=getty.target\nDefaultInstance=tty1\n",
    ),
    (
        "/usr/lib/systemd/system/debug-shell.service",
        "[Install]\nWantedBy=sysinit.target\n",
    ),
    ("/usr/lib/systemd/system/static.service", "[Service]\nExecStart=x\n"),
    (
        "/usr/lib/systemd/system-preset/90.preset",
        "enable hi.service\nenable tty@.service tty1\ndisable *\n",
    ),
    (
        "/usr/lib/tmpfiles.d/a.conf",
        "L+ /etc/mtab - - - - ../proc/self/mounts\n",
    ),
    ("/usr/bin/vim.tiny", "vim"),
    ("/usr/bin/nano", "nano"),
    (
        "/usr/share/pam/common-auth",
        "# here\n$auth_primary\nauth\trequisite\tpam_deny.so\n$auth_additional\n",
    ),
    (
        "/usr/share/pam-configs/unix",
        "Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth-Initial:\n\t[success=end default=ignore]\tpam_unix.so\n",
    ),
    (
        "/usr/share/ca-certificates/a.crt",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ),
    ("/etc/ld.so.conf.d/x.conf", "/usr/lib/x\n"),
    ("/usr/lib/x86_64-linux-gnu/libc.so.6", "libc"),
    ("/usr/lib/x/libx.so.1", "libx"),
    ("/usr/share/debianutils/shells", "/bin/bash\n"),
    ("/etc/init.d/hi", "init"),
    ("/etc/conf", "conf"),
];

const SCRIPT: &str = r#"#!/bin/sh
USER=redis
addgroup --system "$USER"
adduser --system --home /var/lib/$USER --ingroup $USER $USER
for i in vi ex; do
    update-alternatives --install /usr/bin/$i $i /usr/bin/vim.tiny 15 --slave /usr/share/man/$i.gz $i.gz /usr/share/vim.gz
done
update-alternatives --install /usr/bin/vi vi /usr/bin/nano 10
cat <<END > /etc/modules
# none
END
update-rc.d hi defaults >/dev/null
dpkg-divert --package made --rename --divert /usr/bin/hi.real /usr/bin/hi
"#;

/// A package of these files, of a script, and of what dpkg is told.
fn package(name: &str, files: &[(&str, &str)], script: &str) -> (Package, Members) {
    let mut data = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        data.append_data(&mut header, format!(".{path}"), text.as_bytes())
            .unwrap();
    }
    let control = format!("Package: {name}\nVersion: 1\n");
    let control = [
        ("./control", control.as_str()),
        ("./postinst", script),
        ("./conffiles", "/etc/conf\n"),
        ("./triggers", "interest-noawait /usr/lib/x\n"),
    ];
    let deb = deb::tests::ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &deb::tests::tar(&control)),
        ("data.tar", &data.into_inner().unwrap()),
    ]);
    let mut package = World::new().lock.package[0].clone();
    (package.name, package.sha256, package.size) = (name.into(), Sha256::of(&deb), deb.len() as u64);
    (package, Members::read(&deb).unwrap())
}

/// A recipe, a package `made` of those files and that script, and one of whose alternative only a run would tell.
fn world() -> World {
    let mut world = World::new();
    let open = "update-alternatives --install /usr/bin/lzma lzma /usr/bin/xz 20 $(slaves)\n";
    let packages = [
        package("made", FILES, SCRIPT),
        package("open", &[("/usr/bin/xz", "xz")], open),
    ];
    let locked = packages.iter().map(|(package, _)| package.clone()).collect();
    world.lock = Lock::new(Sha256::of(RECIPE), vec![], locked, vec![]);
    world.packages = packages
        .into_iter()
        .map(|(package, members)| (package.sha256, members))
        .collect();
    world
}

/// The image of the package and of `made`, explained.
fn explained(made: Vec<Node>, texts: &[(&str, &[u8])]) -> Explained {
    let world = world();
    let of_package = FILES.iter().map(|(path, text)| file(path, text, 0o644));
    let known = FILES
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    let texts = texts.iter().map(|(path, text)| ((*path).to_owned(), text.to_vec()));
    let texts: Texts = known.chain(texts).filter(|(path, _)| is_read(path)).collect();
    let origins = Origins::of(Tree::Root, &world.recipe, &world.lock, &world.packages).unwrap();
    origins.explain(of_package.chain(made).collect(), &texts)
}

/// Why the file of this text is not explained; nothing where it is.
fn refused(path: &str, text: &[u8], others: &[(&str, &str)]) -> Option<String> {
    let bytes = |path: &str, text: &[u8]| Node {
        kind: Kind::File {
            size: text.len() as u64,
            sha256: Sha256::of(text),
            same_as: None,
        },
        ..file(path, "", 0o644)
    };
    let made = others
        .iter()
        .map(|(path, text)| file(path, text, 0o644))
        .chain([bytes(path, text)])
        .collect();
    let texts: Vec<(&str, &[u8])> = others
        .iter()
        .map(|(path, text)| (*path, text.as_bytes()))
        .chain([(path, text)])
        .collect();
    let explained = explained(made, &texts);
    let origin = &explained
        .contents
        .iter()
        .find(|content| content.node.path == path)
        .unwrap()
        .origin;
    (*origin == Origin::Unexplained).then(|| explained.reasons.get(path).cloned().unwrap_or_default())
}

/// Why the link is not explained; nothing where it is.
fn refused_link(path: &str, target: &str) -> Option<String> {
    let explained = explained(vec![link(path, target)], &[]);
    let origin = &explained.contents.last().unwrap().origin;
    (*origin == Origin::Unexplained).then(|| explained.reasons.get(path).cloned().unwrap_or_default())
}

/// What is made is explained; with `from` replaced by `to` it is not, because of `why`.
fn attacked(path: &str, text: &str, attacks: &[(&str, &str, &str)], others: &[(&str, &str)]) {
    assert_eq!(refused(path, text.as_bytes(), others), None, "{path}");
    for (from, to, why) in attacks {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        let reason =
            refused(path, changed.as_bytes(), others).unwrap_or_else(|| panic!("{path} with {to:?} is believed"));
        assert!(reason.contains(why), "{to:?}: {reason}");
    }
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
                      net:x:998:998:The Network:/run/net:/usr/sbin/nologin\nredis:x:101:104::/var/lib/redis:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nadm:x:4:net\nnogroup:x:65534:\nnet:x:998:\ninput:x:997:\nredis:x:104:\n";

#[test]
fn attack_a_planted_account_is_found() {
    let attacks = [
        (
            "net:x:998",
            "evil:x:998",
            "no package and no file of the recipe makes this account",
        ),
        ("net:x:998:998", "net:x:0:998", "only root has the number 0"),
        ("redis:x:101", "redis:x:998", "998 is there twice"),
        ("redis:x:101:104", "redis:x:101:0", "another number, group"),
        ("redis:x:101", "redis:x:1001", "another number"),
        ("redis:/usr/sbin/nologin", "redis:/bin/bash", "shell"),
        ("/run/net", "/root", "home"),
        ("root:x:0", "root::0", "anybody may log in"),
        ("root:x:0", "root:$y$j9T$evil:0", "it has a password"),
        (
            "root:x:0",
            "root:x:0:0:root:/root:/bin/bash\nroot:x:0",
            "root is there twice",
        ),
        ("/bin/bash", "/bin/evil", "is not in the image"),
        ("root:x", "root", "seven fields"),
    ];
    attacked("/etc/passwd", PASSWD, &attacks, &[("/etc/group", GROUP)]);
    let attacks = [
        ("adm:x:4:net", "adm:x:4:net,redis", "puts redis into this group"),
        ("input", "evil", "makes this group"),
        ("adm:x:4", "adm:x:27", "another number"),
        ("nogroup:x:65534", "nogroup:x:0", "another number"),
    ];
    attacked("/etc/group", GROUP, &attacks, &[]);
    attacked(
        "/etc/gshadow",
        "adm:*::net\n",
        &[
            ("*", "$6$x", "password"),
            ("::net", ":net:net", "administrator"),
            ("net", "redis", "redis"),
        ],
        &[("/etc/group", GROUP)],
    );
    assert!(refused("/etc/subuid", b"net:100000:65536\n", &[]).is_some());
    assert_eq!(refused("/etc/subuid", b"", &[]), None);
}

#[test]
fn attack_a_password_is_found() {
    let shadow = "root:*:20708:0:99999:7:::\nredis:!:20708::::::\nnet:!*:20708:::::1:\n";
    let attacks = [
        (
            "root:*",
            "root:$y$j9T$evil$evil",
            "it has a password, which no package gives it",
        ),
        ("root:*", "root:", "anybody may log in"),
        ("redis:!", "redis:$1$x", "it has a password"),
        ("net:!*", "evil:!*", "there is no such account"),
        ("20708:0", "evil:0", "days"),
    ];
    attacked("/etc/shadow", shadow, &attacks, &[("/etc/passwd", PASSWD)]);
}

#[test]
fn attack_a_unit_that_no_preset_enables_is_found() {
    let system = "/etc/systemd/system";
    let unit = |name: &str| format!("/usr/lib/systemd/system/{name}");
    for (path, target) in [
        ("multi-user.target.wants/hi.service", "hi.service"),
        ("sockets.target.wants/hi.socket", "hi.socket"), // with hi.service
        ("hey.service", "hi.service"),
        ("getty.target.wants/tty@tty1.service", "tty@.service"),
    ] {
        assert_eq!(refused_link(&format!("{system}/{path}"), &unit(target)), None, "{path}");
    }
    for (path, target, why) in [
        (
            "sysinit.target.wants/debug-shell.service",
            unit("debug-shell.service"),
            "no preset enables debug-shell.service",
        ),
        (
            "sysinit.target.wants/hi.service",
            unit("hi.service"),
            "does not name this link",
        ),
        (
            "multi-user.target.wants/hi.service",
            unit("static.service"),
            "does not name this link",
        ),
        (
            "multi-user.target.wants/evil.service",
            unit("hi.service"),
            "does not name this link",
        ),
        (
            "multi-user.target.wants/hi.service",
            "/var/lib/hi.service".into(),
            "has the unit /var/lib/hi.service",
        ),
        (
            "getty.target.wants/tty@tty2.service",
            unit("tty@.service"),
            "no preset enables tty@.service",
        ),
        ("ssh.service", unit("hi.service"), "does not name this link"),
        ("hi.service", "/dev/null".into(), "has the unit"),
    ] {
        let reason = refused_link(&format!("{system}/{path}"), &target).unwrap_or_else(|| panic!("{path} is believed"));
        assert!(reason.contains(why), "{path}: {reason}");
    }
    let notes = "/var/lib/systemd/deb-systemd-helper-enabled";
    attacked(
        &format!("{notes}/hi.service.dsh-also"),
        "/etc/systemd/system/multi-user.target.wants/hi.service\n/etc/systemd/system/hey.service\n",
        &[("hey", "evil", "does not name")],
        &[],
    );
    assert_eq!(
        refused(&format!("{notes}/multi-user.target.wants/hi.service"), b"", &[]),
        None
    );
    assert!(refused(&format!("{notes}/multi-user.target.wants/static.service"), b"", &[]).is_some());
}

#[test]
fn attack_a_link_that_no_script_makes_is_found() {
    assert_eq!(refused_link("/etc/mtab", "../proc/self/mounts"), None);
    assert_eq!(refused_link("/init", "/usr/lib/systemd/systemd"), None);
    assert_eq!(refused_link("/etc/rc2.d/S01hi", "../init.d/hi"), None);
    for (path, target) in [
        ("/etc/mtab", "/home/evil"),
        ("/init", "/usr/bin/bash"),
        ("/etc/rc2.d/S01hi", "../init.d/evil"),
        ("/etc/localtime", "/etc/conf"),
        ("/usr/local/man", "/home"),
    ] {
        assert!(refused_link(path, target).is_some(), "{path}");
    }
}

#[test]
fn attack_an_alternative_that_no_script_installs_is_found() {
    for (path, target) in [
        ("/usr/bin/vi", "/etc/alternatives/vi"),
        ("/usr/bin/ex", "/etc/alternatives/ex"),
        ("/etc/alternatives/vi", "/usr/bin/vim.tiny"),
    ] {
        assert_eq!(refused_link(path, target), None, "{path}");
    }
    for (path, target, why) in [
        ("/usr/bin/sudo", "/etc/alternatives/vi", "installs this link"),
        ("/etc/alternatives/sudo", "/usr/bin/vim.tiny", "best alternative"),
        ("/etc/alternatives/vi", "/usr/bin/bash", "best alternative"),
        ("/etc/alternatives/vi", "/usr/bin/nano", "best alternative"),
    ] {
        let reason = refused_link(path, target).unwrap_or_else(|| panic!("{path} is believed"));
        assert!(reason.contains(why), "{path}: {reason}");
    }
    let known = "auto\n/usr/bin/vi\nvi.gz\n/usr/share/man/vi.gz\n\n/usr/bin/vim.tiny\n15\n/usr/share/vim.gz\n/usr/bin/nano\n10\n\n\n";
    let attacks = [
        ("auto", "manual", "by priority"),
        ("/usr/bin/vi\n", "/usr/bin/sudo\n", "the link /usr/bin/sudo"),
        ("nano\n10", "nano\n99", "with the priority 99"),
        ("/usr/share/vim.gz", "/usr/share/evil.gz", "vim.tiny"),
        ("/usr/share/man/vi.gz", "/usr/bin/ssh", "/usr/bin/ssh"),
    ];
    attacked("/var/lib/dpkg/alternatives/vi", known, &attacks, &[]);
}

#[test]
fn attack_a_line_in_a_cache_is_found() {
    let common = "# here\nauth\t[success=1 default=ignore]\tpam_unix.so\nauth\trequisite\tpam_deny.so\n";
    let attacks = [
        (
            "auth\trequisite",
            "auth\tsufficient\tpam_permit.so\nauth\trequisite",
            "pam_permit.so",
        ),
        ("success=1", "success=2", "success=2"),
        ("auth\trequisite\tpam_deny.so\n", "", "another order"),
    ];
    attacked("/etc/pam.d/common-auth", common, &attacks, &[]);
    let bundle = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let attacks = [
        ("AAAA", "EVIL", "certificate 1"),
        ("-----BEGIN", "x\n-----BEGIN", "besides certificates"),
    ];
    attacked("/etc/ssl/certs/ca-certificates.crt", bundle, &attacks, &[]);
    attacked(
        "/etc/ca-certificates.conf",
        "# x\na.crt\n",
        &[("a.crt", "evil.crt", "evil.crt")],
        &[],
    );
    assert_eq!(
        refused_link("/etc/ssl/certs/0a.0", "/usr/share/ca-certificates/a.crt"),
        None
    );
    assert!(refused_link("/etc/ssl/certs/0a.0", "/etc/conf").is_some());
    attacked("/etc/modules", "# none\n", &[("none", "evil", "writes this text")], &[]);
    attacked(
        "/etc/shells",
        "# /etc/shells: valid login shells\n/bin/bash\n",
        &[("/bin/bash", "/usr/bin/nano", "nano")],
        &[],
    );
    assert!(refused("/etc/environment", b"LD_PRELOAD=/evil", &[]).is_some());
    assert!(refused("/etc/machine-id", b"0123", &[]).is_some());
}

#[test]
fn attack_a_library_in_the_loaders_cache_is_found() {
    let cache = |entries: &[(&str, &str)]| {
        let (mut strings, mut rows) = (Vec::new(), Vec::new());
        let start = 48 + entries.len() * 24;
        for (key, value) in entries {
            let mut offset = |text: &str| {
                let at = u32::try_from(start + strings.len()).unwrap();
                strings.extend(text.bytes().chain([0]));
                at.to_le_bytes()
            };
            rows.extend(
                [3, 3, 0, 0]
                    .into_iter()
                    .chain(offset(key))
                    .chain(offset(value))
                    .chain([0; 12]),
            );
        }
        let count = u32::try_from(entries.len()).unwrap().to_le_bytes();
        [b"glibc-ld.so.cache1.1", &count[..], &[0; 24], &rows, &strings].concat()
    };
    let path = "/etc/ld.so.cache";
    let honest = cache(&[
        ("libx.so.1", "/usr/lib/x/libx.so.1"),
        ("libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
    ]);
    assert_eq!(refused(path, &honest, &[]), None);
    for (key, value, why) in [
        ("libc.so.6", "/home/libc.so.6", "not in a folder of libraries"),
        ("libc.so.6", "/usr/lib/x/libx.so.1", "leads to"),
        ("libe.so", "/usr/lib/x/libe.so", "leads to"),
    ] {
        let reason = refused(path, &cache(&[(key, value)]), &[]).unwrap();
        assert!(reason.contains(why), "{reason}");
    }
    for length in 0..honest.len() - 40 {
        assert!(refused(path, &honest[..length], &[]).is_some(), "{length}");
    }
}

#[test]
fn attack_a_package_in_dpkgs_database_is_found() {
    let status = "Package: made\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/conf CONF\n";
    let status = status.to_owned() + "\nPackage: open\nStatus: install ok installed\nVersion: 1\n";
    let status = status.replace("CONF", &crate::debian::members::md5(b"conf"));
    let attacks = [
        ("Version: 1", "Version: 2", "does not say Version: 2"),
        ("install ok installed", "hold ok installed", "does not say Status"),
        ("Package: made", "Package: evil", "is not locked"),
        ("/etc/conf", "/etc/evil", "/etc/evil"),
        ("Version: 1\n", "", "Version is missing"),
    ];
    attacked("/var/lib/dpkg/status", &status, &attacks, &[]);
    assert!(
        refused("/var/lib/dpkg/status", b"", &[])
            .unwrap()
            .contains("made is not in it")
    );
    attacked(
        "/var/lib/dpkg/diversions",
        "/usr/bin/hi\n/usr/bin/hi.real\nmade\n",
        &[("hi.real", "evil", "diverts")],
        &[],
    );
    attacked(
        "/var/lib/dpkg/triggers/File",
        "/usr/lib/x made/noawait\n",
        &[("lib/x", "lib/evil", "not interested")],
        &[],
    );
}

#[test]
fn what_nothing_tells_the_content_of_is_named_so() {
    let followers = vec![
        link("/etc/alternatives/lzcat", "/usr/bin/xz"),
        link("/usr/bin/lzcat", "/etc/alternatives/lzcat"),
        link("/etc/alternatives/evil", "/home/evil"),
        link("/usr/sbin/lzcat", "/etc/alternatives/lzcat"),
    ];
    let Explained { contents, .. } = self::explained(followers, &[]);
    let origins: Vec<&Origin> = contents[FILES.len()..].iter().map(|content| &content.origin).collect();
    let unsaid = Origin::NotDerived {
        class: "update-alternatives".into(),
    };
    assert_eq!(origins, [&unsaid, &unsaid, &Origin::Unexplained, &Origin::Unexplained]);
    let explained = explained(vec![file("/etc/locale.gen", "anything", 0o644)], &[]);
    let expected = Origin::NotDerived {
        class: "locales".into(),
    };
    assert_eq!(explained.contents.last().unwrap().origin, expected);
}
