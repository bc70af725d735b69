//! One file for each arrow of the line from recipe to findings.

pub mod resolve;
