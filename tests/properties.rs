//! Parsers of outside bytes, given any bytes: they answer or refuse, and what they accept keeps its laws.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod archive;

use std::fs;
use std::path::Path;

use archive::{Deb, Signer, trixie};
use builder::debian::deb::{self, Part};
use builder::debian::members::Members;
use builder::model::lock::{Lock, Package, Source};
use builder::model::release::Manifest;
use builder::world::{mirror::Mirror, unpack};
use measure::Sha256;
use proptest::collection::vec;
use proptest::prelude::*;
use tar::{Archive, EntryType};

/// A small text with some of its bytes changed, and cut somewhere.
fn changed(text: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = text.len();
    let changes = vec((0..length, any::<u8>()), 0..4);
    (changes, 0..=length, any::<bool>()).prop_map(move |(changes, end, cut)| {
        let mut text = text.clone();
        for (at, byte) in changes {
            text[at] = byte;
        }
        text.truncate(if cut { end } else { length });
        text
    })
}

fn lock() -> Lock {
    let deb = Deb::new("guest", "");
    let package = Package {
        name: deb.name.clone(),
        version: deb.version.clone(),
        architecture: "amd64".into(),
        source: None,
        sha256: Sha256::of("guest"),
        size: 10,
        archive: "debian".into(),
        path: "pool/main/guest_1_amd64.deb".into(),
        why: [].into(),
    };
    let source = Source {
        path: "recipe.toml".into(),
        sha256: Sha256::of("recipe"),
        size: 6,
        executable: true,
    };
    Lock::new(Sha256::of("folder"), Vec::new(), vec![package], vec![source])
}

fn manifest() -> String {
    let digest = Sha256::of("");
    format!(
        "{{\n  \"epoch\": \"2026-09-12T00:00:00Z\",\n  \"files\": [\n    {{\n      \"name\": \"a/b\",\n      \
         \"sha256\": \"{digest}\",\n      \"size\": 3\n    }}\n  ],\n  \"lock\": \"{digest}\",\n  \"name\": \"a\",\n  \
         \"recipe\": \"{digest}\",\n  \"version\": 1\n}}\n"
    )
}

fn leaves(path: &str) -> bool {
    path.starts_with('/') || path.split('/').any(|part| part == "..")
}

/// Paths and targets that try to get out.
fn path() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec!["a", "b", "c", "..", ".", "", "usr"]);
    vec(parts, 1..5).prop_map(|parts| parts.join("/"))
}

fn members() -> impl Strategy<Value = Vec<(String, u8, String)>> {
    let kinds = prop::sample::select(b"0000055512123467xgKL".to_vec());
    vec((path(), kinds, path()), 1..12)
}

fn tarred(members: &[(String, u8, String)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, target) in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(EntryType::new(*kind));
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        bytes.extend(header.as_bytes());
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Unpacks beside a file that must stay what it is.
fn stays_inside(unpack: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir(&inside).unwrap();
    fs::write(folder.path().join("a"), "precious").unwrap();
    unpack(&inside);
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a", "inside"]);
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"precious");
}

#[test]
fn what_is_changed_is_accepted_as_it_is() {
    assert_eq!(Lock::parse(&lock().text()).unwrap(), lock());
    assert_eq!(Manifest::parse(&manifest()).unwrap().text(), manifest());
    assert!(trixie().files(&Signer::new(1)).len() > 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_lock_of_any_text(text in changed(lock().text().into_bytes())) {
        if let Ok(lock) = Lock::parse(&String::from_utf8_lossy(&text)) {
            prop_assert_eq!(&Lock::parse(&lock.text()).unwrap(), &lock);
            prop_assert!(!lock.package.iter().any(|package| leaves(&package.path)));
            prop_assert!(!lock.source.iter().any(|source| leaves(&source.path)));
        }
    }

    #[test]
    fn a_manifest_of_any_text_has_one_text(text in changed(manifest().into_bytes())) {
        let text = String::from_utf8_lossy(&text);
        if let Ok(manifest) = Manifest::parse(&text) {
            prop_assert_eq!(manifest.text(), text);
            prop_assert!(!manifest.files.keys().any(|name| leaves(name.as_str())));
        }
    }

    #[test]
    fn a_mirror_of_any_text(text in "(debian=)?(http|https|file|ftp)?(://)?\\PC{0,12}") {
        let _ = text.parse::<Mirror>();
    }

    #[test]
    fn a_package_of_any_bytes(bytes in changed(Deb::new("guest", "").bytes())) {
        let _ = Members::read(&bytes);
        let _ = deb::extract_file(&bytes, "/usr/share/doc/guest/copyright");
        stays_inside(|inside| {
            if let Ok(mut data) = deb::part(&bytes[..], Part::Data) {
                let _ = unpack::unpack(&mut data, inside);
            }
        });
    }

    #[test]
    fn members_of_any_name_and_kind_stay_inside(members in members()) {
        stays_inside(|inside| drop(unpack::unpack(&mut Archive::new(&tarred(&members)[..]), inside)));
    }
}
