//! The PEI volume as it is when Tcg2Pei measures it.
//!
//! Its programs run where they lie and write into their own variables, so that the volume in memory is not always the
//! volume of the image.

use alloc::vec::Vec;

use super::code::variables_set_to;
use super::volume::{File, FileKind, Volume};
use crate::event_log::Digests;

/// Returns the digests of the PEI volume when it is measured, on machine type q35.
///
/// Nothing if what the programs write is not known: before 202302 PlatformPei keeps there what it finds of the host's
/// memory and devices. `newer` says that the build is not that old. Later ones write the I/O port of the ACPI timer into
/// the PEI core, if it has a variable for it: edk2-stable202502, OvmfPkg/Library/AcpiTimerLib/BaseAcpiTimerLib.c.
pub(super) fn measured(volume: &Volume, newer: bool) -> Option<Digests> {
    let core = volume.files.iter().find(|file| file.kind == FileKind::PEI_CORE)?;
    if !newer {
        return None;
    }
    match timer_variables(core).as_slice() {
        [] => Some(Digests::of(volume.bytes)),
        [offset] => {
            let mut bytes = volume.bytes.to_vec();
            let variable = bytes.get_mut(*offset..)?.first_chunk_mut()?;
            *variable = Q35_TIMER_PORT.to_le_bytes();
            Some(Digests::of(bytes))
        }
        _ => None,
    }
}

/// Returns where in the volume the PEI core keeps the port of the timer, once for each instruction that shows it.
///
/// Of three places that set the variable, one sets a constant: the port of Cloud Hypervisor.
fn timer_variables(core: &File) -> Vec<usize> {
    let Some(program) = core.program() else {
        return Vec::new();
    };
    let variables = variables_set_to(program.body, CLOUD_HYPERVISOR_TIMER_PORT);
    variables.map(|variable| program.offset + variable).collect()
}

/// `CLOUDHV_ACPI_TIMER_IO_ADDRESS`: edk2-stable202502, OvmfPkg/Include/IndustryStandard/CloudHv.h.
const CLOUD_HYPERVISOR_TIMER_PORT: u32 = 0x608;

/// `ICH9_PMBASE_VALUE`, at which OVMF puts the ports of power management of a q35 machine, and the offset of the timer in
/// them: edk2-stable202502, OvmfPkg/Include/IndustryStandard/Q35MchIch9.h and OvmfPkg/Include/OvmfPlatforms.h.
const Q35_TIMER_PORT: u32 = 0x600 + 8;
