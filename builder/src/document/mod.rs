//! Values in, documents out: text that is the same for the same release, whoever writes it.

pub mod artifact;
pub mod files;
pub mod reference_values;
pub mod sbom;
