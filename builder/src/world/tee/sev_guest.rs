//! `/dev/sev-guest`: reports of SEV-SNP where the kernel has no configfs-tsm, from Linux 5.19 on
//! (`Documentation/virt/coco/sev-guest.rst`). Certificates do not come along.

use std::path::Path;

use sev::firmware::guest::Firmware;

use super::Silence;
use crate::mend::{Exit, OrMend as _};

const DEVICE: &str = "/dev/sev-guest";

/// The level that the kernel itself runs at: a report of another one says so, and is not wanted.
const VMPL: u32 = 0;

/// Returns the report that carries `data`, as it is: 1184 bytes.
///
/// # Errors
/// There is no such device, or it fails.
pub fn ask(data: &[u8; 64]) -> Result<Vec<u8>, Silence> {
    if !Path::new(DEVICE).exists() {
        return Err(Silence::Absent(format!("there is no {DEVICE}")));
    }
    let firmware = Firmware::open();
    let mut firmware = firmware.or_mend(Exit::Outside, format!("cannot open {DEVICE}"), "run begat as root")?;
    let report = firmware.get_report(None, Some(*data), Some(VMPL));
    let mend = "see the log of the kernel; ask again when the firmware of the host is not busy";
    Ok(report.or_mend(Exit::Outside, format!("{DEVICE} gives no report"), mend)?)
}
