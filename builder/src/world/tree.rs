//! Tool trees: packages unpacked, not installed. No maintainer script runs; what mkosi needs works without them.
//!
//! A tree is named by the packages in it. One that is there already is used again if it has a seal of this user and boot
//! (`world/seal.rs`) over that name and a listing of all that is in it, made anew at every use, and if it is kept where
//! nobody else can change it afterwards (`Store::own`). Any other is unpacked again from the locked packages: that of a
//! store which was restored, copied or carried here says nothing by itself, and a listing beside it no more. Enter a tree
//! read-only: a program that writes into it makes the next use unpack it again.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use measure::Sha256;

use super::scratch::Scratch;
use super::{Store, files, own, parallel, store, unpack};
use crate::debian::deb::{self, Part};
use crate::model::lock::Package;

/// The version of what [`skeleton`] and [`unpack`] make of the same packages.
const FORMAT: &str = "begat tool tree 2\n";

/// What is sealed.
const KIND: &str = "tree";

/// A folder with the programs of some packages, as long as the store lives and this value.
#[derive(Clone, Debug)]
pub struct ToolTree {
    /// The root of the tree.
    pub path: PathBuf,
    /// The digest of its listing, the same on every host: every path with its mode and content.
    pub listing: Sha256,
    /// Where the store keeps no trees, this one goes with whoever uses it.
    _passing: Option<Arc<Scratch>>,
}

/// Where a tree is kept, or would be.
struct Place<'a> {
    store: &'a Store,
    name: String,
    path: PathBuf,
}

/// Returns the tree of these packages, unpacked where the store has none with a seal.
///
/// # Errors
/// A package that is not in the store, or has other bytes; two packages with the same file; a store that cannot be
/// written.
pub fn tool_tree(store: &Store, packages: &[&Package]) -> Result<ToolTree> {
    let name = name(packages).to_string();
    let path = trees(store).join(&name);
    let place = Place { store, name, path };
    if let Some(listing) = place.verified() {
        return Ok(place.tree(&listing));
    }
    if store.keeps() && place.path.exists() {
        eprintln!(
            "the tool tree {} is not one that was unpacked here since the machine started, or was changed: it is unpacked again",
            place.path.display()
        );
    }
    let start = Instant::now();
    let scratch = scratch(store)?;
    let root = scratch.path().join("tree");
    let listing = make(store, packages, &root)?;
    let seconds = start.elapsed().as_secs_f64();
    eprintln!("unpacked {} packages in {seconds:.1} s", packages.len());
    if store.keeps() {
        let kept = place.keep(&root, &listing, &scratch);
        kept.map_err(|error| store.outside(error, "write", &place.path))?;
        return Ok(place.tree(&listing));
    }
    eprintln!(
        "it goes with this run: {} keeps none, for {}",
        store.root().display(),
        why(store)
    );
    Ok(ToolTree {
        path: root,
        listing: Sha256::of(listing),
        _passing: Some(Arc::new(scratch)),
    })
}

/// Why a store keeps no trees.
fn why(store: &Store) -> &'static str {
    match store.own() == store.root() {
        true => "no folder in memory has a key of this user: neither $XDG_RUNTIME_DIR nor /dev/shm is one",
        false => "others can write to it, or to a folder above it: chmod go-w",
    }
}

impl Place<'_> {
    fn tree(&self, listing: &str) -> ToolTree {
        ToolTree {
            path: self.path.clone(),
            listing: Sha256::of(listing),
            _passing: None,
        }
    }

    /// The listing of the tree that is here, if it has a seal.
    fn verified(&self) -> Option<String> {
        let seal = self.store.seal()?;
        let sealed = self.sealed()?;
        let listing = listing(&self.path).ok()?;
        seal.is(&sealed, KIND, &self.name, &listing).then_some(listing)
    }

    fn seal(&self) -> PathBuf {
        self.path.with_added_extension("seal")
    }

    fn sealed(&self) -> Option<String> {
        /// In bytes.
        const LIMIT: u64 = 1 << 10;
        let sealed = files::read(&self.seal(), LIMIT).ok()?;
        String::from_utf8(sealed).ok()
    }

    /// Gives the tree its name, and a seal. Where another begat was faster its tree stays; whatever else has the name
    /// goes into the `scratch` folder, so that nobody sees half of it, and with that.
    fn keep(&self, root: &Path, text: &str, scratch: &Scratch) -> io::Result<()> {
        let alone = File::open(trees(self.store))?;
        alone.lock()?;
        let seal = self.store.seal().map(|seal| seal.of(KIND, &self.name, text));
        if self.path.symlink_metadata().is_ok() {
            let same = self.sealed() == seal && listing(&self.path).is_ok_and(|found| found == text);
            if same {
                return Ok(());
            }
            fs::rename(&self.path, scratch.path().join("before"))?;
        }
        store::write_whole(&self.seal(), &seal.unwrap_or_default())?;
        fs::rename(root, &self.path)
    }
}

fn trees(store: &Store) -> PathBuf {
    store.own().join("trees")
}

fn scratch(store: &Store) -> Result<Scratch> {
    let trees = trees(store);
    Scratch::new(&trees, ".partial-").map_err(|error| store.outside(error, "write to", &trees))
}

/// The name of a tree: the digest of its packages' digests.
fn name(packages: &[&Package]) -> Sha256 {
    let mut digests: Vec<String> = packages.iter().map(|package| format!("{}\n", package.sha256)).collect();
    digests.sort();
    digests.dedup();
    Sha256::of(format!("{FORMAT}{}", digests.concat()))
}

/// Unpacks into a new folder; returns the listing.
fn make(store: &Store, packages: &[&Package], root: &Path) -> Result<String> {
    skeleton(root).map_err(|error| store.outside(error, "write to", root))?;
    // Largest first, so that no thread is left alone with it at the end.
    let mut order = packages.to_vec();
    order.sort_by_key(|package| (std::cmp::Reverse(package.size), package.sha256));
    order.dedup_by_key(|package| package.sha256);
    let outcomes = parallel::map(&order, |package| {
        let place = || format!("cannot unpack {} {}", package.name, package.version);
        let bytes = store.bytes(&package.sha256, package.size)?;
        unpack::unpack(&mut deb::part(&bytes[..], Part::Data)?, root).with_context(place)
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    alternatives(root).map_err(|error| store.outside(error, "write to", root))?;
    listing(root)
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

/// One line for each path below `root`, sorted: path, kind and mode, and the digest or the target. What is not ours has no
/// such line: its owner can change it whenever it pleases.
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
    if !own::is_ours(&metadata) {
        return Ok(format!("{path:?} of another user\n"));
    }
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
    use std::os::unix::fs::MetadataExt as _;
    use std::thread;

    use super::*;
    use crate::debian::deb::tests::{ar, tar};
    use crate::mend::{self, Exit};
    use crate::world::seal::tests::seal;

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
        let store = sealed(folder.path());
        (folder, store)
    }

    /// The store in this folder, after the machine was started so many times.
    fn started(folder: &Path, times: u8) -> Store {
        Store::open(folder).unwrap().sealed(Some(seal(times)))
    }

    fn sealed(folder: &Path) -> Store {
        started(folder, 0)
    }

    fn read(tree: &ToolTree) -> String {
        fs::read_to_string(tree.path.join("usr/bin/tool")).unwrap()
    }

    /// The number of the root folder: another one if the tree was unpacked again.
    fn number(tree: &ToolTree) -> u64 {
        fs::metadata(&tree.path).unwrap().ino()
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
        let old = number(&tree);
        let again = tool_tree(&store, &[&b, &a, &a]).unwrap();
        assert_eq!(number(&again), old, "it was there");
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

    /// What whoever can write to a store, and nothing else, may have left there: a changed program with all that vouches
    /// for it, which was right for the tree of before, for that of other packages, or for another machine.
    #[test]
    fn attack_a_changed_program_with_all_that_vouches_for_it() {
        let (folder, store) = store();
        let (tool, evil) = (
            package(&store, &[("./usr/bin/tool", "good")]),
            package(&store, &[("./usr/bin/tool", "evil")]),
        );
        let tree = tool_tree(&store, &[&tool]).unwrap();
        let other = tool_tree(&store, &[&evil]).unwrap();
        let theirs = tempfile::tempdir().unwrap();
        let foreign = started(theirs.path(), 9);
        package(&foreign, &[("./usr/bin/tool", "good")]);
        let foreign = tool_tree(&foreign, &[&tool]).unwrap();
        let seal_of = |tree: &ToolTree| fs::read_to_string(tree.path.with_added_extension("seal")).unwrap();
        let listed = |seal: &dyn Fn(&str, &str) -> String| {
            let (name, listing) = (name(&[&tool]).to_string(), listing(&tree.path).unwrap());
            seal(&name, &listing)
        };
        let before = seal_of(&tree);
        let seals: [&dyn Fn() -> String; 6] = [
            &|| before.clone(),
            &|| seal_of(&other),
            &|| seal_of(&foreign),
            &|| listed(&|name, listing| seal(9).of(KIND, name, listing)),
            &|| listed(&|_, listing| Sha256::of(listing).to_string()),
            &String::new,
        ];
        for sealed in seals {
            fs::write(tree.path.join("usr/bin/tool"), "evil").unwrap();
            fs::write(tree.path.with_added_extension("seal"), sealed()).unwrap();
            fs::write(tree.path.with_added_extension("list"), listing(&tree.path).unwrap()).unwrap();
            let again = tool_tree(&store, &[&tool]).unwrap();
            assert_eq!((read(&again).as_str(), again.listing), ("good", tree.listing));
        }
        // another tree under its name, with the seal of that
        fs::remove_dir_all(&tree.path).unwrap();
        fs::rename(&other.path, &tree.path).unwrap();
        fs::write(tree.path.with_added_extension("seal"), seal_of(&other)).unwrap();
        assert_eq!(read(&tool_tree(&store, &[&tool]).unwrap()), "good");
        // the honest twin
        let store = sealed(folder.path());
        let numbers = [0; 2].map(|_| number(&tool_tree(&store, &[&tool]).unwrap()));
        assert_eq!(numbers[0], numbers[1]);
    }

    #[test]
    fn attack_a_store_that_was_restored() {
        let (folder, before) = store();
        let tool = package(&before, &[("./usr/bin/tool", "good")]);
        let tree = tool_tree(&before, &[&tool]).unwrap();
        // another machine, or the same one started again: it believes neither this tree nor a changed one
        let (after, old) = (started(folder.path(), 1), number(&tree));
        let again = tool_tree(&after, &[&tool]).unwrap();
        assert_ne!(number(&again), old);
        let new = number(&again);
        assert_eq!(
            number(&tool_tree(&after, &[&tool]).unwrap()),
            new,
            "from then on it does"
        );
        // without a key none is believed and none is kept, and what others use stays
        let keyless = Store::open(folder.path()).unwrap();
        fs::write(again.path.join("usr/bin/tool"), "evil").unwrap();
        let passing = tool_tree(&keyless, &[&tool]).unwrap();
        assert_eq!((read(&passing), read(&again)), ("good".into(), "evil".into()));
        let gone = passing.path.clone();
        drop(passing);
        assert!(!gone.exists() && again.path.exists());
    }

    #[test]
    fn attack_a_store_that_others_can_write() {
        let (folder, ours) = store();
        let tool = package(&ours, &[("./usr/bin/tool", "good")]);
        let tree = tool_tree(&ours, &[&tool]).unwrap();
        let old = number(&tree);
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for (bad, good) in [(0o777, 0o755), (0o775, 0o755), (0o1777, 0o755)] {
            mode(folder.path(), bad);
            let shared = sealed(folder.path());
            let passing = tool_tree(&shared, &[&tool]).unwrap();
            assert!(!passing.path.starts_with(folder.path()), "{bad:o}");
            assert_eq!((read(&passing).as_str(), passing.listing), ("good", tree.listing));
            mode(folder.path(), good);
        }
        let again = tool_tree(&sealed(folder.path()), &[&tool]).unwrap();
        assert_eq!(number(&again), old, "ours alone again");
    }

    /// With the right bytes, and an owner who can change them later.
    #[test]
    fn attack_a_file_of_the_tree_that_belongs_to_somebody_else() {
        let (_folder, store) = store();
        let tool = package(&store, &[("./usr/bin/tool", "good")]);
        let tree = tool_tree(&store, &[&tool]).unwrap();
        if std::os::unix::fs::chown(tree.path.join("usr/bin/tool"), Some(1234), None).is_err() {
            return; // it takes root to give a file away
        }
        let old = number(&tree);
        let again = tool_tree(&store, &[&tool]).unwrap();
        assert_ne!(number(&again), old);
    }
}
