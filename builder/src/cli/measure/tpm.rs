//! `begat measure tpm`: the registers of a TPM.

use anyhow::Result;
use measure::ovmf::Ovmf;

use super::files::Files;
use crate::mend::{Exit, OrMend as _};
use crate::model::measurements::Platform;
use crate::world::given;

/// Prints what a TPM holds after a boot, a line for each register and bank.
///
/// PCR 1 also depends on the machine (vCPUs, memory, devices, QEMU) and is printed where that is declared, by --host or
/// --qemu. PCR 11 is that before userspace extends it; PCR 7 that of firmware given with -bios.
#[derive(clap::Args)]
pub(super) struct Tpm {
    #[command(flatten)]
    files: Files,
}

impl Tpm {
    pub(super) fn run(self) -> Result<()> {
        let bytes = given::firmware(&self.files.ovmf)?;
        let problem = format!("cannot read {}", self.files.ovmf.display());
        let image = Ovmf::read(&bytes).or_mend(
            Exit::Usage,
            problem,
            "use an OVMF image with code and not only variables",
        )?;
        self.files.show(&image, &self.files.registers(&image, &Platform::Tpm)?)
    }
}
