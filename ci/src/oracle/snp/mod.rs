//! SEV-SNP launch digests and ID blocks, as sev-snp-measure makes them.

mod case;
mod id_block;
mod input;
mod refusal;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use xshell::Shell;

use self::case::{Boot, Case};
use self::input::Input;
use super::python;
use crate::host;

/// Compares `begat measure snp` with sev-snp-measure of PyPI.
#[derive(clap::Args)]
pub(crate) struct Snp {
    /// Firmware image; without it, that of ../shared/vectors, with a kernel and an initrd.
    #[arg(long)]
    ovmf: Option<PathBuf>,
    /// Kernel; without it, no direct boot is compared.
    #[arg(long, requires = "ovmf")]
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
    let shell = host::shell()?;
    let python = python::programs(&shell)?.join("python");
    let models = case::their_models(&shell, &python)?;
    let cases = launches
        .iter()
        .zip(&firmware)
        .map(|(launch, ovmf)| launch.case(ovmf, &direct, &models));
    let theirs = case::their_digests(&shell, &python, &cases.collect::<Vec<_>>())?;
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
    fn case<'a>(
        &'a self,
        ovmf: &'a str,
        (kernel, initrd, append): &'a (String, String, String),
        models: &[String],
    ) -> Case<'a> {
        let boot = match self.boot.as_str() {
            "direct" => Boot { kernel, initrd, append },
            _ => Boot::default(),
        };
        Case {
            ovmf,
            vmm: &self.vmm,
            model: &self.vcpu_type,
            theirs: case::their_name(&self.vcpu_type, models),
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
        let shell = Shell::new()?;
        let programs = python::programs(&shell)?;
        let python = programs.join("python");
        let Some(input) = self.input(&shell, &python)? else {
            println!(
                "skipped: oracle snp has no firmware to measure; give --ovmf FILE [--kernel FILE [--initrd FILE]]"
            );
            return Ok(());
        };
        let begat = host::begat(&shell)?;
        compare(&shell, &begat, &python, &input)?;
        refusal::check(
            &shell,
            &begat,
            &programs.join("sev-snp-measure"),
            path_text(&input.ovmf)?,
        )?;
        id_block::check(&shell, &begat, &python, path_text(&input.ovmf)?)
    }

    fn input(self, shell: &Shell, python: &Path) -> Result<Option<Input>> {
        let Some(ovmf) = self.ovmf else {
            return Input::beside_the_repository(shell, python);
        };
        Ok(Some(Input {
            ovmf,
            kernel: self.kernel,
            initrd: self.initrd,
            _unpacked: None,
        }))
    }
}

/// Compares the digests of many launches of the same files.
fn compare(shell: &Shell, begat: &Path, python: &Path, input: &Input) -> Result<()> {
    let models = case::their_models(shell, python)?;
    let cases = case::cases(input, &models)?;
    let theirs = case::their_digests(shell, python, &cases)?;
    let (mut compared, mut different) = (theirs.lines(), 0);
    for case in &cases {
        different += case.differences(shell, begat, &mut compared)?;
    }
    let total = theirs.lines().count();
    println!(
        "oracle snp: {total} combinations of VMM, model, vCPUs, features, kernel, initrd and command line compared, \
         {different} differ"
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

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
