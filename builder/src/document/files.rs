//! `files.jsonl`: a JSON object a line for every path of the guest's images.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::mend::Exit;
use crate::model::contents::{Content, Kind, Node, escape, unescape};

/// Returns the text: lines sorted by image and path, keys sorted, no spaces, a newline behind each line.
pub fn text(contents: &[Content]) -> String {
    let mut contents: Vec<&Content> = contents.iter().collect();
    contents.sort_by(|a, b| place(a).cmp(&place(b)));
    contents.into_iter().map(line).collect()
}

/// Reads the text; what [`text`] would not write is refused.
///
/// # Errors
/// A line that is no object of the form, or has another key; paths that are not sorted, or twice; a hard link of
/// nothing.
pub fn read(text: &str) -> Result<Vec<Content>> {
    let mut contents: Vec<Content> = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let content = read_line(line).with_context(|| format!("line {} cannot be read", index + 1))?;
        if contents.last().is_some_and(|last| place(last) >= place(&content)) {
            let Node { image, path, .. } = &content.node;
            return Err(refused(format!(
                "line {}, {path} of {}, is twice or not in its order",
                index + 1,
                image.0
            )));
        }
        contents.push(content);
    }
    check_links(&contents)?;
    Ok(contents)
}

fn place(content: &Content) -> (&str, &str) {
    (&content.node.image.0, &content.node.path)
}

fn line(content: &Content) -> String {
    let mut value = serde_json::to_value(content).expect("keys are text and nothing is a float");
    value.sort_all_objects();
    format!("{value}\n")
}

/// An unknown key, another order or a space is lost on the way, so that the line comes back as another.
fn read_line(text: &str) -> Result<Content> {
    let content: Content = serde_json::from_str::<Value>(text).and_then(serde_json::from_value)?;
    let path = &content.node.path;
    if unescape(path).is_none_or(|bytes| escape(&bytes) != *path || !path.starts_with('/')) {
        return Err(refused(format!(
            "{path:?} is no absolute path with \\xHH for what is no UTF-8"
        )));
    }
    match line(&content) == text {
        true => Ok(content),
        false => Err(refused(
            "it has a key that is unknown or twice, or is not written as begat writes it",
        )),
    }
}

/// The first path of a file is before its others, says nothing itself, and has the same content.
fn check_links(contents: &[Content]) -> Result<()> {
    let mut files = BTreeMap::new();
    for content in contents {
        let Kind::File { same_as, .. } = &content.node.kind else {
            continue;
        };
        match same_as {
            None => drop(files.insert(place(content), &content.node.kind)),
            Some(first) => {
                let (image, path) = place(content);
                let same = files.get(&(image, first.as_str()));
                if !same.is_some_and(|same| same.is_same(&content.node.kind)) {
                    return Err(refused(format!(
                        "{path} of {image} is said to be {first}, which is no such file"
                    )));
                }
            }
        }
    }
    Ok(())
}

fn refused(problem: impl std::fmt::Display) -> anyhow::Error {
    Exit::No.because(problem, "do not use the release: build it anew")
}

#[cfg(test)]
mod tests {
    use measure::Sha256;
    use proptest::prelude::*;

    use super::*;
    use crate::model::contents::{Image, Origin};

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
        assert!(read(&text).is_err(), "{to}");
    }

    #[test]
    fn what_is_written_is_read() {
        let contents = read(TEXT).unwrap();
        assert_eq!(contents.len(), 5);
        assert_eq!(text(&contents), TEXT);
        let turned: Vec<_> = contents.iter().rev().cloned().collect();
        assert_eq!(text(&turned), TEXT);
        assert_eq!(read("").unwrap(), []);
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
        assert!(read(TEXT.trim_end()).is_err());
    }

    #[test]
    fn a_path_that_is_twice_or_in_another_order_is_refused() {
        let lines: Vec<&str> = TEXT.split_inclusive('\n').collect();
        assert!(read(&[lines[0], lines[0]].concat()).is_err());
        assert!(read(&[lines[1], lines[0]].concat()).is_err());
        assert!(read(&[lines[3], lines[1]].concat()).is_err());
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
            prop_assert_eq!(read(&text(std::slice::from_ref(&content))).unwrap(), [content]);
        }

        #[test]
        fn no_text_makes_the_reader_panic(at in 0..TEXT.len(), with in "\\PC") {
            let at = (0..=at).rev().find(|at| TEXT.is_char_boundary(*at)).unwrap_or_default();
            let _ = read(&[&TEXT[..at], &with, &TEXT[at..]].concat());
        }
    }
}
