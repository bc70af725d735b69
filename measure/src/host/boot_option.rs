//! The events about BootOrder and Boot#### (UEFI 2.10, section 3.1): edk2-stable202508,
//! OvmfPkg/Library/PlatformBootManagerLib, QemuBootOrderLib and MdeModulePkg/Library/UefiBootManagerLib.

use alloc::format;
use alloc::vec::Vec;

use super::{Boot, Host, HostError, VirtioBlk};
use crate::Guid;
use crate::event_log::{Digests, Event, EventType, Register, Subject};
use crate::ovmf::{Application, Generation, utf16};

/// Returns the events about the boot variables of a machine that boots for the first time: BootOrder and what it names.
pub(crate) fn boot_events(host: &Host, generation: &Generation, register: Register) -> Result<Vec<Event>, HostError> {
    let options = options(host, generation)?;
    if options.is_empty() {
        return Ok(Vec::new());
    }
    let order: Vec<u8> = options.iter().flat_map(|(number, _)| number.to_le_bytes()).collect();
    let event = |subject, data: &[u8]| Event {
        register,
        kind: EventType::EFI_VARIABLE_BOOT,
        subject,
        digests: Digests::of(data),
    };
    let entries = options
        .iter()
        .map(|(number, data)| event(Subject::BootOption(*number), data));
    Ok([event(Subject::BootOrder, &order)].into_iter().chain(entries).collect())
}

/// Returns the boot options by number, in the order of BootOrder.
fn options(host: &Host, generation: &Generation) -> Result<Vec<(u16, Vec<u8>)>, HostError> {
    let numbered = |options: Vec<Vec<u8>>, first: usize| (first as u16..).zip(options).collect::<Vec<_>>();
    let applications: Vec<Vec<u8>> = generation.applications.iter().map(Application::load_option).collect();
    let (disks, chosen) = match &host.boot {
        // the kernel starts before the firmware looks for devices
        Boot::Direct => return Ok(numbered(applications, 0)),
        Boot::Disk(disks) => connected(host, disks)?,
    };
    let devices: Vec<Vec<u8>> = (1..).zip(&disks).map(|(nth, disk)| disk.load_option(nth)).collect();
    let shell: Vec<Vec<u8>> = generation.shell.iter().map(Application::load_option).collect();
    let (first_device, first_shell) = (applications.len(), applications.len() + devices.len());
    let applications = numbered(applications, 0);
    let devices = numbered(devices, first_device);
    let (first, second) = if chosen {
        (devices, applications)
    } else {
        (applications, devices)
    };
    Ok([first, second, numbered(shell, first_shell)].concat())
}

/// Returns the disks that the firmware looks at, in the order in which it finds them, and whether the host chose them.
///
/// What QEMU's `bootindex` names is all that is looked at, if anything is named.
fn connected(host: &Host, disks: &[VirtioBlk]) -> Result<(Vec<VirtioBlk>, bool), HostError> {
    let wrong = disks.iter().find(|disk| disk.device >= 32 || disk.function >= 8);
    if let Some(&VirtioBlk { device, function }) = wrong {
        return Err(HostError::Slot { device, function });
    }
    let bootorder = host.files.get("bootorder").map_or(&[][..], Vec::as_slice);
    let mut chosen = Vec::new();
    for path in bootorder.split(|byte| [0, b'\n'].contains(byte)) {
        // ROMs are for BIOSes
        if path.is_empty() || path.starts_with(b"/rom@") {
            continue;
        }
        let disk = disks.iter().find(|disk| disk.open_firmware_path().as_bytes() == path);
        let disk = disk.ok_or_else(|| HostError::Bootorder {
            disk: alloc::string::String::from_utf8_lossy(path).into_owned(),
        })?;
        if !chosen.contains(disk) {
            chosen.push(*disk);
        }
    }
    if chosen.is_empty() {
        let mut all = disks.to_vec();
        all.sort_unstable();
        all.dedup();
        return Ok((all, false));
    }
    Ok((chosen, true))
}

impl VirtioBlk {
    /// Returns how QEMU's file bootorder names the disk.
    fn open_firmware_path(self) -> alloc::string::String {
        let Self { device, function } = self;
        match function {
            0 => format!("/pci@i0cf8/scsi@{device:x}/disk@0,0"),
            _ => format!("/pci@i0cf8/scsi@{device:x},{function:x}/disk@0,0"),
        }
    }

    /// Returns the boot option of the disk, which is the `nth` that the firmware found.
    fn load_option(self, nth: usize) -> Vec<u8> {
        let description = match nth {
            1 => "UEFI Misc Device".into(),
            _ => format!("UEFI Misc Device {nth}"),
        };
        let path = [&PCI_ROOT[..], &[1, 1, 6, 0, self.function, self.device], &END].concat();
        let option = load_option(ACTIVE, &description, &path);
        [option.as_slice(), AUTO_CREATED.bytes()].concat()
    }
}

impl Application {
    fn load_option(&self) -> Vec<u8> {
        let node = |kind: u8, name: &Guid| [&[MEDIA, kind, 20, 0], name.bytes().as_slice()].concat();
        let path = [node(VOLUME, &self.volume), node(FILE, &self.file), END.into()].concat();
        load_option(self.attributes, &self.description, &path)
    }
}

/// `EFI_LOAD_OPTION`.
fn load_option(attributes: u32, description: &str, path: &[u8]) -> Vec<u8> {
    [
        &attributes.to_le_bytes()[..],
        &(path.len() as u16).to_le_bytes(),
        &utf16(description),
        &[0, 0],
        path,
    ]
    .concat()
}

const ACTIVE: u32 = 1;

/// Device path of PciRoot(0x0): ACPI, PNP0A03, number 0 (UEFI 2.10, section 10.3.3).
const PCI_ROOT: [u8; 12] = [2, 1, 12, 0, 0xd0, 0x41, 0x03, 0x0a, 0, 0, 0, 0];

/// The end of a device path.
const END: [u8; 4] = [0x7f, 0xff, 4, 0];

/// Media device path and its kinds: a file in a firmware volume, and the volume (UEFI PI specification 1.8, volume 3).
const MEDIA: u8 = 4;
const FILE: u8 = 6;
const VOLUME: u8 = 7;

/// `mBmAutoCreateBootOptionGuid`: what the boot manager ends the options with that it made itself.
const AUTO_CREATED: Guid = Guid::new(0x8108ac4e_9f11_4d59_850e_e21a522c59b2);

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(bootorder: &str, disks: &[(u8, u8)]) -> Result<(Vec<VirtioBlk>, bool), HostError> {
        let disks: Vec<_> = disks
            .iter()
            .map(|&(device, function)| VirtioBlk { device, function })
            .collect();
        let mut host = Host::default();
        host.files.insert("bootorder".into(), bootorder.into());
        super::connected(&host, &disks)
    }

    #[test]
    fn the_host_chooses_what_the_firmware_looks_at() {
        let disk = |device, function| VirtioBlk { device, function };
        let all = Ok((alloc::vec![disk(1, 0), disk(0x1f, 2)], false));
        assert_eq!(connected("", &[(0x1f, 2), (1, 0)]), all);
        assert_eq!(connected("/rom@genroms/linuxboot_dma.bin\0", &[(1, 0), (0x1f, 2)]), all);
        let chosen = connected("/pci@i0cf8/scsi@1f,2/disk@0,0\n\0", &[(1, 0), (0x1f, 2)]);
        assert_eq!(chosen, Ok((alloc::vec![disk(0x1f, 2)], true)));
    }

    #[test]
    fn disks_of_another_kind_are_refused() {
        let disk = "/pci@i0cf8/pci8086,2922@1f,2/drive@0/disk@0";
        assert_eq!(
            connected(disk, &[(1, 0)]),
            Err(HostError::Bootorder { disk: disk.into() })
        );
        let (device, function) = (32, 0);
        assert_eq!(connected("", &[(32, 0)]), Err(HostError::Slot { device, function }));
    }
}
