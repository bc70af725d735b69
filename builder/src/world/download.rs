//! One file from one place: asked for until it is complete and right, or the place has failed too often.

use std::io;
use std::thread;

use anyhow::Result;
use measure::Sha256;

use super::http::{Answer, Refusal};
use super::net::Limits;
use super::partial::Partial;
use super::progress::Progress;

/// A place that sent this many bytes before it broke did not fail: it may break again.
const HEADWAY: u64 = 1 << 20;

/// What is wanted, and how long to try.
pub(super) struct Download<'a> {
    pub(super) sha256: Sha256,
    /// In bytes.
    pub(super) size: u64,
    /// Who says so: `the lock says`.
    pub(super) says: &'static str,
    pub(super) limits: Limits,
    pub(super) progress: &'a Progress,
}

/// Why one place did not give the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// It does not have it.
    Absent(String),
    /// It sent bytes that nobody asked for.
    Wrong(String),
    /// The network, or the place, failed: worth another try.
    Broken(String),
    /// It wants credentials, or others.
    Denied(String),
    /// It will not give it.
    Refused(String),
}

impl Download<'_> {
    /// Asks until the file is complete and right: `ask` takes the first byte and how many are wanted at most.
    pub(super) fn complete(
        &self,
        partial: &mut Partial<'_>,
        ask: impl Fn(u64, u64) -> Result<Answer, Trouble>,
    ) -> Result<Option<Trouble>> {
        let mut failures = 0;
        loop {
            let before = partial.length();
            let trouble = match self.attempt(partial, &ask)? {
                None => return Ok(None),
                // The bytes before the cut may be another mirror's: this one gets a chance to send them all.
                Some(Trouble::Wrong(problem)) if before > 0 && partial.length() == 0 => Trouble::Broken(problem),
                Some(Trouble::Broken(problem)) => Trouble::Broken(problem),
                trouble => return Ok(trouble),
            };
            if partial.length() < before + HEADWAY {
                failures += 1;
            }
            if failures >= self.limits.attempts {
                return Ok(Some(trouble));
            }
            thread::sleep(self.limits.pause_after(failures));
        }
    }

    fn attempt(
        &self,
        partial: &mut Partial<'_>,
        ask: impl Fn(u64, u64) -> Result<Answer, Trouble>,
    ) -> Result<Option<Trouble>> {
        let left = self.size - partial.length();
        if left > 0 || self.size == 0 {
            let mut answer = match ask(partial.length(), left) {
                Ok(answer) => answer,
                Err(trouble) => return Ok(Some(trouble)),
            };
            if let Some(size) = answer.size.filter(|size| *size != self.size) {
                let problem = format!("it has {size} bytes there, {} {}", self.says, self.size);
                return Ok(Some(Trouble::Wrong(problem)));
            }
            if answer.from != partial.length() {
                self.progress.take_back(partial.length());
                partial.restart()?;
            }
            if let Some(trouble) = self.pour(&mut answer.body, partial)? {
                return Ok(Some(trouble));
            }
        }
        let found = partial.digest();
        if found == self.sha256 {
            return Ok(None);
        }
        self.progress.take_back(partial.length());
        partial.restart()?;
        let problem = format!("it has SHA-256 {found} there, {} {}", self.says, self.sha256);
        Ok(Some(Trouble::Wrong(problem)))
    }

    /// Pours a body into the file until it has all its bytes. What is sent beyond them is not read.
    fn pour(&self, body: &mut impl io::Read, partial: &mut Partial<'_>) -> Result<Option<Trouble>> {
        let (size, mut buffer) = (self.size, vec![0; 1 << 16]);
        while partial.length() < size {
            let most = usize::try_from(size - partial.length()).map_or(buffer.len(), |left| left.min(buffer.len()));
            let count = match body.read(&mut buffer[..most]) {
                Ok(0) => {
                    let problem = format!("it ended after {} of {size} bytes", partial.length());
                    return Ok(Some(Trouble::Broken(problem)));
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let problem = format!("it broke after {} of {size} bytes: {error}", partial.length());
                    return Ok(Some(Trouble::Broken(problem)));
                }
            };
            partial.write(&buffer[..count])?;
            self.progress.add(count as u64);
        }
        Ok(None)
    }
}

impl Trouble {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Absent(text) | Self::Wrong(text) | Self::Broken(text) | Self::Denied(text) | Self::Refused(text) => {
                text
            }
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Absent(_) => Self::Absent(text),
            Refusal::Broken(_) => Self::Broken(text),
            Refusal::Status(_) => Self::Refused(text),
        }
    }
}
