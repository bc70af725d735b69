//! The trust policy of a verifier: what is believed that no evidence can show.

use std::collections::BTreeSet;

use anyhow::Result;
use jiff::Timestamp;
use measure::evidence::{SnpPolicy, TdxPolicy, TpmPolicy};
use measure::{Digest, Sha256, Sha384};
use serde::Deserialize;

use super::recipe;
use crate::mend::Exit;

/// What a verifier accepts. The default is strict: no debugging, no outdated platform, no init-data, no key of a TPM and
/// no release as a root.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trust {
    /// Releases that are generation 0 because the verifier says so, each named once.
    pub root: Vec<Root>,
    /// The lowest generation that is not rolled back.
    pub min_generation: u32,
    /// Whether the machine that vouches for a release may be one that measured it again, while another built it.
    pub allow_split: bool,
    /// `HOST_DATA` that pins a builder on SEV-SNP; without any it must be zero, as it is without init-data.
    pub host_data: Vec<Digest<32>>,
    /// `MRCONFIGID` that pins a builder on TDX; without any it must be zero.
    pub mr_config_id: Vec<Sha384>,
    /// Recipes that generations may be built from, by the digests of their folders; any, where the policy has none.
    pub recipes: Option<BTreeSet<Sha256>>,
    /// Locks that generations may be built from, by the digests of their texts.
    pub locks: Option<BTreeSet<Sha256>>,
    /// Suites that packages may come from, each as `ARCHIVE/SUITE`.
    pub suites: Option<BTreeSet<String>>,
    /// Signed metadata that suites may have, by the digests of their `InRelease` files.
    pub metadata: Option<BTreeSet<Sha256>>,
    /// Payloads that may enter, by their digests.
    pub payloads: Option<BTreeSet<Sha256>>,
    pub snp: SnpPolicy,
    pub tdx: TdxPolicy,
    pub tpm: TpmPolicy,
}

/// A release that is generation 0. Nobody attests who built and signed it, so that what its record says of its number and
/// its validity counts only as far as the policy says the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Root {
    /// The digest of its manifest.
    pub release: Sha256,
    /// The digest of its record: with it, number and validity are the record's.
    pub record: Option<Sha384>,
    /// Its number; without it, the record's if that is named here, else 0.
    pub generation: Option<u32>,
    /// When it begins to be valid.
    pub not_before: Option<Timestamp>,
    /// The last instant at which it is valid.
    pub not_after: Option<Timestamp>,
}

impl Trust {
    /// Reads the text of a policy, in TOML; `name` is the file's in messages.
    ///
    /// # Errors
    /// Text that is no policy, with the line; a root that is named twice, or whose validity ends before it begins.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let trust: Self = recipe::parse(name, text)?;
        let mut known = BTreeSet::new();
        for Root {
            release,
            not_before,
            not_after,
            ..
        } in &trust.root
        {
            if !known.insert(release) {
                let problem = format!("{name} names the root {release} twice");
                return Err(Exit::Usage.because(problem, "keep one [[root]] for each release"));
            }
            if let (Some(from), Some(to)) = (not_before, not_after)
                && from > to
            {
                let problem = format!("{name}: the root {release} is valid from {from} to {to}, which is never");
                return Err(Exit::Usage.because(problem, "give a later not-after"));
            }
        }
        Ok(trust)
    }

    /// Returns what the policy says of this release as generation 0, if it names it.
    pub fn root(&self, release: Sha256) -> Option<&Root> {
        self.root.iter().find(|root| root.release == release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_what_it_leaves_unchecked_is_said() {
        let (digest, record) = (Sha256::of("a"), Sha384::of("a"));
        let text = format!(
            "min-generation = 3\nhost-data = [\"{digest}\"]\nrecipes = [\"{digest}\"]\nsuites = [\"debian/trixie\"]\n\
             payloads = []\n[[root]]\nrelease = \"{digest}\"\nrecord = \"{record}\"\nnot-after = \"2027-01-01T00:00:00Z\"\n\
             [snp]\nminimum-tcb.milan = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}\n\
             [tdx]\nminimum-tcb-evaluation = 18\nallow-attributes = [\"pks\", \"perfmon\"]\n\
             [tpm]\nkeys = [\"{digest}\"]\nallow-measured-boot = true\n\
             [[tpm.paravisor]]\nplatform = \"snp\"\nmeasurement = \"{record}\"\n\
             [[tpm.paravisor]]\nplatform = \"tdx\"\nmrtd = \"{record}\"\nrtmrs = [\"{zeros}\", \"{zeros}\", \"{zeros}\", \
             \"{zeros}\"]\n",
            zeros = Sha384::ZERO,
        );
        let trust = Trust::parse("trust.toml", &text).unwrap();
        let root = trust.root(digest).unwrap();
        assert_eq!(
            (root.record, root.generation, trust.min_generation),
            (Some(record), None, 3)
        );
        assert_eq!(root.not_after, "2027-01-01T00:00:00Z".parse().ok());
        assert_eq!(
            (trust.payloads, trust.locks),
            (Some(BTreeSet::new()), None),
            "none, and any"
        );
        assert_eq!((trust.snp.minimum_tcb.len(), trust.tpm.paravisor.len()), (1, 2));
        let (tdx, tpm) = (trust.tdx.unchecked(), trust.tpm.unchecked());
        assert!(tpm.iter().any(|what| what.contains("allow-measured-boot")), "{tpm:?}");
        assert!(tdx.iter().any(|what| what.contains("Perfmon")), "{tdx:?}");
    }

    #[test]
    fn a_root_is_named_once_and_can_be_valid() {
        let root = |terms: &str| format!("[[root]]\nrelease = \"{}\"\n{terms}\n", Sha256::of("a"));
        let never = "not-before = \"2027-01-01T00:00:00Z\"\nnot-after = \"2026-01-01T00:00:00Z\"";
        for (text, why) in [
            (root("") + &root("generation = 7"), "twice"),
            (root(never), "which is never"),
            (root("roots = []"), "unknown field"),
        ] {
            let error = Trust::parse("trust.toml", &text).unwrap_err();
            assert!(crate::mend::report(&error).contains(why), "{text}: {error:#}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_not_ignored() {
        let error = Trust::parse("trust.toml", "min_generation = 3\n").unwrap_err();
        assert!(crate::mend::report(&error).contains("unknown field"), "{error:#}");
    }
}
