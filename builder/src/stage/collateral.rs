//! What verification needs and did not come along with evidence: endorsements that the makers of CPUs give away.

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::intel::{quote_ca, quote_fmspc};
use dcap_qvl::verify::Quote;
use measure::evidence::snp::EndorsementPaths;
use measure::evidence::{self, Bytes, Evidence, SnpEvidence, SnpReport, TdxEvidence};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::mend::{Exit, OrMend as _};
use crate::world::vendor::Said;

/// Where the endorsements are.
#[derive(Clone, Debug)]
pub struct Services {
    /// AMD's Key Distribution Service (KDS), or a cache of it.
    pub amd: String,
    /// Intel's Provisioning Certification Service (PCS), or a cache of it (PCCS).
    pub intel: String,
    /// The list of what Intel's root has revoked; a PCCS has it among its other paths.
    pub root_crl: String,
}

impl Default for Services {
    fn default() -> Self {
        Self {
            amd: "https://kdsintf.amd.com".into(),
            intel: "https://api.trustedservices.intel.com".into(),
            root_crl: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".into(),
        }
    }
}

/// How a URL is asked; it gives nothing where there is nothing.
pub type Ask<'a> = &'a dyn Fn(&str) -> Result<Option<Said>>;

impl Services {
    /// Takes Intel's endorsements from the PCCS at `url`.
    pub fn from_pccs(&mut self, url: &str) {
        self.intel = without_slash(url);
        self.root_crl = format!("{}/sgx/certification/v4/rootcacrl", self.intel);
    }

    /// Takes AMD's endorsements from `url`.
    pub fn from_kds(&mut self, url: &str) {
        self.amd = without_slash(url);
    }

    /// Returns the URLs of what `evidence` lacks; of alternatives, all.
    ///
    /// # Errors
    /// Evidence that does not say whose endorsements it needs.
    pub fn missing(&self, evidence: &Evidence) -> Result<Vec<String>> {
        match evidence {
            Evidence::Snp(snp) => {
                let paths = alternatives(snp)?;
                Ok(paths.iter().flat_map(|paths| self.lacking(snp, paths)).collect())
            }
            Evidence::Tdx(TdxEvidence {
                collateral: Some(_), ..
            }) => Ok(Vec::new()),
            Evidence::Tdx(tdx) => Ok(self.intel(&tdx.quote)?.into()),
            Evidence::Tpm(tpm) => tpm
                .hcl
                .as_ref()
                .map_or(Ok(Vec::new()), |hcl| self.missing(&hcl.hardware)),
        }
    }

    /// Adds to `evidence` what it lacks. Nothing that comes is believed here: verification judges it.
    ///
    /// # Errors
    /// A service does not give it, or gives something else.
    pub fn complete(&self, evidence: &mut Evidence, ask: Ask<'_>) -> Result<()> {
        match evidence {
            Evidence::Snp(snp) => self.complete_snp(snp, ask),
            Evidence::Tdx(TdxEvidence {
                collateral: Some(_), ..
            }) => Ok(()),
            Evidence::Tdx(tdx) => {
                let collateral = self.collateral(&tdx.quote, ask)?;
                tdx.collateral = Some(serde_json::to_vec(&collateral)?.into());
                Ok(())
            }
            Evidence::Tpm(tpm) => match &mut tpm.hcl {
                Some(hcl) => self.complete(&mut hcl.hardware, ask),
                None => Ok(()),
            },
        }
    }

    /// What a report of one product lacks: the VEK where no certificate came along, those above it where fewer than three
    /// did, and the list of what is revoked.
    fn lacking(&self, snp: &SnpEvidence, paths: &EndorsementPaths) -> Vec<String> {
        let vek = paths.vek.as_ref().filter(|_| snp.certificates.is_empty());
        let chain = Some(&paths.chain).filter(|_| snp.certificates.len() < 3);
        let crl = Some(&paths.crl).filter(|_| snp.crls.is_empty());
        let lacking = vek.into_iter().chain(chain).chain(crl);
        lacking.map(|path| format!("{}{path}", self.amd)).collect()
    }

    /// A report of version 2 does not say which product it is of: the VCEK is where the right one is.
    fn complete_snp(&self, snp: &mut SnpEvidence, ask: Ask<'_>) -> Result<()> {
        for paths in alternatives(snp)? {
            let mut completed = snp.clone();
            if self.complete_as(&mut completed, &paths, ask)? {
                *snp = completed;
                return Ok(());
            }
        }
        let problem = format!("{} has no VCEK of this chip at this TCB", self.amd);
        Err(Exit::Outside.because(problem, "ask who runs the machine for its certificates"))
    }

    fn complete_as(&self, snp: &mut SnpEvidence, paths: &EndorsementPaths, ask: Ask<'_>) -> Result<bool> {
        for url in self.lacking(snp, paths) {
            let Some(said) = ask(&url)? else {
                return Ok(false);
            };
            if url.ends_with("/crl") {
                snp.crls.push(said.bytes.into());
                continue;
            }
            let certificates = evidence::certificates(&said.bytes);
            let certificates = certificates.or_mend(Exit::Outside, format!("{url} is no certificate"), OTHER)?;
            let new: Vec<Bytes> = certificates
                .into_iter()
                .filter(|der| !snp.certificates.contains(der))
                .collect();
            snp.certificates.extend(new);
        }
        Ok(true)
    }

    /// The URLs of a quote's collateral: Intel SGX and TDX Provisioning Certification Service API, version 4.
    fn intel(&self, quote: &[u8]) -> Result<[String; 4]> {
        const MEND: &str = "collateral is for quotes with certificates of Intel, versions 4 and 5";
        let unknown = "the quote does not say which platform it is of";
        let quote =
            Quote::parse(quote).map_err(|error| Exit::Unsupported.because(format!("{unknown}: {error}"), MEND))?;
        let of_platform = quote_fmspc(&quote).and_then(|fmspc| Ok((fmspc, quote_ca(&quote)?)));
        let (fmspc, ca) =
            of_platform.map_err(|error| Exit::Unsupported.because(format!("{unknown}: {error}"), MEND))?;
        let (base, ca) = (&self.intel, ca.as_id_str());
        Ok([
            format!("{base}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"),
            self.root_crl.clone(),
            format!(
                "{base}/tdx/certification/v4/tcb?fmspc={}",
                data_encoding::HEXUPPER.encode(&fmspc)
            ),
            format!("{base}/tdx/certification/v4/qe/identity"),
        ])
    }

    fn collateral(&self, quote: &[u8], ask: Ask<'_>) -> Result<QuoteCollateralV3> {
        let urls = self.intel(quote)?;
        let [pck_crl, root_crl, tcb, identity] = urls.each_ref().map(|url| -> Result<Said> {
            let none = || Exit::Outside.because(format!("there is nothing at {url}"), OTHER);
            ask(url)?.ok_or_else(none)
        });
        let (pck_crl, root_crl, tcb, identity) = (pck_crl?, root_crl?, tcb?, identity?);
        let (tcb_info, tcb_info_signature) = signed(&tcb, "tcbInfo")?;
        let (qe_identity, qe_identity_signature) = signed(&identity, "enclaveIdentity")?;
        Ok(QuoteCollateralV3 {
            pck_crl_issuer_chain: chain(&pck_crl, &["sgx-pck-crl-issuer-chain"])?,
            root_ca_crl: der(root_crl.bytes),
            pck_crl: der(pck_crl.bytes),
            tcb_info_issuer_chain: chain(&tcb, &["tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"])?,
            tcb_info,
            tcb_info_signature,
            qe_identity_issuer_chain: chain(&identity, &["sgx-enclave-identity-issuer-chain"])?,
            qe_identity,
            qe_identity_signature,
            pck_certificate_chain: None,
        })
    }
}

const OTHER: &str = "name another service: --kds URL, --pccs URL";

/// Returns the text of the document `name`, which is signed to the byte, and its signature.
fn signed(said: &Said, name: &str) -> Result<(String, Vec<u8>)> {
    #[derive(Deserialize)]
    struct Signature {
        signature: String,
    }
    let other = || format!("the service answers with something else than {name} and its signature");
    let signature: Signature = serde_json::from_slice(&said.bytes).or_mend(Exit::Outside, other(), OTHER)?;
    let text = str::from_utf8(&said.bytes).or_mend(Exit::Outside, other(), OTHER)?;
    let from = text.strip_prefix(&format!("{{\"{name}\":"));
    let from = from.ok_or_else(|| Exit::Outside.because(other(), OTHER))?;
    let mut values = serde_json::Deserializer::from_str(from).into_iter::<IgnoredAny>();
    values.next(); // the document: the whole text is JSON
    Ok((from[..values.byte_offset()].to_owned(), hex(&signature.signature)?))
}

fn hex(text: &str) -> Result<Vec<u8>> {
    HEX.decode(text.as_bytes())
        .ok()
        .context("a signature of the service is no hex")
}

/// A list in DER; a PCCS gives it in hex.
fn der(bytes: Vec<u8>) -> Vec<u8> {
    HEX.decode(bytes.trim_ascii()).unwrap_or(bytes)
}

/// A chain of certificates in PEM, which a header has with escapes (RFC 3986, section 2.1).
fn chain(said: &Said, names: &[&str]) -> Result<String> {
    let value = names.iter().find_map(|name| said.headers.get(*name));
    let value = value.with_context(|| format!("the service sends no header {}", names[0]))?;
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let escape = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escape.with_context(|| format!("the header {} has broken escapes", names[0]))?);
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).with_context(|| format!("the header {} is no text", names[0]))
}

fn alternatives(snp: &SnpEvidence) -> Result<Vec<EndorsementPaths>> {
    let report = SnpReport::read(&snp.report);
    let report = report.or_mend(
        Exit::Unsupported,
        "the evidence has no report that begat knows",
        "collect it again",
    )?;
    Ok(report.endorsement_paths())
}

fn without_slash(url: &str) -> String {
    url.trim_end_matches('/').to_owned()
}
