//! `begat measure tdx`: the measurement registers of an Intel TDX guest.

use anyhow::Result;
use measure::ovmf::Ovmf;
use measure::tdx::{self, MrtdError, PageOrder};

use super::files::Files;
use crate::mend::{Exit, OrMend as _};
use crate::model::measurements::Platform;
use crate::stage::measure::mrtd;
use crate::world::given;

/// Prints MRTD of an Intel TDX guest, and with what the firmware starts RTMR1 and RTMR2
///
/// RTMR0 also depends on the machine (vCPUs, memory, devices, QEMU) and is printed where that is declared, by --host or
/// --qemu; RTMR3 is zero until userspace extends it.
#[derive(clap::Args)]
pub(super) struct Tdx {
    /// In how many passes the VMM adds and measures pages: single in Linux 6.16 and QEMU 10.1 or newer, two in QEMU 8.2
    /// of Ubuntu 24.04.
    #[arg(long, value_enum, default_value_t = Passes::Single)]
    page_order: Passes,
    #[command(flatten)]
    files: Files,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Passes {
    Single,
    Two,
}

impl Tdx {
    pub(super) fn run(self) -> Result<()> {
        let bytes = given::firmware(&self.files.ovmf)?;
        let order = match self.page_order {
            Passes::Single => PageOrder::Single,
            Passes::Two => PageOrder::Two,
        };
        let image = Ovmf::read(&bytes).map_err(MrtdError::from);
        let measured = image.and_then(|image| Ok((tdx::mrtd(&image, order)?, image)));
        let (digest, image) = measured.or_mend(
            Exit::Usage,
            format!("cannot measure {} for TDX", self.files.ovmf.display()),
            "use an OVMF image for TDX (Debian: ovmf-inteltdx), with code and not only variables in it",
        )?;
        if !self.files.start_something() && !self.files.json {
            println!("{digest}");
            return Ok(());
        }
        let mut values = mrtd(&image)?;
        values.retain(|value| value.digests.sha384 == Some(digest));
        if self.files.start_something() {
            values.extend(self.files.registers(&image, &Platform::Tdx)?);
        }
        self.files.show(&image, &values)
    }
}
