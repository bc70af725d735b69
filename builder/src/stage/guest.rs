//! Inside the tool tree: locked packages in; root image, initrd and kernel out.
//!
//! mkosi makes the two trees, side by side; what is measured is made here from them. Folders: `/run/store` and
//! `/run/recipe` are the host's, read-only; `/run/out` takes the results; `/work` is ours.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use measure::Sha256;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::debian::deb::{self, Part};
use crate::debian::repository;
use crate::image::cpio;
use crate::mend::{Exit, OrMend as _};
use crate::model::lock::Package;
use crate::model::payload::{self, Payload};
use crate::model::volume;
use crate::stage::plain::{self, Plain, Pool};
use crate::stage::volume::Volume;
use crate::stage::{self, base, modules, say};
use crate::world::parallel::join;
use crate::world::program::{Program, of_the_tree};
use crate::world::room::{self, Place};
use crate::world::sandbox::Line;
use crate::world::store::Store;
use crate::world::{tidy, unpack};

/// What a guest is made of.
#[derive(Debug, Deserialize, Serialize)]
pub struct Guest {
    /// The only clock.
    pub epoch: Timestamp,
    /// What mkosi derives its identifiers from.
    pub seed: Uuid,
    pub root: Image,
    /// The identifier of the root file system, by which the initrd finds it.
    pub root_uuid: Uuid,
    pub initrd: Image,
    /// Kernel modules of the initrd, by name.
    pub modules: Vec<String>,
    /// What enters the trees after mkosi has made them, and the volumes.
    pub payloads: Vec<Payload>,
    pub volumes: Vec<Volume>,
    pub kernel: Vec<Deb>,
    /// Where the release and the work are on the host, for messages; without a workspace it is memory.
    pub releases: PathBuf,
    pub workspace: Option<PathBuf>,
}

/// A tree that mkosi makes.
#[derive(Debug, Deserialize, Serialize)]
pub struct Image {
    pub suite: String,
    /// What is asked for.
    pub packages: Vec<String>,
    /// What may be installed: exactly the locked packages.
    pub debs: Vec<Deb>,
}

/// A package in the store.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Deb {
    pub file: String,
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

impl From<&Package> for Deb {
    fn from(package: &Package) -> Self {
        Self {
            file: package.file_name().into(),
            sha256: package.sha256,
            size: package.size,
        }
    }
}

/// Files that [`Guest::make`] leaves in the output folder.
pub mod output {
    pub const INITRD: &str = "initrd.cpio.zst";
    pub const KERNEL: &str = "vmlinuz";
    pub const ROOT: &str = "rootfs.erofs";
}

/// Where the host's folders appear.
pub mod inside {
    pub const OUT: &str = "/run/out";
    pub const RECIPE: &str = "/run/recipe";
    pub const STORE: &str = "/run/store";
    /// Nothing else of the store.
    pub const FILES: &str = "/run/store/sha256";
    pub const WORK: &str = "/work";
}

/// What to do where the release's disk is full.
pub const OTHER_OUTPUT: &str = "make room there, or choose another folder: --output DIR";

const MKOSI: Program = of_the_tree("mkosi");
const MKFS_EROFS: Program = of_the_tree("mkfs.erofs");
const DEPMOD: Program = of_the_tree("depmod");
const ZSTD: Program = of_the_tree("zstd");

/// Folders of ours: the packages without compression, and what mkosi is shown of them.
const PACKAGES: &str = "packages";
const REPOSITORY: &str = "repository";

/// LZ4 needs next to no time to read and no dictionary; 64 KiB clusters keep random reads cheap.
const COMPRESSION: [&str; 2] = ["-zlz4hc,9", "-C65536"];

impl Guest {
    /// Makes the root image, the initrd and the kernel and leaves them in the output folder. The answer is what the
    /// packages consist of: [`Packages`](stage::origins::Packages).
    ///
    /// # Errors
    /// A package that is not what the lock names, a program of the tree that fails, a kernel without a wanted module.
    pub fn make(&self, line: Line) -> Result<()> {
        let work = Path::new(inside::WORK);
        tidy::clear(work)?; // a killed run may have left things here
        let out = Path::new(inside::OUT);
        let made = room::explain(self.make_in(work, out, line), &self.places(work, out));
        let cleared = tidy::clear(work);
        made.and(cleared)
    }

    fn places<'a>(&self, work: &'a Path, out: &'a Path) -> [Place<'a>; 2] {
        let workspace = self.workspace.as_ref();
        let out = Place {
            folder: out,
            name: format!("the release, {},", self.releases.display()),
            mend: OTHER_OUTPUT,
        };
        let work = Place {
            folder: work,
            name: workspace.map_or("the workspace, memory,".into(), |folder| {
                format!("the workspace, {},", folder.display())
            }),
            mend: "make room there, or name another folder: --workspace DIR",
        };
        [out, work]
    }

    fn make_in(&self, work: &Path, out: &Path, line: Line) -> Result<()> {
        let store = Store::read_only(inside::STORE);
        let packages = self.decompress(&store, work, line)?;
        tidy::copy_recipe(Path::new(inside::RECIPE), &work.join("recipe"))?;
        let (root, initrd) = (work.join("built/root"), work.join("built/initrd"));
        say("assemble", "root tree and initrd tree, with mkosi");
        let release = thread::scope(|threads| {
            let root = threads.spawn(|| self.make_tree(work, &packages, &self.root, ("root", "")));
            let initrd = threads.spawn(|| self.make_tree(work, &packages, &self.initrd, ("initrd", "initrd")));
            let release = unpack_kernel(&self.kernel, &packages, &work.join("kernel"), out);
            join(root).and(join(initrd)).and(release)
        })?;
        for folder in [PACKAGES, REPOSITORY] {
            fs::remove_dir_all(work.join(folder))?; // what follows needs the room
        }
        self.add_modules(work, &release)?;
        self.place_payloads(work, &store)?;
        self.volumes.iter().try_for_each(|volume| volume.add_units(&root))?;
        tidy::normalise(&root, self.epoch)?;
        tidy::normalise(&initrd, self.epoch)?;
        say("assemble", "root image and initrd");
        thread::scope(|threads| {
            let image = threads.spawn(|| self.write_erofs(&root, self.root_uuid, &out.join(output::ROOT)));
            self.write_initrd(&initrd, &out.join(output::INITRD)).and(join(image))
        })?;
        self.write_volumes(work, out)
    }

    fn write_volumes(&self, work: &Path, out: &Path) -> Result<()> {
        self.volumes.iter().try_for_each(|volume| {
            say("assemble", &format!("the volume {}", volume.name));
            let tree = work.join(folder_of(&volume.name));
            tidy::date(&tree, self.epoch)?;
            self.write_erofs(&tree, volume.uuid, &out.join(volume.name.image()))
        })
    }

    /// Says what the packages consist of before anything runs that could say something else.
    fn decompress(&self, store: &Store, work: &Path, line: Line) -> Result<Pool> {
        let debs = [&self.root.debs, &self.initrd.debs, &self.kernel];
        let (pool, members) = plain::decompress(store, debs.into_iter().flatten(), &work.join(PACKAGES))?;
        line.answer(&members)?;
        Ok(pool)
    }

    /// Makes a tree: its base, then mkosi on the configuration in the recipe's `folder`.
    fn make_tree(&self, work: &Path, packages: &Pool, image: &Image, (name, folder): (&str, &str)) -> Result<()> {
        let packages: Vec<&Plain> = image.debs.iter().map(|deb| &packages[&deb.sha256]).collect();
        write_repository(&packages, &image.suite, &work.join(REPOSITORY).join(name))?;
        let base = base::make(&packages, &work.join("base").join(name))?;
        for folder in ["built", "mkosi", &format!("cache/{name}")] {
            fs::create_dir_all(work.join(folder))?;
        }
        let place = |what: &str| format!("{}/{what}", work.display());
        let settings = [
            ("directory", place(&format!("recipe/{folder}"))),
            ("distribution", "debian".into()),
            ("release", image.suite.clone()),
            ("architecture", "x86-64".into()),
            (
                "local-mirror",
                format!("file://{}", place(&format!("{REPOSITORY}/{name}"))),
            ),
            ("repository-key-check", "no".into()), // each package was checked against the lock
            ("base-tree", place(&format!("base/{name}"))),
            ("format", "directory".into()),
            ("output-directory", place("built")),
            ("output", name.into()),
            ("workspace-directory", place("mkosi")),
            ("package-cache-dir", place(&format!("cache/{name}"))),
            ("source-date-epoch", self.epoch.as_second().to_string()),
            ("seed", self.seed.to_string()),
            ("bootable", "no".into()),
            ("with-recommends", "no".into()),
            ("incremental", "no".into()),
        ];
        let settings = settings.iter().map(|(name, value)| format!("--{name}={value}"));
        let packages = base
            .iter()
            .chain(&image.packages)
            .map(|package| format!("--package={package}"));
        let arguments = settings.chain(packages).chain(["build".into()]);
        MKOSI
            .run(arguments)
            .with_context(|| format!("cannot make the {name} tree"))
            .map(drop)
    }

    /// Puts the kernel's modules into the root tree, and those that the recipe names into the initrd's.
    fn add_modules(&self, work: &Path, release: &str) -> Result<()> {
        let (root, initrd) = (work.join("built/root"), work.join("built/initrd"));
        let folder = format!("usr/lib/modules/{release}");
        fs::create_dir_all(root.join("usr/lib/modules"))?;
        let modules = work.join("kernel/usr/lib/modules").join(release);
        fs::rename(&modules, root.join(&folder)).context("cannot move the kernel's modules")?;
        run_depmod(&root, release)?;
        modules::copy_closure(&root.join(&folder), &initrd.join(&folder), &self.modules)?;
        run_depmod(&initrd, release)
    }

    fn place_payloads(&self, work: &Path, store: &Store) -> Result<()> {
        self.payloads.iter().try_for_each(|payload| {
            let tree = match (&payload.place.volume, payload.place.tree) {
                (Some(volume), _) => folder_of(volume),
                (None, payload::Tree::Root) => "built/root".into(),
                (None, payload::Tree::Initrd) => "built/initrd".into(),
            };
            fs::create_dir_all(work.join(&tree))?;
            stage::payload::place(payload, store, work, &work.join(tree))
        })
    }

    fn write_erofs(&self, tree: &Path, uuid: Uuid, image: &Path) -> Result<()> {
        let fixed = [
            "--quiet".into(),
            "--mkfs-time".into(),
            format!("-T{}", self.epoch.as_second()),
            format!("-U{uuid}"),
        ];
        let arguments = fixed.into_iter().chain(COMPRESSION.map(String::from));
        MKFS_EROFS
            .run(arguments.chain([image.display().to_string(), tree.display().to_string()]))
            .map(drop)
    }

    fn write_initrd(&self, tree: &Path, file: &Path) -> Result<()> {
        // Any number of threads above none gives zstd's same output.
        let arguments = ["-q", "-T0", "-9", "-f", "-o"].map(String::from);
        let mut zstd = ZSTD.start(arguments.into_iter().chain([file.display().to_string()]))?;
        let pipe = zstd.stdin.take().expect("its standard input is a pipe");
        let epoch = u64::try_from(self.epoch.as_second()).context("the epoch is before 1970")?;
        let written = cpio::Archive::new(BufWriter::with_capacity(1 << 20, pipe), epoch)
            .and_then(|archive| tidy::archive(tree, archive));
        let status = zstd.wait().context("cannot wait for zstd")?;
        if status.success() {
            return written;
        }
        Err(Exit::Outside.because(format!("zstd ended with {status}"), "see whether the disk is full"))
    }
}

/// Where the tree of a volume is, below the work.
fn folder_of(volume: &volume::Name) -> String {
    format!("built/volume-{volume}")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

fn run_depmod(tree: &Path, release: &str) -> Result<()> {
    DEPMOD.run([Path::new("-b"), tree, Path::new(release)]).map(drop)
}

/// Writes a package repository of exactly these packages.
fn write_repository(packages: &[&Plain], suite: &str, folder: &Path) -> Result<()> {
    let pool = folder.join("pool");
    fs::create_dir_all(&pool)?;
    for package in packages {
        fs::hard_link(&package.path, pool.join(&package.name))
            .with_context(|| format!("cannot link {}", package.name))?;
    }
    let entry = |package: &&Plain| {
        let (path, stamp) = (format!("pool/{}", package.name), package.stamp);
        repository::entry(&package.control, &path, stamp.size, &stamp.sha256)
    };
    let index: String = packages.iter().map(entry).collect();
    let dist = folder.join("dists").join(suite);
    fs::create_dir_all(dist.join("main/binary-amd64"))?;
    fs::write(dist.join("main/binary-amd64/Packages"), &index)?;
    fs::write(dist.join("Release"), repository::release(suite, &index)).context("cannot write Release")
}

/// Takes the kernel image and the modules out of the kernel's packages; returns the kernel's release.
fn unpack_kernel(debs: &[Deb], packages: &Pool, folder: &Path, out: &Path) -> Result<String> {
    fs::create_dir_all(folder)?;
    for deb in debs {
        let package = deb::part(File::open(&packages[&deb.sha256].path)?, Part::Data);
        package
            .and_then(|mut files| unpack::unpack(&mut files, folder))
            .with_context(|| format!("cannot unpack {}", deb.file))?;
    }
    let image = only_one(&folder.join("boot"), "vmlinuz-")?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let release = name.trim_start_matches("vmlinuz-").to_owned();
    copy(&image, &out.join(output::KERNEL))?;
    Ok(release)
}

fn only_one(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).or_mend(
        Exit::Usage,
        "the kernel's packages have no /boot",
        "name a package with a kernel image",
    )?;
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut found = names.filter(|path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    });
    match (found.next(), found.next()) {
        (Some(path), None) => Ok(path),
        (None, _) => Err(Exit::Usage.because("the kernel's packages have no kernel image", "name one that has")),
        (Some(_), Some(_)) => Err(Exit::Usage.because(
            "the kernel's packages have several kernel images",
            "name a package with one",
        )),
    }
}
