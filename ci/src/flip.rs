//! `cargo ci flip`: one flipped bit of an artifact changes exactly the values that cover it, and `begat explain` names it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use measure::Sha256;
use measure::uki::Uki;
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::host;

/// Flips one bit in each artifact of a release and compares what changes with a table.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the release
    release: PathBuf,
    /// Folder with direct/log.bin and disk/log.bin, which the release's boots left: begat boot --tpm --evidence DIR
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

/// One bit of a release.
struct Flip {
    file: &'static str,
    place: Place,
    /// Every value that it changes: platform, boot, what is reported.
    changes: &'static [&'static str],
    /// The boot whose log tells of it.
    boot: Option<&'static str>,
}

/// Where the bit is.
enum Place {
    /// Bytes from the start of the file.
    Start(usize),
    /// Bytes from its end.
    End(usize),
    /// In the middle of a section of a UKI.
    Section(&'static str),
}

const SNP: &str = "snp direct launch-digest";

const TABLE: &[Flip] = &[
    Flip {
        file: "vmlinuz",
        place: Place::Start(1 << 20), // in the compressed kernel
        changes: &[SNP, "tdx direct rtmr1", "tpm direct pcr4"],
        boot: Some("direct"),
    },
    Flip {
        file: "initrd.cpio.zst",
        place: Place::Start(1 << 20),
        changes: &[SNP, "tdx direct rtmr2", "tpm direct pcr9"],
        boot: Some("direct"),
    },
    Flip {
        file: "cmdline",
        place: Place::Start("console=ttyS".len()),
        changes: &[SNP, "tdx direct rtmr2", "tpm direct pcr9"],
        boot: Some("direct"),
    },
    Flip {
        file: "rootfs.erofs", // its root hash is on the command line: dm-verity refuses the image, no register tells
        place: Place::Start(1 << 20),
        changes: &[],
        boot: None,
    },
    Flip {
        file: "OVMF-amdsev.fd",
        place: Place::End(0x8000), // in the code of SEC, which is not compressed
        changes: &[SNP],
        boot: None,
    },
    Flip {
        file: "OVMF-generic.fd",
        place: Place::End(0x8000),
        changes: &["tdx direct mrtd", "tdx disk mrtd"],
        boot: None,
    },
    Flip {
        file: "uki.efi",
        place: Place::Section(".linux"),
        changes: &["tdx disk rtmr1", "tdx disk rtmr2", "tpm disk pcr4", "tpm disk pcr11"],
        boot: Some("disk"),
    },
    Flip {
        file: "uki.efi",
        place: Place::Section(".initrd"),
        changes: &[
            "tdx disk rtmr1",
            "tdx disk rtmr2",
            "tpm disk pcr4",
            "tpm disk pcr9",
            "tpm disk pcr11",
        ],
        boot: Some("disk"),
    },
    Flip {
        file: "uki.efi",
        place: Place::Section(".cmdline"),
        changes: &[
            "tdx disk rtmr1",
            "tdx disk rtmr2",
            "tpm disk pcr4",
            "tpm disk pcr9",
            "tpm disk pcr11",
        ],
        boot: Some("disk"),
    },
];

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let shell = host::shell()?;
        let evidence = self.evidence.map(fs::canonicalize).transpose()?;
        check(
            &host::begat(&shell)?,
            &fs::canonicalize(&self.release)?,
            evidence.as_deref(),
        )
    }
}

/// Compares the table with what each flipped bit of `release` changes. `evidence` has the logs of its boots.
pub(crate) fn check(begat: &Path, release: &Path, evidence: Option<&Path>) -> Result<()> {
    let shell = host::shell()?;
    let said = fs::read(release.join(MEASUREMENTS))?;
    let honest = values(&serde_json::from_slice(&said)?)?;
    for flip in TABLE {
        let parent = release.parent().context("a release is in a folder")?;
        let folder = tempfile::tempdir_in(parent)?; // beside it, for hard links
        let flipped = Flipped {
            shell: &shell,
            begat,
            folder: folder.path(),
        };
        flipped.make(release, flip)?;
        let changed = flipped.changed(&honest)?;
        let expected: BTreeSet<String> = flip.changes.iter().map(ToString::to_string).collect();
        ensure!(
            changed == expected,
            "{flip}: one bit changes {changed:?}, expected {expected:?}"
        );
        flipped.explain(release, flip)?;
        if let Some((evidence, boot)) = evidence.zip(flip.boot) {
            flipped.explain_log(&evidence.join(boot).join("log.bin"), flip)?;
        }
        println!("{flip}: one bit changes {}", list(&changed));
    }
    Ok(())
}

fn list(changed: &BTreeSet<String>) -> String {
    let words: Vec<&str> = changed.iter().map(String::as_str).collect();
    if words.is_empty() {
        "no value".into()
    } else {
        words.join(", ")
    }
}

/// A release with one bit flipped.
struct Flipped<'a> {
    shell: &'a Shell,
    begat: &'a Path,
    folder: &'a Path,
}

impl Flipped<'_> {
    /// Makes it as somebody would who wants it to be believed: the manifest names the changed file.
    fn make(&self, release: &Path, flip: &Flip) -> Result<()> {
        let folder = self.folder;
        let copy = cmd!(self.shell, "cp --recursive --link {release}/. {folder}");
        copy.quiet().run()?;
        for own in [flip.file, MANIFEST, MEASUREMENTS] {
            fs::remove_file(folder.join(own))?;
        }
        let honest = fs::read(release.join(flip.file))?;
        let mut bytes = honest.clone();
        bytes[flip.offset(&honest)?] ^= 1;
        fs::write(self.folder.join(flip.file), &bytes)?;
        let said = fs::read_to_string(release.join(MEASUREMENTS))?;
        let firmware = said.replace(&Sha256::of(&honest).to_string(), &Sha256::of(&bytes).to_string());
        fs::write(self.folder.join(MEASUREMENTS), firmware)?;
        let predicted = self.measure()?;
        fs::write(self.folder.join(MEASUREMENTS), &predicted)?;
        let manifest = fs::read_to_string(release.join(MANIFEST))?;
        let manifest = manifest
            .replace(&Sha256::of(&honest).to_string(), &Sha256::of(&bytes).to_string())
            .replace(&Sha256::of(&said).to_string(), &Sha256::of(&predicted).to_string());
        Ok(fs::write(self.folder.join(MANIFEST), manifest)?)
    }

    /// Computes its measurements; that they are not those that it says is expected.
    fn measure(&self) -> Result<String> {
        let (begat, folder) = (self.begat, self.folder);
        let command = cmd!(self.shell, "{begat} measure {folder} --json")
            .quiet()
            .ignore_status()
            .ignore_stderr();
        Ok(command.read()? + "\n")
    }

    /// The values that are not those of the honest release.
    fn changed(&self, honest: &BTreeSet<(String, String)>) -> Result<BTreeSet<String>> {
        let flipped = values(&serde_json::from_slice(&fs::read(self.folder.join(MEASUREMENTS))?)?)?;
        ensure!(flipped.len() == honest.len(), "another number of values");
        Ok(flipped.difference(honest).map(|(name, _)| name.clone()).collect())
    }

    /// Two releases: the file is named.
    fn explain(&self, release: &Path, flip: &Flip) -> Result<()> {
        let (begat, folder) = (self.begat, self.folder);
        let command = cmd!(self.shell, "{begat} explain {release} {folder}")
            .quiet()
            .ignore_status();
        let said = command.output()?;
        let text = String::from_utf8_lossy(&said.stdout);
        ensure!(said.status.code() == Some(1), "explain ends with {}", said.status);
        let named = text.lines().any(|line| line.starts_with(&format!("{}: ", flip.file)));
        ensure!(named, "explain does not name {}:\n{text}", flip.file);
        Ok(())
    }

    /// A log of the honest release: the first event that differs covers the artifact.
    fn explain_log(&self, log: &Path, flip: &Flip) -> Result<()> {
        let (begat, folder) = (self.begat, self.folder);
        let command = cmd!(self.shell, "{begat} explain {folder} {log} --json")
            .quiet()
            .ignore_status();
        let said = command.output()?;
        ensure!(said.status.code() == Some(1), "explain ends with {}", said.status);
        let explanation: Value = serde_json::from_slice(&said.stdout)?;
        let first = &explanation["differences"][0];
        let files = first["files"].as_array().context("no files")?;
        ensure!(
            files.iter().any(|file| file == flip.file),
            "explain does not name {}: {first}",
            flip.file
        );
        Ok(())
    }
}

impl Flip {
    fn offset(&self, bytes: &[u8]) -> Result<usize> {
        match self.place {
            Place::Start(offset) => Ok(offset),
            Place::End(distance) => bytes.len().checked_sub(distance).context("too short"),
            Place::Section(name) => {
                let uki = Uki::read(bytes)?;
                let section = uki.section(name).with_context(|| format!("no section {name}"))?;
                Ok(section.as_ptr().addr() - bytes.as_ptr().addr() + section.len() / 2)
            }
        }
    }
}

impl fmt::Display for Flip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Section(name) => write!(f, "{} ({name})", self.file),
            Place::Start(_) | Place::End(_) => f.pad(self.file),
        }
    }
}

/// Every value of a release by its name, as text.
fn values(measurements: &Value) -> Result<BTreeSet<(String, String)>> {
    let mut values = BTreeSet::new();
    for launch in measurements["launches"].as_array().context("no launches")? {
        for value in launch["values"].as_array().context("no values")? {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let register = value["of"].as_object().and_then(|of| of.iter().next());
            let of = register.map_or_else(|| word(&value["of"]), |(kind, index)| format!("{kind}{index}"));
            let name = format!("{} {} {of}", word(&launch["platform"]), word(&launch["boot"]));
            // launches that differ in vCPUs or CPU only, and cases of one value, are each compared
            let which = [&launch["vcpus"], &launch["vcpu-type"], &value["case"]]
                .map(Value::to_string)
                .concat();
            values.insert((name, format!("{which} {} {}", value["sha256"], value["sha384"])));
        }
    }
    Ok(values)
}

const MANIFEST: &str = "manifest.json";
const MEASUREMENTS: &str = "measurements.json";
