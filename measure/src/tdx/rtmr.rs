//! RTMRs: what firmware, boot loader and kernel measure while a TD runs.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::rtmr0::{Rtmr0Error, rtmr0};
use crate::Sha384;
use crate::boot::{BootEvents, FAILURE, INVOCATION};
use crate::event_log::{Digests, Event, EventLog, Register, Subject};
use crate::host::Host;
use crate::ovmf::{Firmware, Ovmf};

/// Which register firmware extends with a separator when it is ready to boot.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeparatorRegister {
    /// edk2-stable202408 and older.
    Rtmr0,
    /// edk2-stable202411 and newer.
    Rtmr1,
}

impl SeparatorRegister {
    /// Both, where the generation of the firmware is not known.
    pub const CANDIDATES: [Self; 2] = [Self::Rtmr0, Self::Rtmr1];
}

impl fmt::Display for SeparatorRegister {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rtmr0 => "separator in RTMR0",
            Self::Rtmr1 => "separator in RTMR1",
        })
    }
}

/// Returns the log that a TD makes where a machine with a TPM makes `log`, with SHA-384 only.
///
/// Firmware of a TD (edk2's `TdTcg2Dxe`) differs from that of a machine with a TPM (`Tcg2Dxe`) in three ways: it
/// extends PCR 0 into no register, as MRTD has what belongs there; it ends its events with one separator, not with one
/// for each PCR; and it does not measure the invocation of an exit from boot services that fails. Events that are in
/// RTMRs already stay there.
pub fn rtmr_log(log: &EventLog, separator: SeparatorRegister) -> EventLog {
    let following = log.events.iter().skip(1).map(Some).chain([None]);
    let kept = log.events.iter().zip(following).filter(|(event, next)| {
        let failing = is_action(event, INVOCATION) && next.is_some_and(|next| is_action(next, FAILURE));
        !failing && is_kept(event, separator)
    });
    kept.filter_map(|(event, _)| in_td(event)).collect()
}

/// Returns the log of a TD, with SHA-384 only: RTMR0 as its firmware and a host fill it, then `boot` in RTMR1 and RTMR2.
/// Without a host nothing is known of the value of RTMR0, and the log has no events of it.
///
/// # Errors
///
/// As [`rtmr0`].
pub fn log(
    image: &Ovmf,
    firmware: &Firmware,
    host: Option<&Host>,
    boot: BootEvents,
    separator: SeparatorRegister,
) -> Result<EventLog, Rtmr0Error> {
    let own = host.map(|host| rtmr0(image, firmware, Some(host))).transpose()?;
    let own = own.unwrap_or_default().events.into_iter();
    let boot = rtmr_log(&boot.log([], []), separator).events.into_iter();
    // the separator of older firmware is in the log of RTMR0 already
    Ok(own
        .filter_map(|event| in_td(&event))
        .chain(boot.filter(|event| event.register != Register::Rtmr(0)))
        .collect())
}

/// Returns RTMR0 to RTMR3 after the events of `log`; a register without events is zero, as RTMR3 is until userspace
/// extends it.
///
/// Nothing is returned if an event of an RTMR has no SHA-384 digest.
pub fn rtmrs(log: &EventLog) -> Option<[Sha384; 4]> {
    let registers = log.replay();
    let mut values = [Sha384::ZERO; 4];
    for (value, index) in values.iter_mut().zip(0..) {
        if let Some(digests) = registers.get(&Register::Rtmr(index)) {
            *value = digests.sha384?;
        }
    }
    Some(values)
}

/// Returns the digest of the event that measures `subject`, the first if there are more.
///
/// For the kernel and the command line of a direct boot these are what Trustee's default policy calls `tdvfkernel` and
/// `tdvfkernelparams`.
pub fn event_digest(log: &EventLog, subject: &Subject) -> Option<Sha384> {
    let event = log.events.iter().find(|event| event.subject == *subject);
    event.and_then(|event| event.digests.sha384)
}

/// Returns the register of a TD that stands for `pcr`, where one does (UEFI 2.10, section 38.4.1).
const fn register(pcr: u8) -> Option<Register> {
    match pcr {
        1 | 7 => Some(Register::Rtmr(0)),
        2..=6 => Some(Register::Rtmr(1)),
        8..=15 => Some(Register::Rtmr(2)),
        _ => None,
    }
}

fn in_td(event: &Event) -> Option<Event> {
    let register = match event.register {
        Register::Pcr(pcr) => register(pcr)?,
        rtmr @ Register::Rtmr(_) => rtmr,
    };
    let sha384 = event.digests.sha384;
    let digests = Digests { sha256: None, sha384 };
    Some(Event {
        register,
        digests,
        ..event.clone()
    })
}

/// Of the separators of PCRs 0 to 6, a TD has one; that of PCR 7 comes earlier and stays.
fn is_kept(event: &Event, separator: SeparatorRegister) -> bool {
    match (event.register, separator) {
        (Register::Pcr(pcr @ 0..=6), SeparatorRegister::Rtmr0) if event.subject == Subject::Separator => pcr == 1,
        (Register::Pcr(pcr @ 0..=6), SeparatorRegister::Rtmr1) if event.subject == Subject::Separator => pcr == 4,
        _ => true,
    }
}

fn is_action(event: &Event, text: &str) -> bool {
    matches!(&event.subject, Subject::Action(found) if found == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::EventType;
    use alloc::string::ToString as _;

    fn event(register: Register, subject: Subject) -> Event {
        let (kind, digests) = (EventType::EFI_ACTION, Digests::of(subject.to_string()));
        Event {
            register,
            kind,
            subject,
            digests,
        }
    }

    #[test]
    fn each_pcr_has_one_register() {
        let log: EventLog = (0..=23).map(|pcr| event(Register::Pcr(pcr), Subject::Other)).collect();
        let td = rtmr_log(&log, SeparatorRegister::Rtmr1);
        let expected = [0, 1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 2, 2, 2].map(Register::Rtmr);
        assert!(td.events.iter().map(|event| event.register).eq(expected));
        assert!(td.events.iter().all(|event| event.digests.sha256.is_none()));
    }

    #[test]
    fn separators_outside_ready_to_boot_stay() {
        let registers = [Register::Pcr(7), Register::Rtmr(0), Register::Pcr(0), Register::Pcr(6)];
        let log = registers.map(|register| event(register, Subject::Separator));
        let td = rtmr_log(&EventLog::from_iter(log), SeparatorRegister::Rtmr0);
        assert!(td.events.iter().map(|event| event.register).eq([Register::Rtmr(0); 2]));
    }

    #[test]
    fn registers_without_events_are_zero_and_events_without_digest_are_none() {
        let mut log = EventLog::from_iter([event(Register::Rtmr(1), Subject::Other)]);
        let [zero, extended, ..] = rtmrs(&log).unwrap();
        assert!(zero == Sha384::ZERO && extended != Sha384::ZERO);
        log.events[0].digests.sha384 = None;
        assert_eq!(rtmrs(&log), None);
    }
}
