//! Tool trees: packages unpacked, not installed. No maintainer script runs; what mkosi needs works without them.
//!
//! A tree is named by what is in it, and verified against its listing at every use. Enter it read-only: a program that
//! writes into it makes the next use unpack it again.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use measure::Sha256;

use super::scratch::Scratch;
use super::{Store, parallel, store, unpack};
use crate::debian::deb::{self, Part};
use crate::mend::Exit;
use crate::model::lock::Package;

/// The version of what [`skeleton`] and [`unpack`] make of the same packages.
const FORMAT: &str = "begat tool tree 2\n";

/// A folder with the programs of some packages.
#[derive(Clone, Debug)]
pub struct ToolTree {
    /// The root of the tree.
    pub path: PathBuf,
    /// The digest of its listing, the same on every host: every path with its mode and content.
    pub listing: Sha256,
}

/// Returns the tree of these packages, unpacked where it is not in the store yet.
///
/// # Errors
/// A package that is not in the store, or has other bytes; two packages with the same file; a store that cannot be
/// written.
pub fn tool_tree(store: &Store, packages: &[&Package]) -> Result<ToolTree> {
    let name = name(packages).to_string();
    let path = store.root().join("trees").join(&name);
    let list = path.with_added_extension("list");
    match verify(&path, &list) {
        Ok(Some(listing)) => return Ok(ToolTree { path, listing }),
        Ok(None) => {}
        Err(difference) => {
            eprintln!(
                "the tool tree {} is damaged and unpacked again: {difference:#}",
                path.display()
            );
            discard(store, &path)?;
        }
    }
    let start = Instant::now();
    let text = make(store, packages, &path, &list)?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("unpacked {} packages in {seconds:.1} s", packages.len());
    let listing = Sha256::of(&text);
    Ok(ToolTree { path, listing })
}

/// Compares a tree with its listing and returns the listing's digest; none where there is no tree.
///
/// # Errors
/// The first path that differs.
fn verify(path: &Path, list: &Path) -> Result<Option<Sha256>> {
    if !path.exists() {
        return Ok(None);
    }
    let expected = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let found = listing(path)?;
    if found == expected {
        return Ok(Some(Sha256::of(found)));
    }
    let (expected, found) = expected
        .lines()
        .map(Some)
        .chain([None])
        .zip(found.lines().map(Some).chain([None]))
        .find(|(expected, found)| expected != found)
        .unwrap_or_default();
    let end = "nothing more";
    let problem = format!("expected {}, found {}", expected.unwrap_or(end), found.unwrap_or(end));
    Err(Exit::LockMismatch.because(problem, format!("remove it: rm -r {}", path.display())))
}

/// The name of a tree: the digest of its packages' digests.
fn name(packages: &[&Package]) -> Sha256 {
    let mut digests: Vec<String> = packages.iter().map(|package| format!("{}\n", package.sha256)).collect();
    digests.sort();
    digests.dedup();
    Sha256::of(format!("{FORMAT}{}", digests.concat()))
}

/// Moves a tree away, so that nobody sees half of it, and removes it.
fn discard(store: &Store, path: &Path) -> Result<()> {
    let grave = scratch(store)?;
    fs::rename(path, grave.path().join("tree")).map_err(|error| store.outside(error, "move", path))
}

fn scratch(store: &Store) -> Result<Scratch> {
    let trees = store.root().join("trees");
    Scratch::new(&trees, ".partial-").map_err(|error| store.outside(error, "write to", &trees))
}

/// Unpacks into a folder of its own, then renames it to `path`; returns the listing.
fn make(store: &Store, packages: &[&Package], path: &Path, list: &Path) -> Result<String> {
    let scratch = scratch(store)?;
    let root = scratch.path().join("tree");
    skeleton(&root).map_err(|error| store.outside(error, "write to", &root))?;
    // Largest first, so that no thread is left alone with it at the end.
    let mut order = packages.to_vec();
    order.sort_by_key(|package| (std::cmp::Reverse(package.size), package.sha256));
    order.dedup_by_key(|package| package.sha256);
    let outcomes = parallel::map(&order, |package| {
        let place = || format!("cannot unpack {} {}", package.name, package.version);
        let bytes = store.bytes(&package.sha256, package.size)?;
        unpack::unpack(&mut deb::part(&bytes[..], Part::Data)?, &root).with_context(place)
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    alternatives(&root).map_err(|error| store.outside(error, "write to", &root))?;
    let text = listing(&root)?;
    publish(&root, path, &text, list).map_err(|error| store.outside(error, "write", path))?;
    Ok(text)
}

/// Where another begat was faster its tree stays, and this one is thrown away.
fn publish(root: &Path, path: &Path, text: &str, list: &Path) -> io::Result<()> {
    let listing = root.with_added_extension("list");
    fs::write(&listing, text)?;
    fs::rename(listing, list)?; // the same text from everybody
    match fs::rename(root, path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(())
        }
        renamed => renamed,
    }
}

/// What is there before any package: merged `/usr`, accounts, and places to mount things on.
fn skeleton(root: &Path) -> io::Result<()> {
    const FOLDERS: [&str; 19] = [
        "",
        "dev",
        "etc",
        "proc",
        "root",
        "run",
        "store",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
        "var",
        "var/cache",
        "var/lib",
        "var/tmp",
        "work",
    ];
    for folder in FOLDERS {
        let sticky = if folder.ends_with("tmp") { 0o1777 } else { 0o755 };
        let folder = root.join(folder);
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, Permissions::from_mode(sticky))?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(Path::new("usr").join(name), root.join(name))?;
    }
    for (name, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        fs::write(root.join(name), text)?;
        fs::set_permissions(root.join(name), Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Commands that a maintainer script would have linked.
fn alternatives(root: &Path) -> io::Result<()> {
    let bin = root.join("usr/bin");
    for (name, program) in [("awk", "mawk"), ("cc", "gcc"), ("which", "which.debianutils")] {
        let link = bin.join(name);
        if bin.join(program).is_file() && link.symlink_metadata().is_err() {
            symlink(program, link)?;
        }
    }
    Ok(())
}

/// One line for each path below `root`, sorted: path, kind and mode, and the digest or the target.
///
/// # Errors
/// A file that cannot be read.
fn listing(root: &Path) -> Result<String> {
    let mut paths = Vec::new();
    walk(root, Path::new(""), &mut paths).with_context(|| format!("cannot read {}", root.display()))?;
    paths.sort_by(|a, b| a.as_os_str().cmp(b.as_os_str()));
    let lines = parallel::map(&paths, |path| {
        line(root, path).with_context(|| format!("cannot read {}", path.display()))
    });
    lines.into_iter().collect()
}

fn walk(root: &Path, folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(root, &path, paths)?;
        }
        paths.push(path);
    }
    Ok(())
}

fn line(root: &Path, path: &Path) -> io::Result<String> {
    let place = root.join(path);
    let metadata = place.symlink_metadata()?;
    let mode = metadata.permissions().mode() & 0o7777;
    Ok(if metadata.is_dir() {
        format!("{path:?} folder {mode:04o}\n")
    } else if metadata.is_symlink() {
        format!("{path:?} link {:?}\n", fs::read_link(place)?)
    } else if metadata.is_file() {
        let sha256 = store::copy_hashed(&mut File::open(place)?, &mut io::sink())?;
        format!("{path:?} file {mode:04o} {sha256}\n")
    } else {
        format!("{path:?} special\n")
    })
}

/// The accounts that Debian's base-passwd gives fixed numbers, as far as tools ask for them.
const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
sys:x:3:3:sys:/dev:/usr/sbin/nologin
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
_apt:x:42:65534::/nonexistent:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";

const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:15:
dialout:x:20:
cdrom:x:24:
tape:x:26:
audio:x:29:
utmp:x:43:
video:x:44:
shadow:x:42:
staff:x:50:
users:x:100:
nogroup:x:65534:
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::thread;

    use super::*;
    use crate::debian::deb::tests::{ar, tar};
    use crate::mend;

    fn package(store: &Store, files: &[(&str, &str)]) -> Package {
        let deb = ar(&[("debian-binary", b"2.0\n"), ("data.tar", &tar(files))]);
        Package {
            name: "tool".into(),
            version: "1".into(),
            architecture: "amd64".into(),
            source: None,
            sha256: store.add(&deb).unwrap(),
            size: deb.len() as u64,
            archive: "debian".into(),
            path: "pool/tool.deb".into(),
            why: BTreeMap::new(),
        }
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    #[test]
    fn packages_share_a_merged_usr() {
        let (_folder, store) = store();
        let a = package(&store, &[("./usr/bin/mawk", "a"), ("./usr/lib/a/x", "x")]);
        let b = package(&store, &[("./bin/b", "b"), ("./lib/a/y", "y")]);
        let tree = tool_tree(&store, &[&a, &b]).unwrap();
        for (file, text) in [
            ("usr/bin/awk", "a"),
            ("usr/bin/b", "b"),
            ("usr/lib/a/x", "x"),
            ("lib/a/y", "y"),
        ] {
            assert_eq!(fs::read_to_string(tree.path.join(file)).unwrap(), text);
        }
        let mode = fs::metadata(tree.path.join("var/tmp")).unwrap().permissions().mode();
        assert_eq!(mode, 0o041_777);
        let again = tool_tree(&store, &[&b, &a, &a]).unwrap();
        assert_eq!((again.path, again.listing), (tree.path, tree.listing));
    }

    #[test]
    fn a_changed_tree_is_unpacked_again() {
        let (_folder, store) = store();
        let tool = package(&store, &[("./usr/bin/tool", "good")]);
        let tree = tool_tree(&store, &[&tool]).unwrap();
        let file = tree.path.join("usr/bin/tool");
        let changes: [&dyn Fn(); 4] = [
            &|| fs::write(&file, "evil").unwrap(),
            &|| fs::remove_file(&file).unwrap(),
            &|| fs::write(tree.path.join("usr/bin/another"), "evil").unwrap(),
            &|| fs::set_permissions(&file, Permissions::from_mode(0o4755)).unwrap(),
        ];
        for change in changes {
            change();
            let again = tool_tree(&store, &[&tool]).unwrap();
            assert_eq!(again.listing, tree.listing);
            assert_eq!(fs::read_to_string(&file).unwrap(), "good");
            assert!(!tree.path.join("usr/bin/another").exists());
        }
    }

    #[test]
    fn a_package_damaged_in_the_store_is_not_unpacked() {
        let (_folder, store) = store();
        let tool = package(&store, &[("./usr/bin/tool", "good")]);
        let place = store.path(&tool.sha256);
        let mut bytes = fs::read(&place).unwrap();
        bytes[1000] ^= 1;
        fs::remove_file(&place).unwrap();
        fs::write(&place, bytes).unwrap();
        let refusal = tool_tree(&store, &[&tool]).unwrap_err();
        assert_eq!(mend::exit_code(&refusal), Exit::LockMismatch);
        assert_eq!(fs::read_dir(store.root().join("trees")).unwrap().count(), 0);
    }

    #[test]
    fn two_packages_with_the_same_file_are_refused() {
        let (_folder, store) = store();
        let a = package(&store, &[("./usr/bin/tool", "a")]);
        let b = package(&store, &[("./bin/tool", "b")]);
        let refusal = tool_tree(&store, &[&a, &b]).unwrap_err();
        assert!(mend::report(&refusal).contains("something else has its path already"));
    }

    #[test]
    fn two_begat_at_once_make_one_tree() {
        let (_folder, store) = store();
        let tool = package(&store, &[("./usr/bin/tool", "good")]);
        let make = || tool_tree(&store, &[&tool]).unwrap().listing;
        let listings = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert!(listings.iter().all(|listing| *listing == listings[0]));
        assert_eq!(fs::read_dir(store.root().join("trees")).unwrap().count(), 2);
    }
}
