//! The attester `tpm`, and the quotes of the others that have a vTPM.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use super::CocoError;
use super::octets::Octets;
use crate::evidence::{Bytes, Evidence, TpmEvidence};

#[derive(Deserialize)]
pub(super) struct Tpm {
    ak_public: Octets,
    tpm_quote: Quote,
}

/// A quote over all PCRs of the bank SHA-256.
#[derive(Deserialize)]
pub(super) struct Quote {
    pub(super) message: Octets,
    pub(super) signature: Octets,
    pcrs: Vec<Octets>,
}

impl Tpm {
    /// The message and `TPMT_SIGNATURE` are base64, values of PCRs hex.
    pub(super) fn evidence(self) -> Result<Evidence, CocoError> {
        let pcrs = values(self.tpm_quote.pcrs)?;
        Ok(Evidence::Tpm(TpmEvidence {
            quote: self.tpm_quote.message.base64("tpm_quote.message")?.into(),
            signature: self.tpm_quote.signature.base64("tpm_quote.signature")?.into(),
            pcrs,
            ak: self.ak_public.base64("ak_public")?.into(),
            ..TpmEvidence::default()
        }))
    }
}

impl Quote {
    /// Returns the values of PCRs by bank and index, and message and signature as they are.
    pub(super) fn split(self) -> Result<(Values, Octets, Octets), CocoError> {
        Ok((values(self.pcrs)?, self.message, self.signature))
    }
}

pub(super) type Values = BTreeMap<String, BTreeMap<u8, Bytes>>;

/// Returns values by bank and index, which is their place in the list.
fn values(pcrs: Vec<Octets>) -> Result<Values, CocoError> {
    if pcrs.len() > 24 {
        return Err(CocoError::Value {
            field: "pcrs",
            expected: "no more than 24",
        });
    }
    let values = (0..24)
        .zip(pcrs)
        .map(|(pcr, value)| Ok((pcr, value.hex("pcrs")?.into())));
    let values = values.collect::<Result<_, CocoError>>()?;
    Ok(BTreeMap::from([("sha256".into(), values)]))
}
