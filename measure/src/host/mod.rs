//! What a VMM gives the firmware: a machine as the firmware sees it, and what the firmware measures of it.
//!
//! The bytes come from the operator's own QEMU; nothing here makes them up.

mod acpi;
mod boot_option;
mod fw_cfg;
mod smbios;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

pub(crate) use acpi::acpi_events;
pub(crate) use boot_option::boot_events;
pub(crate) use fw_cfg::fw_cfg_events;
pub(crate) use smbios::smbios_event;

use crate::ovmf::SmbiosTexts;

/// A machine of type q35, as its VMM offers it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Guest memory in bytes, without what can be plugged in later.
    pub memory: u64,
    /// The files of fw_cfg by name, as they are after the firmware has set up the chipset; those that are not there have
    /// no entry. Of use are `etc/table-loader` and the files it names, `etc/smbios/smbios-tables`, `bootorder`,
    /// `etc/extra-pci-roots`, `etc/boot-menu-wait`, `etc/reserved-memory-end` and `opt/ovmf/X-PciMmio64Mb`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The fw_cfg item `BootMenu`: 1 with `-boot menu=on`.
    pub boot_menu: u16,
    /// What the firmware starts.
    pub boot: Boot,
}

/// What the firmware starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Boot {
    /// The kernel that QEMU hands over.
    #[default]
    Direct,
    /// What is on a disk.
    Disk(Vec<VirtioBlk>),
}

/// A virtio-blk disk on the root bus; disks of a machine are in the order of these.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct VirtioBlk {
    /// Number of the PCI device, 0 to 31.
    pub device: u8,
    /// Number of the PCI function, 0 to 7.
    pub function: u8,
}

impl Host {
    fn file(&self, name: &str) -> Result<&[u8], HostError> {
        let file = self.files.get(name).ok_or_else(|| HostError::NoFile(name.into()))?;
        Ok(file)
    }
}

/// Why it cannot be told what a firmware measures of a host.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostError {
    #[error("the host has no fw_cfg file {0}, which the firmware measures")]
    NoFile(String),
    #[error("etc/table-loader has {size} bytes, expected commands of 128 bytes each, at most {limit} in all")]
    LoaderSize { size: usize, limit: usize },
    #[error("etc/table-loader at offset {offset:#x}: {problem}")]
    Loader { offset: usize, problem: &'static str },
    #[error("etc/smbios/smbios-tables at offset {offset:#x}: a structure ends outside the file, or in its own header")]
    Smbios { offset: usize },
    #[error("the version of the firmware cannot be told from the image, and the SMBIOS table names it")]
    NoFirmwareTexts,
    #[error("{0} cannot be told from the image, and the host's part of the measurement depends on it")]
    Unknown(&'static str),
    #[error("disk {disk} of bootorder is none of the machine's")]
    Bootorder { disk: String },
    #[error("a machine with a disk at PCI device {device} function {function}, expected below 32 and 8")]
    Slot { device: u8, function: u8 },
}
