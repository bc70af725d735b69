//! The events about ACPI data: edk2-stable202508, OvmfPkg/AcpiPlatformDxe/QemuFwCfgAcpi.c and
//! OvmfPkg/Include/IndustryStandard/QemuLoader.h.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Host, HostError};
use crate::event_log::{Digests, Event, EventType, Register, Subject};

/// Returns the events about the loader's commands and about each blob that they load, before they change it.
pub(crate) fn acpi_events(host: &Host, register: Register) -> Result<Vec<Event>, HostError> {
    let commands = host.file(LOADER)?;
    let mut names = alloc::vec![String::from(LOADER)];
    names.extend(loaded(commands)?);
    names
        .into_iter()
        .map(|name| {
            Ok(Event {
                register,
                kind: EventType::PLATFORM_CONFIG_FLAGS,
                digests: Digests::of(host.file(&name)?),
                subject: Subject::Acpi(name),
            })
        })
        .collect()
}

/// Returns the names of the blobs that the commands load, in their order.
fn loaded(commands: &[u8]) -> Result<Vec<String>, HostError> {
    let (commands, rest) = <[Command]>::ref_from_prefix_with_elems(commands, commands.len() / size_of::<Command>())
        .map_err(|_| HostError::LoaderSize {
            size: commands.len(),
            limit: LIMIT,
        })?;
    if !rest.is_empty() || size_of_val(commands) > LIMIT {
        let size = size_of_val(commands) + rest.len();
        return Err(HostError::LoaderSize { size, limit: LIMIT });
    }
    let mut seen = BTreeSet::new();
    let allocations = commands.iter().enumerate().filter(|(_, it)| it.kind == ALLOCATE);
    allocations
        .map(|(index, command)| {
            let problem = |problem| HostError::Loader {
                offset: index * size_of::<Command>(),
                problem,
            };
            let name = command.name().ok_or(problem("the name of a file has no end"))?;
            let new = seen.insert(name.clone());
            new.then_some(name).ok_or(problem("a file is loaded twice"))
        })
        .collect()
}

const LOADER: &str = "etc/table-loader";

/// QEMU makes 4 KiB of commands.
const LIMIT: usize = 1 << 20;

/// `QemuLoaderCmdAllocate`.
const ALLOCATE: U32 = U32::new(1);

/// `QEMU_LOADER_ENTRY`, as far as it names a file.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Command {
    kind: U32,
    file: [u8; 56],
    rest: [u8; 68],
}

const _: () = assert!(size_of::<Command>() == 128);

impl Command {
    fn name(&self) -> Option<String> {
        let end = self.file.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&self.file[..end]).into_owned())
    }
}
