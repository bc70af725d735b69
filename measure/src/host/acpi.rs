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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn command(kind: u32, file: &[u8]) -> Vec<u8> {
        let mut command = [&kind.to_le_bytes()[..], file].concat();
        command.resize(128, 0);
        command
    }

    fn names(commands: &[Vec<u8>]) -> Result<Vec<String>, HostError> {
        loaded(&commands.concat())
    }

    #[test]
    fn blobs_are_measured_as_they_are_loaded() {
        let commands = [
            command(1, b"etc/b"),
            command(2, b"etc/c"),
            command(1, b"etc/a"),
            command(0, b""),
        ];
        let mut host = Host::default();
        host.files.insert(LOADER.into(), commands.concat());
        host.files.insert("etc/a".into(), b"a".into());
        let events = |host: &Host| acpi_events(host, Register::Pcr(1));
        assert_eq!(events(&host), Err(HostError::NoFile("etc/b".into())));
        host.files.insert("etc/b".into(), b"b".into());
        let digests: Vec<_> = events(&host).unwrap().into_iter().map(|event| event.digests).collect();
        assert_eq!(
            digests,
            [Digests::of(commands.concat()), Digests::of("b"), Digests::of("a")]
        );
    }

    #[test]
    fn what_the_firmware_would_refuse_is_refused() {
        let problem = |offset, problem| Err(HostError::Loader { offset, problem });
        let twice = [command(1, b"etc/a"), command(1, b"etc/a")];
        assert_eq!(names(&twice), problem(128, "a file is loaded twice"));
        assert_eq!(
            names(&[command(1, &[b'a'; 56])]),
            problem(0, "the name of a file has no end")
        );
        let (size, limit) = (130, LIMIT);
        assert_eq!(loaded(&[0; 130]), Err(HostError::LoaderSize { size, limit }));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in vec(0_u8..3, 0..1024)) {
            let _ = loaded(&bytes);
        }
    }
}
