//! A TPM in the test: it signs whatever it is told to, with a key that nothing but a policy can trust.

#![allow(dead_code, reason = "not every test needs every kind of key")]

use std::collections::BTreeMap;

use data_encoding::BASE64URL_NOPAD;
use measure::evidence::TpmEvidence;
use measure::{Sha256, Sha384};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::pkcs8::EncodePublicKey as _;
use rsa::rand_core::{CryptoRng, Error, RngCore};
use rsa::traits::{PublicKeyParts as _, SignatureScheme as _};

/// The key of a simulated TPM.
#[derive(Clone)]
pub(crate) enum Ak {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    /// RSA-2048, and whether it signs with RSAPSS.
    Rsa(Box<rsa::RsaPrivateKey>, bool),
}

/// What a quote says; [`Simulated::evidence`] signs it.
pub(crate) struct Simulated {
    pub(crate) ak: Ak,
    pub(crate) extra_data: Vec<u8>,
    /// Values by bank (`sha256`, `sha384`, `sha1`) and index.
    pub(crate) pcrs: BTreeMap<&'static str, BTreeMap<u8, Vec<u8>>>,
    /// `TPM_ALG_ID` of the hash that is signed.
    pub(crate) hash: u16,
    /// How often it was reset.
    pub(crate) resets: u8,
}

pub(crate) const SHA1: u16 = 0x4;
pub(crate) const SHA256: u16 = 0xb;
pub(crate) const SHA384: u16 = 0xc;

impl Ak {
    /// A key on P-256; another for another `seed`, which is not zero.
    pub(crate) fn p256(seed: u8) -> Self {
        Self::P256(p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("a scalar"))
    }

    pub(crate) fn p384(seed: u8) -> Self {
        Self::P384(p384::ecdsa::SigningKey::from_slice(&[seed; 48]).expect("a scalar"))
    }

    /// A key of so many bits.
    pub(crate) fn rsa(bits: usize, pss: bool) -> Self {
        let key = rsa::RsaPrivateKey::new(&mut Counter(1), bits).expect("a key");
        Self::Rsa(Box::new(key), pss)
    }

    /// `SubjectPublicKeyInfo` in DER.
    pub(crate) fn spki(&self) -> Vec<u8> {
        let der = match self {
            Self::P256(key) => key.verifying_key().to_public_key_der(),
            Self::P384(key) => key.verifying_key().to_public_key_der(),
            Self::Rsa(key, _) => key.to_public_key().to_public_key_der(),
        };
        der.expect("a public key").into_vec()
    }

    /// SHA-256 of the public key, as a policy names it.
    pub(crate) fn digest(&self) -> Sha256 {
        Sha256::of(self.spki())
    }

    /// `TPMT_SIGNATURE` over `message`.
    fn sign(&self, message: &[u8], hash: u16) -> Vec<u8> {
        let digest = digest(hash, message);
        let (scheme, numbers) = match self {
            Self::P256(key) => {
                let signed: p256::ecdsa::Signature = key.sign_prehash(&digest).expect("a digest");
                (
                    0x18_u16,
                    vec![signed.r().to_bytes().to_vec(), signed.s().to_bytes().to_vec()],
                )
            }
            Self::P384(key) => {
                let signed: p384::ecdsa::Signature = key.sign_prehash(&digest).expect("a digest");
                (
                    0x18,
                    vec![signed.r().to_bytes().to_vec(), signed.s().to_bytes().to_vec()],
                )
            }
            Self::Rsa(key, false) => (
                0x14,
                vec![pkcs1(hash).sign(None::<&mut Counter>, key, &digest).expect("signed")],
            ),
            Self::Rsa(key, true) => (
                0x16,
                vec![pss(hash).sign(Some(&mut Counter(2)), key, &digest).expect("signed")],
            ),
        };
        let numbers = numbers.iter().flat_map(|number| sized(number));
        [scheme.to_be_bytes(), hash.to_be_bytes()]
            .concat()
            .into_iter()
            .chain(numbers)
            .collect()
    }
}

impl Simulated {
    /// A TPM that quotes these values of the bank SHA-256.
    pub(crate) fn new(ak: Ak, extra_data: &[u8], pcrs: impl IntoIterator<Item = (u8, Sha256)>) -> Self {
        let values = pcrs.into_iter().map(|(pcr, value)| (pcr, value.bytes().to_vec()));
        Self {
            ak,
            extra_data: extra_data.into(),
            pcrs: BTreeMap::from([("sha256", values.collect())]),
            hash: SHA256,
            resets: 7,
        }
    }

    /// `TPMS_ATTEST`.
    pub(crate) fn message(&self) -> Vec<u8> {
        let signer = [&[0, 0xb][..], Sha256::of(self.ak.spki()).bytes()].concat();
        let clock = [
            0,
            0,
            0,
            0,
            0,
            1,
            0,
            0,
            /* resets */ 0,
            0,
            0,
            self.resets,
            /* restarts */ 0,
            0,
            0,
            1,
            /* safe */ 1,
        ];
        let firmware = 0x2024_0125_0012_0000_u64.to_be_bytes();
        let head = [
            &[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..],
            &sized(&signer),
            &sized(&self.extra_data),
        ]
        .concat();
        let values: Vec<u8> = self
            .pcrs
            .values()
            .flat_map(BTreeMap::values)
            .flatten()
            .copied()
            .collect();
        let digest = sized(&digest(self.hash, &values));
        [&head[..], &clock, &firmware, &self.selections(), &digest].concat()
    }

    /// The quote with its signature.
    pub(crate) fn evidence(&self) -> TpmEvidence {
        let message = self.message();
        let pcrs = self.pcrs.iter().map(|(bank, values)| {
            let values = values.iter().map(|(pcr, value)| (*pcr, value.clone().into()));
            ((*bank).to_owned(), values.collect())
        });
        TpmEvidence {
            signature: self.ak.sign(&message, self.hash).into(),
            quote: message.into(),
            pcrs: pcrs.collect(),
            ak: self.ak.spki().into(),
            ..TpmEvidence::default()
        }
    }

    /// `TPML_PCR_SELECTION`.
    fn selections(&self) -> Vec<u8> {
        let mut bytes = u32::try_from(self.pcrs.len())
            .expect("few banks")
            .to_be_bytes()
            .to_vec();
        for (bank, values) in &self.pcrs {
            let bank = match *bank {
                "sha1" => SHA1,
                "sha384" => SHA384,
                _ => SHA256,
            };
            let bits = values.keys().fold(0_u32, |bits, pcr| bits | 1 << pcr);
            bytes.extend(bank.to_be_bytes());
            bytes.push(3);
            bytes.extend(&bits.to_le_bytes()[..3]);
        }
        bytes
    }
}

/// What the paravisor of a VM with TDX says of the RSA key of its vTPM: a report of the HCL, and the `REPORTDATA` that it
/// has the hardware quote.
pub(crate) fn hcl_of_td(ak: &Ak) -> (Vec<u8>, [u8; 64]) {
    hcl(ak, 4, |report_data| {
        let mut hardware = vec![0; 1184];
        hardware[0] = 0x81;
        hardware[128..192].copy_from_slice(&report_data);
        hardware
    })
}

/// What a guest of SEV-SNP says of an RSA key, as a paravisor says it of that of its vTPM: a report of the HCL around the
/// one that its chip makes over this data.
pub(crate) fn hcl_of_guest(ak: &Ak, report: impl FnOnce([u8; 64]) -> Vec<u8>) -> Vec<u8> {
    hcl(ak, 2, report).0
}

fn hcl(ak: &Ak, kind: u32, hardware: impl FnOnce([u8; 64]) -> Vec<u8>) -> (Vec<u8>, [u8; 64]) {
    let Ak::Rsa(key, _) = ak else {
        panic!("Azure's keys are RSA")
    };
    let modulus = BASE64URL_NOPAD.encode(&key.n().to_bytes_be());
    let claims = format!(r#"{{"keys":[{{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"{modulus}"}}]}}"#);
    let length = u32::try_from(claims.len()).expect("short claims");
    let mut report_data = [0; 64];
    report_data[..32].copy_from_slice(Sha256::of(&claims).bytes());
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let head = words(&[2, 1236 + length, 2, 0, 0, 0, 0]);
    let middle = words(&[20 + length, 1, kind, 1, length]);
    let report = [b"HCLA", &head[..], &hardware(report_data), &middle, claims.as_bytes()].concat();
    (report, report_data)
}

/// A digest as long as the hash's; of SHA-1, which nobody here computes, one of the right size.
fn digest(hash: u16, bytes: &[u8]) -> Vec<u8> {
    match hash {
        SHA1 => Sha256::of(bytes).bytes()[..20].to_vec(),
        SHA384 => Sha384::of(bytes).bytes().to_vec(),
        _ => Sha256::of(bytes).bytes().to_vec(),
    }
}

fn pkcs1(hash: u16) -> rsa::Pkcs1v15Sign {
    match hash {
        SHA384 => rsa::Pkcs1v15Sign::new::<rsa::sha2::Sha384>(),
        SHA256 => rsa::Pkcs1v15Sign::new::<rsa::sha2::Sha256>(),
        _ => rsa::Pkcs1v15Sign::new_unprefixed(),
    }
}

fn pss(hash: u16) -> rsa::Pss {
    match hash {
        SHA384 => rsa::Pss::new::<rsa::sha2::Sha384>(),
        _ => rsa::Pss::new::<rsa::sha2::Sha256>(),
    }
}

/// `TPM2B`.
fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("a short structure");
    [&size.to_be_bytes(), bytes].concat()
}

/// Numbers that look random and are the same each time: SplitMix64.
struct Counter(u64);

impl RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Counter {}
