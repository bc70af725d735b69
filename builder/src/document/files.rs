//! `files.jsonl`: every path of the images of a release, one JSON object a line, sorted by image and path.
//!
//! A list has one text only: anything else of the same paths is refused, and with it paths that are listed twice.

use anyhow::{Context as _, Result, ensure};

use crate::model::contents::Content;

/// Returns the text of the file.
pub fn text(contents: &[Content]) -> String {
    let mut sorted: Vec<&Content> = contents.iter().collect();
    sorted.sort_by_key(|content| key(content));
    sorted.into_iter().map(|content| line(content) + "\n").collect()
}

/// Reads the text of the file.
///
/// # Errors
/// A line that is not the one text of its path, is out of order, or names a path again.
pub fn parse(text: &str) -> Result<Vec<Content>> {
    let lines = text.split_inclusive('\n').zip(1..);
    let contents = lines.map(|(text, number)| parse_line(text).with_context(|| format!("line {number}")));
    let contents: Vec<Content> = contents.collect::<Result<_>>()?;
    for pair in contents.windows(2) {
        let path = &pair[1].node.path;
        ensure!(key(&pair[0]) < key(&pair[1]), "{path} is out of order, or there twice");
    }
    Ok(contents)
}

fn parse_line(text: &str) -> Result<Content> {
    let content: Content = serde_json::from_str(text)?;
    ensure!(line(&content) + "\n" == text, "it is not in its canonical form");
    Ok(content)
}

fn line(content: &Content) -> String {
    let mut value = serde_json::to_value(content).expect("keys are text and nothing is a float");
    value.sort_all_objects();
    value.to_string()
}

fn key(content: &Content) -> (&str, &str) {
    (&content.node.image.0, &content.node.path)
}
