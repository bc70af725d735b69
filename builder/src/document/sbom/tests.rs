use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::model::artifacts::file;
use crate::model::lock::Source;

const STATUS: &str = "\
Package: libstdc++6
Status: install ok installed
Maintainer: Debian GCC Maintainers <debian-gcc@lists.debian.org>
Architecture: amd64
Source: gcc-14
Version: 14.2.0-19
Homepage: https://gcc.gnu.org/
Description: GNU Standard C++ Library v3
 with a continuation line

Package: login
Status: install ok installed
Maintainer: Chris Hofstaedtler <zeha@debian.org>
Architecture: amd64
Source: util-linux (2.41-5)
Version: 1:4.16.0-2+really2.41-5
Depends: nothing-here | libstdc++6 (>= 14)
Static-Built-Using: glibc (= 2.41-12)

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
        package("systemd-boot-efi", "257.13-1", Some("systemd"), &[Tree::Tools]),
    ]
}

/// What a test changes.
struct Case<'a> {
    status: &'a str,
    packages: Vec<Package>,
    roles: &'a [(&'a str, Role<'a>)],
    contents: Vec<Content>,
    facts: BTreeMap<Sha256, PackageFacts>,
    /// The image that the payload is in, and what it is.
    payload: (&'a str, payload::Kind),
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            status: STATUS,
            packages: packages(),
            roles: &ROLES,
            contents: contents(),
            facts: facts(),
            payload: (file::ROOT, payload::Kind::Software),
        }
    }
}

fn contents() -> Vec<Content> {
    let lines = [
        r#"{"image":"rootfs.erofs","path":"/usr/bin","type":"directory","mode":"0755","uid":0,"gid":0,
            "origin":{"from":"package","name":"login","sha256":"LOGIN"}}"#,
        r#"{"image":"rootfs.erofs","path":"/usr/bin/login","type":"file","size":5,"sha256":"LOGIN","mode":"0755","uid":0,
            "gid":0,"origin":{"from":"package","name":"login","sha256":"LOGIN"}}"#,
        r#"{"image":"rootfs.erofs","path":"/etc/ld.so.cache","type":"file","size":5,"sha256":"LOGIN","mode":"0644","uid":0,
            "gid":0,"origin":{"from":"generated","class":"ld-cache"}}"#,
        r#"{"image":"rootfs.erofs","path":"/usr/bin/kata-agent","type":"file","size":5,"sha256":"LOGIN","mode":"0755",
            "uid":0,"gid":0,"origin":{"from":"payload","name":"kata-agent"}}"#,
        r#"{"image":"initrd.cpio.zst","path":"/etc/issue","type":"file","size":5,"sha256":"LOGIN","mode":"0644","uid":0,
            "gid":0,"origin":{"from":"recipe","path":"mkosi.extra/etc/issue"}}"#,
    ];
    let login = Sha256::of("login").to_string();
    let read = |line: &str| serde_json::from_str(&line.replace("LOGIN", &login)).expect("a line of files.jsonl");
    lines.into_iter().map(read).collect()
}

/// Of login, the free text of whose licence has no name, and of the kernel, of which nobody knows a licence.
fn facts() -> BTreeMap<Sha256, PackageFacts> {
    let known = |declared: Option<&str>, texts: &[(&str, &str)], control: &str| PackageFacts {
        sha512: Sha512::of(control),
        licence: Licence {
            latin_1: false,
            declared: declared.map(Into::into),
            texts: texts.iter().map(|(id, text)| ((*id).into(), (*text).into())).collect(),
        },
        control: control.into(),
    };
    let login = known(
        Some("GPL-2.0-or-later AND LicenseRef-Debian-login"),
        &[("LicenseRef-Debian-login", "Do as you please.")],
        "",
    );
    let kernel = known(
        None,
        &[],
        "Package: linux-image-6.12\nMaintainer: Debian Kernel Team <debian-kernel@lists.debian.org>\n",
    );
    [(Sha256::of("login"), login), (Sha256::of("linux-image-6.12"), kernel)].into()
}

impl Case<'_> {
    fn make(&self) -> Result<Documents> {
        let artifacts: Vec<_> = self.roles.iter().map(artifact).collect();
        let trixie = Distribution::of("ID=debian\nVERSION_ID=\"13\"\n").expect("both are there");
        let source = Source {
            path: "mkosi.extra/etc/issue".into(),
            sha256: Sha256::of("login"),
            size: 5,
            executable: false,
        };
        documents(&Facts {
            name: &"minimal".to_owned().try_into().expect("a plain name"),
            epoch: "2026-09-12T00:00:00Z".parse()?,
            supplier: Some(&supplier("Organization: Example (image@example.org)")),
            lock: &Lock::new(Sha256::of("recipe"), Vec::new(), self.packages.clone(), vec![source]),
            root_status: self.status,
            initrd_status: STATUS,
            distributions: &[Tree::Root, Tree::Initrd, Tree::Kernel]
                .map(|tree| (tree, trixie))
                .into(),
            artifacts: &artifacts,
            sections: &[(".linux", Sha256::of("vmlinuz")), (".sbat", Sha256::of("sbat"))].into(),
            contents: &self.contents,
            payloads: &[Payload {
                name: "kata-agent",
                version: "3.2",
                image: self.payload.0.into(),
                kind: self.payload.1,
                archive: self.payload.1 == payload::Kind::Data,
                executable: self.payload.1 == payload::Kind::Software,
                sha256: Sha256::of("agent"),
                sha512: Sha512::of("agent"),
                supplier: Some(&supplier("Organization: Kata Containers (https://katacontainers.io/)")),
                licence: Some("Apache-2.0"),
                url: Some("pkg:github/kata-containers/kata-containers@3.2"),
                compiled: Some((Sha256::of("source of the agent"), &[serde()])),
            }],
            packages: &self.facts,
        })
    }
}

fn supplier(text: &str) -> Supplier {
    text.to_owned().try_into().expect("a supplier has a kind and a name")
}

/// A crate that is in the payload.
fn serde() -> Crate {
    Crate {
        name: "serde".into(),
        version: "1.0.0".into(),
        file: "serde-1.0.0.crate".into(),
        sha256: Sha256::of("serde"),
        sha512: Sha512::of("serde"),
        licence: Some("MIT OR Apache-2.0".into()),
        author: Some("A. Person <a@example.org>".into()),
        homepage: Some("https://example.org".into()),
    }
}

fn artifact<'a>((name, role): &(&'a str, Role<'a>)) -> Artifact<'a> {
    Artifact {
        name,
        stamp: Stamp {
            sha256: Sha256::of(name),
            size: 4096,
        },
        sha512: Sha512::of(name),
        role: *role,
    }
}

fn made(status: &str, packages: Vec<Package>, roles: &[(&str, Role<'_>)]) -> Result<String> {
    let case = Case {
        status,
        packages,
        roles,
        ..Case::default()
    };
    Ok(case.make()?.spdx2)
}

fn views() -> Result<[Value; 3]> {
    views_of(&Case::default())
}

fn views_of(case: &Case<'_>) -> Result<[Value; 3]> {
    let Documents {
        spdx3,
        cyclonedx,
        spdx2,
    } = case.make()?;
    Ok([
        serde_json::from_str(&spdx3)?,
        serde_json::from_str(&cyclonedx)?,
        serde_json::from_str(&spdx2)?,
    ])
}

const ROLES: [(&str, Role<'_>); 6] = [
    ("disk.raw", Role::Disk),
    (
        "uki.efi",
        Role::Uki {
            stub: "systemd-boot-efi",
        },
    ),
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

fn refusal<T: std::fmt::Debug>(result: Result<T>) -> String {
    crate::mend::report(&result.expect_err("the facts disagree"))
}

fn find<'a>(document: &'a Value, name: &str, purpose: &str) -> &'a Value {
    let packages = document["packages"].as_array().expect("a list");
    let wanted = |package: &&Value| package["name"] == name && package["primaryPackagePurpose"] == purpose;
    packages.iter().find(wanted).expect("it is in the document")
}

/// The URLs were compared with those of packageurl-python 0.17.
#[test]
fn what_is_installed_is_listed_with_where_it_comes_from() -> Result<()> {
    let document: Value = serde_json::from_str(&made(STATUS, packages(), &ROLES)?)?;
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
    assert_eq!(library["homepage"], "https://gcc.gnu.org/");
    let tool = find(&document, "mkosi", "APPLICATION");
    assert!(
        tool.get("externalRefs").is_none(),
        "scanners would take it for installed"
    );
    Ok(())
}

#[test]
fn trees_contain_their_packages_and_files_come_out_of_theirs() -> Result<()> {
    let document: Value = serde_json::from_str(&made(STATUS, packages(), &ROLES)?)?;
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
        (login, "STATIC_LINK", find(&document, "glibc", "SOURCE")),
        (login, "DEPENDS_ON", find(&document, "libstdc++6", "INSTALL")),
        (
            find(&document, "mkosi", "APPLICATION"),
            "BUILD_TOOL_OF",
            find(&document, "disk.raw", "ARCHIVE"),
        ),
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
    let [disk, uki, root, initrd, kernel, _] = ROLES;
    let roles = [
        disk,
        uki,
        root,
        initrd,
        kernel,
        ("OVMF.fd", Role::Firmware { package: "other" }),
    ];
    let report = refusal(made(STATUS, packages(), &roles));
    assert!(
        report.contains("OVMF.fd comes from the package other, which is not locked"),
        "{report}"
    );
}

fn graph(document: &Value) -> &[Value] {
    document["@graph"].as_array().expect("a list")
}

fn named<'a>(list: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let wanted = |element: &&Value| element["type"] == kind && element["name"] == name;
    list.iter()
        .find(wanted)
        .unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// What an element of SPDX 3 is to others, and whether that is all.
fn related<'a>(document: &'a Value, from: &Value, how: &str) -> Vec<(&'a Value, &'a Value)> {
    let wanted = |relation: &&Value| relation["from"] == from["spdxId"] && relation["relationshipType"] == how;
    let relations = graph(document).iter().filter(wanted);
    let to = relations.flat_map(|relation| {
        let to = relation["to"].as_array().expect("a list").iter();
        to.map(|to| (to, &relation["completeness"]))
    });
    to.collect()
}

/// Every text below a value that is under one of these names.
fn references<'a>(value: &'a Value, names: &[&str], found: &mut Vec<&'a str>) {
    let texts = |value: &'a Value| -> Vec<&'a str> {
        let many = value.as_array().into_iter().flatten();
        many.chain([value]).filter_map(Value::as_str).collect()
    };
    if let Some(fields) = value.as_object() {
        let named = fields.iter().filter(|(name, _)| names.contains(&name.as_str()));
        found.extend(named.flat_map(|(_, value)| texts(value)));
        fields.values().for_each(|value| references(value, names, found));
    }
    value
        .as_array()
        .into_iter()
        .flatten()
        .for_each(|value| references(value, names, found));
}

#[test]
fn every_reference_leads_somewhere_and_every_identifier_is_there_once() -> Result<()> {
    let names = [["spdxId", "@id"].as_slice(), &["bom-ref"], &["SPDXID"]];
    let uses = [
        [
            "from",
            "to",
            "createdBy",
            "createdUsing",
            "suppliedBy",
            "originatedBy",
            "rootElement",
            "dataLicense",
            "creationInfo",
        ]
        .as_slice(),
        &["ref", "dependsOn", "dependencies"],
        &["spdxElementId", "relatedSpdxElement"],
    ];
    for ((document, names), uses) in views()?.iter().zip(names).zip(uses) {
        let (mut ids, mut used) = (Vec::new(), Vec::new());
        references(document, names, &mut ids);
        references(document, uses, &mut used);
        let known: BTreeSet<_> = ids.iter().copied().collect();
        assert_eq!(known.len(), ids.len());
        assert!(used.len() > 20);
        let terms = |id: &&&str| id.starts_with("https://spdx.org/rdf/3.0.1/terms/");
        assert_eq!(
            used.iter().filter(|id| !known.contains(*id)).find(|id| !terms(id)),
            None
        );
    }
    Ok(())
}

#[test]
fn what_nobody_knows_is_said_in_every_view() -> Result<()> {
    let [spdx3, cyclonedx, spdx2] = views()?;
    let kernel = named(graph(&spdx3), "software_Package", "linux-image-6.12");
    let none = format!(
        "{}NoAssertionLicense",
        "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/"
    );
    assert_eq!(related(&spdx3, kernel, "hasDeclaredLicense")[0].0, &none);
    assert_eq!(
        related(&spdx3, kernel, "dependsOn").len(),
        0,
        "a kernel is taken apart, not installed"
    );
    let components = cyclonedx["components"].as_array().expect("a list");
    assert_eq!(
        named(components, "library", "linux-image-6.12")["licenses"][0]["license"]["name"],
        NOASSERTION
    );
    assert_eq!(
        find(&spdx2, "linux-image-6.12", "INSTALL")["licenseDeclared"],
        NOASSERTION
    );
    assert_eq!(
        find(&spdx2, "linux-image-6.12", "INSTALL")["originator"],
        "Organization: Debian Kernel Team (debian-kernel@lists.debian.org)"
    );
    Ok(())
}

#[test]
fn licences_are_expressions_and_what_has_no_name_has_its_text() -> Result<()> {
    let [spdx3, cyclonedx, spdx2] = views()?;
    let expression = "GPL-2.0-or-later AND LicenseRef-Debian-login";
    let login = named(graph(&spdx3), "software_Package", "login");
    let licence = graph(&spdx3)
        .iter()
        .find(|it| it["simplelicensing_licenseExpression"] == expression);
    let licence = licence.expect("the expression is an element");
    assert_eq!(related(&spdx3, login, "hasConcludedLicense")[0].0, &licence["spdxId"]);
    let text = named(
        graph(&spdx3),
        "simplelicensing_SimpleLicensingText",
        "LicenseRef-Debian-login",
    );
    assert_eq!(licence["simplelicensing_customIdToUri"][0]["value"], text["spdxId"]);
    assert_eq!(text["simplelicensing_licenseText"], "Do as you please.");
    let components = cyclonedx["components"].as_array().expect("a list");
    assert_eq!(
        named(components, "library", "login")["licenses"][0]["expression"],
        expression
    );
    assert_eq!(find(&spdx2, "login", "INSTALL")["licenseDeclared"], expression);
    assert_eq!(
        spdx2["hasExtractedLicensingInfos"][0]["extractedText"],
        "Do as you please."
    );
    Ok(())
}

/// TR-03183-2, sections 5.2.1 and 5.2.2.
#[test]
fn packages_have_the_fields_that_bsi_asks_for() -> Result<()> {
    let [spdx3, cyclonedx, _] = views()?;
    let login = named(graph(&spdx3), "software_Package", "login");
    let deb = named(graph(&spdx3), "software_File", "login.deb");
    assert_eq!(related(&spdx3, login, "hasDistributionArtifact")[0].0, &deb["spdxId"]);
    assert_eq!(deb["verifiedUsing"][1]["hashValue"], Sha512::of("").to_string());
    assert_eq!(
        deb["software_additionalPurpose"],
        serde_json::json!(["archive", "container"])
    );
    let maintainer = named(graph(&spdx3), "Person", "Chris Hofstaedtler");
    assert_eq!(login["originatedBy"][0], maintainer["spdxId"]);
    assert_eq!(maintainer["externalIdentifier"][0]["identifier"], "zeha@debian.org");
    let author = named(graph(&spdx3), "Organization", "Example");
    assert_eq!(author["externalIdentifier"][0]["identifier"], "image@example.org");
    let components = cyclonedx["components"].as_array().expect("a list");
    let properties = named(components, "library", "login")["properties"]
        .as_array()
        .expect("a list");
    for (name, value) in [
        ("bsi:component:filename", "login.deb"),
        ("bsi:component:executable", "non-executable"),
        ("bsi:component:archive", "archive"),
        ("bsi:component:structured", "structured"),
        ("syft:metadata:source", "util-linux"),
        ("aquasecurity:trivy:SrcVersion", "2.41"),
        ("aquasecurity:trivy:SrcRelease", "5"),
    ] {
        assert!(
            properties.contains(&serde_json::json!({ "name": name, "value": value })),
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn dependencies_are_those_that_are_there_and_say_whether_they_are_all() -> Result<()> {
    let of_login = |status: &str| -> Result<(usize, Value)> {
        let case = Case {
            status,
            ..Case::default()
        };
        let document = serde_json::from_str(&case.make()?.spdx3)?;
        let found = related(
            &document,
            named(graph(&document), "software_Package", "login"),
            "dependsOn",
        );
        Ok((found.len(), found[0].1.clone()))
    };
    assert_eq!(of_login(STATUS)?, (1, "complete".into()));
    let (count, completeness) = of_login(&STATUS.replace("libstdc++6 (>= 14)", "libstdc++6 (>= 14), libc6"))?;
    assert_eq!((count, completeness), (1, "incomplete".into()));
    let provided = STATUS
        .replace("(>= 14)", "(>= 14), cxx (= 2)")
        .replace("Source: gcc", "Provides: cxx (= 2)\nSource: gcc");
    assert_eq!(of_login(&provided)?, (1, "complete".into()));
    Ok(())
}

#[test]
fn a_package_without_dependencies_says_so() -> Result<()> {
    let [spdx3, cyclonedx, _] = views()?;
    let library = named(graph(&spdx3), "software_Package", "libstdc++6");
    let none = "https://spdx.org/rdf/3.0.1/terms/Core/NoneElement";
    assert_eq!(
        related(&spdx3, library, "dependsOn"),
        [(&none.into(), &"complete".into())]
    );
    let components = cyclonedx["components"].as_array().expect("a list");
    let id = &named(components, "library", "libstdc++6")["bom-ref"];
    let complete = cyclonedx["compositions"][0]["dependencies"].as_array().expect("a list");
    assert_eq!(cyclonedx["compositions"][0]["aggregate"], "complete");
    assert!(complete.contains(id));
    Ok(())
}

#[test]
fn files_are_in_their_image_and_of_their_package() -> Result<()> {
    let [spdx3, cyclonedx, _] = views()?;
    let file = |name| named(graph(&spdx3), "software_File", name);
    let holds = |from: &Value, how: &str, to: &Value| {
        related(&spdx3, from, how)
            .iter()
            .any(|(found, _)| **found == to["spdxId"])
    };
    let login = named(graph(&spdx3), "software_Package", "login");
    assert!(holds(file("rootfs.erofs"), "contains", file("/usr/bin/login")));
    assert!(holds(file("initrd.cpio.zst"), "contains", file("/etc/issue")));
    assert!(holds(login, "contains", file("/usr/bin/login")));
    assert!(!holds(login, "contains", file("/etc/ld.so.cache")));
    assert!(holds(file("mkosi.extra/etc/issue"), "copiedTo", file("/etc/issue")));
    let made = graph(&spdx3)
        .iter()
        .find(|it| it["comment"] == "generated: ld-cache")
        .expect("it says how it was made");
    assert_eq!(made["to"][0], file("/etc/ld.so.cache")["spdxId"]);
    let components = cyclonedx["components"].as_array().expect("a list");
    let unowned = |name| components.iter().any(|component| component["name"] == name);
    assert!(unowned("/etc/ld.so.cache") && unowned("/etc/issue"));
    assert!(!unowned("/usr/bin/login") && !unowned("/usr/bin"));
    Ok(())
}

#[test]
fn a_payload_is_a_component_that_contains_its_files() -> Result<()> {
    let [spdx3, cyclonedx, spdx2] = views()?;
    let agent = named(graph(&spdx3), "software_Package", "kata-agent");
    let root = named(graph(&spdx3), "software_File", "rootfs.erofs");
    let file = named(graph(&spdx3), "software_File", "/usr/bin/kata-agent");
    let holds = |from: &Value, to: &Value| {
        related(&spdx3, from, "contains")
            .iter()
            .any(|(found, _)| **found == to["spdxId"])
    };
    assert!(holds(root, agent) && holds(agent, file));
    let components = cyclonedx["components"].as_array().expect("a list");
    let licence = &named(components, "application", "kata-agent")["licenses"][0];
    assert_eq!(licence["expression"], "Apache-2.0");
    assert_eq!(find(&spdx2, "kata-agent", "INSTALL")["licenseDeclared"], "Apache-2.0");
    Ok(())
}

/// BSI TR-03183-2, section 5.2.2: executable, archive, structured.
#[test]
fn a_payload_runs_or_is_an_archive_or_neither() -> Result<()> {
    for (kind, name, forms, purposes) in [
        (
            payload::Kind::Software,
            "application",
            ["executable", "no archive", "unstructured"],
            &["firmware", "executable"][..],
        ),
        (
            payload::Kind::Data,
            "data",
            ["non-executable", "archive", "structured"],
            &["archive", "container"],
        ),
        (
            payload::Kind::Model,
            "machine-learning-model",
            ["non-executable", "no archive", "unstructured"],
            &["firmware"],
        ),
    ] {
        let [spdx3, cyclonedx, _] = views_of(&Case {
            payload: (file::ROOT, kind),
            ..Case::default()
        })?;
        let component = named(cyclonedx["components"].as_array().expect("a list"), name, "kata-agent");
        let properties = component["properties"].as_array().expect("a list");
        let found: Vec<_> = properties[1..4].iter().map(|property| &property["value"]).collect();
        assert_eq!(found, forms);
        let file = named(graph(&spdx3), "software_File", "kata-agent");
        assert_eq!(file["software_additionalPurpose"], serde_json::json!(purposes));
    }
    Ok(())
}

#[test]
fn a_model_is_a_model_in_its_volume_and_the_disk_has_the_volume_with_its_tree() -> Result<()> {
    const IMAGE: &str = "volume-model.erofs";
    const TREE: &str = "volume-model.verity";
    let roles = [
        &ROLES[..],
        &[(IMAGE, Role::Volume), (TREE, Role::VolumeVerity { image: IMAGE })],
    ]
    .concat();
    let case = Case {
        roles: &roles,
        payload: (IMAGE, payload::Kind::Model),
        ..Case::default()
    };
    let [spdx3, cyclonedx, spdx2] = views_of(&case)?;
    let file = |name| named(graph(&spdx3), "software_File", name);
    let model = named(graph(&spdx3), "software_Package", "kata-agent");
    let is = |from: &Value, how: &str, to: &Value| {
        let related = related(&spdx3, from, how);
        related.iter().any(|(found, _)| **found == to["spdxId"])
    };
    assert!(is(file(IMAGE), "contains", model) && !is(file(file::ROOT), "contains", model));
    assert!(is(file(file::DISK), "contains", file(IMAGE)) && is(file(file::DISK), "contains", file(TREE)));
    assert!(is(file(IMAGE), "generates", file(TREE)));
    assert_eq!(model["software_primaryPurpose"], "model");
    named(
        cyclonedx["components"].as_array().expect("a list"),
        "machine-learning-model",
        "kata-agent",
    );
    find(&spdx2, "kata-agent", "OTHER");
    find(&spdx2, IMAGE, "ARCHIVE");
    Ok(())
}

#[test]
fn payloads_and_crates_have_their_own_suppliers_in_every_view() -> Result<()> {
    let [spdx3, cyclonedx, spdx2] = views()?;
    let components = cyclonedx["components"].as_array().expect("a list");
    for (name, supplier, contact) in [
        ("kata-agent", "Kata Containers", "https://katacontainers.io/"),
        ("serde", "The Rust package registry", "https://www.rust-lang.org/"),
    ] {
        let package = named(graph(&spdx3), "software_Package", name);
        let agent = named(graph(&spdx3), "Organization", supplier);
        assert_eq!(package["suppliedBy"], agent["spdxId"]);
        let component = components.iter().find(|one| one["name"] == name);
        let component = component.expect("a component");
        assert_eq!(component["supplier"]["name"], supplier);
        assert_eq!(component["supplier"]["url"], serde_json::json!([contact]));
        let package = spdx2["packages"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["name"] == name);
        let package = package.expect("a package");
        assert_eq!(
            package["supplier"],
            format!("Organization: {supplier}"),
            "SPDX 2.3 has room for a mail address only"
        );
    }
    let source = &find(&spdx2, "kata-agent", "SOURCE")["supplier"];
    assert_eq!(source, "Organization: Kata Containers", "what it is compiled from, too");
    Ok(())
}

#[test]
fn a_crate_is_linked_into_its_program_in_every_view() -> Result<()> {
    let [spdx3, cyclonedx, spdx2] = views()?;
    let agent = named(graph(&spdx3), "software_Package", "kata-agent");
    let serde = named(graph(&spdx3), "software_Package", "serde");
    assert_eq!(serde["software_packageUrl"], "pkg:cargo/serde@1.0.0");
    let linked = related(&spdx3, agent, "hasStaticLink");
    assert!(linked.iter().any(|(to, _)| **to == serde["spdxId"]));
    let components = cyclonedx["components"].as_array().expect("components");
    let reference = |url: &str| {
        components
            .iter()
            .find(|one| one["purl"] == url)
            .map(|one| &one["bom-ref"])
    };
    let (serde, agent) = (
        reference("pkg:cargo/serde@1.0.0"),
        reference("pkg:github/kata-containers/kata-containers@3.2"),
    );
    let mut dependencies = cyclonedx["dependencies"].as_array().into_iter().flatten();
    let on = dependencies
        .find(|one| Some(&one["ref"]) == agent)
        .map(|one| &one["dependsOn"]);
    assert!(
        on.and_then(Value::as_array)
            .is_some_and(|on| on.iter().any(|one| Some(one) == serde))
    );
    let mut relations = spdx2["relationships"].as_array().into_iter().flatten();
    assert!(relations.any(|one| {
        let crates = one["relatedSpdxElement"]
            .as_str()
            .is_some_and(|id| id.contains("crate-serde"));
        one["relationshipType"] == "STATIC_LINK" && crates
    }));
    Ok(())
}

/// Whatever a crate of the build asks serde_json to do with them.
#[test]
fn keys_are_sorted_in_every_view() -> Result<()> {
    let documents = Case::default().make()?;
    for text in [documents.spdx3, documents.cyclonedx, documents.spdx2] {
        assert_eq!(crate::model::json_of(serde_json::from_str(&text)?), text);
    }
    Ok(())
}

#[test]
fn the_other_views_name_the_digest_of_the_one_that_lists_files() -> Result<()> {
    let documents = Case::default().make()?;
    let digest = Sha256::of(&documents.spdx3).to_string();
    assert!(documents.cyclonedx.contains(&digest));
    assert!(documents.spdx2.contains(&digest));
    Ok(())
}

/// A section that is an artifact is not listed again.
#[test]
fn the_uki_contains_its_sections_and_a_stub() -> Result<()> {
    let [spdx3, ..] = views()?;
    let uki = named(graph(&spdx3), "software_File", "uki.efi");
    let contains = related(&spdx3, uki, "contains");
    let id = |name| &named(graph(&spdx3), "software_File", name)["spdxId"];
    let held = |name| contains.iter().any(|(to, _)| *to == id(name));
    assert!(held("vmlinuz") && held("initrd.cpio.zst") && held(".sbat"));
    assert!(graph(&spdx3).iter().all(|element| element["name"] != ".linux"));
    let stub = named(graph(&spdx3), "software_Package", "systemd-boot-efi");
    assert_eq!(related(&spdx3, stub, "copiedTo")[0].0, &uki["spdxId"]);
    Ok(())
}

#[test]
fn a_file_of_another_image_or_package_is_refused() {
    let refused = |from: &str, to: &str| {
        let mut case = Case::default();
        let line = serde_json::to_string(&case.contents[1]).expect("it is one");
        case.contents[1] = serde_json::from_str(&line.replace(from, to)).expect("still a line");
        refusal(case.make())
    };
    let report = refused("rootfs.erofs", "other.erofs");
    assert!(
        report.contains("/usr/bin/login of other.erofs is of an image that is not"),
        "{report}"
    );
    let (login, other) = (Sha256::of("login").to_string(), Sha256::of("other").to_string());
    let report = refused(&login, &other);
    assert!(
        report.contains("is of a package that is not in the release"),
        "{report}"
    );
}

#[test]
fn dependencies_that_cannot_be_read_are_refused() {
    let case = Case {
        status: &STATUS.replace("libstdc++6 (>= 14)", "libstdc++6 (>= "),
        ..Case::default()
    };
    let report = refusal(case.make());
    assert!(
        report.contains("login 1:4.16.0-2+really2.41-5 amd64 is installed and says what cannot be"),
        "{report}"
    );
}

#[test]
fn identifiers_derive_from_content() -> Result<()> {
    let one = Case::default().make()?;
    assert_eq!(Case::default().make()?, one);
    let serial = |text: &str| -> Result<Value> { Ok(serde_json::from_str::<Value>(text)?["serialNumber"].clone()) };
    let [disk, uki, root, initrd, kernel, firmware] = ROLES;
    let roles = [
        disk,
        uki,
        root,
        initrd,
        kernel,
        firmware,
        ("cmdline", Role::CommandLine),
    ];
    let other = Case {
        roles: &roles,
        ..Case::default()
    };
    assert_ne!(serial(&other.make()?.cyclonedx)?, serial(&one.cyclonedx)?);
    Ok(())
}

#[test]
fn a_crate_without_authors_is_of_its_project_and_one_without_a_page_of_nobody() {
    let author = |author: Option<&str>, page: Option<&str>| {
        let one = Crate {
            author: author.map(String::from),
            homepage: page.map(String::from),
            ..serde()
        };
        agent::Agent::author(&one).map(|agent| (agent.name.to_owned(), agent.contact.map(String::from)))
    };
    let page = Some("https://serde.rs/");
    let known = |name: &str, contact: Option<&str>| Some((name.to_owned(), contact.map(String::from)));
    assert_eq!(author(None, page), known("serde", page));
    assert_eq!(author(None, None), None);
    assert_eq!(author(Some("A. Person"), page), known("A. Person", page));
    let mail = known("A. Person", Some("a@example.org"));
    assert_eq!(author(Some("A. Person <a@example.org>"), page), mail);
}
