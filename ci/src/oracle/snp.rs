//! SEV-SNP launch digests, as sev-snp-measure computes them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use super::python;
use crate::host;

/// Compares `begat measure snp` with sev-snp-measure of PyPI.
#[derive(clap::Args)]
pub(crate) struct Snp {
    /// Firmware image; without it, nothing is compared.
    #[arg(long)]
    ovmf: Option<PathBuf>,
    /// Kernel; without it, no direct boot is compared.
    #[arg(long)]
    kernel: Option<PathBuf>,
    #[arg(long, requires = "kernel")]
    initrd: Option<PathBuf>,
    /// A release, whose digests are compared instead.
    #[arg(long, conflicts_with = "ovmf")]
    release: Option<PathBuf>,
}

/// `measurements.json`, as far as it is of interest here.
#[derive(Deserialize)]
struct Measurements {
    launches: Vec<Measured>,
}

/// A launch of `measurements.json`; those of other platforms lack most of this.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Measured {
    platform: String,
    #[serde(default)]
    boot: String,
    firmware: Named,
    #[serde(default)]
    vmm: String,
    #[serde(default)]
    vcpus: u32,
    #[serde(default)]
    vcpu_type: String,
    #[serde(default)]
    guest_features: u64,
    values: Vec<Value>,
}

/// What a launch reports; SEV-SNP has one value.
#[derive(Deserialize)]
struct Value {
    #[serde(default)]
    sha384: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Compares every SNP digest of a release with that of sev-snp-measure for the same files.
pub(crate) fn compare_release(release: &Path) -> Result<()> {
    let measurements = fs::read(release.join("measurements.json"))?;
    let measurements: Measurements = serde_json::from_slice(&measurements)?;
    let launches = measurements.launches.iter().filter(|launch| launch.platform == "snp");
    let launches: Vec<&Measured> = launches.collect();
    let file = |name: &str| Ok::<_, anyhow::Error>(path_text(&release.join(name))?.to_owned());
    let direct = (
        file("vmlinuz")?,
        file("initrd.cpio.zst")?,
        fs::read_to_string(release.join("cmdline"))?,
    );
    let firmware = launches.iter().map(|launch| file(&launch.firmware.name));
    let firmware: Vec<String> = firmware.collect::<Result<_>>()?;
    let cases = launches
        .iter()
        .zip(&firmware)
        .map(|(launch, ovmf)| launch.case(ovmf, &direct));
    let shell = host::shell()?;
    let python = python::programs(&shell)?.join("python");
    let theirs = their_digests(&shell, &python, &cases.collect::<Vec<_>>())?;
    let ours: Vec<&str> = launches
        .iter()
        .flat_map(|launch| &launch.values)
        .map(|value| value.sha384.as_str())
        .collect();
    let theirs: Vec<&str> = theirs.lines().collect();
    ensure!(!ours.is_empty(), "the release has no digests of SEV-SNP");
    ensure!(
        ours == theirs,
        "the release has {ours:#?}, and sev-snp-measure says {theirs:#?}"
    );
    println!(
        "oracle snp: all {} digests of the release are those of sev-snp-measure",
        ours.len()
    );
    Ok(())
}

impl Measured {
    fn case<'a>(&'a self, ovmf: &'a str, (kernel, initrd, append): &'a (String, String, String)) -> Case<'a> {
        let boot = match self.boot.as_str() {
            "direct" => Boot { kernel, initrd, append },
            _ => Boot::default(),
        };
        Case {
            ovmf,
            vmm: &self.vmm,
            model: &self.vcpu_type,
            features: self.guest_features,
            vcpus: vec![self.vcpus],
            boot,
        }
    }
}

impl Snp {
    pub(crate) fn run(self) -> Result<()> {
        if let Some(release) = &self.release {
            return compare_release(&fs::canonicalize(release)?);
        }
        let Some(ovmf) = &self.ovmf else {
            println!(
                "skipped: oracle snp has no firmware to measure; give --ovmf FILE [--kernel FILE [--initrd FILE]]"
            );
            return Ok(());
        };
        let shell = Shell::new()?;
        let begat = host::begat(&shell)?;
        let python = python::programs(&shell)?.join("python");
        let models = cmd!(shell, "{python} -c {SCRIPT}").read()?;
        let cases = self.cases(path_text(ovmf)?, models.lines().collect())?;
        let theirs = their_digests(&shell, &python, &cases)?;
        let mut compared = theirs.lines();
        let mut different = 0;
        for case in &cases {
            different += case.differences(&shell, &begat, &mut compared)?;
        }
        let total = theirs.lines().count();
        println!(
            "oracle snp: {total} digests of {} launches compared, {different} differ",
            cases.len()
        );
        ensure!(
            compared.next().is_none() && total > 0,
            "sev-snp-measure printed another number of digests"
        );
        ensure!(
            different == 0,
            "{different} of {total} digests differ from those of sev-snp-measure"
        );
        Ok(())
    }

    /// Every model as it is; then for each generation every feature word and way to boot, on every VMM.
    fn cases<'a>(&'a self, ovmf: &'a str, models: Vec<&'a str>) -> Result<Vec<Case<'a>>> {
        let boots = self.boots()?;
        let plain = [Boot::default()];
        let named = models.iter().map(|model| ("qemu", *model, 0x1, &plain[..]));
        let crossed = GENERATIONS
            .iter()
            .flat_map(|model| FEATURES.map(|word| ("qemu", *model, word, &boots[..])));
        let clouds = ["ec2", "gce"].into_iter();
        let clouds = clouds.flat_map(|vmm| FEATURES.map(|word| (vmm, GENERATIONS[0], word, &boots[..])));
        let launches = named.chain(crossed).chain(clouds);
        let cases = launches.flat_map(|(vmm, model, features, boots)| {
            boots.iter().map(move |boot| Case {
                ovmf,
                vmm,
                model,
                features,
                vcpus: VCPUS.to_vec(),
                boot: *boot,
            })
        });
        Ok(cases.collect())
    }

    fn boots(&self) -> Result<Vec<Boot<'_>>> {
        let kernel = self.kernel.as_deref().map(path_text).transpose()?;
        let initrd = self.initrd.as_deref().map(path_text).transpose()?;
        let mut boots = vec![Boot::default()];
        let Some(kernel) = kernel else { return Ok(boots) };
        for append in CMDLINES {
            boots.push(Boot {
                kernel,
                initrd: "",
                append,
            });
            boots.extend(initrd.map(|initrd| Boot { kernel, initrd, append }));
        }
        Ok(boots)
    }
}

/// A launch, as the script reads it: an empty text is an option left out.
#[derive(Clone, Serialize)]
struct Case<'a> {
    ovmf: &'a str,
    vmm: &'a str,
    model: &'a str,
    features: u64,
    vcpus: Vec<u32>,
    #[serde(flatten)]
    boot: Boot<'a>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Boot<'a> {
    kernel: &'a str,
    initrd: &'a str,
    append: &'a str,
}

impl Case<'_> {
    /// Returns how many of our digests are not the next ones of `theirs`, and prints each.
    fn differences<'t>(
        &self,
        shell: &Shell,
        begat: &Path,
        theirs: &mut impl Iterator<Item = &'t str>,
    ) -> Result<usize> {
        let flags = &self.flags();
        let ours = cmd!(shell, "{begat} measure snp {flags...}").quiet().read()?;
        ensure!(
            ours.lines().count() == self.vcpus.len(),
            "begat printed {ours:?} for {flags:?}"
        );
        let pairs = ours.lines().zip(theirs).zip(&self.vcpus);
        let different = pairs.filter(|((ours, theirs), _)| ours != theirs);
        let printed = different.map(|((ours, theirs), vcpus)| {
            println!("begat measure snp {flags:?}\n  {vcpus} vCPUs: begat {ours}\n  sev-snp-measure {theirs}");
        });
        Ok(printed.count())
    }

    fn flags(&self) -> Vec<String> {
        let vcpus = self.vcpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let features = format!("{:#x}", self.features);
        let always = [
            ("--ovmf", self.ovmf),
            ("--vmm-type", self.vmm),
            ("--vcpu-type", self.model),
            ("--guest-features", &features),
            ("--vcpus", &vcpus),
        ];
        let Boot { kernel, initrd, append } = self.boot;
        let given = [("--kernel", kernel), ("--initrd", initrd), ("--append", append)];
        let given = given.into_iter().filter(|(_, value)| !value.is_empty());
        always
            .into_iter()
            .chain(given)
            .map(|(flag, value)| format!("{flag}={value}"))
            .collect()
    }
}

fn their_digests(shell: &Shell, python: &Path, cases: &[Case]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&file, cases)?;
    let path = file.path();
    Ok(cmd!(shell, "{python} -c {SCRIPT} {path}").quiet().read()?)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

const SCRIPT: &str = include_str!("snp.py");

const VCPUS: [u32; 4] = [1, 2, 4, 64];
const GENERATIONS: [&str; 5] = ["EPYC-v4", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"];
/// SNP alone; with DEBUG_SWAP; with SECURE_TSC; none.
const FEATURES: [u64; 4] = [0x1, 0x21, 0x201, 0x0];
const CMDLINES: [&str; 5] = [
    "",
    "console=hvc0 root=/dev/vda1 ro",
    " console=hvc0",
    "console=hvc0 ",
    "  -- größe=1 \"a b\"\t",
];
