//! The table of hashes by which firmware recognises the kernel, initrd and command line that QEMU hands it.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::U16;
use zerocopy::{Immutable, IntoBytes};

use crate::pages::PAGE;
use crate::{Guid, Sha256};

/// What is measured of a kernel that is started directly.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KernelHashes {
    /// SHA-256 of the file.
    pub kernel: Sha256,
    /// SHA-256 of the file; of nothing where there is none.
    pub initrd: Sha256,
    /// SHA-256 of the text and a NUL.
    pub cmdline: Sha256,
}

impl KernelHashes {
    /// Returns the hashes for files of these SHA-256, and the command line exactly as QEMU is given it: a space at
    /// either end counts, and no command line is an empty one.
    pub fn new(kernel: Sha256, initrd: Option<Sha256>, cmdline: &str) -> Self {
        Self {
            kernel,
            initrd: initrd.unwrap_or_else(|| Sha256::of([])),
            cmdline: Sha256::of([cmdline.as_bytes(), b"\0"].concat()),
        }
    }

    /// Returns a page of zeros but for the table at `offset`, which has room for `room` bytes; nothing if it does not
    /// fit.
    pub(super) fn page(&self, offset: u64, room: u64) -> Option<Vec<u8>> {
        let table = Table::new(self);
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(size_of::<Table>())?;
        let mut page = vec![0; PAGE as usize];
        page.get_mut(start..end)?.copy_from_slice(table.as_bytes());
        (room >= size_of::<Table>() as u64).then_some(page)
    }
}

/// `PaddedSevHashTable`: QEMU 11.1, target/i386/sev.c; edk2-stable202508, OvmfPkg/AmdSev/BlobVerifierLibSevHashes.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Table {
    guid: Guid,
    /// Of the table without `padding`, in bytes.
    length: U16,
    cmdline: Entry,
    initrd: Entry,
    kernel: Entry,
    padding: [u8; 8],
}

const _: () = assert!(size_of::<Table>() == 176);

impl Table {
    fn new(hashes: &KernelHashes) -> Self {
        Self {
            guid: Guid::new(0x9438d606_4f22_4cc9_b479_a793d411fd21),
            length: 168.into(),
            cmdline: Entry::new(Guid::new(0x97d02dd8_bd20_4c94_aa78_e7714d36ab2a), hashes.cmdline),
            initrd: Entry::new(Guid::new(0x44baf731_3a2f_4bd7_9af1_41e29169781d), hashes.initrd),
            kernel: Entry::new(Guid::new(0x4de79437_abd2_427f_b835_d5b172d2045b), hashes.kernel),
            padding: [0; 8],
        }
    }
}

#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Entry {
    guid: Guid,
    /// Of this entry, in bytes.
    length: U16,
    digest: Sha256,
}

const _: () = assert!(size_of::<Entry>() == 50);

impl Entry {
    fn new(guid: Guid, digest: Sha256) -> Self {
        let length = (size_of::<Self>() as u16).into();
        Self { guid, length, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn spaces_of_the_command_line_count() {
        let cmdline = |text| KernelHashes::new(Sha256::ZERO, None, text).cmdline;
        assert_ne!(cmdline("panic=1"), cmdline("panic=1 "));
        assert_ne!(cmdline("panic=1"), cmdline(" panic=1"));
    }

    /// SHA-256 of one zero byte, and of nothing.
    #[test]
    fn nothing_is_an_empty_initrd_and_an_empty_command_line() {
        let hashes = KernelHashes::new(Sha256::ZERO, None, "");
        assert_eq!(
            hashes.cmdline.to_string(),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            hashes.initrd.to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_table_must_fit() {
        let hashes = KernelHashes::new(Sha256::ZERO, None, "");
        let page = hashes.page(0xc00, 0x400).unwrap();
        assert_eq!(
            (page.len(), &page[0xc00..0xc04], page[0xc10]),
            (4096, &b"\x06\xd6\x38\x94"[..], 168)
        );
        for (offset, room) in [(4096 - 175, 176), (0, 175), (u64::MAX, 176)] {
            assert_eq!(hashes.page(offset, room), None, "{offset} {room}");
        }
    }
}
