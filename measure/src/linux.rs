//! Reader of the setup header of Linux on x86, and what QEMU may write into it.

use alloc::vec::Vec;
use core::str;

use memchr::memmem;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Guid;
use crate::fields::{FieldError, check, read_at};

/// A kernel image (`bzImage`).
#[derive(Clone, Debug)]
pub struct Kernel<'a> {
    bytes: &'a [u8],
    header: SetupHeader,
}

impl<'a> Kernel<'a> {
    /// Returns the kernel in `bytes`, which is a whole file (Documentation/arch/x86/boot.rst of Linux 6.12).
    ///
    /// # Errors
    ///
    /// The file has no setup header, or one of a boot protocol older than 2.12, Linux 3.8.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let header: SetupHeader = read_at(bytes, "setup header of the kernel", SetupHeader::OFFSET)?;
        let signature = u32::from_le_bytes(header.signature);
        let expected = "\"HdrS\"";
        check(
            &header.signature == b"HdrS",
            "setup header of the kernel",
            SetupHeader::OFFSET,
            signature,
            expected,
        )?;
        let protocol = header.protocol.get();
        let known = "0x20c or newer";
        check(
            protocol >= 0x20c,
            "boot protocol of the kernel",
            SetupHeader::OFFSET + 4,
            protocol,
            known,
        )?;
        Ok(Self { bytes, header })
    }

    /// Returns the whole file.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the release of the kernel, as `uname -r` prints it; nothing where the file does not say.
    pub fn release(&self) -> Option<&'a str> {
        let start = usize::from(self.header.kernel_version.get());
        let text = (start > 0).then(|| self.bytes.get(start + 0x200..)).flatten()?;
        let end = text.iter().take(256).position(|byte| [b' ', 0].contains(byte))?;
        str::from_utf8(&text[..end]).ok().filter(|release| !release.is_empty())
    }

    /// Returns whether the kernel measures its command line and initrd before it leaves the firmware, in a TD too:
    /// Linux 6.9 or newer.
    ///
    /// The EFI stub, which is not compressed, then holds the GUID of the protocol it measures with. Compilers split it
    /// into two 64-bit numbers in the code; the first is enough to know it by.
    pub fn measures(&self) -> bool {
        memmem::find(self.bytes, &CC_MEASUREMENT_PROTOCOL.bytes()[..8]).is_some()
    }

    /// Returns the kernel as QEMU hands it to firmware where QEMU fills in the setup header itself, for a guest of
    /// `memory` bytes on a q35 machine (`x86_load_linux` of QEMU 10.0).
    ///
    /// # Errors
    ///
    /// QEMU would refuse the initrd of `initrd_size` bytes: the guest has no room for it.
    pub fn patched_by_qemu(&self, initrd_size: Option<u64>, memory: u64) -> Result<Vec<u8>, NoRoom> {
        let mut header = self.header.clone();
        header.type_of_loader = QEMU;
        header.loadflags |= CAN_USE_HEAP;
        header.heap_end_ptr = 0xfe00.into();
        header.cmd_line_ptr = 0x2_0000.into();
        if let Some(size) = initrd_size {
            let limit = self.initrd_limit(memory);
            let end = limit.and_then(|limit| limit.checked_sub(size)).filter(|end| *end > 0);
            let address = end.map(|end| end & !0xfff);
            let none = NoRoom { size, memory };
            header.ramdisk_image = narrow(address).ok_or(none)?;
            header.ramdisk_size = narrow(Some(size)).ok_or(none)?;
        }
        let mut bytes = self.bytes.to_vec();
        let start = SetupHeader::OFFSET as usize;
        bytes[start..start + size_of::<SetupHeader>()].copy_from_slice(header.as_bytes());
        Ok(bytes)
    }

    /// Returns the highest address for the initrd's last byte; nothing if the guest has too little memory.
    fn initrd_limit(&self, memory: u64) -> Option<u64> {
        let highest = match self.header.xloadflags.get() & CAN_BE_LOADED_ABOVE_4G {
            0 => self.header.initrd_addr_max.get(),
            _ => u32::MAX,
        };
        let below = below_4g(memory).checked_sub(ACPI_DATA)?;
        Some(u64::from(highest).min(below.checked_sub(1)?))
    }
}

fn narrow(value: Option<u64>) -> Option<U32> {
    value.and_then(|value| u32::try_from(value).ok()).map(U32::new)
}

/// Returns how much memory a q35 machine has below 4 GiB, in bytes.
fn below_4g(memory: u64) -> u64 {
    const LARGE: u64 = 0xb000_0000;
    match memory >= LARGE {
        true => 0x8000_0000,
        false => memory,
    }
}

/// A guest whose memory cannot hold its initrd.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a guest with {memory} bytes of memory has no room for an initrd of {size} bytes below 4 GiB")]
pub struct NoRoom {
    size: u64,
    memory: u64,
}

/// `EFI_CC_MEASUREMENT_PROTOCOL_GUID` (UEFI 2.10, section 38.2).
const CC_MEASUREMENT_PROTOCOL: Guid = Guid::new(0x96751a3d_72f4_41a6_a794_ed5d0e67ae6b);

/// What QEMU calls itself in `type_of_loader`.
const QEMU: u8 = 0xb0;
/// Bit of `loadflags`.
const CAN_USE_HEAP: u8 = 0x80;
/// Bit of `xloadflags`, `XLF_CAN_BE_LOADED_ABOVE_4G`.
const CAN_BE_LOADED_ABOVE_4G: u16 = 1 << 1;
/// What QEMU keeps free below 4 GiB for ACPI data, in bytes.
const ACPI_DATA: u64 = 0x2_0000 + 0x8000;

/// `struct setup_header` from its field `header` to `xloadflags`.
#[derive(Clone, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
struct SetupHeader {
    signature: [u8; 4],
    protocol: U16,
    realmode_switch: U32,
    start_sys_segment: U16,
    kernel_version: U16,
    type_of_loader: u8,
    loadflags: u8,
    setup_move_size: U16,
    code32_start: U32,
    ramdisk_image: U32,
    ramdisk_size: U32,
    bootsect_kludge: U32,
    heap_end_ptr: U16,
    loader_version: u8,
    loader_type: u8,
    cmd_line_ptr: U32,
    initrd_addr_max: U32,
    kernel_alignment: U32,
    relocatable_kernel: u8,
    min_alignment: u8,
    xloadflags: U16,
}

const _: () = assert!(size_of::<SetupHeader>() == 0x238 - 0x202);

impl SetupHeader {
    /// Where `header` lies in the file.
    const OFFSET: u64 = 0x202;
}

/// Returns a kernel that measures, for tests: `payload` decides what else it is.
#[cfg(test)]
pub(crate) fn example(payload: &[u8]) -> Vec<u8> {
    let code = [CC_MEASUREMENT_PROTOCOL.bytes(), payload].concat();
    let mut bytes = crate::pe::tests::image(&[(".text", &code)]);
    bytes[0x202..0x206].copy_from_slice(b"HdrS");
    bytes[0x206..0x208].copy_from_slice(&[0x0f, 2]);
    bytes[0x20e..0x210].copy_from_slice(&[0, 1]);
    bytes[0x236] = 2;
    bytes[0x300..0x310].copy_from_slice(b"6.12.1-x (builde");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn address(memory: u64, change: impl Fn(&mut Vec<u8>)) -> u32 {
        let mut bytes = example(b"");
        change(&mut bytes);
        let patched = Kernel::read(&bytes).unwrap().patched_by_qemu(Some(0x1000), memory);
        let patched = patched.unwrap();
        assert_eq!(patched[0x21c..0x220], [0, 0x10, 0, 0]);
        u32::from_le_bytes(patched[0x218..0x21c].try_into().unwrap())
    }

    #[test]
    fn the_header_is_read() {
        let bytes = example(b"");
        let kernel = Kernel::read(&bytes).unwrap();
        assert_eq!((kernel.release(), kernel.measures()), (Some("6.12.1-x"), true));
    }

    #[test]
    fn a_kernel_without_the_protocol_does_not_measure() {
        let mut bytes = example(b"");
        let at = memmem::find(&bytes, CC_MEASUREMENT_PROTOCOL.bytes()).unwrap();
        bytes[at + 7] ^= 1;
        assert!(!Kernel::read(&bytes).unwrap().measures());
    }

    /// Below 2816 MiB the address moves with memory; from there on it does not.
    #[test]
    fn the_initrd_ends_below_the_acpi_data() {
        let none = |_: &mut Vec<u8>| ();
        assert_eq!(address(2 * GIB, none), 0x7ffd_6000);
        assert_eq!(address(GIB, none), 0x3ffd_6000);
        assert_eq!(address(0xb000_0000 - 0x1000, none), 0xaffd_5000);
        assert_eq!(address(0xb000_0000, none), 0x7ffd_6000);
        assert_eq!(address(64 * GIB, none), 0x7ffd_6000);
        let low = |bytes: &mut Vec<u8>| {
            bytes[0x236] = 0;
            bytes[0x22c..0x230].copy_from_slice(&[0xff, 0xff, 0xff, 0x37]);
        };
        assert_eq!(address(2 * GIB, low), 0x37ff_e000);
    }

    #[test]
    fn an_initrd_without_room_is_refused() {
        let bytes = example(b"");
        let kernel = Kernel::read(&bytes).unwrap();
        for (size, memory) in [(1, 0), (GIB, GIB), (u64::MAX, 64 * GIB)] {
            assert_eq!(kernel.patched_by_qemu(Some(size), memory), Err(NoRoom { size, memory }));
        }
        assert!(kernel.patched_by_qemu(None, 0).is_ok());
    }

    #[test]
    fn other_files_are_no_kernels() {
        for (at, value) in [(0x202, b'X'), (0x206, 0x0b)] {
            let mut bytes = example(b"");
            bytes[at] = value;
            assert!(matches!(Kernel::read(&bytes), Err(FieldError::Value { .. })), "{at:#x}");
        }
        assert!(matches!(Kernel::read(&[0; 0x210]), Err(FieldError::Truncated { .. })));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_panic(length in 0_usize..0x400, noise in any::<[u8; 54]>(), size in 0_u64.., memory in 0_u64..) {
            let mut bytes = example(b"");
            bytes[0x206..0x238].copy_from_slice(&noise[..50]);
            bytes[0x207] = 2;
            for bytes in [&bytes[..], &bytes[..length]] {
                if let Ok(kernel) = Kernel::read(bytes) {
                    let _ = (kernel.release(), kernel.measures(), kernel.patched_by_qemu(Some(size), memory));
                }
            }
        }
    }
}
