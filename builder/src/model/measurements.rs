//! `measurements.json`: what the platforms will report, one coherent tuple for each launch.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use anyhow::Result;
use measure::tdx::PageOrder;
use measure::{Sha256, Sha384};
use serde::{Deserialize, Serialize};

use crate::mend::{Exit, OrMend as _};

/// The predictions of a release, in canonical order.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Measurements {
    pub launches: Vec<Measurement>,
}

/// What one launch will measure: what was declared, the value, and what the value says.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(tag = "platform", rename_all = "kebab-case")]
pub enum Measurement {
    Snp(Snp),
    Tdx(Tdx),
}

/// A launch of SEV-SNP.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Snp {
    pub boot: Boot,
    pub firmware: FirmwareFile,
    pub vcpus: NonZeroU32,
    /// The CPU model, by QEMU's name.
    pub vcpu_type: String,
    /// `SEV_FEATURES` of the VMSA (APM volume 2, table B-4).
    pub guest_features: u64,
    pub vmm: Vmm,
    /// `MEASUREMENT` of the attestation report.
    pub launch_digest: Sha384,
    pub covers: BTreeSet<Part>,
    /// What of the host the value depends on besides what is declared.
    pub varies_with: BTreeSet<HostChoice>,
}

/// A launch of TDX.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tdx {
    pub boot: Boot,
    pub firmware: FirmwareFile,
    pub page_order: PageOrder,
    /// `MRTD` of the TD report.
    pub mrtd: Sha384,
    pub covers: BTreeSet<Part>,
    /// What of the host the value depends on; the page order is declared, and the host may choose another.
    pub varies_with: BTreeSet<HostChoice>,
}

/// How the kernel comes to run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// The VMM hands kernel, initrd and command line to the firmware.
    Direct,
    /// The firmware reads a UKI from a disk.
    Disk,
}

/// The firmware of a launch, as it lies in the release.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFile {
    pub name: String,
    pub sha256: Sha256,
}

/// Whose VMSA it is: monitors reset the first registers of a vCPU differently.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vmm {
    Qemu,
}

/// A part of a release that a value can depend on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Firmware,
    Kernel,
    Initrd,
    CommandLine,
}

/// A choice of the host that changes a value.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum HostChoice {
    #[serde(rename = "VMM page order")]
    PageOrder,
}

impl Measurements {
    /// Returns the measurements in their canonical order, each once.
    pub fn new(launches: impl IntoIterator<Item = Measurement>) -> Self {
        let launches: BTreeSet<_> = launches.into_iter().collect();
        Self {
            launches: launches.into_iter().collect(),
        }
    }

    /// Reads the text of a `measurements.json`.
    ///
    /// # Errors
    /// Text that is no such file.
    pub fn parse(text: &str) -> Result<Self> {
        const MEND: &str = "compare the release with its manifest: begat verify DIR";
        serde_json::from_str(text).or_mend(Exit::No, "cannot read measurements.json", MEND)
    }

    /// Returns the text of the file.
    pub fn text(&self) -> String {
        super::json(self)
    }
}

impl Measurement {
    /// Returns how the kernel comes to run in this launch.
    pub fn boot(&self) -> Boot {
        match self {
            Self::Snp(snp) => snp.boot,
            Self::Tdx(tdx) => tdx.boot,
        }
    }

    /// Returns the firmware of this launch.
    pub fn firmware(&self) -> &FirmwareFile {
        match self {
            Self::Snp(snp) => &snp.firmware,
            Self::Tdx(tdx) => &tdx.firmware,
        }
    }

    /// Returns the parts of the release that the value depends on.
    pub fn covers(&self) -> &BTreeSet<Part> {
        match self {
            Self::Snp(snp) => &snp.covers,
            Self::Tdx(tdx) => &tdx.covers,
        }
    }

    /// Returns what of the host the value depends on, besides what is declared of it.
    pub fn varies_with(&self) -> &BTreeSet<HostChoice> {
        match self {
            Self::Snp(snp) => &snp.varies_with,
            Self::Tdx(tdx) => &tdx.varies_with,
        }
    }

    /// Returns what will be reported.
    pub fn value(&self) -> Sha384 {
        match self {
            Self::Snp(snp) => snp.launch_digest,
            Self::Tdx(tdx) => tdx.mrtd,
        }
    }
}

impl Part {
    /// Everything that decides what code a launch runs.
    pub const ALL: [Self; 4] = [Self::Firmware, Self::Kernel, Self::Initrd, Self::CommandLine];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firmware() -> FirmwareFile {
        FirmwareFile {
            name: "OVMF.fd".into(),
            sha256: Sha256::of("ovmf"),
        }
    }

    fn tdx(page_order: PageOrder) -> Measurement {
        Measurement::Tdx(Tdx {
            boot: Boot::Direct,
            firmware: firmware(),
            page_order,
            mrtd: Sha384::of("mrtd"),
            covers: [Part::Firmware].into(),
            varies_with: [HostChoice::PageOrder].into(),
        })
    }

    fn snp() -> Measurement {
        Measurement::Snp(Snp {
            boot: Boot::Direct,
            firmware: firmware(),
            vcpus: NonZeroU32::MIN,
            vcpu_type: "EPYC-v4".into(),
            guest_features: 1,
            vmm: Vmm::Qemu,
            launch_digest: Sha384::of("launch"),
            covers: Part::ALL.into(),
            varies_with: BTreeSet::new(),
        })
    }

    #[test]
    fn text_round_trips_and_says_what_a_value_covers_and_varies_with() {
        let measurements = Measurements::new([tdx(PageOrder::Two), snp(), tdx(PageOrder::Single), snp()]);
        let text = measurements.text();
        assert_eq!(Measurements::parse(&text).unwrap(), measurements);
        assert_eq!(measurements.launches.len(), 3, "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let (snp, tdx) = (&json["launches"][0], &json["launches"][1]);
        assert_eq!(snp["platform"], "snp");
        assert_eq!(
            snp["covers"],
            serde_json::json!(["firmware", "kernel", "initrd", "command-line"])
        );
        assert_eq!(snp["varies-with"], serde_json::json!([]));
        assert_eq!(tdx["page-order"], "single");
        assert_eq!(tdx["varies-with"], serde_json::json!(["VMM page order"]));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let text = Measurements::new([snp()]).text().replace("\"vmm\"", "\"vmn\"");
        assert!(Measurements::parse(&text).is_err());
    }
}
