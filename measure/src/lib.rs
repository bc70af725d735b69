//! What a confidential VM will measure, computed before it boots.
//!
//! Bytes in, digests out: this crate opens no file, runs no program and reads no clock. `no_std` makes the compiler
//! hold us to that.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod digest;
pub mod event_log;
mod guid;
pub mod host;
pub mod ovmf;
mod pages;
pub mod snp;
pub mod tdx;
pub mod tpm;

pub use digest::{Digest, NotADigest, Sha256, Sha384};
pub use guid::Guid;
pub use pages::{PAGE, Pages};
