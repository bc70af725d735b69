//! The UKI with a signature for UEFI Secure Boot: made by sbsign, wherever that key is, and kept beside the one that is
//! reproduced.
//!
//! A signature of this kind lies outside of what it signs, so the digest by which firmware measures the signed image is
//! that of the unsigned one, and every prediction holds for both. Whose signature it is, the firmware's own keys decide.

use std::path::Path;

use anyhow::Result;
use measure::pe::Pe;

use crate::mend::{Exit, OrMend as _};
use crate::model::Manifest;
use crate::model::artifacts::file;
use crate::stage::finding::Finding;
use crate::stage::on_disk::OnDisk;
use crate::stage::release::{Existing, Staging};
use crate::stage::verify;
use crate::world::given;

/// The name of the signed UKI in a release.
pub use crate::model::file::SIGNED_UKI as SIGNED;

/// Puts the signed UKI that lies at `signed` into the release in `folder`.
///
/// # Errors
/// A release with findings; a file that is not its UKI with a signature; a disk that is full.
pub fn attach(folder: &Path, signed: &Path) -> Result<()> {
    let (folder, shown) = (folder.canonicalize()?, signed.display());
    let signed = given::read(signed, file::limit(SIGNED), "give a UKI")?;
    let release = verify::verify(&folder, None)?.judged()?;
    let unsigned = release.on_disk.bytes(file::UKI);
    let unsigned = unsigned.or_mend(Exit::Usage, "cannot read uki.efi", "name a release with a UKI")?;
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

/// What is to be said against the signed UKI of a release, where there is one.
pub(super) fn verify(on_disk: &OnDisk, manifest: &Manifest) -> Option<Finding> {
    let present = on_disk.has(SIGNED) && is_part(Path::new(SIGNED), manifest);
    let read = |name: &str| {
        on_disk
            .bytes(name)
            .map_err(|error| format!("cannot read {name}: {error}"))
    };
    let compared = || compare(&read(file::UKI)?, &read(SIGNED)?);
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
