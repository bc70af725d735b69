//! Values in, documents out: text that is the same for the same release, whoever writes it.

pub mod artifact;
pub mod buildinfo;
pub mod claims;
pub mod corim;
pub mod dsse;
pub mod files;
pub mod launches;
pub mod policy;
pub mod provenance;
pub mod reference_values;
pub mod rvps;
pub mod sbom;
pub mod statement;
pub mod summary;
pub mod trustee;
