//! Init-data: what the host hands a pod at launch, and what of it the platform reports.
//!
//! Confidential Containers, `kbs/docs/initdata.md` of Trustee, version 0.1.0.

use anyhow::Result;
use measure::{Digest, Sha384};
use serde::Deserialize;
use sha2::{Digest as _, Sha256, Sha512};

use super::recipe;
use crate::mend::{Exit, OrMend as _};

/// The digest of a pod's init-data, as the platforms have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InitData {
    /// `HOST_DATA` of a guest of SEV-SNP.
    pub host_data: Digest<32>,
    /// `MRCONFIGID` of a TD.
    pub mr_config_id: Sha384,
}

/// What of the file decides its digest.
#[derive(Deserialize)]
struct File {
    version: String,
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

impl InitData {
    /// Returns the digest of init-data by the algorithm that it names: of these very bytes, so that a space counts.
    ///
    /// # Errors
    /// Bytes that are no init-data of version 0.1.0; `name` is the file's in messages.
    pub fn of(name: &str, bytes: &[u8]) -> Result<Self> {
        const MEND: &str = "give the TOML file, not the annotation that is made of it";
        let text = std::str::from_utf8(bytes).or_mend(Exit::Usage, format!("{name} is no init-data"), MEND)?;
        let file: File = recipe::parse(name, text)?;
        if file.version != "0.1.0" {
            let problem = format!("{name} has version {:?}, and this begat knows 0.1.0", file.version);
            return Err(Exit::Unsupported.because(problem, "use init-data of version 0.1.0"));
        }
        let digest = file.algorithm.digest(bytes);
        Ok(Self {
            host_data: fit(&digest).into(),
            mr_config_id: fit(&digest).into(),
        })
    }
}

impl Algorithm {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => sha2::Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// A digest in a field of `N` bytes: cut at the end, or filled with zeros there.
fn fit<const N: usize>(digest: &[u8]) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(digest) {
        *to = *from;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;

    fn text(algorithm: &str) -> String {
        format!("version = \"0.1.0\"\nalgorithm = \"{algorithm}\"\n[data]\n\"aa.toml\" = \"x\"\n")
    }

    fn of(algorithm: &str) -> [String; 2] {
        let init_data = InitData::of("initdata.toml", text(algorithm).as_bytes()).unwrap();
        [init_data.host_data.to_string(), init_data.mr_config_id.to_string()]
    }

    /// By sha256sum, sha384sum and sha512sum of GNU coreutils.
    #[test]
    fn the_digest_is_cut_or_filled_to_the_field() {
        const SHA256: &str = "040ca9c9b34b963c759b608550047d613265fa056fb182e1b020bf79bc0f6a95";
        const SHA384: &str =
            "cabe8965db13a85166f1fc8ecafc9d85dc31a9718242e7e80fcab0f77457ad919f24fb2842c2eeeeb6ca4ff906a22164";
        const SHA512: &str = "a00a05b0d6c1271db9f3a2b8c824658f44745688a2df2e5bab5f6e6ed037a263277c5f93588cf49cb529aa62b9aad4a28b633373348e160e9ff3604773799699";
        assert_eq!(of("sha256"), [SHA256.to_owned(), format!("{SHA256}{}", "0".repeat(32))]);
        assert_eq!(of("sha384"), [&SHA384[..64], SHA384]);
        assert_eq!(of("sha512"), [&SHA512[..64], &SHA512[..96]]);
    }

    #[test]
    fn what_is_no_init_data_is_refused() {
        let refusal = |text: &str| mend::report(&InitData::of("i.toml", text.as_bytes()).expect_err(text));
        assert!(refusal("algorithm = \"sha256\"").contains("missing field `version`"));
        assert!(refusal(&text("sha1")).contains("unknown variant `sha1`"));
        assert!(refusal(&text("sha256").replace("0.1.0", "0.2.0")).contains("version \"0.2.0\""));
        assert!(InitData::of("i.toml", &[0xff]).is_err());
    }
}
