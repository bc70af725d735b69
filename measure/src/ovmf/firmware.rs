//! Everything that predictions need of an image, read once.

use super::generation::{dxe, pei};
use super::variables::{SecureBoot, VariableError};
use super::volume::{Payload, VolumeError};
use super::{Generation, Ovmf, Texts};
use crate::event_log::Digests;

/// What an image says about the firmware in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Firmware {
    pub generation: Generation,
    pub texts: Texts,
    /// The digests of the PEI volume as it is when a q35 machine measures it; nothing if the volume changes before in a
    /// way that is not known.
    pub pei_volume: Option<Digests>,
    /// The digests of the DXE volume.
    pub dxe_volume: Digests,
    /// The variables of Secure Boot that the image brings.
    pub secure_boot: SecureBoot,
}

impl Firmware {
    /// Returns what `image` says.
    ///
    /// # Errors
    ///
    /// Its volumes or its variable store are damaged, or it is no firmware of edk2: no volume has a DXE core.
    pub fn read(image: &Ovmf) -> Result<Self, FirmwareError> {
        let payload = Payload::read(image.bytes())?;
        let volumes = payload.volumes()?;
        let generation = Generation::read(&volumes);
        let newer = generation.acpi_measured == Some(true);
        let dxe = dxe(&volumes).ok_or(FirmwareError::NoDxeCore)?;
        Ok(Self {
            texts: Texts::read(&volumes),
            pei_volume: pei(&volumes).and_then(|volume| super::pei::measured(volume, newer)),
            dxe_volume: Digests::of(dxe.bytes),
            secure_boot: SecureBoot::read(image.bytes(), generation.secure_boot)?,
            generation,
        })
    }
}

/// Why an image says nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FirmwareError {
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Variable(#[from] VariableError),
    #[error("no firmware volume has a DXE core: this is no OVMF")]
    NoDxeCore,
}

#[cfg(test)]
mod tests;
