//! The platform profile: what no image can know of the machines it runs on, and a verifier compares all the same.

use anyhow::Result;
use data_encoding::BASE64;
use measure::boot::KernelImage;
use measure::event_log::HostChoice;
use measure::snp::GuestPolicy;
use measure::tdx::PageOrder;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::measurements::{Boot, Measurements, Platform, Quantity, Value, case_of_pages};
use super::recipe;

/// What an operator knows of the machines, by TEE. What is not said is not affirmed by a verifier.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    #[serde(default)]
    pub snp: Option<Snp>,
    #[serde(default)]
    pub tdx: Option<Tdx>,
    #[serde(default)]
    pub tpm: Option<Tpm>,
}

/// Machines with AMD SEV-SNP.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Snp {
    /// The levels that are in use: Trustee's own policy takes exactly these, ours takes newer ones too.
    #[serde(deserialize_with = "at_least_one")]
    pub tcb: Vec<Tcb>,
    /// Whether the machine runs two threads on a core.
    pub smt: bool,
    /// Whether the machine encrypts all of its memory.
    pub tsme: bool,
    /// With what policy the VMM starts guests.
    #[serde(default = "default_policy", deserialize_with = "safe_policy")]
    pub policy: GuestPolicy,
}

/// A level of the platform's firmware: `REPORTED_TCB`, AMD SEV-SNP Firmware ABI (56860) revision 1.58, section 2.2.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tcb {
    pub bootloader: u8,
    pub tee: u8,
    pub snp: u8,
    pub microcode: u8,
}

/// Machines with Intel TDX.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tdx {
    /// The extended features that TDs are started with.
    #[serde(deserialize_with = "at_least_one")]
    pub xfam: Vec<Xfam>,
    /// The attributes that TDs are started with.
    #[serde(default = "default_attributes", deserialize_with = "at_least_one")]
    pub attributes: Vec<Attributes>,
    /// Which kernel firmware gets in a direct boot, where one is known.
    #[serde(default)]
    pub kernel: Option<Kernel>,
    /// In how many passes the VMM adds and measures pages, where one is known.
    #[serde(default)]
    pub page_order: Option<PageOrder>,
}

/// What QEMU does to the kernel of a direct boot: see [`KernelImage`].
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    AsIs,
    PatchedByQemu,
}

/// `XFAM` of a TD: Intel TDX Module ABI (348551-005), "XFAM". The features that every CPU has are always among them.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "u64")]
pub struct Xfam(u64);

impl Xfam {
    /// Returns the bytes in the order in which a quote has them.
    pub const fn bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

impl TryFrom<u64> for Xfam {
    type Error = String;

    fn try_from(bits: u64) -> Result<Self, String> {
        const ALWAYS: u64 = 0b11; // x87 and SSE
        match bits & ALWAYS {
            ALWAYS => Ok(Self(bits)),
            _ => Err(format!(
                "no TD has the XFAM {bits:#x}: bits 0 and 1 are always set, as in 0x642e7, which a quote shows as e742060000000000"
            )),
        }
    }
}

/// `ATTRIBUTES` of a TD that a verifier affirms: Intel TDX Module ABI (348551-005), "ATTRIBUTES". Page-table violations
/// never reach it as exceptions of the host's choice, and nothing lets anybody look into it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "u64")]
pub struct Attributes(u64);

impl Attributes {
    /// Returns the bytes in the order in which a quote has them.
    pub const fn bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

const SEPT_VE_DISABLE: u64 = 1 << 28;

impl TryFrom<u64> for Attributes {
    type Error = String;

    fn try_from(bits: u64) -> Result<Self, String> {
        const HARMLESS: u64 = 1 << 27 | 1 << 30 | 1 << 31; // LASS, PKS, Key Locker
        match bits & SEPT_VE_DISABLE != 0 && bits & !(SEPT_VE_DISABLE | HARMLESS) == 0 {
            true => Ok(Self(bits)),
            false => Err(format!(
                "nobody affirms a TD with the attributes {bits:#x}: bit 28 (SEPT_VE_DISABLE) must be set, and besides it \
                 no other than 27 (LASS), 30 (PKS) and 31 (Key Locker)"
            )),
        }
    }
}

/// Returns the attributes of most TDs.
pub(crate) fn default_attributes() -> Vec<Attributes> {
    vec![Attributes(SEPT_VE_DISABLE)]
}

/// Machines with a TPM.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tpm {
    /// The attestation keys that are trusted: SubjectPublicKeyInfo (RFC 5280), DER in padded base64.
    #[serde(deserialize_with = "at_least_one")]
    pub trusted_aks: Vec<Key>,
}

/// A public key as text.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub struct Key(String);

impl Key {
    /// Returns the padded base64.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const SEQUENCE: u8 = 0x30;
        match BASE64.decode(text.as_bytes()) {
            Ok(der) if der.first() == Some(&SEQUENCE) => Ok(Self(text)),
            _ => Err(format!("a key is DER in base64, without line breaks; found {text:?}")),
        }
    }
}

fn default_policy() -> GuestPolicy {
    GuestPolicy::DEFAULT
}

/// Reads the policy as the number that it is; one that no verifier affirms is refused.
fn safe_policy<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<GuestPolicy, D::Error> {
    let bits = u64::deserialize(deserializer)?;
    let policy: GuestPolicy = format!("{bits:#x}").parse().map_err(de::Error::custom)?;
    match policy.allows_debug() || policy.allows_migration() {
        false => Ok(policy),
        true => Err(de::Error::custom(format!(
            "the guest policy {policy} lets the host read the guest (bit 19) or move it (bit 18): nobody affirms that"
        ))),
    }
}

fn at_least_one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> std::result::Result<Vec<T>, D::Error> {
    let list = Vec::deserialize(d)?;
    match list.is_empty() {
        false => Ok(list),
        true => Err(de::Error::custom("an empty list: nothing could be affirmed")),
    }
}

impl Profile {
    /// Reads a profile from its text; `file` is its name in messages.
    ///
    /// # Errors
    /// Text that is no profile, with the line.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        recipe::parse(file, text)
    }

    /// Returns the predictions without the cases that do not happen on these machines.
    pub fn select(&self, measurements: &Measurements) -> Measurements {
        let mut selected = measurements.clone();
        let tds = selected
            .launches
            .iter_mut()
            .filter(|launch| launch.launch.platform == Platform::Tdx);
        for launch in tds {
            let boot = launch.launch.boot;
            launch.values.retain(|value| self.happens(boot, value));
        }
        selected
    }

    fn happens(&self, boot: Boot, value: &Value) -> bool {
        let (Some(tdx), Some(case)) = (&self.tdx, &value.case) else {
            return true;
        };
        match value.quantity {
            Quantity::Mrtd => tdx.page_order.is_none_or(|order| case == case_of_pages(order)),
            _ if boot == Boot::Direct && value.varies_with.contains(&HostChoice::VmmVersion) => {
                let as_is = case.contains(&KernelImage::AsIs.to_string());
                tdx.kernel.is_none_or(|kernel| (kernel == Kernel::AsIs) == as_is)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;

    const PROFILE: &str = r#"
[snp]
tcb = [{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }]
smt = true
tsme = false
policy = 0x30000

[tdx]
xfam = [0x642e7]
kernel = "as-is"
page-order = "single"

[tpm]
trusted-aks = ["MFkw"]
"#;

    fn parse(text: &str) -> Result<Profile> {
        Profile::parse("platform.toml", text)
    }

    #[test]
    fn a_profile_is_read_and_most_of_it_can_be_left_out() {
        let profile = parse(PROFILE).unwrap();
        let tdx = profile.tdx.unwrap();
        // the worked example of Trustee's tcb_claims.md: little-endian, as a quote has it
        assert_eq!(tdx.xfam[0].bytes(), [0xe7, 0x42, 0x06, 0, 0, 0, 0, 0]);
        assert_eq!(tdx.kernel, Some(Kernel::AsIs));
        assert_eq!(profile.snp.unwrap().policy, GuestPolicy::DEFAULT);
        assert_eq!(parse("").unwrap(), Profile::default());
        let short = PROFILE
            .replace("policy = 0x30000", "")
            .replace("kernel = \"as-is\"", "");
        assert_eq!(parse(&short).unwrap().snp.unwrap().policy, GuestPolicy::DEFAULT);
    }

    #[test]
    fn what_is_wrong_is_refused_with_its_line() {
        for (from, to, line, why) in [
            ("219", "\"219\"", 3, "invalid type: string \"219\", expected u8"),
            ("219", "256", 3, "invalid value: integer `256`, expected u8"),
            (", microcode = 219", "", 3, "missing field `microcode`"),
            (
                "[{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }]",
                "[]",
                3,
                "an empty list",
            ),
            (
                "smt = true",
                "smt = 1",
                4,
                "invalid type: integer `1`, expected a boolean",
            ),
            ("smt = true", "smt = \"true\"", 4, "expected a boolean"),
            ("tsme = false", "tmse = false", 5, "unknown field `tmse`"),
            ("0x30000", "0x10000", 6, "not a guest policy"),
            ("0x30000", "0xb0000", 6, "lets the host read the guest"),
            ("0x30000", "\"0x30000\"", 6, "invalid type: string"),
            ("[0x642e7]", "0x642e7", 9, "invalid type: integer"),
            ("0x642e7", "\"e742060000000000\"", 9, "invalid type: string"),
            ("0x642e7", "0x642e4", 9, "no TD has the XFAM 0x642e4"),
            (
                "xfam = [0x642e7]",
                "xfam = [0x642e7]\nattributes = [0x10000001]",
                10,
                "nobody affirms a TD",
            ),
            (
                "xfam = [0x642e7]",
                "xfam = [0x642e7]\nattributes = [0x40000000]",
                10,
                "nobody affirms a TD",
            ),
            ("as-is", "asis", 10, "unknown variant `asis`"),
            ("MFkw", "kermit", 14, "a key is DER in base64"),
            ("[tpm]", "[tmp]", 13, "unknown field `tmp`"),
        ] {
            let text = PROFILE.replacen(from, to, 1);
            let report = mend::report(&parse(&text).expect_err(to));
            assert!(report.contains(why), "{from} -> {to}: {report}");
            assert!(report.contains(&format!("line {line}")), "{from} -> {to}: {report}");
            assert!(
                report.contains("cannot read platform.toml") && report.contains("mend: "),
                "{report}"
            );
        }
    }
}
