//! Artifacts in, measurements out: what each launch of the recipe will report.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::event_log::{Digests, EventLog, HostChoice, Part};
use measure::ovmf::Ovmf;
use measure::snp::{self, CpuSignature, GuestFeatures, KernelHashes, PreVmsa};
use measure::tdx::{self, PageOrder};

use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::{self, Artifacts, file};
use crate::model::measurements::{
    Boot, EXECUTABLES, FirmwareFile, Launch, Measurement, Measurements, Platform, Quantity, Value, Vmm,
};
use crate::model::recipe;
use crate::stage::release::Stamps;

/// Returns every single launch that the recipe asks for, with the firmware that starts it.
///
/// # Errors
/// A launch on a platform that no firmware of the recipe supports.
pub fn launches(wanted: &[recipe::Launch], artifacts: &Artifacts, stamps: &Stamps) -> Result<Vec<Launch>> {
    let mut launches = Vec::new();
    for launch in wanted {
        let firmware = firmware(supports(launch), artifacts, stamps)?;
        let with = |(platform, boot)| Launch {
            platform,
            boot,
            firmware: firmware.clone(),
        };
        launches.extend(single(launch).into_iter().map(with));
    }
    Ok(launches)
}

/// What a firmware must be able to do for this launch.
const fn supports(launch: &recipe::Launch) -> recipe::Platform {
    match launch {
        recipe::Launch::Snp { .. } => recipe::Platform::Snp,
        recipe::Launch::Tdx {} => recipe::Platform::Tdx,
        recipe::Launch::Tpm {} => recipe::Platform::Plain,
    }
}

/// The launches of one entry of the recipe. Firmware that checks kernel hashes starts nothing from a disk.
fn single(launch: &recipe::Launch) -> Vec<(Platform, Boot)> {
    let both = |platform: Platform| [Boot::Direct, Boot::Disk].map(|boot| (platform.clone(), boot)).to_vec();
    let (vcpus, vcpu_types, guest_features) = match launch {
        recipe::Launch::Tdx {} => return both(Platform::Tdx),
        recipe::Launch::Tpm {} => return both(Platform::Tpm),
        recipe::Launch::Snp {
            vcpus,
            vcpu_types,
            guest_features,
        } => (vcpus, vcpu_types, *guest_features),
    };
    let snp = |vcpu_type: &String, vcpus| Platform::Snp {
        vcpus,
        vcpu_type: vcpu_type.clone(),
        guest_features,
        vmm: Vmm::Qemu,
    };
    let rows = vcpu_types
        .iter()
        .flat_map(|cpu| vcpus.iter().map(move |vcpus| (cpu, *vcpus)));
    rows.map(|(cpu, vcpus)| (snp(cpu, vcpus), Boot::Direct)).collect()
}

fn firmware(platform: recipe::Platform, artifacts: &Artifacts, stamps: &Stamps) -> Result<FirmwareFile> {
    let supports = |firmware: &&artifacts::FirmwareFile| firmware.supports.contains(&platform);
    let found = artifacts.firmware.iter().find(supports).ok_or_else(|| {
        let problem = format!("recipe.toml has a launch on {platform:?} and no firmware that supports it");
        Exit::Usage.because(problem, "name one in `firmware`, or remove the launch")
    })?;
    let mut stamps = stamps.iter();
    let stamp = stamps.find(|(name, _)| name.as_str() == found.file);
    let (_, stamp) = stamp.with_context(|| format!("the release has no {}", found.file))?;
    Ok(FirmwareFile {
        name: found.file.clone(),
        sha256: stamp.sha256,
    })
}

/// What of a release is measured.
pub struct Measured {
    firmware: BTreeMap<String, Vec<u8>>,
    command_line: String,
    kernel: Sha256,
    initrd: Sha256,
}

impl Measured {
    /// Reads what these launches measure from the folder of a release, of which these are the stamps.
    ///
    /// # Errors
    /// A file that is missing or cannot be read.
    pub fn read(launches: &[Launch], folder: &Path, stamps: &Stamps) -> Result<Self> {
        let names: BTreeSet<_> = launches.iter().map(|launch| &launch.firmware.name).collect();
        let firmware = |name: &String| {
            let bytes = fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"))?;
            Ok((name.clone(), bytes))
        };
        let hash = |name: &str| {
            let stamp = stamps.iter().find(|(file, _)| file.as_str() == name);
            let (_, stamp) = stamp.with_context(|| format!("the release has no {name}"))?;
            anyhow::Ok(stamp.sha256)
        };
        Ok(Self {
            firmware: names.into_iter().map(firmware).collect::<Result<_>>()?,
            command_line: fs::read_to_string(folder.join(file::COMMAND_LINE))
                .with_context(|| format!("cannot read {}", file::COMMAND_LINE))?,
            kernel: hash(file::KERNEL)?,
            initrd: hash(file::INITRD)?,
        })
    }

    /// Computes what every launch will report.
    ///
    /// # Errors
    /// Firmware that is not what it is said to be.
    pub fn measure(&self, launches: Vec<Launch>) -> Result<Measurements> {
        let measure = |launch: Launch| {
            let values = self
                .values(&launch)
                .with_context(|| format!("cannot measure {}", launch.firmware.name))?;
            Ok(Measurement { launch, values })
        };
        let launches = launches.into_iter().map(measure).collect::<Result<_>>()?;
        Ok(Measurements { launches })
    }

    fn values(&self, launch: &Launch) -> Result<Vec<Value>> {
        let bytes = self.firmware.get(&launch.firmware.name).context("it was not read")?;
        let image = Ovmf::read(bytes)?;
        match &launch.platform {
            Platform::Snp { .. } => Ok(vec![self.snp(&image, &launch.platform)?]),
            Platform::Tdx => tdx(&image),
            Platform::Tpm => Ok(Vec::new()),
        }
    }

    fn snp(&self, image: &Ovmf<'_>, platform: &Platform) -> Result<Value> {
        let Platform::Snp {
            vcpus,
            vcpu_type,
            guest_features,
            vmm: Vmm::Qemu,
        } = platform
        else {
            anyhow::bail!("it is no launch of SEV-SNP");
        };
        const MEND: &str = "see begat measure snp --help";
        let cpu: CpuSignature = vcpu_type
            .parse()
            .or_mend(Exit::Usage, "recipe.toml asks for a CPU", MEND)?;
        let hashes = KernelHashes::new(self.kernel, Some(self.initrd), &self.command_line);
        let features = GuestFeatures::new(*guest_features);
        let before = snp::pre_vmsa(image, Some(&hashes), snp::Vmm::Qemu { cpu }, features)?;
        Ok(launch_digest(before, *vcpus))
    }
}

fn launch_digest(before: PreVmsa, vcpus: std::num::NonZeroU32) -> Value {
    Value {
        quantity: Quantity::LaunchDigest,
        case: None,
        digests: Digests {
            sha256: None,
            sha384: Some(before.for_vcpus(vcpus)),
        },
        covers: EXECUTABLES.into(),
        varies_with: [].into(),
        pre_vmsa: Some(before),
        log: EventLog::default(),
    }
}

/// MRTD is the firmware's alone, whatever it starts afterwards.
fn tdx(image: &Ovmf<'_>) -> Result<Vec<Value>> {
    let orders = [
        (PageOrder::Single, "pages added and measured in one pass"),
        (PageOrder::Two, "pages added in one pass, measured in another"),
    ];
    let value = |(order, case): (PageOrder, &str)| {
        Ok(Value {
            quantity: Quantity::Mrtd,
            case: Some(case.into()),
            digests: Digests {
                sha256: None,
                sha384: Some(tdx::mrtd(image, order)?),
            },
            covers: [Part::Firmware].into(),
            varies_with: [HostChoice::PageOrder].into(),
            pre_vmsa: None,
            log: EventLog::default(),
        })
    };
    orders.into_iter().map(value).collect()
}
