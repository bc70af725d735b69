use super::*;

const STATUS: &str = "\
Package: libstdc++6
Status: install ok installed
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Architecture: amd64
Source: gcc-14
Version: 14.2.0-19
Description: GNU Standard C++ Library v3
 with a continuation line

Package: login
Status: install ok installed
Maintainer: Chris Hofstaedtler <zeha@debian.org>
Architecture: amd64
Source: util-linux (2.41-5)
Version: 1:4.16.0-2+really2.41-5

Package: gone
Status: deinstall ok config-files
Maintainer: Nobody <nobody@example.org>
Architecture: amd64
Version: 1
";

fn package(name: &str, version: &str, source: Option<&str>, trees: &[Tree]) -> Package {
    Package {
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        source: source.map(Into::into),
        sha256: Sha256::of(name),
        size: 1000,
        archive: "debian".into(),
        path: format!("pool/main/{name}.deb"),
        why: trees.iter().map(|tree| (*tree, "asked for".to_owned())).collect(),
    }
}

fn packages() -> Vec<Package> {
    let both = [Tree::Root, Tree::Initrd];
    vec![
        package("libstdc++6", "14.2.0-19", Some("gcc-14"), &both),
        package("login", "1:4.16.0-2+really2.41-5", Some("util-linux (2.41-5)"), &both),
        package(
            "linux-image-6.12",
            "6.12.1-1",
            Some("linux-signed-amd64 (6.12.1+1)"),
            &[Tree::Kernel],
        ),
        package("ovmf", "2025.02-8", Some("edk2"), &[Tree::Firmware, Tree::Boot]),
        package("mkosi", "26-1", None, &[Tree::Tools]),
    ]
}

fn made(status: &str, packages: Vec<Package>, roles: &[(&str, Role<'_>)]) -> Result<String> {
    let artifacts: Vec<_> = roles
        .iter()
        .map(|(name, role)| Artifact {
            name,
            stamp: Stamp {
                sha256: Sha256::of(name),
                size: 4096,
            },
            role: *role,
        })
        .collect();
    let trixie = Distribution::of("ID=debian\nVERSION_ID=\"13\"\n").expect("both are there");
    text(&Facts {
        name: &"minimal".to_owned().try_into().expect("a plain name"),
        epoch: "2026-09-12T00:00:00Z".parse()?,
        supplier: Some("Organization: Example"),
        lock: &Lock::new(Sha256::of("recipe"), Vec::new(), packages, Vec::new()),
        root_status: status,
        initrd_status: STATUS,
        distributions: &[Tree::Root, Tree::Initrd, Tree::Kernel]
            .map(|tree| (tree, trixie))
            .into(),
        artifacts: &artifacts,
    })
}

const ROLES: [(&str, Role<'_>); 4] = [
    ("rootfs.erofs", Role::Root),
    ("initrd.cpio.zst", Role::Initrd),
    (
        "vmlinuz",
        Role::Kernel {
            package: "linux-image-6.12",
        },
    ),
    ("OVMF.fd", Role::Firmware { package: "ovmf" }),
];

fn refusal(result: Result<String>) -> String {
    crate::mend::report(&result.expect_err("the facts disagree"))
}

fn find<'a>(document: &'a serde_json::Value, name: &str, purpose: &str) -> &'a serde_json::Value {
    let packages = document["packages"].as_array().expect("a list");
    let wanted = |package: &&serde_json::Value| package["name"] == name && package["primaryPackagePurpose"] == purpose;
    packages.iter().find(wanted).expect("it is in the document")
}

/// The URLs were compared with those of packageurl-python 0.17.
#[test]
fn what_is_installed_is_listed_with_where_it_comes_from() -> Result<()> {
    let document: serde_json::Value = serde_json::from_str(&made(STATUS, packages(), &ROLES)?)?;
    for (name, purpose, url) in [
        (
            "libstdc++6",
            "INSTALL",
            "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=amd64&distro=debian-13&upstream=gcc-14",
        ),
        (
            "login",
            "INSTALL",
            "pkg:deb/debian/login@1:4.16.0-2%2Breally2.41-5?arch=amd64&distro=debian-13&upstream=util-linux%402.41-5",
        ),
        (
            "ovmf",
            "INSTALL",
            "pkg:deb/debian/ovmf@2025.02-8?arch=amd64&upstream=edk2",
        ),
        (
            "util-linux",
            "SOURCE",
            "pkg:deb/debian/util-linux@2.41-5?arch=source&distro=debian-13",
        ),
    ] {
        assert_eq!(
            find(&document, name, purpose)["externalRefs"][0]["referenceLocator"],
            url
        );
    }
    let library = find(&document, "libstdc++6", "INSTALL");
    assert_eq!(library["sourceInfo"], "built package from: gcc-14 14.2.0-19");
    assert_eq!(
        library["originator"],
        "Organization: Debian GCC Maintainers (debian-gcc@lists.debian.org)"
    );
    assert_eq!(
        library["checksums"][0]["checksumValue"],
        Sha256::of("libstdc++6").to_string()
    );
    assert_eq!(
        find(&document, "login", "INSTALL")["originator"],
        "Person: Chris Hofstaedtler (zeha@debian.org)"
    );
    assert!(
        document["packages"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|package| package["name"] != "mkosi")
    );
    Ok(())
}

#[test]
fn trees_contain_their_packages_and_files_come_out_of_theirs() -> Result<()> {
    let document: serde_json::Value = serde_json::from_str(&made(STATUS, packages(), &ROLES)?)?;
    let (root, initrd) = (
        find(&document, "rootfs.erofs", "ARCHIVE"),
        find(&document, "initrd.cpio.zst", "ARCHIVE"),
    );
    let (login, kernel) = (
        find(&document, "login", "INSTALL"),
        find(&document, "linux-image-6.12", "INSTALL"),
    );
    let vmlinuz = find(&document, "vmlinuz", "FILE");
    let system = find(&document, "debian", "OPERATING_SYSTEM");
    for (element, how, related) in [
        (root, "CONTAINS", login),
        (root, "CONTAINS", system),
        (initrd, "CONTAINS", login),
        (initrd, "GENERATED_FROM", kernel),
        (vmlinuz, "EXPANDED_FROM_ARCHIVE", kernel),
        (login, "GENERATED_FROM", find(&document, "util-linux", "SOURCE")),
    ] {
        let wanted = serde_json::json!({
            "spdxElementId": element["SPDXID"], "relationshipType": how, "relatedSpdxElement": related["SPDXID"]
        });
        assert!(
            document["relationships"].as_array().expect("a list").contains(&wanted),
            "{wanted}"
        );
    }
    Ok(())
}

#[test]
fn the_document_is_named_by_its_content() -> Result<()> {
    let text = made(STATUS, packages(), &ROLES)?;
    assert_eq!(made(STATUS, packages(), &ROLES)?, text);
    let other = made(STATUS, packages(), &ROLES[..1])
        .err()
        .map(|error| error.to_string());
    assert!(other.is_some_and(|error| error.contains("no firmware of the release comes from the package ovmf")));
    assert!(text.contains("\"created\": \"2026-09-12T00:00:00Z\""));
    Ok(())
}

#[test]
fn a_package_that_was_smuggled_in_is_named() {
    let smuggled = "\nPackage: miner\nStatus: install ok installed\nArchitecture: amd64\nVersion: 6.66\n";
    let report = refusal(made(&format!("{STATUS}{smuggled}"), packages(), &ROLES));
    assert!(
        report.contains("the root image does not hold what recipe.lock names"),
        "{report}"
    );
    assert!(
        report.contains("miner 6.66 amd64 is installed and not locked"),
        "{report}"
    );
}

#[test]
fn a_package_of_another_version_and_one_that_is_missing_are_named() {
    let report = refusal(made(&STATUS.replace("14.2.0-19", "14.2.0-18"), packages(), &ROLES));
    assert!(
        report.contains("libstdc++6 14.2.0-18 amd64 is installed and not locked"),
        "{report}"
    );
    assert!(
        report.contains("libstdc++6 14.2.0-19 amd64 is locked and not installed"),
        "{report}"
    );
}

#[test]
fn a_package_installed_by_halves_is_refused() {
    let report = refusal(made(
        &STATUS.replacen("ok installed", "ok half-configured", 1),
        packages(),
        &ROLES,
    ));
    assert!(
        report.contains("has the status \"install ok half-configured\""),
        "{report}"
    );
}

#[test]
fn an_artifact_of_a_package_that_is_not_locked_is_refused() {
    let roles = [
        ROLES[0],
        ROLES[1],
        ROLES[2],
        ("OVMF.fd", Role::Firmware { package: "other" }),
    ];
    let report = refusal(made(STATUS, packages(), &roles));
    assert!(
        report.contains("OVMF.fd comes from the package other, which is not locked"),
        "{report}"
    );
}
