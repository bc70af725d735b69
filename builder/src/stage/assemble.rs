//! Inputs in, artifacts out: the files that boot, in both shapes.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Seek as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::linux::Kernel;

use crate::debian::deb;
use crate::image::disk::{self, Content, Disk};
use crate::image::{identity, uki, verity};
use crate::mend::Exit;
use crate::model::artifacts::{Artifacts, FirmwareFile, file};
use crate::model::lock::{Lock, Package, Tree};
use crate::model::volume;
use crate::stage::derived::Source;
use crate::stage::guest::{Deb, Guest, Image, inside, output};
use crate::stage::on_disk::OnDisk;
use crate::stage::origins::{OS_RELEASE, Packages};
use crate::stage::parse::Project;
use crate::stage::volume::{self as mounted, Volume};
use crate::stage::{contents, say};
use crate::world::folder::Folder;
use crate::world::sandbox::{Bind, Owners, Sandbox};
use crate::world::store::Store;
use crate::world::workspace::Workspace;

/// What assembling needs.
pub struct Inputs<'a> {
    pub project: &'a Project,
    pub lock: &'a Lock,
    pub store: &'a Store,
    /// The root folder of the tool tree.
    pub tree: &'a Path,
    pub workspace: &'a Workspace,
}

/// The stub that the firmware starts: it measures the sections behind it and starts the kernel among them.
pub(super) const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// Makes the artifacts in the folder `release`; returns them, and what the packages of the guest consist of.
///
/// # Errors
/// Inputs that are not what the lock names, programs of the tool tree that fail, a full disk.
pub fn assemble(inputs: &Inputs<'_>, release: &Path) -> Result<(Artifacts, Packages)> {
    let made = tempfile::tempdir_in(release).context("cannot make a folder for the guest")?;
    let packages = inputs.make_guest(made.path(), release.parent().unwrap_or(release))?;
    take(made.path(), &inputs.volumes(), release)?;
    say("assemble", "dm-verity, command line, UKI and disk");
    let root_hash = inputs.write_verity(release, file::ROOT, file::VERITY)?;
    let volumes = inputs.volumes().into_iter().map(|Volume { name, .. }| {
        let root_hash = inputs.write_verity(release, &name.image(), &name.verity())?;
        Ok((name, root_hash))
    });
    let volumes: Vec<_> = volumes.collect::<Result<_>>()?;
    let source = Source {
        project: inputs.project,
        lock: inputs.lock,
    };
    let command_line = source.command_line(&root_hash, &volumes);
    fs::write(release.join(file::COMMAND_LINE), &command_line)?;
    let made = OnDisk::open(release)?;
    let (os_release, uname) = (contents::text_of_root(&made, OS_RELEASE)?, uname(&made)?);
    inputs.write_uki(release, &command_line, &os_release, &uname)?;
    inputs.write_disk(release, &root_hash, &volumes)?;
    let firmware = source.firmware();
    let described = inputs.project.firmware.iter().zip(&firmware);
    described
        .into_iter()
        .try_for_each(|((_, described), firmware)| inputs.take_firmware(firmware, &described.file, release))?;
    let artifacts = Artifacts {
        root_hash,
        volumes,
        command_line,
        uname,
        firmware,
    };
    Ok((artifacts, packages))
}

/// Takes what the sandbox has made: what ran in there could leave a link to any file, and have a file open still.
fn take(made: &Path, volumes: &[Volume], release: &Path) -> Result<()> {
    let folder = Folder::open(made).context("cannot open what was made")?;
    let fixed = [
        (output::ROOT, file::ROOT),
        (output::INITRD, file::INITRD),
        (output::KERNEL, file::KERNEL),
    ];
    let fixed = fixed.map(|(from, to)| (from.to_owned(), to.to_owned())).into_iter();
    let volumes = volumes.iter().map(|volume| (volume.name.image(), volume.name.image()));
    fixed.chain(volumes).try_for_each(|(from, to)| {
        let taken = folder.take(&from, &release.join(to));
        taken.with_context(|| format!("cannot take {from}, which was made"))
    })
}

/// Returns the kernel's release, as the kernel says it.
///
/// # Errors
/// A kernel that cannot be read, or that does not say its release.
pub(super) fn uname(release: &OnDisk) -> Result<String> {
    let kernel = release.bytes(file::KERNEL).context("cannot read the kernel")?;
    let kernel = Kernel::read(&kernel).context("cannot read the kernel")?;
    Ok(kernel.release().context("the kernel does not say its release")?.into())
}

impl Inputs<'_> {
    fn make_guest(&self, out: &Path, releases: &Path) -> Result<Packages> {
        let bind = |host: &Path, inside: &str, writable| Bind {
            host: host.into(),
            inside: inside.into(),
            writable,
        };
        let recipe = fs::canonicalize(&self.project.folder)?;
        let sandbox = Sandbox {
            tree: self.tree.into(),
            workspace: self.workspace.folder().map(PathBuf::from),
            binds: vec![
                bind(&self.store.files(), inside::FILES, false),
                bind(&recipe, inside::RECIPE, false),
                bind(out, inside::OUT, true),
            ],
            owners: Owners::Range,
        };
        sandbox.run(&crate::stage::Work::Guest(self.guest(releases)))
    }

    fn guest(&self, releases: &Path) -> Guest {
        let recipe = &self.project.recipe;
        let image = |tree, suite: &str, packages: &[String]| Image {
            suite: suite.into(),
            packages: packages.to_vec(),
            debs: self.lock.packages(tree).map(Deb::from).collect(),
        };
        Guest {
            epoch: recipe.epoch,
            seed: identity::uuid(&self.lock.digest(), "mkosi"),
            root: image(Tree::Root, &recipe.root.suite, &recipe.root.packages),
            root_uuid: self.root_uuid(),
            initrd: image(Tree::Initrd, &recipe.initrd.suite, &recipe.initrd.packages),
            modules: recipe.initrd.modules.clone(),
            payloads: self.lock.payload.clone(),
            volumes: self.volumes(),
            kernel: self.lock.packages(Tree::Kernel).map(Deb::from).collect(),
            releases: releases.into(),
            workspace: self.workspace.folder().map(PathBuf::from),
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        mounted::all(&self.project.recipe, &self.lock.digest())
    }

    fn root_uuid(&self) -> uuid::Uuid {
        identity::uuid(&self.lock.digest(), file::ROOT)
    }

    /// Writes the dm-verity tree of an image, both files of the release, and returns its root.
    fn write_verity(&self, release: &Path, image: &str, tree: &str) -> Result<Sha256> {
        let (data, size) = open(&release.join(image))?;
        let mut out = BufWriter::new(File::create(release.join(tree))?);
        let lock = self.lock.digest();
        let (salt, uuid) = (identity::salt(&lock, tree), identity::uuid(&lock, tree));
        verity::write_verity(&data, size, &salt, uuid, &mut out)
    }

    fn write_uki(&self, release: &Path, command_line: &str, os_release: &str, uname: &str) -> Result<()> {
        let stub = &fs::read(self.tree.join(STUB)).context("the tool tree has no systemd-stub")?;
        let (linux, _) = open(&release.join(file::KERNEL))?;
        let (initrd, _) = open(&release.join(file::INITRD))?;
        let parts = uki::Uki {
            stub,
            os_release,
            command_line,
            uname,
            linux,
            initrd,
        };
        uki::write_uki(
            parts,
            &mut BufWriter::with_capacity(1 << 20, File::create(release.join(file::UKI))?),
        )
    }

    /// The disk: the ESP with the UKI, the root image and its hash tree, and those of the volumes.
    fn write_disk(&self, release: &Path, root_hash: &Sha256, volumes: &[(volume::Name, Sha256)]) -> Result<()> {
        let lock = self.lock.digest();
        let mut esp = tempfile::tempfile_in(release)?;
        let (mut uki, size) = open(&release.join(file::UKI))?;
        disk::write_esp(&lock, &mut uki, size, &mut esp)?;
        esp.rewind()?;
        let esp_size = esp.metadata()?.len();
        let (mut root, root_size) = open(&release.join(file::ROOT))?;
        let (mut verity, verity_size) = open(&release.join(file::VERITY))?;
        let mut volumes = open_volumes(release, volumes)?;
        let mut out = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(release.join(file::DISK))?;
        let volumes = volumes.iter_mut();
        let volumes = volumes.map(|(name, file, size)| (name.as_str(), Content(file, *size)));
        let disk = Disk {
            lock,
            root_hash: *root_hash,
            esp: Content(&mut esp, esp_size),
            root: Content(&mut root, root_size),
            verity: Content(&mut verity, verity_size),
            volumes: volumes.collect(),
        };
        disk.write(&mut out)
    }

    fn take_firmware(&self, firmware: &FirmwareFile, path: &str, release: &Path) -> Result<()> {
        let FirmwareFile {
            file, package: name, ..
        } = firmware;
        let mut packages = self
            .lock
            .packages(Tree::Firmware)
            .filter(|package| package.name == *name);
        let missing = || {
            Exit::LockMismatch.because(
                format!("recipe.lock has no package {name} for the firmware {file}"),
                "write it anew: begat lock RECIPE",
            )
        };
        let package: &Package = packages.next().ok_or_else(missing)?;
        let bytes = deb::extract_file(&self.store.bytes(&package.sha256, package.size)?, path)?;
        Ok(fs::write(release.join(file), bytes)?)
    }
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// The images of the volumes and their dm-verity trees: name, file and size in bytes.
fn open_volumes(release: &Path, volumes: &[(volume::Name, Sha256)]) -> Result<Vec<(String, File, u64)>> {
    let names = volumes.iter().flat_map(|(name, _)| [name.image(), name.verity()]);
    let opened = names.map(|name| {
        let (file, size) = open(&release.join(&name))?;
        Ok((name, file, size))
    });
    opened.collect()
}
