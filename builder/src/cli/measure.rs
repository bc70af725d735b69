//! `begat measure`: what a confidential VM will report, computed from files.

use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};
use measure::ovmf::Ovmf;
use measure::snp::{self, CpuSignature, GuestFeatures, KernelHashes, PreVmsa, SnpError, Vmm};
use measure::tdx::{self, PageOrder};
use measure::{Sha256, Sha384};
use serde::Serialize;
use sha2::Digest as _;

use crate::mend::{Exit, OrMend as _};

/// Computes what a confidential VM will report, from files alone.
#[derive(clap::Args)]
pub(super) struct Measure {
    #[command(subcommand)]
    platform: Platform,
}

#[derive(clap::Subcommand)]
enum Platform {
    Snp(Snp),
    Tdx(Tdx),
}

/// Prints the launch digest of an AMD SEV-SNP guest: one line for each number of vCPUs.
#[derive(clap::Args)]
struct Snp {
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
}

/// Prints MRTD of an Intel TDX guest.
#[derive(clap::Args)]
struct Tdx {
    /// Firmware image.
    #[arg(long, value_name = "PATH")]
    ovmf: PathBuf,
    /// In how many passes the VMM adds and measures pages: single in Linux 6.16 and QEMU 10.1 or newer, two in QEMU 8.2
    /// of Ubuntu 24.04.
    #[arg(long, value_enum, default_value_t = Passes::Single)]
    page_order: Passes,
    /// Prints a JSON object: MRTD and what it is made from.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Passes {
    Single,
    Two,
}

impl Measure {
    pub(super) fn run(self) -> Result<()> {
        match self.platform {
            Platform::Snp(snp) => snp.run(),
            Platform::Tdx(tdx) => tdx.run(),
        }
    }
}

impl Snp {
    fn run(self) -> Result<()> {
        let vmm = self.vmm()?;
        let image = read_image(&self.ovmf)?;
        let kernel = self.kernel_hashes()?;
        let pre_vmsa = Ovmf::read(&image)
            .map_err(SnpError::from)
            .and_then(|ovmf| snp::pre_vmsa(&ovmf, kernel.as_ref(), vmm, self.guest_features))
            .map_err(|error| self.refuse(error))?;
        let launches = self.vcpus.iter().map(|vcpus| SnpLaunch {
            vcpus: *vcpus,
            launch_digest: pre_vmsa.for_vcpus(*vcpus),
        });
        let launches = launches.collect::<Vec<_>>();
        if self.json {
            return print_json(&SnpMeasurement {
                firmware: Sha256::of(&image),
                kernel_hashes: kernel,
                cmdline: kernel.map(|_| self.append.unwrap_or_default()),
                vmm: self.vmm_type,
                cpu: signature_of(vmm),
                guest_features: self.guest_features,
                pre_vmsa,
                launches,
            });
        }
        launches.iter().for_each(|launch| println!("{}", launch.launch_digest));
        Ok(())
    }

    fn vmm(&self) -> Result<Vmm> {
        match self.vmm_type {
            VmmType::Qemu => Ok(Vmm::Qemu {
                cpu: self.cpu.signature()?,
            }),
            VmmType::Ec2 => Ok(Vmm::Ec2),
            VmmType::Gce => Ok(Vmm::Gce),
        }
    }

    fn kernel_hashes(&self) -> Result<Option<KernelHashes>> {
        let Some(kernel) = &self.kernel else {
            return Ok(None);
        };
        let kernel = hash_file(kernel)?;
        let initrd = self.initrd.as_deref().map(hash_file).transpose()?;
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

impl Tdx {
    fn run(self) -> Result<()> {
        let image = read_image(&self.ovmf)?;
        let order = match self.page_order {
            Passes::Single => PageOrder::Single,
            Passes::Two => PageOrder::Two,
        };
        let mrtd = Ovmf::read(&image)
            .map_err(Into::into)
            .and_then(|ovmf| tdx::mrtd(&ovmf, order))
            .or_mend(
                Exit::Usage,
                format!("cannot measure {} for TDX", self.ovmf.display()),
                "use an OVMF image for TDX (Debian: ovmf-inteltdx), with code and not only variables in it",
            )?;
        if self.json {
            let firmware = Sha256::of(&image);
            return print_json(&TdxMeasurement {
                firmware,
                page_order: order,
                mrtd,
            });
        }
        println!("{mrtd}");
        Ok(())
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
}

#[derive(Serialize)]
struct SnpLaunch {
    vcpus: NonZeroU32,
    launch_digest: Sha384,
}

#[derive(Serialize)]
struct TdxMeasurement {
    firmware: Sha256,
    page_order: PageOrder,
    mrtd: Sha384,
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

/// Reads a number of vCPUs that KVM can start (`KVM_MAX_VCPUS`).
fn vcpus_of_number(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse().ok().filter(|vcpus: &NonZeroU32| vcpus.get() <= 4096);
    number.ok_or_else(|| "expected a number from 1 to 4096".into())
}

/// Reads a number in hex after `0x`, or in decimal.
fn cpu_of_signature(text: &str) -> Result<CpuSignature, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map(CpuSignature::new).map_err(|error| error.to_string())
}

/// Reads a firmware image; a larger file is something else.
fn read_image(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(IMAGE_LIMIT + 1).read_to_end(&mut bytes).or_mend(
        Exit::Outside,
        format!("cannot read {}", path.display()),
        "check the path and its permissions",
    )?;
    if bytes.len() as u64 > IMAGE_LIMIT {
        let problem = format!("{} is larger than {IMAGE_LIMIT} bytes", path.display());
        return Err(Exit::Usage.because(problem, "give a firmware image, which is a few MiB in size"));
    }
    Ok(bytes)
}

/// Returns the SHA-256 of a file of any size.
fn hash_file(path: &Path) -> Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut file = open(path)?;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(<[u8; 32]>::from(hasher.finalize()).into()),
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => Err(error).or_mend(
                Exit::Outside,
                format!("cannot read {}", path.display()),
                "check the path and its permissions",
            )?,
        }
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).or_mend(
        Exit::Outside,
        format!("cannot open {}", path.display()),
        "check the path and its permissions",
    )
}

fn print_json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// In bytes.
const IMAGE_LIMIT: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser as _;

    use crate::cli::Cli;
    use crate::mend::{Exit, exit_code, report};

    /// Runs `begat measure` with these arguments and returns how it failed.
    fn failure(arguments: &[&str]) -> (Exit, String) {
        let cli = Cli::try_parse_from([&["begat", "measure"], arguments].concat());
        let error = cli.unwrap_or_else(|error| panic!("{error}")).run().unwrap_err();
        (exit_code(&error), report(&error))
    }

    #[test]
    fn missing_files_come_from_outside() {
        let (exit, report) = failure(&["tdx", "--ovmf", "/nowhere/OVMF.fd"]);
        assert_eq!(exit, Exit::Outside);
        assert_eq!(
            report,
            "error: cannot open /nowhere/OVMF.fd\n  \
             because No such file or directory (os error 2)\n\
             mend: check the path and its permissions\n"
        );
    }

    #[test]
    fn files_that_are_no_firmware_are_a_question_that_cannot_be_asked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "no firmware").unwrap();
        let path = file.path().to_str().unwrap();
        for arguments in [&["snp", "--vmm-type=ec2", "--vcpus=1"][..], &["tdx"]] {
            let (exit, report) = failure(&[arguments, &["--ovmf", path]].concat());
            assert_eq!(exit, Exit::Usage);
            let reason = "because the image is 11 bytes long, expected a multiple of 4096 bytes, at most 4 GiB";
            assert!(report.contains(reason), "{report}");
        }
    }

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
    fn flags_that_make_no_sense_together_are_refused() {
        for flags in [
            &["--initrd=x"][..],
            &["--append=x"],
            &["--vcpus=0"],
            &["--vcpus=4097"],
            &["--vcpu-family=23"],
            &["--vcpu-sig=1", "--vcpu-type=EPYC"],
        ] {
            let arguments = [&["begat", "measure", "snp", "--ovmf=x", "--vcpus=1"], flags].concat();
            assert!(Cli::try_parse_from(arguments).is_err(), "{flags:?}");
        }
    }
}
