//! The launches that are compared.

use std::path::Path;

use anyhow::{Result, ensure};
use measure::snp::CpuSignature;
use serde::Serialize;
use xshell::{Shell, cmd};

use super::input::Input;
use super::path_text;

/// A launch, as the script reads it: an empty text is an option left out.
#[derive(Clone, Serialize)]
pub(super) struct Case<'a> {
    pub(super) ovmf: &'a str,
    pub(super) vmm: &'a str,
    pub(super) model: &'a str,
    /// The model by the name that sev-snp-measure knows.
    pub(super) theirs: &'a str,
    pub(super) features: u64,
    pub(super) vcpus: Vec<u32>,
    #[serde(flatten)]
    pub(super) boot: Boot<'a>,
}

#[derive(Clone, Copy, Default, Serialize)]
pub(super) struct Boot<'a> {
    pub(super) kernel: &'a str,
    pub(super) initrd: &'a str,
    pub(super) append: &'a str,
}

/// Every model as it is; then for each generation every feature word and way to boot; then the same on the other VMMs.
pub(super) fn cases<'a>(input: &'a Input, models: &'a [String]) -> Result<Vec<Case<'a>>> {
    let ovmf = path_text(&input.ovmf)?;
    let boots = boots(input)?;
    let plain = [Boot::default()];
    let named = CpuSignature::named().map(|(model, _)| ("qemu", model, 0x1, &MANY[..], &plain[..]));
    let crossed = GENERATIONS
        .iter()
        .flat_map(|model| FEATURES.map(|word| ("qemu", *model, word, &FEW[..], &boots[..])));
    let clouds = ["ec2", "gce"].into_iter();
    let clouds = clouds.flat_map(|vmm| FEATURES.map(|word| (vmm, GENERATIONS[0], word, &FEW[..], &boots[..])));
    let launches = named.chain(crossed).chain(clouds);
    let cases = launches.flat_map(|(vmm, model, features, vcpus, boots)| {
        boots.iter().map(move |boot| Case {
            ovmf,
            vmm,
            model,
            theirs: their_name(model, models),
            features,
            vcpus: vcpus.to_vec(),
            boot: *boot,
        })
    });
    Ok(cases.collect())
}

/// No kernel; then a kernel with every command line, with an initrd and without.
fn boots(input: &Input) -> Result<Vec<Boot<'_>>> {
    let kernel = input.kernel.as_deref().map(path_text).transpose()?;
    let initrd = input.initrd.as_deref().map(path_text).transpose()?;
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

/// Returns the name under which sev-snp-measure knows a model. A newer version of a model has the signature of the model,
/// which it knows.
pub(super) fn their_name<'a>(model: &'a str, models: &[String]) -> &'a str {
    if models.iter().any(|known| known == model) {
        return model;
    }
    model.rsplit_once("-v").map_or(model, |(known, _)| known)
}

/// Returns the names of the models that sev-snp-measure knows.
pub(super) fn their_models(shell: &Shell, python: &Path) -> Result<Vec<String>> {
    let models = cmd!(shell, "{python} -c {SCRIPT}").quiet().read()?;
    Ok(models.lines().map(String::from).collect())
}

/// Returns the digests of the cases, one for each number of vCPUs, one a line.
pub(super) fn their_digests(shell: &Shell, python: &Path, cases: &[Case]) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&file, cases)?;
    let path = file.path();
    Ok(cmd!(shell, "{python} -c {SCRIPT} {path}").quiet().read()?)
}

impl Case<'_> {
    /// Returns how many of our digests are not the next ones of `theirs`, and prints each.
    pub(super) fn differences<'t>(
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

const SCRIPT: &str = include_str!("digests.py");

const MANY: [u32; 5] = [1, 2, 8, 64, 512];
const FEW: [u32; 2] = [1, 4];
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
