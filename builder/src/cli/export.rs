//! `begat export`: what verifiers are told of releases.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::document::trustee::Trustee;
use crate::model::{InitData, Profile};
use crate::stage::export::{Export, Format, Release};
use crate::world::given;

/// Writes reference values of releases in the forms that verifiers take
///
/// With several releases, all of them are wanted, as while one replaces another. Trustee forgets nothing: a name that is
/// registered again is replaced, so that what is revoked is overwritten. What Trustee's default policy will not affirm,
/// for want of values, is said on standard error.
#[derive(clap::Args)]
pub(super) struct Args {
    /// What to write
    format: Format,
    /// The release's folder
    #[arg(required_unless_present_any = ["merge", "revoke"])]
    release: Option<PathBuf>,
    /// Further releases that stay wanted, as in a rolling upgrade
    #[arg(long, value_name = "RELEASE", num_args = 1..)]
    merge: Vec<PathBuf>,
    /// Releases that are wanted no more
    #[arg(long, value_name = "RELEASE", num_args = 1..)]
    revoke: Vec<PathBuf>,
    /// What the machines are, in TOML [default: what the recipe of each release names]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// The generation record of a release, whose number and validity the policy then enforces; one for each release
    #[arg(long, value_name = "FILE")]
    record: Vec<PathBuf>,
    /// The lowest generation that the policy accepts
    #[arg(long, value_name = "N", default_value_t = 0, requires = "record")]
    min_generation: u32,
    /// Init-data of the pods that the policy accepts; without it, any is accepted
    #[arg(long, value_name = "FILE")]
    init_data: Vec<PathBuf>,
    /// The version of Trustee to write for
    #[arg(long, value_name = "VERSION", default_value = "0.21")]
    trustee: Trustee,
    /// Write to this file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let export = self.export()?;
        let bytes = export.bytes(self.format)?;
        export
            .shortfalls(self.format)
            .iter()
            .for_each(|shortfall| eprintln!("{shortfall}"));
        if !self.record.is_empty() {
            eprintln!("not checked: who signed the generation records: begat verify RELEASE --key FILE");
        }
        let kept: Vec<_> = export.kept().into_iter().collect();
        if !kept.is_empty() {
            eprintln!(
                "not revoked, since another release is wanted with the same: {}",
                kept.join(", ")
            );
        }
        match &self.output {
            Some(file) => given::write(file, &bytes),
            None => Ok(io::stdout().lock().write_all(&bytes)?),
        }
    }

    fn export(&self) -> Result<Export> {
        let profile = self.profile.as_deref().map(profile).transpose()?;
        let read = |folder: &PathBuf| Release::read(folder, profile.as_ref());
        let mut export = Export {
            releases: self
                .release
                .iter()
                .chain(&self.merge)
                .map(read)
                .collect::<Result<_>>()?,
            min_generation: self.min_generation,
            revoked: self.revoke.iter().map(read).collect::<Result<_>>()?,
            init_data: self
                .init_data
                .iter()
                .map(|file| init_data(file))
                .collect::<Result<_>>()?,
            trustee: self.trustee,
        };
        export.add_records(&self.record)?;
        Ok(export)
    }
}

/// In bytes: more than a file that people write.
const LIMIT: u64 = 1 << 20;

fn profile(file: &Path) -> Result<Profile> {
    let bytes = given::read(file, LIMIT, "give a platform profile")?;
    Profile::parse(&file.display().to_string(), &String::from_utf8_lossy(&bytes))
}

fn init_data(file: &Path) -> Result<InitData> {
    InitData::of(
        &file.display().to_string(),
        &given::read(file, LIMIT, "give init-data")?,
    )
}
