//! What is asked of a guest about its TPM, whatever image it is: a unit that systemd takes from the machine.
//!
//! systemd 256 and newer reads credentials from SMBIOS strings (systemd.system-credentials(7)), and takes units from them.
//! In a confidential VM it ignores them, as it must.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use data_encoding::BASE64;
use tempfile::TempDir;

use super::machine::{socket, wire, wired};
use super::observed::{self, Observed};
use crate::mend::{Exit, OrMend as _};
use crate::world::swtpm::Swtpm;

/// It has its name from the machine, not from the image.
const UNIT: &str = "begat-observer.service";

/// Everything before the first ordinary service: later, what else runs may extend a PCR while we read. The firmware has
/// its console on the second serial port, too, so there can be half a line before ours. The script needs a shell and
/// coreutils.
const SERVICE: &str = "\
[Unit]
Description=Event log and PCRs for begat
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
After=sysinit.target systemd-pcrphase-sysinit.service
Before=basic.target

[Service]
Type=oneshot
ExecStart=/bin/sh -c '\
stty raw </dev/ttyS1; exec >/dev/ttyS1; echo; \
for file in /sys/kernel/security/tpm0/binary_bios_measurements \
/sys/class/tpm/tpm0/pcr-sha256/* /sys/class/tpm/tpm0/pcr-sha384/* /run/log/systemd/tpm2-measure.log; do \
test -r $$file || continue; echo begat: begin $$file; base64 $$file; echo begat: end $$file; \
done; echo begat: done'
";

/// What starts the unit in any guest that gets that far.
const WANTED: &str = "\
[Unit]
Wants=begat-observer.service
";

/// How long the guest may take after it is ready, when it should be done long since.
const GRACE: Duration = Duration::from_secs(30);

/// Returns the SMBIOS strings that make a guest tell what its TPM says.
pub(super) fn credentials() -> [String; 2] {
    let credential = |name: &str, text: &str| {
        let text = BASE64.encode(text.as_bytes());
        format!("io.systemd.credential.binary:systemd.{name}={text}")
    };
    [
        credential(&format!("extra-unit.{UNIT}"), SERVICE),
        credential("unit-dropin.basic.target", WANTED),
    ]
}

/// A TPM and the line on which the guest tells what it says.
pub(super) struct Observer {
    tpm: Swtpm,
    folder: TempDir,
    told: Receiver<Vec<u8>>,
}

impl Observer {
    /// Starts a TPM and waits for the guest in the background.
    pub(super) fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for sockets")?;
        let line = UnixListener::bind(folder.path().join("line")).context("cannot make a socket")?;
        Ok(Self {
            tpm: Swtpm::start()?,
            folder,
            told: listen(line),
        })
    }

    /// Returns what connects a machine to it.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        let line = socket(&self.folder.path().join("line"));
        let wires = [
            wired(wire::TPM, &socket(&self.tpm.socket())),
            wired(wire::OBSERVER, &line),
        ];
        wires.into_iter().flatten()
    }

    /// Returns what a guest that is ready has told.
    pub(super) fn observed(&self) -> Result<Observed> {
        const MEND: &str = "use a guest with systemd 256 or newer, a kernel with DMI_SYSFS and two serial ports (8250), \
            a shell and coreutils; or leave --tpm out";
        let told = self.told.recv_timeout(GRACE);
        let told = told.or_mend(Exit::No, "the guest does not tell what its TPM says", MEND)?;
        Observed::parse(&told).or_mend(Exit::No, "the guest does not tell all that its TPM says", MEND)
    }
}

/// Reads what the guest tells, to its last line, in the background: a line that nobody reads would stop the guest.
fn listen(line: UnixListener) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let Ok((stream, _)) = line.accept() else { return };
        let mut stream = BufReader::new(stream).take(observed::LIMIT);
        let mut told = Vec::new();
        loop {
            let start = told.len();
            match stream.read_until(b'\n', &mut told) {
                Ok(1..) if !observed::is_last(&told[start..]) => {}
                _ => break,
            }
        }
        let _ = sender.send(told); // nobody waits for a machine that has ended
    });
    receiver
}
