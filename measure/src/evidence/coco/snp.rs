//! The attester `snp`: a report as the crate `sev` (6 to 8) serialises it, field by field, and not its bytes.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer};

use super::CocoError;
use crate::evidence::{Evidence, SnpEvidence};

#[derive(Deserialize)]
pub(super) struct Snp {
    attestation_report: Report,
    #[serde(default)]
    cert_chain: Option<Vec<Entry>>,
}

/// A certificate of the host's table: GHCB 2.03, section 4.1.8.1.
#[derive(Deserialize)]
struct Entry {
    cert_type: Kind,
    data: Vec<u8>,
}

#[derive(Deserialize)]
enum Kind {
    Empty,
    ARK,
    ASK,
    VCEK,
    VLEK,
    CRL,
    /// Named by its GUID.
    OTHER(#[allow(dead_code, reason = "only its presence is read")] String),
}

/// A report of SEV-SNP without its reserved bytes, which are zero: SEV-SNP Firmware ABI (56860) revision 1.58, table 23.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    version: u32,
    guest_svn: u32,
    policy: u64,
    family_id: Array<16>,
    image_id: Array<16>,
    vmpl: u32,
    sig_algo: u32,
    current_tcb: Tcb,
    plat_info: u64,
    key_info: u32,
    report_data: Array<64>,
    measurement: Array<48>,
    host_data: Array<32>,
    id_key_digest: Array<48>,
    author_key_digest: Array<48>,
    report_id: Array<32>,
    report_id_ma: Array<32>,
    reported_tcb: Tcb,
    /// From version 3 on.
    #[serde(default)]
    cpuid_fam_id: Option<u8>,
    #[serde(default)]
    cpuid_mod_id: Option<u8>,
    #[serde(default)]
    cpuid_step: Option<u8>,
    chip_id: Array<64>,
    committed_tcb: Tcb,
    current: Version,
    committed: Version,
    launch_tcb: Tcb,
    /// From version 5 on.
    #[serde(default)]
    launch_mit_vector: Option<u64>,
    #[serde(default)]
    current_mit_vector: Option<u64>,
    signature: Signature,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcb {
    /// Of Turin and later, which have the others elsewhere.
    #[serde(default)]
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Version {
    major: u8,
    minor: u8,
    build: u8,
}

/// Numbers are little-endian.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    r: Array<72>,
    s: Array<72>,
}

struct Array<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Array<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let array = bytes.try_into().map(Self);
        array.map_err(|bytes: Vec<u8>| {
            serde::de::Error::invalid_length(bytes.len(), &alloc::format!("{N} bytes").as_str())
        })
    }
}

impl Snp {
    pub(super) fn evidence(self) -> Result<Evidence, CocoError> {
        let mut evidence = SnpEvidence {
            report: self.attestation_report.bytes().to_vec().into(),
            ..SnpEvidence::default()
        };
        for entry in self.cert_chain.into_iter().flatten() {
            match entry.cert_type {
                Kind::ARK | Kind::ASK | Kind::VCEK | Kind::VLEK => evidence.certificates.push(entry.data.into()),
                Kind::CRL => evidence.crls.push(entry.data.into()),
                Kind::Empty | Kind::OTHER(_) => {}
            }
        }
        Ok(Evidence::Snp(evidence))
    }
}

impl Report {
    /// Returns the report as the firmware made it.
    fn bytes(&self) -> [u8; 1184] {
        let mut bytes = [0; 1184];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..][..field.len()].copy_from_slice(field);
        put(0x00, &self.version.to_le_bytes());
        put(0x04, &self.guest_svn.to_le_bytes());
        put(0x08, &self.policy.to_le_bytes());
        put(0x10, &self.family_id.0);
        put(0x20, &self.image_id.0);
        put(0x30, &self.vmpl.to_le_bytes());
        put(0x34, &self.sig_algo.to_le_bytes());
        put(0x38, &self.current_tcb.bytes());
        put(0x40, &self.plat_info.to_le_bytes());
        put(0x48, &self.key_info.to_le_bytes());
        put(0x50, &self.report_data.0);
        put(0x90, &self.measurement.0);
        put(0xc0, &self.host_data.0);
        put(0xe0, &self.id_key_digest.0);
        put(0x110, &self.author_key_digest.0);
        put(0x140, &self.report_id.0);
        put(0x160, &self.report_id_ma.0);
        put(0x180, &self.reported_tcb.bytes());
        let cpu = [self.cpuid_fam_id, self.cpuid_mod_id, self.cpuid_step];
        put(0x188, &cpu.map(Option::unwrap_or_default));
        put(0x1a0, &self.chip_id.0);
        put(0x1e0, &self.committed_tcb.bytes());
        put(0x1e8, &self.current.bytes());
        put(0x1ec, &self.committed.bytes());
        put(0x1f0, &self.launch_tcb.bytes());
        put(0x1f8, &self.launch_mit_vector.unwrap_or_default().to_le_bytes());
        put(0x200, &self.current_mit_vector.unwrap_or_default().to_le_bytes());
        put(0x2a0, &self.signature.r.0);
        put(0x2e8, &self.signature.s.0);
        bytes
    }
}

impl Tcb {
    /// `TCB_VERSION`, of Turin and of what came before it: the same document, section 2.2.
    const fn bytes(&self) -> [u8; 8] {
        let Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = *self;
        match fmc {
            Some(fmc) => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
            None => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
        }
    }
}

impl Version {
    const fn bytes(&self) -> [u8; 3] {
        [self.build, self.minor, self.major]
    }
}
