//! The trust policy of a verifier: what is believed that no evidence can show.

use anyhow::Result;
use measure::evidence::{SnpPolicy, TdxPolicy, TpmPolicy};
use measure::{Digest, Sha256, Sha384};
use serde::Deserialize;

use super::recipe;

/// What a verifier accepts. The default is strict: no debugging, no outdated platform, no init-data, no key of a TPM and
/// no release as a root.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Trust {
    /// Releases, by the digests of their manifests, that are generation 0 because the verifier says so.
    pub roots: Vec<Sha256>,
    /// The lowest generation that is not rolled back.
    pub min_generation: u32,
    /// Whether the machine that vouches for a release may be one that measured it again, while another built it.
    pub allow_split: bool,
    /// `HOST_DATA` that pins a builder on SEV-SNP; without any it must be zero, as it is without init-data.
    pub host_data: Vec<Digest<32>>,
    /// `MRCONFIGID` that pins a builder on TDX; without any it must be zero.
    pub mr_config_id: Vec<Sha384>,
    pub snp: SnpPolicy,
    pub tdx: TdxPolicy,
    pub tpm: TpmPolicy,
}

impl Trust {
    /// Reads the text of a policy, in TOML; `name` is the file's in messages.
    ///
    /// # Errors
    /// Text that is no policy, with the line.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        recipe::parse(name, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_and_what_it_leaves_unchecked_is_said() {
        let digest = Sha256::of("a");
        let text = format!(
            "roots = [\"{digest}\"]\nmin-generation = 3\nhost-data = [\"{digest}\"]\n\
             [snp]\nminimum-tcb.milan = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}\n\
             [tpm]\nkeys = [\"{digest}\"]\nallow-measured-boot = true\n"
        );
        let trust = Trust::parse("trust.toml", &text).unwrap();
        assert_eq!((trust.roots, trust.min_generation), (vec![digest], 3));
        let (snp, tpm) = (trust.snp.unchecked(), trust.tpm.unchecked());
        assert!(tpm.iter().any(|what| what.contains("allow-measured-boot")), "{tpm:?}");
        assert!(!snp.iter().any(|what| what.contains("Milan")), "{snp:?}");
    }

    #[test]
    fn an_unknown_key_is_refused_not_ignored() {
        let error = Trust::parse("trust.toml", "min_generation = 3\n").unwrap_err();
        assert!(crate::mend::report(&error).contains("unknown field"), "{error:#}");
    }
}
