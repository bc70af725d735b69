//! Intel TDX: the measurement registers of a TD.

mod hob;
mod mrtd;
mod rtmr;
mod rtmr0;

pub use hob::{HobError, td_hob, td_hob_event};
pub use mrtd::{MrtdError, PageOrder, mrtd};
pub use rtmr::{SeparatorRegister, event_digest, log, rtmr_log, rtmrs};
pub use rtmr0::{Rtmr0Error, rtmr0};
