//! What the firmware measures of itself and of the machine into a TPM: TCG PC Client Platform Firmware Profile 1.06,
//! section 3.3.4, as edk2's Tcg2Pei and Tcg2Dxe do it.

use alloc::vec::Vec;

use crate::event_log::{Digests, Event, EventLog, EventType, Register, Subject};
use crate::host::{Host, HostError, acpi_events, boot_events, smbios_event};
use crate::ovmf::{Firmware, SecureBoot, utf16};

/// Returns the events of PCR 0, 1 and 7, and the separators of PCR 2, 3 and 6 that have no other event, for the first
/// boot of a q35 machine: those of PCR 1 only if there is a host.
///
/// `variables` are those that the machine starts with: of `firmware` if QEMU has the whole image as flash, and
/// [`SecureBoot::unenrolled`] if it has it as `-bios`. What cannot be predicted is an event without digests: the PEI
/// volume and the version of some builds, and with Secure Boot enabled what vouches for the kernel.
///
/// # Errors
///
/// The host lacks something that the firmware measures.
pub fn firmware_events(
    firmware: &Firmware,
    variables: &SecureBoot,
    host: Option<&Host>,
) -> Result<EventLog, HostError> {
    let mut events = itself(firmware);
    events.extend(variables.events(Register::Pcr(7)));
    events.push(separator(7));
    if !variables.platform_key.is_empty() {
        events.push(Event {
            register: Register::Pcr(7),
            kind: EventType::EFI_VARIABLE_AUTHORITY,
            subject: Subject::Authority,
            digests: Digests::default(),
        });
    }
    if let Some(host) = host {
        events.extend(machine(firmware, host)?);
    }
    let separated: &[u8] = if host.is_some() {
        &[0, 1, 2, 3, 6]
    } else {
        &[0, 2, 3, 6]
    };
    events.extend(separated.iter().copied().map(separator));
    Ok(EventLog { events })
}

/// Returns the events of the firmware's code.
fn itself(firmware: &Firmware) -> Vec<Event> {
    let version = firmware.texts.version.as_ref();
    let version = version.map_or(Digests::default(), |text| {
        Digests::of([utf16(text), [0, 0].into()].concat())
    });
    let volume = |digests| (EventType::EFI_PLATFORM_FIRMWARE_BLOB, Subject::FirmwareVolume, digests);
    [
        (EventType::S_CRTM_VERSION, Subject::FirmwareVersion, version),
        volume(firmware.pei_volume.unwrap_or_default()),
        volume(firmware.dxe_volume),
    ]
    .into_iter()
    .map(|(kind, subject, digests)| Event {
        register: Register::Pcr(0),
        kind,
        subject,
        digests,
    })
    .collect()
}

/// Returns the events of the machine, in the order of the firmware. A kernel that QEMU hands over comes after ACPI data.
fn machine(firmware: &Firmware, host: &Host) -> Result<Vec<Event>, HostError> {
    let generation = &firmware.generation;
    let pcr = Register::Pcr(1);
    let mut events = Vec::new();
    if generation
        .acpi_measured
        .ok_or(HostError::Unknown("whether ACPI data is measured"))?
    {
        events.extend(acpi_events(host, pcr)?);
    }
    if generation.smbios_measured {
        events.push(smbios_event(host, firmware.texts.smbios.as_ref(), pcr)?);
    }
    events.extend(boot_events(host, generation, pcr)?);
    Ok(events)
}

fn separator(pcr: u8) -> Event {
    Event::separator(Register::Pcr(pcr))
}
