//! What an edk2 build does when it boots, read from the texts and the names of the programs in it.
//!
//! What is not to be seen is nothing (`None`), never a guess. The releases beside the fields are the first that do it.

use memchr::memmem;

use super::code::loads_beside;
use super::volume::{FileKind, Volume};
use crate::Guid;
use crate::boot::InitrdArgument;
use crate::tdx::SeparatorRegister;

use alloc::string::String;
use alloc::vec::Vec;

/// How a build of edk2 for QEMU boots.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Generation {
    /// Whether fw_cfg items are measured in a TD (202505); nothing if there is neither PlatformPei nor SEC.
    pub fw_cfg_measured: Option<bool>,
    /// Whether the SMBIOS table is measured (202505).
    pub smbios_measured: bool,
    /// Whether ACPI data is measured (202302); nothing if the driver for it is not there.
    pub acpi_measured: Option<bool>,
    /// Whether the kernel is read from `etc/boot/kernel`, which QEMU does not patch, if QEMU has it (202502); nothing
    /// if the driver for it is not there.
    pub named_blobs: Option<bool>,
    /// Where `initrd=initrd` goes; nothing if neither form, or both, are there.
    pub initrd_argument: Option<InitrdArgument>,
    /// Where a TD's separator before the boot goes; nothing between 202408 and 202502, where no text tells.
    pub td_separator: Option<SeparatorRegister>,
    /// The applications of the firmware that get a boot option, in the order of their numbers.
    pub applications: Vec<Application>,
    /// The shell, which gets the boot option after those of the devices.
    pub shell: Option<Application>,
    /// Whether there is Tcg2Dxe, which measures into a TPM.
    pub tcg2: bool,
    /// Whether there is TdTcg2Dxe, which measures into a TD's registers.
    pub td_tcg2: bool,
    /// Whether Secure Boot is built in: the variable SecureBoot exists, enrolled or not.
    pub secure_boot: bool,
}

/// An application in a firmware volume, as its boot option describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Application {
    pub description: String,
    /// `LOAD_OPTION_*`: UEFI 2.10, section 3.1.3.
    pub attributes: u32,
    /// The name of the volume.
    pub volume: Guid,
    /// The name of the file.
    pub file: Guid,
}

impl Generation {
    /// Returns what the programs in `volumes` say.
    pub fn read(volumes: &[Volume]) -> Self {
        let has = |name: &str| dxe(volumes).is_some_and(|dxe| dxe.file(name).is_some());
        let named_blobs = says(volumes, "QemuKernelLoaderFsDxe", b"etc/boot/");
        Self {
            fw_cfg_measured: fw_cfg_measured(volumes),
            smbios_measured: has("SmbiosMeasurementDxe"),
            acpi_measured: says(volumes, "QemuFwCfgAcpiPlatform", b"ACPI DATA"),
            named_blobs,
            initrd_argument: initrd_argument(volumes),
            td_separator: td_separator(volumes, named_blobs),
            applications: applications(volumes),
            shell: shell(volumes),
            tcg2: has("Tcg2Dxe"),
            td_tcg2: has("TdTcg2Dxe"),
            secure_boot: has("SecureBootConfigDxe"),
        }
    }
}

/// Returns the volume with the drivers that every guest sees.
pub(super) fn dxe<'v, 'a>(volumes: &'v [Volume<'a>]) -> Option<&'v Volume<'a>> {
    volumes.iter().find(|volume| volume.has(FileKind::DXE_CORE))
}

/// Returns the volume with the programs that find the memory.
pub(super) fn pei<'v, 'a>(volumes: &'v [Volume<'a>]) -> Option<&'v Volume<'a>> {
    volumes.iter().find(|volume| volume.has(FileKind::PEI_CORE))
}

/// Returns whether the driver `name` holds `text`; nothing if there is no such driver.
fn says(volumes: &[Volume], name: &str, text: &[u8]) -> Option<bool> {
    let program = dxe(volumes)?.file(name)?.program()?;
    Some(memmem::find(program.body, text).is_some())
}

/// A build measures fw_cfg where it starts: in PlatformPei, or in SEC where there is no PEI.
fn fw_cfg_measured(volumes: &[Volume]) -> Option<bool> {
    const EVENT: &[u8] = b"QEMU FW CFG";
    let files = volumes.iter().flat_map(|volume| &volume.files);
    let mut early = files
        .filter(|file| file.kind == FileKind::SECURITY_CORE || file.name == "PlatformPei")
        .filter_map(|file| file.program())
        .peekable();
    early.peek()?;
    Some(early.any(|program| memmem::find(program.body, EVENT).is_some()))
}

fn initrd_argument(volumes: &[Volume]) -> Option<InitrdArgument> {
    // the boot manager holds the text of the format string, NUL included
    let prefix = says(volumes, BOOT_MANAGER, b"initrd=initrd \0")?;
    let suffix = says(volumes, BOOT_MANAGER, b" initrd=initrd\0")?;
    match (prefix, suffix) {
        (true, false) => Some(InitrdArgument::Prefix),
        (false, true) => Some(InitrdArgument::Suffix),
        _ => None,
    }
}

/// The change came in 202411 and left no text: named blobs are newer, ACPI data that is not measured is older.
fn td_separator(volumes: &[Volume], named_blobs: Option<bool>) -> Option<SeparatorRegister> {
    let acpi = says(volumes, "QemuFwCfgAcpiPlatform", b"ACPI DATA");
    match (named_blobs, acpi) {
        (Some(true), _) => Some(SeparatorRegister::Rtmr1),
        (_, Some(false)) => Some(SeparatorRegister::Rtmr0),
        _ => None,
    }
}

/// Until 202502 the boot manager's menu is UiApp; since 202505 it is a program of its own, and UiApp has its own option.
fn applications(volumes: &[Volume]) -> Vec<Application> {
    const SETUP: &str = "EFI Firmware Setup";
    let menu = |name| application(volumes, name, name, ACTIVE | HIDDEN | CATEGORY_APPLICATION);
    if says(volumes, BOOT_MANAGER, &utf16(SETUP)) == Some(true) {
        let setup = application(volumes, "UiApp", SETUP, ACTIVE | CATEGORY_APPLICATION);
        return menu("BootManagerMenuApp").into_iter().chain(setup).collect();
    }
    menu("UiApp").into_iter().collect()
}

/// The shell became an application for the boot menu after 202502: what registers it then passes that attribute.
fn shell(volumes: &[Volume]) -> Option<Application> {
    const SHELL: &str = "EFI Internal Shell";
    let menu = ACTIVE | CATEGORY_APPLICATION;
    let program = dxe(volumes)?.file(BOOT_MANAGER)?.program()?.body;
    let text = memmem::find(program, &utf16(SHELL))?;
    let attributes = if loads_beside(program, text, menu) {
        menu
    } else {
        ACTIVE
    };
    application(volumes, "Shell", SHELL, attributes)
}

fn application(volumes: &[Volume], name: &str, description: &str, attributes: u32) -> Option<Application> {
    let volume = dxe(volumes)?;
    Some(Application {
        description: description.into(),
        attributes,
        volume: volume.name?,
        file: volume.file(name)?.guid,
    })
}

/// Returns `text` in UTF-16, little-endian.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

const BOOT_MANAGER: &str = "BdsDxe";

const ACTIVE: u32 = 0x1;
const HIDDEN: u32 = 0x8;
const CATEGORY_APPLICATION: u32 = 0x100;
