//! Generations of CPUs that have SEV-SNP.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A generation of AMD's server CPUs, by the name that its certificates have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnpProduct {
    Milan,
    /// Bergamo and Siena too.
    Genoa,
    Turin,
}

impl SnpProduct {
    /// All that there are, oldest first.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// Returns the product of a CPU by its family, base and extended in one, and its model.
    pub const fn of(family: u8, model: u8) -> Option<Self> {
        match (family, model) {
            (0x19, 0x00..=0x0f) => Some(Self::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(Self::Genoa),
            (0x1a, 0x00..=0x11) => Some(Self::Turin),
            _ => None,
        }
    }

    /// Returns the product that a certificate names, as in `Milan-B0`: a name and, of a VCEK, a stepping.
    pub(super) fn named(text: &str) -> Option<Self> {
        let name = text.split('-').next()?;
        Self::ALL.into_iter().find(|product| product.name() == name)
    }

    /// Returns the part of `CHIP_ID` that names the chip in its certificate; in reports of Turin zeros follow.
    pub(super) fn hwid(self, chip_id: &Digest<64>) -> &[u8] {
        match self {
            Self::Milan | Self::Genoa => chip_id.bytes(),
            Self::Turin => &chip_id.bytes()[..8],
        }
    }

    /// Returns the name as it stands in certificates and in paths of the key distribution service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }
}

impl fmt::Display for SnpProduct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
