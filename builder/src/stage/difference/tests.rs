use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use measure::Sha256;

use super::*;
use crate::image::cpio::{Archive, Node, Owner};
use crate::model::release::{Origin, Stamp};

fn manifest(folder: &Path) -> Manifest {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let stamped = names.map(|name| {
        let name = name.into_string().unwrap();
        let bytes = fs::read(folder.join(&name)).unwrap();
        let stamp = Stamp {
            sha256: Sha256::of(&bytes),
            size: bytes.len() as u64,
        };
        (FileName::try_from(name).unwrap(), stamp)
    });
    Manifest {
        origin: Origin {
            name: "minimal".to_owned().try_into().unwrap(),
            epoch: jiff::Timestamp::UNIX_EPOCH,
            recipe: Sha256::of("recipe"),
            lock: Sha256::of("lock"),
        },
        files: stamped.collect::<BTreeMap<_, _>>(),
    }
}

/// An initrd with one file.
fn initrd(content: &str, mode: u16) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut archive = Archive::new(&mut plain, 0).unwrap();
    let owner = |mode| Owner { uid: 0, gid: 0, mode };
    archive.append(b"etc", owner(0o755), Node::Directory).unwrap();
    let file = Node::File {
        size: content.len() as u64,
        content: &mut content.as_bytes(),
    };
    archive.append(b"etc/planted", owner(mode), file).unwrap();
    archive.finish().unwrap();
    ruzstd::encoding::compress_to_vec(plain.as_slice(), ruzstd::encoding::CompressionLevel::Uncompressed)
}

fn said(one: &[(&str, &[u8])], other: &[(&str, &[u8])]) -> Vec<String> {
    let folders = [one, other].map(|files| {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    });
    let manifests = folders.each_ref().map(|folder| manifest(folder.path()));
    let [one, other] = folders.each_ref().map(|folder| OnDisk::open(folder.path()).unwrap());
    let found = compare((&one, &manifests[0]), (&other, &manifests[1]));
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_path_in_an_initrd_is_named() {
    let name = file::INITRD;
    assert_eq!(
        said(
            &[("cmdline", b"a=1 b"), (name, &initrd("at 1789171200\n", 0o644))],
            &[("cmdline", b"a=2 b"), (name, &initrd("at 1789171999\n", 0o600))],
        ),
        [
            "initrd.cpio.zst: /etc/planted: content, mode 0644 and 0600; it looks like a time stamp",
            "cmdline: from byte 2 on; 5 and 5 bytes",
        ]
    );
}

#[test]
fn a_file_that_one_release_has_not_is_named() {
    let found = said(&[("a", b"a"), ("b", b"b")], &[("a", b"a"), ("c", b"c")]);
    assert_eq!(found, ["b: only one of them has it", "c: only one of them has it"]);
}

#[test]
fn damaged_images_differ_without_a_place() {
    for name in [file::ROOT, file::INITRD, file::DISK] {
        let found = said(&[(name, b"one")], &[(name, b"other")]);
        assert!(
            found[0].starts_with(&format!("{name}: cannot say where: ")),
            "{found:?}"
        );
    }
}
