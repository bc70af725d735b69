//! The virtual machine that a release starts in, as QEMU's arguments.

use measure::host::{self, VirtioBlk};
use serde::{Deserialize, Serialize};

use super::observer;
use crate::model::artifacts::file;
use crate::model::measurements::Boot;

/// How the firmware gets the kernel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
pub enum Shape {
    /// QEMU hands over kernel, initrd and command line; the root image and its hash tree are disks.
    Direct,
    /// The firmware finds the UKI on the disk.
    Disk,
}

impl Shape {
    /// The disks of the machine: their PCI slots, and the files of a release that they are.
    const fn disks(self) -> &'static [(u8, &'static str)] {
        match self {
            Self::Direct => &[(1, file::ROOT), (2, file::VERITY)],
            Self::Disk => &[(1, file::DISK)],
        }
    }

    /// Returns what the firmware of the machine starts.
    pub fn firmware_boots(self) -> host::Boot {
        let disk = |(slot, _): &(u8, &str)| VirtioBlk {
            device: *slot,
            function: 0,
        };
        match self {
            Self::Direct => host::Boot::Direct,
            Self::Disk => host::Boot::Disk(self.disks().iter().map(disk).collect()),
        }
    }
}

impl From<Shape> for Boot {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::Direct => Self::Direct,
            Shape::Disk => Self::Disk,
        }
    }
}

/// The first PCI slot of a volume; each has two, and the last one of a q35 is its chipset's.
const VOLUMES: u8 = 8;
pub const MOST_VOLUMES: usize = (31 - VOLUMES as usize) / 2;

/// A virtual machine to start.
#[derive(Debug, Deserialize, Serialize)]
pub struct Machine {
    pub shape: Shape,
    /// The folder of the release.
    pub release: String,
    /// The name of the firmware's file in the release.
    pub firmware: String,
    pub command_line: String,
    /// Whether /dev/kvm may be tried.
    pub kvm: bool,
    /// Seconds after which the guest is given up.
    pub timeout: u64,
    /// The folder for what the machine's TPM says; `None` is a machine without a TPM.
    pub evidence: Option<String>,
    /// In MiB.
    pub memory: u32,
    /// Files of the release that are disks of their own, beside the root and its hash tree: volumes.
    pub volumes: Vec<String>,
    /// Disks besides those of the release.
    pub disks: Vec<Disk>,
}

/// A file that the guest gets as a disk: `/dev/disk/by-id/virtio-` and the name of its purpose.
#[derive(Debug, Deserialize, Serialize)]
pub struct Disk {
    pub purpose: Purpose,
    pub file: String,
}

/// What a disk besides those of the release is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Purpose {
    /// What the guest is given, and can only read.
    Input,
    /// What the guest gives.
    Output,
    /// Room for the guest's work: with the machine, what is on it is lost.
    Scratch,
}

impl Purpose {
    /// Returns its name: the serial number of the disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Scratch => "scratch",
        }
    }
}

/// The character devices of a machine by name. What is behind them, the guest does not see: whoever starts it says.
pub(super) mod wire {
    pub(in super::super) const CONSOLE: &str = "console";
    pub(in super::super) const OBSERVER: &str = "observer";
    pub(in super::super) const TPM: &str = "tpm";
}

/// Returns the arguments for a character device: a wire's name, and what is behind it.
pub(super) fn wired(wire: &str, kind: &str) -> [String; 2] {
    ["-chardev".into(), format!("{kind},id={wire}")]
}

/// Returns the backend that connects a character device to a socket.
pub(super) fn socket(path: &std::path::Path) -> String {
    format!("socket,path={}", path.display())
}

impl Machine {
    /// Returns everything that the guest, and what the firmware measures, can depend on.
    pub(super) fn arguments(&self, accelerator: &str) -> Vec<String> {
        // No nested virtualisation: under TCG the guest would load KVM, slowly.
        let cpu = if accelerator == "kvm" { "host" } else { "max,-svm,-vmx" };
        let common = ["-accel", accelerator, "-machine", "q35", "-cpu", cpu, "-smp", "2"];
        let quiet = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-bios",
        ];
        let mut arguments = owned(&common);
        arguments.extend(["-m".into(), format!("{}M", self.memory)]);
        arguments.extend(owned(&quiet));
        arguments.push(self.place(&self.firmware));
        arguments.extend(["-serial".into(), format!("chardev:{}", wire::CONSOLE)]);
        if self.evidence.is_some() {
            arguments.extend(tpm());
        }
        arguments.extend(self.artifacts());
        arguments.extend(self.disks.iter().flat_map(Disk::arguments));
        arguments
    }

    fn artifacts(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let volumes = self.volumes.iter().filter(|_| self.shape == Shape::Direct);
        let volumes = (VOLUMES..).zip(volumes.map(String::as_str));
        for (slot, file) in self.shape.disks().iter().copied().chain(volumes) {
            let place = self.place(file);
            arguments.extend([
                "-drive".into(),
                format!("file={place},format=raw,if=none,id=disk{slot},readonly=on"),
            ]);
            arguments.extend(["-device".into(), format!("virtio-blk-pci,drive=disk{slot},addr={slot}")]);
        }
        if self.shape == Shape::Direct {
            let files = [("-kernel", file::KERNEL), ("-initrd", file::INITRD)];
            arguments.extend(
                files
                    .iter()
                    .flat_map(|(flag, file)| [String::from(*flag), self.place(file)]),
            );
            arguments.extend(["-append".into(), self.command_line.clone()]);
        }
        arguments
    }

    fn place(&self, file: &str) -> String {
        format!("{}/{file}", self.release)
    }
}

impl Disk {
    fn arguments(&self) -> [String; 4] {
        let (slot, access) = match self.purpose {
            Purpose::Input => (4, "readonly=on"),
            Purpose::Output => (5, "readonly=off"),
            Purpose::Scratch => (6, "cache=unsafe"), // nobody reads it after a crash
        };
        let (name, file) = (self.purpose.name(), &self.file);
        let drive = format!("file={file},format=raw,if=none,id={name},{access}");
        let device = format!("virtio-blk-pci,drive={name},serial={name},addr={slot}");
        ["-drive".into(), drive, "-device".into(), device]
    }
}

/// A TPM, and what asks the guest for its values: a second serial port and the unit that writes to it.
fn tpm() -> Vec<String> {
    let backend = format!("emulator,id=tpm0,chardev={}", wire::TPM);
    let serial = format!("chardev:{}", wire::OBSERVER);
    let mut arguments = owned(&[
        "-tpmdev",
        &backend,
        "-device",
        "tpm-crb,tpmdev=tpm0",
        "-serial",
        &serial,
    ]);
    for credential in observer::credentials() {
        arguments.extend(["-smbios".into(), format!("type=11,value={credential}")]);
    }
    arguments
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(ToString::to_string).collect()
}
