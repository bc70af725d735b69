//! Intel TDX: the measurement registers of a TD.

mod mrtd;
mod rtmr;

pub use mrtd::{MrtdError, PageOrder, mrtd};
pub use rtmr::{SeparatorRegister, event_digest, rtmr_log, rtmrs};
