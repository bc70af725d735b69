//! What must be zero in a report.
//!
//! The signature covers all that is before it, so this is no defence against a forger; but a report whose reserved fields
//! are in use says something that is not understood here. Behind the signed part it *is* a defence: padding could otherwise
//! be changed by anybody, and a report would have many digests. `sev` 8 verifies what it reads, written again, and so takes
//! both.

use alloc::vec::Vec;
use core::ops::Range;

use super::{SnpFinding, SnpReport, Tcb};
use crate::evidence::snp::SnpProduct;

/// Where the signature is; all before it is signed.
pub(super) const SIGNATURE: usize = 0x2a0;

/// A number of the signature: 72 bytes, little-endian, of which P-384 needs 48.
pub(super) const NUMBER: usize = 72;
pub(super) const NUMBER_USED: usize = 48;

/// What is reserved in every version; where bits are, the mask of a byte.
const RESERVED: [(&str, Range<usize>, u8); 10] = [
    ("POLICY", 0x0b..0x0c, 0xfc), // bits 26 and above of the guest policy
    ("POLICY", 0x0c..0x10, 0xff),
    ("flags", 0x48..0x49, 0xe0), // bits 5 and above
    ("flags", 0x49..0x4c, 0xff),
    ("a reserved field", 0x4c..0x50, 0xff),
    ("a reserved field", 0x18b..0x1a0, 0xff),
    ("a reserved field", 0x1eb..0x1ec, 0xff),
    ("a reserved field", 0x1ef..0x1f0, 0xff),
    ("a reserved field", 0x208..SIGNATURE, 0xff),
    ("a reserved field", 0x330..0x4a0, 0xff),
];

/// Fields of newer versions, and the first version that has them.
const NEWER: [(&str, Range<usize>, u32); 2] = [("CPUID", 0x188..0x18b, 3), ("mitigation vectors", 0x1f8..0x208, 5)];

/// Bit 17 of the guest policy, "reserved, must be one".
const POLICY_ALWAYS: (usize, u8) = (0x0a, 1 << 1);

/// Returns what is wrong with the layout of a report of any product. `bytes` are 1184.
pub(super) fn check(report: &SnpReport, bytes: &[u8]) -> Vec<SnpFinding> {
    let mut findings = Vec::new();
    let algorithm = report.signature_algorithm();
    if algorithm != 1 {
        findings.push(SnpFinding::SnpAlgorithm { found: algorithm });
    }
    let newer = NEWER.into_iter().filter(|(_, _, since)| report.version() < *since);
    let newer = newer.map(|(field, range, _)| (field, range, 0xff));
    for (field, range, mask) in RESERVED.into_iter().chain(newer) {
        findings.extend(
            first(bytes, range, mask).map(|(offset, found)| SnpFinding::SnpReservedBits {
                field,
                offset,
                found: found.into(),
            }),
        );
    }
    let (offset, bit) = POLICY_ALWAYS;
    if bytes[offset] & bit == 0 {
        let (field, found) = ("POLICY", bytes[offset].into());
        findings.push(SnpFinding::SnpReservedBits { field, offset, found });
    }
    for number in [SIGNATURE, SIGNATURE + NUMBER] {
        let padding = first(bytes, number + NUMBER_USED..number + NUMBER, 0xff);
        findings.extend(padding.map(|(offset, found)| SnpFinding::SnpSignaturePadding { offset, found }));
    }
    findings
}

/// Returns what is reserved in the TCB versions of a report of `product` and in use.
pub(super) fn check_tcbs(report: &SnpReport, product: SnpProduct) -> Vec<SnpFinding> {
    let words = [
        ("CURRENT_TCB", 0x38, report.current_tcb()),
        ("REPORTED_TCB", 0x180, report.reported_tcb()),
        ("COMMITTED_TCB", 0x1e0, report.committed_tcb()),
        ("LAUNCH_TCB", 0x1f0, report.launch_tcb()),
    ];
    let used = words
        .into_iter()
        .filter(|(_, _, word)| Tcb::reserved(product, *word) != 0);
    used.map(|(field, offset, found)| SnpFinding::SnpReservedBits { field, offset, found })
        .collect()
}

/// Returns the first byte of `range` in which a bit of `mask` is set, and its offset.
fn first(bytes: &[u8], range: Range<usize>, mask: u8) -> Option<(usize, u8)> {
    let mut bytes = range.map(|offset| (offset, bytes[offset]));
    bytes.find(|(_, byte)| byte & mask != 0)
}
