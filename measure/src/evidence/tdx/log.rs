//! The event log of a TD against its quote.

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use super::TdxFinding;
use crate::Sha384;
use crate::event_log::{EventLog, LogOf, Register};
use crate::evidence::TdxQuote;

/// Returns a finding for the first RTMR that the `log`, a CCEL, does not replay to, or for a log that cannot be read. No
/// log is no finding: the RTMRs are what Intel vouches for, the log only explains them.
pub(super) fn differences(log: Option<&[u8]>, quote: &TdxQuote) -> Vec<TdxFinding> {
    let Some(log) = log else {
        return Vec::new();
    };
    let log = match EventLog::read(log, LogOf::Td) {
        Ok(log) => log,
        Err(error) => {
            return vec![TdxFinding::TdxLogMalformed {
                because: error.to_string(),
            }];
        }
    };
    let replayed = log.replay();
    let registers = (0..4).map(Register::Rtmr).zip(quote.rtmrs());
    let differ = registers.filter_map(|(register, quote)| {
        let digests = replayed.get(&register);
        let log = digests.map_or(Some(Sha384::ZERO), |digests| digests.sha384);
        // a log without SHA-384 explains no RTMR
        let log = log.unwrap_or(Sha384::ZERO);
        (log != quote).then_some(TdxFinding::TdxLogDiffers { register, log, quote })
    });
    differ.take(1).collect()
}
