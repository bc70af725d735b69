//! AMD SEV-SNP: the launch digest, and the ID block that asks for it.

mod cpu;
mod features;
mod id_block;
mod kernel_hashes;
mod launch;
mod policy;
mod search;
mod vmsa;

use core::fmt;
use core::iter::{once, repeat};
use core::num::NonZeroU32;

use alloc::borrow::Cow;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes as _;

pub use cpu::{CpuSignature, NotACpu};
pub use features::{GuestFeatures, NotFeatures};
pub use id_block::{IdAuth, IdBlock, IdKey, Identity, NotAnIdKey};
pub use kernel_hashes::KernelHashes;
pub use launch::{Contents, LaunchStep, launch_digest};
pub use policy::{GuestPolicy, NotAPolicy};
pub use search::{Difference, DirectKernel, Launch};

use crate::Sha384;
use crate::ovmf::{Ovmf, OvmfError, SevSection, SevSectionKind};

/// The VMM that starts the guest, with what only guests of this VMM measure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Vmm {
    /// QEMU with KVM, which hands every vCPU the signature of its CPU model.
    Qemu { cpu: CpuSignature },
    /// AWS EC2.
    Ec2,
    /// Google Compute Engine.
    Gce,
}

impl Vmm {
    /// Returns with how many vCPUs this VMM starts a guest at most.
    ///
    /// QEMU: `max_cpus` of q35 since 9.1, and `KVM_MAX_VCPUS` of Linux. EC2: 192, the largest of M6a, C6a and R6a, the
    /// only families with SEV-SNP (`AmdSevSnp` of the API). GCE: 224, the largest N2D, the only series with SEV-SNP.
    pub const fn max_vcpus(self) -> u32 {
        match self {
            Self::Qemu { .. } => 4096,
            Self::Ec2 => 192,
            Self::Gce => 224,
        }
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Qemu { cpu } => match cpu.name() {
                Some(name) => write!(f, "QEMU with CPU {name} ({cpu})"),
                None => write!(f, "QEMU with CPU {cpu}"),
            },
            Self::Ec2 => f.pad("EC2"),
            Self::Gce => f.pad("GCE"),
        }
    }
}

/// What is measured of a launch whatever its number of vCPUs; from it, the digest of any number follows at once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PreVmsa {
    /// Launch digest before the first VMSA.
    pub digest: Sha384,
    /// SHA-384 of the VMSA page of the first vCPU.
    pub bsp: Sha384,
    /// SHA-384 of the VMSA page of every other vCPU.
    pub ap: Sha384,
}

impl PreVmsa {
    /// Returns the digest with the VMSAs of vCPUs that start, all but the first, at guest address `ap`.
    fn new(digest: Sha384, ap: u32, vmm: Vmm, features: GuestFeatures) -> Self {
        let vmsa = |start| Sha384::of(vmsa::Vmsa::new(vmm, start, features).as_bytes());
        Self {
            digest,
            bsp: vmsa(vmsa::RESET_VECTOR),
            ap: vmsa(ap),
        }
    }

    /// Returns what is measured of the same launch with other vCPUs: only their VMSAs are hashed, not `image` again.
    ///
    /// `vmm` may differ in its CPU alone, as the other pages are those that were measured.
    ///
    /// # Errors
    ///
    /// The image is no firmware for SEV-SNP.
    pub fn with_vcpus(&self, image: &Ovmf, vmm: Vmm, features: GuestFeatures) -> Result<Self, SnpError> {
        Ok(Self::new(self.digest, image.sev_es_reset_address()?, vmm, features))
    }

    /// Returns the launch digest of a guest with this many vCPUs: `MEASUREMENT` in its attestation reports.
    ///
    /// Takes one hash for each vCPU: limit a number that comes from outside (KVM has 4096 vCPUs at most).
    pub fn for_vcpus(&self, vcpus: NonZeroU32) -> Sha384 {
        let mut digests = self.digests().skip(vcpus.get() as usize - 1);
        digests.next().expect("there is no end to the numbers of vCPUs")
    }

    /// Returns the launch digests of guests with 1, 2, 3 and more vCPUs, without end: each takes one hash.
    pub fn digests(&self) -> impl Iterator<Item = Sha384> {
        let vmsas = once(self.bsp).chain(repeat(self.ap));
        vmsas.scan(self.digest, |digest, vmsa| {
            *digest = LaunchStep::Vmsa { digest: vmsa }.extend(*digest);
            Some(*digest)
        })
    }
}

/// Returns what `vmm` measures when it starts `image`, and the given kernel directly with it, whatever the number of
/// vCPUs.
///
/// # Errors
///
/// The image is no firmware for SEV-SNP, or has no place for the kernel's hashes.
pub fn pre_vmsa(
    image: &Ovmf,
    kernel: Option<&KernelHashes>,
    vmm: Vmm,
    features: GuestFeatures,
) -> Result<PreVmsa, SnpError> {
    let ap = image.sev_es_reset_address()?;
    let digest = launch_digest(&launch_steps(image, kernel, vmm)?);
    Ok(PreVmsa::new(digest, ap, vmm, features))
}

/// Returns everything that `vmm` measures before the vCPUs, in order: the image, then its sections.
///
/// # Errors
///
/// The image is no firmware for SEV-SNP, or has no place for the kernel's hashes.
pub fn launch_steps<'a>(
    image: &Ovmf<'a>,
    kernel: Option<&KernelHashes>,
    vmm: Vmm,
) -> Result<Vec<LaunchStep<'a>>, SnpError> {
    let page = kernel.map(|kernel| hashes_page(image, kernel)).transpose()?;
    let mut sections = image.sev_sections()?;
    if vmm == Vmm::Ec2 {
        // a stable sort: EC2 adds the CPUID page after all others
        sections.sort_by_key(|section| section.kind == SevSectionKind::Cpuid);
    }
    let image = Contents::new(image.address(), Cow::Borrowed(image.bytes())).expect("an image is whole pages");
    let sections = sections
        .into_iter()
        .map(|section| section_step(section, page.as_ref(), vmm));
    Ok(once(LaunchStep::Normal(image)).chain(sections).collect())
}

fn section_step(section: SevSection, hashes: Option<&Contents<'static>>, vmm: Vmm) -> LaunchStep<'static> {
    let pages = section.pages;
    match (section.kind, hashes) {
        (SevSectionKind::SecMem, _) if vmm == Vmm::Gce => LaunchStep::Unmeasured { pages },
        (SevSectionKind::SecMem | SevSectionKind::SvsmCaa, _) => LaunchStep::Zero { pages },
        (SevSectionKind::Secrets, _) => LaunchStep::Secrets { page: pages.start() },
        (SevSectionKind::Cpuid, _) => LaunchStep::Cpuid { page: pages.start() },
        (SevSectionKind::KernelHashes, Some(hashes)) => LaunchStep::Normal(hashes.clone()),
        (SevSectionKind::KernelHashes, None) => LaunchStep::Zero { pages },
    }
}

/// Returns the page that holds the hashes where the firmware looks for them.
fn hashes_page(image: &Ovmf, kernel: &KernelHashes) -> Result<Contents<'static>, SnpError> {
    let area = image.hash_table_area()?.ok_or(SnpError::NoKernelHashes)?;
    let mut sections = image.sev_sections()?.into_iter();
    let section = sections.find(|section| section.kind == SevSectionKind::KernelHashes);
    let pages = section.ok_or(SnpError::NoKernelHashes)?.pages;
    let misplaced = SnpError::MisplacedKernelHashes {
        address: area.address,
        size: area.size,
        page: pages.start(),
    };
    let offset = u64::from(area.address)
        .checked_sub(pages.start())
        .ok_or(misplaced.clone())?;
    let page = kernel.page(offset, area.size.into()).ok_or(misplaced)?;
    Ok(Contents::new(pages.start(), Cow::Owned(page)).expect("the table is in one whole page"))
}

/// Why there is no launch digest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnpError {
    #[error(transparent)]
    Image(#[from] OvmfError),
    #[error("the firmware has no page for the hashes of kernel, initrd and command line")]
    NoKernelHashes,
    #[error(
        "the firmware looks for kernel hashes at {address:#x} ({size} bytes), expected at least 176 bytes inside the \
         page {page:#x} that it reserves for them"
    )]
    MisplacedKernelHashes { address: u32, size: u32, page: u64 },
}

#[cfg(test)]
mod tests;
