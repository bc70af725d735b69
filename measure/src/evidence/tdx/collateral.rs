//! What Intel publishes about platforms, as it travels with a quote.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use dcap_qvl::intel::{PckExtension, extract_cert_chain, parse_pck_extension, parse_pck_extension_from_pem};
use dcap_qvl::verify::Quote;
use dcap_qvl::{QeIdentity, QuoteCollateralV3, TcbInfo};
use jiff::Timestamp;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;

use super::TdxFinding;

/// Collateral that nobody has verified yet, in parts that can be compared.
pub(super) struct Collateral {
    whole: QuoteCollateralV3,
    tcb_info: TcbInfo,
    dates: Vec<Dated>,
}

/// A part of the collateral and the time that it is for.
struct Dated {
    what: &'static str,
    /// Nothing where a part that is too new does no harm.
    issued: Option<Timestamp>,
    expires: Timestamp,
}

impl Collateral {
    /// Returns the collateral in the JSON `bytes`, of which there must be some.
    pub(super) fn read(bytes: Option<&[u8]>) -> Result<Self, TdxFinding> {
        let bytes = bytes.ok_or(TdxFinding::TdxCollateralMissing)?;
        if bytes.len() > LARGEST {
            return Err(malformed("it is longer than 1 MiB"));
        }
        let whole: QuoteCollateralV3 = serde_json::from_slice(bytes).map_err(malformed)?;
        let tcb_info: TcbInfo = serde_json::from_str(&whole.tcb_info).map_err(malformed)?;
        let qe_identity: QeIdentity = serde_json::from_str(&whole.qe_identity).map_err(malformed)?;
        let dates = [
            Dated::document("the TCB information", &tcb_info.issue_date, &tcb_info.next_update)?,
            Dated::document("the QE identity", &qe_identity.issue_date, &qe_identity.next_update)?,
            Dated::crl("the CRL of the root", &whole.root_ca_crl)?,
            Dated::crl("the CRL of the PCK certificates", &whole.pck_crl)?,
        ];
        Ok(Self {
            whole,
            tcb_info,
            dates: dates.into(),
        })
    }

    /// Returns a finding for each part that was not valid at `at`.
    pub(super) fn not_of(&self, at: Timestamp) -> Vec<TdxFinding> {
        self.dates.iter().filter_map(|dated| dated.finding(at)).collect()
    }

    /// Returns a finding for each way in which the collateral is for another platform than that of the `quote`; of a
    /// quote without a certificate that can be read, verification says what is wrong.
    pub(super) fn not_for(&self, quote: &[u8]) -> Vec<TdxFinding> {
        let Some(platform) = self.platform(quote) else {
            return Vec::new();
        };
        let TcbInfo { id, fmspc, pce_id, .. } = &self.tcb_info;
        // PCEID: dcap-qvl does not compare it, while the TCB levels are those of one PCE
        let pairs = [
            ("FMSPC", fmspc.to_ascii_lowercase(), HEX.encode(&platform.fmspc)),
            ("PCEID", pce_id.to_ascii_lowercase(), HEX.encode(&platform.pce_id)),
            ("TEE", id.clone(), "TDX".into()),
        ];
        let differ = pairs.into_iter().filter(|(_, collateral, quote)| collateral != quote);
        differ
            .map(|(what, collateral, quote)| TdxFinding::TdxCollateralDiffers {
                what,
                collateral,
                quote,
            })
            .collect()
    }

    /// Returns what the certificate of the platform (PCK) says, which nobody has verified yet.
    fn platform(&self, quote: &[u8]) -> Option<PckExtension> {
        if let Some(chain) = &self.whole.pck_certificate_chain {
            return parse_pck_extension_from_pem(chain.as_bytes()).ok();
        }
        let chain = extract_cert_chain(&Quote::parse(quote).ok()?).ok()?;
        parse_pck_extension(chain.first()?).ok()
    }

    pub(super) fn into_whole(self) -> QuoteCollateralV3 {
        self.whole
    }
}

impl Dated {
    fn document(what: &'static str, issued: &str, expires: &str) -> Result<Self, TdxFinding> {
        Ok(Self {
            what,
            issued: Some(issued.parse().map_err(malformed)?),
            expires: expires.parse().map_err(malformed)?,
        })
    }

    /// A list that is newer than the time of verification revokes no less than the one of that time: it may be used, as
    /// dcap-qvl does.
    fn crl(what: &'static str, der: &[u8]) -> Result<Self, TdxFinding> {
        let list: CertificateList = CertificateList::from_der(der).map_err(malformed)?;
        let expires = list.tbs_cert_list.next_update.map(|time| time.to_unix_duration());
        let expires = expires.and_then(|expires| Timestamp::new(i64::try_from(expires.as_secs()).ok()?, 0).ok());
        Ok(Self {
            what,
            issued: None,
            expires: expires.ok_or_else(|| malformed("a CRL does not say when it ends"))?,
        })
    }

    fn finding(&self, at: Timestamp) -> Option<TdxFinding> {
        let Self { what, issued, expires } = *self;
        let early = issued.filter(|issued| at < *issued);
        let early = early.map(|issued| TdxFinding::TdxCollateralNotYetValid { what, issued, at });
        early.or_else(|| {
            (at >= expires).then_some(TdxFinding::TdxCollateralExpired {
                what,
                expired: expires,
                at,
            })
        })
    }
}

fn malformed(because: impl ToString) -> TdxFinding {
    let because: String = because.to_string();
    TdxFinding::TdxCollateralMalformed { because }
}

/// More than any collateral has, in bytes: its lists of revoked certificates are the largest part.
const LARGEST: usize = 1 << 20;
