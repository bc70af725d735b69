//! Reader of attestation reports of SEV-SNP.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{SigningKey, SnpProduct};
use crate::evidence::EvidenceError;
use crate::snp::{CpuSignature, GuestPolicy};
use crate::{Digest, Sha384};

/// An attestation report: AMD SEV-SNP Firmware ABI (56860) revision 1.58, section 7.3, table 23,
/// "`ATTESTATION_REPORT` Structure". Versions 2 to 5; newer fields are zero in older reports.
///
/// Only read: see [the module](super).
#[derive(Clone, Debug, Eq, FromBytes, Immutable, KnownLayout, PartialEq, Unaligned)]
#[repr(C)]
pub struct SnpReport {
    version: U32,
    guest_svn: U32,
    policy: U64,
    family_id: Digest<16>,
    image_id: Digest<16>,
    vmpl: U32,
    signature_algorithm: U32,
    current_tcb: U64,
    platform_info: U64,
    flags: U32,
    _reserved_0x4c: U32,
    report_data: Digest<64>,
    measurement: Sha384,
    host_data: Digest<32>,
    id_key_digest: Sha384,
    author_key_digest: Sha384,
    report_id: Digest<32>,
    _report_id_ma: Digest<32>,
    reported_tcb: U64,
    cpuid_family: u8,
    cpuid_model: u8,
    cpuid_stepping: u8,
    _reserved_0x18b: [u8; 21],
    chip_id: Digest<64>,
    committed_tcb: U64,
    _current_version: U32,
    _committed_version: U32,
    launch_tcb: U64,
    _launch_mit_vector: U64,
    _current_mit_vector: U64,
    _reserved_0x208: [u8; 152],
    _signature: [u8; 512],
}

const _: () = assert!(size_of::<SnpReport>() == 1184);

impl SnpReport {
    /// Returns the report in `bytes`, which must be one and nothing else, of a version from 2 to 5.
    pub fn read(bytes: &[u8]) -> Result<&Self, EvidenceError> {
        let report = Self::ref_from_bytes(bytes).map_err(|_| EvidenceError::Size {
            what: "SEV-SNP report",
            size: bytes.len() as u64,
            expected: "1184 bytes",
        })?;
        match report.version() {
            2..=5 => Ok(report),
            version => Err(EvidenceError::Field {
                field: "version of the SEV-SNP report",
                offset: 0,
                value: version.into(),
                expected: "2, 3, 4 or 5",
            }),
        }
    }

    /// Returns `VERSION`, of the format.
    pub const fn version(&self) -> u32 {
        self.version.get()
    }

    /// Returns `GUEST_SVN` of the ID block; zero without one.
    pub const fn guest_svn(&self) -> u32 {
        self.guest_svn.get()
    }

    /// Returns `POLICY`, with which the guest was started.
    pub const fn policy(&self) -> GuestPolicy {
        GuestPolicy::new(self.policy.get())
    }

    /// Returns `FAMILY_ID` of the ID block; zeros without one.
    pub const fn family_id(&self) -> Digest<16> {
        self.family_id
    }

    /// Returns `IMAGE_ID` of the ID block; zeros without one.
    pub const fn image_id(&self) -> Digest<16> {
        self.image_id
    }

    /// Returns `VMPL`, the privilege level that asked for the report: 0, the highest, to 3; above that, the host asked.
    pub const fn vmpl(&self) -> u32 {
        self.vmpl.get()
    }

    /// Returns `REPORT_DATA`, which the guest chose.
    pub const fn report_data(&self) -> Digest<64> {
        self.report_data
    }

    /// Returns `MEASUREMENT`, the launch digest.
    pub const fn measurement(&self) -> Sha384 {
        self.measurement
    }

    /// Returns `HOST_DATA`, which the host chose at launch.
    pub const fn host_data(&self) -> Digest<32> {
        self.host_data
    }

    /// Returns `ID_KEY_DIGEST`, of the key that signed the ID block; zeros without one.
    pub const fn id_key_digest(&self) -> Sha384 {
        self.id_key_digest
    }

    /// Returns `AUTHOR_KEY_DIGEST`, of the key that signed the ID key; zeros without one.
    pub const fn author_key_digest(&self) -> Sha384 {
        self.author_key_digest
    }

    /// Returns `REPORT_ID`, of the guest while it runs.
    pub const fn report_id(&self) -> Digest<32> {
        self.report_id
    }

    /// Returns `SIGNATURE_ALGO`: 1 is ECDSA on P-384 with SHA-384, and there is no other.
    pub const fn signature_algorithm(&self) -> u32 {
        self.signature_algorithm.get()
    }

    /// Returns `PLATFORM_INFO`: what is on in the platform, one bit each, such as SMT (bit 0) and ECC memory (bit 2).
    ///
    /// Bits are added without a new version of the report: bit 6 is set in reports of Turin.
    pub const fn platform_info(&self) -> u64 {
        self.platform_info.get()
    }

    /// Returns `SIGNING_KEY`, the kind of the key that signed the report; nothing if it is none that there is.
    pub const fn signing_key(&self) -> Option<SigningKey> {
        match self.flags.get() >> 2 & 7 {
            0 => Some(SigningKey::Vcek),
            1 => Some(SigningKey::Vlek),
            _ => None,
        }
    }

    /// Returns `MASK_CHIP_KEY`: whether the host has the report signed by nobody.
    pub const fn masks_chip_key(&self) -> bool {
        self.flags.get() & 2 != 0
    }

    /// Returns `REPORTED_TCB`, the version of the platform that the signing key is derived for; its fields differ
    /// between generations of CPUs: see [`Tcb`](super::Tcb).
    pub const fn reported_tcb(&self) -> u64 {
        self.reported_tcb.get()
    }

    /// Returns `LAUNCH_TCB`, that of the platform when the guest was started.
    pub const fn launch_tcb(&self) -> u64 {
        self.launch_tcb.get()
    }

    /// Returns `COMMITTED_TCB`, below which the platform cannot go back.
    pub const fn committed_tcb(&self) -> u64 {
        self.committed_tcb.get()
    }

    /// Returns `CURRENT_TCB`, that of the platform when it made the report.
    pub const fn current_tcb(&self) -> u64 {
        self.current_tcb.get()
    }

    /// Returns the signature of the CPU that made the report, not that of the guest; nothing before version 3.
    pub const fn cpu(&self) -> Option<CpuSignature> {
        if self.version() < 3 {
            return None;
        }
        // the family comes as a whole, base and extended
        CpuSignature::of(
            self.cpuid_family as u32,
            self.cpuid_model as u32,
            self.cpuid_stepping as u32,
        )
    }

    /// Returns the product whose CPU made the report; nothing before version 3, nor for CPUs of other products.
    pub const fn product(&self) -> Option<SnpProduct> {
        if self.version() < 3 {
            return None;
        }
        SnpProduct::of(self.cpuid_family, self.cpuid_model)
    }

    /// Returns `CPUID_FAM_ID`, base and extended family in one, and `CPUID_MOD_ID`; zeros before version 3.
    pub const fn family_and_model(&self) -> (u8, u8) {
        (self.cpuid_family, self.cpuid_model)
    }

    /// Returns `CHIP_ID`; zeros where the host masks it.
    pub const fn chip_id(&self) -> Digest<64> {
        self.chip_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use std::string::ToString as _;

    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn fields_are_at_their_offsets() {
        let mut bytes = vec![0; 1184];
        bytes[0] = 3;
        for (offset, length) in [(0x50, 64), (0x90, 48), (0xc0, 32), (0xe0, 48), (0x110, 48), (0x1a0, 64)] {
            bytes[offset..offset + length].fill(offset as u8);
        }
        bytes[0x188..0x18b].copy_from_slice(&[25, 17, 1]);
        let report = SnpReport::read(&bytes).unwrap();
        assert_eq!(report.report_data(), [0x50; 64].into());
        assert_eq!(report.measurement(), [0x90; 48].into());
        assert_eq!(report.host_data(), [0xc0; 32].into());
        assert_eq!(report.id_key_digest(), [0xe0; 48].into());
        assert_eq!(report.author_key_digest(), [0x10; 48].into());
        assert_eq!(report.chip_id(), [0xa0; 64].into());
        assert_eq!(report.cpu(), CpuSignature::of(25, 17, 1));
    }

    #[test]
    fn other_sizes_and_versions_are_refused() {
        let mut bytes = vec![0; 1184];
        assert_eq!(
            SnpReport::read(&bytes).unwrap_err().to_string(),
            "version of the SEV-SNP report at offset 0x0 is 0x0, expected 2, 3, 4 or 5"
        );
        bytes[0] = 6;
        assert!(SnpReport::read(&bytes).is_err());
        bytes[0] = 5;
        assert!(SnpReport::read(&bytes).is_ok());
        for size in [0, 1183] {
            let error = SnpReport::read(&bytes[..size]).unwrap_err();
            assert!(matches!(error, EvidenceError::Size { .. }), "{error}");
        }
        bytes.push(0);
        assert!(SnpReport::read(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_of_the_size_are_a_report_or_of_another_version(bytes in vec(any::<u8>(), 1184), version in 0_u32..8) {
            let mut bytes = bytes;
            bytes[..4].copy_from_slice(&version.to_le_bytes());
            let report = SnpReport::read(&bytes);
            prop_assert_eq!(report.is_ok(), (2..=5).contains(&version));
            let cpu = report.ok().and_then(SnpReport::cpu);
            prop_assert!(cpu.is_none() || version >= 3);
        }
    }
}
