//! The writers of everything that is measured or whose bytes matter.
//!
//! They write to what they are given and know no path, clock, environment or random number: same in, same out. They
//! share no code with the readers in `measure`, so that one bug cannot hide in both.

pub mod cpio;
pub mod disk;
pub mod fat;
pub mod gpt;
pub mod identity;
pub mod uki;
pub mod verity;

use std::io::{Read, Write, copy};

use anyhow::{Context as _, Result};

use crate::mend::Exit;

/// Copies `content`, which must be `size` bytes long: its size is already written where it is too late to mend.
fn copy_exactly(content: &mut (impl Read + ?Sized), size: u64, what: &str, out: &mut impl Write) -> Result<()> {
    let copied = copy(&mut (&mut *content).take(size), out).with_context(|| format!("cannot write {what}"))?;
    let excess = copy(&mut (&mut *content).take(1), &mut std::io::sink()).with_context(|| read_of(what))?;
    if copied == size && excess == 0 {
        return Ok(());
    }
    let found = if excess == 0 {
        copied.to_string()
    } else {
        format!("more than {size}")
    };
    Err(changed(what, size, found))
}

fn read_of(what: &str) -> String {
    format!("cannot read {what}")
}

/// The failure of content that is not as long as it was said to be.
fn changed(what: &str, size: u64, found: String) -> anyhow::Error {
    Exit::Outside.because(
        format!("{what} is {found} bytes long, expected {size}"),
        "something changes the file while it is read: find it, and run again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_of_another_size_is_refused() {
        for (content, message) in [
            ("ab", "initrd is 2 bytes long, expected 3"),
            ("abcd", "initrd is more than 3 bytes long, expected 3"),
        ] {
            let error = copy_exactly(&mut content.as_bytes(), 3, "initrd", &mut Vec::new()).expect_err(content);
            assert_eq!(error.to_string(), message);
        }
        assert!(copy_exactly(&mut "abc".as_bytes(), 3, "initrd", &mut Vec::new()).is_ok());
    }
}
