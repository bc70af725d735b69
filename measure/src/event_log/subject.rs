//! What an event is about, what of a release it covers, and what of the host it varies with.

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};

/// What an event is about.
///
/// Who predicts an event knows more than who reads it: a log does not say whether an application is a kernel or a UKI.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The locality at which the TPM was started; it is no extend.
    StartupLocality(u8),
    /// The version string of the firmware.
    FirmwareVersion,
    /// A firmware volume with code.
    FirmwareVolume,
    /// The firmware volume with the variables, as it lies in the image.
    ConfigurationVolume,
    /// The list of what memory there is, from the VMM.
    TdHob,
    /// A file that the VMM offers over fw_cfg.
    FwCfg(String),
    /// A variable of Secure Boot: SecureBoot, PK, KEK, db, dbx, dbt.
    SecureBoot(String),
    /// What in the signature database vouched for an image.
    Authority,
    /// A blob that ACPI tables are made of, by its fw_cfg name; empty where only a log was read.
    Acpi(String),
    /// The SMBIOS table, without what identifies a machine.
    Smbios,
    /// One SMBIOS structure, by type, as systemd-stub 261 measures it.
    SmbiosStructure(u8),
    /// The variable BootOrder.
    BootOrder,
    /// A variable Boot####.
    BootOption(u16),
    /// The end of what comes before the boot.
    Separator,
    /// A step of the firmware, by its text.
    Action(String),
    /// The partition table of the boot disk.
    PartitionTable,
    /// An image that the firmware started; which one is not known.
    Application,
    /// The kernel, as a PE image.
    Kernel,
    /// The UKI, as a PE image.
    Uki,
    /// The name of a section of the UKI.
    SectionName(String),
    /// The contents of a section of the UKI.
    Section(String),
    /// The command line, as the kernel was given it.
    CommandLine,
    /// The initrd, as the kernel was given it.
    Initrd,
    /// Anything else.
    Other,
}

/// A part of a release that a value can depend on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Firmware,
    Kernel,
    Initrd,
    CommandLine,
    Uki,
    PartitionTable,
}

/// A choice of the host that changes a value.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum HostChoice {
    #[serde(rename = "VMM page order")]
    PageOrder,
    #[serde(rename = "VMM version")]
    VmmVersion,
    #[serde(rename = "firmware version")]
    FirmwareVersion,
    #[serde(rename = "machine type")]
    MachineType,
    #[serde(rename = "vCPUs")]
    Vcpus,
    #[serde(rename = "CPU model")]
    CpuModel,
    #[serde(rename = "memory size")]
    MemorySize,
    #[serde(rename = "devices")]
    Devices,
    #[serde(rename = "boot order")]
    BootOrder,
    #[serde(rename = "host physical address bits")]
    PhysicalBits,
    #[serde(rename = "writable boot disk")]
    WritableDisk,
    #[serde(rename = "variable store")]
    VariableStore,
}

impl Subject {
    /// Returns the parts of a release that decide the event's digest.
    pub fn covers(&self) -> &'static [Part] {
        match self {
            Self::FirmwareVersion | Self::FirmwareVolume | Self::ConfigurationVolume | Self::BootOption(_) => {
                &[Part::Firmware]
            }
            Self::TdHob | Self::SecureBoot(_) | Self::Authority | Self::Smbios | Self::BootOrder => &[Part::Firmware],
            Self::PartitionTable => &[Part::PartitionTable],
            Self::Kernel => &[Part::Kernel],
            Self::Uki | Self::SectionName(_) => &[Part::Uki],
            Self::Section(name) => section(name),
            Self::CommandLine => &[Part::CommandLine],
            Self::Initrd => &[Part::Initrd],
            Self::FwCfg(_) | Self::Acpi(_) | Self::SmbiosStructure(_) => &[],
            Self::StartupLocality(_) | Self::Separator | Self::Action(_) | Self::Application | Self::Other => &[],
        }
    }

    /// Returns the choices of the host that the event's digest changes with.
    pub fn varies_with(&self) -> &'static [HostChoice] {
        match self {
            Self::TdHob => &[HostChoice::MemorySize],
            // its programs note where the machine has its timer
            Self::FirmwareVolume => &[HostChoice::MachineType],
            Self::FwCfg(name) => fw_cfg(name),
            Self::BootOrder => &[HostChoice::BootOrder, HostChoice::Devices],
            Self::SecureBoot(_) | Self::Authority => &[HostChoice::VariableStore],
            Self::Acpi(_) => &[
                HostChoice::VmmVersion,
                HostChoice::MachineType,
                HostChoice::Vcpus,
                HostChoice::MemorySize,
                HostChoice::Devices,
                HostChoice::PhysicalBits,
            ],
            Self::Smbios | Self::SmbiosStructure(_) => &[
                HostChoice::MachineType,
                HostChoice::Vcpus,
                HostChoice::CpuModel,
                HostChoice::MemorySize,
            ],
            Self::BootOption(_) => &[HostChoice::BootOrder, HostChoice::Devices],
            Self::PartitionTable => &[HostChoice::Devices],
            _ => &[],
        }
    }
}

fn fw_cfg(name: &str) -> &'static [HostChoice] {
    match name {
        "etc/reserved-memory-end" => &[HostChoice::MemorySize],
        "etc/extra-pci-roots" | "opt/ovmf/X-PciMmio64Mb" => &[HostChoice::Devices],
        _ => &[HostChoice::BootOrder],
    }
}

fn section(name: &str) -> &'static [Part] {
    match name {
        ".linux" => &[Part::Kernel],
        ".initrd" => &[Part::Initrd],
        ".cmdline" => &[Part::CommandLine],
        _ => &[Part::Uki],
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartupLocality(locality) => write!(f, "startup at locality {locality}"),
            Self::FirmwareVersion => f.pad("version of the firmware"),
            Self::FirmwareVolume => f.pad("firmware volume"),
            Self::ConfigurationVolume => f.pad("configuration firmware volume"),
            Self::TdHob => f.pad("TD HOB"),
            Self::FwCfg(name) => write!(f, "fw_cfg {name}"),
            Self::SecureBoot(name) => write!(f, "variable {name}"),
            Self::Authority => f.pad("Secure Boot authority"),
            Self::Acpi(name) if name.is_empty() => f.pad("ACPI data"),
            Self::Acpi(name) => write!(f, "ACPI data {name}"),
            Self::Smbios => f.pad("SMBIOS table"),
            Self::SmbiosStructure(kind) => write!(f, "SMBIOS structure of type {kind}"),
            Self::BootOrder => f.pad("variable BootOrder"),
            Self::BootOption(number) => write!(f, "variable Boot{number:04X}"),
            Self::Separator => f.pad("separator"),
            Self::Action(text) => write!(f, "{text:?}"),
            Self::PartitionTable => f.pad("partition table"),
            Self::Application => f.pad("EFI application"),
            Self::Kernel => f.pad("kernel"),
            Self::Uki => f.pad("UKI"),
            Self::SectionName(name) => write!(f, "name of section {name}"),
            Self::Section(name) => write!(f, "section {name}"),
            Self::CommandLine => f.pad("command line"),
            Self::Initrd => f.pad("initrd"),
            Self::Other => f.pad("something else"),
        }
    }
}
