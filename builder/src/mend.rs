//! Errors that say what happened, because of what, and what to do about it; and the exit code that goes with each.

use std::error::Error as StdError;
use std::fmt::{self, Display, Write as _};
use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::{Error, Result};

/// What kind of failure it is, for scripts: the exit codes of the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// The answer is no: it differs, or there are findings.
    No = 1,
    /// The command line or the recipe asks for something that cannot be asked for.
    Usage = 2,
    /// Bytes are not the ones that the lock names.
    LockMismatch = 3,
    /// Expired or rolled back.
    Expired = 4,
    /// This host, or this version of begat, cannot do it.
    Unsupported = 5,
    /// An outside thing failed: network, program, device, file system.
    Outside = 6,
}

impl Exit {
    /// Returns the kind that a process of ours meant by its exit code.
    pub fn from_code(code: i32) -> Option<Self> {
        let all = [
            Self::No,
            Self::Usage,
            Self::LockMismatch,
            Self::Expired,
            Self::Unsupported,
            Self::Outside,
        ];
        all.into_iter().find(|exit| *exit as i32 == code)
    }
}

/// A failure that another process of ours has reported already.
#[derive(Debug, thiserror::Error)]
#[error("it has been told above")]
pub struct Told(pub Exit);

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What went wrong, and what the reader can do about it.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Failure {
    exit: Exit,
    problem: String,
    mend: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Exit {
    /// Returns a failure of this kind: the `problem`, and the `mend` to print under it; of several, each is a line.
    pub fn because(self, problem: impl Display, mend: impl Display) -> Error {
        Error::new(Failure {
            exit: self,
            problem: problem.to_string(),
            mend: mend.to_string(),
            source: None,
        })
    }
}

pub trait OrMend<T> {
    /// Says which kind of failure it is, names the `problem`, and the `mend` to print under it.
    fn or_mend(self, exit: Exit, problem: impl Display, mend: impl Display) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> OrMend<T> for std::result::Result<T, E> {
    fn or_mend(self, exit: Exit, problem: impl Display, mend: impl Display) -> Result<T> {
        self.map_err(|source| {
            Error::new(Failure {
                exit,
                problem: problem.to_string(),
                mend: mend.to_string(),
                source: Some(source.into()),
            })
        })
    }
}

/// Returns an error that may quote what somebody has written, for a finding: one line, without what a terminal would obey,
/// and no more of it than people read.
pub fn quoted(error: impl Display) -> String {
    let mut short = Short(String::new());
    match write!(short, "{error}") {
        Ok(()) => short.0,
        Err(_) => short.0 + "…",
    }
}

/// Takes as much text as fits, and ends the rest.
struct Short(String);

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        const MOST: usize = 300;
        for character in text.chars() {
            if self.0.len() >= MOST {
                return Err(fmt::Error);
            }
            self.0.push(if character.is_control() { ' ' } else { character });
        }
        Ok(())
    }
}

/// The report `main` prints: the error, its causes, then every mend on the way down.
pub fn report(error: &Error) -> String {
    if error.root_cause().is::<Told>() {
        return String::new();
    }
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        let _ = writeln!(text, "  because {cause}");
    }
    for mend in mends(error) {
        let _ = writeln!(text, "mend: {mend}");
    }
    text
}

/// What to do about an error, outermost first.
pub fn mends(error: &Error) -> Vec<&str> {
    let known: Vec<&str> = failures(error).flat_map(|failure| failure.mend.lines()).collect();
    if known.is_empty() {
        usual(error).into_iter().collect()
    } else {
        known
    }
}

/// What mostly helps where nobody has foreseen the error.
fn usual(error: &Error) -> Option<&'static str> {
    let outside = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>())?;
    match outside.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some("make room on that disk"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Some("make it writable for this user"),
        _ => None,
    }
}

/// The exit code of the outermost failure; an error nobody classified came from outside.
pub fn exit_code(error: &Error) -> Exit {
    let told = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Told>())
        .map(|told| told.0);
    told.or_else(|| failures(error).next().map(|failure| failure.exit))
        .unwrap_or(Exit::Outside)
}

fn failures(error: &Error) -> impl Iterator<Item = &Failure> {
    error.chain().filter_map(|cause| cause.downcast_ref::<Failure>())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn attack_an_error_that_quotes_a_document_or_moves_the_cursor() {
        assert_eq!(quoted("no\n\x1b[2Jnumber"), "no  [2Jnumber");
        assert_eq!(quoted("é".repeat(1 << 20)), "é".repeat(150) + "…");
    }

    #[test]
    fn mends_are_printed_after_causes() {
        let missing: std::io::Result<()> = Err(std::io::ErrorKind::NotFound.into());
        let error = missing
            .or_mend(Exit::Unsupported, "cannot run newuidmap", "apt install uidmap")
            .context("cannot build recipe minimal")
            .expect_err("the file is missing");
        assert_eq!(
            report(&error),
            "error: cannot build recipe minimal\n  \
             because cannot run newuidmap\n  \
             because entity not found\n\
             mend: apt install uidmap\n"
        );
        assert_eq!(exit_code(&error), Exit::Unsupported);
    }
}
