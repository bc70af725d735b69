//! QEMU's firmware configuration device: `docs/specs/fw_cfg.rst` of QEMU. All its numbers are big-endian.

use std::collections::BTreeMap;

use anyhow::Result;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::mend::{Exit, OrMend as _};
use crate::world::qtest::Qtest;

/// I/O ports of the device.
mod port {
    pub(super) const SELECTOR: u16 = 0x510;
    pub(super) const DATA: u16 = 0x511;
    /// The upper half of the address of a DMA access; the lower one, at 0x518, starts it.
    pub(super) const DMA_HIGH: u16 = 0x514;
    pub(super) const DMA_LOW: u16 = 0x518;
}

/// What an item is selected by.
mod key {
    pub(super) const SIGNATURE: u16 = 0x00;
    pub(super) const MEMORY: u16 = 0x03;
    pub(super) const BOOT_MENU: u16 = 0x0e;
    pub(super) const DIRECTORY: u16 = 0x19;
}

/// Memory of the machine that takes what is read: nothing else is in it.
const ACCESS_AT: u64 = 0x5000;
const BUFFER_AT: u64 = 0x10_0000;
const BUFFER: usize = 0x1_0000;

/// Keys have 14 bits, and files come after the numbers below 0x20.
const MOST_FILES: u32 = 0x4000 - 0x20;

/// How large a file may be, in bytes; ACPI tables for hundreds of vCPUs have a few MiB.
const LARGEST: u32 = 16 << 20;

/// Something that the device offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Item {
    key: u16,
    /// Size in bytes.
    size: u32,
}

impl Item {
    /// The size of the guest's memory.
    pub(super) const MEMORY: Self = Self {
        key: key::MEMORY,
        size: 8,
    };

    /// Whether there is a boot menu.
    pub(super) const BOOT_MENU: Self = Self {
        key: key::BOOT_MENU,
        size: 2,
    };
}

/// An entry of the directory: `struct FWCfgFile`.
#[derive(FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct File {
    size: U32,
    key: U16,
    reserved: U16,
    /// Ends with a zero byte.
    name: [u8; 56],
}

const _: () = assert!(size_of::<File>() == 64);

/// A DMA access: `struct FWCfgDmaAccess`.
#[derive(Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct Access {
    /// What to do, and in the upper half the key to select.
    control: U32,
    length: U32,
    address: U64,
}

const _: () = assert!(size_of::<Access>() == 16);

/// Bits of [`Access::control`].
mod control {
    pub(super) const READ: u32 = 1 << 1;
    pub(super) const SELECT: u32 = 1 << 3;
}

/// What is wrong with a directory.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum NotADirectory {
    #[error("it has {0} files, expected at most {MOST_FILES}")]
    TooMany(u32),
    #[error("it ends after {found} bytes, expected {expected}")]
    CutShort { found: usize, expected: usize },
    #[error("the name of its file {0} does not end, or is not text")]
    Name(usize),
    #[error("its file {name} has {size} bytes, expected at most {LARGEST}")]
    TooLarge { name: String, size: u32 },
}

/// Expects the device's signature.
pub(super) fn expect(machine: &mut Qtest) -> Result<()> {
    machine.outw(port::SELECTOR, key::SIGNATURE)?;
    let mut signature = [0; 4];
    for byte in &mut signature {
        *byte = machine.inb(port::DATA)?;
    }
    if &signature == b"QEMU" {
        return Ok(());
    }
    Err(Exit::Unsupported.because("the machine has no fw_cfg device at its ports", "ask for a q35 machine"))
}

/// Returns the files that the device offers, by name.
pub(super) fn directory(machine: &mut Qtest) -> Result<BTreeMap<String, Item>> {
    const MEND: &str = "use another QEMU";
    let whole = |size| Item {
        key: key::DIRECTORY,
        size,
    };
    let count = read(machine, &whole(4))?;
    let count = count_of(&count).or_mend(Exit::Outside, "cannot read QEMU's directory", MEND)?;
    let bytes = read(machine, &whole(4 + count * size_of::<File>() as u32))?;
    parse(&bytes).or_mend(Exit::Outside, "cannot read QEMU's directory", MEND)
}

/// Returns an item as it is now.
pub(super) fn read(machine: &mut Qtest, item: &Item) -> Result<Vec<u8>> {
    access(machine, u32::from(item.key) << 16 | control::SELECT, 0)?;
    let mut bytes = Vec::with_capacity(item.size as usize);
    while bytes.len() < item.size as usize {
        let length = (item.size as usize - bytes.len()).min(BUFFER);
        access(machine, control::READ, length)?;
        bytes.extend(machine.read(BUFFER_AT, length)?);
    }
    Ok(bytes)
}

fn access(machine: &mut Qtest, control: u32, length: usize) -> Result<()> {
    let access = Access {
        control: control.into(),
        length: (length as u32).into(),
        address: BUFFER_AT.into(),
    };
    machine.write(ACCESS_AT, access.as_bytes())?;
    machine.outl(port::DMA_HIGH, 0)?;
    machine.outl(port::DMA_LOW, (ACCESS_AT as u32).to_be())
}

fn count_of(bytes: &[u8]) -> Result<u32, NotADirectory> {
    let (count, _) = U32::read_from_prefix(bytes).map_err(|_| NotADirectory::CutShort {
        found: bytes.len(),
        expected: size_of::<U32>(),
    })?;
    if count.get() > MOST_FILES {
        return Err(NotADirectory::TooMany(count.get()));
    }
    Ok(count.get())
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Item>, NotADirectory> {
    let count = count_of(bytes)? as usize;
    let (files, _) = <[File]>::ref_from_prefix_with_elems(&bytes[size_of::<U32>()..], count).map_err(|_| {
        NotADirectory::CutShort {
            found: bytes.len(),
            expected: size_of::<U32>() + count * size_of::<File>(),
        }
    })?;
    let item = |(index, file): (usize, &File)| {
        let name = file.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = str::from_utf8(name).ok().filter(|name| name.len() < file.name.len());
        let name = name.ok_or(NotADirectory::Name(index))?.to_owned();
        let (key, size) = (file.key.get(), file.size.get());
        if size > LARGEST && !name.starts_with(super::ARTIFACTS) {
            return Err(NotADirectory::TooLarge { name, size });
        }
        Ok((name, Item { key, size }))
    };
    files.iter().enumerate().map(item).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &[u8], size: u32) -> Vec<u8> {
        let mut file = File {
            size: size.into(),
            key: 0x21.into(),
            reserved: 0.into(),
            name: [0; 56],
        };
        file.name[..name.len()].copy_from_slice(name);
        [&[0, 0, 0, 1], file.as_bytes()].concat()
    }

    #[test]
    fn a_directory() {
        let item = Item { key: 0x21, size: 20 };
        let expected = BTreeMap::from([("etc/acpi/rsdp".to_owned(), item)]);
        assert_eq!(parse(&entry(b"etc/acpi/rsdp", 20)), Ok(expected));
        assert_eq!(parse(&[0; 4]), Ok(BTreeMap::new()));
    }

    #[test]
    fn a_lying_directory_is_refused() {
        assert_eq!(parse(&[0; 3]), Err(NotADirectory::CutShort { found: 3, expected: 4 }));
        assert_eq!(
            parse(&[0, 0, 0, 2, 0]),
            Err(NotADirectory::CutShort {
                found: 5,
                expected: 132
            })
        );
        assert_eq!(parse(&[0xff; 4]), Err(NotADirectory::TooMany(u32::MAX)));
        assert_eq!(parse(&entry(&[b'a'; 56], 1)), Err(NotADirectory::Name(0)));
        assert_eq!(parse(&entry(b"\xff", 1)), Err(NotADirectory::Name(0)));
        let too_large = NotADirectory::TooLarge {
            name: "a".into(),
            size: u32::MAX,
        };
        assert_eq!(parse(&entry(b"a", u32::MAX)), Err(too_large));
        assert!(parse(&entry(b"etc/boot/kernel", u32::MAX)).is_ok());
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }
    }
}
