//! Random bytes of the kernel: they make keys and name builds, and never reach what is reproduced.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns `N` random bytes, at most 256, once the kernel has gathered enough of them: getrandom(2).
///
/// # Errors
/// A kernel that has none to give.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256, "a longer read may be cut short") };
    let mut bytes = [0; N];
    let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
    match count == N {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
