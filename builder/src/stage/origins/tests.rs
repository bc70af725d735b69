mod made;

use super::*;
use crate::debian::deb;
use crate::model::contents::Image;
use crate::model::lock::Source;
use measure::Sha512;

const POSTINST: &str = "#!/bin/sh\ncp /usr/share/doc/hello/copyright \"$DPKG_ROOT/etc/hello/licence\"\n";

const LIST: &str = "/.\n/bin\n/bin/hello\n/usr/share/doc/hello/copyright\n/usr/bin/hi\n/usr/bin/howdy\n";

const RECIPE: &str = include_str!("../../../../recipes/minimal/recipe.toml");

/// A package `hello` with a program, a folder, a link and a maintainer script, and a recipe with a file and a link.
struct World {
    lock: Lock,
    packages: Packages,
    recipe: Recipe,
}

impl World {
    fn new() -> Self {
        let deb = hello();
        let (recipe, sha256) = (Sha256::of(RECIPE), Sha256::of(&deb));
        let package = Package {
            name: "hello".into(),
            version: "1".into(),
            architecture: "amd64".into(),
            source: None,
            sha256,
            size: deb.len() as u64,
            archive: "debian".into(),
            path: "pool/hello.deb".into(),
            why: [(Tree::Root, "recipe".into())].into(),
        };
        let source = Source {
            path: "mkosi.extra/etc/hello.conf".into(),
            sha256: Sha256::of("conf"),
            size: 4,
            executable: false,
        };
        let mask = Source {
            path: "mkosi.extra/etc/systemd/system/hello.service".into(),
            sha256: Sha256::of("/dev/null"),
            size: 9,
            executable: false,
        };
        Self {
            lock: Lock::new(recipe, vec![], vec![package], vec![source, mask]),
            packages: [(sha256, Members::read(&deb).unwrap())].into(),
            recipe: Recipe::parse(RECIPE).unwrap(),
        }
    }

    fn explain(&self, nodes: &[Node]) -> Vec<Content> {
        let origins = Origins::of(Tree::Root, &self.recipe, &self.lock, &self.packages).unwrap();
        origins.explain(nodes.to_vec(), &Texts::new()).contents
    }

    fn origin(&self, nodes: &[Node]) -> Origin {
        self.explain(nodes).pop().unwrap().origin
    }

    fn refusal(&self, node: Node) -> String {
        let origins = Origins::of(Tree::Root, &self.recipe, &self.lock, &self.packages).unwrap();
        let explained = origins.explain(vec![node], &Texts::new());
        crate::mend::report(&origins.check(&explained).unwrap_err())
    }
}

/// `dpkg-deb --contents` would list: ./, ./bin/, ./bin/hello, ./usr/share/doc/hello/copyright, ./usr/bin/hi -> hello
fn hello() -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    for (path, kind, mode, text) in [
        ("./", tar::EntryType::Directory, 0o755, ""),
        ("./bin/", tar::EntryType::Directory, 0o755, ""),
        ("./bin/hello", tar::EntryType::Regular, 0o755, "hello"),
        (
            "./usr/share/doc/hello/copyright",
            tar::EntryType::Regular,
            0o644,
            "mine",
        ),
    ] {
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(text.len() as u64);
        data.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_mode(0o777);
    data.append_link(&mut header, "./usr/bin/hi", "hello").unwrap();
    header.set_entry_type(tar::EntryType::Link);
    data.append_link(&mut header, "./usr/bin/howdy", "./bin/hello").unwrap();
    let control = deb::tests::tar(&[("./control", "Package: hello"), ("./postinst", POSTINST)]);
    let data = data.into_inner().unwrap();
    deb::tests::ar(&[
        ("debian-binary", b"2.0\n"),
        ("control.tar", &control),
        ("data.tar", &data),
    ])
}

fn node(path: &str, kind: Kind, mode: u16) -> Node {
    Node {
        image: Image("rootfs.erofs".into()),
        path: path.into(),
        kind,
        mode,
        uid: 0,
        gid: 0,
        xattrs: BTreeMap::new(),
    }
}

fn file(path: &str, text: &str, mode: u16) -> Node {
    let kind = Kind::File {
        size: text.len() as u64,
        sha256: Sha256::of(text),
        same_as: None,
    };
    node(path, kind, mode)
}

fn link(path: &str, target: &str) -> Node {
    let target = target.into();
    node(path, Kind::Symlink { target }, 0o777)
}

fn name(origin: &Origin) -> &str {
    match origin {
        Origin::Package { name, .. } => name,
        Origin::Recipe { path } => path,
        Origin::Payload { name } => name,
        Origin::Generated { class } | Origin::NotDerived { class } => class,
        Origin::Allowed => "allowed",
        Origin::Unexplained => "unexplained",
    }
}

#[test]
fn each_path_has_its_origin() {
    let table = [
        (node("/", Kind::Directory, 0o755), "hello"),
        (file("/usr/bin/hello", "hello", 0o755), "hello"),
        (file("/usr/bin/howdy", "hello", 0o755), "hello"),
        (link("/usr/bin/hi", "hello"), "hello"),
        (file("/var/lib/dpkg/info/hello.postinst", POSTINST, 0o755), "hello"),
        (
            file("/var/lib/dpkg/info/hello:amd64.postinst", POSTINST, 0o755),
            "hello",
        ),
        (file("/var/lib/dpkg/info/hello.list", LIST, 0o644), "dpkg"),
        (file("/etc/hello.conf", "conf", 0o644), "mkosi.extra/etc/hello.conf"),
        (
            link("/etc/systemd/system/hello.service", "/dev/null"),
            "mkosi.extra/etc/systemd/system/hello.service",
        ),
        (file("/usr/lib/clock-epoch", "", 0o644), "mkosi"),
        (file("/etc/locale.gen", "", 0o644), "locales"),
    ];
    let world = World::new();
    for (node, expected) in table {
        assert_eq!(name(&world.origin(std::slice::from_ref(&node))), expected, "{node:?}");
    }
}

#[test]
fn attack_a_planted_file_is_unexplained_wherever_it_hides() {
    let planted = [
        file("/usr/lib/.hidden/planted", "evil", 0o755),
        file("/var/lib/dpkg/info/evil.list", "evil", 0o644),
        file("/var/lib/dpkg/info/hello.list", "/.\n/evil\n", 0o644),
        file("/var/lib/dpkg/info/hello.preinst", "evil", 0o755),
        file("/usr/lib/modules/6.12/kernel/modules.dep", "evil", 0o644),
        file("/etc/pam.d/common-evil", "evil", 0o644),
        file("/etc/systemd/system/evil.service", "evil", 0o644),
        link(
            "/etc/systemd/system/multi-user.target.wants/evil.service",
            "/run/evil.service",
        ),
        link("/usr/bin/sh", "/etc/alternatives/evil"),
        link("/etc/alternatives/sh", "/home/evil"),
        node("/usr/lib/evil", Kind::Directory, 0o777),
        node("/usr/lib/fifo", Kind::Fifo, 0o644),
        node("/etc/passwd", Kind::Fifo, 0o644),
    ];
    let world = World::new();
    for node in planted {
        assert_eq!(
            name(&world.origin(std::slice::from_ref(&node))),
            "unexplained",
            "{node:?}"
        );
    }
}

#[test]
fn attack_a_changed_file_is_unexplained_and_named_with_its_package() {
    let world = World::new();
    let report = world.refusal(file("/usr/bin/hello", "hellO", 0o755));
    assert!(
        report.contains("/usr/bin/hello: the package hello has something else there"),
        "{report}"
    );
    let report = world.refusal(link("/usr/bin/hello", "/usr/bin/hi"));
    assert!(
        report.contains("the package hello has something else there"),
        "{report}"
    );
    let report = world.refusal(file("/var/lib/dpkg/info/hello.postinst", "#!/bin/evil", 0o755));
    assert!(report.contains("neither a package nor the recipe"), "{report}");
    let report = world.refusal(file("/etc/hello.conf", "evil", 0o644));
    assert!(
        report.contains("not what mkosi.extra/etc/hello.conf of the recipe is"),
        "{report}"
    );
    let report = world.refusal(link("/etc/systemd/system/hello.service", "/usr/lib/evil.service"));
    assert!(report.contains("hello.service of the recipe is"), "{report}");
}

#[test]
fn attack_privileges_that_the_package_does_not_give_are_unexplained() {
    let world = World::new();
    let hello = |mode| file("/usr/bin/hello", "hello", mode);
    for node in [hello(0o4755), hello(0o2755), hello(0o757)] {
        let report = world.refusal(node);
        assert!(report.contains("with fewer privileges (0755)"), "{report}");
    }
    let mut capable = hello(0o755);
    capable.xattrs.insert("security.capability".into(), "AQAAAg==".into());
    assert!(world.refusal(capable).contains("fewer privileges"));
    for node in [
        file("/etc/passwd", "", 0o755),
        file("/etc/motd", "", 0o4644),
        file("/etc/environment", "", 0o666),
        Node {
            uid: 33,
            ..file("/etc/environment", "", 0o644)
        },
        file("/etc/hello.conf", "conf", 0o4755),
    ] {
        assert_eq!(world.origin(&[node]), Origin::Unexplained);
    }
    assert_eq!(name(&world.origin(&[hello(0o700)])), "hello");
}

#[test]
fn a_folder_is_explained_by_what_is_in_it_and_not_by_what_is_allowed() {
    let mut world = World::new();
    let folder = node("/etc/ssl", Kind::Directory, 0o755);
    let stray = file("/etc/ssl/stray", "stray", 0o600);
    world.recipe.root.allow_unowned = vec!["/etc/ssl/*".into()];
    let origins: Vec<_> = world
        .explain(&[folder.clone(), stray])
        .into_iter()
        .map(|content| content.origin)
        .collect();
    assert_eq!(origins, [Origin::Allowed, Origin::Allowed]);
    world.recipe.root.allow_unowned = vec!["/etc/ss[".into()];
    assert!(Origins::of(Tree::Root, &world.recipe, &world.lock, &world.packages).is_err());
    let inside = file("/usr/share/doc/hello/copyright", "mine", 0o644);
    let folder = node("/usr/share/doc", Kind::Directory, 0o755);
    let contents = World::new().explain(&[folder, inside]);
    assert_eq!(name(&contents[0].origin), "folder of what is in it");
}

#[test]
fn scripts_copy_examples_and_divert_programs() {
    let world = World::new();
    let table = [
        (
            file("/etc/hello/licence", "mine", 0o644),
            "copy of /usr/share/doc/hello/copyright of the package hello",
        ),
        (file("/usr/bin/hello.distrib", "hello", 0o755), "hello"),
        (file("/usr/lib/licence", "mine", 0o644), "unexplained"),
        (file("/etc/sudoers.d/licence", "mine", 0o644), "unexplained"),
        (file("/etc/hello/licence", "mine", 0o755), "unexplained"),
        (file("/usr/bin/hello.distrib", "hello", 0o4755), "unexplained"),
        (
            file("/usr/lib/python3/__pycache__/evil.cpython-313.pyc", "evil", 0o644),
            "unexplained",
        ),
    ];
    for (node, expected) in table {
        assert_eq!(name(&world.origin(std::slice::from_ref(&node))), expected, "{node:?}");
    }
}

#[test]
fn a_payload_explains_what_it_brings_and_nothing_else() {
    let world = World::new();
    let brought = vec![file("/usr/bin/agent", "agent", 0o755), link("/usr/bin/a", "agent")];
    let (name_of_it, sha512, nodes) = ("agent".to_owned(), Sha512::of("agent"), brought.clone());
    let payloads = vec![Brought {
        name: name_of_it,
        sha512,
        nodes,
        crates: Vec::new(),
    }];
    let mut origins = Origins::of(Tree::Root, &world.recipe, &world.lock, &world.packages).unwrap();
    origins.bring("rootfs.erofs", &payloads);
    for (node, wanted) in [
        (brought[0].clone(), "agent"),
        (brought[1].clone(), "agent"),
        (file("/usr/bin/agent", "evil", 0o755), "unexplained"),
        (file("/usr/bin/agent", "agent", 0o4755), "unexplained"),
        (file("/usr/bin/other", "agent", 0o755), "unexplained"),
        (link("/usr/bin/a", "evil"), "unexplained"),
    ] {
        let explained = origins.explain(vec![node.clone()], &Texts::new());
        assert_eq!(name(&explained.contents[0].origin), wanted, "{node:?}");
    }
}
