//! TPMs: what the registers of a vTPM hold.
//!
//! Firmware's events are those of [`crate::boot`] as they are; userspace adds to PCR 11 while it starts.

mod firmware;

use alloc::string::String;
use alloc::vec::Vec;

pub use firmware::firmware_events;

use crate::boot::BootEvents;
use crate::event_log::{Digests, Event, EventLog, EventType, Register, Subject};
use crate::host::{Host, HostError};
use crate::ovmf::{Firmware, SecureBoot};

/// Returns the whole log of a machine with a TPM, in the order of the firmware: what it measures of itself and of the
/// machine, then `boot`. Without a host nothing is known of PCR 1, and the log has no events of it.
///
/// # Errors
///
/// As [`firmware_events`].
pub fn log(
    firmware: &Firmware,
    variables: &SecureBoot,
    host: Option<&Host>,
    boot: BootEvents,
) -> Result<EventLog, HostError> {
    let own = firmware_events(firmware, variables, host)?.events.into_iter();
    // the boot has the separators of all PCRs but 7
    let own = own.filter(|event| event.subject != Subject::Separator || event.register == Register::Pcr(7));
    let ready = |event: &Event| {
        matches!(
            event.subject,
            Subject::Smbios | Subject::BootOrder | Subject::BootOption(_)
        )
    };
    let (ready, early): (Vec<_>, Vec<_>) = own.partition(ready);
    let mut log = boot.log(early, ready);
    log.events
        .retain(|event| host.is_some() || event.register != Register::Pcr(1));
    Ok(log)
}

/// Words that `systemd-pcrextend` measures as a machine with systemd in its initrd starts, in their order
/// (systemd-pcrphase.service(8) of systemd 257).
///
/// A machine whose initrd is something else measures only the last two.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

/// Returns how far userspace may have come: through no phase, or through [`PHASES`] up to one of them, with or without
/// those of the initrd.
pub fn phases_so_far() -> impl Iterator<Item = &'static [&'static str]> {
    let starts = [&PHASES[..], &PHASES[2..]]; // an initrd may be without systemd-pcrextend
    let started = starts
        .into_iter()
        .flat_map(|phases| (1..=phases.len()).filter_map(|end| phases.get(..end)));
    [&[][..]].into_iter().chain(started)
}

/// Returns the events with which userspace extends PCR 11 when it goes through `phases`, in this order.
///
/// A log of the firmware does not have them: systemd keeps its own.
pub fn phases<'a>(phases: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = Event> {
    phases.into_iter().map(|phase| Event {
        register: Register::Pcr(11),
        kind: EventType::IPL,
        subject: Subject::Action(String::from(phase)),
        digests: Digests::of(phase),
    })
}
