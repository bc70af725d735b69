//! What a boot measures after the firmware has set up the machine: kernel, initrd, command line, UKI, partition table.
//!
//! Events are those of firmware with a TPM, edk2's `Tcg2Dxe`, in both banks. [`crate::tdx::rtmr_log`] turns them into
//! those of a TD.

mod cmdline;
mod cpio;
mod direct;
mod disk;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

pub use cmdline::{CommandLineError, InitrdArgument};
pub use direct::{DirectBoot, Initrd, KernelImage};
pub use disk::DiskBoot;

use crate::FieldError;
use crate::event_log::{Digests, Event, EventLog, EventType, Register, Subject};
use crate::gpt::GptError;
use crate::linux::NoRoom;
use crate::pe::PeError;
use crate::uki::{StubVersion, UkiError};

/// The events of a boot, before and after those that firmware makes when it is ready to boot: its SMBIOS table, its
/// variables BootOrder and Boot####.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BootEvents {
    pub before: Vec<Event>,
    pub after: Vec<Event>,
    /// What ends the log.
    pub exit_boot_services: ExitBootServices,
}

impl BootEvents {
    /// Returns the whole log in the order of the firmware: `early` is what it measures before it looks for something to
    /// boot, `ready` what it measures when it is ready to boot. Both may be empty.
    pub fn log(self, early: impl IntoIterator<Item = Event>, ready: impl IntoIterator<Item = Event>) -> EventLog {
        let early = early.into_iter().chain(self.before);
        let exit = exit_boot_services(self.exit_boot_services);
        early.chain(ready).chain(self.after).chain(exit).collect()
    }
}

/// How a kernel leaves the firmware.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitBootServices {
    /// At the first attempt: read-only disks, no FAT file system, or firmware older than edk2-stable202608.
    #[default]
    Once,
    /// At the second: edk2-stable202608 and newer write cached sectors of a FAT file system back during the first one,
    /// which changes the memory map.
    FailedFirst,
}

impl ExitBootServices {
    /// Returns what is possible where a FAT file system is on a disk that is `writable` or not.
    pub const fn candidates(writable: bool) -> &'static [Self] {
        match writable {
            true => &[Self::Once, Self::FailedFirst],
            false => &[Self::Once],
        }
    }
}

impl fmt::Display for ExitBootServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Once => "firmware left at the first attempt",
            Self::FailedFirst => "firmware left at the second attempt",
        })
    }
}

/// Why the events of a boot are not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BootError {
    #[error("kernel: {0}")]
    Kernel(#[from] KernelError),
    #[error("command line: {0}")]
    CommandLine(#[from] CommandLineError),
    #[error("UKI: {0}")]
    Uki(#[from] UkiError),
    #[error("partition table: {0}")]
    PartitionTable(#[from] GptError),
    #[error("{0} measures nothing into the registers of a TD, expected systemd 256 to 260")]
    OldStub(StubVersion),
    #[error(
        "{0} measures what varies with the machine and with each boot (SMBIOS structures of types 1, 2 and 11, a random \
         secret in the initrd, consoles in the command line), expected systemd 256 to 260"
    )]
    UnpredictableStub(StubVersion),
}

/// Why a kernel is not measured as expected.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KernelError {
    #[error(transparent)]
    Pe(#[from] PeError),
    #[error(transparent)]
    SetupHeader(#[from] FieldError),
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    #[error("it does not measure its command line and initrd in a TD, expected Linux 6.9 or newer")]
    MeasuresNothing,
    #[error("QEMU writes the video mode of `vga=` in the command line into the kernel, which is not supported")]
    VideoMode,
}

/// `EFI_CALLING_EFI_APPLICATION` (TCG PC Client Platform Firmware Profile 1.06, section 10.4.4).
const CALLING: &str = "Calling EFI Application from Boot Option";
/// `EFI_EXIT_BOOT_SERVICES_INVOCATION`.
pub(crate) const INVOCATION: &str = "Exit Boot Services Invocation";
/// `EFI_EXIT_BOOT_SERVICES_FAILED`.
pub(crate) const FAILURE: &str = "Exit Boot Services Returned with Failure";
/// `EFI_EXIT_BOOT_SERVICES_SUCCEEDED`.
const SUCCESS: &str = "Exit Boot Services Returned with Success";

fn event(pcr: u8, kind: EventType, subject: Subject, digests: Digests) -> Event {
    Event {
        register: Register::Pcr(pcr),
        kind,
        subject,
        digests,
    }
}

fn action(pcr: u8, text: &str) -> Event {
    let subject = Subject::Action(String::from(text));
    event(pcr, EventType::EFI_ACTION, subject, Digests::of(text))
}

/// An image that firmware starts.
fn application(subject: Subject, digests: Digests) -> Event {
    event(4, EventType::EFI_BOOT_SERVICES_APPLICATION, subject, digests)
}

/// What ends the firmware's own events: it is about to start what was chosen.
fn ready_to_boot() -> impl Iterator<Item = Event> {
    let separator = |pcr| event(pcr, EventType::SEPARATOR, Subject::Separator, Digests::of([0; 4]));
    core::iter::once(action(4, CALLING)).chain((0..=6).map(separator))
}

/// What the EFI stub of Linux measures: the load options with their NUL, where it has any, and the initrd.
fn linux(load_options: Option<&[u8]>, initrd: Option<Digests>) -> impl Iterator<Item = Event> {
    let measured = |subject, digests| event(9, EventType::EVENT_TAG, subject, digests);
    let options = load_options.map(|options| measured(Subject::CommandLine, Digests::of(options)));
    let initrd = initrd.map(|digests| measured(Subject::Initrd, digests));
    options.into_iter().chain(initrd)
}

fn exit_boot_services(how: ExitBootServices) -> impl Iterator<Item = Event> {
    let texts: &[_] = match how {
        ExitBootServices::Once => &[INVOCATION, SUCCESS],
        ExitBootServices::FailedFirst => &[INVOCATION, FAILURE, INVOCATION, SUCCESS],
    };
    texts.iter().map(|text| action(5, text))
}

#[cfg(test)]
mod tests;
