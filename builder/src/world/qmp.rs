//! QEMU's monitor, to ask a machine for what its ports do not tell.
//!
//! JSON for JSON (QMP, `docs/interop/qmp-spec.rst` of QEMU): a greeting, then commands and their returns, with events in
//! between.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::mend::Exit;

/// How long a line may be, in bytes; what we ask for takes a few hundred.
const LONGEST: u64 = 1 << 20;

/// A monitor answers within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a machine is to connect its monitor to.
#[derive(Debug)]
pub struct Line {
    listener: UnixListener,
    path: PathBuf,
}

/// A connection to the monitor of a machine.
#[derive(Debug)]
pub struct Qmp {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

impl Line {
    /// Makes a socket at `path`.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn new(path: PathBuf) -> Result<Self> {
        let listener = UnixListener::bind(&path).context("cannot make a socket for QEMU's monitor")?;
        Ok(Self { listener, path })
    }

    /// Returns the arguments that connect a machine's monitor.
    pub fn arguments(&self) -> [String; 4] {
        let socket = format!("socket,id=monitor,path={}", self.path.display());
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
        let (stream, _) = self.listener.accept().context("QEMU does not connect its monitor")?;
        Qmp::greeted(stream)
    }
}

impl Qmp {
    fn greeted(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let from = BufReader::new(stream.try_clone()?);
        let mut qmp = Self { to: stream, from };
        qmp.next()?; // the greeting
        qmp.ask("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    /// What `command` returns from a monitor that says all this, whatever it is asked.
    fn ask(says: &str) -> Result<Value> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(says.as_bytes()).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        Qmp::greeted(ours)?.ask("command", &json!({}))
    }

    #[test]
    fn returns_come_between_events() {
        let value = ask("{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"STOP\"}\n{\"return\": 40}\n");
        assert_eq!(value.unwrap(), json!(40));
    }

    #[test]
    fn anything_else_is_refused() {
        const GREETED: &str = "{\"QMP\": {}}\n{\"return\": {}}\n";
        for (says, expected) in [
            ("", "QEMU's monitor does not answer in JSON"),
            (GREETED, "QEMU's monitor does not answer in JSON"),
            (&format!("{GREETED}[[[["), "QEMU's monitor does not answer in JSON"),
            (
                &format!("{GREETED}{{\"error\": 1}}\n"),
                "QEMU's monitor refuses command: 1",
            ),
        ] {
            assert_eq!(ask(says).unwrap_err().to_string(), expected);
        }
    }
}
