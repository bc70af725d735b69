//! Locked packages in, the same without compression and what they consist of out.
//!
//! Each is decompressed once, for everybody: dpkg in either tree, the base, the kernel, and the documents.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufWriter, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::{Sha256, Sha512};
use tempfile::NamedTempFile;

use crate::debian::members::Members;
use crate::debian::plain;
use crate::model::release::Stamp;
use crate::stage::guest::Deb;
use crate::stage::origins::Packages;
use crate::world::store::Store;
use crate::world::{files, parallel};

/// A package without compression.
pub struct Plain {
    /// What the locked package is called.
    pub name: String,
    /// Where this one is.
    pub path: PathBuf,
    /// Its size and digest, which are not the locked ones.
    pub stamp: Stamp,
    /// What dpkg is told about it.
    pub control: String,
}

/// Packages without compression, by the digest of the locked one.
pub type Pool = BTreeMap<Sha256, Plain>;

/// Fills a new folder with the packages without compression; returns them, and what each consists of.
///
/// What they consist of is read from what was written, which is what will be unpacked.
///
/// # Errors
/// A package that is not what the lock names, or no package; a full disk.
pub fn decompress<'a>(store: &Store, debs: impl Iterator<Item = &'a Deb>, folder: &Path) -> Result<(Pool, Packages)> {
    fs::create_dir_all(folder)?;
    let debs: BTreeMap<Sha256, &Deb> = debs.map(|deb| (deb.sha256, deb)).collect();
    let mut debs: Vec<&Deb> = debs.into_values().collect();
    debs.sort_by_key(|deb| Reverse(deb.size)); // the largest first, so that no core waits at the end
    let written = parallel::map(&debs, |deb| {
        write(deb, store, folder).with_context(|| format!("cannot read {}", deb.file))
    });
    let (mut pool, mut packages) = (Pool::new(), Packages::new());
    for (deb, written) in debs.iter().zip(written) {
        let (plain, members) = written?;
        pool.insert(deb.sha256, plain);
        packages.insert(deb.sha256, members);
    }
    Ok((pool, packages))
}

/// The file appears only when it is whole.
fn write(deb: &Deb, store: &Store, folder: &Path) -> Result<(Plain, Members)> {
    let bytes = store.bytes(&deb.sha256, deb.size)?;
    let mut file = NamedTempFile::new_in(folder)?;
    plain::write(&bytes, &mut BufWriter::with_capacity(1 << 18, file.as_file()))?;
    file.rewind()?;
    let stamp = files::stamp(file.as_file_mut())?;
    file.rewind()?;
    let members = Members::read_from(file.as_file(), Sha512::of(&bytes))?;
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    let path = folder.join(deb.sha256.to_string());
    file.persist(&path)?;
    let plain = Plain {
        name: deb.file.clone(),
        path,
        stamp,
        control: members.control_file.clone(),
    };
    Ok((plain, members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::deb::tests::{ar, tar};
    use crate::mend;

    fn hello() -> Vec<u8> {
        ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &tar(&[("./control", "Package: hello\n")])),
            ("data.tar", &tar(&[("./usr/bin/hello", "hello")])),
        ])
    }

    fn decompressed(deb: &[u8]) -> (tempfile::TempDir, Result<(Pool, Packages)>) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("store")).unwrap();
        let deb = Deb {
            file: "hello_1_amd64.deb".into(),
            sha256: store.add(deb).unwrap(),
            size: deb.len() as u64,
        };
        let outcome = decompress(&store, [&deb, &deb].into_iter(), &folder.path().join("pool"));
        (folder, outcome)
    }

    #[test]
    fn a_package_of_two_trees_is_there_once_with_the_digest_of_what_is_there() {
        let (folder, outcome) = decompressed(&hello());
        let (pool, packages) = outcome.unwrap();
        let plain = &pool[&Sha256::of(hello())];
        let bytes = fs::read(&plain.path).unwrap();
        assert_eq!(
            (plain.stamp.sha256, plain.stamp.size),
            (Sha256::of(&bytes), bytes.len() as u64)
        );
        assert_eq!(plain.control, "Package: hello\n");
        assert_eq!(packages[&Sha256::of(hello())], Members::read(&hello()).unwrap());
        assert_eq!(fs::read_dir(folder.path().join("pool")).unwrap().count(), 1);
    }

    #[test]
    fn a_package_that_ends_early_is_refused_and_leaves_nothing_behind() {
        let whole = hello();
        let (folder, outcome) = decompressed(&whole[..whole.len() - 600]);
        let error = outcome.map(drop).unwrap_err();
        assert!(
            mend::report(&error).contains("cannot read hello_1_amd64.deb"),
            "{}",
            mend::report(&error)
        );
        assert_eq!(fs::read_dir(folder.path().join("pool")).unwrap().count(), 0);
    }
}
