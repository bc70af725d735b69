//! `measurements.json`: what the platforms will report, one coherent tuple for each launch.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;

use anyhow::Result;
use measure::Sha256;
use measure::event_log::{Digests, EventLog, HostChoice, Part, Register};
use measure::snp::PreVmsa;
use measure::tdx::PageOrder;
use serde::{Deserialize, Serialize};

use super::release::FileName;
use crate::mend::{Exit, OrMend as _};

/// The predictions of a release, in the order of its recipe.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Measurements {
    pub launches: Vec<Measurement>,
}

/// What one launch will measure: what was declared, and every value that the platform then reports.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Measurement {
    #[serde(flatten)]
    pub launch: Launch,
    pub values: Vec<Value>,
}

/// What is declared of a launch.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Launch {
    #[serde(flatten)]
    pub platform: Platform,
    pub boot: Boot,
    pub firmware: FirmwareFile,
}

/// What measures, with what only it depends on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "platform", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Platform {
    Snp {
        vcpus: NonZeroU32,
        /// The CPU model, by QEMU's name.
        vcpu_type: String,
        /// `SEV_FEATURES` of the VMSA (APM volume 2, table B-4).
        guest_features: u64,
        vmm: Vmm,
    },
    Tdx,
    Tpm,
}

/// One value that the platform reports.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Value {
    #[serde(rename = "of")]
    pub quantity: Quantity,
    /// Where the host can make it one of a few: in which case it is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    #[serde(flatten)]
    pub digests: Digests,
    pub covers: BTreeSet<Part>,
    /// What of the host the value depends on besides what is declared.
    pub varies_with: BTreeSet<HostChoice>,
    /// What the digest of any number of vCPUs is made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_vmsa: Option<PreVmsa>,
    /// What fills the register, in order.
    #[serde(default, skip_serializing_if = "EventLog::is_empty")]
    pub log: EventLog,
}

/// What is reported.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// `MEASUREMENT` of the attestation report of SEV-SNP.
    LaunchDigest,
    /// `MRTD` of the TD report.
    Mrtd,
    #[serde(untagged)]
    Register(Register),
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let boot = match self.boot {
            Boot::Direct => "direct boot",
            Boot::Disk => "disk boot",
        };
        write!(
            f,
            "{}, {boot}, {}",
            self.platform,
            self.firmware.name.as_str().escape_debug()
        )
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snp {
                vcpus,
                vcpu_type,
                guest_features,
                vmm: Vmm::Qemu,
            } => {
                let cpu = vcpu_type.escape_debug();
                write!(f, "SEV-SNP, {vcpus} × {cpu}, features {guest_features:#x}, qemu")
            }
            Self::Tdx => f.pad("TDX"),
            Self::Tpm => f.pad("TPM"),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LaunchDigest => f.pad("launch digest"),
            Self::Mrtd => f.pad("MRTD"),
            Self::Register(register) => register.fmt(f),
        }
    }
}

/// How the kernel comes to run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Boot {
    /// The VMM hands kernel, initrd and command line to the firmware.
    Direct,
    /// The firmware reads a UKI from a disk.
    Disk,
}

/// The firmware of a launch: a file of the release, and of no other place.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareFile {
    pub name: FileName,
    pub sha256: Sha256,
}

/// Whose VMSA it is: monitors reset the first registers of a vCPU differently.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Vmm {
    Qemu,
}

impl Measurements {
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

/// Returns the case in which MRTD is that of a VMM with this page order.
pub const fn case_of_pages(order: PageOrder) -> &'static str {
    match order {
        PageOrder::Single => "pages added and measured in one pass",
        PageOrder::Two => "pages added in one pass, measured in another",
    }
}

impl Measurement {
    /// Returns the values of one quantity: one, or one for each case.
    pub fn of(&self, quantity: Quantity) -> impl Iterator<Item = &Value> {
        self.values.iter().filter(move |value| value.quantity == quantity)
    }

    /// Returns whether the values, together, cover everything that decides what code runs.
    pub fn decides_everything(&self) -> bool {
        let covered: BTreeSet<Part> = self.values.iter().flat_map(|value| &value.covers).copied().collect();
        EXECUTABLES.iter().all(|part| covered.contains(part))
    }
}

/// Everything that decides what code a launch runs.
pub const EXECUTABLES: [Part; 4] = [Part::Firmware, Part::Kernel, Part::Initrd, Part::CommandLine];

impl Value {
    /// Returns the value of a register that `log` fills, and what it covers and varies with: what its events do.
    pub fn of_register(register: Register, log: EventLog) -> Self {
        let covers = log.events.iter().flat_map(|event| event.subject.covers()).copied();
        let varies_with = log.events.iter().flat_map(|event| event.subject.varies_with()).copied();
        Self {
            quantity: Quantity::Register(register),
            case: None,
            digests: log.replay().remove(&register).unwrap_or_default(),
            covers: covers.collect(),
            varies_with: varies_with.collect(),
            pre_vmsa: None,
            log,
        }
    }

    /// Returns the value in the best known bank, for people.
    pub fn shown(&self) -> String {
        let Digests { sha256, sha384 } = self.digests;
        let sha256 = || sha256.map(|digest| digest.to_string());
        sha384
            .map(|digest| digest.to_string())
            .or_else(sha256)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use measure::Sha384;
    use measure::event_log::{Event, EventType, Subject};

    fn tdx() -> Measurement {
        let event = Event {
            register: Register::Rtmr(1),
            kind: EventType::EFI_BOOT_SERVICES_APPLICATION,
            subject: Subject::Kernel,
            digests: Digests::of("kernel"),
        };
        let mrtd = Value {
            quantity: Quantity::Mrtd,
            case: Some("pages in one pass".into()),
            digests: Digests {
                sha384: Some(Sha384::of("mrtd")),
                sha256: None,
            },
            covers: [Part::Firmware].into(),
            varies_with: [HostChoice::PageOrder].into(),
            pre_vmsa: None,
            log: EventLog::default(),
        };
        Measurement {
            launch: Launch {
                platform: Platform::Tdx,
                boot: Boot::Direct,
                firmware: FirmwareFile {
                    name: FileName::try_from("OVMF.fd".to_owned()).unwrap(),
                    sha256: Sha256::of("ovmf"),
                },
            },
            values: vec![
                mrtd,
                Value::of_register(Register::Rtmr(1), [event].into_iter().collect()),
            ],
        }
    }

    #[test]
    fn text_round_trips_and_says_what_a_value_covers_and_varies_with() {
        let measurements = Measurements { launches: vec![tdx()] };
        let text = measurements.text();
        assert_eq!(Measurements::parse(&text).unwrap(), measurements, "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let launch = &json["launches"][0];
        assert_eq!(
            (&launch["platform"], &launch["boot"]),
            (&"tdx".into(), &"direct".into())
        );
        let [mrtd, rtmr1] = [0, 1].map(|index| &launch["values"][index]);
        assert_eq!(mrtd["of"], "mrtd");
        assert_eq!(mrtd["varies-with"], serde_json::json!(["VMM page order"]));
        assert_eq!(rtmr1["of"], serde_json::json!({"rtmr": 1}));
        assert_eq!(rtmr1["covers"], serde_json::json!(["kernel"]));
        assert_eq!(rtmr1["log"][0]["subject"], "kernel");
    }

    #[test]
    fn text_that_is_something_else_is_refused() {
        let text = Measurements { launches: vec![tdx()] }.text();
        assert!(Measurements::parse(&text.replace("\"boot\"", "\"boat\"")).is_err());
        assert!(Measurements::parse("{\"lunches\": []}").is_err());
    }

    #[test]
    fn attack_firmware_that_is_no_file_of_the_release() {
        let text = Measurements { launches: vec![tdx()] }.text();
        for name in ["/dev/zero", "../other/OVMF.fd", "", "OVMF.fd/."] {
            let other = text.replace("\"OVMF.fd\"", &format!("{name:?}"));
            assert!(Measurements::parse(&other).is_err(), "{name}");
        }
    }
}
