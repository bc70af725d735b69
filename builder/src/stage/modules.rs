//! Kernel modules by name, and what they depend on: `modules.dep` and `modules.builtin`, modprobe(8).

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::mend::Exit;

/// Files beside the modules that depmod reads.
const FOR_DEPMOD: [&str; 3] = ["modules.builtin", "modules.builtin.modinfo", "modules.order"];

/// Copies the named modules of the folder `from`, and those they depend on, to the folder `to`.
///
/// # Errors
/// A module that the kernel does not have.
pub fn copy_closure(from: &Path, to: &Path, names: &[String]) -> Result<()> {
    let read = |file: &str| fs::read_to_string(from.join(file)).with_context(|| format!("cannot read {file}"));
    let files = closure(&read("modules.dep")?, &read("modules.builtin")?, names)?;
    for file in files.iter().map(String::as_str).chain(FOR_DEPMOD) {
        let target = to.join(file);
        fs::create_dir_all(target.parent().unwrap_or(to))?;
        fs::copy(from.join(file), target).with_context(|| format!("cannot copy {file}"))?;
    }
    Ok(())
}

/// The files of the named modules and of all they depend on; modules that are built in need none.
fn closure(dependencies: &str, builtin: &str, names: &[String]) -> Result<BTreeSet<String>> {
    let mut files = BTreeSet::new();
    for name in names {
        let wanted = canonical(name);
        let line = dependencies
            .lines()
            .find_map(|line| line.split_once(':').filter(|(file, _)| module(file) == wanted));
        match line {
            Some((file, others)) => files.extend([file].into_iter().chain(others.split_whitespace()).map(String::from)),
            None if builtin.lines().any(|file| module(file) == wanted) => {}
            None => return Err(unknown(&wanted, dependencies)),
        }
    }
    Ok(files)
}

fn unknown(wanted: &str, dependencies: &str) -> anyhow::Error {
    let known = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(file, _)| module(file));
    let nearest = known
        .min_by_key(|name| strsim::damerau_levenshtein(wanted, name))
        .unwrap_or_default();
    Exit::Usage.because(
        format!("the kernel has no module {wanted:?}"),
        format!("did you mean {nearest:?}?"),
    )
}

/// The name of a module from its file: `kernel/drivers/md/dm-verity.ko.xz` is `dm_verity`.
fn module(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    canonical(name.split(".ko").next().unwrap_or(name))
}

/// To the kernel, `-` and `_` are one letter in a module's name.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "kernel/md/dm-verity.ko.xz: kernel/md/dm-bufio.ko.xz kernel/md/dm-mod.ko.xz\n\
        kernel/md/dm-bufio.ko.xz: kernel/md/dm-mod.ko.xz\n\
        kernel/md/dm-mod.ko.xz:\n\
        kernel/fs/erofs/erofs.ko.xz:\n";

    #[test]
    fn what_a_module_depends_on_comes_along() {
        let files = closure(DEPENDENCIES, "", &["dm_verity".into()]).expect("it is there");
        let expected = [
            "kernel/md/dm-bufio.ko.xz",
            "kernel/md/dm-mod.ko.xz",
            "kernel/md/dm-verity.ko.xz",
        ];
        assert_eq!(files.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_builtin_module_needs_no_file() {
        let files = closure(DEPENDENCIES, "kernel/virtio/virtio_pci.ko\n", &["virtio-pci".into()]);
        assert!(files.expect("it is built in").is_empty());
    }

    #[test]
    fn a_module_that_does_not_exist_is_refused_with_the_nearest() {
        let error = closure(DEPENDENCIES, "", &["eros".into()]).expect_err("there is none");
        assert!(crate::mend::report(&error).contains("did you mean \"erofs\"?"));
    }
}
