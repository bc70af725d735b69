//! Intel TDX: the measurement registers of a TD.

mod mrtd;

pub use mrtd::{MrtdError, PageOrder, mrtd};
