//! Registers that a boot fills: where the host leaves a choice open, every case of it is followed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use measure::boot::{BootEvents, DirectBoot, DiskBoot, ExitBootServices, Initrd, InitrdArgument, KernelImage};
use measure::event_log::{EventLog, HostChoice, Register};
use measure::host::Host;
use measure::ovmf::{Firmware, Ovmf, SecureBoot};
use measure::tdx::{self, SeparatorRegister};
use measure::tpm;

use crate::model::measurements::Value;

/// The firmware that boots, and the host it boots on where that is known.
pub(super) struct Machine<'a> {
    pub(super) image: &'a Ovmf<'a>,
    pub(super) firmware: &'a Firmware,
    pub(super) host: Option<&'a Host>,
}

/// What happens in one case: the choices that make it, in words, and what they lead to.
#[derive(Clone, Debug)]
pub(super) struct Case<T> {
    choices: BTreeMap<HostChoice, String>,
    pub(super) outcome: T,
}

impl Machine<'_> {
    /// The boots of a kernel that the VMM hands over.
    pub(super) fn direct(&self, kernel: &[u8], initrd: Option<Initrd>, cmdline: &str) -> Result<Vec<Case<BootEvents>>> {
        let known = self.firmware.generation.initrd_argument;
        let arguments = known.map_or(InitrdArgument::CANDIDATES.to_vec(), |argument| vec![argument]);
        let mut cases = Vec::new();
        for initrd_argument in arguments {
            for kernel_image in KernelImage::candidates(self.memory()) {
                let boot = DirectBoot {
                    kernel,
                    kernel_image,
                    initrd,
                    cmdline,
                    initrd_argument,
                    exit_boot_services: ExitBootServices::Once,
                };
                let mut choices = BTreeMap::from([(HostChoice::VmmVersion, kernel_image.to_string())]);
                if known.is_none() {
                    choices.insert(HostChoice::FirmwareVersion, initrd_argument.to_string());
                }
                cases.push(Case {
                    choices,
                    outcome: boot.events()?,
                });
            }
        }
        Ok(cases)
    }

    /// The boots of a UKI from a disk.
    pub(super) fn disk(&self, disk: &[u8], uki: &[u8]) -> Result<Vec<Case<BootEvents>>> {
        let ends = ExitBootServices::candidates(true).iter();
        let case = |exit_boot_services: &ExitBootServices| {
            let boot = DiskBoot {
                disk,
                uki,
                exit_boot_services: *exit_boot_services,
            };
            Ok(Case {
                choices: [(HostChoice::WritableDisk, exit_boot_services.to_string())].into(),
                outcome: boot.events()?,
            })
        };
        ends.map(case).collect()
    }

    /// Guest memory: without a host so much that more changes nothing.
    fn memory(&self) -> u64 {
        self.host.map_or(4 << 30, |host| host.memory)
    }

    /// The log of a machine with a TPM, which has the firmware as `-bios` and so starts without variables.
    pub(super) fn tpm(&self, case: Case<BootEvents>) -> Result<Case<EventLog>> {
        let variables = SecureBoot::unenrolled(self.firmware.generation.secure_boot);
        let outcome = tpm::log(self.firmware, &variables, self.host, case.outcome)?;
        Ok(Case {
            choices: case.choices,
            outcome,
        })
    }

    /// The logs of a TD.
    pub(super) fn td(&self, case: Case<BootEvents>) -> Result<Vec<Case<EventLog>>> {
        let known = self.firmware.generation.td_separator;
        let separators = known.map_or(SeparatorRegister::CANDIDATES.to_vec(), |separator| vec![separator]);
        let log = |separator: SeparatorRegister| {
            let mut choices = case.choices.clone();
            if known.is_none() {
                choices.insert(HostChoice::FirmwareVersion, separator.to_string());
            }
            let boot = case.outcome.clone();
            Ok(Case {
                choices,
                outcome: tdx::log(self.image, self.firmware, self.host, boot, separator)?,
            })
        };
        separators.into_iter().map(log).collect()
    }
}

/// Returns the values of every register: one, or one for each case in which it has another. A register with an event
/// that nobody knows has no value.
pub(super) fn values(cases: &[Case<EventLog>]) -> Vec<Value> {
    let registers = cases
        .iter()
        .flat_map(|case| case.outcome.events.iter().map(|event| event.register));
    let registers: BTreeSet<Register> = registers.collect();
    registers
        .into_iter()
        .flat_map(|register| of_register(register, cases))
        .collect()
}

fn of_register(register: Register, cases: &[Case<EventLog>]) -> Vec<Value> {
    let mut distinct: Vec<(Value, BTreeMap<HostChoice, String>)> = Vec::new();
    for case in cases {
        let log = case.outcome.of(register).cloned().collect();
        let value = Value::of_register(register, log);
        match distinct.iter_mut().find(|(known, _)| known.log == value.log) {
            Some((_, choices)) => choices.retain(|choice, word| case.choices.get(choice) == Some(word)),
            None => distinct.push((value, case.choices.clone())),
        }
    }
    let open = distinct.len() > 1;
    let labelled = distinct.into_iter().map(|(mut value, choices)| {
        if open {
            value.varies_with.extend(choices.keys());
            value.case = Some(choices.into_values().collect::<Vec<_>>().join(", "));
        }
        value
    });
    labelled
        .filter(|value| value.digests != measure::event_log::Digests::default())
        .collect()
}
