//! Where OVMF puts the memory of 64-bit PCI devices: `OvmfPkg/Library/PlatformInitLib/MemDetect.c` of edk2, from
//! edk2-stable202305 on.

use anyhow::{Result, anyhow, ensure};
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// What OVMF asks its CPU.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Cpu {
    /// CPUID 8000_0008h EAX, bits 0 to 7.
    pub(super) physical_bits: u8,
    /// CPUID 8000_0000h, as text.
    pub(super) vendor: String,
    /// CPUID 8000_0001h EDX, bit 26.
    pub(super) gigabyte_pages: bool,
}

/// An entry of the memory map `etc/e820`: ACPI 6.5, table 15.5.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Range {
    base: U64,
    length: U64,
    kind: U32,
}

const _: () = assert!(size_of::<Range>() == 20);

/// The kind of a range that is memory.
const MEMORY: u32 = 1;

const GIB: u64 = 1 << 30;

/// `PcdPciMmio64Size` of OVMF.
const SIZE: u64 = 32 * GIB;

/// The largest size that can be wished for, in MiB.
const MOST_MIB: u64 = 0x100_0000;

/// What no machine's memory goes beyond: x86 has 52 physical address bits.
const MOST: u64 = 1 << 52;

/// Returns the lowest address of the window; `read` reads a file of fw_cfg.
///
/// # Errors
/// A file cannot be read or is not what it should be.
pub(super) fn base(cpu: &Cpu, read: &mut impl FnMut(&str) -> Result<Option<Vec<u8>>>) -> Result<u64> {
    let map = read("etc/e820")?.unwrap_or_default();
    let map = <[Range]>::ref_from_bytes(&map).map_err(|_| anyhow!("the memory map has half an entry"))?;
    let end = match read("etc/reserved-memory-end")? {
        Some(end) => u64::from_le_bytes(
            end.try_into()
                .map_err(|_| anyhow!("the end of memory is not 8 bytes"))?,
        ),
        None => map
            .iter()
            .filter(|range| range.kind == MEMORY)
            .map(Range::end)
            .fold(4 * GIB, u64::max),
    };
    ensure!(
        end <= MOST,
        "the machine's memory ends at {end:#x}, expected at most {MOST:#x}"
    );
    let size = read("opt/ovmf/X-PciMmio64Mb")?
        .and_then(|text| wished(&text))
        .unwrap_or(SIZE);
    let classic = classic(end, size);
    Ok(match cpu.usable_bits() {
        Some(bits) => dynamic(bits, classic, size, map).unwrap_or(classic),
        None => classic,
    })
}

/// `PlatformGetFirstNonAddress`: above the memory, aligned to the largest device that could be in it.
fn classic(end: u64, size: u64) -> u64 {
    let size = size.max(1).next_multiple_of(GIB);
    end.next_multiple_of(GIB).next_multiple_of(1 << size.ilog2())
}

/// `PlatformDynamicMmioWindow`: the highest eighth of the address space, or lower where something is reserved there.
/// Nothing where it would not be larger, or not above the classic one.
fn dynamic(bits: u8, classic: u64, size: u64, map: &[Range]) -> Option<u64> {
    let (space, wide) = (1_u64 << bits, 1_u64 << (bits - 3));
    if size >= wide || classic + wide >= space {
        return None;
    }
    let below = |base: u64, range: &Range| {
        let overlap = range.base.get().max(base) < range.end().min(base + wide);
        if overlap {
            range.base.get().saturating_sub(wide) & !(wide - 1)
        } else {
            base
        }
    };
    Some(map.iter().fold(space - wide, below))
}

/// `QemuFwCfgParseUint32`: a decimal number of MiB, perhaps with the end of a line or of a string.
fn wished(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?.trim_end_matches(['\0', '\n', '\r']);
    let mib: u64 = text.parse().ok()?;
    (mib <= MOST_MIB).then_some(mib << 20)
}

impl Range {
    fn end(&self) -> u64 {
        self.base.get().saturating_add(self.length.get())
    }
}

impl Cpu {
    /// `PlatformAddressWidthFromCpuid`: what QEMU says by default, 40, is believed only of the CPUs that have it.
    fn usable_bits(&self) -> Option<u8> {
        let believed = match (self.physical_bits, self.vendor.as_str()) {
            (41.., _) | (36 | 39, "GenuineIntel") | (40, "AuthenticAMD") => self.physical_bits,
            _ => return None,
        };
        let most = if self.gigabyte_pages { 46 } else { 40 };
        Some(believed.min(most))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    fn cpu(physical_bits: u8, vendor: &str) -> Cpu {
        let (vendor, gigabyte_pages) = (vendor.into(), true);
        Cpu {
            physical_bits,
            vendor,
            gigabyte_pages,
        }
    }

    fn e820(ranges: &[(u64, u64, u32)]) -> Vec<u8> {
        let range = |&(base, end, kind): &(u64, u64, u32)| {
            let (base, length) = (U64::new(base), U64::new(end - base));
            [base.as_bytes(), length.as_bytes(), U32::new(kind).as_bytes()].concat()
        };
        ranges.iter().flat_map(range).collect()
    }

    fn window(cpu: &Cpu, map: &[u8]) -> Result<u64> {
        base(cpu, &mut |name| Ok((name == "etc/e820").then(|| map.to_vec())))
    }

    /// What boots under TCG and on a TDX host showed: tdx.md, section 5.
    #[test]
    fn where_ovmf_put_it() {
        let memory = (0, 2 * GIB, MEMORY);
        let tcg = e820(&[memory, (0xfd_0000_0000, 1 << 40, 2)]);
        assert_eq!(window(&cpu(40, "AuthenticAMD"), &tcg).unwrap(), 0xc0_0000_0000);
        assert_eq!(
            window(&cpu(46, "GenuineIntel"), &e820(&[memory])).unwrap(),
            0x3800_0000_0000
        );
        assert_eq!(
            window(&cpu(52, "GenuineIntel"), &e820(&[memory])).unwrap(),
            0x3800_0000_0000
        );
    }

    #[test]
    fn where_the_address_bits_are_not_believed_it_follows_the_memory() {
        let map = e820(&[(0, 2 * GIB, MEMORY), (4 * GIB, 6 * GIB, MEMORY)]);
        assert_eq!(window(&cpu(40, "GenuineIntel"), &map).unwrap(), 32 * GIB);
    }

    proptest! {
        #[test]
        fn any_map_has_a_window_or_is_refused(bits: u8, map: Vec<u8>, end: Option<Vec<u8>>, wish: Option<Vec<u8>>) {
            let _ = base(&cpu(bits, "GenuineIntel"), &mut |name| Ok(match name {
                "etc/e820" => Some(map.clone()),
                "etc/reserved-memory-end" => end.clone(),
                _ => wish.clone(),
            }));
        }
    }
}
