//! A release started in QEMU, until the guest says that it is ready.

mod machine;
mod observed;
mod observer;

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

pub use self::machine::{Disk, MOST_VOLUMES, Machine, Purpose, Shape};
use self::machine::{socket, wire, wired};
pub use self::observed::{NotObserved, Observed};
use self::observer::Observer;
use crate::mend::Exit;
use crate::stage::host::Host;
use crate::stage::say;
use crate::world::program::Program;
use crate::world::swtpm::Swtpm;
use anyhow::{Context as _, Result};

/// What a guest prints on its console when it is up.
const MARKER: &str = "begat: ready";

/// Firmware that runs KVM at all prints within this time; some hosts have a /dev/kvm that cannot run it.
const SILENCE: Duration = Duration::from_secs(20);

const QEMU: Program = Program {
    name: "qemu-system-x86_64",
    mend: "apt install qemu-system-x86, or leave --host-qemu out",
};

/// How a run ended.
enum End {
    Ready,
    /// The guest, or QEMU, ended before.
    Ended,
    /// The time was over.
    TimedOut,
    /// Nothing came at all: this accelerator cannot run the firmware.
    Silent,
}

impl Machine {
    /// Starts the machine, prints its console, and returns when the guest is ready. What its TPM said, and what QEMU offered
    /// its firmware, is then in the evidence folder: [`Observed`] and [`Host`].
    ///
    /// # Errors
    /// The guest ends, or the time is over, before the readiness marker; it does not tell what its TPM said.
    pub fn boot(&self) -> Result<()> {
        let (accelerator, end) = self.run_as_it_can()?;
        let problem = match end {
            End::Ready => return self.ask_host(accelerator),
            End::Ended | End::Silent => "the guest ended before it was ready".to_owned(),
            End::TimedOut => format!("the guest was not ready after {} s", self.timeout),
        };
        Err(Exit::No.because(problem, "read its console above; --timeout gives it more seconds"))
    }

    /// Runs the machine with KVM where that can run it; returns the accelerator that did, too.
    fn run_as_it_can(&self) -> Result<(&'static str, End)> {
        if self.kvm && Path::new("/dev/kvm").exists() {
            say("boot", "with KVM");
            match self.run("kvm", Some(SILENCE))? {
                End::Silent => say(
                    "boot",
                    "KVM cannot run this firmware here: with TCG, which takes a minute or three",
                ),
                end => return Ok(("kvm", end)),
            }
        }
        Ok(("tcg", self.run("tcg", None)?))
    }

    fn run(&self, accelerator: &str, silence: Option<Duration>) -> Result<End> {
        let observer = self.evidence.as_ref().map(|_| Observer::start()).transpose()?;
        let wires = observer.iter().flat_map(Observer::arguments);
        let wires = wired(wire::CONSOLE, "stdio").into_iter().chain(wires);
        let mut qemu = QEMU.start(self.arguments(accelerator).into_iter().chain(wires))?;
        let console = qemu.stdout.take().expect("its standard output is a pipe");
        let end = self.watch(&lines(console), silence);
        let kept = match (&end, &observer, &self.evidence) {
            (Ok(End::Ready), Some(observer), Some(folder)) => observer
                .observed()
                .and_then(|observed| observed.save(Path::new(folder))),
            _ => Ok(()),
        };
        stop(&mut qemu)?;
        kept.and(end)
    }

    /// Asks QEMU what it offers the firmware of the very same machine, and keeps it.
    fn ask_host(&self, accelerator: &str) -> Result<()> {
        let Some(folder) = &self.evidence else { return Ok(()) };
        let tpm = Swtpm::start()?;
        let wires = [
            wired(wire::CONSOLE, "null"),
            wired(wire::OBSERVER, "null"),
            wired(wire::TPM, &socket(&tpm.socket())),
        ];
        let arguments = self
            .arguments(accelerator)
            .into_iter()
            .chain(wires.into_iter().flatten());
        Host::ask(&QEMU, arguments)?.save(Path::new(folder))
    }

    /// Copies the console to standard output until something decides.
    fn watch(&self, console: &Receiver<Vec<u8>>, silence: Option<Duration>) -> Result<End> {
        let end = Instant::now() + Duration::from_secs(self.timeout);
        let mut patience = silence;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match console.recv_timeout(patience.map_or(left, |patience| patience.min(left))) {
                Ok(line) => {
                    io::stdout().write_all(&line).and_then(|()| io::stdout().flush())?;
                    patience = None;
                    if String::from_utf8_lossy(&line).contains(MARKER) {
                        return Ok(End::Ready);
                    }
                }
                Err(RecvTimeoutError::Disconnected) if patience.is_some() => return Ok(End::Silent),
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Ended),
                Err(RecvTimeoutError::Timeout) if patience.is_some() => return Ok(End::Silent),
                Err(RecvTimeoutError::Timeout) => return Ok(End::TimedOut),
            }
        }
    }
}

/// Reads the console in the background, line by line, so that waiting for a line can end.
fn lines(console: ChildStdout) -> Receiver<Vec<u8>> {
    const LONGEST: u64 = 64 << 10; // a guest may print without ever ending a line
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut console = BufReader::new(console);
        loop {
            let mut line = Vec::new();
            match console.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
                Ok(1..) if sender.send(line).is_ok() => {}
                _ => break,
            }
        }
    });
    receiver
}

fn stop(qemu: &mut Child) -> Result<()> {
    let _ = qemu.kill(); // ended already is as good
    qemu.wait().map(drop).context("cannot wait for QEMU")
}
