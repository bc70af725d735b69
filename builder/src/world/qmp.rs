//! QEMU's monitor, to ask a machine for what its ports do not tell.
//!
//! JSON for JSON (QMP, `docs/interop/qmp-spec.rst` of QEMU): a greeting, then commands and their returns, with events in
//! between.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::mend::Exit;

/// How long a line may be, in bytes; what we ask for takes a few hundred.
const LONGEST: u64 = 1 << 20;

/// A monitor answers within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where QEMU is to connect its monitor to.
#[derive(Debug)]
pub struct Line(UnixListener);

/// A connection to the monitor of a machine.
#[derive(Debug)]
pub struct Qmp {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Line {
    /// Makes a socket at `path`, for [`arguments`](Self::arguments).
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn new(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).context("cannot make a socket for QEMU's monitor")?;
        Ok(Self(listener))
    }

    /// Returns the arguments that connect a machine's monitor to the socket at `path`.
    pub fn arguments(path: &Path) -> [String; 4] {
        let socket = format!("socket,id=monitor,path={}", path.display());
        [
            "-chardev".into(),
            socket,
            "-mon".into(),
            "chardev=monitor,mode=control".into(),
        ]
    }

    /// Takes the connection of a machine that is up: QEMU connects before it does anything else.
    ///
    /// # Errors
    /// It is not QEMU that connects.
    pub fn take(self) -> Result<Qmp> {
        let (stream, _) = self.0.accept().context("QEMU does not connect its monitor")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let from = BufReader::new(stream.try_clone()?);
        let mut qmp = Qmp { to: stream, from };
        qmp.next()?; // the greeting
        qmp.ask("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }
}

impl Qmp {
    /// Returns what `command` returns.
    ///
    /// # Errors
    /// QEMU is gone, answers other than in JSON, or refuses.
    pub fn ask(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let message = json!({"execute": command, "arguments": arguments});
        writeln!(self.to, "{message}").context("cannot write to QEMU's monitor")?;
        loop {
            let mut answer = self.next()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                let problem = format!("QEMU's monitor refuses {command}: {error}");
                return Err(Exit::Unsupported.because(problem, "use QEMU 8 or newer"));
            }
        }
    }

    fn next(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        let read = self.from.by_ref().take(LONGEST).read_until(b'\n', &mut line);
        read.context("cannot read from QEMU's monitor")?;
        serde_json::from_slice(&line).context("QEMU's monitor does not answer in JSON")
    }
}
