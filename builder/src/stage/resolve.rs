//! Recipe in, lock out: signed metadata is fetched and believed, and each tree's packages are chosen.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use measure::Sha256;

use crate::debian::openpgp::Keyring;
use crate::debian::packages;
use crate::debian::release::Release;
use crate::debian::solve::{self, Chosen, Universe};
use crate::mend::Exit;
use crate::model::lock::{self, Lock, Metadata, Source, Tree};
use crate::model::recipe::{Firmware, Kernel, Recipe, Suite};

/// What shall be locked: the recipe with all that it names.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub recipe: &'a Recipe,
    /// The digest of the recipe's folder.
    pub digest: Sha256,
    /// The recipe's own files.
    pub sources: Vec<Source>,
    pub firmware: &'a [Firmware],
    pub kernel: &'a Kernel,
    /// The bytes of each keyring that a suite names, by that name.
    pub keyrings: &'a BTreeMap<String, Vec<u8>>,
}

/// Where the files of package archives are had from; its answers are not believed.
pub trait Archive {
    /// Returns the signed file at `path` below the root of `archive`.
    ///
    /// # Errors
    /// No mirror has the file.
    fn signed(&self, archive: &str, path: &str) -> Result<Vec<u8>>;

    /// Returns the file of `size` bytes with the digest `sha256`, from the first of `paths` that has it.
    ///
    /// # Errors
    /// No mirror has the file.
    fn index(&self, archive: &str, paths: &[String], sha256: Sha256, size: u64) -> Result<Vec<u8>>;
}

/// What builds: unpacked from their packages, never configured.
const TOOLS: [&str; 10] = [
    "apt",                    // mkosi installs with it, from a repository of the locked packages
    "cryptsetup-bin",         // veritysetup: the hash tree of the root image
    "debian-archive-keyring", // mkosi refuses to start apt without one
    "erofs-utils",            // mkfs.erofs: the root image
    "kmod",                   // depmod, and what the kernel modules of an initrd depend on
    "mkosi",                  // makes the trees
    "systemd-boot-efi",       // the stub that a UKI starts with
    "systemd-repart",         // what mkosi writes disks with
    "xz-utils",               // kernel modules are compressed with it
    "zstd",                   // initrds are compressed with it
];

/// What compiles payloads: unpacked from their packages, never configured.
const COMPILER: [&str; 5] = ["cargo", "coreutils", "gcc", "libc6-dev", "rustc"];

/// What boots a release here: unpacked from their packages, never configured.
const BOOT: [&str; 2] = [
    "qemu-system-x86", // the virtual machine
    "swtpm",           // its TPM
];

/// The packages that a kernel's meta package may lead to; what else it depends on is not measured.
const KERNELS: [&str; 3] = ["linux-binary-", "linux-image-", "linux-modules-"];

/// What is in `TOOLS`, `COMPILER` and `BOOT` is not the recipe's wish.
const OURS: &str = "begat";

/// What the recipe asks for.
const RECIPE: &str = "recipe";

/// The suites that amend another one are part of it where the recipe declares them.
const AMENDMENTS: [&str; 2] = ["updates", "security"];

/// The one component that is read, and the one architecture; Debian lists packages for all architectures there, too.
const INDEX: &str = "main/binary-amd64/Packages";

/// How far the clock may be behind the archive's.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(24);

const OTHER_MIRROR: &str = "try another mirror: --mirror, or mirrors of the suite in recipe.toml";

/// Returns the lock of what is wanted, as the archives are now.
///
/// # Errors
/// Metadata that is not signed by the archive's keys, of another suite, expired, or older than the `previous` lock's;
/// an index with another digest than its metadata names; packages that do not exist or cannot be installed together.
pub fn resolve(wanted: &Wanted<'_>, previous: Option<&Lock>, now: Timestamp, archive: &impl Archive) -> Result<Lock> {
    let reader = Reader {
        wanted,
        previous,
        now,
        archive,
    };
    let trees = trees(wanted);
    let mut suites = BTreeMap::new();
    for tree in &trees {
        suites.insert(tree.suite, wanted.parts(tree.suite));
    }
    let mut parts = BTreeMap::new();
    for part in suites.values().flatten().cloned().collect::<BTreeSet<_>>() {
        let read = reader
            .read(&part)
            .with_context(|| format!("cannot read the suite {part}"))?;
        parts.insert(part, read);
    }
    let mut entries = Entries::default();
    for (suite, names) in suites {
        let universe = universe(names.iter().map(|name| &parts[name]))?;
        for tree in trees.iter().filter(|tree| tree.suite == suite) {
            entries.add(tree.tree, &tree.choose(&universe)?);
        }
    }
    let metadata = parts.into_values().map(|part| part.metadata).collect();
    let packages = entries.0.into_values().collect();
    Ok(Lock::new(wanted.digest, metadata, packages, wanted.sources.clone()))
}

/// What enters a tree.
struct Choice<'a> {
    tree: Tree,
    suite: &'a str,
    names: Vec<&'a str>,
}

fn trees<'a>(wanted: &Wanted<'a>) -> Vec<Choice<'a>> {
    fn names(names: &[String]) -> Vec<&str> {
        names.iter().map(String::as_str).collect()
    }
    let Recipe {
        tools,
        root,
        initrd,
        compiler,
        ..
    } = wanted.recipe;
    let choice = |tree, suite, names| Choice { tree, suite, names };
    let mut trees = vec![
        choice(Tree::Boot, tools, BOOT.to_vec()),
        choice(Tree::Initrd, &initrd.suite, names(&initrd.packages)),
        choice(Tree::Kernel, &wanted.kernel.suite, vec![&wanted.kernel.package]),
        choice(Tree::Root, &root.suite, names(&root.packages)),
        choice(Tree::Tools, tools, TOOLS.to_vec()),
    ];
    let compiler = compiler.iter();
    trees.extend(compiler.map(|suite| choice(Tree::Compiler, suite, COMPILER.to_vec())));
    let firmware = wanted.firmware.iter();
    trees.extend(firmware.map(|firmware| choice(Tree::Firmware, &firmware.suite, vec![&firmware.package])));
    trees
}

impl Choice<'_> {
    fn choose<'p>(&self, universe: &Universe<'p>) -> Result<Vec<Chosen<'p>>> {
        let chosen = match self.tree {
            Tree::Root | Tree::Initrd => solve::solve(universe, &self.names, RECIPE),
            Tree::Tools | Tree::Compiler | Tree::Boot => solve::solve(universe, &self.names, OURS),
            Tree::Firmware => self.follow(universe, &[]),
            Tree::Kernel => self.follow(universe, &KERNELS),
        };
        chosen.with_context(|| {
            format!(
                "cannot choose the packages of {:?} from the suite {}",
                self.tree, self.suite
            )
        })
    }

    fn follow<'p>(&self, universe: &Universe<'p>, prefixes: &[&str]) -> Result<Vec<Chosen<'p>>> {
        let chosen = self
            .names
            .iter()
            .map(|name| solve::follow(universe, name, prefixes, RECIPE));
        Ok(chosen.collect::<Result<Vec<_>>>()?.concat())
    }
}

/// The packages of the lock, by name, version, architecture and digest.
#[derive(Default)]
struct Entries(BTreeMap<(String, String, String, Sha256), lock::Package>);

impl Entries {
    fn add(&mut self, tree: Tree, chosen: &[Chosen<'_>]) {
        for Chosen { package, why } in chosen {
            let text = str::to_owned;
            let key = (
                text(package.name),
                text(package.version),
                text(package.architecture),
                package.sha256,
            );
            let entry = self.0.entry(key).or_insert_with(|| lock::Package {
                name: text(package.name),
                version: text(package.version),
                architecture: text(package.architecture),
                source: package.source.map(text),
                sha256: package.sha256,
                size: package.size,
                archive: text(package.archive),
                path: text(package.path),
                why: BTreeMap::new(),
            });
            entry.why.insert(tree, why.clone());
        }
    }
}

/// A suite as its archive signed it.
struct Part {
    metadata: Metadata,
    /// The text of its index.
    index: String,
}

fn universe<'a>(parts: impl Iterator<Item = &'a Part>) -> Result<Universe<'a>> {
    let packages = parts.map(|part| packages::parse(&part.metadata.archive, &part.index));
    Universe::new(packages.collect::<Result<Vec<_>>>()?.concat())
}

impl Wanted<'_> {
    /// The suite, what it adds to where it is one of backports, and those that amend that.
    fn parts(&self, suite: &str) -> Vec<String> {
        let base = suite.strip_suffix("-backports");
        let amended = base.unwrap_or(suite);
        let amendments = AMENDMENTS.iter().map(|amendment| format!("{amended}-{amendment}"));
        let added = base.map(str::to_owned).into_iter().chain(amendments);
        let declared = added.filter(|name| self.recipe.suites.contains_key(name));
        std::iter::once(suite.to_owned()).chain(declared).collect()
    }

    fn keyring(&self, suite: &Suite) -> Result<Keyring> {
        let Some(name) = &suite.keyring else {
            return Keyring::debian();
        };
        let mend = "put it beside recipe.toml, or correct its name there";
        let missing = || Exit::Usage.because(format!("there is no keyring {name:?}"), mend);
        Keyring::parse(name, self.keyrings.get(name).ok_or_else(missing)?)
    }
}

/// Reads suites, and believes only what is signed.
struct Reader<'a, A> {
    wanted: &'a Wanted<'a>,
    previous: Option<&'a Lock>,
    now: Timestamp,
    archive: &'a A,
}

impl<A: Archive> Reader<'_, A> {
    fn read(&self, name: &str) -> Result<Part> {
        let suite = self.wanted.recipe.suite(name)?;
        let path = format!("dists/{name}/InRelease");
        let file = self.archive.signed(&suite.archive, &path)?;
        let signed = self.wanted.keyring(suite)?.verify(&path, &file, self.now)?;
        let release = Release::parse(signed.text())?;
        self.is_the_suite(name, &release)?;
        self.is_not_rolled_back(name, suite, &release)?;
        self.is_current(suite, &release)?;
        let metadata = Metadata {
            archive: suite.archive.clone(),
            suite: name.into(),
            sha256: Sha256::of(&file),
            size: file.len() as u64,
            date: release.date,
            valid_until: release.valid_until,
            ignored_valid_until: suite.ignore_valid_until.clone(),
            signed_by: signed.signed_by().to_vec(),
        };
        Ok(Part {
            metadata,
            index: self.index(name, suite, &release)?,
        })
    }

    /// A mirror could answer with the signed metadata of another suite.
    fn is_the_suite(&self, name: &str, release: &Release) -> Result<()> {
        if release.is(name) {
            return Ok(());
        }
        let names: Vec<_> = [&release.codename, &release.suite]
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        let problem = format!(
            "asked for the suite {name} and got signed metadata of {}",
            names.join(", ")
        );
        Err(Exit::LockMismatch.because(problem, OTHER_MIRROR))
    }

    /// A mirror could answer with signed metadata that has since been replaced.
    fn is_not_rolled_back(&self, name: &str, suite: &Suite, release: &Release) -> Result<()> {
        let known = self.previous.iter().flat_map(|lock| &lock.metadata);
        let mut known = known.filter(|known| known.archive == suite.archive && known.suite == name);
        let Some(known) = known.find(|known| release.date < known.date) else {
            return Ok(());
        };
        let problem = format!(
            "metadata of {} is older than that of the lock, {}",
            release.date, known.date
        );
        Err(Exit::Expired.because(problem, OTHER_MIRROR))
    }

    fn is_current(&self, suite: &Suite, release: &Release) -> Result<()> {
        if release.date > self.now + CLOCKS_DIFFER {
            let problem = format!("metadata of {} is from the future: it is {}", release.date, self.now);
            return Err(Exit::Expired.because(problem, "set the clock"));
        }
        match release.valid_until {
            Some(end) if end < self.now && suite.ignore_valid_until.is_none() => {
                let problem = format!("metadata has expired on {end}: it is {}", self.now);
                let mend = format!("{OTHER_MIRROR}; to accept it, say why: ignore-valid-until = \"…\"");
                Err(Exit::Expired.because(problem, mend))
            }
            _ => Ok(()),
        }
    }

    fn index(&self, name: &str, suite: &Suite, release: &Release) -> Result<String> {
        let listed = |path: &str| {
            let problem = format!("metadata lists no {path}");
            let index = release.indices.get(path).copied();
            index.ok_or_else(|| Exit::Unsupported.because(problem, "take a suite for amd64 that has one"))
        };
        let packed = format!("{INDEX}.xz");
        let (sha256, size) = listed(&packed)?;
        let (_, unpacked_size) = listed(INDEX)?;
        let (folder, _) = packed.rsplit_once('/').unwrap_or_default();
        let by_hash = release
            .by_hash
            .then(|| format!("dists/{name}/{folder}/by-hash/SHA256/{sha256}"));
        let paths: Vec<_> = by_hash.into_iter().chain([format!("dists/{name}/{packed}")]).collect();
        let file = self.archive.index(&suite.archive, &paths, sha256, size)?;
        let found = Sha256::of(&file);
        if found != sha256 {
            let problem = format!("{packed} has the digest {found}, its signed metadata names {sha256}");
            return Err(Exit::LockMismatch.because(problem, OTHER_MIRROR));
        }
        packages::decompress(&file, unpacked_size)
    }
}
