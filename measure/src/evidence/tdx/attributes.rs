//! Attributes and features of a TD: what a policy allows of them, and how the rest is named.

use alloc::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// An attribute that a policy may allow, named as in Intel TDX Module ABI (348551-005), "ATTRIBUTES".
///
/// Others are never allowed, or have a word of their own in the policy: debugging and profiling, service TDs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TdAttribute {
    /// Linear address space separation.
    Lass,
    /// Protection keys for supervisor pages.
    Pks,
    /// Key Locker.
    KeyLocker,
    /// Performance monitoring: counters of the TD's own, which side channels are measured with.
    Perfmon,
}

impl TdAttribute {
    const fn bit(self) -> u64 {
        match self {
            Self::Lass => 1 << 27,
            Self::Pks => 1 << 30,
            Self::KeyLocker => 1 << 31,
            Self::Perfmon => 1 << 63,
        }
    }
}

/// Returns the bits of `attributes` beyond those that every TD must have and those `allowed`.
pub(super) fn beyond(attributes: u64, allowed: &BTreeSet<TdAttribute>) -> u64 {
    let allowed = allowed.iter().fold(0, |bits, attribute| bits | attribute.bit());
    attributes & !(allowed | SEPT_VE_DISABLE | TUD | SERVTD_EXT)
}

/// Bits 7:0, "TD under debug": debug, and since TDX 1.5 profiling.
pub(super) const TUD: u64 = 0xff;

/// Service TDs may be bound while the TD runs.
pub(super) const SERVTD_EXT: u64 = 1 << 17;

/// The host cannot turn page-table violations into exceptions. A quote without it is not genuine here.
const SEPT_VE_DISABLE: u64 = 1 << 28;

/// `XFAM` that is allowed unless a policy says otherwise: state of user programs (x87, SSE, AVX, AVX-512, PKU, CET, user
/// interrupts, AMX), and neither tracing (PT, LBR) nor what else configures the CPU.
pub(super) const XFAM: u64 = 0x6_5ae7;
