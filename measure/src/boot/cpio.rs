//! The archives in which systemd-stub hands files to an initrd (`pack_cpio_literal` of systemd 257): cpio, "newc".

use alloc::format;
use alloc::vec::Vec;

use crate::event_log::Hasher;

/// Hashes the archive that has `data` as `/.extra/NAME`.
pub(super) fn archive(name: &str, data: &[u8], hasher: &mut Hasher) {
    let path = format!("{DIRECTORY}/{name}");
    hasher.update(entry(1, 0o040_555, 0, DIRECTORY));
    hasher.update(entry(2, 0o100_444, data.len(), &path));
    padded(data, hasher);
    hasher.update(TRAILER);
}

/// Hashes `data` and the zeros that make it a multiple of four bytes.
pub(super) fn padded(data: &[u8], hasher: &mut Hasher) {
    hasher.update(data);
    pad(hasher);
}

/// Hashes the zeros that make everything so far a multiple of four bytes.
pub(super) fn pad(hasher: &mut Hasher) {
    let ragged = (hasher.length() % 4) as usize;
    hasher.update(&[0; 3][..padding(ragged)]);
}

const DIRECTORY: &str = ".extra";

/// Fields in hex are lower case elsewhere; this entry is a constant of the stub.
const TRAILER: &[u8] = b"070701\
    00000000000000000000000000000000000000010000000000000000000000000000000000000000000000000000000B00000000\
    TRAILER!!!\0\0\0\0";

const _: () = assert!(TRAILER.len().is_multiple_of(4));

fn entry(inode: u32, mode: u32, size: usize, path: &str) -> Vec<u8> {
    let name_size = path.len() + 1;
    let mut entry = format!(
        "070701{inode:08x}{mode:08x}{zero:016x}{links:08x}{zero:08x}{size:08x}{zero:032x}{name_size:08x}{zero:08x}{path}\0",
        zero = 0,
        links = 1,
    )
    .into_bytes();
    entry.resize(entry.len() + padding(entry.len()), 0);
    entry
}

const fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}
