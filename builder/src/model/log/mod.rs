//! The audit log: an append-only list of generation records, as values and their text.
//!
//! A tiled transparency log (C2SP tlog-tiles, of 2026-07): a Merkle tree over its entries (RFC 6962), the hashes of the
//! tree and the entries in tiles, and a signed note that names the head of the tree (C2SP tlog-checkpoint). Bytes in,
//! values out.

mod checkpoint;
mod note;
mod proof;
mod tile;
mod tree;

pub use checkpoint::Checkpoint;
pub use note::{NoteError, VerifierKey, sign};
pub use proof::Proof;
pub use tile::{Bundle, Tile, WIDTH, grown, tiles};
pub use tree::{consistency, consistent, included, inclusion, leaf, root};

use serde::Serialize;

/// One reason not to trust a log, or what it is said to hold. Its code in JSON is the name of the variant in kebab case.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum LogFinding {
    #[error("the checkpoint of the log is not one: {because}")]
    LogCheckpointInvalid { because: String },
    #[error("{path} of the log cannot be read: {because}")]
    LogUnreadable { path: String, because: String },
    #[error("{path} of the log is not what the entries hash to")]
    LogTileDiffers { path: String },
    #[error("the entries of the log hash to {entries}, its checkpoint of {size} entries says {checkpoint}")]
    LogRootDiffers {
        size: u64,
        entries: measure::Sha256,
        checkpoint: measure::Sha256,
    },
    #[error("the log is shorter than it was: {size} entries, the older checkpoint has {older}")]
    LogRolledBack { size: u64, older: u64 },
    #[error("{}", uncounted(*.size, *.held))]
    LogUncounted { size: u64, held: u64 },
    #[error(
        "the log shows different histories: its first {older} entries hash to {found}, the older checkpoint says {expected}"
    )]
    LogHistoryDiffers {
        older: u64,
        found: measure::Sha256,
        expected: measure::Sha256,
    },
    #[error("the proof of inclusion in the log is not one: {because}")]
    LogProofInvalid { because: String },
    #[error("the record is not entry {index} of the log whose checkpoint is in its proof")]
    LogRecordNotIncluded { index: u64 },
}

/// What is wrong with a log whose files hold more entries than its checkpoint counts.
fn uncounted(size: u64, held: u64) -> String {
    format!(
        "the files of the log hold {held} entries, its checkpoint counts {size}: an append was interrupted, or an older \
         checkpoint was put back"
    )
}
