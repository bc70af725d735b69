//! Reasons not to trust a release.

use std::path::Path;

use jiff::Timestamp;
use measure::{Sha256, Sha384};
use serde::{Serialize, Serializer};

use crate::model::log::LogFinding;
use crate::model::quorum;
use crate::model::release::{FileName, MANIFEST};
use crate::stage::account;
use crate::stage::appraise;
use crate::stage::parse::LOCK;

/// One reason not to trust a release.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Finding {
    #[error("there is no {MANIFEST}")]
    ManifestMissing,
    #[error("{why}")]
    ManifestInvalid { why: String },
    #[error("the release is {found}, wanted {wanted}")]
    ReleaseDiffers { found: Sha256, wanted: Sha256 },
    #[error("{LOCK} is not the lock {wanted} that the manifest names")]
    LockDiffers { wanted: Sha256 },
    #[error("{file} is missing")]
    FileMissing { file: FileName },
    #[error("{file} has {found} bytes, the manifest says {wanted}")]
    SizeDiffers { file: FileName, found: u64, wanted: u64 },
    #[error("{file} has the SHA-256 {found}, the manifest says {wanted}")]
    DigestDiffers {
        file: FileName,
        found: Sha256,
        wanted: Sha256,
    },
    #[error("{file} cannot be read: {why}")]
    FileUnreadable { file: FileName, why: String },
    #[error("{file} has {found} bytes, more than such a file has: at most {limit}")]
    FileTooLarge { file: FileName, found: u64, limit: u64 },
    #[error("somebody wrote to {file} while it was read")]
    FileChanged { file: String },
    #[error("{path:?} is {what} that the manifest does not list")]
    NotListed { path: String, what: String },
    #[error("{file} is {what}, not a file")]
    NotAFile { file: FileName, what: String },
    #[error("uki.signed.efi is not uki.efi with a signature: {why}")]
    UkiDiffers { why: String },
    #[error("the release is not signed")]
    Unsigned,
    #[error("{file} is missing, which belongs to a signed release")]
    SignatureMissing { file: String },
    #[error("{file} cannot be read: {why}")]
    SignatureUnreadable { file: String, why: String },
    #[error("what {file} would sign cannot be told: {why}")]
    SignatureUnchecked { file: String, why: String },
    #[error("{file} has no signature of the key {key} over its statement")]
    SignatureInvalid { file: String, key: String },
    #[error("{file} names the key {found:?}, the record says {wanted}")]
    KeyIdDiffers {
        file: String,
        found: String,
        wanted: String,
    },
    #[error("the release is signed by the key {found}, wanted {wanted}")]
    KeyDiffers { found: String, wanted: String },
    #[error("{file} does not state what this release is")]
    StatementDiffers { file: String },
    #[error("{file} does not name {subject} among its subjects")]
    SubjectMissing { file: String, subject: String },
    #[error("{file} names another {subject}")]
    SubjectDiffers { file: String, subject: String },
    #[error("{file} names {subject:?} among its subjects, which it is not about")]
    SubjectUnknown { file: String, subject: String },
    #[error("record.json says {found} for {field}, expected {wanted}")]
    RecordDiffers {
        field: String,
        found: String,
        wanted: String,
    },
    #[error("the release is valid from {not_before} on; it is {at}")]
    NotYetValid { not_before: Timestamp, at: Timestamp },
    #[error("the release was valid until {not_after}; it is {at}")]
    Expired { not_after: Timestamp, at: Timestamp },
    #[error("what the release was made from cannot be read: {why}")]
    RecipeUnreadable { why: String },
    #[error("the manifest says {found} for {field}, the recipe and the lock of the release lead to {wanted}")]
    OriginDiffers {
        field: String,
        found: String,
        wanted: String,
    },
    #[error("{LOCK} is not a lock of the recipe in the release")]
    LockOfOther,
    #[error("the manifest does not list {file}, which every release of this recipe has")]
    PartMissing { file: String },
    #[error("the manifest lists {file:?}, which no release of this recipe has")]
    PartUnknown { file: String },
    #[error("{file} is not what the rest of the release leads to, from byte {offset} on")]
    MadeOtherwise { file: String, offset: u64 },
    #[error("the section {section} of uki.efi is not what the rest of the release leads to")]
    UkiPartDiffers { section: String },
    #[error("measurements.json does not say what the files of this release lead to on {launch}")]
    MeasurementsDiffer { launch: String },
    #[error("the measurements cannot be computed from the files: {why}")]
    Unmeasurable { why: String },
    #[error("the root hash of {image} is {found}, the command line says {wanted}")]
    RootHashDiffers {
        image: String,
        found: Sha256,
        wanted: String,
    },
    #[error("the release says that it was built in another one, and {file} is missing")]
    EvidenceMissing { file: String },
    #[error("{file} cannot be read: {why}")]
    EvidenceUnreadable { file: String, why: String },
    #[error("the provenance says that {found} built the release, its evidence is of {wanted}")]
    BuilderDiffers { found: String, wanted: String },
    #[error("{found}: the machine that vouches for the release did not build it, and the policy does not allow-split")]
    BuilderSplit { found: String },
    #[error("the release was built in the generation with the record {previous}, which was not given")]
    ParentMissing { previous: Sha384 },
    #[error("{file} of generation {generation} was made for generation {found}")]
    EvidenceOfOther { file: String, generation: u32, found: u32 },
    #[error("the evidence at the start and that at the end of the build are not of one run of one machine")]
    OtherMachine,
    #[error("the release was built in the generation with the record {found}, not in that with {wanted}")]
    ParentDiffers { found: String, wanted: Sha384 },
    #[error("the release is generation {found}, expected {wanted}: one more than the one that it was built in")]
    GenerationDiffers { found: u32, wanted: u32 },
    #[error("the release is generation {found}, the policy takes none below {floor}: it was rolled back")]
    GenerationBelowFloor { found: u32, floor: u32 },
    #[error("the chain has several releases of generation {generation}: {}", .releases.join(", "))]
    GenerationForked { generation: u32, releases: Vec<String> },
    #[error("generation {parent} has the last number that there is, and so no generation after it")]
    GenerationsExhausted { parent: u32 },
    #[error(
        "generation {generation} says that it was built from {started} to {finished}, \
         when its parent was not valid: {parent}"
    )]
    ParentNotValid {
        generation: u32,
        started: Timestamp,
        finished: Timestamp,
        parent: String,
    },
    #[error("generation {generation} does not say when it was built, and its parent is valid {parent} only")]
    BuildTimesMissing { generation: u32, parent: String },
    #[error("generation {generation} says that it was built from {started} to {finished}, and {why}")]
    BuildTimesWrong {
        generation: u32,
        started: Timestamp,
        finished: Timestamp,
        why: String,
    },
    #[error("nobody vouches for generation 0: no quorum of rebuilders, and the policy does not name {release}")]
    RootNotTrusted { release: Sha256 },
    #[error("the record of generation 0 is {found}, the policy names {wanted}")]
    RootRecordDiffers { found: Sha384, wanted: Sha384 },
    #[error(
        "the release has no parent and says that it is generation {found}, which nobody vouches for: expected {wanted}"
    )]
    RootNumberDiffers { found: u32, wanted: u32 },
    #[error("the release was built from the recipe {recipe}, which the policy does not name")]
    RecipeNotAllowed { recipe: Sha256 },
    #[error("the release was built from the lock {lock}, which the policy does not name")]
    LockNotAllowed { lock: Sha256 },
    #[error("packages come from {suite}, which is no suite that the policy names")]
    SuiteNotAllowed { suite: String },
    #[error("{suite} has the signed metadata {sha256}, which the policy does not name")]
    MetadataNotAllowed { suite: String, sha256: Sha256 },
    #[error("the payload {payload} is {sha256}, which the policy does not name")]
    PayloadNotAllowed { payload: String, sha256: Sha256 },
    #[error("{file}: {finding}")]
    #[serde(untagged)]
    Evidence {
        file: String,
        #[serde(flatten)]
        finding: Box<appraise::Finding>,
    },
    /// What is wrong with another release, whose word this verdict would have to take.
    #[error("{folder}: {finding}")]
    #[serde(untagged)]
    InFolder {
        folder: String,
        #[serde(flatten, serialize_with = "as_value")]
        finding: Box<Finding>,
    },
    #[error(transparent)]
    #[serde(untagged)]
    Account(account::Finding),
    #[error(transparent)]
    #[serde(untagged)]
    Rebuild(quorum::Finding),
    #[error(transparent)]
    #[serde(untagged)]
    Log(LogFinding),
}

impl Finding {
    /// Returns this as what is wrong with another release, the one in `folder`.
    pub fn in_folder(self, folder: &Path) -> Self {
        Self::InFolder {
            folder: folder.display().to_string().replace(char::is_control, " "),
            finding: Box::new(self),
        }
    }

    /// Returns the name of this kind of finding; it does not change between versions.
    pub fn code(&self) -> String {
        serde_json::json!(self)["code"].as_str().unwrap_or_default().into()
    }

    /// Whether it is about the time only, or a release that was rolled back: another day, another verdict.
    pub fn is_about_time(&self) -> bool {
        match self {
            Self::NotYetValid { .. } | Self::Expired { .. } | Self::GenerationBelowFloor { .. } => true,
            Self::InFolder { finding, .. } => finding.is_about_time(),
            _ => false,
        }
    }
}

/// A finding in another one. As a value, because a type that is written with itself in it has no end.
fn as_value<S: Serializer>(finding: &Finding, serializer: S) -> Result<S::Ok, S::Error> {
    serde_json::json!(finding).serialize(serializer)
}
