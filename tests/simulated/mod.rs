//! Hardware that is not there, for tests: under roots of its own, which no program believes.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]

pub(crate) mod snp;
pub(crate) mod tdx;
pub(crate) mod tpm;
