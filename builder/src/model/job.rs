//! A job: the file that tells a builder what to build. It comes from outside and nobody signs it: the builder has its
//! digest vouched for, in the request and in the record.

use anyhow::Result;
use jiff::Timestamp;
use measure::{Sha256, Sha384};
use serde::Deserialize;

use super::recipe;
use super::record::{Binding, Terms};
use crate::mend::Exit;

/// What a builder is to build.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Job {
    /// The digest of the lock.
    lock: Sha256,
    #[serde(default)]
    generation: u32,
    previous: Option<Sha384>,
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
    #[serde(default)]
    binding: Binding,
}

/// What was ordered, by a job or by whoever starts begat.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ordered {
    /// The digest of the lock, which names everything that enters; without one, any.
    pub lock: Option<Sha256>,
    pub terms: Terms,
}

impl From<Terms> for Ordered {
    fn from(terms: Terms) -> Self {
        Self { lock: None, terms }
    }
}

impl Ordered {
    /// Reads the text of a job, in TOML; `name` is the file's in messages.
    ///
    /// # Errors
    /// Text that is no job, with the line.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let job: Job = recipe::parse(name, text)?;
        let terms = Terms {
            binding: job.binding,
            job: Some(Sha256::of(text)),
            generation: job.generation,
            previous: job.previous,
            not_before: job.not_before,
            not_after: job.not_after,
        };
        Ok(Self {
            lock: Some(job.lock),
            terms,
        })
    }

    /// Checks that what is about to be built, or was, is what was ordered.
    ///
    /// # Errors
    /// It has another lock.
    pub fn check(&self, lock: Sha256) -> Result<()> {
        match self.lock {
            Some(ordered) if ordered != lock => {
                let problem = format!("the job is for the lock {ordered}, and this one is {lock}");
                Err(Exit::LockMismatch.because(problem, "give the recipe, with its lock, that the job is for"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_a_lock_and_terms_and_its_own_digest() {
        let (lock, previous) = (Sha256::of("lock"), Sha384::of("record"));
        let text = format!("lock = \"{lock}\"\ngeneration = 2\nprevious = \"{previous}\"\n");
        let ordered = Ordered::parse("job.toml", &text).unwrap();
        assert_eq!((ordered.terms.generation, ordered.terms.previous), (2, Some(previous)));
        assert_eq!(ordered.terms.job, Some(Sha256::of(&text)));
        ordered.check(lock).unwrap();
        let report = crate::mend::report(&ordered.check(Sha256::of("another")).unwrap_err());
        assert!(report.contains("the job is for the lock"), "{report}");
    }

    #[test]
    fn a_job_without_a_lock_or_with_more_is_refused() {
        for text in [
            "generation = 1\n".to_owned(),
            format!("lock = \"{}\"\nrun = \"sh\"\n", Sha256::of("x")),
        ] {
            assert!(Ordered::parse("job.toml", &text).is_err(), "{text}");
        }
    }
}
