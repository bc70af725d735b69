//! The policy of SEV-SNP guests.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a guest allows the host: AMD SEV-SNP Firmware ABI (56860) revision 1.58, section 4.3, "Guest Policy"; shown and
/// stored as `0x` and hex digits.
///
/// It is no part of the launch digest: a report has it in a field of its own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GuestPolicy(u64);

impl GuestPolicy {
    /// SMT is allowed and nothing else: the default of QEMU and of sev-snp-measure.
    pub const DEFAULT: Self = Self(SMT | ALWAYS);

    /// Returns the policy whose bits are those of `bits`, which may be one that no guest starts with.
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// Returns the 64 bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Returns `ABI_MAJOR` and `ABI_MINOR`, the oldest version of the interface of the SEV firmware that the guest takes.
    pub const fn abi(self) -> (u8, u8) {
        let [minor, major, ..] = self.0.to_le_bytes();
        (major, minor)
    }

    /// Returns whether the guest may share a core: `SMT`.
    pub const fn allows_smt(self) -> bool {
        self.0 & SMT != 0
    }

    /// Returns whether the guest may run on one socket only: `SINGLE_SOCKET`.
    pub const fn is_single_socket(self) -> bool {
        self.0 & SINGLE_SOCKET != 0
    }

    /// Returns whether the host may read and write the guest's memory.
    pub const fn allows_debug(self) -> bool {
        self.0 & DEBUG != 0
    }

    /// Returns whether a migration agent may move the guest to another machine.
    pub const fn allows_migration(self) -> bool {
        self.0 & MIGRATE_MA != 0
    }

    /// Returns the bits that allow the host what none of the above names: memory on CXL devices (bit 21), and what later
    /// revisions may add.
    pub const fn other_permissions(self) -> u64 {
        self.0 & !(ABI | SMT | ALWAYS | MIGRATE_MA | DEBUG | SINGLE_SOCKET | RESTRICTIONS)
    }
}

/// Both versions.
const ABI: u64 = 0xffff;
const SMT: u64 = 1 << 16;
/// Reserved, and must be one: the SEV firmware starts no guest without it.
const ALWAYS: u64 = 1 << 17;
const MIGRATE_MA: u64 = 1 << 18;
const DEBUG: u64 = 1 << 19;
const SINGLE_SOCKET: u64 = 1 << 20;
/// What the guest demands of the host: AES-256-XTS, RAPL off, ciphertexts hidden, no swapping of pages.
const RESTRICTIONS: u64 = 0b1111 << 22;

impl fmt::Display for GuestPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A policy that a guest can start with is a decimal number, or a hexadecimal one after `0x`, below 2^64, with bit 17.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "not a guest policy: expected a number with bit 17 set, which SEV firmware insists on, as in 0x30000, found {0:?}"
)]
pub struct NotAPolicy(String);

impl FromStr for GuestPolicy {
    type Err = NotAPolicy;

    fn from_str(text: &str) -> Result<Self, NotAPolicy> {
        let number = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let number = number.filter(|bits| bits & ALWAYS != 0);
        number.map(Self).ok_or_else(|| NotAPolicy(text.into()))
    }
}

impl Serialize for GuestPolicy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GuestPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn policies_are_read_in_both_bases_and_must_have_the_reserved_bit() {
        assert_eq!("0x30000".parse(), Ok(GuestPolicy::DEFAULT));
        assert_eq!("196608".parse(), Ok(GuestPolicy::DEFAULT));
        assert_eq!(GuestPolicy::DEFAULT.to_string(), "0x30000");
        for text in ["0x10000", "0", "", "0x", "0x10000000000030000"] {
            assert_eq!(text.parse::<GuestPolicy>(), Err(NotAPolicy(text.into())));
        }
    }

    #[test]
    fn debugging_and_migration_have_a_bit_each() {
        let policy = GuestPolicy::new(0xb_0000);
        assert!(policy.allows_debug() && !policy.allows_migration());
        assert!(GuestPolicy::new(0x7_0000).allows_migration() && !GuestPolicy::DEFAULT.allows_debug());
        assert_eq!(GuestPolicy::new(0x3df_ffff).other_permissions(), 0);
        assert_eq!(GuestPolicy::new(0x23_0000).other_permissions(), 1 << 21);
    }

    #[test]
    fn the_rest_of_a_policy_is_at_its_bits() {
        let policy = GuestPolicy::new(0x12_0137);
        assert_eq!(policy.abi(), (1, 0x37));
        assert!(policy.is_single_socket() && !policy.allows_smt());
        let default = GuestPolicy::DEFAULT;
        assert_eq!(default.abi(), (0, 0));
        assert!(default.allows_smt() && !default.is_single_socket());
    }
}
