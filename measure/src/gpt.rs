//! Reader of GUID partition tables, and what firmware measures of the one it boots from.

use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Guid;
use crate::event_log::{Digests, Event, EventType, Register, Subject};
use crate::fields::{FieldError, check, read_at};

/// The size of a sector, in bytes: that of virtio and of emulated disks, unless QEMU is told otherwise.
pub const SECTOR: u64 = 512;

/// How large the array of entries may be, in bytes: 64 times what the specification asks for.
const ENTRIES_LIMIT: u64 = 1 << 20;

/// The primary partition table of a disk.
#[derive(Clone, Debug)]
pub struct Gpt<'a> {
    header: Header,
    entries: &'a [u8],
}

impl<'a> Gpt<'a> {
    /// Returns the table in the first sectors of a disk (UEFI 2.10, section 5.3).
    ///
    /// 34 sectors hold the usual table of 128 entries; an error says how many bytes a larger one needs.
    ///
    /// # Errors
    ///
    /// edk2 would not take it for a partition table (`PartitionValidGptTable`,
    /// `Tpm2SanitizeEfiPartitionTableHeader` of edk2-stable202608).
    pub fn read(disk: &'a [u8]) -> Result<Self, GptError> {
        if (disk.len() as u64) < 2 * SECTOR {
            return Err(GptError::TooShort { needed: 2 * SECTOR });
        }
        let header: Header = read_at(disk, "partition table header", SECTOR)?;
        header.check()?;
        let sector = &disk[SECTOR as usize..][..SECTOR as usize];
        header.check_crc(&sector[..header.header_size.get() as usize])?;
        let entries = header.entries(disk)?;
        check_crc("array of partition entries", entries, header.entries_crc.get())?;
        Ok(Self { header, entries })
    }

    /// Returns the size of the disk that the table was made for, in bytes: the backup header is its last sector.
    pub fn disk_size(&self) -> u64 {
        let sectors = self.header.alternate_lba.get().saturating_add(1);
        sectors.saturating_mul(SECTOR)
    }

    /// Returns the partitions, in the order of the table.
    ///
    /// # Errors
    ///
    /// One that is not in the sectors that the table has for partitions, or with bits that are reserved.
    pub fn partitions(&self) -> Result<Vec<Partition>, GptError> {
        let size = self.header.entry_size.get() as usize;
        let entries = self.entries.chunks_exact(size).enumerate();
        let used = entries.filter(|(_, entry)| !entry.starts_with(&[0; 16]));
        used.map(|(index, entry)| self.partition(index, entry)).collect()
    }

    fn partition(&self, index: usize, bytes: &[u8]) -> Result<Partition, GptError> {
        let at = self.header.entries_lba.get() * SECTOR + index as u64 * bytes.len() as u64;
        let entry: Entry = read_at(bytes, "partition entry", 0)?;
        let (first, last) = (entry.first.get(), entry.last.get());
        let usable = self.header.first_usable_lba.get()..=self.header.last_usable_lba.get();
        let inside = usable.contains(&first) && usable.contains(&last) && first <= last;
        check(
            inside,
            "StartingLBA",
            at + 32,
            first,
            "the first of some usable sectors",
        )?;
        let reserved = bytes[size_of::<Entry>()..].iter().position(|byte| *byte != 0);
        check(reserved.is_none(), "Reserved", at + 128, 1_u64, "0")?;
        Ok(Partition {
            kind: entry.kind,
            bytes: first.saturating_mul(SECTOR)..last.saturating_add(1).saturating_mul(SECTOR),
            name: name(&entry.name),
        })
    }

    /// Returns the ranges of the disk, in bytes, whose contents the table determines, and these contents: the table
    /// itself, sector by sector, unused entries all zero, and at the end of the disk its copy.
    pub fn tables(&self) -> [(Range<u64>, Vec<u8>); 2] {
        let size = self.header.entry_size.get() as usize;
        let mut entries = self.entries.to_vec();
        let unused = entries
            .chunks_exact_mut(size)
            .filter(|entry| entry.starts_with(&[0; 16]));
        unused.for_each(|entry| entry.fill(0));
        entries.resize(entries.len().next_multiple_of(SECTOR as usize), 0);
        let sectors = entries.len() as u64 / SECTOR;
        let mut backup = self.header.clone();
        backup.my_lba = self.header.alternate_lba;
        backup.alternate_lba = self.header.my_lba;
        backup.entries_lba = self.header.alternate_lba.get().saturating_sub(sectors).into();
        backup.header_crc = 0.into();
        backup.header_crc = crc32fast::hash(backup.as_bytes()).into();
        let first = [self.header.sector(), entries.clone()].concat();
        let last = [entries, backup.sector()].concat();
        let end = self.disk_size();
        [
            (SECTOR..SECTOR + first.len() as u64, first),
            (end.saturating_sub(last.len() as u64)..end, last),
        ]
    }

    /// Returns what is measured, a `UEFI_GPT_DATA` (TCG PC Client Platform Firmware Profile 1.06, section 10.2.6): the
    /// first 92 bytes of the header, the number of entries in use as 64 bits, and these entries.
    pub fn event_data(&self) -> Vec<u8> {
        let size = self.header.entry_size.get() as usize;
        let used = self
            .entries
            .chunks_exact(size)
            .filter(|entry| !entry.starts_with(&[0; 16]));
        let used: Vec<_> = used.collect();
        [
            self.header.as_bytes(),
            &(used.len() as u64).to_le_bytes(),
            &used.concat(),
        ]
        .concat()
    }

    /// Returns the event that measures the table, in PCR 5.
    pub fn event(&self) -> Event {
        Event {
            register: Register::Pcr(5),
            kind: EventType::EFI_GPT_EVENT,
            subject: Subject::PartitionTable,
            digests: Digests::of(self.event_data()),
        }
    }
}

/// A partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Partition {
    pub kind: Guid,
    /// Where it is on the disk.
    pub bytes: Range<u64>,
    pub name: String,
}

/// What is wrong with a partition table.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GptError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("the partition table needs the first {needed} bytes of the disk")]
    TooShort { needed: u64 },
    #[error("CRC-32 of the {of} is {found:#010x}, its header says {expected:#010x}")]
    Crc {
        of: &'static str,
        found: u32,
        expected: u32,
    },
}

/// `EFI_PARTITION_TABLE_HEADER` (UEFI 2.10, section 5.3.2).
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: U64,
    revision: U32,
    header_size: U32,
    header_crc: U32,
    reserved: U32,
    my_lba: U64,
    alternate_lba: U64,
    first_usable_lba: U64,
    last_usable_lba: U64,
    disk: Guid,
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc: U32,
}

const _: () = assert!(size_of::<Header>() == 92);

/// `EFI_PARTITION_ENTRY` (UEFI 2.10, section 5.3.3).
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    kind: Guid,
    guid: Guid,
    first: U64,
    last: U64,
    attributes: U64,
    name: [U16; 36],
}

const _: () = assert!(size_of::<Entry>() == 128);

/// The text in front of the first NUL.
fn name(units: &[U16]) -> String {
    let units = units.iter().map(|unit| unit.get()).take_while(|unit| *unit != 0);
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

impl Header {
    /// The sector that it is in, zeros behind it.
    fn sector(&self) -> Vec<u8> {
        let mut sector = self.as_bytes().to_vec();
        sector.resize(SECTOR as usize, 0);
        sector
    }

    const SIGNATURE: u64 = u64::from_le_bytes(*b"EFI PART");
    const REVISION: u32 = 0x0001_0000;

    fn check(&self) -> Result<(), FieldError> {
        let at = |offset| SECTOR + offset;
        let (signature, revision, size) = (self.signature.get(), self.revision.get(), self.header_size.get());
        check(
            signature == Self::SIGNATURE,
            "Signature",
            at(0),
            signature,
            "\"EFI PART\"",
        )?;
        check(revision == Self::REVISION, "Revision", at(8), revision, "0x10000")?;
        check(
            (92..=SECTOR).contains(&size.into()),
            "HeaderSize",
            at(12),
            size,
            "92 to 512",
        )?;
        let (own, entries, usable) = (self.my_lba.get(), self.entries_lba.get(), self.first_usable_lba.get());
        check(own == 1, "MyLBA", at(24), own, "1, where it lies")?;
        let between = "a sector behind the header and before FirstUsableLBA";
        check(
            (2..usable).contains(&entries),
            "PartitionEntryLBA",
            at(72),
            entries,
            between,
        )?;
        let (count, size) = (self.entry_count.get(), self.entry_size.get());
        let power = "128 or a larger power of two";
        check(
            size >= 128 && size.is_power_of_two(),
            "SizeOfPartitionEntry",
            at(84),
            size,
            power,
        )?;
        let total = u64::from(count) * u64::from(size);
        let bounded = "one or more that fill no more than 1 MiB";
        check(
            (1..=ENTRIES_LIMIT).contains(&total),
            "NumberOfPartitionEntries",
            at(80),
            count,
            bounded,
        )
    }

    /// `header` is as long as it says, its own CRC included.
    fn check_crc(&self, header: &[u8]) -> Result<(), GptError> {
        let mut header = header.to_vec();
        header[16..20].fill(0);
        check_crc("header", &header, self.header_crc.get())
    }

    fn entries<'a>(&self, disk: &'a [u8]) -> Result<&'a [u8], GptError> {
        let length = u64::from(self.entry_count.get()) * u64::from(self.entry_size.get());
        let start = self.entries_lba.get().saturating_mul(SECTOR);
        let needed = start.saturating_add(length);
        let range = usize::try_from(start).ok().zip(usize::try_from(needed).ok());
        let entries = range.and_then(|(start, end)| disk.get(start..end));
        entries.ok_or(GptError::TooShort { needed })
    }
}

fn check_crc(of: &'static str, bytes: &[u8], expected: u32) -> Result<(), GptError> {
    let found = crc32fast::hash(bytes);
    match found == expected {
        true => Ok(()),
        false => Err(GptError::Crc { of, found, expected }),
    }
}

/// Returns a disk of 34 sectors whose table has entries of these types, for tests.
#[cfg(test)]
pub(crate) fn example(types: &[u8]) -> Vec<u8> {
    let mut disk = alloc::vec![0; 34 * SECTOR as usize];
    for (entry, kind) in disk[1024..].chunks_exact_mut(128).zip(types) {
        entry[..16].fill(*kind);
        entry[16..32].fill(0xaa);
    }
    let mut header = Header {
        signature: Header::SIGNATURE.into(),
        revision: Header::REVISION.into(),
        header_size: 92.into(),
        header_crc: 0.into(),
        reserved: 0.into(),
        my_lba: 1.into(),
        alternate_lba: 2047.into(),
        first_usable_lba: 34.into(),
        last_usable_lba: 2014.into(),
        disk: Guid::new(0x11111111_2222_3333_4444_555555555555),
        entries_lba: 2.into(),
        entry_count: 128.into(),
        entry_size: 128.into(),
        entries_crc: crc32fast::hash(&disk[1024..]).into(),
    };
    header.header_crc = crc32fast::hash(header.as_bytes()).into();
    disk[512..604].copy_from_slice(header.as_bytes());
    disk
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Changes bytes of the header at these offsets and makes its CRC right again.
    fn changed(changes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut disk = example(&[1]);
        for (offset, bytes) in changes {
            disk[512 + offset..][..bytes.len()].copy_from_slice(bytes);
        }
        disk[528..532].fill(0);
        let crc = crc32fast::hash(&disk[512..604]);
        disk[528..532].copy_from_slice(&crc.to_le_bytes());
        disk
    }

    #[test]
    fn entries_in_use_are_measured_in_their_order() {
        let disk = example(&[1, 0, 2]);
        let gpt = Gpt::read(&disk).unwrap();
        let expected = [
            &disk[512..604],
            &2_u64.to_le_bytes(),
            &disk[1024..1152],
            &disk[1280..1408],
        ];
        assert_eq!(gpt.event_data(), expected.concat());
        assert_eq!(gpt.disk_size(), 1 << 20);
    }

    #[test]
    fn lying_headers_are_refused() {
        for (offset, bytes, field) in [
            (0, &b"EFI PARK"[..], "Signature"),
            (8, &[1, 0, 0, 0], "Revision"),
            (12, &[91, 0, 0, 0], "HeaderSize"),
            (12, &[1, 2, 0, 0], "HeaderSize"),
            (24, &[2], "MyLBA"),
            (72, &[1], "PartitionEntryLBA"),
            (72, &[34], "PartitionEntryLBA"),
            (80, &[0, 0, 0, 0], "NumberOfPartitionEntries"),
            (80, &[0xff; 4], "NumberOfPartitionEntries"),
            (84, &[0, 0, 0, 0], "SizeOfPartitionEntry"),
            (84, &[129, 0, 0, 0], "SizeOfPartitionEntry"),
        ] {
            let error = Gpt::read(&changed(&[(offset, bytes)])).unwrap_err();
            assert!(
                matches!(error, GptError::Field(FieldError::Value { field: found, .. }) if found == field),
                "{field}: {error}"
            );
        }
    }

    #[test]
    fn an_error_says_how_much_of_the_disk_is_needed() {
        let disk = example(&[1]);
        for length in [0, 1023, 1024, 34 * 512 - 1] {
            let needed = if length < 1024 { 1024 } else { 34 * 512 };
            assert_eq!(Gpt::read(&disk[..length]).unwrap_err(), GptError::TooShort { needed });
        }
        let needed = u64::MAX;
        let far = changed(&[(40, &[0xff; 8]), (72, &[0xfe; 8])]);
        assert_eq!(Gpt::read(&far).unwrap_err(), GptError::TooShort { needed });
    }

    /// The table of `example` with other bytes in its first entry, and CRCs that hold.
    fn with_entry(changes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut disk = example(&[1]);
        for (offset, bytes) in changes {
            disk[1024 + offset..][..bytes.len()].copy_from_slice(bytes);
        }
        let crc = crc32fast::hash(&disk[1024..]).to_le_bytes();
        let (disk, mut other) = (disk, changed(&[(88, &crc)]));
        other[1024..].copy_from_slice(&disk[1024..]);
        other
    }

    #[test]
    fn partitions_are_where_their_entries_say() {
        let name: Vec<u8> = "root".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let places = [34_u64.to_le_bytes(), 2014_u64.to_le_bytes()].concat();
        let disk = with_entry(&[(32, &places), (56, &name), (64, &[0; 64])]);
        let partitions = Gpt::read(&disk).unwrap().partitions().unwrap();
        let root = Partition {
            kind: Guid::new(0x01010101_0101_0101_0101_010101010101),
            bytes: 34 * 512..2015 * 512,
            name: "root".into(),
        };
        assert_eq!(partitions, [root]);
    }

    #[test]
    fn partitions_outside_of_their_room_are_refused() {
        for (first, last) in [(33_u64, 40_u64), (40, 2015), (41, 40), (0, u64::MAX)] {
            let places = [first.to_le_bytes(), last.to_le_bytes()].concat();
            let disk = with_entry(&[(32, &places)]);
            assert!(Gpt::read(&disk).unwrap().partitions().is_err(), "{first} {last}");
        }
    }

    #[test]
    fn the_copy_at_the_end_has_the_places_turned() {
        let disk = example(&[1, 2]);
        let [(first, primary), (last, copy)] = Gpt::read(&disk).unwrap().tables();
        assert_eq!((first, &primary[..]), (512..34 * 512, &disk[512..34 * 512]));
        assert_eq!((last, copy.len()), (2048 * 512 - 33 * 512..2048 * 512, 33 * 512));
        let (entries, header) = copy.split_at(32 * 512);
        assert_eq!(entries, &disk[1024..34 * 512]);
        let field = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        assert_eq!((field(24), field(32), field(72)), (2047, 1, 2015));
        let mut zeroed = header[..92].to_vec();
        zeroed[16..20].fill(0);
        assert_eq!(header[16..20], crc32fast::hash(&zeroed).to_le_bytes());
    }

    #[test]
    fn an_unused_entry_has_to_be_zero() {
        let disk = with_entry(&[(200, b"hidden")]);
        let [(range, wanted), _] = Gpt::read(&disk).unwrap().tables();
        assert_ne!(wanted, disk[range.start as usize..range.end as usize]);
    }

    proptest! {
        #[test]
        fn one_changed_byte_of_the_table_is_refused(at in 512_usize..604, change in 1_u8..) {
            let mut disk = example(&[1, 2]);
            disk[at] ^= change;
            prop_assert!(Gpt::read(&disk).is_err());
        }

        #[test]
        fn no_disk_makes_the_reader_panic(disk in proptest::collection::vec(any::<u8>(), 0..2000), size in 0_u32..) {
            let _ = Gpt::read(&disk);
            let _ = Gpt::read(&changed(&[(12, &size.to_le_bytes())])).map(|gpt| gpt.event_data());
            let _ = Gpt::read(&changed(&[(84, &size.to_le_bytes())])).map(|gpt| gpt.event_data());
        }
    }
}
