//! A release started in QEMU, until the guest says that it is ready.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::mend::Exit;
use crate::model::artifacts::file;
use crate::stage::say;
use crate::world::program::Program;

/// What a guest prints on its console when it is up.
const MARKER: &str = "begat: ready";

/// Firmware that runs KVM at all prints within this time; some hosts have a /dev/kvm that cannot run it.
const SILENCE: Duration = Duration::from_secs(20);

/// How the firmware gets the kernel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub enum Shape {
    /// QEMU hands over kernel, initrd and command line; the root image and its hash tree are disks.
    Direct,
    /// The firmware finds the UKI on the disk.
    Disk,
}

/// A virtual machine to start.
#[derive(Debug, Deserialize, Serialize)]
pub struct Machine {
    pub shape: Shape,
    /// The folder of the release.
    pub release: String,
    /// The name of the firmware's file in the release.
    pub firmware: String,
    pub command_line: String,
    /// Whether /dev/kvm may be tried.
    pub kvm: bool,
    /// Seconds after which the guest is given up.
    pub timeout: u64,
}

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
    /// Starts the machine, prints its console, and returns when the guest is ready.
    ///
    /// # Errors
    /// The guest ends, or the time is over, before the readiness marker.
    pub fn boot(&self) -> Result<()> {
        if self.kvm && Path::new("/dev/kvm").exists() {
            say("boot", "with KVM");
            match self.run("kvm", Some(SILENCE))? {
                End::Silent => say(
                    "boot",
                    "KVM cannot run this firmware here: with TCG, which takes a minute or three",
                ),
                end => return self.judge(&end),
            }
        }
        let end = self.run("tcg", None)?;
        self.judge(&end)
    }

    fn judge(&self, end: &End) -> Result<()> {
        let problem = match end {
            End::Ready => return Ok(()),
            End::Ended | End::Silent => "the guest ended before it was ready".to_owned(),
            End::TimedOut => format!("the guest was not ready after {} s", self.timeout),
        };
        Err(Exit::No.because(problem, "read its console above; --timeout gives it more seconds"))
    }

    fn run(&self, accelerator: &str, silence: Option<Duration>) -> Result<End> {
        let mut qemu = QEMU.start(self.arguments(accelerator))?;
        let console = qemu.stdout.take().expect("its standard output is a pipe");
        let end = self.watch(&lines(console), silence);
        stop(&mut qemu)?;
        end
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

    fn arguments(&self, accelerator: &str) -> Vec<String> {
        let place = |file: &str| format!("{}/{file}", self.release);
        let disk = |file: &str| format!("file={},format=raw,if=virtio,readonly=on", place(file));
        // No nested virtualisation: under TCG the guest would load KVM, slowly.
        let cpu = if accelerator == "kvm" { "host" } else { "max,-svm,-vmx" };
        let machine = format!("q35,accel={accelerator}");
        let common = [
            "-machine",
            &machine,
            "-cpu",
            cpu,
            "-smp",
            "2",
            "-m",
            "2G",
            "-nodefaults",
            "-no-user-config",
        ];
        let quiet = ["-display", "none", "-no-reboot", "-serial", "stdio", "-bios"];
        let mut arguments: Vec<String> = common.iter().chain(&quiet).map(ToString::to_string).collect();
        arguments.push(place(&self.firmware));
        let rest = match self.shape {
            Shape::Disk => vec!["-drive".into(), disk(file::DISK)],
            Shape::Direct => vec![
                "-kernel".into(),
                place(file::KERNEL),
                "-initrd".into(),
                place(file::INITRD),
                "-append".into(),
                self.command_line.clone(),
                "-drive".into(),
                disk(file::ROOT),
                "-drive".into(),
                disk(file::VERITY),
            ],
        };
        arguments.extend(rest);
        arguments
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
