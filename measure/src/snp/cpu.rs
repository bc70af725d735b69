//! CPU models, as far as they are measured.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The signature of a CPU model: EAX of CPUID function 1, with which QEMU starts every vCPU in RDX; shown and stored as
/// `0x` and hex digits.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CpuSignature(u32);

impl CpuSignature {
    /// Returns the signature whose 32 bits are `bits`.
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// Returns the signature of a CPU; nothing if family (270), model (255) or stepping (15) exceeds its field.
    ///
    /// AMD CPUID Specification (25481) revision 2.34, `Fn0000_0001_EAX`.
    pub const fn of(family: u32, model: u32, stepping: u32) -> Option<Self> {
        let (base, extended) = if family > 0xf { (0xf, family - 0xf) } else { (family, 0) };
        if extended > 0xff || model > 0xff || stepping > 0xf {
            return None;
        }
        let model = (model >> 4) << 16 | (model & 0xf) << 4;
        Some(Self(extended << 20 | base << 8 | model | stepping))
    }

    /// Returns the 32 bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Returns the name of the oldest model of QEMU with this signature.
    pub fn name(self) -> Option<&'static str> {
        let model = MODELS.iter().find(|(signature, _)| *signature == self);
        model.map(|(_, names)| names[0])
    }

    /// Returns the names of the models whose signature is known, oldest first, with it.
    pub fn named() -> impl Iterator<Item = (&'static str, Self)> {
        MODELS
            .iter()
            .flat_map(|(signature, names)| names.iter().map(|name| (*name, *signature)))
    }
}

impl fmt::Display for CpuSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A CPU is the name of one of QEMU's models of AMD server CPUs, or a signature in hex after `0x`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a CPU: expected a model of QEMU as in EPYC-v4, or a signature as in 0x800f12, found {0:?}")]
pub struct NotACpu(String);

impl FromStr for CpuSignature {
    type Err = NotACpu;

    fn from_str(text: &str) -> Result<Self, NotACpu> {
        let signature = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok().map(Self),
            None => Self::named()
                .find(|(name, _)| *name == text)
                .map(|(_, signature)| signature),
        };
        signature.ok_or_else(|| NotACpu(text.into()))
    }
}

impl Serialize for CpuSignature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSignature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The models of QEMU 11.1 (target/i386/cpu.c). A new version of a model (`-v4`) changes features, not the signature:
/// `query-cpu-model-expansion` of QEMU 10.0 says so for every model that it has.
const MODELS: [(CpuSignature, &[&str]); 5] = [
    (
        model(23, 1, 2),
        &[
            "EPYC",
            "EPYC-v1",
            "EPYC-v2",
            "EPYC-IBPB",
            "EPYC-v3",
            "EPYC-v4",
            "EPYC-v5",
        ],
    ),
    (
        model(23, 49, 0),
        &[
            "EPYC-Rome",
            "EPYC-Rome-v1",
            "EPYC-Rome-v2",
            "EPYC-Rome-v3",
            "EPYC-Rome-v4",
            "EPYC-Rome-v5",
        ],
    ),
    (
        model(25, 1, 1),
        &[
            "EPYC-Milan",
            "EPYC-Milan-v1",
            "EPYC-Milan-v2",
            "EPYC-Milan-v3",
            "EPYC-Milan-v4",
        ],
    ),
    (
        model(25, 17, 0),
        &["EPYC-Genoa", "EPYC-Genoa-v1", "EPYC-Genoa-v2", "EPYC-Genoa-v3"],
    ),
    (model(26, 0, 0), &["EPYC-Turin", "EPYC-Turin-v1", "EPYC-Turin-v2"]),
];

const fn model(family: u32, model: u32, stepping: u32) -> CpuSignature {
    CpuSignature::of(family, model, stepping).expect("the fields of every model fit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn signatures_of_models_are_those_of_their_cpus() {
        for (name, signature) in [
            ("EPYC-v5", 0x0080_0f12),
            ("EPYC-Rome-v4", 0x0083_0f10),
            ("EPYC-Milan-v2", 0x00a0_0f11),
            ("EPYC-Genoa", 0x00a1_0f10),
            ("EPYC-Turin", 0x00b0_0f00),
            ("0x00b00f00", 0x00b0_0f00),
        ] {
            assert_eq!(name.parse(), Ok(CpuSignature::new(signature)), "{name}");
        }
        assert_eq!(CpuSignature::new(0x80_0f12).to_string(), "0x800f12");
    }

    #[test]
    fn families_below_fifteen_have_no_extension() {
        assert_eq!(CpuSignature::of(6, 0x8f, 8), Some(CpuSignature::new(0x8_06f8)));
    }

    #[test]
    fn what_does_not_fit_its_field_is_refused() {
        for (family, model, stepping) in [(0x10f, 0, 0), (23, 0x100, 0), (23, 1, 16), (u32::MAX, 0, 0)] {
            assert_eq!(CpuSignature::of(family, model, stepping), None);
        }
        assert!("epyc-v4".parse::<CpuSignature>().is_err());
        assert!("0x1ffffffff".parse::<CpuSignature>().is_err());
    }
}
