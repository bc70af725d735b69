//! Release in, findings out: is everything in it what its recipe, its lock and its own other files lead to?
//!
//! Documents are made again and compared byte for byte, and so are the command line, the hash trees and the disk. What
//! needs the packages of the lock is made again by [`account`](crate::stage::account).

use std::sync::Arc;

use anyhow::{Context as _, Result};
use measure::erofs::Erofs;
use measure::linux::Kernel;
use measure::uki::Uki;
use measure::verity::{BLOCK, Verity};
use measure::{ReadAt as _, Sha256};

use crate::image::disk::{self, Content, Disk};
use crate::image::{fat, gpt, identity};
use crate::mend::quoted;
use crate::model::file;
use crate::model::lock::Lock;
use crate::model::measurements::Measurement;
use crate::model::payload::{self, Payload};
use crate::model::release::{FileName, Manifest, Origin};
use crate::model::{Measurements, volume};
use crate::stage::compared::{Compared, Stream};
use crate::stage::derived::{self, Derived, Source};
use crate::stage::finding::Finding;
use crate::stage::measure::{Measured, launches};
use crate::stage::on_disk::OnDisk;
use crate::stage::parse::{LOCK, Project};
use crate::stage::recipe;
use crate::stage::release::Stamps;
use crate::world::files::{self, Opened};
use crate::world::parallel::both;

/// How much of an image a core reads at once, in bytes: a whole number of blocks of hashes, and no more than its cache
/// holds.
const PIECE: u64 = 1 << 18;

/// What no finding does not mean: nobody but the archives of that day can say it.
pub const LOCKED: &str = "that the archives had, for this recipe, what recipe.lock names";

/// Compares the release, whose files are those of its `manifest`, with what its recipe and its lock lead to.
pub fn recompute(on_disk: &OnDisk, manifest: &Manifest) -> Vec<Finding> {
    match read(on_disk) {
        Ok((project, lock)) => {
            let (project, lock) = (&project, &lock);
            let source = Source { project, lock };
            Release {
                on_disk,
                manifest,
                source,
            }
            .compare()
        }
        Err(error) => vec![Finding::RecipeUnreadable {
            why: quoted(format_args!("{error:#}")),
        }],
    }
}

/// Reads what a release was made from.
///
/// # Errors
/// A recipe or a lock that cannot be read.
pub fn read(release: &OnDisk) -> Result<(Project, Lock)> {
    let text = |name: &str| release.text(name).with_context(|| format!("cannot read {name}"));
    let archive = release.bytes(recipe::FILE);
    let archive = archive.with_context(|| format!("cannot read {}", recipe::FILE))?;
    let project = recipe::read(&archive, &text("recipe.toml")?)?;
    Ok((project, Lock::parse(&text(LOCK)?)?))
}

/// A release, and what it says that it was made from.
struct Release<'a> {
    on_disk: &'a OnDisk,
    manifest: &'a Manifest,
    source: Source<'a>,
}

/// An image and its hash tree.
struct Hashed {
    image: String,
    verity: String,
    root: Sha256,
}

impl Release<'_> {
    fn compare(&self) -> Vec<Finding> {
        let unmeasurable = |error| {
            vec![Finding::Unmeasurable {
                why: quoted(format_args!("{error:#}")),
            }]
        };
        let missing: Vec<Finding> = self.missing(&self.source.artifacts()).collect();
        if !missing.is_empty() {
            return missing;
        }
        let said = || [self.origin(), self.measured().unwrap_or_else(unmeasurable)].concat();
        let (said, made) = both(said, || self.images().unwrap_or_else(unmeasurable));
        [said, made].concat()
    }

    fn missing<'n>(&self, wanted: impl IntoIterator<Item = &'n String>) -> impl Iterator<Item = Finding> {
        let missing = wanted.into_iter().filter(|name| self.stamp(name).is_none());
        missing.map(|file| Finding::PartMissing { file: file.clone() })
    }

    fn stamp(&self, name: &str) -> Option<(&FileName, &crate::model::release::Stamp)> {
        self.manifest.files.iter().find(|(file, _)| file.as_str() == name)
    }

    /// What the manifest says, and what the lock says of the recipe.
    fn origin(&self) -> Vec<Finding> {
        let Source { project, lock } = self.source;
        let fields = |origin: &Origin| {
            let Origin {
                name,
                epoch,
                recipe,
                lock,
            } = origin;
            [
                ("name", name.to_string()),
                ("epoch", epoch.to_string()),
                ("recipe", recipe.to_string()),
                ("lock", lock.to_string()),
            ]
        };
        let said = fields(&self.manifest.origin)
            .into_iter()
            .zip(fields(&self.source.origin()));
        let said = said.filter(|(found, wanted)| found != wanted);
        let said = said.map(|((field, found), (_, wanted))| Finding::OriginDiffers {
            field: field.into(),
            found,
            wanted,
        });
        let mut sources = lock.source.clone();
        sources.sort_by(|one, other| one.path.cmp(&other.path));
        let locked = lock.recipe == project.digest && sources == project.sources && self.payloads_are_those_declared();
        said.chain((!locked).then_some(Finding::LockOfOther)).collect()
    }

    /// Each payload of the lock is declared by the recipe, with nothing else said of it.
    fn payloads_are_those_declared(&self) -> bool {
        let Source { project, lock } = self.source;
        let declared = &project.recipe.payload;
        let is_there = |path: &str, payload: &Payload| {
            let mut sources = project.sources.iter().filter(|source| source.path == path);
            sources.any(|source| (source.sha256, source.size) == (payload.sha256, payload.size))
        };
        let is_declared = |payload: &Payload| {
            let mut declared = declared.iter().filter(|declared| declared.name == payload.name);
            let declared = declared.next().filter(|declared| declared.leads_to(payload));
            declared.is_some_and(|declared| match &declared.source {
                Some(payload::Source::File(path)) => is_there(path, payload),
                _ => true,
            })
        };
        declared.len() == lock.payload.len() && lock.payload.iter().all(is_declared)
    }

    /// What every launch reports, and the documents that follow from that.
    fn measured(&self) -> Result<Vec<Finding>> {
        let artifacts = self.source.artifacts();
        let stamps = self
            .manifest
            .files
            .iter()
            .filter(|(name, _)| artifacts.contains(name.as_str()));
        let stamps: Stamps = stamps.map(|(name, stamp)| (name.clone(), *stamp)).collect();
        let wanted = &self.source.project.recipe.launch;
        let launches = launches(wanted, &self.source.firmware(), &stamps)?;
        let measured = Measured::read(&launches, self.on_disk)?;
        let measurements = measured.measure(launches)?;
        let documents = Derived {
            source: self.source,
            files: &stamps,
            measurements: &measurements,
        }
        .documents()?;
        let mut findings = self.names(documents.iter().map(|(name, _)| *name));
        for (name, wanted) in &documents {
            if self.stamp(name).is_none() {
                continue;
            }
            match self.document(name, wanted)? {
                Some(_) if *name == "measurements.json" => findings.extend(self.launches(&measurements)?),
                found => findings.extend(found),
            }
        }
        findings.extend(measured.compare_uki()?);
        Ok(findings)
    }

    /// The manifest lists what such a release has, and nothing else.
    fn names<'n>(&self, documents: impl Iterator<Item = &'n str>) -> Vec<Finding> {
        let mut wanted = derived::names(documents);
        wanted.append(&mut self.source.artifacts());
        let listed = self.manifest.files.keys().map(FileName::as_str);
        let unknown = listed.filter(|name| !wanted.contains(*name));
        let unknown = unknown.map(|name| Finding::PartUnknown { file: name.into() });
        self.missing(&wanted).chain(unknown).collect()
    }

    /// Whether a document is the one that was made again.
    fn document(&self, name: &str, wanted: &[u8]) -> Result<Option<Finding>> {
        let found = self
            .on_disk
            .bytes(name)
            .with_context(|| format!("cannot read {name}"))?;
        Ok(first_difference(&found, wanted).map(|offset| made_otherwise(name, offset)))
    }

    /// The launches of which measurements.json, which is not the one made again, says something else.
    fn launches(&self, computed: &Measurements) -> Result<Vec<Finding>> {
        const NAME: &str = "measurements.json";
        let text = self.on_disk.text(NAME).with_context(|| format!("cannot read {NAME}"))?;
        let said = Measurements::parse(&text)?.launches;
        let pairs = said.iter().zip(&computed.launches);
        let differing = pairs.filter(|(said, computed)| said != computed);
        let finding = |said: &Measurement| Finding::MeasurementsDiffer {
            launch: said.launch.to_string(),
        };
        let findings: Vec<_> = differing.map(|(said, _)| finding(said)).collect();
        if findings.is_empty() {
            let offset = first_difference(text.as_bytes(), computed.text().as_bytes()).unwrap_or_default();
            return Ok(vec![made_otherwise(NAME, offset)]);
        }
        Ok(findings)
    }

    /// The root hashes and their trees, the command line that names them, and the disk that holds all of it.
    fn images(&self) -> Result<Vec<Finding>> {
        let volumes = self.source.project.recipe.volume.iter().map(|volume| &volume.name);
        let volumes: Vec<&volume::Name> = volumes.collect();
        let images = [(file::ROOT.to_owned(), file::VERITY.to_owned())].into_iter();
        let images = images.chain(volumes.iter().map(|name| (name.image(), name.verity())));
        let mut hashed = Vec::new();
        let mut findings = Vec::new();
        for (image, verity) in images {
            let (root, found) = self.root_hash(&image, &verity)?;
            findings.extend(found);
            hashed.push(Hashed { image, verity, root });
        }
        let roots = volumes.into_iter().zip(&hashed[1..]);
        let roots: Vec<_> = roots.map(|(name, hashed)| (name.clone(), hashed.root)).collect();
        findings.extend(self.command_line(&hashed[0].root, &roots)?);
        findings.extend(self.disk(&hashed)?);
        Ok(findings)
    }

    /// The root hash of an image, and whether the tree is the one of the image, by the identifiers of the lock.
    fn root_hash(&self, image: &str, verity: &str) -> Result<(Sha256, Vec<Finding>)> {
        let lock = self.source.lock.digest();
        let (tree, data) = (self.open(verity)?, self.open(image)?);
        let mut first = vec![0; BLOCK];
        tree.read_at(0, &mut first)?;
        let read = Verity::read(&first)?;
        let (root, wanted) = compute(&read, &data)?;
        let identified = read.salt() == identity::salt(&lock, verity)
            && read.uuid() == *identity::uuid(&lock, verity).as_bytes()
            && read.superblock() == first;
        let mut found = vec![0; wanted.len()];
        let whole = tree.size() == (BLOCK + wanted.len()) as u64;
        let offset = match () {
            () if !identified => Some(0),
            () if !whole => Some(tree.size().min((BLOCK + wanted.len()) as u64)),
            () => {
                tree.read_at(BLOCK as u64, &mut found)?;
                first_difference(&found, &wanted).map(|offset| offset + BLOCK as u64)
            }
        };
        let tree = offset.map(|offset| made_otherwise(verity, offset));
        let other = Erofs::read(&*data)?.uuid() != *identity::uuid(&lock, image).as_bytes();
        let other = other.then(|| made_otherwise(image, 0));
        Ok((root, tree.into_iter().chain(other).collect()))
    }

    fn command_line(&self, root: &Sha256, volumes: &[(volume::Name, Sha256)]) -> Result<Vec<Finding>> {
        let wanted = self.source.command_line(root, volumes);
        let Some(differs) = self.document(file::COMMAND_LINE, wanted.as_bytes())? else {
            return Ok(Vec::new());
        };
        let said = self
            .on_disk
            .text(file::COMMAND_LINE)
            .context("cannot read the command line")?;
        let of_root = said.split(' ').find_map(|word| word.strip_prefix("roothash="));
        let of_root = [(file::ROOT.to_owned(), *root, of_root)];
        let of_volumes = volumes
            .iter()
            .map(|(name, root)| (name.image(), *root, name.root_hash(&said)));
        let roots = of_root
            .into_iter()
            .chain(of_volumes)
            .filter_map(|(image, found, wanted)| {
                let wanted = wanted.unwrap_or_default();
                (found.to_string() != wanted).then(|| Finding::RootHashDiffers {
                    image,
                    found,
                    wanted: wanted.replace(char::is_control, " "),
                })
            });
        let roots: Vec<Finding> = roots.collect();
        Ok(if roots.is_empty() { vec![differs] } else { roots })
    }

    /// Makes the disk again, and compares it while it is written.
    fn disk(&self, hashed: &[Hashed]) -> Result<Option<Finding>> {
        let lock = self.source.lock.digest();
        let (there, uki) = (self.open(file::DISK)?, self.open(file::UKI)?);
        let names = hashed.iter().flat_map(|hashed| [&hashed.image, &hashed.verity]);
        let parts = names.map(|name| Ok((name.as_str(), self.open(name)?)));
        let parts: Vec<(&str, Arc<Opened>)> = parts.collect::<Result<_>>()?;
        let esp_size = fat::esp_size(uki.size())?;
        let sizes = parts.iter().map(|(_, part)| part.size());
        let size = gpt::disk_size([esp_size].into_iter().chain(sizes));
        if there.size() != size {
            return Ok(Some(made_otherwise(file::DISK, there.size().min(size))));
        }
        let esp = disk::ESP..disk::ESP + esp_size;
        let mut compared = Compared::new(&*there, esp.clone());
        let wrote = disk::write_esp(&lock, &mut Stream::whole(&*uki), uki.size(), &mut compared);
        if let Some(offset) = compared.first_difference(wrote)? {
            return Ok(Some(made_otherwise(file::DISK, disk::ESP + offset)));
        }
        let mut esp = Stream::new(&*there, esp); // compared by now
        let mut streams: Vec<_> = parts
            .iter()
            .map(|(name, part)| (*name, Stream::whole(&**part), part.size()))
            .collect();
        let mut contents = streams
            .iter_mut()
            .map(|(name, stream, size)| (*name, Content(stream, *size)));
        let mut next = || {
            contents
                .next()
                .map(|(_, content)| content)
                .context("the root has an image and a tree")
        };
        let disk = Disk {
            lock,
            root_hash: hashed[0].root,
            esp: Content(&mut esp, esp_size),
            root: next()?,
            verity: next()?,
            volumes: contents.collect(),
        };
        let mut compared = Compared::new(&*there, 0..size);
        let wrote = disk.write(&mut compared);
        let offset = compared.first_difference(wrote)?;
        Ok(offset.map(|offset| made_otherwise(file::DISK, offset)))
    }

    fn open(&self, name: &str) -> Result<Arc<Opened>> {
        self.on_disk.file(name).with_context(|| format!("cannot open {name}"))
    }
}

/// The first offset, in bytes, at which two files differ.
pub(super) fn first_difference(one: &[u8], other: &[u8]) -> Option<u64> {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    let ends = (one.len() != other.len()).then(|| one.len().min(other.len()));
    differs.or(ends).map(|offset| offset as u64)
}

fn made_otherwise(file: &str, offset: u64) -> Finding {
    Finding::MadeOtherwise {
        file: file.into(),
        offset,
    }
}

impl Measured {
    /// What is in the UKI is what is started directly.
    fn compare_uki(&self) -> Result<Vec<Finding>> {
        let uki = Uki::read(self.uki()).context("cannot read uki.efi")?;
        let kernel = Kernel::read(self.kernel()).context("cannot read vmlinuz")?;
        let initrd = uki.section(".initrd").map(Sha256::of);
        let mut wrong = Vec::new();
        for (section, same) in [
            (".linux", uki.section(".linux") == Some(self.kernel())),
            (".initrd", initrd.is_some() && initrd == self.initrd().digests.sha256),
            (
                ".cmdline",
                uki.section(".cmdline") == Some(self.command_line().as_bytes()),
            ),
            (".uname", uki.section(".uname") == kernel.release().map(str::as_bytes)),
        ] {
            wrong.extend((!same).then_some(section));
        }
        const KNOWN: [&str; 6] = [".cmdline", ".initrd", ".linux", ".osrel", ".sbat", ".uname"];
        let sections = uki.measured().map(|section| section.name);
        wrong.extend(sections.filter(|name| !KNOWN.contains(name)));
        let finding = |section: &str| Finding::UkiPartDiffers {
            section: section.into(),
        };
        Ok(wrong.into_iter().map(finding).collect())
    }
}

/// Each core hashes its own pieces of the data; returns the root and the tree.
fn compute(verity: &Verity, data: &Opened) -> Result<(Sha256, Vec<u8>)> {
    let size = verity.size().filter(|size| *size == data.size());
    let size = size.context("the hash tree is not of an image of this size")?;
    let pieces: Vec<u64> = (0..size).step_by(PIECE as usize).collect();
    let digests = files::for_each(&pieces, |start| {
        let mut piece = vec![0; usize::try_from(PIECE.min(size - start))?];
        data.read_at(*start, &mut piece)?;
        anyhow::Ok(verity.digests(&piece))
    });
    let digests: Vec<Vec<u8>> = digests.into_iter().collect::<Result<_>>()?;
    verity.tree(digests.concat()).context("the image is empty")
}

const _: () = assert!(PIECE.is_multiple_of(BLOCK as u64));
