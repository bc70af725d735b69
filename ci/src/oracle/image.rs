//! Hash tree, disk, ESP and UKI, as the usual tools see them.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use xshell::{Shell, cmd};

use crate::{difference, host};

/// What is asked: the program, and its Debian package.
const TOOLS: [(&str, &str); 5] = [
    ("veritysetup", "cryptsetup-bin"),
    ("sfdisk", "fdisk"),
    ("fsck.fat", "dosfstools"),
    ("mcopy", "mtools"),
    ("objcopy", "binutils"),
];

/// Where the partitions come from.
const PARTITIONS: [(&str, Option<&str>); 3] = [
    ("esp", None),
    ("root", Some("rootfs.erofs")),
    ("root-verity", Some("rootfs.verity")),
];

/// A release, and a folder for what is taken out of it.
struct Image<'a> {
    shell: Shell,
    release: &'a Path,
    folder: TempDir,
}

/// Compares a release with what the usual tools make of its images.
pub(crate) fn check(release: &Path) -> Result<()> {
    let shell = host::shell()?;
    host::need(&shell, &TOOLS)?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let image = Image { shell, release, folder };
    image.check_verity()?;
    image.check_disk()?;
    image.check_esp()?;
    image.check_command_line()
}

impl Image<'_> {
    /// The whole tree, made again with the same salt and identifier, and the root hash of the command line.
    fn check_verity(&self) -> Result<()> {
        let (shell, data, tree) = (
            &self.shell,
            self.release.join("rootfs.erofs"),
            self.release.join("rootfs.verity"),
        );
        let about = cmd!(shell, "veritysetup dump {tree}").quiet().read()?;
        let value = |name: &str| {
            let line = about.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().trim_start_matches(':').trim())
                .with_context(|| format!("veritysetup prints no {name} of rootfs.verity"))
        };
        let (uuid, salt) = (value("UUID")?, value("Salt")?);
        let again = self.folder.path().join("verity");
        let format = cmd!(shell, "veritysetup format --uuid={uuid} --salt={salt} {data} {again}");
        let printed = format.quiet().read()?;
        let root_hash = printed.lines().find_map(|line| line.strip_prefix("Root hash:"));
        let root_hash = root_hash.context("veritysetup printed no root hash")?.trim();
        self.ensure_same(&again, "rootfs.verity")?;
        ensure!(
            self.command_line()?
                .split(' ')
                .any(|word| word == format!("roothash={root_hash}")),
            "the command line has another root hash than veritysetup's {root_hash}"
        );
        println!("oracle image: veritysetup makes the same tree with root hash {root_hash}");
        Ok(())
    }

    fn check_disk(&self) -> Result<()> {
        let (shell, disk) = (&self.shell, self.release.join("disk.raw"));
        let verdict = cmd!(shell, "sfdisk --verify {disk}").quiet().read()?;
        ensure!(verdict.contains("No errors detected"), "sfdisk says: {verdict}");
        let partitions = difference::partitions(&disk)?;
        let names: Vec<&str> = partitions.iter().map(|partition| partition.name.as_str()).collect();
        ensure!(
            names == PARTITIONS.map(|(name, _)| name),
            "the disk has the partitions {names:?}"
        );
        let open = File::open(&disk)?;
        for (partition, (name, file)) in partitions.iter().zip(PARTITIONS) {
            let extracted = self.folder.path().join(name);
            difference::extract(&open, partition, &extracted)?;
            if let Some(file) = file {
                self.ensure_starts_as(&extracted, file)?;
            }
        }
        println!("oracle image: sfdisk finds no errors; the partitions hold rootfs.erofs and rootfs.verity");
        Ok(())
    }

    fn check_esp(&self) -> Result<()> {
        let (shell, esp, uki) = (
            &self.shell,
            self.folder.path().join("esp"),
            self.folder.path().join("uki"),
        );
        cmd!(shell, "fsck.fat -n {esp}").quiet().ignore_stdout().run()?;
        cmd!(shell, "mcopy -n -i {esp} ::EFI/BOOT/BOOTX64.EFI {uki}")
            .quiet()
            .run()?;
        self.ensure_same(&uki, "uki.efi")?;
        println!("oracle image: fsck.fat finds no errors; mcopy reads uki.efi");
        Ok(())
    }

    fn check_command_line(&self) -> Result<()> {
        let (shell, uki, section) = (
            &self.shell,
            self.release.join("uki.efi"),
            self.folder.path().join("section"),
        );
        cmd!(
            shell,
            "objcopy --output-target=binary --only-section=.cmdline {uki} {section}"
        )
        .quiet()
        .run()?;
        let found = fs::read_to_string(section)?;
        let wanted = self.command_line()?;
        ensure!(
            found.trim_end_matches('\0') == wanted,
            "the UKI has the command line {found:?}, and the release {wanted:?}"
        );
        println!("oracle image: objcopy finds the command line in uki.efi");
        Ok(())
    }

    fn command_line(&self) -> Result<String> {
        Ok(fs::read_to_string(self.release.join("cmdline"))?)
    }

    fn ensure_same(&self, found: &Path, name: &str) -> Result<()> {
        let same = fs::read(found)? == fs::read(self.release.join(name))?;
        ensure!(same, "{} is not the same as {name}", found.display());
        Ok(())
    }

    /// A partition ends on a block, and what is behind its file is zeros.
    fn ensure_starts_as(&self, partition: &Path, name: &str) -> Result<()> {
        let (partition, file) = (fs::read(partition)?, fs::read(self.release.join(name))?);
        let rest = partition.strip_prefix(file.as_slice());
        let rest = rest.with_context(|| format!("the partition is not the same as {name}"))?;
        ensure!(
            rest.iter().all(|byte| *byte == 0),
            "there is something behind {name} in its partition"
        );
        Ok(())
    }
}
