//! Seals: what this user derived since the machine started, told from what somebody put in its place.
//!
//! A store holds, beside bytes that are known by their digest, what was derived from them: unpacked tool trees, notes of
//! what was compiled. That saves time, and nobody else can say whether it is true. A digest that lies beside it says
//! nothing: whoever could write the one could write the other. So it has a seal, HMAC-SHA-256 with a random key that no
//! store holds. The key is made for each user and each start of the machine, and lies in memory: a store that comes from
//! a backup, from the cache of a CI system or from another machine has no seal of this key, and what it says is derived
//! again. So it is where there is no such place for a key: in a builder guest, say.
//!
//! Owner and mode alone would not do, since who restores a copy owns it. fs-verity vouches for single files, on some file
//! systems, and still wants a list of them that somebody vouches for.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use nix::unistd::Uid;
use tempfile::NamedTempFile;

use super::{Environment, files, own, random};

/// The file with the key.
const KEY: &str = "key";

/// In bytes: no longer key is stronger.
const LENGTH: usize = 32;

/// In memory on every Linux; what is in there belongs to who made it, as in /tmp.
const MEMORY: &str = "/dev/shm";

/// The key of this user, since this machine started.
#[derive(Clone)]
pub struct Seal {
    key: [u8; LENGTH],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal") // without the key
    }
}

impl Seal {
    /// Returns the key, which is made where there is none; nothing where there is no place for one: memory, in a folder
    /// that nobody else can write or read.
    pub fn of_this_boot(environment: &Environment) -> Option<Self> {
        let places = [environment.runtime.as_deref(), Some(Path::new(MEMORY))];
        let name = format!("begat-{}", Uid::effective());
        let folders = places.into_iter().flatten().map(|place| place.join(&name));
        folders.into_iter().find_map(|folder| Self::kept_in(&folder).ok())
    }

    fn kept_in(folder: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let here = fs::symlink_metadata(folder)?;
        let hidden = here.is_dir() && here.mode() & 0o077 == 0;
        if !(hidden && own::is_ours_alone(folder)? && is_memory(folder)?) {
            return Err(io::Error::other("it is no place for a key"));
        }
        match Self::read(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make(folder)?;
                Self::read(folder)
            }
            read => read,
        }
    }

    fn read(folder: &Path) -> io::Result<Self> {
        let path = folder.join(KEY);
        let bytes = files::read(&path, LENGTH as u64)?;
        let metadata = fs::symlink_metadata(&path)?;
        let key = bytes
            .try_into()
            .ok()
            .filter(|_| own::is_ours(&metadata) && metadata.mode() & 0o077 == 0);
        let key = key.ok_or_else(|| io::Error::other("it is no key of ours"))?;
        Ok(Self { key })
    }

    /// Returns the seal of a text, as hexadecimal digits: `kind` and `name` say what of.
    pub fn of(&self, kind: &str, name: &str, text: &str) -> String {
        HEXLOWER.encode(&self.mac(kind, name, text).finalize().into_bytes())
    }

    /// Returns whether this is the seal of the text.
    pub fn is(&self, seal: &str, kind: &str, name: &str, text: &str) -> bool {
        let seal = HEXLOWER.decode(seal.as_bytes());
        seal.is_ok_and(|seal| self.mac(kind, name, text).verify_slice(&seal).is_ok())
    }

    /// Each part with its length, so that none runs into the next.
    fn mac(&self, kind: &str, name: &str, text: &str) -> Hmac<sha2::Sha256> {
        let mut mac = Hmac::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        for part in ["begat seal 1", kind, name, text] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

/// Where another begat was faster, its key stays.
fn make(folder: &Path) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder)?; // of mode 0600
    file.write_all(&random::bytes::<LENGTH>()?)?;
    match file.persist_noclobber(folder.join(KEY)) {
        Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
        _ => Ok(()),
    }
}

/// Whether what is in the folder is gone when the machine starts again: statfs(2).
fn is_memory(folder: &Path) -> io::Result<bool> {
    const TMPFS: i64 = 0x0102_1994;
    Ok(rustix::fs::statfs(folder)?.f_type == TMPFS)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// A key that is nowhere written.
    pub(crate) fn seal(number: u8) -> Seal {
        Seal { key: [number; LENGTH] }
    }

    #[test]
    fn a_seal_is_of_one_text_of_one_name_and_one_key() {
        let sealed = seal(1).of("tree", "name", "text");
        assert!(seal(1).is(&sealed, "tree", "name", "text"));
        assert!(!seal(2).is(&sealed, "tree", "name", "text"));
        for (kind, name, text) in [
            ("tree", "name", "texT"),
            ("tree", "nam", "etext"),
            ("treen", "ame", "text"),
            ("compiled", "name", "text"),
        ] {
            assert!(!seal(1).is(&sealed, kind, name, text));
        }
        for other in ["", "00", "no", &sealed[..62], &sealed.to_uppercase()] {
            assert!(!seal(1).is(other, "tree", "name", "text"), "{other}");
        }
    }

    /// RFC 4231 has no key of this length; this is Python's `hmac`.
    #[test]
    fn a_seal_is_an_hmac() {
        assert_eq!(
            seal(1).of("tree", "name", "text"),
            "7df87fc4ffecc46b2b2eddd29ed524166c95c428ae2fdf9e65380d504553a3d8"
        );
    }

    #[test]
    fn a_key_stays_and_is_made_in_memory_alone() {
        let memory = tempfile::tempdir_in(MEMORY).unwrap();
        let in_memory = Environment {
            runtime: Some(memory.path().into()),
            ..Environment::default()
        };
        let key = |environment: &Environment| Seal::of_this_boot(environment).map(|seal| seal.key);
        let first = key(&in_memory).unwrap();
        assert_eq!(key(&in_memory), Some(first));
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        assert!(Seal::kept_in(&disk.path().join("key")).is_err(), "on a disk");
    }

    #[test]
    fn attack_a_key_that_others_can_read_or_have_made() {
        let memory = tempfile::tempdir_in(MEMORY).unwrap();
        let folder = memory.path().join("begat");
        let key = Seal::kept_in(&folder).unwrap().key;
        let (file, mode) = (folder.join(KEY), |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        });
        let fails = |why: &str| assert!(Seal::kept_in(&folder).is_err(), "{why}");
        for (path, bad, good) in [(&folder, 0o711, 0o700), (&file, 0o640, 0o600)] {
            mode(path, bad);
            fails("a mode");
            mode(path, good);
        }
        if Uid::effective().is_root() {
            for path in [&folder, &file] {
                chown(path, Some(1234), None).unwrap();
                fails("an owner");
                chown(path, Some(0), None).unwrap();
            }
        }
        assert_eq!(Seal::kept_in(&folder).unwrap().key, key);
        fs::write(&file, b"short").unwrap();
        fails("a short key");
        let elsewhere = memory.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        symlink(&elsewhere, &file).unwrap();
        fails("a link in the place of the key");
        fs::rename(&folder, memory.path().join("moved")).unwrap();
        symlink("moved", &folder).unwrap();
        fails("a link in the place of the folder");
    }
}
