//! Registers that a boot fills: where the host leaves a choice open, every case of it is followed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use measure::boot::{BootEvents, DirectBoot, DiskBoot, ExitBootServices, Initrd, InitrdArgument, KernelImage};
use measure::event_log::{Digests, EventLog, HostChoice, Register};
use measure::host::Host;
use measure::ovmf::{Firmware, Ovmf, SecureBoot};
use measure::tdx::{self, SeparatorRegister};
use measure::tpm;

use crate::model::measurements::{Platform, Value};
use crate::world::parallel;

use super::Started;

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

/// What is started, hashed: nothing of it depends on the firmware or on who measures.
pub(super) enum Loaded<'a> {
    Direct {
        /// As firmware may get it, with what it measures then.
        kernels: Vec<(KernelImage, Digests)>,
        initrd: Option<Initrd>,
        command_line: &'a str,
    },
    Disk(BootEvents),
}

impl<'a> Loaded<'a> {
    /// # Errors
    /// Kernel, UKI or disk that are not what they are said to be, or that nobody can predict.
    pub(super) fn new(started: &Started<'a>, host: Option<&Host>) -> Result<Self> {
        match *started {
            Started::Direct {
                kernel,
                initrd,
                command_line,
            } => {
                let images = KernelImage::candidates(memory(host));
                let kernels = parallel::map(&images, |image| {
                    Ok((*image, image.authenticode(kernel, initrd, command_line)?))
                });
                Ok(Self::Direct {
                    kernels: kernels.into_iter().collect::<Result<_>>()?,
                    initrd,
                    command_line,
                })
            }
            Started::Disk { disk, uki } => Ok(Self::Disk(DiskBoot { disk, uki }.events()?)),
        }
    }
}

/// Guest memory in bytes: without a host so much that more changes nothing.
fn memory(host: Option<&Host>) -> u64 {
    host.map_or(4 << 30, |host| host.memory)
}

impl Machine<'_> {
    /// The logs of a boot on this platform.
    pub(super) fn logs(&self, platform: &Platform, loaded: &Loaded<'_>) -> Result<Vec<Case<EventLog>>> {
        let logs = self.boots(loaded)?.into_iter().map(|case| match platform {
            Platform::Tdx => self.td(case),
            _ => self.tpm(case).map(|case| vec![case]),
        });
        Ok(logs.collect::<Result<Vec<_>>>()?.concat())
    }

    fn boots(&self, loaded: &Loaded<'_>) -> Result<Vec<Case<BootEvents>>> {
        match loaded {
            Loaded::Direct {
                kernels,
                initrd,
                command_line,
            } => self.direct(kernels, *initrd, command_line),
            Loaded::Disk(events) => Ok(disk(events)),
        }
    }

    fn direct(
        &self,
        kernels: &[(KernelImage, Digests)],
        initrd: Option<Initrd>,
        cmdline: &str,
    ) -> Result<Vec<Case<BootEvents>>> {
        let known = self.firmware.generation.initrd_argument;
        let arguments = known.map_or(InitrdArgument::CANDIDATES.to_vec(), |argument| vec![argument]);
        let mut cases = Vec::new();
        for initrd_argument in arguments {
            for (kernel_image, kernel) in kernels {
                let boot = DirectBoot {
                    kernel: *kernel,
                    initrd,
                    cmdline,
                    initrd_argument,
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

    /// The log of a machine with a TPM, which has the firmware as `-bios` and so starts without variables.
    fn tpm(&self, case: Case<BootEvents>) -> Result<Case<EventLog>> {
        let variables = SecureBoot::unenrolled(self.firmware.generation.secure_boot);
        let outcome = tpm::log(self.firmware, &variables, self.host, case.outcome)?;
        Ok(Case {
            choices: case.choices,
            outcome,
        })
    }

    /// The logs of a TD.
    fn td(&self, case: Case<BootEvents>) -> Result<Vec<Case<EventLog>>> {
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

/// The boots of a disk, which may be writable.
fn disk(events: &BootEvents) -> Vec<Case<BootEvents>> {
    let case = |exit_boot_services: &ExitBootServices| Case {
        choices: [(HostChoice::WritableDisk, exit_boot_services.to_string())].into(),
        outcome: BootEvents {
            exit_boot_services: *exit_boot_services,
            ..events.clone()
        },
    };
    ExitBootServices::candidates(true).iter().map(case).collect()
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
    labelled.filter(|value| value.digests != Digests::default()).collect()
}
