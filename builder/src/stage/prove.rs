//! A boot beside its prediction: is what the TPM says what was computed from the files?

use anyhow::{Context as _, Result};
use measure::event_log::{EventLog, LogOf, Register};

use crate::mend::{Exit, OrMend as _};
use crate::model::Measurements;
use crate::model::file;
use crate::model::measurements::{Launch, Platform};
use crate::stage::appraise::after_phases;
use crate::stage::boot::{Observed, Shape};
use crate::stage::explain::{Difference, Explanation, events};
use crate::stage::host::Host;
use crate::stage::measure::Measured;
use crate::stage::on_disk::OnDisk;

/// Returns how the boot of a release differs from what is predicted for it on this host: in each event of the
/// firmware's log, and in each register that the log does not lead to.
///
/// # Errors
/// A release that cannot be measured, or a log that cannot be read.
pub fn prove(release: &OnDisk, shape: Shape, observed: &Observed, host: Host) -> Result<Explanation> {
    let launch = launch(release, shape)?;
    let host = host.booting(shape.firmware_boots())?;
    let measured = Measured::read(std::slice::from_ref(&launch), release)?;
    let predicted = measured.logs(&launch, Some(&host))?;
    let log = EventLog::read(&observed.log, LogOf::Tpm);
    let log = log.or_mend(Exit::Outside, "cannot read the firmware's log", "boot again")?;
    let mut explanation = events::nearest(&launch, predicted, &log);
    explanation.differences.extend(elsewhere(&log, observed));
    Ok(explanation)
}

/// The launch of a release on a machine with a TPM.
fn launch(release: &OnDisk, shape: Shape) -> Result<Launch> {
    let text = release
        .text(file::MEASUREMENTS)
        .context("cannot read measurements.json")?;
    let launches = Measurements::parse(&text)?
        .launches
        .into_iter()
        .map(|measurement| measurement.launch);
    let mut fitting = launches.filter(|launch| launch.platform == Platform::Tpm && launch.boot == shape.into());
    fitting.next().ok_or_else(|| {
        let problem = "the release has no launch on a machine with a TPM";
        Exit::Usage.because(
            problem,
            "add [[launch]] platform = \"tpm\" to its recipe, or leave --tpm out",
        )
    })
}

/// The registers that hold something else than the log leads to.
fn elsewhere(log: &EventLog, observed: &Observed) -> Vec<Difference> {
    let differs = log.replay().into_iter().filter_map(|(register, replayed)| {
        let Register::Pcr(index) = register else { return None };
        let held = observed.pcrs.get(&index).copied().unwrap_or_default();
        let explained = replayed == held || index == 11 && after_phases(log, held);
        (!explained).then(|| Difference {
            what: format!("{register} holds something else than its events lead to"),
            files: [].into(),
            varies_with: [].into(),
        })
    });
    differs.collect()
}
