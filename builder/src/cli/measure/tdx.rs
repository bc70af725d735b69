//! `begat measure tdx`: MRTD of an Intel TDX guest.

use std::path::PathBuf;

use anyhow::Result;
use measure::ovmf::Ovmf;
use measure::tdx::{self, PageOrder};
use measure::{Sha256, Sha384};
use serde::Serialize;

use super::print_json;
use crate::mend::{Exit, OrMend as _};
use crate::world::given;

/// Prints MRTD of an Intel TDX guest.
#[derive(clap::Args)]
pub(super) struct Tdx {
    /// Firmware image.
    #[arg(long, value_name = "PATH")]
    ovmf: PathBuf,
    /// In how many passes the VMM adds and measures pages: single in Linux 6.16 and QEMU 10.1 or newer, two in QEMU 8.2
    /// of Ubuntu 24.04.
    #[arg(long, value_enum, default_value_t = Passes::Single)]
    page_order: Passes,
    /// Prints a JSON object: MRTD and what it is made from.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Passes {
    Single,
    Two,
}

impl Tdx {
    pub(super) fn run(self) -> Result<()> {
        let image = given::firmware(&self.ovmf)?;
        let order = match self.page_order {
            Passes::Single => PageOrder::Single,
            Passes::Two => PageOrder::Two,
        };
        let mrtd = Ovmf::read(&image)
            .map_err(Into::into)
            .and_then(|ovmf| tdx::mrtd(&ovmf, order))
            .or_mend(
                Exit::Usage,
                format!("cannot measure {} for TDX", self.ovmf.display()),
                "use an OVMF image for TDX (Debian: ovmf-inteltdx), with code and not only variables in it",
            )?;
        if self.json {
            let firmware = Sha256::of(&image);
            return print_json(&TdxMeasurement {
                firmware,
                page_order: order,
                mrtd,
            });
        }
        println!("{mrtd}");
        Ok(())
    }
}

#[derive(Serialize)]
struct TdxMeasurement {
    firmware: Sha256,
    page_order: PageOrder,
    mrtd: Sha384,
}
