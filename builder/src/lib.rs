//! The plant: recipe in, release out. The map of the code is in the README.

pub mod cli;
pub mod debian;
pub mod document;
pub mod image;
pub mod mend;
pub mod model;
pub mod stage;
pub mod world;
