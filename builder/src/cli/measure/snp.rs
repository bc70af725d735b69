//! `begat measure snp`: the launch digest of an AMD SEV-SNP guest.

use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Error, Result};
use measure::ovmf::Ovmf;
use measure::snp::{self, CpuSignature, GuestFeatures, KernelHashes, PreVmsa, SnpError, Vmm};
use measure::{Sha256, Sha384};
use serde::Serialize;

use super::id_block::{IdBlock, Reported};
use super::print_json;
use crate::mend::{Exit, OrMend as _};
use crate::world::given;

/// Prints the launch digest of an AMD SEV-SNP guest: one line for each number of vCPUs
///
/// With several CPU models, each line ends with the number and the model.
#[derive(clap::Args)]
pub(super) struct Snp {
    /// Number of vCPUs; several separated by commas, or from one to another as in 1-512.
    #[arg(long, value_name = "N", required = true, value_delimiter = ',')]
    vcpus: Vec<Vcpus>,
    #[command(flatten)]
    cpu: Cpu,
    /// What starts the guest.
    #[arg(long, value_enum, default_value_t = VmmType::Qemu, ignore_case = true)]
    vmm_type: VmmType,
    /// Feature word of the guest: SEV_FEATURES of its vCPUs.
    #[arg(long, value_name = "VALUE", default_value_t = GuestFeatures::SNP_ACTIVE)]
    guest_features: GuestFeatures,
    /// Firmware image.
    #[arg(long, value_name = "PATH")]
    ovmf: PathBuf,
    /// Kernel that is started directly.
    #[arg(long, value_name = "PATH")]
    kernel: Option<PathBuf>,
    /// Initrd of the kernel.
    #[arg(long, value_name = "PATH", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// Command line of the kernel, exactly as the VMM is given it.
    #[arg(long, value_name = "CMDLINE", requires = "kernel", allow_hyphen_values = true)]
    append: Option<String>,
    /// Prints a JSON object: the digests and everything they are made from; with several CPU models, a list of them.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    id_block: IdBlock,
}

/// The CPU model, which only QEMU measures.
#[derive(clap::Args)]
struct Cpu {
    /// CPU model by its name in QEMU, as in EPYC-v4; several separated by commas.
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["vcpu_sig", "vcpu_family"],
        value_delimiter = ',',
        value_parser = cpu_of_name
    )]
    vcpu_type: Vec<Model>,
    /// CPU model by its signature, as in 0x800f12.
    #[arg(long, value_name = "VALUE", conflicts_with = "vcpu_family", value_parser = cpu_of_signature)]
    vcpu_sig: Option<CpuSignature>,
    /// CPU model by family, model and stepping.
    #[arg(long, value_name = "FAMILY", requires_all = ["vcpu_model", "vcpu_stepping"])]
    vcpu_family: Option<u32>,
    /// See --vcpu-family.
    #[arg(long, value_name = "MODEL", requires = "vcpu_family")]
    vcpu_model: Option<u32>,
    /// See --vcpu-family.
    #[arg(long, value_name = "STEPPING", requires = "vcpu_family")]
    vcpu_stepping: Option<u32>,
}

/// A CPU model by its name in QEMU.
type Model = (&'static str, CpuSignature);

/// Numbers of vCPUs, from one to another.
#[derive(Clone)]
struct Vcpus(RangeInclusive<u32>);

impl FromStr for Vcpus {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |text: &str| text.parse::<NonZeroU32>().map(NonZeroU32::get);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("expected a number of vCPUs, 1 or more, or two as in 1-512"),
        }
    }
}

#[derive(Clone, Copy, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum VmmType {
    Qemu,
    Ec2,
    Gce,
    /// An SVSM, which is known and cannot be measured.
    #[value(hide = true, alias = "snp:svsm")]
    Svsm,
}

impl Snp {
    pub(super) fn run(self) -> Result<()> {
        let vmms = self.vmms()?;
        self.check_vcpus(vmms[0])?;
        let numbers: Vec<u32> = self.vcpus.iter().flat_map(|vcpus| vcpus.0.clone()).collect();
        self.id_block.check(vmms.len() * numbers.len())?;
        let image = given::firmware(&self.ovmf)?;
        let kernel = self.kernel_hashes()?;
        let measured = Ovmf::read(&image)
            .map_err(SnpError::from)
            .and_then(|ovmf| measure(&ovmf, kernel.as_ref(), &vmms, self.guest_features))
            .map_err(|error| self.refuse(error))?;
        let launches: Vec<_> = measured.iter().map(|pre_vmsa| launches(pre_vmsa, &numbers)).collect();
        let id_block = self.id_block.write(launches[0][0].launch_digest)?;
        if !self.json {
            return self.print(&launches);
        }
        let firmware = Sha256::of(&image);
        let rows = vmms.into_iter().zip(measured).zip(launches);
        let models = rows.map(|((vmm, pre_vmsa), launches)| SnpMeasurement {
            firmware,
            kernel_hashes: kernel,
            cmdline: kernel.map(|_| self.append.as_deref().unwrap_or_default()),
            vmm: self.vmm_type,
            cpu: signature_of(vmm),
            guest_features: self.guest_features,
            pre_vmsa,
            launches,
            id_block: id_block.as_ref(),
        });
        match models.collect::<Vec<_>>().as_slice() {
            [one] => print_json(one),
            several => print_json(&several),
        }
    }

    /// Prints plain digests; where the models are several, with what each is of.
    fn print(&self, launches: &[Vec<SnpLaunch>]) -> Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let names = self.cpu.vcpu_type.iter().map(|(name, _)| Some(*name)).chain([None]);
        let several = launches.len() > 1;
        for (launches, name) in launches.iter().zip(names) {
            for SnpLaunch { vcpus, launch_digest } in launches {
                match name.filter(|_| several) {
                    Some(name) => writeln!(out, "{launch_digest}  {vcpus} × {name}")?,
                    None => writeln!(out, "{launch_digest}")?,
                }
            }
        }
        Ok(out.flush()?)
    }

    /// Returns the VMM with each CPU model, at least once.
    fn vmms(&self) -> Result<Vec<Vmm>> {
        match self.vmm_type {
            VmmType::Qemu => {
                let cpus = self.cpu.signatures()?.into_iter();
                Ok(cpus.map(|cpu| Vmm::Qemu { cpu }).collect())
            }
            VmmType::Ec2 => Ok(vec![Vmm::Ec2]),
            VmmType::Gce => Ok(vec![Vmm::Gce]),
            VmmType::Svsm => Err(no_svsm()),
        }
    }

    fn check_vcpus(&self, vmm: Vmm) -> Result<()> {
        let most = vmm.max_vcpus();
        match self.vcpus.iter().map(|vcpus| vcpus.0.end()).find(|last| **last > most) {
            None => Ok(()),
            Some(last) => {
                let problem = format!("{vmm} starts guests with {most} vCPUs at most, and {last} are asked for");
                Err(Exit::Usage.because(problem, format!("give a number from 1 to {most}")))
            }
        }
    }

    fn kernel_hashes(&self) -> Result<Option<KernelHashes>> {
        let Some(kernel) = &self.kernel else {
            return Ok(None);
        };
        let kernel = given::stamp(kernel)?.sha256;
        let initrd = self.initrd.as_deref().map(given::stamp).transpose()?;
        let initrd = initrd.map(|initrd| initrd.sha256);
        let cmdline = self.append.as_deref().unwrap_or_default();
        Ok(Some(KernelHashes::new(kernel, initrd, cmdline)))
    }

    fn refuse(&self, error: SnpError) -> Error {
        let problem = format!("cannot measure {} for SEV-SNP", self.ovmf.display());
        let mend = match error {
            SnpError::NoKernelHashes => {
                "use firmware that checks kernel hashes (OvmfPkg/AmdSev/AmdSevX64.dsc; Debian: ovmf-amdsev), or leave \
                 out --kernel if the kernel is on the disk"
            }
            _ => "use an OVMF image for SEV-SNP, with code and not only variables in it",
        };
        let refused: Result<(), _> = Err(error);
        refused
            .or_mend(Exit::Usage, problem, mend)
            .expect_err("it was an error before")
    }
}

impl Cpu {
    fn signatures(&self) -> Result<Vec<CpuSignature>> {
        let fields = (self.vcpu_family, self.vcpu_model, self.vcpu_stepping);
        if let (Some(family), Some(model), Some(stepping)) = fields {
            let cpu = CpuSignature::of(family, model, stepping);
            return cpu.map(|cpu| vec![cpu]).ok_or_else(|| {
                let problem = format!("no CPU has family {family}, model {model} and stepping {stepping}");
                Exit::Usage.because(
                    problem,
                    "give a family up to 270, a model up to 255, a stepping up to 15",
                )
            });
        }
        let named = self.vcpu_type.iter().map(|(_, signature)| *signature);
        let cpus: Vec<_> = named.chain(self.vcpu_sig).collect();
        if cpus.is_empty() {
            let mend = format!("add --vcpu-type NAME, with the model that -cpu names: {}", names());
            return Err(Exit::Usage.because("QEMU measures the CPU model, which is not given", mend));
        }
        Ok(cpus)
    }
}

/// What goes into a launch digest, and the digests.
#[derive(Serialize)]
struct SnpMeasurement<'a> {
    firmware: Sha256,
    kernel_hashes: Option<KernelHashes>,
    cmdline: Option<&'a str>,
    vmm: VmmType,
    cpu: Option<CpuSignature>,
    guest_features: GuestFeatures,
    pre_vmsa: PreVmsa,
    launches: Vec<SnpLaunch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_block: Option<&'a Reported>,
}

#[derive(Serialize)]
struct SnpLaunch {
    vcpus: u32,
    launch_digest: Sha384,
}

/// Measures the pages once, and the vCPUs of each of `vmms`, which differ in their CPU alone.
fn measure(
    image: &Ovmf<'_>,
    kernel: Option<&KernelHashes>,
    vmms: &[Vmm],
    features: GuestFeatures,
) -> Result<Vec<PreVmsa>, SnpError> {
    let first = snp::pre_vmsa(image, kernel, vmms[0], features)?;
    let measured = vmms.iter().map(|vmm| first.with_vcpus(image, *vmm, features));
    measured.collect()
}

/// Returns the digests for these numbers of vCPUs, each of which is at least 1.
fn launches(pre_vmsa: &PreVmsa, numbers: &[u32]) -> Vec<SnpLaunch> {
    let most = numbers.iter().max().copied().unwrap_or_default();
    let digests: Vec<Sha384> = pre_vmsa.digests().take(most as usize).collect();
    let launch = |vcpus: &u32| SnpLaunch {
        vcpus: *vcpus,
        launch_digest: digests[*vcpus as usize - 1],
    };
    numbers.iter().map(launch).collect()
}

/// Returns why there is no digest with an SVSM.
pub(super) fn no_svsm() -> Error {
    Exit::Unsupported.because(
        "an SVSM is in front of the firmware, which this version cannot measure",
        "start the guest without an SVSM, or measure it with what its makers offer (COCONUT-SVSM: igvmmeasure)",
    )
}

fn signature_of(vmm: Vmm) -> Option<CpuSignature> {
    match vmm {
        Vmm::Qemu { cpu } => Some(cpu),
        Vmm::Ec2 | Vmm::Gce => None,
    }
}

fn cpu_of_name(name: &str) -> Result<Model, String> {
    let model = CpuSignature::named().find(|(known, _)| *known == name);
    model.ok_or_else(|| format!("expected one of {}", names()))
}

fn names() -> String {
    CpuSignature::named()
        .map(|(name, _)| name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Reads a number in hex after `0x`, or in decimal.
fn cpu_of_signature(text: &str) -> Result<CpuSignature, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map(CpuSignature::new).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;
    use crate::cli::measure::tests::failure;
    use crate::mend::Exit;

    #[test]
    fn qemu_needs_a_cpu_that_can_exist() {
        let (exit, report) = failure(&["snp", "--vcpus=1", "--ovmf=/nowhere"]);
        assert_eq!(exit, Exit::Usage);
        assert!(
            report.starts_with("error: QEMU measures the CPU model, which is not given\n"),
            "{report}"
        );
        let fields = ["--vcpu-family=999", "--vcpu-model=0", "--vcpu-stepping=0"];
        let (_, report) = failure(&[&["snp", "--vcpus=1", "--ovmf=/nowhere"], &fields[..]].concat());
        assert!(
            report.starts_with("error: no CPU has family 999, model 0 and stepping 0\n"),
            "{report}"
        );
    }

    #[test]
    fn no_vmm_starts_any_number_of_vcpus() {
        for (vmm, vcpus, problem) in [
            (
                "--vmm-type=ec2",
                "193",
                "EC2 starts guests with 192 vCPUs at most, and 193 are asked for",
            ),
            (
                "--vmm-type=GCE",
                "1,2-225",
                "GCE starts guests with 224 vCPUs at most, and 225 are asked for",
            ),
            (
                "--vcpu-type=EPYC-v4",
                "4097",
                "QEMU with CPU EPYC (0x800f12) starts guests with 4096 vCPUs at most, and 4097 are asked for",
            ),
        ] {
            let (exit, report) = failure(&["snp", "--ovmf=/nowhere", vmm, "--vcpus", vcpus]);
            assert_eq!(exit, Exit::Usage);
            assert!(report.starts_with(&format!("error: {problem}\n")), "{report}");
        }
    }

    #[test]
    fn numbers_of_vcpus_may_be_many() {
        let numbers = |text: &str| {
            text.parse()
                .map(|super::Vcpus(numbers)| (*numbers.start(), *numbers.end()))
        };
        assert_eq!((numbers("64"), numbers("1-512")), (Ok((64, 64)), Ok((1, 512))));
        assert!(numbers("1-512-").is_err() && numbers("-1").is_err() && numbers("").is_err());
    }

    #[test]
    fn an_svsm_is_known_and_unsupported() {
        for arguments in [
            &["snp", "--vmm-type=svsm", "--vcpus=1", "--ovmf=/nowhere"][..],
            &["snp", "--vmm-type=snp:svsm", "--vcpus=1", "--ovmf=/nowhere"],
            &["snp:svsm", "--svsm", "svsm.bin", "--vcpus=1"],
        ] {
            let (exit, report) = failure(arguments);
            assert_eq!(exit, Exit::Unsupported);
            assert!(
                report.starts_with("error: an SVSM is in front of the firmware"),
                "{report}"
            );
        }
    }

    #[test]
    fn flags_that_make_no_sense_together_are_refused() {
        for flags in [
            &["--initrd=x"][..],
            &["--append=x"],
            &["--vcpus=0"],
            &["--vcpus=2-1"],
            &["--vcpus=0-1"],
            &["--vcpus=1-"],
            &["--vcpu-family=23"],
            &["--vcpu-sig=1", "--vcpu-type=EPYC"],
        ] {
            let arguments = [&["begat", "measure", "snp", "--ovmf=x", "--vcpus=1"], flags].concat();
            assert!(Cli::try_parse_from(arguments).is_err(), "{flags:?}");
        }
    }
}
