//! `begat measure snp`: the launch digest of an AMD SEV-SNP guest.

use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Error, Result};
use measure::ovmf::Ovmf;
use measure::snp::{self, CpuSignature, GuestFeatures, KernelHashes, PreVmsa, SnpError, Vmm};
use measure::{Sha256, Sha384};
use serde::Serialize;

use super::id_block::{IdBlock, Reported};
use super::print_json;
use crate::mend::{Exit, OrMend as _};
use crate::world::given;

/// Prints the launch digest of an AMD SEV-SNP guest: one line for each number of vCPUs.
#[derive(clap::Args)]
pub(super) struct Snp {
    /// Number of vCPUs; several separated by commas.
    #[arg(long, value_name = "N", required = true, value_delimiter = ',', value_parser = vcpus_of_number)]
    vcpus: Vec<NonZeroU32>,
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
    /// Prints a JSON object: the digests and everything they are made from.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    id_block: IdBlock,
}

/// The CPU model, which only QEMU measures.
#[derive(clap::Args)]
struct Cpu {
    /// CPU model by its name in QEMU, as in EPYC-v4.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["vcpu_sig", "vcpu_family"], value_parser = cpu_of_name)]
    vcpu_type: Option<CpuSignature>,
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
        let vmm = self.vmm()?;
        self.check_vcpus(vmm)?;
        self.id_block.check(self.vcpus.len())?;
        let image = given::firmware(&self.ovmf)?;
        let kernel = self.kernel_hashes()?;
        let pre_vmsa = Ovmf::read(&image)
            .map_err(SnpError::from)
            .and_then(|ovmf| snp::pre_vmsa(&ovmf, kernel.as_ref(), vmm, self.guest_features))
            .map_err(|error| self.refuse(error))?;
        let digests: Vec<Sha384> = self.vcpus.iter().map(|vcpus| pre_vmsa.for_vcpus(*vcpus)).collect();
        let id_block = self.id_block.write(digests[0])?;
        if self.json {
            return print_json(&SnpMeasurement {
                firmware: Sha256::of(&image),
                kernel_hashes: kernel,
                cmdline: kernel.map(|_| self.append.unwrap_or_default()),
                vmm: self.vmm_type,
                cpu: signature_of(vmm),
                guest_features: self.guest_features,
                pre_vmsa,
                launches: self.vcpus.into_iter().zip(digests).map(SnpLaunch::from).collect(),
                id_block,
            });
        }
        digests.iter().for_each(|digest| println!("{digest}"));
        Ok(())
    }

    fn vmm(&self) -> Result<Vmm> {
        match self.vmm_type {
            VmmType::Qemu => Ok(Vmm::Qemu {
                cpu: self.cpu.signature()?,
            }),
            VmmType::Ec2 => Ok(Vmm::Ec2),
            VmmType::Gce => Ok(Vmm::Gce),
            VmmType::Svsm => Err(no_svsm()),
        }
    }

    fn check_vcpus(&self, vmm: Vmm) -> Result<()> {
        let most = vmm.max_vcpus();
        match self.vcpus.iter().find(|vcpus| vcpus.get() > most) {
            None => Ok(()),
            Some(vcpus) => {
                let problem = format!("{vmm} starts guests with {most} vCPUs at most, and {vcpus} are asked for");
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
    fn signature(&self) -> Result<CpuSignature> {
        let fields = (self.vcpu_family, self.vcpu_model, self.vcpu_stepping);
        if let (Some(family), Some(model), Some(stepping)) = fields {
            return CpuSignature::of(family, model, stepping).ok_or_else(|| {
                let problem = format!("no CPU has family {family}, model {model} and stepping {stepping}");
                Exit::Usage.because(
                    problem,
                    "give a family up to 270, a model up to 255, a stepping up to 15",
                )
            });
        }
        self.vcpu_type.or(self.vcpu_sig).ok_or_else(|| {
            let mend = format!("add --vcpu-type NAME, with the model that -cpu names: {}", names());
            Exit::Usage.because("QEMU measures the CPU model, which is not given", mend)
        })
    }
}

/// What goes into a launch digest, and the digests.
#[derive(Serialize)]
struct SnpMeasurement {
    firmware: Sha256,
    kernel_hashes: Option<KernelHashes>,
    cmdline: Option<String>,
    vmm: VmmType,
    cpu: Option<CpuSignature>,
    guest_features: GuestFeatures,
    pre_vmsa: PreVmsa,
    launches: Vec<SnpLaunch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_block: Option<Reported>,
}

#[derive(Serialize)]
struct SnpLaunch {
    vcpus: NonZeroU32,
    launch_digest: Sha384,
}

impl From<(NonZeroU32, Sha384)> for SnpLaunch {
    fn from((vcpus, launch_digest): (NonZeroU32, Sha384)) -> Self {
        Self { vcpus, launch_digest }
    }
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

fn cpu_of_name(name: &str) -> Result<CpuSignature, String> {
    let cpu = CpuSignature::named().find(|(known, _)| *known == name);
    cpu.map(|(_, signature)| signature)
        .ok_or_else(|| format!("expected one of {}", names()))
}

fn names() -> String {
    CpuSignature::named()
        .map(|(name, _)| name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn vcpus_of_number(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "expected a number of vCPUs, 1 or more")
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
                "1,225",
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
            &["--vcpu-family=23"],
            &["--vcpu-sig=1", "--vcpu-type=EPYC"],
        ] {
            let arguments = [&["begat", "measure", "snp", "--ovmf=x", "--vcpus=1"], flags].concat();
            assert!(Cli::try_parse_from(arguments).is_err(), "{flags:?}");
        }
    }
}
