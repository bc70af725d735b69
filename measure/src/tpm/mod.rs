//! Platform configuration registers of a TPM.

mod firmware;

pub use firmware::firmware_events;
