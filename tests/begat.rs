//! The command line as a user meets it: the binary is started, watched, killed, and its exit code and messages read.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "each test that includes this uses a part of it; the binary is what is tested; a panic is how a test fails"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// No step of a build is silent for longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Returns the command `begat`, with an empty environment but for the folder `home`.
pub(crate) fn begat(home: &Path) -> Command {
    begat_at(Path::new(env!("CARGO_BIN_EXE_begat")), home)
}

/// The same, of a copy of the binary.
pub(crate) fn begat_at(binary: &Path, home: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    let output = command.output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    /// Exit code 0.
    #[track_caller]
    pub(crate) fn is_fine(&self) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
    }

    /// This exit code, and one message: what, with each of the `parts`, and the mend.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        assert_eq!(self.count("error: "), 1, "{}", self.stderr);
        assert!(self.count("mend: ") > 0, "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    fn count(&self, prefix: &str) -> usize {
        self.stderr.lines().filter(|line| line.starts_with(prefix)).count()
    }
}

/// A begat that runs.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let messages = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = messages.lines().map_while(Result::ok);
            lines
                .map(|line| sender.send(line))
                .take_while(Result::is_ok)
                .for_each(drop);
        });
        let seen = Vec::new();
        Self { child, lines, seen }
    }

    /// Waits for a message with this text.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it never said {text:?}:\n{}", self.seen.join("\n")));
            self.seen.push(line);
            if self.seen.last().is_some_and(|line| line.contains(text)) {
                return;
            }
        }
    }

    /// Kills it as `kill -9` does, and waits until no process that it has started is left.
    #[track_caller]
    pub(crate) fn kill(mut self) {
        let family = family(self.child.id());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        wait_until("processes of a killed begat survive", || {
            !family.iter().any(Process::lives)
        });
    }

    /// How many processes it is, with those that it has started.
    pub(crate) fn processes(&self) -> usize {
        family(self.child.id()).len()
    }
}

/// Waits for something that has to happen; only what hangs takes as long as this waits.
#[track_caller]
pub(crate) fn wait_until(otherwise: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < end, "{otherwise}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A process: its number alone would be another's some day.
struct Process {
    number: u32,
    started: String,
}

impl Process {
    fn lives(&self) -> bool {
        status(self.number).is_some_and(|(_, started, dead)| started == self.started && !dead)
    }
}

/// The process and its descendants.
fn family(first: u32) -> Vec<Process> {
    let all: Vec<(u32, u32, String)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|number: u32| status(number).map(|(parent, started, _)| (number, parent, started)))
        .collect();
    let mut found = vec![first];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            all.iter()
                .filter(|(_, of, _)| *of == parent)
                .map(|(number, ..)| *number),
        );
        next += 1;
    }
    let members = all.into_iter().filter(|(number, ..)| found.contains(number));
    members
        .map(|(number, _, started)| Process { number, started })
        .collect()
}

/// Parent, start time, and whether it is dead already: proc_pid_stat(5).
fn status(number: u32) -> Option<(u32, String, bool)> {
    let mut text = String::new();
    fs::File::open(format!("/proc/{number}/stat"))
        .ok()?
        .read_to_string(&mut text)
        .ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some((fields[1].parse().ok()?, fields[19].to_owned(), "XZ".contains(fields[0])))
}

/// What lies in a folder, by name, sorted; nothing where there is no folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs `test` where a small file system of `size` bytes lies over `folder` and over nothing that others see; false
/// where that needs more rights than we have.
pub(crate) fn with_memory_at(mounts: Vec<(PathBuf, String)>, test: impl FnOnce() + Send) -> bool {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    thread::scope(|scope| {
        let run = scope.spawn(move || {
            if unshare(CloneFlags::CLONE_NEWNS).is_err() {
                return false;
            }
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            for (folder, options) in &mounts {
                let options = Some(options.as_str());
                mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), options).unwrap();
            }
            test();
            true
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
