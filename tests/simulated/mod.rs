//! Hardware that is not there, for tests: under roots of its own, which no program believes.

pub(crate) mod snp;
