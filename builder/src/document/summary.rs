//! A verification summary: what a verifier found a release to be, for those who trust the verifier and do not verify
//! themselves. SLSA VSA v1, as of the specification 1.2, in an in-toto statement; `begat_notChecked` is what the verifier
//! has left open.

use std::collections::BTreeSet;

use jiff::Timestamp;
use measure::{Sha256, Sha384};
use serde_json::json;

use super::dsse::{self, Bundle};
use super::statement::{self, NAMESPACE};
use crate::model::Manifest;
use crate::model::key::SigningKey;

/// A release that was verified, and how.
pub struct Summary<'a> {
    pub manifest: &'a Manifest,
    /// The digest of the trust policy that was applied.
    pub policy: Sha256,
    /// The digest of the quorum file, where one was applied, too.
    pub quorum: Option<Sha256>,
    /// The lowest generation that was accepted.
    pub floor: u32,
    /// The time as of which it was verified.
    pub at: Timestamp,
    /// The records of the generations that lead to it, itself last.
    pub records: &'a [(u32, Sha384)],
    /// What was not checked.
    pub unchecked: &'a BTreeSet<String>,
}

impl Summary<'_> {
    /// Returns the statement.
    pub fn statement(&self) -> String {
        let record = |(number, digest): &(u32, Sha384)| json!({"digest": {"sha384": digest}, "uri": format!("{NAMESPACE}/record/v1/{number}")});
        let release = self.manifest.digest();
        let predicate = json!({
            "begat_notChecked": self.unchecked,
            "inputAttestations": self.records.iter().map(record).collect::<Vec<_>>(),
            "policy": {
                "annotations": {"min-generation": self.floor, "quorum": self.quorum},
                "digest": {"sha256": self.policy},
                "uri": format!("{NAMESPACE}/trust-policy/v1"),
            },
            "resourceUri": format!("{NAMESPACE}/release/{release}"),
            "slsaVersion": "1.2",
            "timeVerified": self.at,
            "verificationResult": "PASSED",
            "verifiedLevels": ["BEGAT_CHAIN_VERIFIED"],
            "verifier": {
                "id": format!("{NAMESPACE}/verifier/v1"),
                "version": {"begat": env!("CARGO_PKG_VERSION")},
            },
        });
        let files = self.manifest.files.iter().map(statement::resource);
        let subject = [statement::manifest_of(self.manifest)]
            .into_iter()
            .chain(files)
            .collect();
        statement::text(subject, "https://slsa.dev/verification_summary/v1", &predicate)
    }
}

/// Returns the summary in a bundle that `key` has signed.
pub fn bundle(summary: &Summary<'_>, key: &SigningKey) -> String {
    let payload = summary.statement().into_bytes();
    let bundle = Bundle {
        signature: key.sign(&dsse::pae(&payload)),
        payload: payload.into(),
        key: key.public().id().to_string(),
    };
    bundle.text()
}
