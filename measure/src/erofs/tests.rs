//! The images are made by `mkfs.erofs` of erofs-utils 1.8.6, of trees whose times are all 1600000000:
//!
//! - `seed`: `mkfs.erofs --mkfs-time -T1700000000 -U00112233-4455-6677-8899-aabbccddeeff -zlz4hc,9 -C65536`, of a tree
//!   that `tests.txt` describes as lstat, listxattr and SHA-256 of CPython saw it.
//! - `chunks`: `mkfs.erofs -T1700000000 -U… --chunksize=4096`, of one file of 9000 bytes, the start of
//!   SHA-256("") | SHA-256(SHA-256("")) | …

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::inode::Layout;
use super::*;
use crate::Sha256;

const SEED: &[u8] = include_bytes!("../../../tests/fuzz/corpus/erofs/seed");
const CHUNKS: &[u8] = include_bytes!("../../../tests/fuzz/corpus/erofs/chunks");
const TREE: &str = include_str!("tests.txt");

/// One path a line: path, mode, owner, group, links but of directories, what it is, extended attributes.
fn text(image: &[u8]) -> Result<String, ErofsError> {
    let image = Erofs::read(image)?;
    let lines = image.walk()?.into_iter().map(|node| {
        let inode = &node.inode;
        let links = if inode.kind == Kind::Directory { 0 } else { inode.links };
        let xattrs = inode.xattrs.iter();
        let xattrs = xattrs.map(|(name, value)| format!("{}={}", name.escape_ascii(), hex(value)));
        let xattrs = xattrs.collect::<Vec<_>>().join(" ");
        let (path, mode, uid, gid) = (node.path.escape_ascii(), inode.mode, inode.uid, inode.gid);
        let kind = kind(&image, inode)?;
        Ok(format!("{path} {mode:o} {uid} {gid} {links} {kind} {xattrs}\n"))
    });
    lines.collect()
}

fn kind(image: &Erofs<'_, [u8]>, inode: &Inode) -> Result<String, ErofsError> {
    Ok(match &inode.kind {
        Kind::File { size } => {
            let mut bytes = Vec::new();
            image.content(inode, |piece| bytes.extend_from_slice(piece))?;
            assert_eq!(bytes.len() as u64, *size);
            format!("f {size} {}", Sha256::of(bytes))
        }
        Kind::Directory => "d".into(),
        Kind::Symlink { target } => format!("l {}", target.escape_ascii()),
        Kind::CharacterDevice { major, minor } => format!("c {major},{minor}"),
        Kind::BlockDevice { major, minor } => format!("b {major},{minor}"),
        Kind::Fifo => "p".into(),
        Kind::Socket => "s".into(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The image with other bytes at these offsets, and a checksum that holds again.
fn changed(image: &[u8], changes: &[(u64, &[u8])]) -> Vec<u8> {
    let mut image = image.to_vec();
    for (offset, bytes) in changes {
        image[*offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }
    image[1028..1032].fill(0);
    let checksum = !crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&image[1024..4096]);
    image[1028..1032].copy_from_slice(&checksum.to_le_bytes());
    image
}

fn inode(path: &str) -> Inode {
    let nodes = Erofs::read(SEED).unwrap().walk().unwrap();
    let node = nodes.into_iter().find(|node| node.path == path.as_bytes()).unwrap();
    Inode::clone(&node.inode)
}

/// Where the entry of a name lies in its directory, which is behind its inode, and where the name does.
fn entry(directory: &str, name: &str) -> (u64, u64) {
    let data = inode(directory).data;
    assert_eq!((data.layout, data.size < 4096), (Layout::Inline, true));
    let bytes = &SEED[data.end as usize..][..data.size as usize];
    let name_at = bytes
        .windows(name.len())
        .position(|found| found == name.as_bytes())
        .unwrap();
    let entry = (0..)
        .step_by(12)
        .find(|at| bytes[at + 8..at + 10] == (name_at as u16).to_le_bytes());
    (data.end + entry.unwrap() as u64, data.end + name_at as u64)
}

fn refused(changes: &[(u64, &[u8])], because: &str) {
    let error = text(&changed(SEED, changes)).unwrap_err().to_string();
    assert!(error.contains(because), "{because}: {error}");
}

#[test]
fn an_image_is_read_as_the_tree_it_was_made_of() {
    assert_eq!(text(SEED).unwrap(), TREE);
    assert_eq!(changed(SEED, &[]), SEED);
}

#[test]
fn chunks_are_read_where_they_are() {
    let file = "/random 644 0 0 1 f 9000 ";
    let found = text(CHUNKS).unwrap();
    let line = found.lines().find(|line| line.starts_with(file)).unwrap();
    let (mut block, mut expected) = (Vec::new(), Vec::new());
    while expected.len() < 9000 {
        block = Sha256::of(&block).bytes().to_vec();
        expected.extend_from_slice(&block);
    }
    assert_eq!(line.trim_end(), format!("{file}{}", Sha256::of(&expected[..9000])));
}

#[test]
fn an_image_has_no_slack_but_what_somebody_hid() {
    let slack = |image: &[u8]| {
        let image = Erofs::read(image).unwrap();
        image.slack(&image.walk()?)
    };
    assert_eq!(slack(SEED).unwrap(), []);
    assert_eq!(slack(CHUNKS).unwrap(), []);
    let hidden = slack(&changed(SEED, &[(100, b"hidden")])).unwrap();
    assert_eq!((hidden.len(), &hidden[0]), (1, &(0..1024)));
    let small = inode("/etc/small").data;
    let padding = small.end + small.size;
    assert_eq!(padding % 32, 6);
    assert_eq!(slack(&changed(SEED, &[(padding, &[b'x'; 26])])).unwrap(), []);
    let hidden = slack(&changed(SEED, &[(padding + 26, b"x")]));
    assert!(hidden.is_err() || hidden.is_ok_and(|found| !found.is_empty()));
    let behind: Vec<u8> = [SEED, b"hidden"].concat();
    let end = SEED.len() as u64;
    assert_eq!(slack(&behind).unwrap().last().unwrap().end, end + 6);
}

#[test]
fn a_path_taken_out_of_its_directory_is_missed() {
    let x2 = inode("/usr/bin/x2");
    let (at, _) = entry("/usr/bin", "x3");
    refused(&[(at, &x2.nid.to_le_bytes())], "it has 2 paths and says 1");
}

#[test]
fn a_second_path_of_a_file_that_says_it_has_one_is_refused() {
    let (wine, _) = entry("/usr/bin", "wine");
    let nid = inode("/usr/bin/x0").nid.to_le_bytes();
    refused(&[(wine, &nid)], "paths and says");
}

#[test]
fn loops_of_directories_are_refused() {
    let (empty, _) = entry("/etc", "empty");
    for loops in ["/", "/etc", "/usr"] {
        refused(
            &[(empty, &inode(loops).nid.to_le_bytes())],
            "a second path of a directory",
        );
    }
}

#[test]
fn dots_that_lead_elsewhere_are_refused() {
    let elsewhere = inode("/usr/bin").nid.to_le_bytes();
    for dots in ["..", "."] {
        let data = inode("/etc").data;
        let at = data.end + 12 * (dots.len() as u64 - 1);
        refused(&[(at, &elsewhere)], "its . or .. is missing or leads elsewhere");
    }
}

#[test]
fn names_that_are_no_names_are_refused() {
    let (_, name) = entry("/etc", "empty");
    refused(&[(name + 1, b"/")], "it has the name");
    refused(&[(name + 1, b"\0")], "it has the name");
}

#[test]
fn names_that_are_not_sorted_or_twice_are_refused() {
    let (_, x1) = entry("/usr/bin", "x1");
    for other in [b"x2", b"x9", b"x0"] {
        refused(&[(x1, other)], "its names are not sorted, or not unique");
    }
}

#[test]
fn an_entry_that_lies_about_the_type_is_refused() {
    let (small, _) = entry("/etc", "small");
    refused(&[(small + 10, &[7])], "it says that /etc/small is of the type 7");
}

#[test]
fn sizes_beyond_the_image_are_refused() {
    for path in ["/usr/bin/beer", "/etc/random", "/etc/small", "/etc/link", "/etc"] {
        let data = inode(path).data;
        for size in [u64::MAX, 1 << 40, 1 << 20] {
            // An extended inode has eight bytes of size, a compact one four.
            let size = &size.to_le_bytes()[..if SEED[data.start as usize] & 1 == 1 { 8 } else { 4 }];
            assert!(text(&changed(SEED, &[(data.start + 8, size)])).is_err(), "{path}");
        }
    }
}

#[test]
fn a_compressed_file_whose_size_lies_is_another_or_none() {
    let data = inode("/usr/bin/beer").data;
    assert_eq!(data.layout, Layout::Compressed);
    for size in [data.size - 1, data.size + 1] {
        let size = (size as u32).to_le_bytes();
        let found = text(&changed(SEED, &[(data.start + 8, &size)]));
        assert!(found.is_err() || found.is_ok_and(|found| found != TREE), "{size:?}");
    }
}

#[test]
fn features_are_refused_by_their_names() {
    for (bit, name) in [
        (4, "ZTAILPACKING"),
        (5, "FRAGMENTS"),
        (6, "XATTR_PREFIXES"),
        (7, "48BIT"),
        (8, "0x100"),
    ] {
        let features = (3_u32 | 1 << bit).to_le_bytes();
        refused(&[(1024 + 80, &features)], name);
    }
}

#[test]
fn a_superblock_that_was_changed_is_refused() {
    for at in 1024..1152 {
        let mut image = SEED.to_vec();
        image[at] ^= 1;
        assert!(
            matches!(Erofs::read(&image[..]), Err(ErofsError::Superblock(_))),
            "{at}"
        );
    }
}

#[test]
fn an_image_that_was_cut_is_refused() {
    for length in [0, 1024, 1151, 4095, SEED.len() - 1] {
        assert!(Erofs::read(&SEED[..length]).is_err());
    }
}

proptest! {
    #[test]
    fn no_change_makes_the_reader_panic(changes in proptest::collection::vec((1024..SEED.len(), any::<u8>()), 1..6)) {
        let changes: Vec<_> = changes.iter().map(|(at, byte)| (*at as u64, [*byte])).collect();
        let changes: Vec<_> = changes.iter().map(|(at, byte)| (*at, &byte[..])).collect();
        let image = changed(SEED, &changes);
        if let Ok(image) = Erofs::read(&image[..])
            && let Ok(nodes) = image.walk()
        {
            let _ = image.slack(&nodes);
            nodes.iter().for_each(|node| drop(image.content(&node.inode, |_| {})));
        }
    }
}

#[test]
fn what_is_reserved_is_zero() {
    let (x0, bin) = (inode("/usr/bin/x0").data.start, inode("/usr/bin").data.end);
    for at in [x0 + 6, x0 + 0x30, x0 + 0x3f, x0 + 0x45, bin + 11] {
        refused(&[(at, &[1])], "reserved");
    }
}
