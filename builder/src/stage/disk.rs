//! Disk in, findings out: every byte of it is a part of the release, or zero.

use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use measure::fat::Fat;
use measure::gpt::{Gpt, GptError, Partition, SECTOR};
use measure::{Guid, ReadAt, Unreadable};
use serde::Serialize;

use crate::model::artifacts::file;
use crate::stage::on_disk::OnDisk;
use crate::world::files::{self, Opened};

/// What the disk of a release has and should not, or has not and should.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Finding {
    #[error("{part} of {} cannot be read: {why}", file::DISK)]
    DiskUnreadable { part: String, why: String },
    #[error("{} has {count} partitions {part}, expected one", file::DISK)]
    DiskPartitions { part: String, count: usize },
    #[error("the partition {name} of {} is none that a release has", file::DISK)]
    DiskPartitionUnknown { name: String },
    #[error("the EFI system partition of {} has the file {path}", file::DISK)]
    DiskFileUnknown { path: String },
    #[error("{part} of {}, at offset {offset:#x}, is not {wanted}", file::DISK)]
    DiskDiffers { part: String, offset: u64, wanted: String },
    #[error(
        "at offset {offset:#x} of {} there is \"{found}\", which belongs to nothing",
        file::DISK
    )]
    DiskNotZero { offset: u64, found: String },
}

/// Compares the disk of a release with its UKI, with its root image and its volumes, and with their hash trees.
///
/// # Errors
/// Files of the release that cannot be read. Whatever is wrong with the disk is a finding.
pub fn check(release: &OnDisk) -> Result<Vec<Finding>> {
    let open = |name: &str| release.file(name).with_context(|| format!("cannot open {name}"));
    let disk = open(file::DISK)?;
    let parts = parts(release).into_iter().map(|(known, name)| {
        let file = open(&name)?;
        Ok(Part { known, name, file })
    });
    let parts: Vec<Part> = parts.collect::<Result<_>>()?;
    let mut layout = Layout::default();
    if let Err(error) = layout.disk(&disk, &parts) {
        layout.findings.push(unreadable("the partition table", error));
        return Ok(layout.findings);
    }
    layout.compare(&disk)
}

/// By what a partition is known: its type, of the UEFI and Discoverable Partitions Specifications, and for types that
/// several may have its name.
#[derive(Debug)]
enum Known {
    Type(&'static str, Guid),
    Name(String),
}

/// A file of the release that is in a partition.
struct Part {
    known: Known,
    name: String,
    file: Arc<Opened>,
}

const ESP: Guid = Guid::new(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b);
const ROOT: Guid = Guid::new(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709);
const ROOT_VERITY: Guid = Guid::new(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5);
const LINUX_DATA: Guid = Guid::new(0x0fc63daf_8483_4772_8e79_3d69d8477de4);

/// What the disk of a release has, and the names of the files that these are.
fn parts(release: &OnDisk) -> Vec<(Known, String)> {
    let fixed = [
        (Known::Type("esp", ESP), file::UKI.into()),
        (Known::Type("root-x86-64", ROOT), file::ROOT.into()),
        (Known::Type("root-x86-64-verity", ROOT_VERITY), file::VERITY.into()),
    ];
    let files = release
        .volumes()
        .into_iter()
        .flat_map(|name| [name.image(), name.verity()]);
    let named = files.map(|file| (Known::Name(file.clone()), file));
    fixed.into_iter().chain(named).collect()
}

impl Known {
    fn is(&self, partition: &Partition) -> bool {
        match self {
            Self::Type(_, kind) => partition.kind == *kind,
            Self::Name(name) => partition.kind == LINUX_DATA && partition.name == *name,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Type(name, _) => name,
            Self::Name(name) => name,
        }
    }
}

/// The one file that the ESP has.
const LOADER: &str = r"\EFI\BOOT\BOOTX64.EFI";

/// How much of the disk is compared at once, in bytes; the partition table of a disk of ours is far smaller.
const PIECE: u64 = 1 << 20;

/// What every byte of the disk is to be.
#[derive(Default)]
struct Layout<'a> {
    pieces: Vec<Piece<'a>>,
    findings: Vec<Finding>,
}

/// What a range of the disk is to be. Offsets and sizes are in bytes.
struct Piece<'a> {
    range: Range<u64>,
    part: &'a str,
    wanted: Wanted<'a>,
}

enum Wanted<'a> {
    Bytes(Vec<u8>),
    /// A file of the release, from an offset on.
    File(&'a Opened, u64, &'a str),
    /// What its reader has looked at.
    Read,
    Zero,
}

/// A part of a disk, read as if it were all.
pub(super) struct Window<'a> {
    disk: &'a Opened,
    range: Range<u64>,
}

impl<'a> Window<'a> {
    pub(super) fn new(disk: &'a Opened, range: Range<u64>) -> Self {
        Self { disk, range }
    }
}

impl ReadAt for Window<'_> {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let length = buffer.len() as u64;
        match offset.checked_add(length).is_some_and(|end| end <= self.size()) {
            true => self.disk.read_at(self.range.start + offset, buffer),
            false => Err(Unreadable {
                offset,
                length,
                why: "they end outside the partition".into(),
            }),
        }
    }
}

impl<'a> Layout<'a> {
    /// The partition tables, and what is between them.
    fn disk(&mut self, disk: &Opened, parts: &'a [Part]) -> Result<(), DiskError> {
        let mut start = vec![0; disk.size().min(PIECE) as usize];
        disk.read_at(0, &mut start)?;
        let gpt = Gpt::read(&start)?;
        if gpt.disk_size() != disk.size() {
            return Err(DiskError::Size {
                said: gpt.disk_size(),
                found: disk.size(),
            });
        }
        self.add(
            0..SECTOR,
            "the protective MBR",
            Wanted::Bytes(protective_mbr(disk.size())),
        );
        let [(primary, first), (backup, last)] = gpt.tables();
        self.add(primary, "the partition table", Wanted::Bytes(first));
        self.add(backup, "the copy of the partition table", Wanted::Bytes(last));
        let partitions = gpt.partitions()?;
        for part in parts {
            let mut these = partitions.iter().filter(|partition| part.known.is(partition));
            match (these.next(), these.count()) {
                (Some(only), 0) if part.name == file::UKI => self.esp(disk, only, &part.file),
                (Some(only), 0) => self.file(only.bytes.clone(), part),
                (first, more) => self.findings.push(Finding::DiskPartitions {
                    part: part.known.text().into(),
                    count: usize::from(first.is_some()) + more,
                }),
            }
        }
        let unknown = |partition: &&Partition| !parts.iter().any(|part| part.known.is(partition));
        let unknown = partitions.iter().filter(unknown);
        let unknown = unknown.map(|partition| Finding::DiskPartitionUnknown {
            name: partition.name.clone(),
        });
        self.findings.extend(unknown);
        Ok(())
    }

    fn add(&mut self, range: Range<u64>, part: &'a str, wanted: Wanted<'a>) {
        self.pieces.push(Piece { range, part, wanted });
    }

    /// A file of the release; what is behind it, up to the end of the partition, is zero as any gap.
    fn file(&mut self, range: Range<u64>, Part { known, name, file }: &'a Part) {
        let part = known.text();
        if range.end - range.start < file.size() {
            let (part, wanted) = (part.into(), name.clone());
            let offset = range.end;
            return self.findings.push(Finding::DiskDiffers { part, offset, wanted });
        }
        let range = range.start..range.start + file.size();
        self.add(range, part, Wanted::File(file, 0, name));
    }

    fn esp(&mut self, disk: &Opened, partition: &Partition, uki: &'a Opened) {
        let range = partition.bytes.clone();
        let window = Window { disk, range };
        let contents = Fat::read(&window).and_then(|fat| fat.contents());
        let contents = match contents {
            Ok(contents) => contents,
            Err(error) => {
                const PART: &str = "the EFI system partition";
                self.add(partition.bytes.clone(), PART, Wanted::Read);
                return self.findings.push(unreadable(PART, error));
            }
        };
        let on_disk = |range: &Range<u64>| partition.bytes.start + range.start..partition.bytes.start + range.end;
        let (mut files, mut done) = (Vec::new(), 0);
        for file in &contents.files {
            if file.path == LOADER && file.size == uki.size() {
                for extent in &file.extents {
                    files.push(extent.clone());
                    self.add(
                        on_disk(extent),
                        "the EFI system partition",
                        Wanted::File(uki, done, file::UKI),
                    );
                    done += extent.end - extent.start;
                }
            } else {
                let path = file.path.clone();
                self.findings.push(Finding::DiskFileUnknown { path });
            }
        }
        if done != uki.size() {
            let (part, wanted) = ("the EFI system partition".into(), file::UKI.into());
            let offset = partition.bytes.start;
            self.findings.push(Finding::DiskDiffers { part, offset, wanted });
        }
        let rest = contents.used.iter().filter(|used| !files.contains(used));
        rest.for_each(|used| self.add(on_disk(used), "the EFI system partition", Wanted::Read));
    }

    /// Compares piece by piece, and what is between them with zeros.
    fn compare(mut self, disk: &Opened) -> Result<Vec<Finding>> {
        self.pieces.sort_by_key(|piece| (piece.range.start, piece.range.end));
        let (mut pieces, mut done) = (Vec::new(), 0);
        let end = disk.size();
        self.add(end..end, "the end", Wanted::Read);
        for piece in self.pieces {
            if piece.range.start < done {
                self.findings
                    .push(unreadable(piece.part, "it overlaps with what is in front of it"));
            }
            pieces.push(Piece {
                range: done..piece.range.start,
                part: "",
                wanted: Wanted::Zero,
            });
            done = done.max(piece.range.end);
            pieces.push(piece);
        }
        let compared = files::for_each(&pieces, |piece| piece.compare(disk));
        let found: Vec<Option<Finding>> = compared.into_iter().collect::<Result<_, _>>()?;
        Ok(self.findings.into_iter().chain(found.into_iter().flatten()).collect())
    }
}

impl Piece<'_> {
    /// Returns the first thing that differs.
    fn compare(&self, disk: &Opened) -> Result<Option<Finding>, Unreadable> {
        let (mut start, mut found, mut wanted) = (self.range.start, Vec::new(), Vec::new());
        while start < self.range.end && !matches!(self.wanted, Wanted::Read) {
            let size = PIECE.min(self.range.end - start) as usize;
            found.resize(size, 0);
            wanted.clear();
            wanted.resize(size, 0);
            disk.read_at(start, &mut found)?;
            self.wanted.read(start - self.range.start, &mut wanted)?;
            if let Some(at) = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted) {
                return Ok(Some(self.finding(start + at as u64, &found[at..])));
            }
            start += size as u64;
        }
        Ok(None)
    }

    fn finding(&self, offset: u64, found: &[u8]) -> Finding {
        let differs = |wanted: &str| Finding::DiskDiffers {
            part: self.part.into(),
            offset,
            wanted: wanted.into(),
        };
        match self.wanted {
            Wanted::File(_, _, name) => differs(name),
            Wanted::Bytes(_) => differs("what it has to be"),
            Wanted::Read | Wanted::Zero => Finding::DiskNotZero {
                offset,
                found: found[..found.len().min(16)].escape_ascii().to_string(),
            },
        }
    }
}

impl Wanted<'_> {
    /// Fills `buffer`, which is zero, with what there is to be from `offset` on.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        match self {
            Self::Bytes(bytes) => bytes[..].read_at(offset, buffer),
            Self::File(file, start, _) => file.read_at(start + offset, buffer),
            Self::Read | Self::Zero => Ok(()),
        }
    }
}

/// UEFI 2.10, section 5.2.3: one partition of the type EE over all of the disk.
fn protective_mbr(disk: u64) -> Vec<u8> {
    let sectors = u32::try_from(disk / SECTOR - 1).unwrap_or(u32::MAX);
    let entry = [0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00];
    [&[0; 446][..], &entry, &sectors.to_le_bytes(), &[0; 48], &[0x55, 0xaa]].concat()
}

fn unreadable(part: &str, why: impl Display) -> Finding {
    Finding::DiskUnreadable {
        part: part.into(),
        why: why.to_string(),
    }
}

/// Why nothing can be said of a disk.
#[derive(Debug, thiserror::Error)]
enum DiskError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error(transparent)]
    Gpt(#[from] GptError),
    #[error("it is of a disk of {said} bytes, found {found}")]
    Size { said: u64, found: u64 },
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::Seek as _;
    use std::os::unix::fs::FileExt as _;

    use uuid::Uuid;

    use super::*;
    use crate::image::{fat, gpt};

    /// A release that has a disk and what is on it.
    struct Release(tempfile::TempDir);

    /// Where the partitions start, in bytes: the ESP has 35 MiB.
    const ESP: u64 = 1 << 20;
    const ROOT: u64 = 36 << 20;
    const VOLUME: u64 = 38 << 20;

    const IMAGE: &str = "volume-model.erofs";
    const TREE: &str = "volume-model.verity";

    impl Release {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in [
                (file::UKI, &[b'u'; 700][..]),
                (file::ROOT, &[b'r'; 4096]),
                (file::VERITY, b"v"),
                (IMAGE, &[b'm'; 5000]),
                (TREE, b"t"),
            ] {
                fs::write(folder.path().join(name), content).unwrap();
            }
            let open = |name: &str| File::open(folder.path().join(name)).unwrap();
            let mut esp = tempfile::tempfile().unwrap();
            let volume = fat::Volume {
                id: 1,
                label: *b"ESP        ",
            };
            fat::write_esp(&mut open(file::UKI), 700, volume, &mut esp).unwrap();
            let esp_size = esp.metadata().unwrap().len();
            esp.rewind().unwrap();
            let (mut root, mut verity) = (open(file::ROOT), open(file::VERITY));
            let (mut image, mut tree) = (open(IMAGE), open(TREE));
            let mut partitions = [
                partition(gpt::Kind::Esp, "esp", esp_size, &mut esp),
                partition(gpt::Kind::Root, "root", 4096, &mut root),
                partition(gpt::Kind::RootVerity, "root-verity", 1, &mut verity),
                partition(gpt::Kind::Volume, IMAGE, 5000, &mut image),
                partition(gpt::Kind::Volume, TREE, 1, &mut tree),
            ];
            let mut disk = OpenOptions::new();
            let disk = disk.read(true).write(true).create_new(true);
            let mut disk = disk.open(folder.path().join(file::DISK)).unwrap();
            gpt::write_disk(Uuid::nil(), &mut partitions, &mut disk).unwrap();
            Self(folder)
        }

        fn disk(&self) -> File {
            let path = self.0.path().join(file::DISK);
            OpenOptions::new().read(true).write(true).open(path).unwrap()
        }

        /// What is found where somebody has changed the bytes at an offset; they are put back.
        fn changed(&self, offset: u64, bytes: &[u8]) -> Vec<String> {
            let (disk, mut before) = (self.disk(), vec![0; bytes.len()]);
            disk.read_exact_at(&mut before, offset).unwrap();
            disk.write_all_at(bytes, offset).unwrap();
            let found = self.found();
            disk.write_all_at(&before, offset).unwrap();
            found
        }

        fn found(&self) -> Vec<String> {
            let found = check(&OnDisk::open(self.0.path()).unwrap()).unwrap();
            found.iter().map(ToString::to_string).collect()
        }
    }

    fn partition<'a>(kind: gpt::Kind, name: &'a str, size: u64, content: &'a mut File) -> gpt::Partition<'a> {
        gpt::Partition {
            kind,
            guid: Uuid::from_u128(1),
            name,
            size,
            content,
        }
    }

    #[test]
    fn what_somebody_put_on_the_disk_is_found_where_it_is() {
        let release = Release::new();
        assert_eq!(release.found(), [""; 0]);
        let end = release.disk().metadata().unwrap().len();
        for (offset, finding) in [
            (
                0,
                "the protective MBR of disk.raw, at offset 0x0, is not what it has to be",
            ),
            (600, "the partition table of disk.raw cannot be read"),
            (
                620,
                "the partition table of disk.raw, at offset 0x26c, is not what it has to be",
            ),
            (34 * 512, "at offset 0x4400 of disk.raw there is \"hidden\\x00"),
            (ESP + 2 * 512, "at offset 0x100400 of disk.raw there is \"hidden\\x00"),
            (
                ESP + 512 + 100,
                "the EFI system partition of disk.raw cannot be read: FSInfo",
            ),
            (ROOT - 512, "at offset 0x23ffe00 of disk.raw there is \"hidden"),
            (
                ROOT + 100,
                "root-x86-64 of disk.raw, at offset 0x2400064, is not rootfs.erofs",
            ),
            (ROOT + 4096, "at offset 0x2401000 of disk.raw there is \"hidden"),
            (
                VOLUME + 100,
                "volume-model.erofs of disk.raw, at offset 0x2600064, is not volume-model.erofs",
            ),
            (VOLUME + 5000, "at offset 0x2601388 of disk.raw there is \"hidden"),
            (end - 600, "the copy of the partition table of disk.raw, at offset"),
            (end - 100, "the copy of the partition table of disk.raw, at offset"),
        ] {
            let found = release.changed(offset, b"hidden");
            assert_eq!(found.len(), 1, "{offset:#x}: {found:?}");
            assert!(found[0].starts_with(finding), "{found:?}");
        }
        assert_eq!(release.found(), [""; 0]);
    }

    /// In the ESP: what is behind the end of the file, and what is in it.
    #[test]
    fn a_changed_loader_is_found_and_what_is_behind_it() {
        let release = Release::new();
        let disk = files::open_at(&release.0.path().join(file::DISK)).unwrap();
        let esp = Window {
            disk: &disk,
            range: ESP..ROOT,
        };
        let contents = Fat::read(&esp).unwrap().contents().unwrap();
        let extent = contents.files[0].extents[0].clone();
        let found = release.changed(ESP + extent.start + 5, b"x");
        assert!(found.len() == 1 && found[0].ends_with("is not uki.efi"), "{found:?}");
        let found = release.changed(ESP + extent.end, b"hidden");
        assert!(found.len() == 1 && found[0].contains("there is \"hidden"), "{found:?}");
    }

    /// On the disk and not beside it, and beside it and not on the disk.
    #[test]
    fn attack_a_volume_that_the_release_does_not_have() {
        let release = Release::new();
        let folder = release.0.path();
        for name in [IMAGE, TREE] {
            fs::rename(folder.join(name), folder.join(name.replace("model", "other"))).unwrap();
        }
        let found = release.found();
        for finding in [
            "disk.raw has 0 partitions volume-other.erofs, expected one",
            "the partition volume-model.erofs of disk.raw is none that a release has",
        ] {
            assert!(found.contains(&finding.into()), "{found:?}");
        }
    }

    #[test]
    fn a_disk_of_another_release_is_found_or_one_that_was_cut() {
        let release = Release::new();
        fs::write(release.0.path().join(file::UKI), [b'u'; 701]).unwrap();
        let found = release.found();
        let expected = [
            r"the EFI system partition of disk.raw has the file \EFI\BOOT\BOOTX64.EFI",
            "the EFI system partition of disk.raw, at offset 0x100000, is not uki.efi",
        ];
        assert!(
            expected.iter().all(|finding| found.contains(&(*finding).into())),
            "{found:?}"
        );
        let end = release.disk().metadata().unwrap().len();
        for size in [0, 512, end - 512, end + 512] {
            release.disk().set_len(size).unwrap();
            assert_eq!(release.found().len(), 1, "{size}");
        }
    }
}
