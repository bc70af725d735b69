//! Debian's formats, from bytes.

pub mod deb;
pub mod repository;
