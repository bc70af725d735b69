//! `reference-values.json`: name → value, with the names and the JSON types that Trustee's default policy compares.
//!
//! The policy asks for `in` where it wants a list and for `==` where it wants a bare value; the wrong type silently
//! lowers the verdict. What an image cannot know comes from the platform profile, and what nobody knows is not written:
//! [`ReferenceValues::shortfalls`] says what follows from that.
//!
//! Written for Trustee 0.21, `ear_default_policy_cpu.rego`; the names are the same since 0.14.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use data_encoding::HEXLOWER;
use measure::event_log::{EventLog, Register, Subject};
use measure::{Sha256, tdx, tpm};
use serde::Serialize;
use serde_json::{Value, json};

use super::launches::{Predicted, covers_everything};
use super::trustee::Trustee;
use crate::model;
use crate::model::Profile;
use crate::model::measurements::{self, Boot, Measurement, Platform, Quantity};
use crate::model::profile::{Snp, Tcb};

/// Reference values of one release or more, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReferenceValues {
    /// What there are launches on.
    platforms: BTreeSet<&'static str>,
    values: BTreeMap<&'static str, BTreeSet<Item>>,
}

/// One value that a claim can have.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
enum Item {
    Flag(bool),
    Number(u8),
    Text(String),
}

/// Names that the policy compares with `==`: of several values, none can be given.
const BARE: [&str; 8] = [
    "snp_guest_abi_major",
    "snp_guest_abi_minor",
    "snp_single_socket",
    "snp_smt_allowed",
    "snp_smt_enabled",
    "snp_tsme_enabled",
    "tdvfkernel",
    "tdvfkernelparams",
];

impl ReferenceValues {
    /// Returns the values of one release for this version of Trustee.
    pub fn of(release: &Predicted<'_>, trustee: Trustee) -> Self {
        let mut values = Self::default();
        for launch in &release.measurements.launches {
            values.platforms.insert(platform(launch));
            values.add_launch(launch, trustee);
        }
        release.profile.iter().for_each(|profile| values.add_profile(profile));
        values
    }

    /// Adds the values of another release, which are then wanted too.
    pub fn merge(&mut self, other: Self) {
        self.platforms.extend(other.platforms);
        for (name, items) in other.values {
            self.values.entry(name).or_default().extend(items);
        }
    }

    /// Makes room for the values of a release that is wanted no more: a name that nothing else has a value for is
    /// overwritten with the empty list, as nothing can be removed from Trustee.
    pub fn revoke(&mut self, other: &Self) {
        for name in other.values.keys() {
            self.values.entry(name).or_default();
        }
    }

    /// Returns the names under which something of `other` is among these values.
    pub fn shared(&self, other: &Self) -> BTreeSet<&'static str> {
        let items = |name| self.values.get(name).into_iter().flatten();
        let shared = other
            .values
            .iter()
            .filter(|(name, theirs)| items(*name).any(|item| theirs.contains(item)));
        shared.map(|(name, _)| *name).collect()
    }

    /// Returns each name with its value. A name with several values that can have one only is left out.
    pub fn json(&self) -> BTreeMap<&'static str, Value> {
        let value = |(name, items): (&&'static str, &BTreeSet<Item>)| match items.len() {
            1 if BARE.contains(name) => Some((*name, json!(items.first()))),
            2.. if BARE.contains(name) => None,
            _ => Some((*name, json!(items))),
        };
        self.values.iter().filter_map(value).collect()
    }

    /// Returns the text of the file.
    pub fn text(&self) -> String {
        model::json(&self.json())
    }

    fn add(&mut self, name: &'static str, item: impl Into<Item>) {
        self.values.entry(name).or_default().insert(item.into());
    }

    fn add_launch(&mut self, measurement: &Measurement, trustee: Trustee) {
        for value in &measurement.values {
            match value.quantity {
                Quantity::LaunchDigest => self.add_launch_digest(value, trustee),
                Quantity::Mrtd => self.add_sha384("mr_td", value),
                Quantity::Register(Register::Rtmr(1)) => self.add_sha384("rtmr_1", value),
                Quantity::Register(Register::Rtmr(2)) => self.add_sha384("rtmr_2", value),
                Quantity::Register(Register::Pcr(11)) => self.add_pcr_11(&value.log),
                Quantity::Register(_) => {}
            }
            // a UKI is no `File(kernel)`, and its command line is measured with another end
            if measurement.launch.platform == Platform::Tdx && measurement.launch.boot == Boot::Direct {
                self.add_event("tdvfkernel", &value.log, &Subject::Kernel);
                self.add_event("tdvfkernelparams", &value.log, &Subject::CommandLine);
            }
        }
    }

    /// One that covers the firmware only, as that of a disk boot does, would approve every kernel: it is left out.
    fn add_launch_digest(&mut self, value: &measurements::Value, trustee: Trustee) {
        let whole = value.digests.sha384.filter(|_| covers_everything(value));
        for text in whole.iter().flat_map(|digest| trustee.launch_digests(digest)) {
            self.add("snp_launch_measurement", text);
        }
    }

    fn add_sha384(&mut self, name: &'static str, value: &measurements::Value) {
        if let Some(digest) = value.digests.sha384 {
            self.add(name, digest.to_string());
        }
    }

    fn add_event(&mut self, name: &'static str, log: &EventLog, subject: &Subject) {
        if let Some(digest) = tdx::event_digest(log, subject) {
            self.add(name, digest.to_string());
        }
    }

    /// What PCR 11 holds after the UKI has run, and as systemd goes through its start, if it measures that.
    ///
    /// `snp_pcr11` and `tdx_pcr11` are of vTPMs that somebody else's firmware provides; no launch is one.
    fn add_pcr_11(&mut self, log: &EventLog) {
        for phases in tpm::phases_so_far() {
            let events = log.events.iter().cloned().chain(tpm::phases(phases.iter().copied()));
            let held = EventLog::from_iter(events).replay().remove(&Register::Pcr(11));
            if let Some(sha256) = held.and_then(|digests| digests.sha256) {
                self.add("tpm_pcr11", Sha256::to_string(&sha256));
            }
        }
    }

    fn add_profile(&mut self, profile: &Profile) {
        profile.snp.iter().for_each(|snp| self.add_snp(snp));
        for xfam in profile.tdx.iter().flat_map(|tdx| &tdx.xfam) {
            self.add("xfam", HEXLOWER.encode(&xfam.bytes()));
        }
        for key in profile.tpm.iter().flat_map(|tpm| &tpm.trusted_aks) {
            self.add("trusted_aks", key.as_str().to_owned());
        }
    }

    fn add_snp(&mut self, snp: &Snp) {
        for level in &snp.tcb {
            let Tcb {
                bootloader,
                tee,
                snp,
                microcode,
            } = *level;
            self.add("snp_bootloader", bootloader);
            self.add("snp_tee_svn", tee);
            self.add("snp_snp_svn", snp);
            self.add("snp_microcode", microcode);
        }
        let (major, minor) = snp.policy.abi();
        self.add("snp_guest_abi_major", major);
        self.add("snp_guest_abi_minor", minor);
        self.add("snp_single_socket", snp.policy.is_single_socket());
        self.add("snp_smt_allowed", snp.policy.allows_smt());
        self.add("snp_smt_enabled", snp.smt);
        self.add("snp_tsme_enabled", snp.tsme);
    }
}

impl From<bool> for Item {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u8> for Item {
    fn from(number: u8) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Item {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The name that Trustee has for the platform of a launch.
fn platform(measurement: &Measurement) -> &'static str {
    match measurement.launch.platform {
        Platform::Snp { .. } => "snp",
        Platform::Tdx => "tdx",
        Platform::Tpm => "tpm",
    }
}

/// A trust claim (AR4SI) that is less than it could be, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shortfall {
    claim: &'static Claim,
    missing: Vec<&'static str>,
    /// Names that would need one value and have several.
    open: Vec<&'static str>,
}

/// What Trustee's default policy wants for a claim.
#[derive(Debug, Eq, PartialEq)]
struct Claim {
    platform: &'static str,
    claim: &'static str,
    names: &'static [&'static str],
    value: u8,
    /// What the claim is if one of the names has no value.
    otherwise: u8,
    mend: &'static str,
}

const CLAIMS: [Claim; 8] = [
    Claim {
        platform: "snp",
        claim: "executables",
        names: &["snp_launch_measurement"],
        value: 3,
        otherwise: 33,
        mend: "measure a direct boot",
    },
    Claim {
        platform: "snp",
        claim: "hardware",
        names: &["snp_bootloader", "snp_microcode", "snp_snp_svn", "snp_tee_svn"],
        value: 2,
        otherwise: 97,
        mend: "[snp] tcb in the platform profile",
    },
    Claim {
        platform: "snp",
        claim: "configuration",
        names: &[
            "snp_guest_abi_major",
            "snp_guest_abi_minor",
            "snp_single_socket",
            "snp_smt_allowed",
            "snp_smt_enabled",
            "snp_tsme_enabled",
        ],
        value: 2,
        otherwise: 3,
        mend: "[snp] smt and tsme in the platform profile",
    },
    Claim {
        platform: "tdx",
        claim: "executables",
        names: &["rtmr_1", "rtmr_2"],
        value: 3,
        otherwise: 33,
        mend: "measure the boot",
    },
    Claim {
        platform: "tdx",
        claim: "executables",
        names: &["tdvfkernel", "tdvfkernelparams"],
        value: 3,
        otherwise: 4,
        mend: "[tdx] kernel in the platform profile; several releases: use policy.rego",
    },
    Claim {
        platform: "tdx",
        claim: "hardware",
        names: &["mr_td"],
        value: 2,
        otherwise: 97,
        mend: "use a firmware for TDX",
    },
    Claim {
        platform: "tdx",
        claim: "configuration",
        names: &["xfam"],
        value: 2,
        otherwise: 36,
        mend: "[tdx] xfam in the platform profile",
    },
    Claim {
        platform: "tpm",
        claim: "executables",
        names: &["tpm_pcr11", "trusted_aks"],
        value: 3,
        otherwise: 33,
        mend: "[tpm] trusted-aks in the platform profile",
    },
];

impl ReferenceValues {
    /// Returns what Trustee's default policy will not affirm as it could, for want of values.
    pub fn shortfalls(&self) -> Vec<Shortfall> {
        let wanted = CLAIMS.iter().filter(|claim| self.platforms.contains(claim.platform));
        let found = wanted.map(|claim| {
            let count = |name: &str| self.values.get(name).map_or(0, BTreeSet::len);
            let names = claim.names.iter().copied();
            Shortfall {
                claim,
                missing: names.clone().filter(|name| count(name) == 0).collect(),
                open: names.filter(|name| count(name) > 1 && BARE.contains(name)).collect(),
            }
        });
        found
            .filter(|shortfall| !shortfall.missing.is_empty() || !shortfall.open.is_empty())
            .collect()
    }
}

impl Shortfall {
    /// Returns whether it is about what runs, and not about the machine.
    pub fn is_about_executables(&self) -> bool {
        self.claim.claim == "executables"
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The last value that AR4SI counts as affirming (draft-ietf-rats-ar4si-08, section 2.3.2).
        const AFFIRMING: u8 = 31;
        let Claim {
            platform,
            claim,
            value,
            otherwise,
            mend,
            ..
        } = *self.claim;
        let affirmed = if otherwise > AFFIRMING {
            "will not be affirmed"
        } else {
            "will be weaker"
        };
        write!(f, "{platform}: {claim} {affirmed}: {otherwise} instead of {value}")?;
        let reasons = [("no value for", &self.missing), ("several values for", &self.open)];
        for (reason, names) in reasons.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, ", {reason} {}", names.join(", "))?;
        }
        write!(f, " (mend: {mend})")
    }
}

#[cfg(test)]
mod tests {
    use measure::Sha256;
    use measure::event_log::{Digests, EventLog, Part};
    use serde_json::json;

    use super::*;
    use crate::model::measurements::{EXECUTABLES, FirmwareFile, Launch, Measurements};
    use crate::model::release::FileName;

    /// A launch that reports one value.
    fn launch(quantity: Quantity, data: &str, covers: &[Part]) -> Measurement {
        let value = measurements::Value {
            quantity,
            case: None,
            digests: Digests::of(data),
            covers: covers.iter().copied().collect(),
            varies_with: BTreeSet::new(),
            pre_vmsa: None,
            log: EventLog::default(),
        };
        let firmware = FirmwareFile {
            name: FileName::try_from("OVMF.fd".to_owned()).unwrap(),
            sha256: Sha256::of("ovmf"),
        };
        Measurement {
            launch: Launch {
                platform: Platform::Tdx,
                boot: Boot::Direct,
                firmware,
            },
            values: vec![value],
        }
    }

    fn values(launches: Vec<Measurement>) -> ReferenceValues {
        let name = "minimal".to_owned().try_into().unwrap();
        let measurements = Measurements { launches };
        let release = Predicted::new(&name, Sha256::of("lock"), &measurements, None);
        ReferenceValues::of(&release, Trustee::CURRENT)
    }

    fn snp(data: &str) -> Measurement {
        launch(Quantity::LaunchDigest, data, &EXECUTABLES)
    }

    fn tdx(data: &str) -> Measurement {
        launch(Quantity::Mrtd, data, &[Part::Firmware])
    }

    fn rtmr(index: u8, data: &str) -> Measurement {
        launch(Quantity::Register(Register::Rtmr(index)), data, &[Part::Kernel])
    }

    /// SHA-384 of "a" and of "abc": FIPS 180-4.
    const A: &str = "54a59b9f22b0b80880d8427e548b7c23abd873486e1f035dce9cd697e85175033caa88e6d57bc35efae0b5afd3145f31";
    const ABC: &str =
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";

    #[test]
    fn types_are_those_that_the_default_policy_compares() {
        let table = [
            (vec![], json!({})),
            (vec![tdx("abc")], json!({"mr_td": [ABC]})),
            (vec![snp("abc")], json!({"snp_launch_measurement": [ABC]})),
            (
                vec![
                    snp("abc"),
                    snp("a"),
                    tdx("a"),
                    tdx("a"),
                    rtmr(0, "a"),
                    rtmr(1, "a"),
                    rtmr(2, "abc"),
                ],
                json!({"mr_td": [A], "rtmr_1": [A], "rtmr_2": [ABC], "snp_launch_measurement": [A, ABC]}),
            ),
        ];
        for (launches, expected) in table {
            let values = values(launches).json();
            assert_eq!(json!(values), expected);
        }
    }

    #[test]
    fn a_launch_digest_that_any_kernel_has_is_no_reference_value() {
        let launches = vec![launch(Quantity::LaunchDigest, "abc", &[Part::Firmware])];
        assert_eq!(values(launches).text(), "{}\n");
    }
}
