//! Release in, signed release out: its statements, each in a bundle with one signature, and its generation record.
//!
//! A release that lies there already is signed beside itself: its files get a second name in a new folder, the
//! signatures join them, and the folders are exchanged. At every instant the release is whole, signed or not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::document::claims::{Claims, Subject};
use crate::document::dsse::{self, Bundle};
use crate::document::provenance::{self, Builder, Run, Times};
use crate::document::statement::{self, PROVENANCE, Statement};
use crate::mend::{Exit, OrMend as _};
use crate::model::key::{PublicKey, SigningKey};
use crate::model::record::{RECORD, Record, Terms};
use crate::model::{Lock, Manifest};
use crate::stage::on_disk::OnDisk;
use crate::stage::parse::LOCK;
use crate::stage::release::{Existing, Staging};
use crate::stage::verify::{self, Judged};
use crate::world::folder::Folder;
use crate::world::{files, parallel, random};

/// The name of a file of the release and its text.
pub(super) type Written = (String, String);

/// Nothing that is to be signed is larger: in bytes.
const LIMIT: u64 = 128 << 20;

/// Returns a key that was made now, for one build, and dies with it.
///
/// # Errors
/// A kernel without random bytes.
pub fn ephemeral() -> Result<SigningKey> {
    loop {
        if let Some(key) = SigningKey::from_random(random_bytes()?) {
            return Ok(key);
        }
    }
}

/// Returns a run of this begat, outside of any VM that could attest it.
///
/// # Errors
/// A kernel without random bytes.
pub fn run(times: Option<Times>) -> Result<Run> {
    Ok(Run::new(build_id()?, Builder::Unattested, times))
}

/// Returns a name for a build that no other build has.
///
/// # Errors
/// A kernel without random bytes.
pub fn build_id() -> Result<Uuid> {
    Ok(uuid::Builder::from_random_bytes(random_bytes()?).into_uuid())
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    random::bytes().or_mend(Exit::Outside, "cannot get random bytes of the kernel", "report it")
}

/// Signs the release that is being built in `staging`, whose manifest is written, and returns its record.
///
/// # Errors
/// Files that are not those of the manifest; a disk that is full.
pub fn sign_new(staging: &Staging, manifest: &Manifest, run: &Run, terms: Terms, key: &SigningKey) -> Result<Record> {
    let subject = read(&OnDisk::open(staging.folder())?, manifest.clone())?;
    let claims = Claims::new(&subject, run, terms, &key.public());
    write(staging, &claims.signed_by(key))?;
    Ok(claims.record)
}

/// Returns what is to be said about the release in `folder`, after comparing every file with its manifest.
///
/// # Errors
/// A release with findings; one that is signed already, where that is to be refused.
pub fn claims(folder: &Path, existing: Existing, terms: Terms, key: &PublicKey) -> Result<Claims> {
    let subject = subject(folder, existing)?.subject;
    Ok(Claims::new(&subject, &run(None)?, terms, key))
}

/// A release that may be signed: what statements are about, and the files that these are.
pub(super) struct Signable {
    pub(super) subject: Subject,
    pub(super) on_disk: Arc<OnDisk>,
}

/// Returns what of the release in `folder` statements are about, after comparing every file with its manifest.
///
/// # Errors
/// As [`claims`].
pub(super) fn subject(folder: &Path, existing: Existing) -> Result<Signable> {
    let Judged { on_disk, manifest, .. } = verify::verify(folder, None)?.judged()?;
    let mut entries = on_disk.entries().iter();
    let signed = entries.any(|entry| is_signature(&entry.path, &manifest));
    if signed && existing == Existing::Refuse {
        let problem = format!("{} is signed already", folder.display());
        return Err(Exit::Usage.because(problem, "replace its signatures: --force"));
    }
    let subject = read(&on_disk, manifest)?;
    Ok(Signable { subject, on_disk })
}

/// Whether it is a file that signing adds to the release.
pub(super) fn is_signature(path: &Path, manifest: &Manifest) -> bool {
    let bundles = statement::names(manifest).into_iter().map(Statement::bundle);
    let names = bundles.chain([provenance::FILE, RECORD].map(String::from));
    names.into_iter().any(|name| path == Path::new(&name))
}

/// Adds files to the release in `folder`, in place of those of the same names.
///
/// # Errors
/// A disk that is full; a folder that cannot be written.
pub fn append(folder: &Path, files: &[Written]) -> Result<()> {
    let folder = folder.canonicalize()?; // what is exchanged is the folder, not a link to it
    let staging = Staging::begin(&folder, Existing::Replace)?;
    staging.take_over(|path| files.iter().any(|(name, _)| path == Path::new(name)))?;
    write(&staging, files)?;
    staging.appear()
}

pub(super) fn write(staging: &Staging, files: &[Written]) -> Result<()> {
    let written = parallel::map(files, |(name, text)| staging.write(name, text));
    written.into_iter().collect()
}

impl Claims {
    /// Returns the files that a release has once `key` has signed what is claimed.
    pub fn signed_by(&self, key: &SigningKey) -> Vec<Written> {
        let sign = |statement: &Statement| key.sign(&dsse::pae(statement.text.as_bytes()));
        self.with(parallel::map(&self.statements, sign), &key.public())
    }

    /// The files of a release with these signatures, in the order of the statements.
    fn with(&self, signatures: Vec<Vec<u8>>, key: &PublicKey) -> Vec<Written> {
        let bundle = |(statement, signature): &(&Statement, Vec<u8>)| {
            let bundle = Bundle {
                payload: statement.text.as_bytes().into(),
                signature: signature.clone(),
                key: key.id().to_string(),
            };
            (Statement::bundle(&statement.name), bundle.text())
        };
        let signed: Vec<_> = self.statements.iter().zip(signatures).collect();
        let provenance = (provenance::FILE.into(), self.provenance().text.clone());
        let record = (RECORD.into(), self.record.text());
        let bundles = parallel::map(&signed, bundle);
        [provenance, record].into_iter().chain(bundles).collect()
    }
}

/// Reads what statements are about; every file is compared with the manifest as it is read.
///
/// # Errors
/// A file that is not the one of the manifest, or no document.
pub fn read(release: &OnDisk, manifest: Manifest) -> Result<Subject> {
    let document = |name| Ok((name, document(release, &manifest, name)?));
    let documents = statement::documents(&manifest).map(document).collect::<Result<_>>()?;
    let lock = lock(release, &manifest)?;
    Ok(Subject {
        manifest,
        lock,
        documents,
    })
}

/// Reads a document that has a statement of its own.
pub(super) fn document(release: &OnDisk, manifest: &Manifest, name: &str) -> Result<String> {
    let text = listed(release, manifest, name)?;
    let read: Result<IgnoredAny, _> = serde_json::from_str(&text);
    read.or_mend(Exit::No, format!("cannot read {name}"), "build the release again")?;
    Ok(text)
}

/// Reads the lock of a release.
pub(super) fn lock(release: &OnDisk, manifest: &Manifest) -> Result<Lock> {
    Lock::parse(&listed(release, manifest, LOCK)?)
}

/// The text of a file that the manifest lists.
fn listed(release: &OnDisk, manifest: &Manifest, name: &str) -> Result<String> {
    let stamp = manifest.files.iter().find(|(file, _)| file.as_str() == name);
    let text = release
        .text(name)
        .and_then(|text| Ok((text, release.file(name)?.stamp()?)));
    let text = text
        .ok()
        .filter(|(_, found)| stamp.is_some_and(|(_, stamp)| stamp == found));
    text.map(|(text, _)| text).ok_or_else(|| {
        Exit::No.because(
            format!("{name} is not what the manifest says"),
            "fetch the release again",
        )
    })
}

/// Writes what is to be signed into a new folder: `NAME.pae` for each statement.
///
/// # Errors
/// A folder that exists, or cannot be written.
pub fn detach(claims: &Claims, to: &Path) -> Result<()> {
    let shown = to.display();
    fs::create_dir(to).or_mend(
        Exit::Usage,
        format!("cannot make {shown}"),
        "name a folder that does not exist yet",
    )?;
    let folder = Folder::open(to)?;
    claims.statements.iter().try_for_each(|statement| {
        let name = to_be_signed(&statement.name);
        let written = folder.write(&name, dsse::pae(statement.text.as_bytes()));
        written.or_mend(
            Exit::Outside,
            format!("cannot write {name} to {shown}"),
            "make room there",
        )
    })
}

/// Returns the files of the release in `folder` with the signatures that came back in `from`: `NAME.sig` beside each
/// `NAME.pae`.
///
/// Every statement is written anew from the release, and must be the one that was given out.
///
/// # Errors
/// A release with findings, a file that is missing or was changed, a signature that is none.
pub fn attach(folder: &Path, existing: Existing, from: &Path) -> Result<(Claims, Vec<Written>)> {
    let subject = subject(folder, existing)?.subject;
    let (run, record) = (run_in(from)?, record_in(from)?);
    let key = record.key()?;
    let claims = Claims::new(&subject, &run, record.terms, &key);
    let mut signatures = Vec::new();
    for statement in &claims.statements {
        let signed = dsse::pae(statement.text.as_bytes());
        if part(from, &to_be_signed(&statement.name))? != signed {
            let problem = format!(
                "{} is not the {} statement of this release",
                to_be_signed(&statement.name),
                statement.name
            );
            return Err(Exit::No.because(problem, MEND));
        }
        let name = format!("{}.sig", statement.name);
        let signature = key.as_bundled(&part(from, &name)?);
        if !key.verifies(&signed, &signature) {
            let problem = format!(
                "{name} is no signature of {} by the key {}",
                to_be_signed(&statement.name),
                key.id()
            );
            return Err(Exit::No.because(
                problem,
                "sign it: openssl dgst -sha256 -sign KEY -out NAME.sig NAME.pae",
            ));
        }
        signatures.push(signature);
    }
    let files = claims.with(signatures, &key);
    Ok((claims, files))
}

const MEND: &str = "begin again: begat sign RELEASE --detached DIR --public-key PEM";

fn to_be_signed(name: &str) -> String {
    format!("{name}.pae")
}

fn part(from: &Path, name: &str) -> Result<Vec<u8>> {
    files::read(&from.join(name), LIMIT).or_mend(Exit::Usage, format!("cannot read {name}"), MEND)
}

/// The statement that was given out under this name.
fn given_out(from: &Path, name: &str) -> Result<String> {
    let bytes = part(from, &to_be_signed(name))?;
    let text = dsse::payload_of(&bytes).and_then(|payload| String::from_utf8(payload.to_vec()).ok());
    text.ok_or_else(|| Exit::No.because(format!("{} is nothing to be signed", to_be_signed(name)), MEND))
}

fn run_in(from: &Path) -> Result<Run> {
    let run = provenance::run(&given_out(from, PROVENANCE)?);
    run.map_err(|why| Exit::No.because(format!("cannot read the provenance that was given out: {why}"), MEND))
}

fn record_in(from: &Path) -> Result<Record> {
    #[derive(serde::Deserialize)]
    struct About {
        predicate: Record,
    }
    let about = serde_json::from_str(&given_out(from, statement::RECORD)?);
    let About { predicate } = about.or_mend(Exit::No, "cannot read the record that was given out", MEND)?;
    Ok(predicate)
}
