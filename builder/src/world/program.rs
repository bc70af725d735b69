//! The one place that starts other programs.

use std::ffi::{OsStr, OsString};
use std::process::{Child, Command, Output, Stdio};

use anyhow::Result;

use crate::mend::{Exit, OrMend as _};

/// A program that we rely on, and how to get it where it is missing.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub name: &'static str,
    pub mend: &'static str,
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

/// A program of the tool tree: it is missing only where the tree is not what it should be.
pub const fn of_the_tree(name: &'static str) -> Program {
    Program {
        name,
        mend: "the tool tree lacks it: remove the folder `trees` of the store and build again",
    }
}

impl Program {
    /// Runs the program to its end and returns its standard output. It sees `arguments` and a fixed environment,
    /// nothing of ours.
    ///
    /// # Errors
    /// It cannot be started, or ends with another status than 0: the error has the last lines of its output.
    pub fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Vec<u8>> {
        let mut command = self.command(arguments);
        let output = command.stdin(Stdio::null()).output();
        let output = output.or_mend(Exit::Unsupported, format!("cannot start {}", self.name), self.mend)?;
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
