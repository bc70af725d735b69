//! Trees of files made alike: the same modes, times and contents whoever made them, wherever and whenever.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use glob::{MatchOptions, Pattern};
use jiff::Timestamp;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::image::cpio::{Archive, Node, Owner};
use crate::mend::Exit;

/// What is removed from every tree, below its root, and why. A folder stays and loses its contents.
const LEAKS: [&str; 26] = [
    "dev",                           // the initrd's kernel and systemd make it
    "etc/.pwd.lock",                 // a lock, not a file
    "etc/group-",                    // a step of the build
    "etc/gshadow-",                  // a step of the build
    "etc/hostname",                  // the builder's
    "etc/passwd-",                   // a step of the build
    "etc/resolv.conf",               // the builder's
    "etc/shadow-",                   // a step of the build
    "etc/subgid-",                   // a step of the build
    "etc/subuid-",                   // a step of the build
    "run",                           // state of the build
    "tmp",                           // state of the build
    "var/cache/debconf",             // answers to questions of the build
    "var/cache/fontconfig",          // programs that show text make it
    "var/cache/ldconfig/aux-cache",  // inode numbers and times
    "var/cache/man",                 // `mandb` makes it
    "var/lib/dpkg/available",        // what nobody has asked for
    "var/lib/dpkg/diversions-old",   // a step of the build
    "var/lib/dpkg/lock",             // a lock, not a file
    "var/lib/dpkg/lock-frontend",    // a lock, not a file
    "var/lib/dpkg/statoverride-old", // a step of the build
    "var/lib/dpkg/status-old",       // a step of the build
    "var/lib/dpkg/triggers/Lock",    // a lock, not a file
    "var/lib/systemd/catalog",       // systemd makes it when it starts
    "var/lib/systemd/random-seed",   // random
    "var/log",                       // wall-clock times
];

/// Files whose names begin like this are keys that a package made at random when it was installed, and certificates of
/// them: everybody would have them.
const RANDOM_KEYS: [&str; 3] = [
    "etc/ssh/ssh_host_",
    "etc/ssl/certs/ssl-cert-snakeoil.",
    "etc/ssl/private/ssl-cert-snakeoil.",
];

/// Files that are made again from others when they are missing, or that nothing reads: no package says what is in them. `*`
/// stops at a slash.
const REMADE: [&str; 10] = [
    "etc/xml/*.old",
    "usr/lib/modules/*/modules.alias", // kmod reads modules.alias.bin
    "usr/lib/modules/*/modules.dep",
    "usr/lib/modules/*/modules.symbols",
    "var/lib/sgml-base/*.old",
    "var/lib/ucf/hashfile.*",
    "var/lib/ucf/registry.*",
    "var/lib/xml-core/*.old",
    "etc/pam.d/*.pam-old",
    "var/cache/apt/*.bin",
];

/// Folders of byte code, which Python makes from the modules beside them.
const BYTE_CODE: &str = "__pycache__";

/// Removes what leaks from the build into `tree`, what is made again, and keys made at random with the links to them, empties
/// its machine id and brings no time after `epoch`.
///
/// # Errors
/// A file that cannot be changed.
pub fn normalise(tree: &Path, epoch: Timestamp) -> Result<()> {
    for leak in LEAKS {
        remove(&tree.join(leak))?;
    }
    let mut paths = walk(tree)?;
    let remade = REMADE.map(|text| Pattern::new(text).expect("the patterns of the list are well-formed"));
    for path in paths.extract_if(.., |path| is_remade(&remade, path) || is_random_key(tree, path)) {
        remove_all(&tree.join(path))?;
    }
    let machine_id = tree.join("etc/machine-id");
    if machine_id.is_file() {
        // Empty: each boot makes its own. "uninitialized" would ask questions on the console at each boot.
        fs::write(machine_id, "")?;
    }
    clamp_all(tree, &paths, epoch)
}

/// Brings no time after `epoch` into `tree`, where there is nothing else to change.
///
/// # Errors
/// A file that cannot be changed.
pub fn date(tree: &Path, epoch: Timestamp) -> Result<()> {
    clamp_all(tree, &walk(tree)?, epoch)
}

fn clamp_all(tree: &Path, paths: &[PathBuf], epoch: Timestamp) -> Result<()> {
    let mut whole = paths.iter().rev().map(|path| tree.join(path)).chain([tree.to_owned()]);
    whole.try_for_each(|path| clamp(&path, epoch))
}

/// Whether the path is made again from others, or is below a folder of such.
fn is_remade(remade: &[Pattern], path: &Path) -> bool {
    let options = MatchOptions {
        require_literal_separator: true,
        ..MatchOptions::new()
    };
    let is_byte_code = path.iter().any(|name| name == BYTE_CODE);
    is_byte_code || remade.iter().any(|pattern| pattern.matches_path_with(path, options))
}

/// Whether the path below `tree` is a random key, or a link to one beside it: certificates are found by such links.
fn is_random_key(tree: &Path, path: &Path) -> bool {
    let begins = |path: &Path| {
        RANDOM_KEYS
            .iter()
            .any(|key| path.as_os_str().as_bytes().starts_with(key.as_bytes()))
    };
    let leads = || fs::read_link(tree.join(path)).is_ok_and(|target| begins(&path.with_file_name(target)));
    begins(path) || leads()
}

/// Times before the epoch came with the packages; later ones are of the build.
fn clamp(path: &Path, epoch: Timestamp) -> Result<()> {
    let modified = fs::symlink_metadata(path)?.mtime();
    let time = TimeSpec::new(modified.min(epoch.as_second()), 0);
    let flag = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &time, &time, flag).with_context(|| format!("cannot set the time of {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => clear(path),
        Ok(_) => fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Removes a path, a folder with what is in it; what is gone already is no error.
fn remove_all(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

/// Removes everything in a folder, not the folder.
///
/// # Errors
/// Something that cannot be removed.
pub fn clear(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = entry.path();
        let removed = if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// Copies a recipe's folder with the modes that git knows, whatever the checkout's umask made of them: 0755 for folders
/// and executables, 0644 for other files.
///
/// # Errors
/// A file that cannot be copied.
pub fn copy_recipe(from: &Path, to: &Path) -> Result<()> {
    make_folder(to)?;
    for path in walk(from)? {
        let (source, target) = (from.join(&path), to.join(&path));
        let kind = fs::symlink_metadata(&source)?;
        if kind.is_dir() {
            make_folder(&target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
            let mode = if is_executable(&kind) { 0o755 } else { 0o644 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Returns whether the owner may execute the file: the only mode bit that git knows.
pub fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}

fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).context("cannot set the mode of a folder")
}

/// Writes a tree into an archive, in the byte order of the paths, and ends the archive.
///
/// # Errors
/// A file that cannot be read, or of a kind that an initrd has no use for.
pub fn archive<W: Write>(tree: &Path, mut archive: Archive<W>) -> Result<()> {
    for path in walk(tree)? {
        let metadata = fs::symlink_metadata(tree.join(&path))?;
        append(&mut archive, tree, &path, &metadata).with_context(|| format!("cannot archive {}", path.display()))?;
    }
    archive.finish()?.flush().context("cannot end the archive")
}

fn append<W: Write>(archive: &mut Archive<W>, tree: &Path, path: &Path, metadata: &Metadata) -> Result<()> {
    let (name, whole) = (path.as_os_str().as_bytes(), tree.join(path));
    let mode = u16::try_from(metadata.mode() & 0o7777).expect("twelve bits fit");
    let owner = Owner {
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode,
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        archive.append(name, owner, Node::Directory)
    } else if kind.is_symlink() {
        let target = fs::read_link(whole)?.into_os_string().into_vec();
        archive.append(name, owner, Node::Symlink { target: &target })
    } else if kind.is_file() {
        let content = &mut File::open(whole)?;
        archive.append(
            name,
            owner,
            Node::File {
                size: metadata.len(),
                content,
            },
        )
    } else if kind.is_fifo() {
        archive.append(name, owner, Node::Fifo)
    } else {
        Err(Exit::Usage.because(
            format!("{} is a socket or a device", path.display()),
            "remove it in the recipe",
        ))
    }
}

/// Returns every path below `tree`, relative to it, in byte order.
///
/// # Errors
/// A folder that cannot be read.
pub fn walk(tree: &Path) -> Result<Vec<PathBuf>> {
    let (mut paths, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        let whole = tree.join(&folder);
        for entry in fs::read_dir(&whole).with_context(|| format!("cannot read {}", whole.display()))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path.clone());
            }
            paths.push(path);
        }
    }
    paths.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// As openssh-server and ssl-cert leave them; `0a.0` is the link by which a certificate is found.
    #[test]
    fn keys_made_at_random_go_with_the_links_to_them_and_so_does_what_is_made_again() {
        let tree = tempfile::tempdir().unwrap();
        let files = [
            "etc/ssh/ssh_host_rsa_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/ssh/sshd_config",
            "etc/ssl/certs/ISRG_Root_X1.pem",
            "etc/ssl/certs/ssl-cert-snakeoil.pem",
            "etc/ssl/private/own.key",
            "etc/ssl/private/ssl-cert-snakeoil.key",
            "usr/lib/python3/__pycache__/a.cpython-313.pyc",
            "usr/lib/python3/a.py",
            "usr/lib/modules/6.12/modules.dep",
            "usr/lib/modules/6.12/modules.dep.bin",
            "etc/passwd-",
        ];
        for file in files {
            let file = tree.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        symlink("ssl-cert-snakeoil.pem", tree.path().join("etc/ssl/certs/0a.0")).unwrap();
        symlink("ISRG_Root_X1.pem", tree.path().join("etc/ssl/certs/0b.0")).unwrap();
        normalise(tree.path(), Timestamp::UNIX_EPOCH).unwrap();
        let left = walk(tree.path()).unwrap();
        let left = left.iter().filter(|path| !tree.path().join(path).is_dir());
        let left: Vec<&str> = left.map(|path| path.to_str().unwrap()).collect();
        let expected = [
            "etc/ssh/sshd_config",
            "etc/ssl/certs/0b.0",
            "etc/ssl/certs/ISRG_Root_X1.pem",
            "etc/ssl/private/own.key",
            "usr/lib/modules/6.12/modules.dep.bin",
            "usr/lib/python3/a.py",
        ];
        assert_eq!(left, expected);
    }
}
