//! The one place that starts other programs.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::room;
use crate::mend::{Exit, OrMend as _};

/// A program that we rely on, and how to get it where it is missing.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name, or its path.
    pub name: &'a str,
    pub mend: &'a str,
}

/// What every program sees, so that no build depends on who runs it.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("HOME", "/root"),
    ("LC_ALL", "C.UTF-8"),
    ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    ("TZ", "UTC"),
];

/// How many lines of a failed program's output go into the error.
const LAST_LINES: usize = 25;

/// How long a program may go on after it has said that the disk is full.
const GRACE: Duration = Duration::from_secs(20);

/// A program of the tool tree: it is missing only where the tree is not what it should be.
pub const fn of_the_tree(name: &str) -> Program<'_> {
    Program {
        name,
        mend: "the tool tree lacks it: remove the folder `trees` of the store and build again",
    }
}

impl Program<'_> {
    /// Runs the program to its end and returns its standard output. It sees `arguments` and a fixed environment,
    /// nothing of ours.
    ///
    /// # Errors
    /// It cannot be started, or ends with another status than 0: the error has the last lines of its output.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Vec<u8>> {
        self.run_watched(arguments, |_| {})
    }

    /// As [`Self::run`], and shows each line of the standard output to `see` when it comes.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_watched(
        &self,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
        see: impl FnMut(&[u8]) + Send,
    ) -> Result<Vec<u8>> {
        let mut command = self.command(arguments);
        let pipes = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = pipes.spawn();
        let child = child.or_mend(Exit::Unsupported, format!("cannot start {}", self.name), self.mend)?;
        let output = end_of(child, see).with_context(|| format!("cannot read what {} says", self.name))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let problem = format!("{} ended with {}:\n{}", self.name, output.status, last_lines(&output));
        Err(Exit::Outside.because(problem, format!("see why it failed; it was called as {command:?}")))
    }

    /// Starts the program with pipes as its standard input and output; its messages go where ours go.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
        let mut command = self.command(arguments);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        child.or_mend(Exit::Unsupported, format!("cannot start {}", self.name), self.mend)
    }

    /// Starts the program as a server: its standard input is the `socket` that it is to listen on. Who connects before it
    /// is up waits for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn serve(&self, socket: UnixListener, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
        let mut command = self.command(arguments);
        let child = command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).spawn();
        child.or_mend(Exit::Unsupported, format!("cannot start {}", self.name), self.mend)
    }

    fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = clean(self.name);
        command.args(arguments);
        command
    }
}

/// Returns the command that starts this very program again, in the same version, with `arguments`.
pub fn ourselves(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
    let mut command = clean("/proc/self/exe");
    command.args(arguments.into_iter().map(Into::into));
    command
}

/// Reads what the program says to its end. One that finds the disk full and goes on waiting for itself, as mkfs.erofs
/// 1.8 does, is ended.
fn end_of(mut child: Child, see: impl FnMut(&[u8]) + Send) -> io::Result<Output> {
    let stdout = child.stdout.take().expect("its standard output is a pipe");
    let stderr = child.stderr.take().expect("its standard error is a pipe");
    let (full, is_full) = mpsc::channel();
    thread::scope(|threads| {
        let results = threads.spawn(|| read(stdout, see));
        let messages = threads.spawn(move || {
            let tell = |line: &[u8]| {
                if room::is_said_by(&String::from_utf8_lossy(line)) {
                    let _ = full.send(()); // nobody waits for it any more
                }
            };
            read(stderr, tell) // then the channel closes
        });
        if is_full.recv().is_ok() {
            let end = Instant::now() + GRACE;
            let over = || is_full.recv_timeout(end.saturating_duration_since(Instant::now()));
            while over().is_ok() {}
            if Instant::now() >= end {
                child.kill()?;
            }
        }
        let [stdout, stderr] = [results, messages].map(|reader| reader.join().expect("reading does not panic"));
        let (status, stdout, stderr) = (child.wait()?, stdout?, stderr?);
        Ok(Output { status, stdout, stderr })
    })
}

/// Reads to the end and shows each line on the way.
fn read(from: impl io::Read, mut see: impl FnMut(&[u8])) -> io::Result<Vec<u8>> {
    let (mut from, mut bytes) = (BufReader::new(from), Vec::new());
    loop {
        let start = bytes.len();
        if from.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(bytes);
        }
        see(&bytes[start..]);
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn clean(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env_clear().envs(ENVIRONMENT);
    command
}

fn last_lines(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SH: Program = Program {
        name: "sh",
        mend: "none",
    };

    #[test]
    fn what_a_program_says_and_how_it_ends() {
        assert_eq!(SH.run(["-c", "echo out; echo err >&2"]).unwrap(), b"out\n");
        let mut seen = Vec::new();
        let said = SH.run_watched(["-c", "echo one; echo two"], |line| seen.push(line.to_vec()));
        assert_eq!(said.unwrap(), b"one\ntwo\n");
        assert_eq!(seen, [b"one\n", b"two\n"]);
        let error = SH
            .run(["-c", "echo out; echo No space left on device >&2; exit 3"])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh ended with exit status: 3:\nout\nNo space left on device"
        );
    }
}
