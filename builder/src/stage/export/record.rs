//! What an export needs of a generation record.

use std::path::Path;

use anyhow::Result;
use jiff::Timestamp;

use crate::document::launches::Generation;
use crate::mend::{Exit, OrMend as _};
use crate::model::Record;
use crate::world::given;

const MEND: &str = "give the record.json of the release";

/// Reads the generation record in `file`.
///
/// # Errors
/// A file that is no record; a validity that is over, or never begins.
pub(super) fn read(file: &Path, now: Timestamp) -> Result<Record> {
    /// In bytes: a record is small.
    const LIMIT: u64 = 1 << 20;
    let shown = file.display();
    let bytes = given::read(file, LIMIT, MEND)?;
    let text = String::from_utf8(bytes).or_mend(Exit::Usage, format!("cannot read {shown}"), MEND)?;
    let record = Record::parse(&text).or_mend(Exit::Usage, format!("cannot read {shown}"), MEND)?;
    check(&record, &shown, now).map(|()| record)
}

fn check(record: &Record, shown: &impl std::fmt::Display, now: Timestamp) -> Result<()> {
    let Some(not_after) = record.terms.not_after else {
        return Ok(());
    };
    if let Some(not_before) = record.terms.not_before.filter(|not_before| not_after < *not_before) {
        let problem = format!("{shown} is valid from {not_before} to {not_after}, which is never");
        return Err(Exit::Usage.because(problem, MEND));
    }
    if i64::try_from(not_after.as_nanosecond()).is_err() {
        let problem = format!("{shown} is valid until {not_after}, and policies count no further than the year 2262");
        return Err(Exit::Unsupported.because(problem, "give the release an earlier end"));
    }
    if not_after < now {
        let problem = format!("{shown} is valid until {not_after}, and it is {now}");
        return Err(Exit::Expired.because(problem, "build the next generation"));
    }
    Ok(())
}

/// Returns what a policy takes from a record.
pub(super) fn generation(record: &Record) -> Generation {
    Generation {
        number: record.terms.generation,
        not_before: record.terms.not_before,
        not_after: record.terms.not_after,
    }
}
