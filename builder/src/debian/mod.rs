//! Debian's formats: signed metadata in, the packages that a tree needs out. No network, no clock.

pub mod copyright;
pub mod deb;
pub mod deb822;
pub mod members;
pub mod openpgp;
pub mod packages;
pub mod plain;
pub mod relation;
pub mod release;
pub mod repository;
pub mod script;
pub mod solve;
pub mod version;
