//! What assembling leaves: the files of a release that boot.

use measure::Sha256;

pub use super::file;
use crate::model::recipe::Platform;
use crate::model::volume;

/// What was assembled, beside the files themselves.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The kernel's command line, root hash included.
    pub command_line: String,
    /// The root of the dm-verity tree over the root image.
    pub root_hash: Sha256,
    /// Each volume, with the root of the dm-verity tree over its image.
    pub volumes: Vec<(volume::Name, Sha256)>,
    pub firmware: Vec<FirmwareFile>,
    /// The kernel's release, as `uname -r` says it.
    pub uname: String,
}

/// A firmware file of a release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FirmwareFile {
    /// Its name in the release.
    pub file: String,
    /// The package that it was taken out of.
    pub package: String,
    pub supports: Vec<Platform>,
}
