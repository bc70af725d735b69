//! Artifacts in, measurements out: what each launch will report.

mod registers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::boot::Initrd;
use measure::event_log::{Digests, EventLog, HostChoice, Part};
use measure::host::Host;
use measure::ovmf::{Firmware, Ovmf};
use measure::snp::{self, CpuSignature, GuestFeatures, KernelHashes, PreVmsa};
use measure::tdx::{self, PageOrder};

use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::{self, file};
use crate::model::measurements::{
    Boot, EXECUTABLES, FirmwareFile, Launch, Measurement, Measurements, Platform, Quantity, Value, Vmm, case_of_pages,
};
use crate::model::recipe;
use crate::stage::on_disk::OnDisk;
use crate::stage::release::Stamps;
use crate::world::parallel::{self, both};

use self::registers::{Case, Loaded, Machine};

/// Returns every single launch that the recipe asks for, with the firmware that starts it.
///
/// # Errors
/// A launch on a platform that no firmware of the recipe supports.
pub fn launches(
    wanted: &[recipe::Launch],
    firmware: &[artifacts::FirmwareFile],
    stamps: &Stamps,
) -> Result<Vec<Launch>> {
    let mut launches = Vec::new();
    for launch in wanted {
        let firmware = that_starts(supports(launch), firmware, stamps)?;
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

fn that_starts(
    platform: recipe::Platform,
    firmware: &[artifacts::FirmwareFile],
    stamps: &Stamps,
) -> Result<FirmwareFile> {
    let supports = |firmware: &&artifacts::FirmwareFile| firmware.supports.contains(&platform);
    let found = firmware.iter().find(supports).ok_or_else(|| {
        let problem = format!("recipe.toml has a launch on {platform:?} and no firmware that supports it");
        Exit::Usage.because(problem, "name one in `firmware`, or remove the launch")
    })?;
    let mut stamps = stamps.iter();
    let stamp = stamps.find(|(name, _)| name.as_str() == found.file);
    let (name, stamp) = stamp.with_context(|| format!("the release has no {}", found.file))?;
    Ok(FirmwareFile {
        name: name.clone(),
        sha256: stamp.sha256,
    })
}

/// What of a release is measured.
pub struct Measured {
    firmware: BTreeMap<String, Vec<u8>>,
    command_line: String,
    kernel: Vec<u8>,
    initrd: Initrd,
    uki: Vec<u8>,
    /// The start of the disk, with the partition table.
    disk: Vec<u8>,
}

impl Measured {
    /// Reads what these launches measure from a release. What is measured are the bytes that were hashed.
    ///
    /// # Errors
    /// A file that is missing or cannot be read; firmware that is not the one that a launch names.
    pub fn read(launches: &[Launch], release: &OnDisk) -> Result<Self> {
        let cannot = |name: &str| format!("cannot read {name}");
        let read = |name: &str| release.bytes(name).with_context(|| cannot(name));
        let named: BTreeSet<_> = launches.iter().map(|launch| &launch.firmware).collect();
        let firmware = named.into_iter().map(|named| {
            let (name, bytes) = (named.name.as_str(), read(named.name.as_str())?);
            let (found, wanted) = (release.file(name)?.stamp()?.sha256, named.sha256);
            anyhow::ensure!(
                found == wanted,
                "{name} has the SHA-256 {found}, a launch names {wanted}"
            );
            Ok((name.to_owned(), bytes))
        });
        let initrd = || release.file(file::INITRD).and_then(|initrd| initrd.hash());
        let (initrd, uki) = both(initrd, || read(file::UKI));
        let (size, digests) = initrd.with_context(|| cannot(file::INITRD))?;
        let disk = release.file(file::DISK).and_then(|disk| head(disk.reader()));
        Ok(Self {
            firmware: firmware.collect::<Result<_>>()?,
            command_line: String::from_utf8(read(file::COMMAND_LINE)?)?,
            kernel: read(file::KERNEL)?,
            initrd: Initrd { digests, size },
            uki: uki?,
            disk: disk.with_context(|| cannot(file::DISK))?,
        })
    }

    /// Returns the kernel that is started directly.
    pub fn kernel(&self) -> &[u8] {
        &self.kernel
    }

    /// Returns the initrd that is handed over with it.
    pub const fn initrd(&self) -> &Initrd {
        &self.initrd
    }

    /// Returns its command line.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Returns the UKI.
    pub fn uki(&self) -> &[u8] {
        &self.uki
    }

    /// Computes what every launch will report.
    ///
    /// # Errors
    /// Firmware that is not what it is said to be, or an image that nobody can predict.
    pub fn measure(&self, launches: Vec<Launch>) -> Result<Measurements> {
        let hashed = self.hash(&launches)?;
        let values = launches.iter().map(|launch| {
            let values = self.values(launch, &hashed);
            values.with_context(|| format!("cannot measure {launch}"))
        });
        let values = values.collect::<Result<Vec<_>>>()?;
        let launches = launches.into_iter().zip(values);
        Ok(Measurements {
            launches: launches
                .map(|(launch, values)| Measurement { launch, values })
                .collect(),
        })
    }

    /// Does what takes time, once for all launches.
    fn hash<'a>(&'a self, launches: &'a [Launch]) -> Result<Hashed<'a>> {
        let load = |boot| Loaded::new(&self.started(boot), None);
        let loaded = || once(launches, |launch| fills_registers(launch).then_some(launch.boot), load);
        let read = |name| Ok(Firmware::read(&self.image(name)?)?);
        let firmware = || once(launches, |launch| firmware_if(launch, fills_registers), read);
        let td = |name| mrtd(&self.image(name)?);
        let mrtd = || once(launches, |launch| firmware_if(launch, is_td), td);
        let snp = |name| self.pre_vmsa(name);
        let pre_vmsa = || once(launches, |launch| firmware_if(launch, is_snp), snp);
        let ((loaded, firmware), (mrtd, pre_vmsa)) = both(|| both(loaded, firmware), || both(mrtd, pre_vmsa));
        Ok(Hashed {
            pre_vmsa: pre_vmsa?,
            mrtd: mrtd?,
            firmware: firmware?,
            loaded: loaded?,
        })
    }

    fn values(&self, launch: &Launch, hashed: &Hashed<'_>) -> Result<Vec<Value>> {
        let name = launch.firmware.name.as_str();
        let image = &self.image(name)?;
        let registers = || {
            let machine = Machine {
                image,
                firmware: &hashed.firmware[name],
                host: None,
            };
            let logs = machine.logs(&launch.platform, &hashed.loaded[&launch.boot])?;
            Ok(registers::values(&logs))
        };
        match &launch.platform {
            Platform::Snp {
                vcpus,
                vcpu_type,
                guest_features,
                vmm: Vmm::Qemu,
            } => {
                let (vmm, features) = (qemu(vcpu_type)?, GuestFeatures::new(*guest_features));
                let before = hashed.pre_vmsa[name].with_vcpus(image, vmm, features)?;
                Ok(vec![launch_digest(before, *vcpus)])
            }
            Platform::Tdx => Ok([hashed.mrtd[name].clone(), registers()?].concat()),
            Platform::Tpm => registers(),
        }
    }

    /// Returns every log that this launch on a machine with a TPM may make on this host: one for each case.
    ///
    /// # Errors
    /// As [`Measured::measure`], and a host that lacks what the firmware measures.
    pub fn logs(&self, launch: &Launch, host: Option<&Host>) -> Result<Vec<EventLog>> {
        let image = self.image(launch.firmware.name.as_str())?;
        let cases = cases(&image, &launch.platform, &self.started(launch.boot), host)?;
        Ok(cases.into_iter().map(|case| case.outcome).collect())
    }

    fn image(&self, name: &str) -> Result<Ovmf<'_>> {
        let bytes = self.firmware.get(name).context("its firmware was not read")?;
        Ok(Ovmf::read(bytes)?)
    }

    fn started(&self, boot: Boot) -> Started<'_> {
        match boot {
            Boot::Direct => Started::Direct {
                kernel: &self.kernel,
                initrd: Some(self.initrd),
                command_line: &self.command_line,
            },
            Boot::Disk => Started::Disk {
                disk: &self.disk,
                uki: &self.uki,
            },
        }
    }

    /// What is measured whatever the vCPUs are; those of `PreVmsa` are of any model.
    fn pre_vmsa(&self, name: &str) -> Result<PreVmsa> {
        let hashes = KernelHashes::new(Sha256::of(&self.kernel), self.initrd.digests.sha256, &self.command_line);
        let vmm = snp::Vmm::Qemu {
            cpu: CpuSignature::new(0),
        };
        Ok(snp::pre_vmsa(
            &self.image(name)?,
            Some(&hashes),
            vmm,
            GuestFeatures::new(0),
        )?)
    }
}

/// What launches have in common, by the name of their firmware or by how they boot.
struct Hashed<'a> {
    pre_vmsa: BTreeMap<&'a str, PreVmsa>,
    mrtd: BTreeMap<&'a str, Vec<Value>>,
    firmware: BTreeMap<&'a str, Firmware>,
    loaded: BTreeMap<Boot, Loaded<'a>>,
}

/// Computes what launches need, once for each key.
fn once<'a, K: Copy + Ord + Send + Sync, V: Send>(
    launches: &'a [Launch],
    key: impl Fn(&'a Launch) -> Option<K>,
    compute: impl Fn(K) -> Result<V> + Sync,
) -> Result<BTreeMap<K, V>> {
    let mut needed = BTreeMap::new();
    for launch in launches {
        key(launch).map(|key| needed.entry(key).or_insert(launch));
    }
    let needed: Vec<_> = needed.into_iter().collect();
    let values = parallel::map(&needed, |(key, launch)| {
        let value = compute(*key).with_context(|| format!("cannot measure {launch}"))?;
        Ok((*key, value))
    });
    values.into_iter().collect()
}

fn firmware_if(launch: &Launch, needed: fn(&Launch) -> bool) -> Option<&str> {
    needed(launch).then_some(launch.firmware.name.as_str())
}

const fn is_snp(launch: &Launch) -> bool {
    matches!(launch.platform, Platform::Snp { .. })
}

const fn is_td(launch: &Launch) -> bool {
    matches!(launch.platform, Platform::Tdx)
}

/// Whether the boot is measured, and not only what the VMM starts.
const fn fills_registers(launch: &Launch) -> bool {
    !is_snp(launch)
}

fn qemu(vcpu_type: &str) -> Result<snp::Vmm> {
    const MEND: &str = "see begat measure snp --help";
    let cpu = vcpu_type.parse();
    let cpu = cpu.or_mend(Exit::Usage, "recipe.toml asks for a CPU", MEND)?;
    Ok(snp::Vmm::Qemu { cpu })
}

/// What firmware starts.
#[derive(Clone, Copy, Debug)]
pub enum Started<'a> {
    /// What the VMM hands over.
    Direct {
        kernel: &'a [u8],
        initrd: Option<Initrd>,
        command_line: &'a str,
    },
    /// The UKI on a disk, of which the start is given.
    Disk { disk: &'a [u8], uki: &'a [u8] },
}

/// Returns the registers of a TD or a TPM that a boot fills. Without a host, those that also depend on the host have no
/// value.
///
/// # Errors
/// Firmware, kernel, UKI or disk that are not what they are said to be, or that nobody can predict.
pub fn boot_registers(
    image: &Ovmf<'_>,
    platform: &Platform,
    started: &Started<'_>,
    host: Option<&Host>,
) -> Result<Vec<Value>> {
    Ok(registers::values(&cases(image, platform, started, host)?))
}

fn cases(
    image: &Ovmf<'_>,
    platform: &Platform,
    started: &Started<'_>,
    host: Option<&Host>,
) -> Result<Vec<Case<EventLog>>> {
    let (loaded, firmware) = both(|| Loaded::new(started, host), || Firmware::read(image));
    let machine = Machine {
        image,
        firmware: &firmware?,
        host,
    };
    machine.logs(platform, &loaded?)
}

/// Reads the start of a disk, with more than any partition table.
///
/// # Errors
/// A file that cannot be read.
pub fn partition_table(disk: &Path) -> Result<Vec<u8>> {
    let read = File::open(disk).and_then(head);
    read.with_context(|| format!("cannot read {}", disk.display()))
}

fn head(disk: impl Read) -> io::Result<Vec<u8>> {
    const ENOUGH: u64 = 1 << 20;
    let mut bytes = Vec::new();
    disk.take(ENOUGH).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn launch_digest(before: PreVmsa, vcpus: NonZeroU32) -> Value {
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

/// Returns MRTD for each page order: it is the firmware's alone, whatever that starts afterwards.
///
/// # Errors
/// Firmware that is none for TDX.
pub fn mrtd(image: &Ovmf<'_>) -> Result<Vec<Value>> {
    let value = |order| {
        Ok(Value {
            quantity: Quantity::Mrtd,
            case: Some(case_of_pages(order).into()),
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
    [PageOrder::Single, PageOrder::Two].into_iter().map(value).collect()
}
