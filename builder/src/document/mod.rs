//! Values in, documents out: text that is the same for the same release, whoever writes it.

pub mod corim;
pub mod launches;
pub mod policy;
pub mod reference_values;
pub mod rvps;
pub mod sbom;
pub mod trustee;
