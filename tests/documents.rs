//! What verifiers are told is made again: whoever replaces a document, a part or a name under a new manifest is found out,
//! and told which it is. Tests are named after what was done.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod whole;

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use builder::model::release::{FileName, MANIFEST, Manifest, Stamp};
use builder::stage::finding::Finding;
use builder::stage::signatures::Demand;
use builder::stage::verify::verify_whole;
use measure::Sha256;
use tempfile::TempDir;

/// A release that somebody changes, with a manifest that is made to fit.
struct Forged {
    parent: TempDir,
    manifest: Manifest,
}

impl Forged {
    fn new() -> Self {
        static TRUE: LazyLock<(TempDir, Manifest)> = LazyLock::new(|| {
            let parent = tempfile::tempdir().unwrap();
            let manifest = whole::publish(&parent.path().join("small"));
            (parent, manifest)
        });
        let (base, manifest) = &*TRUE;
        let parent = tempfile::tempdir_in(base.path()).unwrap();
        fs::create_dir(parent.path().join("small")).unwrap();
        for name in manifest.files.keys().map(FileName::as_str) {
            let copy = parent.path().join("small").join(name);
            fs::copy(base.path().join("small").join(name), copy).unwrap();
        }
        let manifest = manifest.clone();
        Self { parent, manifest }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.parent.path().join("small").join(name)
    }

    /// Writes a file, and its digest into the manifest.
    fn put(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let stamp = Stamp {
            sha256: Sha256::of(bytes),
            size: bytes.len() as u64,
        };
        fs::write(self.path(name), bytes).unwrap();
        if name == "recipe.lock" {
            self.manifest.origin.lock = stamp.sha256;
        }
        let name = FileName::try_from(name.to_owned()).unwrap();
        self.manifest.files.insert(name, stamp);
    }

    fn edit(&mut self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let before = fs::read(self.path(name)).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        assert_ne!(bytes, before, "{name}");
        self.put(name, bytes);
    }

    fn remove(&mut self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
        let name = FileName::try_from(name.to_owned()).unwrap();
        self.manifest.files.remove(&name).unwrap();
    }

    fn found(&self) -> Vec<Finding> {
        fs::write(self.path(MANIFEST), self.manifest.text()).unwrap();
        let demand = Demand {
            key: None,
            at: "2026-11-15T12:00:00Z".parse().unwrap(),
        };
        let verdict = verify_whole(&self.parent.path().join("small"), None, &demand).unwrap();
        verdict.findings
    }

    fn says(&self) -> String {
        let said = self
            .found()
            .into_iter()
            .map(|finding| format!("{}: {finding}\n", finding.code()));
        said.collect()
    }
}

/// What is found where the first byte that can be another one is, in each file of the release alone.
#[test]
fn attack_any_file_of_a_release_under_a_new_manifest() {
    let honest = Forged::new();
    assert_eq!(honest.says(), "");
    let not_without_packages = builder::stage::derived::OF_IMAGES;
    for name in honest.manifest.files.keys().map(FileName::as_str) {
        let mut forged = Forged::new();
        forged.edit(name, |bytes| {
            let last = bytes.len() - 2;
            bytes[last] ^= 1;
        });
        let said = forged.says();
        if not_without_packages.contains(&name) {
            assert_eq!(said, "", "{name}: it is compared with the images by sbom check");
        } else {
            assert_ne!(said, "", "{name}");
        }
    }
}

#[test]
fn attack_a_document_for_verifiers_that_says_something_else() {
    for name in [
        "configmap.yaml",
        "image.buildinfo",
        "measurements.json",
        "platform.toml",
        "policy.rego",
        "recipe.lock",
        "reference-values.json",
        "reference.corim",
        "rvps-message.json",
    ] {
        let mut forged = Forged::new();
        forged.edit(name, |bytes| bytes.push(b'\n'));
        let said = forged.says();
        let end = forged
            .manifest
            .files
            .iter()
            .find(|(file, _)| file.as_str() == name)
            .unwrap()
            .1
            .size
            - 1;
        let wanted = format!("made-otherwise: {name} is not what the rest of the release leads to, from byte {end} on");
        assert!(said.contains(&wanted), "{name}: {said}");
    }
}

#[test]
fn attack_a_policy_that_takes_any_launch() {
    let mut forged = Forged::new();
    forged.put("policy.rego", "package policy\nexecutables := 3\n");
    assert_eq!(
        forged.says(),
        "made-otherwise: policy.rego is not what the rest of the release leads to, from byte 0 on\n"
    );
}

#[test]
fn attack_another_recipe_beside_the_archive() {
    let mut forged = Forged::new();
    forged.edit("recipe.toml", |bytes| bytes.extend(b"# evil\n"));
    assert_eq!(
        forged.says(),
        "recipe-unreadable: what the release was made from cannot be read: recipe.toml is not that of recipe.tar\n"
    );
}

#[test]
fn attack_a_manifest_that_names_another_origin() {
    for (field, change) in [
        (
            "name",
            (|manifest| manifest.origin.name = "other".to_owned().try_into().unwrap()) as fn(&mut Manifest),
        ),
        ("epoch", |manifest| {
            manifest.origin.epoch = "2027-01-01T00:00:00Z".parse().unwrap()
        }),
        ("recipe", |manifest| manifest.origin.recipe = Sha256::of("evil")),
    ] {
        let mut forged = Forged::new();
        change(&mut forged.manifest);
        let said = forged.says();
        assert!(said.starts_with("origin-differs: the manifest says "), "{said}");
        assert!(
            said.contains(&format!(" for {field}, ")) && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn attack_a_file_that_no_release_has_or_one_that_is_left_out() {
    let names: Vec<String> = Forged::new().manifest.files.keys().map(ToString::to_string).collect();
    for name in names {
        let mut forged = Forged::new();
        forged.remove(&name);
        let said = forged.says();
        assert!(said.contains(&name), "{name}: {said}");
    }
    let mut forged = Forged::new();
    forged.put("evil.sh", "#!/bin/sh\n");
    assert_eq!(
        forged.says(),
        "part-unknown: the manifest lists \"evil.sh\", which no release of this recipe has\n"
    );
}
