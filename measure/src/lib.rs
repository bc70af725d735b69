//! What a confidential VM will measure, computed before it boots.
//!
//! Bytes in, digests out: this crate opens no file, runs no program and reads no clock. `no_std` makes the compiler
//! hold us to that.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod boot;
pub mod cpio;
mod digest;
pub mod erofs;
pub mod event_log;
pub mod evidence;
pub mod fat;
mod fields;
pub mod gpt;
mod guid;
pub mod host;
pub mod linux;
pub mod ovmf;
mod pages;
pub mod pe;
mod read_at;
pub mod snp;
pub mod tdx;
pub mod tpm;
pub mod uki;
pub mod verity;

pub use digest::{Digest, NotADigest, Sha256, Sha384, Sha512};
pub use fields::FieldError;
pub use guid::Guid;
pub use pages::{PAGE, Pages};
pub use read_at::{ReadAt, Unreadable};
