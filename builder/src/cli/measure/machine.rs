//! The machine that firmware starts on, where it is declared: what it offers the firmware fills RTMR0 and PCR 1.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use measure::host::{self, VirtioBlk};

use crate::mend::Exit;
use crate::stage::host::Host;
use crate::world::program::Program;

/// A machine of type q35, in one of two ways.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("declared").args(["host", "qemu"]))]
pub(super) struct Machine {
    /// Folder with what the machine's QEMU offers the firmware, as begat boot --tpm --evidence DIR keeps it. Adds RTMR0 or
    /// PCR 1, which hold for this machine alone: they vary with the number of vCPUs, memory, devices and their slots, boot
    /// order, CPU model, and the version of QEMU.
    #[arg(long, value_name = "DIR")]
    host: Option<PathBuf>,
    /// QEMU of the host, as it is: asked what it offers the firmware of the machine that the arguments behind -- describe.
    /// That machine never runs. Adds the same as --host.
    #[arg(long, value_name = "PATH", requires = "qemu_arguments")]
    qemu: Option<String>,
    /// PCI slot of the virtio-blk disk on the root bus, hexadecimal as in `addr=` of QEMU; once for each such disk.
    #[arg(long, value_name = "N[.F]", requires_all = ["declared", "uki"])]
    disk_slot: Vec<Slot>,
    /// Arguments of the machine as QEMU is given them, with the accelerator that it runs with (-accel), without -daemonize
    /// and with nothing on standard input and output.
    #[arg(
        last = true,
        requires = "qemu",
        conflicts_with = "host",
        value_name = "QEMU-ARGUMENTS"
    )]
    qemu_arguments: Vec<String>,
}

impl Machine {
    pub(super) const fn is_declared(&self) -> bool {
        self.host.is_some() || self.qemu.is_some()
    }

    /// Returns the machine, if one is declared, with what its firmware starts: a disk, or what QEMU hands over.
    pub(super) fn starting(&self, disk: bool) -> Result<Option<host::Host>> {
        if !self.is_declared() {
            return Ok(None);
        }
        let boot = match disk {
            true => host::Boot::Disk(self.disks()?),
            false => host::Boot::Direct,
        };
        self.offered()?.booting(boot).map(Some)
    }

    fn disks(&self) -> Result<Vec<VirtioBlk>> {
        if self.disk_slot.is_empty() {
            return Err(Exit::Usage.because(
                "the firmware measures in which PCI slot the disk is, and that is not given",
                "add the slot of each virtio-blk disk: --disk-slot N[.F]",
            ));
        }
        Ok(self.disk_slot.iter().map(|slot| slot.0).collect())
    }

    fn offered(&self) -> Result<Host> {
        if let Some(folder) = &self.host {
            return Host::load(folder);
        }
        let name = self.qemu.as_deref().context("no machine is declared")?;
        let mend = "give the path of the QEMU that starts the machine: --qemu PATH";
        Host::ask(&Program { name, mend }, self.qemu_arguments.iter().cloned())
    }
}

/// A slot on the root bus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Slot(VirtioBlk);

impl FromStr for Slot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, limit| {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            let number = u8::from_str_radix(digits, 16).ok();
            number.filter(|number| *number < limit && !digits.starts_with('+'))
        };
        let (device, function) = text.split_once('.').unwrap_or((text, "0"));
        let slot = number(device, 32).zip(number(function, 8));
        let slot = slot.map(|(device, function)| Self(VirtioBlk { device, function }));
        slot.ok_or_else(|| "expected a device, 0 to 1f, and maybe a dot and a function, 0 to 7".into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;
    use crate::mend::{exit_code, report};

    #[test]
    fn slots_are_read_as_qemu_reads_them() {
        for (text, device, function) in [("1", 1, 0), ("1f.2", 0x1f, 2), ("0x10", 0x10, 0), ("10.7", 0x10, 7)] {
            assert_eq!(text.parse(), Ok(Slot(VirtioBlk { device, function })), "{text}");
        }
        for text in ["", "20", "1.8", "1.", ".1", "+1", "1.2.3", "-1", "x"] {
            assert!(text.parse::<Slot>().is_err(), "{text}");
        }
    }

    fn machine(disk_slot: &[&str]) -> Machine {
        Machine {
            host: Some("/nowhere".into()),
            qemu: None,
            disk_slot: disk_slot.iter().map(|slot| slot.parse().unwrap()).collect(),
            qemu_arguments: Vec::new(),
        }
    }

    #[test]
    fn the_slot_of_a_disk_is_never_guessed() {
        let error = machine(&[]).starting(true).unwrap_err();
        assert_eq!(exit_code(&error), Exit::Usage);
        assert!(report(&error).ends_with("mend: add the slot of each virtio-blk disk: --disk-slot N[.F]\n"));
        let slots = machine(&["1", "1f.2"]).disks().unwrap();
        assert_eq!(
            slots
                .iter()
                .map(|disk| (disk.device, disk.function))
                .collect::<Vec<_>>(),
            [(1, 0), (0x1f, 2)]
        );
    }

    #[test]
    fn a_folder_that_holds_no_machine_is_refused() {
        let error = machine(&["1"]).starting(true).unwrap_err();
        assert_eq!(exit_code(&error), Exit::Usage);
        assert!(report(&error).contains("cannot read /nowhere/memory"));
    }

    #[test]
    fn a_machine_is_declared_in_one_way_and_whole() {
        let parse = |arguments: &[&str]| {
            let common = ["begat", "measure", "tpm", "--ovmf=o", "--uki=u", "--disk=d"];
            Cli::try_parse_from([&common, arguments].concat()).map(drop)
        };
        for good in [
            &["--host=h", "--disk-slot=1"][..],
            &["--qemu=q", "--disk-slot=1.2", "--disk-slot=2", "--", "-accel", "kvm"],
        ] {
            parse(good).unwrap();
        }
        for bad in [
            &["--disk-slot=1"][..],
            &["--qemu=q"],
            &["--host=h", "--qemu=q", "--", "-m", "2G"],
            &["--host=h", "--", "-m", "2G"],
            &["--host=h", "--disk-slot=32"],
            &["--append=a"],
            &["--initrd=i"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
