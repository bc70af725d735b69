//! QEMU without a guest: a machine that never runs, whose ports and memory are ours.
//!
//! The protocol is a line for a line (qtest, `docs/devel/testing/qtest.rst` and `system/qtest.c` of QEMU): `outl PORT
//! VALUE`, `inb PORT`, `write ADDRESS SIZE DATA`, `read ADDRESS SIZE`, answered by `OK` and what was asked for.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;

use super::program::Program;
use crate::mend::{Exit, OrMend as _};

/// A machine that does not run; dropped, it is gone.
#[derive(Debug)]
pub struct Qtest {
    qemu: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

/// How many bytes a reply takes besides the data: `OK 0x` and 16 digits, or an interrupt's name and number.
const REPLY: usize = 256;

/// A reply that is not what the protocol has.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAReply {
    #[error("QEMU ended in the middle of a reply, after {found:?}")]
    CutShort { found: String },
    #[error("QEMU refused: {0:?}")]
    Refused(String),
    #[error("QEMU answered {found:?}, expected {expected}")]
    Strange { found: String, expected: &'static str },
}

impl Qtest {
    /// Starts a machine that does not run. `arguments` have an accelerator, and nothing else on standard input.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(qemu: &Program<'_>, arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let ours = ["-S", "-qtest", "stdio", "-qtest-log", "none"].map(String::from);
        let mut qemu = qemu.start(arguments.into_iter().chain(ours))?;
        let to = qemu.stdin.take().expect("its standard input is a pipe");
        let from = BufReader::new(qemu.stdout.take().expect("its standard output is a pipe"));
        Ok(Self { qemu, to, from })
    }

    /// Writes a byte to an I/O port.
    ///
    /// # Errors
    /// QEMU is gone or refuses; so with all that follow.
    pub fn outb(&mut self, port: u16, value: u8) -> Result<()> {
        self.ask(format_args!("outb {port:#x} {value:#x}"), 0).map(drop)
    }

    /// Writes 16 bits to an I/O port.
    pub fn outw(&mut self, port: u16, value: u16) -> Result<()> {
        self.ask(format_args!("outw {port:#x} {value:#x}"), 0).map(drop)
    }

    /// Writes 32 bits to an I/O port.
    pub fn outl(&mut self, port: u16, value: u32) -> Result<()> {
        self.ask(format_args!("outl {port:#x} {value:#x}"), 0).map(drop)
    }

    /// Reads a byte from an I/O port.
    pub fn inb(&mut self, port: u16) -> Result<u8> {
        let value = self.ask(format_args!("inb {port:#x}"), 0)?;
        Ok(u8::try_from(number(&value)?).map_err(|_| strange(&value, "a byte"))?)
    }

    /// Reads 32 bits from an I/O port.
    pub fn inl(&mut self, port: u16) -> Result<u32> {
        let value = self.ask(format_args!("inl {port:#x}"), 0)?;
        Ok(u32::try_from(number(&value)?).map_err(|_| strange(&value, "32 bits"))?)
    }

    /// Writes to the guest's memory.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<()> {
        let hex = HEXLOWER.encode(data);
        self.ask(format_args!("write {address:#x} {:#x} 0x{hex}", data.len()), 0)
            .map(drop)
    }

    /// Reads `size` bytes, at least one, of the guest's memory.
    pub fn read(&mut self, address: u64, size: usize) -> Result<Vec<u8>> {
        let value = self.ask(format_args!("read {address:#x} {size:#x}"), size)?;
        Ok(bytes(&value, size)?)
    }

    /// Sends a command and returns what follows `OK`; there are `size` bytes of data in it.
    fn ask(&mut self, command: fmt::Arguments<'_>, size: usize) -> Result<String> {
        const MEND: &str = "read above what QEMU says of its arguments";
        let sent = writeln!(self.to, "{command}").and_then(|()| self.to.flush());
        sent.or_mend(Exit::Outside, "QEMU is gone", MEND)?;
        loop {
            let mut line = Vec::new();
            let longest = (REPLY + 2 * size) as u64;
            let mut reply = self.from.by_ref().take(longest);
            reply
                .read_until(b'\n', &mut line)
                .context("cannot read what QEMU answers")?;
            if let Some(value) = reply_of(&line).or_mend(Exit::Outside, "cannot ask QEMU", MEND)? {
                return Ok(value.to_owned());
            }
        }
    }
}

impl Drop for Qtest {
    fn drop(&mut self) {
        let _ = self.qemu.kill(); // ended already is as good
        let _ = self.qemu.wait();
    }
}

/// Returns what a reply says, or nothing where the line only tells of an interrupt.
fn reply_of(line: &[u8]) -> Result<Option<&str>, NotAReply> {
    let text = str::from_utf8(line).map_err(|_| strange(&String::from_utf8_lossy(line), "text"))?;
    let found = || text.chars().take(80).collect::<String>();
    let reply = text
        .strip_suffix('\n')
        .ok_or_else(|| NotAReply::CutShort { found: found() })?;
    let (word, rest) = reply.split_once(' ').unwrap_or((reply, ""));
    match word {
        "OK" => Ok(Some(rest.trim())),
        "IRQ" => Ok(None),
        "FAIL" | "ERR" => Err(NotAReply::Refused(found())),
        _ => Err(strange(text, "OK")),
    }
}

fn number(value: &str) -> Result<u64, NotAReply> {
    let digits = value.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    digits
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| strange(value, "a number"))
}

fn bytes(value: &str, size: usize) -> Result<Vec<u8>, NotAReply> {
    let digits = value.strip_prefix("0x").unwrap_or_default();
    let bytes = HEXLOWER.decode(digits.as_bytes()).ok();
    bytes
        .filter(|bytes| bytes.len() == size)
        .ok_or_else(|| strange(value, "as many bytes as were asked for"))
}

fn strange(found: &str, expected: &'static str) -> NotAReply {
    let found = found.chars().take(80).collect();
    NotAReply::Strange { found, expected }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies() {
        assert_eq!(reply_of(b"OK\n"), Ok(Some("")));
        assert_eq!(reply_of(b"OK 0x0051\n"), Ok(Some("0x0051")));
        assert_eq!(reply_of(b"IRQ raise 4\n"), Ok(None));
        assert!(matches!(
            reply_of(b"FAIL Unknown command 'x'\n"),
            Err(NotAReply::Refused(_))
        ));
        assert!(matches!(reply_of(b"OK 0x00"), Err(NotAReply::CutShort { .. })));
        assert!(matches!(reply_of(b""), Err(NotAReply::CutShort { .. })));
        assert!(matches!(reply_of(b"\xff\n"), Err(NotAReply::Strange { .. })));
        assert!(matches!(reply_of(b"OKAY\n"), Err(NotAReply::Strange { .. })));
    }

    #[test]
    fn values() {
        assert_eq!(number("0x0051"), Ok(0x51));
        for wrong in ["", "0x", "51", "0x+51", "0x-1", "0x10000000000000000"] {
            assert!(number(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(bytes("0x514d", 2), Ok(b"QM".to_vec()));
        for wrong in ["0x51", "0x514d45", "514d", "0x514", "0xQQQQ"] {
            assert!(bytes(wrong, 2).is_err(), "{wrong:?}");
        }
    }

    /// A machine that is a line of shell.
    fn machine(script: &str) -> Qtest {
        const SH: Program = Program {
            name: "sh",
            mend: "none",
        };
        Qtest::start(&SH, ["-c".to_owned(), script.to_owned()]).unwrap()
    }

    #[test]
    fn a_machine_answers_between_interrupts() {
        let mut machine = machine("while read line; do echo IRQ raise 1; echo OK 0x514d; done");
        assert_eq!(machine.inl(0xcfc).unwrap(), 0x514d);
        assert_eq!(machine.read(0, 2).unwrap(), b"QM");
        assert!(machine.inb(0x511).is_err());
        assert!(machine.read(0, 3).is_err());
    }

    #[test]
    fn a_machine_that_ends_or_never_ends_a_line_is_refused() {
        for script in ["exit 1", "yes | tr -d '\\n'", "echo FAIL", "echo hello; cat"] {
            assert!(machine(script).inb(0x511).is_err(), "{script}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in any::<Vec<u8>>(), size in 0usize..100) {
            if let Ok(Some(value)) = reply_of(&line) {
                let _ = (number(value), bytes(value, size));
            }
        }
    }
}
