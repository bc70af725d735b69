//! Comparison with tools of others: `cargo ci oracle`.

pub(crate) mod image;
pub(crate) mod python;
pub(crate) mod registry;
pub(crate) mod sbom;
pub(crate) mod signatures;
pub(crate) mod snp;
pub(crate) mod trustee;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::host;

/// What to compare, and with which files.
#[derive(clap::Subcommand)]
pub(crate) enum Oracle {
    Snp(snp::Snp),
    Image(Release),
    Registry(Release),
    Sbom(Release),
    Signatures(Release),
    Trustee(trustee::Trustee),
}

/// Compares a release with what tools of others make of it.
#[derive(clap::Args)]
pub(crate) struct Release {
    /// The folder of the release
    release: PathBuf,
}

impl Oracle {
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Snp(snp) => snp.run(),
            Self::Trustee(trustee) => trustee.run(),
            Self::Image(Release { release }) => image::check(&fs::canonicalize(release)?),
            Self::Sbom(Release { release }) => sbom::check(&fs::canonicalize(release)?),
            Self::Signatures(Release { release }) => signatures::run(&fs::canonicalize(release)?),
            Self::Registry(Release { release }) => {
                registry::check(&host::begat(&host::shell()?)?, &fs::canonicalize(release)?)
            }
        }
    }
}
