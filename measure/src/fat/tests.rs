use alloc::collections::BTreeMap;
use alloc::string::ToString as _;

use proptest::prelude::*;

use super::*;

/// The sectors that are not zero, each behind its number, of a volume of dosfstools 4.2 and mtools 4.0.33:
/// `mkfs.fat -F 32 -s 1 -i 12345678 -n ESP --invariant` of 34 MiB, `mmd ::/EFI ::/EFI/BOOT`, and `mcopy` of 1000 times
/// "x" to `::/EFI/BOOT/BOOTX64.EFI`.
const SEED: &[u8] = include_bytes!("../../../tests/fuzz/corpus/fat/seed");

/// A volume of 34 MiB, of which few sectors are not zero.
#[derive(Clone)]
struct Volume(BTreeMap<u64, [u8; 512]>);

impl Volume {
    fn seed() -> Self {
        let sectors = SEED.as_chunks::<516>().0.iter();
        let sector = |bytes: &[u8; 516]| {
            let (number, bytes) = bytes.split_first_chunk::<4>()?;
            Some((u32::from_le_bytes(*number).into(), bytes.try_into().ok()?))
        };
        Self(sectors.filter_map(sector).collect())
    }

    fn with(mut self, offset: u64, bytes: &[u8]) -> Self {
        let sector = self.0.entry(offset / 512).or_insert([0; 512]);
        sector[(offset % 512) as usize..][..bytes.len()].copy_from_slice(bytes);
        self
    }

    /// In both tables.
    fn with_next(self, cluster: u64, next: u32) -> Self {
        let next = next.to_le_bytes();
        self.with(TABLE + 4 * cluster, &next)
            .with(TABLE + 536 * 512 + 4 * cluster, &next)
    }

    fn contents(&self) -> Result<Contents, FatError> {
        Fat::read(self)?.contents()
    }

    fn refused(&self, because: &str) {
        let error = self.contents().unwrap_err().to_string();
        assert!(error.contains(because), "{because}: {error}");
    }
}

impl ReadAt for Volume {
    fn size(&self) -> u64 {
        34 << 20
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let length = buffer.len() as u64;
        if offset.saturating_add(length) > self.size() {
            let why = "they end outside".into();
            return Err(Unreadable { offset, length, why });
        }
        buffer.fill(0);
        let numbers = offset / 512..(offset + length).div_ceil(512);
        for (number, bytes) in self.0.range(numbers) {
            for (at, byte) in (number * 512..).zip(bytes) {
                let place = at.checked_sub(offset).and_then(|at| buffer.get_mut(at as usize));
                place.into_iter().for_each(|place| *place = *byte);
            }
        }
        Ok(())
    }
}

const TABLE: u64 = 32 * 512;
const ROOT: u64 = 1104 * 512;
const EFI: u64 = ROOT + 512;
const BOOT: u64 = EFI + 512;
const APP: u64 = BOOT + 512;

#[test]
fn a_volume_is_read_as_it_was_made() {
    let contents = Volume::seed().contents().unwrap();
    let app = File {
        path: r"\EFI\BOOT\BOOTX64.EFI".into(),
        size: 1000,
        extents: alloc::vec![APP..APP + 1000],
    };
    assert_eq!(contents.files, [app]);
    let mut used = contents.used;
    used.sort_by_key(|range| range.start);
    let table = 536 * 512;
    let front = [0..512, 512..1024, 6 * 512..7 * 512, 7 * 512..8 * 512];
    let tables = [TABLE..TABLE + table, 568 * 512..568 * 512 + table];
    let data = [ROOT..EFI, EFI..BOOT, BOOT..APP, APP..APP + 1000];
    assert_eq!(used, [&front[..], &tables, &data].concat());
}

#[test]
fn a_file_in_pieces_is_read_in_its_order() {
    let volume = Volume::seed().with_next(5, 9).with_next(9, NUMBER).with_next(6, 0);
    let extents = &volume.contents().unwrap().files[0].extents;
    assert_eq!(*extents, [APP..APP + 512, APP + 4 * 512..APP + 4 * 512 + 488]);
}

#[test]
fn lying_boot_sectors_are_refused() {
    for (offset, bytes, because) in [
        (11, &[0, 4][..], "512 bytes"),
        (13, &[3], "power of two"),
        (13, &[0], "power of two"),
        (14, &[0, 0], "the place of FSInfo"),
        (16, &[1], "two tables"),
        (17, &[1], "FAT32"),
        (32, &[0xff; 4], "ends before"),
        (32, &[0; 4], "number of clusters"),
        (36, &[1, 0, 0, 0], "number of clusters"),
        (36, &[0xff; 4], "64 MiB"),
        (40, &[1], "one table is not a copy"),
        (48, &[9], "the place of FSInfo"),
        (50, &[1], "the place of FSInfo"),
        (50, &[31], "the place of FSInfo"),
        (52, &[1], "reserved"),
        (90, b"code", "code that is not known"),
        (300, b"code", "code that is not known"),
        (510, &[0], "55 AA"),
        (71, b"X", "the copy of the boot sector"),
    ] {
        Volume::seed().with(offset, bytes).refused(because);
    }
}

#[test]
fn bytes_hidden_between_what_is_used_are_refused() {
    Volume::seed().with(512 + 100, b"hidden").refused("FSInfo");
    Volume::seed().with(7 * 512 + 100, b"hidden").refused("FSInfo");
    Volume::seed()
        .with(EFI + 200, b"hidden")
        .refused(r"\EFI has an entry behind its last that is not zero");
    Volume::seed().with(TABLE + 4 * 68529, &[1]).refused("the two tables");
    Volume::seed().with_next(68530, 1).refused("behind the last cluster");
    assert!(Volume::seed().with_next(68530, NUMBER).contents().is_ok());
}

#[test]
fn clusters_of_no_file_are_refused() {
    Volume::seed()
        .with_next(100, NUMBER)
        .refused("cluster 100 is in use and belongs to no file");
    Volume::seed()
        .with_next(100, 0x0fff_fff7)
        .refused("cluster 100 is in use and belongs to no file");
}

#[test]
fn chains_that_lie_are_refused() {
    Volume::seed().with_next(6, 5).refused("is in use twice");
    Volume::seed().with_next(6, 3).refused("is in use twice");
    Volume::seed().with_next(6, 1).refused("is not on the volume");
    Volume::seed().with_next(6, 68530).refused("is not on the volume");
    Volume::seed().with_next(6, u32::MAX).refused("bits that are reserved");
    Volume::seed()
        .with_next(5, NUMBER)
        .with_next(6, 0)
        .refused("not as long as the file");
    Volume::seed()
        .with(BOOT + 64 + 28, &[0xff; 4])
        .refused("not as long as the file");
}

#[test]
fn a_loop_of_directories_is_refused() {
    Volume::seed().with(EFI + 64 + 26, &[3, 0]).refused("is in use twice");
    Volume::seed().with(EFI + 64 + 26, &[2, 0]).refused("is in use twice");
}

#[test]
fn entries_that_are_no_files_are_refused() {
    for (at, bytes, because) in [
        (BOOT + 64, &b"\xe5"[..], "is deleted"),
        (BOOT + 64, b"bootx64", "is no short name"),
        (BOOT + 64, b"A/..    ", "is no short name"),
        (BOOT + 64 + 11, &[0x0f], "is no file and no directory"),
        (BOOT + 64 + 11, &[0x08], "is no file and no directory"),
        (BOOT + 64 + 11, &[0x10], "is no file and no directory"),
        (BOOT + 32 + 26, &[4, 0], ". or .. that is missing or leads elsewhere"),
        (BOOT + 26, &[3, 0], ". or .. that is missing or leads elsewhere"),
        (ROOT, b"EFI        \x20", "is there twice"),
    ] {
        Volume::seed().with(at, bytes).refused(because);
    }
}

proptest! {
    #[test]
    fn no_change_makes_the_reader_panic(at in 0..SEED.len(), bytes in any::<[u8; 4]>()) {
        let mut volume = Volume::seed();
        let place = volume.0.values_mut().nth(at / 516).and_then(|sector| sector.get_mut(at % 516..)?.get_mut(..4));
        place.into_iter().for_each(|place| place.copy_from_slice(&bytes));
        let _ = volume.contents();
    }
}
