//! What an export needs of a generation record; the rest of it is not looked at.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;
use measure::Sha256;
use serde::Deserialize;

use crate::document::launches::Generation;
use crate::mend::{Exit, OrMend as _};
use crate::world::given;

/// A release's place in its chain.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Record {
    /// The digest of the manifest: which release it is.
    pub(super) manifest: Sha256,
    generation: u64,
    validity: Validity,
}

/// When the release may be run, both ends included.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Validity {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Record {
    /// Reads the record in `file`.
    ///
    /// # Errors
    /// A file that is no record; a validity that is over, or never begins.
    pub(super) fn read(file: &Path, now: Timestamp) -> Result<Self> {
        /// In bytes: a record is small.
        const LIMIT: u64 = 1 << 20;
        const MEND: &str = "give the record.json of the release";
        let bytes = given::read(file, LIMIT, MEND)?;
        let shown = file.display();
        let record: Self = serde_json::from_slice(&bytes).or_mend(Exit::Usage, format!("cannot read {shown}"), MEND)?;
        let Validity { not_before, not_after } = record.validity;
        if not_after < not_before {
            let problem = format!("{shown} is valid from {not_before} to {not_after}, which is never");
            return Err(Exit::Usage.because(problem, MEND));
        }
        if i64::try_from(not_after.as_nanosecond()).is_err() {
            let problem =
                format!("{shown} is valid until {not_after}, and policies count no further than the year 2262");
            return Err(Exit::Unsupported.because(problem, "give the release an earlier end"));
        }
        if not_after < now {
            let problem = format!("{shown} is valid until {not_after}, and it is {now}");
            return Err(Exit::Expired.because(problem, "build the next generation"));
        }
        Ok(record)
    }

    pub(super) fn generation(&self) -> Generation {
        Generation {
            number: self.generation,
            not_before: self.validity.not_before,
            not_after: self.validity.not_after,
        }
    }
}
