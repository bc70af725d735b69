//! The attester `tdx`.

use serde::Deserialize;

use super::CocoError;
use super::octets::Octets;
use crate::evidence::{Evidence, TdxEvidence};

#[derive(Deserialize)]
pub(super) struct Tdx {
    quote: Octets,
    #[serde(default)]
    cc_eventlog: Option<Octets>,
}

impl Tdx {
    pub(super) fn evidence(self) -> Result<Evidence, CocoError> {
        let log = self.cc_eventlog.map(|log| log.base64("cc_eventlog")).transpose()?;
        Ok(Evidence::Tdx(TdxEvidence {
            quote: self.quote.base64("quote")?.into(),
            collateral: None,
            event_log: log.map(Into::into),
        }))
    }
}
