use std::string::ToString as _;

use proptest::prelude::*;

use super::*;

/// An archive of GNU cpio 2.13: `find . | LC_ALL=C sort | cpio -o -H newc --reproducible`, of `tests.txt`.
const SEED: &[u8] = include_bytes!("../../../tests/fuzz/corpus/cpio/seed");
const TREE: &str = include_str!("tests.txt");

fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, CpioError> {
    let mut archives = Archives::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = archives.next_entry()? {
        let mut content = Vec::new();
        archives.content(|piece| content.extend_from_slice(piece))?;
        entries.push((entry, content));
    }
    Ok(entries)
}

/// A line as `tests.txt` has them: path, mode, owner, group and what it is; content for whom has it.
fn line((entry, content): &(Entry, Vec<u8>)) -> String {
    let (path, mode, uid, gid) = (entry.path.escape_ascii(), entry.mode, entry.uid, entry.gid);
    let content = content.escape_ascii();
    let kind = match &entry.kind {
        Kind::File { size, link: None } => format!("f {size} {content}"),
        Kind::File { size, link: Some(link) } => format!("f {size} {content} = {}", link.escape_ascii()),
        Kind::Directory => "d".into(),
        Kind::Symlink { target } => format!("l {}", target.escape_ascii()),
        Kind::CharacterDevice { major, minor } => format!("c {major},{minor}"),
        Kind::BlockDevice { major, minor } => format!("b {major},{minor}"),
        Kind::Fifo => "p".into(),
        Kind::Socket => "s".into(),
    };
    format!("{path} {mode:o} {uid} {gid} {kind}\n")
}

fn text(bytes: &[u8]) -> String {
    read(bytes).unwrap().iter().map(line).collect()
}

/// What is told of an entry, so that one line makes another.
#[derive(Clone, Copy)]
struct Raw<'a> {
    name: &'a [u8],
    mode: u32,
    inode: u32,
    links: u32,
    content: &'a [u8],
}

const FILE: Raw<'_> = Raw {
    name: b"file",
    mode: 0o100_644,
    inode: 1,
    links: 1,
    content: b"text",
};
const FOLDER: Raw<'_> = Raw {
    name: b"folder",
    mode: 0o040_755,
    content: b"",
    ..FILE
};
const END: Raw<'_> = Raw {
    name: TRAILER,
    mode: 0,
    content: b"",
    ..FILE
};

fn archive(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let (inode, mode, links) = (entry.inode, entry.mode, entry.links);
        let (size, name) = (entry.content.len(), entry.name.len() + 1);
        let header = format!(
            "070701{inode:08x}{mode:08x}{:016x}{links:08x}{:08x}{size:08x}{:032x}{name:08x}{:08x}",
            0, 0, 0, 0
        );
        for part in [&[header.as_bytes(), entry.name, b"\0"].concat(), entry.content] {
            bytes.extend_from_slice(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

fn refused(entries: &[Raw<'_>], because: &str) {
    let error = read(&archive(&[entries, &[END]].concat())).unwrap_err().to_string();
    assert!(error.contains(because), "{because}: {error}");
}

#[test]
fn an_archive_is_read_as_the_tree_it_was_made_of() {
    assert_eq!(text(SEED), TREE);
}

#[test]
fn several_archives_are_one_tree() {
    let first = archive(&[FOLDER, END]);
    let second = archive(&[
        Raw {
            name: b"folder/file",
            ..FILE
        },
        END,
    ]);
    let between = [&first[..], &[0; 512], &second, &[0; 3]].concat();
    assert_eq!(text(&between), "/folder 755 0 0 d\n/folder/file 644 0 0 f 4 text\n");
    assert_eq!(text(&[first.clone(), second.clone()].concat()), text(&between));
    let error = read(&[&first[..], &[0; 2], &second].concat()).unwrap_err();
    assert!(error.to_string().contains("not at a multiple of four"), "{error}");
    assert_eq!(text(&[]), "");
}

#[test]
fn a_second_archive_cannot_replace_what_is_there() {
    let both = [
        archive(&[FILE, END]),
        archive(&[
            Raw {
                content: b"other",
                ..FILE
            },
            END,
        ]),
    ]
    .concat();
    assert!(read(&both).unwrap_err().to_string().contains("is there twice"));
    for name in [&b"./file"[..], b"/file"] {
        refused(&[FILE, Raw { name, ..FILE }], "is there twice");
    }
}

#[test]
fn paths_that_escape_are_refused() {
    for name in [
        &b".."[..],
        b"../file",
        b"a/../../file",
        b"folder/./file",
        b"//file",
        b"file/",
        b"./",
        b"./.",
    ] {
        refused(&[FOLDER, Raw { name, ..FILE }], "has a part that is empty, . or ..");
    }
    refused(
        &[Raw {
            name: &[b'x'; 256],
            ..FILE
        }],
        "more than 255 bytes",
    );
    refused(
        &[Raw {
            name: &[b'x'; 4096],
            ..FILE
        }],
        "its name has 4097 bytes",
    );
    refused(&[Raw { name: b"", ..FILE }], "its name has 1 bytes");
    refused(&[Raw { name: b"a\0b", ..FILE }], "does not end at its NUL");
}

#[test]
fn a_file_below_a_link_is_refused() {
    let link = Raw {
        name: b"folder",
        mode: 0o120_777,
        content: b"etc",
        ..FILE
    };
    let file = Raw {
        name: b"folder/file",
        ..FILE
    };
    refused(&[link, file], "is in no folder");
    refused(&[file], "is in no folder");
    refused(
        &[
            FILE,
            Raw {
                name: b"file/file",
                ..FILE
            },
        ],
        "is in no folder",
    );
}

#[test]
fn of_links_one_has_the_content() {
    let first = Raw { links: 2, ..FILE };
    let second = Raw { name: b"g", ..first };
    let empty = |raw| Raw { content: b"", ..raw };
    let (a, b) = ("/file 644 0 0 f", "/g 644 0 0 f");
    assert_eq!(
        text(&archive(&[empty(first), second, END])),
        format!("{a} 0 \n{b} 4 text = /file\n")
    );
    assert_eq!(
        text(&archive(&[first, empty(second), END])),
        format!("{a} 4 text\n{b} 0  = /file\n")
    );
    refused(&[first, second], "is a link with content, as another was");
    refused(
        &[
            first,
            empty(Raw {
                mode: 0o100_755,
                ..second
            }),
        ],
        "another mode, owner or time",
    );
    let apart = [archive(&[first, END]), archive(&[second, END])].concat();
    assert_eq!(text(&apart), format!("{a} 4 text\n{b} 4 text\n"));
}

#[test]
fn what_the_kernel_would_skip_is_refused() {
    refused(
        &[Raw {
            content: b"x",
            ..FOLDER
        }],
        "has content and is no file",
    );
    refused(
        &[Raw {
            mode: 0o020_600,
            content: b"",
            links: 2,
            ..FILE
        }],
        "is a link of what is no file",
    );
    refused(&[Raw { mode: 0o644, ..FILE }], "its mode is 644");
    refused(
        &[Raw {
            mode: 0o1_100_644,
            ..FILE
        }],
        "its mode is 1100644",
    );
    refused(
        &[Raw {
            mode: 0o120_777,
            content: b"",
            ..FILE
        }],
        "its target has 0 bytes",
    );
    refused(
        &[Raw {
            mode: 0o120_777,
            content: &[b'x'; 4096],
            ..FILE
        }],
        "its target has 4096 bytes",
    );
    refused(
        &[Raw {
            mode: 0o120_777,
            content: b"a\0b",
            ..FILE
        }],
        "its target has a NUL",
    );
    refused(
        &[Raw { name: TRAILER, ..FILE }],
        "a trailer has the mode 100644 and 4 bytes",
    );
}

#[test]
fn an_archive_that_was_cut_is_refused() {
    for length in 1..SEED.len() {
        let cut = read(&SEED[..length]);
        let rest = &SEED[length..];
        assert!(cut.is_err() || rest.iter().all(|byte| *byte == 0), "{length}");
    }
}

#[test]
fn bytes_between_entries_are_refused() {
    let mut bytes = archive(&[Raw { content: b"x", ..FILE }, END]);
    let at = bytes.windows(4).position(|found| found == b"x\0\0\0").unwrap();
    bytes[at + 2] = b'h';
    let error = read(&bytes).unwrap_err().to_string();
    assert!(error.contains("bytes where there should be zeros"), "{error}");
}

proptest! {
    #[test]
    fn no_change_makes_the_reader_panic(changes in proptest::collection::vec((0..SEED.len(), any::<u8>()), 1..6)) {
        let mut bytes = SEED.to_vec();
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        let _ = read(&bytes);
    }

    #[test]
    fn any_entry_comes_back(content in proptest::collection::vec(any::<u8>(), 0..300), mode in 0_u32..0o10_000) {
        let mode = 0o100_000 | mode;
        let read = read(&archive(&[Raw { content: &content, mode, ..FILE }, END])).unwrap();
        prop_assert_eq!(&read[0].1, &content);
        prop_assert_eq!(u32::from(read[0].0.mode), mode & 0o7777);
        prop_assert_eq!(read.len(), 1);
    }
}
