//! The writers of everything that is measured or whose bytes matter.
//!
//! They write to what they are given and know no path, clock, environment or random number: same in, same out. They
//! share no code with the readers in `measure`, so that one bug cannot hide in both.

pub mod identity;
pub mod verity;
