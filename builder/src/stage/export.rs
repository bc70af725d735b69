//! Releases in, documents for a verifier out: those of the releases themselves, and what only exists for several
//! releases, for other machines, or together with a generation record.

mod record;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::slice;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use crate::document::launches::{Generation, Predicted};
use crate::document::reference_values::{ReferenceValues, Shortfall};
use crate::document::trustee::Trustee;
use crate::document::{corim, policy, rvps};
use crate::mend::Exit;
use crate::model::{InitData, Manifest, Measurements, Profile, Record};
use crate::stage::verify;
use crate::world::clock;

/// The platform profile in a release; there is none where the recipe names none.
pub use crate::model::file::PLATFORM as PROFILE;

/// What is exported.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// reference-values.json: name → value
    Values,
    /// Messages that register the values with RVPS, one a line
    Message,
    /// The ConfigMap of the Trustee operator
    Configmap,
    /// The companion policy, which replaces default_cpu
    Policy,
    /// A CoRIM, unsigned
    Corim,
}

/// What of a release is exported.
#[derive(Debug)]
pub struct Release {
    manifest: Manifest,
    measurements: Measurements,
    profile: Option<Profile>,
    generation: Option<Generation>,
}

/// What is exported, and for whom.
#[derive(Debug)]
pub struct Export {
    /// What is wanted.
    pub releases: Vec<Release>,
    /// What is wanted no more.
    pub revoked: Vec<Release>,
    /// The lowest generation that a policy accepts.
    pub min_generation: u32,
    /// The init-data of the pods that are wanted; any, where there is none.
    pub init_data: Vec<InitData>,
    pub trustee: Trustee,
}

impl Release {
    /// Judges the release in `folder` and reads what is exported of it; a profile that is given counts instead of the
    /// release's own.
    ///
    /// # Errors
    /// A release with findings, or one that predicts nothing.
    pub fn read(folder: &Path, profile: Option<&Profile>) -> Result<Self> {
        let release = verify::judge(folder)?;
        let measurements = release.measurements()?;
        let profile = match profile {
            None if release.on_disk.has(PROFILE) => Some(Profile::parse(PROFILE, &release.text(PROFILE)?)?),
            given => given.cloned(),
        };
        Ok(Self {
            manifest: release.manifest,
            measurements,
            profile,
            generation: None,
        })
    }

    /// Takes the generation record that is this release's from among `records`.
    ///
    /// # Errors
    /// Records of other releases only.
    fn find_record(&mut self, records: &[Record]) -> Result<()> {
        let digest = self.manifest.digest();
        let mut own = records.iter().filter(|record| record.release == digest);
        let record = own.next().ok_or_else(|| {
            let problem = format!("no generation record is of the release {digest}");
            Exit::No.because(problem, "give the record of each release: --record FILE")
        })?;
        self.generation = Some(record::generation(record));
        Ok(())
    }

    fn predicted(&self) -> Predicted<'_> {
        let origin = &self.manifest.origin;
        let predicted = Predicted::new(&origin.name, origin.lock, &self.measurements, self.profile.as_ref());
        Predicted {
            generation: self.generation,
            ..predicted
        }
    }
}

/// Returns what a release itself has for verifiers, by file name: no generation, no validity, no date but its epoch.
///
/// # Errors
/// More values than the formats take.
pub fn documents(release: &Predicted<'_>, epoch: Timestamp) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let values = ReferenceValues::of(release, Trustee::CURRENT);
    let policy = policy::text(slice::from_ref(release), release.profile, &[], Trustee::CURRENT, 0);
    let mut documents = vec![
        ("reference-values.json", values.text().into_bytes()),
        (rvps::FILE, rvps::messages(&values.json())?.into_bytes()),
        (
            "configmap.yaml",
            rvps::config_map(&values.json(), epoch, Trustee::CURRENT)?.into_bytes(),
        ),
        ("policy.rego", policy.into_bytes()),
    ];
    if release.launches().next().is_some() {
        documents.push(("reference.corim", corim::bytes(slice::from_ref(release))?));
    }
    Ok(documents)
}

impl Export {
    /// Ties each release to its generation record, of which the `files` hold one each.
    ///
    /// # Errors
    /// A file that is no record, or one that has expired; a release without a record or with several, a record without its
    /// release.
    pub fn add_records(&mut self, files: &[PathBuf]) -> Result<()> {
        let records: Vec<Record> = files
            .iter()
            .map(|file| record::read(file, clock::now()))
            .collect::<Result<_>>()?;
        let mut known = BTreeSet::new();
        if let Some(record) = records.iter().find(|record| !known.insert(record.release)) {
            let problem = format!("several generation records are of the release {}", record.release);
            return Err(Exit::Usage.because(problem, "give the one record of it that you trust"));
        }
        let of = |record: &Record| {
            self.releases
                .iter()
                .any(|release| release.manifest.digest() == record.release)
        };
        if let Some(stray) = records.iter().find(|record| !of(record)) {
            let problem = format!(
                "a generation record is of the release {}, which is not exported",
                stray.release
            );
            return Err(Exit::No.because(problem, "give the record of this release"));
        }
        let mut releases = self.releases.iter_mut().filter(|_| !records.is_empty());
        releases.try_for_each(|release| release.find_record(&records))
    }

    /// Returns the bytes of what is exported.
    ///
    /// # Errors
    /// What the format cannot express.
    pub fn bytes(&self, format: Format) -> Result<Vec<u8>> {
        self.check(format)?;
        let values = self.values();
        match format {
            Format::Values => Ok(values.text().into_bytes()),
            Format::Message => Ok(rvps::messages(&values.json())?.into_bytes()),
            Format::Configmap => Ok(rvps::config_map(&values.json(), self.epoch()?, self.trustee)?.into_bytes()),
            Format::Policy => Ok(self.policy()?.into_bytes()),
            Format::Corim => corim::bytes(&self.predicted()),
        }
    }

    /// Nothing that was asked for is dropped in silence.
    fn check(&self, format: Format) -> Result<()> {
        let dated = self.releases.iter().any(|release| release.generation.is_some());
        if format != Format::Policy && (dated || !self.init_data.is_empty()) {
            let problem = "only a policy looks at generation records and init-data";
            return Err(Exit::Usage.because(problem, "begat export policy, or leave --record and --init-data out"));
        }
        let mut numbers = self
            .releases
            .iter()
            .filter_map(|release| Some(release.generation?.number));
        if let Some(old) = numbers.find(|number| *number < self.min_generation) {
            let problem = format!(
                "generation {old} is exported, and no policy accepts one below {}",
                self.min_generation
            );
            return Err(Exit::Expired.because(problem, "leave that release out, or lower --min-generation"));
        }
        if format == Format::Corim && !self.revoked.is_empty() {
            let problem = "a CoRIM says what is wanted, and takes nothing back";
            return Err(Exit::Unsupported.because(problem, "leave --revoke out"));
        }
        let mut known = BTreeSet::new();
        let mut releases = self
            .releases
            .iter()
            .chain(&self.revoked)
            .map(|release| release.manifest.digest());
        if let Some(twice) = releases.find(|release| !known.insert(*release)) {
            let problem = format!("the release {twice} is named twice: wanted, or revoked, or both");
            return Err(Exit::Usage.because(problem, "name it once"));
        }
        Ok(())
    }

    /// Returns the reference values of all releases that are wanted, and room for those of the others.
    pub fn values(&self) -> ReferenceValues {
        let of = |release: &Release| ReferenceValues::of(&release.predicted(), self.trustee);
        let mut values = ReferenceValues::default();
        self.releases.iter().for_each(|release| values.merge(of(release)));
        self.revoked.iter().for_each(|release| values.revoke(&of(release)));
        values
    }

    /// Returns the names under which something of what is revoked stays, because a release that is wanted has it too.
    pub fn kept(&self) -> BTreeSet<&'static str> {
        let (values, trustee) = (self.values(), self.trustee);
        let kept = |revoked: &Release| values.shared(&ReferenceValues::of(&revoked.predicted(), trustee));
        self.revoked.iter().flat_map(kept).collect()
    }

    /// Returns what a verifier will not affirm as it could with this format.
    pub fn shortfalls(&self, format: Format) -> Vec<Shortfall> {
        let mut shortfalls = self.values().shortfalls();
        match format {
            Format::Values | Format::Message | Format::Configmap => {}
            // it has each launch as a whole, and no need of the two events
            Format::Policy => shortfalls.retain(|shortfall| !shortfall.is_about_executables()),
            Format::Corim => shortfalls.clear(),
        }
        shortfalls
    }

    fn predicted(&self) -> Vec<Predicted<'_>> {
        self.releases.iter().map(Release::predicted).collect()
    }

    fn policy(&self) -> Result<String> {
        let mut profiles = self.releases.iter().map(|release| release.profile.as_ref());
        let machines = profiles.next().flatten();
        if !profiles.all(|profile| profile == machines) {
            let problem = "these releases have different platform profiles, and a policy has one";
            return Err(Exit::Usage.because(problem, "say what the machines are: --profile FILE"));
        }
        let (releases, floor) = (self.predicted(), self.min_generation);
        Ok(policy::text(&releases, machines, &self.init_data, self.trustee, floor))
    }

    /// The epoch of the newest release.
    fn epoch(&self) -> Result<Timestamp> {
        let releases = self.releases.iter().chain(&self.revoked);
        let epochs = releases.map(|release| release.manifest.origin.epoch);
        epochs.max().context("there is no release")
    }
}
