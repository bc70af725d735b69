//! A vendor of TDX platforms that nobody trusts but tests: its root, certificates, collateral and quotes.

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use measure::evidence::TdxEvidence;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::json;

/// A TD as its quote describes it.
#[derive(Clone)]
pub(crate) struct Td {
    /// Of the quote: 4 (TDX 1.0) or 5 (TDX 1.5).
    pub(crate) version: u8,
    pub(crate) attributes: u64,
    pub(crate) xfam: u64,
    pub(crate) mrtd: [u8; 48],
    pub(crate) mr_config_id: [u8; 48],
    pub(crate) rtmrs: [[u8; 48]; 4],
    pub(crate) report_data: [u8; 64],
    /// In quotes of version 5.
    pub(crate) mr_service_td: [u8; 48],
}

/// A platform and what its vendor says of it.
#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) fmspc: [u8; 6],
    /// Which one of its kind.
    pub(crate) ppid: [u8; 16],
    /// Of every component.
    pub(crate) svn: u8,
    /// Of the TCB level that SVN 5 reaches; SVN 3 and 4 are out of date, older ones are unknown.
    pub(crate) status: &'static str,
    pub(crate) advisories: &'static [&'static str],
    /// Whether the certificate of the platform is on the list of revoked ones.
    pub(crate) revoked: bool,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

impl Default for Td {
    fn default() -> Self {
        Self {
            version: 4,
            attributes: SEPT_VE_DISABLE,
            xfam: 0x6_02e7,
            mrtd: [0x11; 48],
            mr_config_id: [0x22; 48],
            rtmrs: [[0; 48]; 4],
            report_data: [0x33; 64],
            mr_service_td: [0; 48],
        }
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            fmspc: [0x50, 0x80, 0x6f, 0, 0, 0],
            ppid: [0x66; 16],
            svn: 5,
            status: "UpToDate",
            advisories: &[],
            revoked: false,
            issued: time("2026-11-01T00:00:00Z"),
            expires: time("2026-12-01T00:00:00Z"),
        }
    }
}

/// The attribute that every TD has.
pub(crate) const SEPT_VE_DISABLE: u64 = 1 << 28;

/// A time at which the collateral of [`Platform::default`] is valid.
pub(crate) fn now() -> Timestamp {
    time("2026-11-15T12:00:00Z")
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Returns the certificate of the root, in DER.
pub(crate) fn root() -> Vec<u8> {
    certificate(ROOT, ROOT, &authority())
}

impl Td {
    /// Returns the quote of the TD on this platform and its collateral, without an event log.
    pub(crate) fn evidence(&self, platform: &Platform) -> TdxEvidence {
        TdxEvidence {
            quote: self.quote(platform).into(),
            collateral: Some(platform.collateral().to_string().into_bytes().into()),
            event_log: None,
        }
    }

    /// Returns the quote: Intel TDX DCAP Quoting Library API, appendix 3.
    pub(crate) fn quote(&self, platform: &Platform) -> Vec<u8> {
        let mut quote = vec![self.version, 0, 2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0];
        quote.extend(HEXLOWER.decode(b"939a7233f79c4ca9940a0db3957f0607").unwrap());
        quote.extend([0; 20]);
        if self.version == 5 {
            quote.extend([3, 0, 0x88, 2, 0, 0]);
        }
        let mut svn = [platform.svn; 16];
        svn[1] = 0;
        quote.extend(svn);
        quote.extend([0; 48 + 48 + 8]);
        quote.extend(self.attributes.to_le_bytes());
        quote.extend(self.xfam.to_le_bytes());
        quote.extend(self.mrtd);
        quote.extend(self.mr_config_id);
        quote.extend([0; 2 * 48]);
        quote.extend(self.rtmrs.concat());
        quote.extend(self.report_data);
        if self.version == 5 {
            quote.extend(svn);
            quote.extend(self.mr_service_td);
        }
        let signature = signature_data(&quote, platform);
        quote.extend((signature.len() as u32).to_le_bytes());
        quote.extend(signature);
        quote
    }
}

/// Returns the signature over a header and body, and what vouches for the key that made it.
fn signature_data(signed: &[u8], platform: &Platform) -> Vec<u8> {
    let key = ATTESTATION.public();
    let data = [0x44; 32];
    let mut report = [0; 384];
    report[48] = 0x11; // ATTRIBUTES: initialised, 64 bit
    report[128..160].fill(0x55); // MRSIGNER
    report[256] = 2; // ISVPRODID
    report[258] = 4; // ISVSVN
    let binding = measure::Sha256::of([&key[..], &data].concat());
    report[320..352].copy_from_slice(binding.bytes());
    let chain = [platform.certificate(), certificate(PCK_CA, ROOT, &authority()), root()];
    let chain: String = chain.iter().map(|certificate| pem(certificate)).collect();
    let mut enclave = [&report[..], &PCK.sign(&report), &32_u16.to_le_bytes(), &data].concat();
    enclave.extend(certification(5, chain.as_bytes()));
    [&ATTESTATION.sign(signed)[..], &key, &certification(6, &enclave)].concat()
}

fn certification(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(data.len() as u32).to_le_bytes(), data].concat()
}

impl Platform {
    /// Returns the collateral: `QuoteCollateralV3` as dcap-qvl writes it.
    pub(crate) fn collateral(&self) -> serde_json::Value {
        let (tcb_info, qe_identity) = (self.tcb_info().to_string(), self.qe_identity().to_string());
        let signer = [certificate(SIGNER, ROOT, &[]), root()];
        let signer: String = signer.iter().map(|certificate| pem(certificate)).collect();
        let revoked = if self.revoked { &[PCK.serial()][..] } else { &[] };
        json!({
            "pck_crl_issuer_chain": signer,
            "root_ca_crl": HEXLOWER.encode(&self.crl(ROOT, &[])),
            "pck_crl": HEXLOWER.encode(&self.crl(PCK_CA, revoked)),
            "tcb_info_issuer_chain": signer,
            "tcb_info_signature": HEXLOWER.encode(&SIGNER.sign(tcb_info.as_bytes())),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": signer,
            "qe_identity_signature": HEXLOWER.encode(&SIGNER.sign(qe_identity.as_bytes())),
            "qe_identity": qe_identity,
        })
    }

    fn tcb_info(&self) -> serde_json::Value {
        let level = |svn: u8, status: &str, advisories: &[&str]| {
            let sgx = vec![json!({"svn": svn}); 16];
            let mut tdx = sgx.clone();
            tdx[1] = json!({"svn": 0}); // the version of the module: 0 has no identity of its own
            let tcb = json!({"sgxtcbcomponents": sgx, "pcesvn": svn, "tdxtcbcomponents": tdx});
            json!({"tcb": tcb, "tcbDate": "2026-02-11T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories})
        };
        let module =
            json!({"mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "ff".repeat(8)});
        json!({
            "id": "TDX", "version": 3, "issueDate": self.issued, "nextUpdate": self.expires,
            "fmspc": HEXLOWER.encode(&self.fmspc), "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 18,
            "tdxModule": module, "tdxModuleIdentities": [],
            "tcbLevels": [level(5, self.status, self.advisories), level(3, "OutOfDate", &["INTEL-SA-00000"])],
        })
    }

    fn qe_identity(&self) -> serde_json::Value {
        let level = json!({"tcb": {"isvsvn": 4}, "tcbDate": "2026-02-11T00:00:00Z", "tcbStatus": "UpToDate"});
        json!({
            "id": "TD_QE", "version": 2, "issueDate": self.issued, "nextUpdate": self.expires,
            "tcbEvaluationDataNumber": 18, "miscselect": "00000000", "miscselectMask": "ffffffff",
            "attributes": format!("11{}", "00".repeat(15)), "attributesMask": format!("fb{}", "ff".repeat(15)),
            "mrsigner": "55".repeat(32), "isvprodid": 2, "tcbLevels": [level],
        })
    }

    /// Returns the certificate of the platform (PCK): Intel SGX PCK Certificate and CRL Profile, section 1.3.
    fn certificate(&self) -> Vec<u8> {
        let entry = |oid: &[u8], value: Vec<u8>| sequence(&[der(6, &[SGX, oid].concat()), value]);
        let svn = |index: u8| entry(&[2, index], der(2, &[self.svn]));
        let mut tcb: Vec<_> = (1..=17).map(svn).collect();
        tcb.push(entry(&[2, 18], der(4, &[self.svn; 16])));
        let entries = [
            entry(&[1], der(4, &self.ppid)),
            entry(&[2], sequence(&tcb)),
            entry(&[3], der(4, &[0; 2])),
            entry(&[4], der(4, &self.fmspc)),
            entry(&[5], der(10, &[0])),
        ];
        let extension = sequence(&[der(6, SGX), der(4, &sequence(&entries))]);
        certificate(PCK, PCK_CA, &[extension])
    }

    /// Returns a list of revoked certificates: RFC 5280, section 5.
    fn crl(&self, issuer: Key, revoked: &[Vec<u8>]) -> Vec<u8> {
        let mut parts = vec![
            der(2, &[1]),
            algorithm(),
            issuer.name(),
            utc(self.issued),
            utc(self.expires),
        ];
        if !revoked.is_empty() {
            let entries: Vec<_> = revoked
                .iter()
                .map(|serial| sequence(&[serial.clone(), utc(self.issued)]))
                .collect();
            parts.push(sequence(&entries));
        }
        let number = sequence(&[der(6, &[0x55, 0x1d, 20]), der(4, &der(2, &[1]))]);
        parts.push(der(0xa0, &sequence(&[issuer.identifier(), number])));
        signed(&parts, issuer)
    }
}

/// A key pair by its one repeated byte, which is also the serial number of its certificate.
#[derive(Clone, Copy)]
struct Key(u8, &'static str);

const ROOT: Key = Key(1, "Simulated SGX Root CA");
const PCK_CA: Key = Key(2, "Simulated SGX PCK Platform CA");
const PCK: Key = Key(3, "Simulated SGX PCK Certificate");
const SIGNER: Key = Key(4, "Simulated SGX TCB Signing");
const ATTESTATION: Key = Key(5, "");

/// 1.2.840.113741.1.13.1
const SGX: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1];

impl Key {
    fn key(self) -> SigningKey {
        SigningKey::from_bytes(&[self.0; 32].into()).unwrap()
    }

    /// Returns X and Y.
    fn public(self) -> [u8; 64] {
        self.key().verifying_key().to_encoded_point(false).as_bytes()[1..]
            .try_into()
            .unwrap()
    }

    /// Returns R and S.
    fn sign(self, bytes: &[u8]) -> [u8; 64] {
        let signature: Signature = self.key().sign(bytes);
        signature.to_bytes().into()
    }

    fn serial(self) -> Vec<u8> {
        der(2, &[self.0])
    }

    fn name(self) -> Vec<u8> {
        let common = sequence(&[der(6, &[0x55, 4, 3]), der(12, self.1.as_bytes())]);
        sequence(&[der(0x31, &common)])
    }

    /// Returns the extension that names the key as that of the issuer.
    fn identifier(self) -> Vec<u8> {
        let identifier = sequence(&[der(0x80, &[self.0; 20])]);
        sequence(&[der(6, &[0x55, 0x1d, 35]), der(4, &identifier)])
    }
}

/// Returns a certificate: RFC 5280, section 4.
fn certificate(subject: Key, issuer: Key, extensions: &[Vec<u8>]) -> Vec<u8> {
    let p256 = sequence(&[
        der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1]),
        der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]),
    ]);
    let key = der(3, &[&[0, 4][..], &subject.public()].concat());
    let validity = sequence(&[utc(time("2020-01-01T00:00:00Z")), utc(time("2049-01-01T00:00:00Z"))]);
    let parts = [
        der(0xa0, &der(2, &[2])),
        subject.serial(),
        algorithm(),
        issuer.name(),
        validity,
        subject.name(),
        sequence(&[p256, key]),
        der(0xa3, &sequence(&[extensions, &[issuer.identifier()]].concat())),
    ];
    signed(&parts, issuer)
}

/// Returns the extensions of who may sign certificates and lists of revoked ones.
fn authority() -> Vec<Vec<u8>> {
    let critical = |oid: u8, value: Vec<u8>| sequence(&[der(6, &[0x55, 0x1d, oid]), der(1, &[0xff]), der(4, &value)]);
    vec![
        critical(19, sequence(&[der(1, &[0xff])])),
        critical(15, der(3, &[1, 6])),
    ]
}

fn signed(parts: &[Vec<u8>], issuer: Key) -> Vec<u8> {
    let body = sequence(parts);
    let signature: Signature = issuer.key().sign(&body);
    let signature = der(3, &[&[0], signature.to_der().as_bytes()].concat());
    sequence(&[body, algorithm(), signature])
}

/// ecdsa-with-SHA256
fn algorithm() -> Vec<u8> {
    sequence(&[der(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2])])
}

fn utc(time: Timestamp) -> Vec<u8> {
    der(23, time.strftime("%y%m%d%H%M%SZ").to_string().as_bytes())
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = (content.len() as u16).to_be_bytes();
    let length = match content.len() {
        0..0x80 => vec![low],
        0x80..0x100 => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag][..], &length, content].concat()
}

fn pem(certificate: &[u8]) -> String {
    let text = BASE64.encode(certificate);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}
