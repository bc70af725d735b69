//! SEV-SNP without AMD: an ARK, ASK and ASVK with AMD's names and our keys, and a chip that signs what it is told to.

use std::str::FromStr as _;

use measure::evidence::snp::{AmdRoots, Authority, SigningKey, SnpProduct};
use measure::evidence::{Bytes, SnpEvidence};
use measure::snp::GuestPolicy;
use measure::{Digest, Sha384};
use p384::ecdsa::signature::hazmat::PrehashSigner as _;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rsa::RsaPrivateKey;
use rsa::pkcs1::RsaPssParams;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _};
use rsa::sha2::Sha384 as RsaSha384;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use x509_cert::certificate::{TbsCertificate, Version};
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::der::asn1::{BitString, Ia5String, ObjectIdentifier, OctetString};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::der::{self, Any, Decode as _, Encode as _, Tag};
use x509_cert::ext::Extension;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

/// When reports are made: 2026-06-01T00:00:00Z, in seconds.
pub(crate) const NOW: i64 = 1_780_272_000;

const YEAR: u64 = 365 * 24 * 3600;

/// Whose signature.
#[derive(Clone, Copy)]
pub(crate) enum Authorities {
    Ark,
    Ask,
    Asvk,
}

/// A certificate that is still to be signed; a test changes what it attacks.
pub(crate) struct Draft {
    pub(crate) issuer: Name,
    pub(crate) subject: Name,
    pub(crate) serial: u8,
    /// From when to when, in seconds.
    pub(crate) valid: [u64; 2],
    pub(crate) key: SubjectPublicKeyInfoOwned,
    /// Identifier, whether it is critical, and value.
    pub(crate) extensions: Vec<(&'static str, bool, Vec<u8>)>,
    pub(crate) signer: Authorities,
    /// Of the signature: RSASSA-PSS with SHA-384.
    pub(crate) salt: u8,
}

/// What the chip is told to say. The default is of a guest without an ID block, asked for at VMPL 0.
#[derive(Clone)]
pub(crate) struct Said {
    pub(crate) version: u32,
    pub(crate) measurement: Sha384,
    pub(crate) report_data: Digest<64>,
    pub(crate) host_data: Digest<32>,
    /// Of the guest while it runs.
    pub(crate) report_id: Digest<32>,
    pub(crate) policy: GuestPolicy,
    pub(crate) vmpl: u32,
    /// Reported, launch, committed and current TCB.
    pub(crate) tcbs: [u64; 4],
}

/// A chip and whoever vouches for it.
pub(crate) struct Platform {
    pub(crate) product: SnpProduct,
    pub(crate) chip_id: [u8; 64],
    /// Which key of the chip signs, by its number, and of which kind it is.
    pub(crate) key: (u8, SigningKey),
    names: [Name; 3],
    keys: [RsaPrivateKey; 3],
}

impl Platform {
    /// Returns a platform of `product` whose reports a VCEK signs.
    pub(crate) fn new(product: SnpProduct) -> Self {
        let amd = AmdRoots::amd();
        let Authority { ark, ask, asvk } = amd.of(product).unwrap();
        let subject = |der: &Vec<u8>| x509_cert::Certificate::from_der(der).unwrap().tbs_certificate.subject;
        let pems = [
            include_str!("../keys/simulated-ark.pem"),
            include_str!("../keys/simulated-ask.pem"),
            include_str!("../keys/simulated-asvk.pem"),
        ];
        let mut chip_id = [0; 64];
        let named = if product == SnpProduct::Turin { 8 } else { 64 };
        chip_id[..named].fill(0x5a);
        Self {
            product,
            chip_id,
            key: (1, SigningKey::Vcek),
            names: [ark, ask, asvk].map(subject),
            keys: pems.map(|pem| RsaPrivateKey::from_pkcs8_pem(pem).unwrap()),
        }
    }

    /// Returns its roots, which are not AMD's.
    pub(crate) fn roots(&self) -> AmdRoots {
        let [ark, ask, asvk] = [Authorities::Ark, Authorities::Ask, Authorities::Asvk].map(|of| self.authority(of));
        let [ark, ask, asvk] = [ark, ask, asvk].map(|draft| self.certify(&draft));
        AmdRoots::new([(self.product, Authority { ark, ask, asvk })])
    }

    /// Returns what it says: genuine under [`Self::roots`] at [`NOW`].
    pub(crate) fn evidence(&self, said: &Said) -> SnpEvidence {
        let vek = self.certify(&self.vek(said.tcbs[0]));
        self.evidence_with(said, vec![vek])
    }

    /// Returns what it says, with these certificates.
    pub(crate) fn evidence_with(&self, said: &Said, certificates: Vec<Vec<u8>>) -> SnpEvidence {
        SnpEvidence {
            report: self.report(said).into(),
            certificates: certificates.into_iter().map(Bytes::from).collect(),
            crls: Vec::new(),
        }
    }

    /// Returns a signed report.
    pub(crate) fn report(&self, said: &Said) -> Vec<u8> {
        let mut report = vec![0; 1184];
        let mut put = |offset: usize, bytes: &[u8]| report[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0, &said.version.to_le_bytes());
        put(0x08, &said.policy.bits().to_le_bytes());
        put(0x30, &said.vmpl.to_le_bytes());
        put(0x34, &[1]);
        put(0x48, &[u8::from(self.key.1 == SigningKey::Vlek) << 2]);
        put(0x50, said.report_data.bytes());
        put(0x90, said.measurement.bytes());
        put(0xc0, said.host_data.bytes());
        put(0x140, said.report_id.bytes());
        put(0x160, &[0xff; 32]); // no migration agent
        for (offset, tcb) in [0x180, 0x1f0, 0x1e0, 0x38].into_iter().zip(said.tcbs) {
            put(offset, &tcb.to_le_bytes());
        }
        if said.version >= 3 {
            let model = match self.product {
                SnpProduct::Milan => [0x19, 0x01, 1],
                SnpProduct::Genoa => [0x19, 0x11, 1],
                SnpProduct::Turin => [0x1a, 0x02, 1],
            };
            put(0x188, &model);
        }
        if self.key.1 == SigningKey::Vcek {
            put(0x1a0, &self.chip_id);
        }
        self.sign(&mut report);
        report
    }

    /// Signs a report, anew if it was changed.
    pub(crate) fn sign(&self, report: &mut [u8]) {
        let digest = Sha384::of(&report[..0x2a0]);
        let signature: p384::ecdsa::Signature = self.signing_key().sign_prehash(digest.bytes()).unwrap();
        let (r, s) = signature.split_bytes();
        for (offset, number) in [(0x2a0, r), (0x2e8, s)] {
            let little_endian: Vec<u8> = number.iter().rev().copied().collect();
            report[offset..offset + 48].copy_from_slice(&little_endian);
        }
    }

    fn signing_key(&self) -> p384::ecdsa::SigningKey {
        p384::ecdsa::SigningKey::from_slice(&[self.key.0; 48]).unwrap()
    }

    /// Returns the certificate of an authority, to be signed by the ARK.
    pub(crate) fn authority(&self, of: Authorities) -> Draft {
        let extensions = vec![
            ("2.5.29.19", true, vec![0x30, 3, 1, 1, 0xff]), // basicConstraints: CA
            ("2.5.29.15", true, vec![3, 2, 1, 0x06]),       // keyUsage: keyCertSign, cRLSign
        ];
        Draft {
            issuer: self.names[0].clone(),
            subject: self.names[of as usize].clone(),
            serial: 16 + of as u8,
            valid: [NOW as u64 - 3 * YEAR, NOW as u64 + 20 * YEAR],
            key: spki(&self.keys[of as usize].to_public_key().to_public_key_der().unwrap()),
            extensions,
            signer: Authorities::Ark,
            salt: 48,
        }
    }

    /// Returns the certificate of the chip's key for a TCB, to be signed by the ASK or ASVK.
    pub(crate) fn vek(&self, tcb: u64) -> Draft {
        let (subject, signer) = match self.key.1 {
            SigningKey::Vcek => ("SEV-VCEK", Authorities::Ask),
            SigningKey::Vlek => ("SEV-VLEK", Authorities::Asvk),
        };
        let public = self.signing_key().verifying_key().to_public_key_der().unwrap();
        Draft {
            issuer: self.names[signer as usize].clone(),
            subject: renamed(&self.names[0], subject),
            serial: 0,
            valid: [NOW as u64 - YEAR, NOW as u64 + 6 * YEAR],
            key: spki(&public),
            extensions: self.vek_extensions(tcb),
            signer,
            salt: 48,
        }
    }

    fn vek_extensions(&self, tcb: u64) -> Vec<(&'static str, bool, Vec<u8>)> {
        let tcb = tcb.to_le_bytes();
        let (numbers, hwid): (&[(&str, usize)], _) = match self.product {
            SnpProduct::Turin => (&[(FMC, 0), (BL, 1), (TEE, 2), (SNP, 3), (UCODE, 7)], &self.chip_id[..8]),
            _ => (&[(BL, 0), (TEE, 1), (SNP, 6), (UCODE, 7)], &self.chip_id[..]),
        };
        let text = |text: &str| Ia5String::new(text).unwrap().to_der().unwrap();
        let numbers = numbers
            .iter()
            .map(|(oid, at)| (*oid, false, tcb[*at].to_der().unwrap()));
        let mut extensions = vec![("1.3.6.1.4.1.3704.1.2", false, text(self.product.name()))];
        extensions.extend(numbers);
        extensions.push(match self.key.1 {
            SigningKey::Vcek => ("1.3.6.1.4.1.3704.1.4", false, hwid.to_vec()),
            SigningKey::Vlek => ("1.3.6.1.4.1.3704.1.5", false, text("CN=cloud.example")),
        });
        extensions
    }

    /// Returns a certificate in DER.
    pub(crate) fn certify(&self, draft: &Draft) -> Vec<u8> {
        let algorithm = pss(draft.salt);
        let [not_before, not_after] = draft.valid.map(time);
        let extensions = draft.extensions.iter().map(|(oid, critical, value)| Extension {
            extn_id: ObjectIdentifier::from_str(oid).unwrap(),
            critical: *critical,
            extn_value: OctetString::new(&value[..]).unwrap(),
        });
        let tbs_certificate = TbsCertificate {
            version: Version::V3,
            serial_number: SerialNumber::new(&[draft.serial]).unwrap(),
            signature: algorithm.clone(),
            issuer: draft.issuer.clone(),
            validity: Validity { not_before, not_after },
            subject: draft.subject.clone(),
            subject_public_key_info: draft.key.clone(),
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions.collect()),
        };
        let signature = self.signature(draft.signer, draft.salt, &tbs_certificate.to_der().unwrap());
        let certificate = x509_cert::Certificate {
            tbs_certificate,
            signature_algorithm: algorithm,
            signature,
        };
        certificate.to_der().unwrap()
    }

    /// Returns a list of revoked certificates in DER, from `dates[0]` to `dates[1]`.
    pub(crate) fn crl(&self, signer: Authorities, serials: &[u8], dates: [u64; 2]) -> Vec<u8> {
        let [this_update, next_update] = dates.map(time);
        let revoked = serials.iter().map(|serial| RevokedCert {
            serial_number: SerialNumber::new(&[*serial]).unwrap(),
            revocation_date: this_update,
            crl_entry_extensions: None,
        });
        let tbs_cert_list = TbsCertList {
            version: Version::V2,
            signature: pss(48),
            issuer: self.names[0].clone(),
            this_update,
            next_update: Some(next_update),
            revoked_certificates: (!serials.is_empty()).then(|| revoked.collect()),
            crl_extensions: None,
        };
        let signature = self.signature(signer, 48, &tbs_cert_list.to_der().unwrap());
        let list = CertificateList {
            tbs_cert_list,
            signature_algorithm: pss(48),
            signature,
        };
        list.to_der().unwrap()
    }

    fn signature(&self, signer: Authorities, salt: u8, message: &[u8]) -> BitString {
        let key = self.keys[signer as usize].clone();
        let key = rsa::pss::SigningKey::<RsaSha384>::new_with_salt_len(key, salt.into());
        let signature = key.sign_with_rng(&mut ChaCha20Rng::seed_from_u64(1), message);
        BitString::from_bytes(&signature.to_bytes()).unwrap()
    }
}

impl Default for Said {
    fn default() -> Self {
        Self {
            version: 3,
            measurement: Digest::ZERO,
            report_data: Digest::ZERO,
            host_data: Digest::ZERO,
            report_id: Digest::ZERO,
            policy: GuestPolicy::DEFAULT,
            vmpl: 0,
            tcbs: [0xdb18_0000_0000_0004; 4],
        }
    }
}

const BL: &str = "1.3.6.1.4.1.3704.1.3.1";
const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
const UCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";

/// Returns a name that differs in its common name only.
pub(crate) fn renamed(name: &Name, common_name: &str) -> Name {
    let mut name = name.clone();
    for set in &mut name.0 {
        let mut attributes: Vec<_> = set.0.iter().cloned().collect();
        for attribute in attributes.iter_mut().filter(|attribute| attribute.oid == COMMON_NAME) {
            attribute.value = Any::new(Tag::Utf8String, common_name.as_bytes()).unwrap();
        }
        set.0 = attributes.try_into().unwrap();
    }
    name
}

fn pss(salt: u8) -> AlgorithmIdentifierOwned {
    let parameters = RsaPssParams::new::<RsaSha384>(salt).to_der().unwrap();
    AlgorithmIdentifierOwned {
        oid: ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"),
        parameters: Some(Any::from_der(&parameters).unwrap()),
    }
}

fn spki(der: &der::Document) -> SubjectPublicKeyInfoOwned {
    SubjectPublicKeyInfoOwned::from_der(der.as_bytes()).unwrap()
}

fn time(seconds: u64) -> Time {
    let since = std::time::Duration::from_secs(seconds);
    Time::UtcTime(der::asn1::UtcTime::from_unix_duration(since).unwrap())
}
