//! Artifacts in, measurements out: what each launch of the recipe will report.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::ovmf::Ovmf;
use measure::snp::{self, CpuSignature, GuestFeatures, KernelHashes};
use measure::tdx::{self, PageOrder};

use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::{Artifacts, file};
use crate::model::measurements::{Boot, FirmwareFile, HostChoice, Measurement, Measurements, Part, Snp, Tdx, Vmm};
use crate::model::recipe::{Launch, Platform};
use crate::stage::release::Stamps;

/// Computes what every launch will report.
///
/// # Errors
/// A launch on a platform that no firmware of the recipe supports; firmware that is not what it is said to be.
pub fn measure(launches: &[Launch], artifacts: &Artifacts, stamps: &Stamps, release: &Path) -> Result<Measurements> {
    let mut measured = Vec::new();
    for launch in launches {
        match launch {
            Launch::Snp { .. } => measured.extend(snp(launch, artifacts, stamps, release)?),
            Launch::Tdx {} => measured.extend(tdx(artifacts, release)?),
        }
    }
    Ok(Measurements::new(measured))
}

fn snp(launch: &Launch, artifacts: &Artifacts, stamps: &Stamps, release: &Path) -> Result<Vec<Measurement>> {
    let Launch::Snp {
        vcpus,
        vcpu_types,
        guest_features,
    } = launch
    else {
        return Ok(Vec::new());
    };
    let (firmware, bytes) = firmware(Platform::Snp, artifacts, release)?;
    let image = Ovmf::read(&bytes).context("the firmware for SEV-SNP is no OVMF")?;
    let hash = |name: &str| {
        stamps
            .iter()
            .find(|(file, _)| file.as_str() == name)
            .map(|(_, stamp)| stamp.sha256)
    };
    let kernel = hash(file::KERNEL).context("the release has no kernel")?;
    let hashes = KernelHashes::new(kernel, hash(file::INITRD), &artifacts.command_line);
    let mut measured = Vec::new();
    for vcpu_type in vcpu_types {
        let cpu: CpuSignature = vcpu_type.parse().or_mend(
            Exit::Usage,
            "recipe.toml asks for a CPU",
            "see begat measure snp --help",
        )?;
        let features = GuestFeatures::new(*guest_features);
        let before = snp::pre_vmsa(&image, Some(&hashes), snp::Vmm::Qemu { cpu }, features)?;
        measured.extend(vcpus.iter().map(|vcpus| {
            Measurement::Snp(Snp {
                boot: Boot::Direct,
                firmware: firmware.clone(),
                vcpus: *vcpus,
                vcpu_type: vcpu_type.clone(),
                guest_features: *guest_features,
                vmm: Vmm::Qemu,
                launch_digest: before.for_vcpus(*vcpus),
                covers: Part::ALL.into(),
                varies_with: [].into(),
            })
        }));
    }
    Ok(measured)
}

/// MRTD is the firmware's alone, whatever it starts afterwards.
fn tdx(artifacts: &Artifacts, release: &Path) -> Result<Vec<Measurement>> {
    let (firmware, bytes) = firmware(Platform::Tdx, artifacts, release)?;
    let image = Ovmf::read(&bytes).context("the firmware for TDX is no OVMF")?;
    let orders = [PageOrder::Single, PageOrder::Two].into_iter();
    let measured = orders.map(|page_order| {
        Ok(Measurement::Tdx(Tdx {
            boot: Boot::Direct,
            firmware: firmware.clone(),
            page_order,
            mrtd: tdx::mrtd(&image, page_order)?,
            covers: [Part::Firmware].into(),
            varies_with: [HostChoice::PageOrder].into(),
        }))
    });
    measured.collect()
}

fn firmware(platform: Platform, artifacts: &Artifacts, release: &Path) -> Result<(FirmwareFile, Vec<u8>)> {
    let found = artifacts
        .firmware
        .iter()
        .find(|firmware| firmware.supports.contains(&platform));
    let file = found.ok_or_else(|| {
        let problem = format!("recipe.toml has a launch on {platform:?} and no firmware that supports it");
        Exit::Usage.because(problem, "name one in `firmware`, or remove the launch")
    })?;
    let bytes = fs::read(release.join(&file.file)).with_context(|| format!("cannot read {}", file.file))?;
    Ok((
        FirmwareFile {
            name: file.file.clone(),
            sha256: Sha256::of(&bytes),
        },
        bytes,
    ))
}
