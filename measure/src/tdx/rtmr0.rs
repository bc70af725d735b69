//! RTMR0: what the firmware measures of its configuration and of the machine: Intel TDX Virtual Firmware Design Guide
//! (344991-004US), section 8.1, as edk2's SEC, PEI and TdTcg2Dxe do it.

use alloc::vec::Vec;

use super::SeparatorRegister;
use super::hob::{HobError, td_hob_event};
use crate::event_log::{Digests, Event, EventLog, EventType, Register, Subject};
use crate::host::{Boot, Host, HostError, acpi_events, boot_events, fw_cfg_events, smbios_event};
use crate::ovmf::{Firmware, Generation, Ovmf, OvmfError, SecureBoot, TdvfSectionKind, VariableError};

/// Returns the events of RTMR0 for a first boot on `host`; without a host only those that the image decides, which do not
/// make a value of the register.
///
/// `firmware` is what was read from `image`. With Secure Boot enabled, what vouches for the kernel is an event without
/// digests.
///
/// # Errors
///
/// The image is no firmware for TDX, or the host lacks something that the firmware measures.
pub fn rtmr0(image: &Ovmf, firmware: &Firmware, host: Option<&Host>) -> Result<EventLog, Rtmr0Error> {
    let sections = image.tdvf_sections()?;
    let volume = sections.iter().find(|section| section.kind == TdvfSectionKind::Cfv);
    let volume = volume.ok_or(Rtmr0Error::NoVariables)?.data;
    let generation = &firmware.generation;
    let mut events = Vec::new();
    if let Some(host) = host {
        events.push(td_hob_event(image, host.memory)?);
    }
    events.push(Event {
        register: RTMR0,
        kind: EventType::EFI_PLATFORM_FIRMWARE_BLOB2,
        subject: Subject::ConfigurationVolume,
        digests: Digests::of(volume),
    });
    if let Some(host) = host.filter(|_| generation.fw_cfg_measured != Some(false)) {
        known(generation.fw_cfg_measured, "whether fw_cfg items are measured")?;
        events.extend(fw_cfg_events(host, RTMR0));
    }
    if generation.td_tcg2 {
        let variables = SecureBoot::read(volume, generation.secure_boot)?;
        events.extend(driver_events(firmware, &variables, host)?);
    }
    Ok(EventLog { events })
}

/// Returns the events of TdTcg2Dxe.
fn driver_events(firmware: &Firmware, variables: &SecureBoot, host: Option<&Host>) -> Result<Vec<Event>, Rtmr0Error> {
    let mut events = variables.events(RTMR0);
    events.push(Event::separator(RTMR0));
    match host {
        Some(host) => events.extend(machine(firmware, host, !variables.platform_key.is_empty())?),
        None if firmware.generation.td_separator == Some(SeparatorRegister::Rtmr0) => {
            events.push(Event::separator(RTMR0))
        }
        None => {}
    }
    Ok(events)
}

/// Returns the events of the machine, of the boot and of its end.
fn machine(firmware: &Firmware, host: &Host, authority: bool) -> Result<Vec<Event>, HostError> {
    let Generation {
        acpi_measured,
        smbios_measured,
        td_separator,
        ..
    } = firmware.generation;
    let authority = authority.then_some(Event {
        register: RTMR0,
        kind: EventType::EFI_VARIABLE_AUTHORITY,
        subject: Subject::Authority,
        digests: Digests::default(),
    });
    let mut events = Vec::new();
    if known(acpi_measured, "whether ACPI data is measured")? {
        events.extend(acpi_events(host, RTMR0)?);
    }
    // a kernel that QEMU hands over is loaded before the boot variables are measured, one on a disk after
    let direct = host.boot == Boot::Direct;
    events.extend(authority.clone().filter(|_| direct));
    if smbios_measured {
        events.push(smbios_event(host, firmware.texts.smbios.as_ref(), RTMR0)?);
    }
    events.extend(boot_events(host, &firmware.generation, RTMR0)?);
    if known(td_separator, "where the separator of a TD goes")? == SeparatorRegister::Rtmr0 {
        events.push(Event::separator(RTMR0));
    }
    events.extend(authority.filter(|_| !direct));
    Ok(events)
}

fn known<T>(fact: Option<T>, name: &'static str) -> Result<T, HostError> {
    fact.ok_or(HostError::Unknown(name))
}

const RTMR0: Register = Register::Rtmr(0);

/// Why there are no events.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rtmr0Error {
    #[error(transparent)]
    Image(#[from] OvmfError),
    #[error("the image has no CFV section")]
    NoVariables,
    #[error(transparent)]
    Variables(#[from] VariableError),
    #[error(transparent)]
    Memory(#[from] HobError),
    #[error(transparent)]
    Host(#[from] HostError),
}
