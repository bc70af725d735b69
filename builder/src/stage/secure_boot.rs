//! The UKI with a signature for UEFI Secure Boot: made by sbsign, wherever that key is, and kept beside the one that is
//! reproduced.
//!
//! A signature of this kind lies outside of what it signs, so the digest by which firmware measures the signed image is
//! that of the unsigned one, and every prediction holds for both. Whose signature it is, the firmware's own keys decide.

use std::fs;
use std::path::Path;

use anyhow::Result;
use measure::pe::Pe;

use crate::mend::{Exit, OrMend as _};
use crate::model::Manifest;
use crate::model::artifacts::file;
use crate::stage::finding::Finding;
use crate::stage::release::{Existing, Staging};
use crate::stage::sign::LIMIT;
use crate::stage::verify;
use crate::world::{files, given};

/// The name of the signed UKI in a release.
pub const SIGNED: &str = "uki.signed.efi";

/// Puts the signed UKI that lies at `signed` into the release in `folder`.
///
/// # Errors
/// A release with findings; a file that is not its UKI with a signature; a disk that is full.
pub fn attach(folder: &Path, signed: &Path) -> Result<()> {
    let (folder, shown) = (folder.canonicalize()?, signed.display());
    let signed = given::read(signed, LIMIT, "give a UKI")?;
    if !verify::verify(&folder, None)?.findings.is_empty() {
        let problem = format!("{} is not what its manifest says", folder.display());
        return Err(Exit::No.because(problem, format!("see why: begat verify {}", folder.display())));
    }
    let unsigned =
        fs::read(folder.join(file::UKI)).or_mend(Exit::Usage, "cannot read uki.efi", "name a release with a UKI")?;
    compare(&unsigned, &signed).map_err(|why| {
        let problem = format!("{shown} is not {} with a signature: {why}", file::UKI);
        Exit::No.because(
            problem,
            format!("sign that one: sbsign --key KEY --cert CERT {}", file::UKI),
        )
    })?;
    let staging = Staging::begin(&folder, Existing::Replace)?;
    staging.take_over(|path| path == Path::new(SIGNED))?;
    staging.write(SIGNED, &signed)?;
    staging.appear()
}

/// What is to be said against the signed UKI of the release in `folder`, where there is one.
pub(super) fn verify(folder: &Path, manifest: &Manifest) -> Option<Finding> {
    let signed = folder.join(SIGNED);
    let present = signed.exists() && is_part(Path::new(SIGNED), manifest);
    let read = |path: &Path| files::read(path, LIMIT).map_err(|error| error.to_string());
    let compared = || compare(&read(&folder.join(file::UKI))?, &read(&signed)?);
    let why = present.then(compared)?.err()?;
    Some(Finding::UkiDiffers { why })
}

/// Whether it is the signed UKI of a release that has an unsigned one.
pub(super) fn is_part(path: &Path, manifest: &Manifest) -> bool {
    path == Path::new(SIGNED) && manifest.files.keys().any(|name| name.as_str() == file::UKI)
}

fn compare(unsigned: &[u8], signed: &[u8]) -> Result<(), String> {
    let read = |image| Pe::read(image).map_err(|error| error.to_string());
    let (unsigned, signed) = (read(unsigned)?, read(signed)?);
    match () {
        () if unsigned.authenticode() != signed.authenticode() => Err("firmware measures another digest".into()),
        () if !signed.is_signed() => Err("there is no signature in it".into()),
        () => Ok(()),
    }
}
