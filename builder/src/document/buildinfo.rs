//! `image.buildinfo`: what an image was built from and with, for tools of the reproducible-builds project:
//! deb-buildinfo(5) of dpkg 1.23, format 1.0.
//!
//! It is reproduced like the image, so it names neither the host nor the day of the build.

use std::fmt::Write as _;

use jiff::tz::TimeZone;

use crate::model::Lock;
use crate::model::lock::Package;
use crate::model::recipe::Recipe;
use crate::model::release::{FileName, Stamp};

/// The name of the file in a release.
pub use crate::model::file::BUILDINFO as FILE;

/// Images are built for this architecture, by tools of the same one.
const ARCHITECTURE: &str = "amd64";

/// Returns the text of the file: `recipe` and `lock` made `artifacts`.
pub fn text<'a>(
    recipe: &Recipe,
    lock: &Lock,
    artifacts: impl IntoIterator<Item = (&'a FileName, &'a Stamp)>,
) -> String {
    let name = &recipe.name;
    let mut text = format!("Format: 1.0\nSource: {name}\nBinary: {name}\nArchitecture: {ARCHITECTURE}\n");
    let _ = writeln!(text, "Version: {}", version(recipe, lock));
    text += "Checksums-Sha256:\n";
    for (name, Stamp { sha256, size }) in artifacts {
        let _ = writeln!(text, " {sha256} {size} {name}");
    }
    let _ = writeln!(text, "Build-Architecture: {ARCHITECTURE}");
    let tools: Vec<String> = lock.tools().map(relation).collect();
    let _ = writeln!(text, "Installed-Build-Depends:\n {}", tools.join(",\n "));
    let _ = writeln!(
        text,
        "Environment:\n LC_ALL=\"C.UTF-8\"\n SOURCE_DATE_EPOCH=\"{}\"",
        recipe.epoch.as_second()
    );
    text
}

/// The day of the recipe's epoch, and the lock: a version that dpkg can compare.
fn version(recipe: &Recipe, lock: &Lock) -> String {
    let day = recipe.epoch.to_zoned(TimeZone::UTC).strftime("%Y%m%d");
    format!("{day}+{:.12}", lock.digest())
}

fn relation(package: &Package) -> String {
    format!("{} (= {})", package.name, package.version)
}

#[cfg(test)]
mod tests {
    use measure::Sha256;

    use super::*;
    use crate::model::lock::Tree;

    fn package(name: &str, version: &str, tree: Tree) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            source: None,
            sha256: Sha256::of(name),
            size: 1,
            archive: "debian".into(),
            path: format!("pool/{name}.deb"),
            why: [(tree, "asked for".to_owned())].into(),
        }
    }

    #[test]
    fn tools_are_what_was_installed_and_images_what_was_built() {
        let recipe = Recipe::parse(include_str!("../../../recipes/minimal/recipe.toml")).unwrap();
        let packages = vec![
            package("mkosi", "25.3-5", Tree::Tools),
            package("apt", "3.0.3", Tree::Tools),
            package("systemd", "257.8-1", Tree::Root),
        ];
        let lock = Lock::new(Sha256::of("recipe"), Vec::new(), packages, Vec::new());
        let name = FileName::try_from("vmlinuz".to_owned()).unwrap();
        let stamp = Stamp {
            sha256: Sha256::of("abc"),
            size: 3,
        };
        let text = text(&recipe, &lock, [(&name, &stamp)]);
        assert_eq!(
            text,
            format!(
                "Format: 1.0\n\
                 Source: minimal\n\
                 Binary: minimal\n\
                 Architecture: amd64\n\
                 Version: 20260912+{:.12}\n\
                 Checksums-Sha256:\n \
                 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 3 vmlinuz\n\
                 Build-Architecture: amd64\n\
                 Installed-Build-Depends:\n \
                 apt (= 3.0.3),\n \
                 mkosi (= 25.3-5)\n\
                 Environment:\n \
                 LC_ALL=\"C.UTF-8\"\n \
                 SOURCE_DATE_EPOCH=\"1789171200\"\n",
                lock.digest()
            )
        );
    }
}
