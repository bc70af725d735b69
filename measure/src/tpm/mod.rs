//! TPMs: what the registers of a vTPM hold.
//!
//! Firmware's events are those of [`crate::boot`] as they are; userspace adds to PCR 11 while it starts.

mod firmware;

use alloc::string::String;

pub use firmware::firmware_events;

use crate::event_log::{Digests, Event, EventType, Register, Subject};

/// Words that `systemd-pcrextend` measures as a machine with systemd in its initrd starts, in their order
/// (systemd-pcrphase.service(8) of systemd 257).
///
/// A machine whose initrd is something else measures only the last two.
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

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
