//! Versions of the platform.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::SnpProduct;

/// `TCB_VERSION`, the security version numbers of a platform's firmware: AMD SEV-SNP Firmware ABI (56860) revision 1.58,
/// section 2.2, "TCB Version".
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tcb {
    /// Of the boot loader of the security processor.
    pub bootloader: u8,
    /// Of its operating system.
    pub tee: u8,
    /// Of the SEV firmware.
    pub snp: u8,
    /// The lowest patch level of microcode on all cores.
    pub microcode: u8,
    /// Of the FMC firmware, which Turin was the first to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fmc: Option<u8>,
}

impl Tcb {
    /// Returns the versions in `word`, a field of a report of `product`.
    pub const fn of(product: SnpProduct, word: u64) -> Self {
        let bytes = word.to_le_bytes();
        match product {
            SnpProduct::Milan | SnpProduct::Genoa => Self {
                bootloader: bytes[0],
                tee: bytes[1],
                snp: bytes[6],
                microcode: bytes[7],
                fmc: None,
            },
            SnpProduct::Turin => Self {
                fmc: Some(bytes[0]),
                bootloader: bytes[1],
                tee: bytes[2],
                snp: bytes[3],
                microcode: bytes[7],
            },
        }
    }

    /// Returns the bits of `word` that are reserved in reports of `product`.
    pub(super) const fn reserved(product: SnpProduct, word: u64) -> u64 {
        word & match product {
            SnpProduct::Milan | SnpProduct::Genoa => 0x0000_ffff_ffff_0000,
            SnpProduct::Turin => 0x00ff_ffff_0000_0000,
        }
    }

    /// Returns whether every version is that of `minimum` or newer. What a product does not have counts as zero.
    pub fn is_at_least(self, minimum: Self) -> bool {
        self.bootloader >= minimum.bootloader
            && self.tee >= minimum.tee
            && self.snp >= minimum.snp
            && self.microcode >= minimum.microcode
            && self.fmc.unwrap_or(0) >= minimum.fmc.unwrap_or(0)
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "FMC {fmc}, ")?;
        }
        let Self {
            bootloader,
            tee,
            snp,
            microcode,
            ..
        } = self;
        write!(
            f,
            "boot loader {bootloader}, TEE {tee}, SNP {snp}, microcode {microcode}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    /// Words of reports of real machines, and the numbers in their certificates.
    #[test]
    fn versions_are_at_the_bytes_of_their_generation() {
        let milan = Tcb::of(SnpProduct::Milan, 0xdb18_0000_0000_0004);
        assert_eq!(milan.to_string(), "boot loader 4, TEE 0, SNP 24, microcode 219");
        let turin = Tcb::of(SnpProduct::Turin, 0x5100_0000_0401_0101);
        assert_eq!(turin.to_string(), "FMC 1, boot loader 1, TEE 1, SNP 4, microcode 81");
    }

    #[test]
    fn one_older_component_is_older() {
        let tcb = Tcb::of(SnpProduct::Turin, 0x5100_0000_0401_0101);
        assert!(tcb.is_at_least(tcb) && tcb.is_at_least(Tcb::default()));
        for word in [
            0x5200_0000_0401_0101,
            0x5100_0000_0501_0101,
            0x5100_0000_0402_0101,
            0x5100_0000_0401_0201,
            0x5100_0000_0401_0102,
        ] {
            assert!(!tcb.is_at_least(Tcb::of(SnpProduct::Turin, word)), "{word:#x}");
        }
    }

    #[test]
    fn every_other_byte_is_reserved() {
        for product in SnpProduct::ALL {
            let read = Tcb::of(product, 0x0101_0101_0101_0101);
            let components = [
                read.bootloader,
                read.tee,
                read.snp,
                read.microcode,
                read.fmc.unwrap_or(0),
            ];
            let read: u32 = components.into_iter().map(u32::from).sum();
            assert_eq!(read + Tcb::reserved(product, u64::MAX).count_ones() / 8, 8);
        }
    }
}
