//! `files.jsonl`: every path of the images of a release, one JSON object a line, sorted by image and path.
//!
//! A list has one text only: anything else of the same paths is refused, and with it paths that are listed twice.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::model::contents::{Content, Kind, escape, unescape};

/// Returns the text of the file.
pub fn text(contents: &[Content]) -> String {
    let mut sorted: Vec<&Content> = contents.iter().collect();
    sorted.sort_by_key(|content| key(content));
    sorted.into_iter().map(|content| line(content) + "\n").collect()
}

/// Reads the text of the file.
///
/// # Errors
/// A line that is not the one text of its path, is out of order, names a path again, or a hard link of nothing.
pub fn parse(text: &str) -> Result<Vec<Content>> {
    let lines = text.split_inclusive('\n').zip(1..);
    let contents = lines.map(|(text, number)| parse_line(text).with_context(|| format!("line {number}")));
    let contents: Vec<Content> = contents.collect::<Result<_>>()?;
    for pair in contents.windows(2) {
        let path = &pair[1].node.path;
        ensure!(key(&pair[0]) < key(&pair[1]), "{path} is out of order, or there twice");
    }
    check_links(&contents)?;
    Ok(contents)
}

fn parse_line(text: &str) -> Result<Content> {
    let content: Content = serde_json::from_str(text)?;
    ensure!(line(&content) + "\n" == text, "it is not in its canonical form");
    let path = &content.node.path;
    let canonical = unescape(path).is_some_and(|bytes| bytes.starts_with(b"/") && escape(&bytes) == *path);
    ensure!(canonical, "{path} is not absolute, or escaped where it need not be");
    Ok(content)
}

/// The first path of a file comes before its others, is no other itself, and has the same content.
fn check_links(contents: &[Content]) -> Result<()> {
    let mut first = BTreeMap::new();
    for content in contents {
        let Kind::File { same_as, .. } = &content.node.kind else {
            continue;
        };
        let (image, path) = key(content);
        let Some(other) = same_as else {
            first.insert((image, path), &content.node.kind);
            continue;
        };
        let same = first.get(&(image, other.as_str()));
        let same = same.is_some_and(|kind| kind.is_same(&content.node.kind));
        ensure!(same, "{path} is said to be {other}, which is no such file");
    }
    Ok(())
}

fn line(content: &Content) -> String {
    let mut value = serde_json::to_value(content).expect("keys are text and nothing is a float");
    value.sort_all_objects();
    value.to_string()
}

fn key(content: &Content) -> (&str, &str) {
    (&content.node.image.0, &content.node.path)
}

#[cfg(test)]
mod tests {
    use measure::Sha256;
    use proptest::prelude::*;

    use super::*;
    use crate::model::contents::{Image, Node, Origin};

    /// Written by hand, after the page of the model.
    const TEXT: &str = concat!(
        r#"{"gid":0,"image":"initrd.cpio.zst","mode":"0755","origin":{"from":"unexplained"},"path":"/","type":"directory","uid":0}"#,
        "\n",
        r#"{"gid":0,"image":"rootfs.erofs","mode":"4755","origin":{"from":"package","name":"sudo","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"path":"/a","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"type":"file","uid":0,"xattrs":{"user.a":"AA=="}}"#,
        "\n",
        r#"{"gid":0,"image":"rootfs.erofs","mode":"0644","origin":{"class":"x","from":"generated"},"path":"/b","same_as":"/a","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0,"type":"file","uid":1}"#,
        "\n",
        r#"{"gid":0,"image":"rootfs.erofs","major":5,"minor":1,"mode":"0600","origin":{"from":"allowed"},"path":"/dev","type":"character-device","uid":0}"#,
        "\n",
        r#"{"gid":0,"image":"rootfs.erofs","mode":"0777","origin":{"from":"recipe","path":"link"},"path":"/l\\\\\\xff","target":"/a","type":"symlink","uid":0}"#,
        "\n",
    );

    fn refused_line(from: &str, to: &str) {
        let text = TEXT.replacen(from, to, 1);
        assert_ne!(text, TEXT, "{from}");
        assert!(parse(&text).is_err(), "{to}");
    }

    #[test]
    fn what_is_written_is_read() {
        let contents = parse(TEXT).unwrap();
        assert_eq!(contents.len(), 5);
        assert_eq!(text(&contents), TEXT);
        let turned: Vec<_> = contents.iter().rev().cloned().collect();
        assert_eq!(text(&turned), TEXT);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn a_line_that_was_changed_by_hand_is_refused() {
        for (from, to) in [
            (r#"{"gid":0"#, r#"{"gid": 0"#),
            (r#"{"gid":0"#, r#"{"extra":1,"gid":0"#),
            (r#"{"gid":0"#, r#"{"gid":1,"gid":0"#),
            (r#""from":"unexplained""#, r#""from":"unexplained","name":"x""#),
            (r#""from":"unexplained""#, r#""from":"nobody""#),
            (r#""mode":"0755""#, r#""mode":"755""#),
            (r#""mode":"0755""#, r#""mode":"17777""#),
            (r#""path":"/""#, r#""path":"\/""#),
            (r#""path":"/""#, r#""path":"etc""#),
            (r#""path":"/a""#, r#""path":"/\\a""#),
            (r#""path":"/a""#, r#""path":"/\\x41""#),
            (r#""size":0"#, r#""size":0.0"#),
            (r#""size":0"#, r#""size":-1"#),
            (r#""type":"directory""#, r#""type":"folder""#),
            (r#""type":"directory""#, r#""target":"/","type":"directory""#),
            ("\n", "\n\n"),
            ("\n", "\r\n"),
        ] {
            refused_line(from, to);
        }
        assert!(parse(TEXT.trim_end()).is_err());
    }

    #[test]
    fn a_path_that_is_twice_or_in_another_order_is_refused() {
        let lines: Vec<&str> = TEXT.split_inclusive('\n').collect();
        assert!(parse(&[lines[0], lines[0]].concat()).is_err());
        assert!(parse(&[lines[1], lines[0]].concat()).is_err());
        assert!(parse(&[lines[3], lines[1]].concat()).is_err());
    }

    #[test]
    fn a_link_to_what_is_no_such_file_is_refused() {
        refused_line(r#""same_as":"/a""#, r#""same_as":"/b""#);
        refused_line(r#""same_as":"/a""#, r#""same_as":"/dev""#);
        refused_line(r#""size":0,"type":"file","uid":1"#, r#""size":1,"type":"file","uid":1"#);
    }

    proptest! {
        #[test]
        fn any_path_comes_back(path in proptest::collection::vec(any::<u8>(), 0..20), mode in 0_u16..0o10000) {
            let path = escape(&[b"/", &path[..]].concat());
            let kind = Kind::File { size: u64::MAX, sha256: Sha256::ZERO, same_as: None };
            let image = Image("rootfs.erofs".into());
            let node = Node { image, path, kind, mode, uid: u32::MAX, gid: 0, xattrs: BTreeMap::new() };
            let content = Content { node, origin: Origin::Unexplained };
            prop_assert_eq!(parse(&text(std::slice::from_ref(&content))).unwrap(), [content]);
        }

        #[test]
        fn no_text_makes_the_reader_panic(at in 0..TEXT.len(), with in "\\PC") {
            let at = (0..=at).rev().find(|at| TEXT.is_char_boundary(*at)).unwrap_or_default();
            let _ = parse(&[&TEXT[..at], &with, &TEXT[at..]].concat());
        }
    }
}
