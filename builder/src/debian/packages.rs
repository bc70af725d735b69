//! `Packages`: what an archive has, for amd64 and for every architecture.

use std::io::Read as _;

use anyhow::Result;
use lzma_rust2::XzReader;
use measure::Sha256;

use super::deb822;
use crate::mend::{Exit, OrMend as _};
use crate::model::lock::leaves_its_folder;

/// A binary package as its archive describes it; texts are slices of the index.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    pub archive: &'a str,
    pub name: &'a str,
    pub version: &'a str,
    pub architecture: &'a str,
    /// The source package, where its name or version differ from the binary's.
    pub source: Option<&'a str>,
    pub essential: bool,
    /// Required packages come before important ones, and so on: the order among packages that provide the same.
    pub priority: usize,
    pub depends: &'a str,
    pub pre_depends: &'a str,
    pub conflicts: &'a str,
    pub breaks: &'a str,
    pub provides: &'a str,
    /// Path below the archive's root.
    pub path: &'a str,
    /// Size of the `.deb` in bytes.
    pub size: u64,
    pub sha256: Sha256,
}

/// Debian Policy 2.5, the first being the most wanted; what is missing or unknown comes last.
const PRIORITIES: [&str; 5] = ["required", "important", "standard", "optional", "extra"];

/// As much memory as the highest level of `xz` asks for, in KiB, and some.
const XZ_MEMORY: u32 = 128 << 10;

const MEND: &str = "try another mirror: --mirror, or mirrors of the suite in recipe.toml";

/// Decompresses an index; `size` is what its `Release` says that it unpacks to, in bytes.
///
/// # Errors
/// Bytes that are not xz, another size than said, text that is not UTF-8.
pub fn decompress(index: &[u8], size: u64) -> Result<String> {
    let mut bytes = Vec::new();
    XzReader::new_mem_limit(index, true, XZ_MEMORY)
        .take(size.saturating_add(1))
        .read_to_end(&mut bytes)
        .or_mend(Exit::LockMismatch, "cannot unpack Packages.xz", MEND)?;
    if bytes.len() as u64 != size {
        let problem = format!("Packages.xz does not unpack to the {size} bytes that its Release says");
        return Err(Exit::LockMismatch.because(problem, MEND));
    }
    String::from_utf8(bytes).or_mend(Exit::LockMismatch, "cannot read Packages", MEND)
}

/// Reads an index.
///
/// # Errors
/// A package without name, version, architecture, path, size or SHA-256, or with one that cannot be right.
pub fn parse<'a>(archive: &'a str, index: &'a str) -> Result<Vec<Package<'a>>> {
    deb822::stanzas(index).map(|stanza| package(archive, stanza)).collect()
}

fn package<'a>(archive: &'a str, stanza: &'a str) -> Result<Package<'a>> {
    let mut package = Package {
        archive,
        name: "",
        version: "",
        architecture: "",
        source: None,
        essential: false,
        priority: PRIORITIES.len(),
        depends: "",
        pre_depends: "",
        conflicts: "",
        breaks: "",
        provides: "",
        path: "",
        size: 0,
        sha256: Sha256::ZERO,
    };
    let mut digest = "";
    for (name, value) in deb822::fields(stanza) {
        match name {
            "Architecture" => package.architecture = value,
            "Breaks" => package.breaks = value,
            "Conflicts" => package.conflicts = value,
            "Depends" => package.depends = value,
            "Essential" => package.essential = value == "yes",
            "Filename" => package.path = value,
            "Package" => package.name = value,
            "Pre-Depends" => package.pre_depends = value,
            "Priority" => package.priority = priority(value),
            "Provides" => package.provides = value,
            "SHA256" => digest = value,
            "Size" => package.size = value.parse().unwrap_or(0),
            "Source" => package.source = Some(value),
            "Version" => package.version = value,
            _ => {}
        }
    }
    let sha256 = digest.parse().ok().filter(|_| is_sound(&package));
    let problem = || format!("Packages of {archive} has an entry that cannot be right: {stanza:.200}");
    package.sha256 = sha256.ok_or_else(|| Exit::LockMismatch.because(problem(), MEND))?;
    Ok(package)
}

fn priority(name: &str) -> usize {
    PRIORITIES
        .iter()
        .position(|known| *known == name)
        .unwrap_or(PRIORITIES.len())
}

/// Debian Policy 5.6.1, 5.6.8 and 5.6.12, and a path that stays in the archive.
fn is_sound(package: &Package<'_>) -> bool {
    let made_of = |text: &str, others: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
    };
    made_of(package.name, "+-.")
        && made_of(package.version, "+-.:~")
        && made_of(package.architecture, "-")
        && package.size > 0
        && !leaves_its_folder(package.path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: &str = "Package: hello\nSource: greetings (2)\nVersion: 1:2.10-5\nArchitecture: amd64\nEssential: yes\n\
        Depends: libc6 (>= 2.38)\nPriority: optional\nFilename: pool/h/hello.deb\nSize: 7\n\
        SHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n";

    #[test]
    fn entries_are_read() {
        let index = format!(
            "{HELLO}\n{}",
            HELLO.replace("hello", "goodbye").replace("Essential: yes\n", "")
        );
        let packages = parse("debian", &index).unwrap();
        assert_eq!((packages[0].name, packages[1].name), ("hello", "goodbye"));
        assert_eq!((packages[0].essential, packages[1].essential), (true, false));
        assert_eq!(packages[0].source, Some("greetings (2)"));
        assert_eq!((packages[0].priority, packages[0].depends), (3, "libc6 (>= 2.38)"));
    }

    #[test]
    fn a_path_cannot_leave_the_archive() {
        for (from, to) in [
            ("pool/h", "../h"),
            ("pool/h", "/h"),
            ("Package: hello", "Package: ../hello"),
            ("Package: hello\n", ""),
            ("Size: 7", "Size: many"),
            ("e3b0", "zzzz"),
        ] {
            let index = HELLO.replacen(from, to, 1);
            assert_ne!(index, HELLO);
            assert!(parse("debian", &index).is_err(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in ".*", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse("debian", &text);
            let _ = decompress(&bytes, 100);
            let _ = decompress(&[&b"\xfd7zXZ\0"[..], &bytes].concat(), 100);
        }
    }
}
