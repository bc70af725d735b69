//! The ID block of a launch of SEV-SNP, and what it is signed with.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::Result;
use measure::snp::{self, GuestPolicy, IdAuth, IdKey, Identity};
use measure::{Digest, Sha384};
use serde::Serialize;

use crate::mend::{Exit, OrMend as _};
use crate::world::given;

/// An ID block: with it, SEV firmware starts this launch and no other, and reports name who signed it.
#[derive(clap::Args)]
#[command(next_help_heading = "ID block")]
#[group(skip)]
#[command(group(clap::ArgGroup::new("signer").args(["id_key", "key_less"])))]
pub(super) struct IdBlock {
    /// Writes the ID block of the launch here: base64, as QEMU takes it in sev-snp-guest,id-block= and kata in
    /// snp_id_block.
    #[arg(long, value_name = "PATH", requires_all = ["id_auth", "signer"])]
    id_block: Option<PathBuf>,
    /// Writes the ID authentication here: base64, as QEMU takes it in sev-snp-guest,id-auth= and kata in snp_id_auth.
    #[arg(long, value_name = "PATH", requires = "id_block")]
    id_auth: Option<PathBuf>,
    /// Private key that signs the ID block: P-384, in PEM, PKCS#8 or SEC 1. Its digest is ID_KEY_DIGEST in the reports
    /// of every launch that it signs.
    #[arg(long, value_name = "PATH", requires = "id_block")]
    id_key: Option<PathBuf>,
    /// Signs the ID block without a private key: ID_KEY_DIGEST is that of this ID block and of no other.
    #[arg(long, requires = "id_block")]
    key_less: bool,
    /// Private key that signs the ID key; QEMU needs author-key-enabled=on with it.
    #[arg(long, value_name = "PATH", requires = "id_block")]
    author_key: Option<PathBuf>,
    /// Family of the guest, 16 bytes of your own choice: FAMILY_ID in reports.
    #[arg(long, value_name = "HEX", requires = "id_block", default_value_t = Digest::ZERO, hide_default_value = true)]
    family_id: Digest<16>,
    /// Image of the guest, 16 bytes of your own choice: IMAGE_ID in reports.
    #[arg(long, value_name = "HEX", requires = "id_block", default_value_t = Digest::ZERO, hide_default_value = true)]
    image_id: Digest<16>,
    /// Security version number of the guest: GUEST_SVN in reports.
    #[arg(long, value_name = "N", requires = "id_block", default_value_t = 0)]
    guest_svn: u32,
    /// Policy that the guest is started with, as in QEMU's policy=.
    #[arg(long, value_name = "VALUE", requires = "id_block", default_value_t = GuestPolicy::DEFAULT)]
    policy: GuestPolicy,
}

/// What reports say of an ID block.
#[derive(Serialize)]
pub(super) struct Reported {
    family_id: Digest<16>,
    image_id: Digest<16>,
    guest_svn: u32,
    policy: GuestPolicy,
    id_key_digest: Sha384,
    author_key_digest: Option<Sha384>,
}

impl IdBlock {
    /// Checks that an ID block is asked for one launch, not for several.
    pub(super) fn check(&self, launches: usize) -> Result<()> {
        if self.id_block.is_none() || launches == 1 {
            return Ok(());
        }
        let problem = format!("an ID block is for one launch, and {launches} are asked for");
        let mend = "run it once for each launch, with files of its own";
        Err(Exit::Usage.because(problem, mend))
    }

    /// Writes the ID block of a launch, if one is asked for.
    ///
    /// # Errors
    /// Files that cannot be read or written; a key that is none.
    pub(super) fn write(&self, launch: Sha384) -> Result<Option<Reported>> {
        let (Some(id_block), Some(id_auth)) = (&self.id_block, &self.id_auth) else {
            return Ok(None);
        };
        let block = snp::IdBlock::new(launch, &self.identity());
        let auth = self.sign(&block)?;
        write(id_block, &block)?;
        write(id_auth, &auth)?;
        Ok(Some(self.reported(&auth)))
    }

    const fn identity(&self) -> Identity {
        Identity {
            family_id: self.family_id,
            image_id: self.image_id,
            guest_svn: self.guest_svn,
            policy: self.policy,
        }
    }

    fn sign(&self, block: &snp::IdBlock) -> Result<IdAuth> {
        let auth = match &self.id_key {
            Some(path) => IdAuth::signed(block, &read_key(path)?),
            None => IdAuth::key_less(block),
        };
        let author = self.author_key.as_deref().map(read_key).transpose()?;
        Ok(match author {
            Some(author) => auth.with_author(&author),
            None => auth,
        })
    }

    fn reported(&self, auth: &IdAuth) -> Reported {
        Reported {
            family_id: self.family_id,
            image_id: self.image_id,
            guest_svn: self.guest_svn,
            policy: self.policy,
            id_key_digest: auth.id_key_digest(),
            author_key_digest: auth.author_key_digest(),
        }
    }
}

fn read_key(path: &Path) -> Result<IdKey> {
    const MEND: &str = "make a key: openssl ecparam -name secp384r1 -genkey -noout -out KEY.pem";
    /// In bytes.
    const LIMIT: u64 = 1 << 16;
    let bytes = given::read(path, LIMIT, MEND)?;
    let text = String::from_utf8_lossy(&bytes);
    let problem = format!("cannot sign with {}", path.display());
    IdKey::from_pem(&text).or_mend(Exit::Usage, problem, MEND)
}

fn write(path: &Path, value: &impl Display) -> Result<()> {
    given::write(path, format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;
    use crate::cli::measure::tests::failure;
    use crate::mend::Exit;

    const SNP: [&str; 4] = ["snp", "--vmm-type=ec2", "--ovmf=/nowhere", "--vcpus=1"];

    #[test]
    fn an_id_block_needs_both_files_and_who_signs_it() {
        let refused = |flags: &[&str]| {
            let arguments = [&["begat", "measure"], &SNP[..], flags].concat();
            Cli::try_parse_from(arguments).is_err()
        };
        for flags in [
            &["--id-block=b"][..],
            &["--id-auth=a", "--key-less"],
            &["--id-block=b", "--id-auth=a"],
            &["--id-block=b", "--id-auth=a", "--key-less", "--id-key=k"],
            &["--guest-svn=1"],
            &["--id-block=b", "--id-auth=a", "--key-less", "--policy=0"],
            &["--id-block=b", "--id-auth=a", "--key-less", "--family-id=00"],
        ] {
            assert!(refused(flags), "{flags:?}");
        }
        assert!(!refused(&["--id-block=b", "--id-auth=a", "--key-less"]));
        assert!(!refused(&[
            "--id-block=b",
            "--id-auth=a",
            "--id-key=k",
            "--policy=0x30000"
        ]));
    }

    #[test]
    fn an_id_block_is_for_one_launch() {
        let arguments = [&SNP[..3], &["--vcpus=1,2", "--id-block=b", "--id-auth=a", "--key-less"]].concat();
        let (exit, report) = failure(&arguments);
        assert_eq!(exit, Exit::Usage);
        assert!(
            report.starts_with("error: an ID block is for one launch, and 2 are asked for\n"),
            "{report}"
        );
    }
}
