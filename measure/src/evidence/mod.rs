//! Readers of evidence: what a report or a quote says.
//!
//! **Nothing is verified here**, neither signatures nor certificates nor versions of the platform: these are outside bytes,
//! and whoever made them chose every field. What is read serves to compare and to explain, not to trust.

pub mod snp_report;
pub mod tdx_quote;

pub use snp_report::SnpReport;
pub use tdx_quote::TdxQuote;

/// What is wrong with evidence. Offsets and sizes are in bytes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EvidenceError {
    #[error("the {what} is {size} bytes long, expected {expected}")]
    Size {
        what: &'static str,
        size: u64,
        expected: &'static str,
    },
    #[error("{field} at offset {offset:#x} is {value:#x}, expected {expected}")]
    Field {
        field: &'static str,
        offset: u64,
        value: u64,
        expected: &'static str,
    },
}
