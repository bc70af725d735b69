//! What firmware starts, from files named on the command line, and the values that come of it.

use std::path::PathBuf;

use anyhow::Result;
use measure::Sha256;
use measure::boot::Initrd;
use measure::event_log::Register;
use measure::ovmf::Ovmf;
use serde::Serialize;

use super::machine::Machine;
use super::print_json;
use crate::cli::words;
use crate::mend::{Exit, OrMend as _};
use crate::model::measurements::{Platform, Quantity, Value};
use crate::stage::measure::{Started, boot_registers, partition_table};
use crate::world::given;

/// What is started, in one of two ways.
#[derive(clap::Args)]
pub(super) struct Files {
    /// Firmware image.
    #[arg(long, value_name = "PATH")]
    pub(super) ovmf: PathBuf,
    /// Kernel that is started directly.
    #[arg(long, value_name = "PATH", conflicts_with = "uki")]
    kernel: Option<PathBuf>,
    /// Initrd of the kernel.
    #[arg(long, value_name = "PATH", requires = "kernel", conflicts_with = "uki")]
    initrd: Option<PathBuf>,
    /// Command line of the kernel, exactly as the VMM is given it.
    #[arg(
        long,
        value_name = "CMDLINE",
        requires = "kernel",
        conflicts_with = "uki",
        allow_hyphen_values = true
    )]
    append: Option<String>,
    /// UKI that the firmware finds on the disk.
    #[arg(long, value_name = "PATH", requires = "disk")]
    uki: Option<PathBuf>,
    /// The disk, of which the start with the partition table is read.
    #[arg(long, value_name = "PATH", requires = "uki")]
    disk: Option<PathBuf>,
    #[command(flatten)]
    machine: Machine,
    /// Prints a JSON object: the values, the events they are made of and what they vary with.
    #[arg(long)]
    pub(super) json: bool,
}

/// What was measured, with the firmware it was measured for.
#[derive(Serialize)]
struct Measured<'a> {
    firmware: Sha256,
    values: &'a [Value],
}

/// Larger than any kernel or UKI, in bytes.
const LONGEST: u64 = 1 << 30;

impl Files {
    /// Returns whether more than the firmware is given.
    pub(super) const fn start_something(&self) -> bool {
        self.kernel.is_some() || self.uki.is_some() || self.machine.is_declared()
    }

    /// Returns the registers of a TD or a TPM that the files fill, and those that the machine does where it is declared.
    pub(super) fn registers(&self, image: &Ovmf<'_>, platform: &Platform) -> Result<Vec<Value>> {
        let measure = |started: Started<'_>| {
            let host = self.machine.starting(matches!(started, Started::Disk { .. }))?;
            let problem = format!("cannot measure what {} starts", self.ovmf.display());
            let mend = if host.is_some() { MEND_WITH_HOST } else { MEND };
            let values =
                boot_registers(image, platform, &started, host.as_ref()).or_mend(Exit::Usage, problem, mend)?;
            if host.is_some() {
                expect_the_machines(platform, &values)?;
            }
            Ok(values)
        };
        if let Some((uki, disk)) = self.uki.as_deref().zip(self.disk.as_deref()) {
            let uki = given::read(uki, LONGEST, "give a UKI")?;
            let disk = partition_table(disk)?;
            return measure(Started::Disk { disk: &disk, uki: &uki });
        }
        let kernel = self.kernel.as_deref().ok_or_else(|| {
            let mend = "add --kernel with --initrd and --append, or --uki with --disk";
            Exit::Usage.because(
                "registers are filled by what the firmware starts, which is not given",
                mend,
            )
        })?;
        let initrd = self.initrd.as_deref().map(given::hash).transpose()?;
        measure(Started::Direct {
            kernel: &given::read(kernel, LONGEST, "give a kernel")?,
            initrd: initrd.map(|(size, digests)| Initrd { digests, size }),
            command_line: self.append.as_deref().unwrap_or_default(),
        })
    }

    /// Prints the values, one a line, or all that is known of them.
    pub(super) fn show(&self, image: &Ovmf<'_>, values: &[Value]) -> Result<()> {
        if self.json {
            let firmware = Sha256::of(image.bytes());
            return print_json(&Measured { firmware, values });
        }
        values.iter().for_each(show);
        Ok(())
    }
}

/// Expects the register that is asked for with a machine: who asks for it shall not miss that it is not there.
fn expect_the_machines(platform: &Platform, values: &[Value]) -> Result<()> {
    let register = match platform {
        Platform::Tdx => Register::Rtmr(0),
        _ => Register::Pcr(1),
    };
    let quantity = Quantity::Register(register);
    if values.iter().any(|value| value.quantity == quantity) {
        return Ok(());
    }
    let problem = format!(
        "{register} is not known: the firmware has keys for Secure Boot, and measures which one vouches for what it starts"
    );
    Err(Exit::Usage.because(
        problem,
        "use firmware without enrolled keys, or leave the machine out: the other registers are known",
    ))
}

/// Prints a value as checksum programs do, a line for each bank: the digest, then what it is of.
pub(super) fn show(value: &Value) {
    let case = value
        .case
        .as_deref()
        .map(|case| format!(", {case}"))
        .unwrap_or_default();
    let varies_with = match words(&value.varies_with) {
        none if none.is_empty() => none,
        some => format!("  (varies with {some})"),
    };
    let sha256 = value.digests.sha256.map(|digest| digest.to_string());
    let sha384 = value.digests.sha384.map(|digest| digest.to_string());
    for digest in sha256.into_iter().chain(sha384) {
        println!("{digest}  {}{case}{varies_with}", value.quantity);
    }
}

const MEND: &str = "use OVMF, a Linux kernel of 6.9 or newer, and a UKI with systemd-stub 256 to 260";

const MEND_WITH_HOST: &str = "use OVMF, a Linux kernel of 6.9 or newer, and a UKI with systemd-stub 256 to 260
declare a q35 machine, with the slot of each virtio-blk disk that it may start: --disk-slot N[.F]";

#[cfg(test)]
mod tests {
    use measure::event_log::EventLog;

    use super::*;
    use crate::mend::exit_code;

    #[test]
    fn the_register_of_a_declared_machine_is_there_or_an_error() {
        let value = |register| Value::of_register(register, EventLog::default());
        let values = [
            value(Register::Pcr(0)),
            value(Register::Pcr(1)),
            value(Register::Rtmr(1)),
        ];
        assert!(expect_the_machines(&Platform::Tpm, &values).is_ok());
        let error = expect_the_machines(&Platform::Tdx, &values).unwrap_err();
        assert_eq!(exit_code(&error), Exit::Usage);
        assert!(error.to_string().starts_with("RTMR0 is not known"), "{error}");
    }
}
