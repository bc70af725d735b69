//! Certificates that a guest trusts: those of packages, of the recipe and of payloads, and no others.

use std::collections::BTreeSet;

use super::image::{Image, Outcome, destination};
use crate::model::contents::{Kind, Node};

/// Where certificates are, of packages and of the administrator.
const FOLDERS: [&str; 2] = ["/usr/share/ca-certificates/", "/usr/local/share/ca-certificates/"];

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";

/// Looks at the file of all certificates that are trusted.
pub(super) fn bundle(image: &Image<'_>, node: &Node) -> Outcome {
    let known: BTreeSet<String> = certificates(image).into_iter().flat_map(blocks).collect();
    let text = image.text(&node.path)?;
    let blocks = blocks(text);
    let whole: usize = blocks.iter().map(String::len).sum();
    let bare: usize = text.split_whitespace().map(str::len).sum();
    if whole != bare {
        return Err("it has something besides certificates".into());
    }
    match blocks.iter().zip(1..).find(|(block, _)| !known.contains(*block)) {
        Some((_, number)) => Err(format!("no package has certificate {number} of it")),
        None => Ok(()),
    }
}

/// Looks at what is selected: names of certificates.
pub(super) fn selected(image: &Image<'_>, node: &Node) -> Outcome {
    let names = image
        .text(&node.path)?
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut names = names.map(|name| name.trim_start_matches('!'));
    match names.find(|name| !image.is_owned(&format!("{}{name}", FOLDERS[0]))) {
        Some(name) => Err(format!("no package has the certificate {name}")),
        None => Ok(()),
    }
}

/// Looks at a link to a certificate: by its name, or by the digest of its subject, as OpenSSL looks for it.
pub(super) fn link(image: &Image<'_>, node: &Node) -> Outcome {
    let Kind::Symlink { target } = &node.kind else {
        return Err("it is not a link".into());
    };
    let to = destination(&node.path, target);
    let to = image.resolve(&to).ok_or_else(|| format!("{to} is not in the image"))?;
    match FOLDERS.iter().any(|folder| to.starts_with(folder)) && image.owned.contains(to) {
        true => Ok(()),
        false => Err(format!("{to} is not a certificate of a package")),
    }
}

fn certificates<'a>(image: &Image<'a>) -> Vec<&'a str> {
    let files = FOLDERS.iter().flat_map(|folder| image.owned_below(folder));
    files.map(|(_, text)| text).collect()
}

/// The certificates in a text, without spaces.
fn blocks(text: &str) -> Vec<String> {
    let blocks = text.split(BEGIN).skip(1);
    let bare = |block: &str| block.split_whitespace().collect::<String>();
    blocks.map(|block| bare(BEGIN) + &bare(block)).collect()
}
