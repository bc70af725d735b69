//! The list of what memory there is, as QEMU writes it for a TD: Intel TDX Virtual Firmware Design Guide (344991-004US),
//! section 4.2; UEFI PI specification 1.8, volume 3, section 5; QEMU 11.1, hw/i386/tdvf-hob.c and tdx.c.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::event_log::{Digests, Event, EventType, Register, Subject};
use crate::ovmf::{Ovmf, OvmfError, TdvfSection, TdvfSectionKind};

/// Returns the event about the list for a TD with `memory` bytes on machine type q35, its `max-ram-below-4g` unset.
///
/// # Errors
///
/// As [`td_hob`].
pub fn td_hob_event(image: &Ovmf, memory: u64) -> Result<Event, HobError> {
    Ok(Event {
        register: Register::Rtmr(0),
        kind: EventType::EFI_HANDOFF_TABLES2,
        subject: Subject::TdHob,
        digests: Digests::of(td_hob(image, memory)?),
    })
}

/// Returns the list, without the end marker: the bytes that are measured.
///
/// # Errors
///
/// The image is no firmware for TDX, or one of its sections is not in the memory.
pub fn td_hob(image: &Ovmf, memory: u64) -> Result<Vec<u8>, HobError> {
    let sections = image.tdvf_sections()?;
    let hob = sections
        .iter()
        .find(|section| section.kind == TdvfSectionKind::TdHob)
        .ok_or(HobError::NoSection)?;
    let ranges = ranges(&sections, memory)?;
    let resources: Vec<Resource> = ranges.map(Resource::from).collect();
    let length = size_of::<Handoff>() + size_of_val(resources.as_slice()) + size_of::<Header>();
    let handoff = Handoff::new(hob.pages.start().saturating_add(length as u64));
    Ok([handoff.as_bytes(), resources.as_bytes()].concat())
}

/// Returns what there is of memory, in the order of addresses.
fn ranges(sections: &[TdvfSection], memory: u64) -> Result<impl Iterator<Item = Range>, HobError> {
    let mut ranges: BTreeMap<u64, Range> = unaccepted(memory).map(|range| (range.start, range)).collect();
    let prepared = |section: &&TdvfSection| matches!(section.kind, TdvfSectionKind::TdHob | TdvfSectionKind::TempMem);
    for section in sections.iter().filter(prepared) {
        let (start, end) = (section.pages.start(), section.pages.end());
        let (_, &range) = ranges
            .range(..=start)
            .next_back()
            .filter(|(_, range)| !range.accepted && end <= range.end)
            .ok_or(HobError::NoMemory { start, end, memory })?;
        let part = |start, end, accepted| Range { start, end, accepted };
        let parts = [
            part(range.start, start, false),
            part(start, end, true),
            part(end, range.end, false),
        ];
        let parts = parts.into_iter().filter(|part| part.start < part.end);
        ranges.extend(parts.map(|part| (part.start, part)));
    }
    Ok(ranges.into_values())
}

/// Memory of one kind.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
    /// Whether the VMM added it when it built the TD.
    accepted: bool,
}

/// Where a q35 machine puts its memory: below the hole for devices, and what is left above 4 GiB.
fn unaccepted(memory: u64) -> impl Iterator<Item = Range> {
    let below = if memory >= MOST_BELOW_4G {
        BELOW_4G_OF_LARGER
    } else {
        MOST_BELOW_4G
    };
    let above = memory.saturating_sub(below);
    let range = |start: u64, length| Range {
        start,
        end: start.saturating_add(length),
        accepted: false,
    };
    let both = [range(0, memory.min(below)), range(FOUR_GIB, above)];
    both.into_iter().filter(|range| range.start < range.end)
}

/// Why there is no list.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HobError {
    #[error(transparent)]
    Image(#[from] OvmfError),
    #[error("the image has no TD_HOB section")]
    NoSection,
    #[error(
        "a section at {start:#x} to {end:#x} is outside of {memory:#x} bytes of guest memory, or in another section"
    )]
    NoMemory { start: u64, end: u64, memory: u64 },
}

/// The end of low memory of a machine with less than this; the others end theirs at `BELOW_4G_OF_LARGER`: QEMU 11.1,
/// hw/i386/pc_q35.c.
const MOST_BELOW_4G: u64 = 0xb000_0000;

const BELOW_4G_OF_LARGER: u64 = 0x8000_0000;

const FOUR_GIB: u64 = 1 << 32;

/// `EFI_HOB_GENERIC_HEADER`; the end marker is nothing else.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Header {
    kind: U16,
    length: U16,
    reserved: U32,
}

const _: () = assert!(size_of::<Header>() == 8);

/// `EFI_HOB_HANDOFF_INFO_TABLE`.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Handoff {
    header: Header,
    version: U32,
    boot_mode: U32,
    memory: [U64; 4],
    end: U64,
}

const _: () = assert!(size_of::<Handoff>() == 56);

impl Handoff {
    const KIND: u16 = 1;
    const VERSION: u32 = 9;

    fn new(end: u64) -> Self {
        Self {
            header: Header::of::<Self>(Self::KIND),
            version: Self::VERSION.into(),
            boot_mode: 0.into(),
            memory: [0.into(); 4],
            end: end.into(),
        }
    }
}

/// `EFI_HOB_RESOURCE_DESCRIPTOR`.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Resource {
    header: Header,
    owner: [u8; 16],
    kind: U32,
    attributes: U32,
    start: U64,
    length: U64,
}

const _: () = assert!(size_of::<Resource>() == 48);

impl Resource {
    const KIND: u16 = 3;
    const SYSTEM_MEMORY: u32 = 0;
    const UNACCEPTED_MEMORY: u32 = 7;
    /// Present, initialised, tested.
    const ATTRIBUTES: u32 = 7;
}

impl From<Range> for Resource {
    fn from(range: Range) -> Self {
        let kind = if range.accepted {
            Self::SYSTEM_MEMORY
        } else {
            Self::UNACCEPTED_MEMORY
        };
        Self {
            header: Header::of::<Self>(Self::KIND),
            owner: [0; 16],
            kind: kind.into(),
            attributes: Self::ATTRIBUTES.into(),
            start: range.start.into(),
            length: (range.end - range.start).into(),
        }
    }
}

impl Header {
    fn of<T>(kind: u16) -> Self {
        Self {
            kind: kind.into(),
            length: (size_of::<T>() as u16).into(),
            reserved: 0.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovmf::tests::Image;

    fn digest(change: impl Fn(&mut Image), memory: u64) -> Result<Digests, HobError> {
        let mut image = Image::default();
        change(&mut image);
        let bytes = image.bytes();
        td_hob_event(&Ovmf::read(&bytes).unwrap(), memory).map(|event| event.digests)
    }

    /// The first event of a TD of dstack with 1 GiB (dstack 312dc605, dstack/cc-eventlog/samples/ccel.bin).
    #[test]
    fn list_of_a_real_td_is_that_of_its_log() {
        let digests = digest(
            |image| {
                image.tdvf.truncate(2);
                image.tdvf.extend([
                    (0, 0, 0x81_1000, 0xf000, 3, 0),
                    (0, 0, 0x80_b000, 0x2000, 3, 0),
                    (0, 0, 0x80_9000, 0x2000, 2, 0),
                    (0, 0, 0x80_0000, 0x6000, 3, 0),
                ]);
            },
            1 << 30,
        );
        let expected = "2b630fa1d8fa9b6e8c6507d2";
        assert_eq!(&alloc::format!("{}", digests.unwrap().sha384.unwrap())[..24], expected);
    }

    #[test]
    fn sections_have_to_be_in_memory() {
        let (start, end, memory) = (0x80_9000, 0x80_b000, 0x80_a000);
        assert_eq!(digest(|_| {}, memory), Err(HobError::NoMemory { start, end, memory }));
        assert!(digest(|_| {}, u64::MAX).is_ok());
        assert_eq!(digest(|image| image.tdvf[2].4 = 3, 1 << 30), Err(HobError::NoSection));
    }
}
