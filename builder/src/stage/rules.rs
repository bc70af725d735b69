//! Rules of an image whose measurements can be predicted: DESIGN, section 6. A recipe is held against those that can be
//! told from it before anything is built, the artifacts against all others.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::linux::Kernel;
use measure::uki::{StubVersion, Uki};

use crate::mend::{Exit, OrMend as _};
use crate::model::Recipe;
use crate::model::artifacts::{Artifacts, file};
use crate::model::volume;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Rule {
    Text,
    Console,
    Machine,
    VideoMode,
    Root,
    Volumes,
    Disk,
    Kernel,
    Stub,
}

impl Rule {
    const fn reason(self) -> &'static str {
        match self {
            Self::Text => "firmware makes a UTF-16 character of each byte, and a NUL ends the line before its end",
            Self::Console => {
                "without it, consoles are chosen, and by newer boot loaders measured, as the machine has them"
            }
            Self::Machine => "the line is measured, and would be another one for each size of the machine",
            Self::VideoMode => "QEMU writes the video mode into the kernel, which is measured",
            Self::Root => {
                "what is measured vouches for the root by its root hash alone, and only if nobody writes to it"
            }
            Self::Volumes => "what is measured vouches for a volume by its root hash alone",
            Self::Disk => "firmware of a TD starts from no other disk: it has no driver for virtio-scsi",
            Self::Kernel => "older kernels measure neither command line nor initrd in a TD",
            Self::Stub => {
                "older ones measure nothing into the registers of a TD; newer ones mix a random secret, and what the host \
                 says of the machine, into what is measured"
            }
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "the command line is printable ASCII",
            Self::Console => "the command line names a console",
            Self::Machine => "the command line says nothing of the machine",
            Self::VideoMode => "the command line sets no video mode",
            Self::Root => "the root is read-only, under dm-verity",
            Self::Volumes => "the command line says the root hash of each volume, once",
            Self::Disk => "the initrd has a driver for virtio-blk, NVMe or AHCI",
            Self::Kernel => "the kernel is Linux 6.9 or newer, and measures",
            Self::Stub => "the UKI has systemd-stub 256 to 260",
        })
    }
}

/// A rule that something breaks: by what, and how to change that.
#[derive(Debug, Eq, PartialEq)]
struct Broken {
    rule: Rule,
    found: String,
    mend: String,
}

impl Rule {
    fn broken(self, found: impl Into<String>, mend: impl Into<String>) -> Broken {
        let (found, mend) = (found.into(), mend.into());
        Broken {
            rule: self,
            found,
            mend,
        }
    }
}

/// Holds a recipe against the rules of its kernel parameters and of the initrd's modules.
///
/// # Errors
/// Every rule that it breaks, each with its reason.
pub fn check_recipe(recipe: &Recipe) -> Result<()> {
    let text = recipe.command_line.join(" ");
    let broken = command_line(&text)
        .into_iter()
        .chain(root_is_ours(&text))
        .chain(volumes_are_ours(&text))
        .chain(disk(&recipe.initrd.modules));
    tell("recipe.toml", broken.collect())
}

/// Holds the artifacts in `folder` against the rules of the whole command line, of the kernel and of the UKI.
///
/// # Errors
/// Every rule that they break, each with its reason; files that are no kernel or no UKI.
pub fn check_artifacts(artifacts: &Artifacts, folder: &Path) -> Result<()> {
    let read = |name: &str| fs::read(folder.join(name)).with_context(|| format!("cannot read {name}"));
    let (linux, uki) = (read(file::KERNEL)?, read(file::UKI)?);
    let linux = Kernel::read(&linux).or_mend(Exit::Usage, "the kernel is none for x86", OTHER_KERNEL)?;
    let uki = Uki::read(&uki).or_mend(Exit::Usage, "the UKI cannot be measured", OTHER_STUB)?;
    let broken = command_line(&artifacts.command_line)
        .into_iter()
        .chain(root_is_verified(&artifacts.command_line, &artifacts.root_hash))
        .chain(volumes_are_verified(&artifacts.command_line, &artifacts.volumes))
        .chain(kernel(linux.release(), linux.measures()))
        .chain(stub(uki.stub()));
    tell("the image", broken.collect())
}

const OTHER_KERNEL: &str = "name a folder with another package: `kernel` in recipe.toml";
const OTHER_STUB: &str = "name a suite with systemd 256 to 260: `tools` in recipe.toml";

fn tell(what: &str, broken: Vec<Broken>) -> Result<()> {
    if broken.is_empty() {
        return Ok(());
    }
    let mut problem = format!("{what} breaks rules that keep what it measures predictable:");
    for Broken { rule, found, .. } in &broken {
        let reason = rule.reason();
        let _ = write!(problem, "\n{rule}: {found}\n  because {reason}");
    }
    let mends: Vec<_> = broken.into_iter().map(|broken| broken.mend).collect();
    Err(Exit::Usage.because(problem, mends.join("\n")))
}

/// Parameters that say how many CPUs or how much memory there is, or where; the kernel and systemd take `-` for `_`.
const OF_THE_MACHINE: [&str; 10] = [
    "hugepages",
    "irqaffinity",
    "isolcpus",
    "maxcpus",
    "mem",
    "memmap",
    "nohz_full",
    "nr_cpus",
    "possible_cpus",
    "rcu_nocbs",
];

/// What QEMU looks for anywhere in the line, also inside another word.
const VIDEO_MODE: &str = "vga=";

/// The rules that a part of the command line is held against, too.
fn command_line(text: &str) -> Vec<Broken> {
    let words: Vec<Word> = words(text).collect();
    let strange = text.chars().find(|c| !matches!(c, ' '..='~'));
    let text_rule = strange.map(|c| Rule::Text.broken(format!("it has {c:?}"), "remove that character"));
    let console = words
        .iter()
        .any(|word| word.name == "console" && !word.value.is_empty());
    let console = (!console).then(|| {
        let mend = "add \"console=ttyS0\", or the console you want, to `command-line`";
        Rule::Console.broken("there is no `console=`", mend)
    });
    let machine = forbidden(Rule::Machine, &words, |word| {
        OF_THE_MACHINE.contains(&word.name.as_str())
    });
    let video = text.contains(VIDEO_MODE).then(|| {
        let found = format!("it has `{VIDEO_MODE}`");
        Rule::VideoMode.broken(found, format!("remove `{VIDEO_MODE}` from `command-line`"))
    });
    [text_rule, console, machine, video].into_iter().flatten().collect()
}

/// How the root is found and verified is not the recipe's to say.
fn root_is_ours(text: &str) -> Option<Broken> {
    let names = [
        "--",
        "rd.systemd.verity",
        "ro",
        "root",
        "roothash",
        "rw",
        "systemd.verity",
    ];
    let ours = |word: &Word| names.contains(&word.name.as_str()) || word.name.starts_with("systemd.verity_root_");
    forbidden(Rule::Root, &words(text).collect::<Vec<_>>(), ours)
}

/// The whole line makes systemd find the root by this hash, read-only.
fn root_is_verified(text: &str, root_hash: &Sha256) -> Option<Broken> {
    let words: Vec<Word> = words(text).collect();
    let root_hash = root_hash.to_string();
    let has = |name: &str, value: Option<&str>| {
        let mut named = words.iter().filter(|word| word.name == name).peekable();
        named.peek().is_some() && named.all(|word| value.is_none_or(|value| word.value == value))
    };
    let needed = [
        ("ro", Some("")),
        ("roothash", Some(root_hash.as_str())),
        ("systemd.verity_root_data", None),
        ("systemd.verity_root_hash", None),
    ];
    const MEND: &str = "leave how the root is found to begat";
    if let Some((name, _)) = needed.into_iter().find(|(name, value)| !has(name, *value)) {
        return Some(Rule::Root.broken(format!("`{name}` is not there, or is not what it should be"), MEND));
    }
    let off = ["--", "rd.systemd.verity", "rw", "systemd.verity"];
    forbidden(Rule::Root, &words, |word| off.contains(&word.name.as_str()))
}

fn sets_volume(word: &Word) -> bool {
    word.name == volume::SET_VARIABLE && word.value.starts_with(volume::VARIABLE)
}

/// The root hashes of volumes are not the recipe's to say.
fn volumes_are_ours(text: &str) -> Option<Broken> {
    forbidden(Rule::Volumes, &words(text).collect::<Vec<_>>(), sets_volume)
}

/// The whole line says the root hash of each volume, and nothing of another.
fn volumes_are_verified(text: &str, volumes: &[(volume::Name, Sha256)]) -> Option<Broken> {
    let mut said: Vec<String> = words(text).filter(sets_volume).map(|word| word.text).collect();
    let mut wanted: Vec<String> = volumes
        .iter()
        .map(|(name, root_hash)| name.parameter(root_hash))
        .collect();
    said.sort();
    wanted.sort();
    let found = || format!("it says {said:?}, the volumes have {wanted:?}");
    (said != wanted).then(|| Rule::Volumes.broken(found(), "leave how volumes are found to begat"))
}

fn forbidden(rule: Rule, words: &[Word], is_forbidden: impl Fn(&Word) -> bool) -> Option<Broken> {
    let found = words.iter().filter(|word| is_forbidden(word));
    let found: Vec<_> = found.map(|word| format!("`{}`", word.text)).collect();
    let found = (!found.is_empty()).then(|| found.join(", "))?;
    let mend = format!("remove {found} from `command-line`");
    Some(rule.broken(format!("it has {found}"), mend))
}

/// A parameter as the kernel reads it (`next_arg` and `parameq` of Linux 6.12).
struct Word {
    text: String,
    name: String,
    value: String,
}

fn words(text: &str) -> impl Iterator<Item = Word> {
    text.split_ascii_whitespace().map(|text| {
        let unquoted = text.replace('"', "");
        let (name, value) = unquoted.split_once('=').unwrap_or((&unquoted, ""));
        let name = if name == "--" {
            name.into()
        } else {
            name.replace('-', "_")
        };
        Word {
            text: text.into(),
            name,
            value: value.into(),
        }
    })
}

/// Modules that drive a disk from which any firmware starts; all of a line are needed. Such as are built into the kernel
/// can be named, too.
const DRIVERS: [&[&str]; 3] = [&["virtio_blk"], &["nvme"], &["ahci", "sd_mod"]];

fn disk(modules: &[String]) -> Option<Broken> {
    let modules: Vec<_> = modules.iter().map(|module| module.replace('-', "_")).collect();
    let has = |driver: &&[&str]| driver.iter().all(|name| modules.iter().any(|module| module == name));
    if DRIVERS.iter().any(has) {
        return None;
    }
    let found = format!("`modules` are {}", modules.join(", "));
    let mend = "add \"virtio_blk\", \"nvme\", or \"ahci\" and \"sd_mod\", to `modules` of [initrd]; what is built into the \
                kernel can be named, too";
    Some(Rule::Disk.broken(found, mend))
}

fn kernel(release: Option<&str>, measures: bool) -> Option<Broken> {
    const OLDEST: (u32, u32) = (6, 9);
    let Some(text) = release else {
        return Some(Rule::Kernel.broken("it does not say its release", OTHER_KERNEL));
    };
    if version(text).is_none_or(|version| version < OLDEST) {
        return Some(Rule::Kernel.broken(format!("it is {text}"), OTHER_KERNEL));
    }
    let found = || format!("{text} has no EFI stub that measures in a TD");
    (!measures).then(|| Rule::Kernel.broken(found(), OTHER_KERNEL))
}

/// The first two numbers of a kernel's release: 6.12.48+deb13-cloud-amd64.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?))
}

fn stub(stub: &StubVersion) -> Option<Broken> {
    let predictable = (256..=260).contains(&stub.major);
    (!predictable).then(|| Rule::Stub.broken(format!("it has {stub}"), OTHER_STUB))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend::{exit_code, report};

    const MINIMAL: &str = include_str!("../../../recipes/minimal/recipe.toml");

    fn rules(broken: impl IntoIterator<Item = Broken>) -> Vec<Rule> {
        broken.into_iter().map(|broken| broken.rule).collect()
    }

    /// A good line, with a word added.
    fn with(word: &str) -> Vec<Rule> {
        rules(command_line(&format!("console=ttyS0 {word}")))
    }

    #[test]
    fn text() {
        assert_eq!(with("quiet"), []);
        for strange in ["caf\u{e9}", "a\0", "a\nb", "\x7f"] {
            assert_eq!(with(strange), [Rule::Text], "{strange:?}");
        }
    }

    #[test]
    fn console() {
        assert_eq!(rules(command_line("quiet console=hvc0")), []);
        for none in ["", "quiet", "console=", "netconsole=x", "earlycon=console=ttyS0"] {
            assert_eq!(rules(command_line(none)), [Rule::Console], "{none}");
        }
    }

    #[test]
    fn nothing_of_the_machine() {
        assert_eq!(with("mem_sleep_default=deep foo=nr_cpus"), []);
        for word in ["nr_cpus=4", "nr-cpus=4", "\"maxcpus=2\"", "mem=2G", "memmap=1G!4G"] {
            assert_eq!(with(word), [Rule::Machine], "{word}");
        }
    }

    #[test]
    fn no_video_mode() {
        assert_eq!(with("vgacon=1 video=vga"), []);
        for word in ["vga=791", "nomyvga=1"] {
            assert_eq!(with(word), [Rule::VideoMode], "{word}");
        }
    }

    #[test]
    fn the_root_is_not_the_recipes_to_say() {
        assert_eq!(rules(root_is_ours("systemd.volatile=overlay rootwait")), []);
        for word in [
            "rw",
            "root=/dev/vda",
            "roothash=00",
            "systemd.verity=no",
            "systemd.verity-root-options=ignore-corruption",
            "--",
        ] {
            assert_eq!(rules(root_is_ours(word)), [Rule::Root], "{word}");
        }
    }

    #[test]
    fn the_root_is_verified() {
        let hash = Sha256::of("root");
        let good =
            format!("root=/dev/mapper/root ro roothash={hash} systemd.verity_root_data=a systemd.verity_root_hash=b");
        let check = |line: &str| rules(root_is_verified(line, &hash));
        assert_eq!(check(&good), []);
        for (from, to) in [
            (" ro ", " "),
            (" ro ", " ro rw "),
            (" roothash=", " roothash=00 roothash="),
            (" roothash=", " usrhash="),
            ("verity_root_data", "verity_usr_data"),
            ("verity_root_hash", "verity_usr_hash"),
            (" ro ", " ro systemd.verity=0 "),
        ] {
            assert_eq!(check(&good.replacen(from, to, 1)), [Rule::Root], "{to}");
        }
        assert_eq!(rules(root_is_verified(&good, &Sha256::of("another"))), [Rule::Root]);
    }

    #[test]
    fn volumes_are_verified_each_by_its_root_hash() {
        let name = |text: &str| volume::Name::try_from(text.to_owned()).unwrap();
        let volumes = [(name("model"), Sha256::of("model")), (name("data"), Sha256::of("data"))];
        let [model, data] = [0, 1].map(|index| volumes[index].0.parameter(&volumes[index].1));
        let check = |line: &str| rules(volumes_are_verified(line, &volumes));
        assert_eq!(check(&format!("ro {data} {model} systemd.setenv=TZ=UTC")), []);
        let other = name("model").parameter(&Sha256::of("other"));
        for line in [
            model.clone(),
            format!("{model} {data} {model}"),
            format!("{other} {data}"),
            format!("{model} {data} {other}"),
        ] {
            assert_eq!(check(&line), [Rule::Volumes], "{line}");
        }
        assert_eq!(rules(volumes_are_ours("systemd.setenv=TZ=UTC")), []);
        assert_eq!(rules(volumes_are_ours(&other)), [Rule::Volumes]);
    }

    #[test]
    fn a_disk_that_any_firmware_starts_from() {
        let check = |modules: &[&str]| rules(disk(&modules.iter().map(ToString::to_string).collect::<Vec<_>>()));
        for good in [&["virtio-blk"][..], &["virtio_scsi", "nvme"], &["sd_mod", "ahci"]] {
            assert_eq!(check(good), [], "{good:?}");
        }
        for bad in [&[][..], &["virtio_scsi", "sd_mod"], &["ahci"], &["nvme_core"]] {
            assert_eq!(check(bad), [Rule::Disk], "{bad:?}");
        }
    }

    #[test]
    fn a_kernel_that_measures() {
        for good in ["6.9.0", "6.12.48+deb13-cloud-amd64", "7.0-rc1", "10.1.2"] {
            assert_eq!(rules(kernel(Some(good), true)), [], "{good}");
        }
        for bad in [
            None,
            Some("6.8.12"),
            Some("5.19"),
            Some("x"),
            Some("6"),
            Some("99999999999.1"),
        ] {
            assert_eq!(rules(kernel(bad, true)), [Rule::Kernel], "{bad:?}");
        }
        assert_eq!(rules(kernel(Some("6.12.1"), false)), [Rule::Kernel]);
    }

    #[test]
    fn a_stub_that_measures_what_is_known() {
        let check = |major| {
            let text = format!("{major}.1-1");
            rules(stub(&StubVersion { major, text }))
        };
        assert!([256, 257, 260].into_iter().all(|good| check(good).is_empty()));
        assert!([255, 261].into_iter().all(|bad| check(bad) == [Rule::Stub]));
    }

    /// Recipes that break a rule each, and one that breaks all that can be told from a recipe.
    #[test]
    fn all_broken_rules_of_a_recipe_are_told_at_once() {
        let check = |text: &str| check_recipe(&Recipe::parse(text).unwrap());
        assert!(check(MINIMAL).is_ok());
        let bad = MINIMAL
            .replacen(
                "\"console=ttyS0\"",
                "\"caf\u{e9}\", \"nr_cpus=2\", \"vga=1\", \"rw\"",
                1,
            )
            .replacen("\"ahci\"", "\"virtio_scsi\"", 1)
            .replacen("\"nvme\", ", "", 1)
            .replacen(", \"virtio_blk\"", "", 1);
        let error = check(&bad).unwrap_err();
        assert_eq!(exit_code(&error), Exit::Usage);
        let report = report(&error);
        for rule in [
            Rule::Text,
            Rule::Console,
            Rule::Machine,
            Rule::VideoMode,
            Rule::Root,
            Rule::Disk,
        ] {
            let told = format!("\n{rule}: ");
            assert!(report.contains(&told) && report.contains(rule.reason()), "{report}");
        }
        assert_eq!(report.matches("\nmend: ").count(), 6, "{report}");
    }
}
