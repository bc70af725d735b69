//! `recipe.toml`: what we want.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use anyhow::Result;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::payload::Declared;
use super::supplier::Supplier;
use super::volume::{self, Volume};
use crate::mend::Exit;

/// What a guest image shall be.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    pub name: Name,
    /// The only clock of a build: every time stamp in the image.
    pub epoch: Timestamp,
    /// Who hands out the image, for its bill of materials.
    #[serde(default)]
    pub supplier: Option<Supplier>,
    /// Folders with a `firmware.toml`, relative to the recipe's.
    pub firmware: Vec<String>,
    /// Folder with a `kernel.toml`, relative to the recipe's.
    pub kernel: String,
    /// The suite that the tool tree comes from.
    pub tools: String,
    /// The suite that the compiler comes from, for payloads that are compiled.
    #[serde(default)]
    pub compiler: Option<String>,
    /// Kernel parameters before those that begat adds for the root.
    #[serde(default)]
    pub command_line: Vec<String>,
    /// Suites by name. Where `NAME-updates` and `NAME-security` are declared beside `NAME`, they are part of it: the
    /// newest version of a package wins.
    pub suites: BTreeMap<String, Suite>,
    pub root: Guest,
    pub initrd: Initrd,
    /// Files that no package archive has.
    #[serde(default)]
    pub payload: Vec<Declared>,
    /// Read-only file systems beside the root.
    #[serde(default)]
    pub volume: Vec<Volume>,
    /// A file beside the recipe that says what no image can know of the machines: [`super::Profile`].
    #[serde(default)]
    pub platform: Option<String>,
    #[serde(default)]
    pub launch: Vec<Launch>,
}

/// A suite of a package archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Suite {
    /// The archive: `debian`, `debian-security`, …
    pub archive: String,
    /// Where the archive can be had; before the mirrors of the command line and of the host.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// An OpenPGP keyring beside the recipe, for an archive that is not Debian's.
    #[serde(default)]
    pub keyring: Option<String>,
    /// Why expired metadata of this suite is accepted. Absent: it is refused.
    #[serde(default)]
    pub ignore_valid_until: Option<String>,
}

/// What is installed in the root file system.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guest {
    pub suite: String,
    pub packages: Vec<String>,
    /// Paths that may be there though nothing explains them; `*` stops at a slash, `**` does not.
    #[serde(default)]
    pub allow_unowned: Vec<String>,
}

/// What is installed in the initrd.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Initrd {
    pub suite: String,
    pub packages: Vec<String>,
    /// As those of the root file system.
    #[serde(default)]
    pub allow_unowned: Vec<String>,
    /// Kernel modules, by name; what they depend on comes along.
    pub modules: Vec<String>,
}

/// What the VMM decides and the platform measures.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    tag = "platform",
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
pub enum Launch {
    Snp {
        vcpus: Vec<NonZeroU32>,
        vcpu_types: Vec<String>,
        #[serde(default = "snp_active")]
        guest_features: u64,
    },
    Tdx {},
    /// A virtual machine with a TPM, confidential or not.
    Tpm {},
}

/// `SEV_FEATURES` with the bit SNP_ACTIVE alone, as KVM sets it.
fn snp_active() -> u64 {
    1
}

/// Where a firmware comes from: `firmware.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    pub description: String,
    pub suite: String,
    pub package: String,
    /// Absolute path of the `.fd` inside the package.
    pub file: String,
    pub supports: Vec<Platform>,
}

/// What a firmware can be launched as.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    Plain,
    Snp,
    Tdx,
}

/// Where a kernel comes from: `kernel.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    pub description: String,
    pub suite: String,
    /// A package that is, or depends on, exactly one kernel image.
    pub package: String,
}

/// The name of a recipe, which becomes the name of a folder: lower-case letters, digits, `-` and `.`, a letter first.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(plain) && name.len() <= 64 {
            return Ok(Self(name));
        }
        Err(format!(
            "a name is 1 to 64 of a-z, 0-9, `-` and `.`, a letter first; found {name:?}"
        ))
    }
}

/// Reads a `recipe.toml`, `firmware.toml` or `kernel.toml` from its text; `file` is its name in messages.
///
/// # Errors
/// Text that is no such file, with the line, and the nearest known key for one that is unknown.
pub fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let mend = nearest(error.message()).unwrap_or_else(|| format!("correct {file} at that line"));
        let problem = format!("cannot read {file}\n{}", error.to_string().trim_end());
        Exit::Usage.because(problem, mend)
    })
}

/// The key or value that was probably meant, from serde's message: the unknown word first, then those it knows.
fn nearest(message: &str) -> Option<String> {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next().filter(|_| message.starts_with("unknown"))?;
    let known = words.min_by_key(|word| strsim::damerau_levenshtein(unknown, word))?;
    Some(format!("did you mean `{known}`?"))
}

impl Recipe {
    /// Reads a `recipe.toml` from its text and checks that every suite it names is declared.
    ///
    /// # Errors
    /// As [`parse`], and names that nothing declares.
    pub fn parse(text: &str) -> Result<Self> {
        let recipe: Self = parse("recipe.toml", text)?;
        let suites = [&recipe.tools, &recipe.root.suite, &recipe.initrd.suite];
        for suite in suites.into_iter().chain(&recipe.compiler) {
            recipe.suite(suite)?;
        }
        recipe.check_payloads()?;
        recipe.check_volumes()?;
        Ok(recipe)
    }

    /// Volumes differ in their names and in where they are, and what is in one is in one that there is.
    fn check_volumes(&self) -> Result<()> {
        let used = self.payload.iter().filter_map(|payload| payload.place.volume.as_ref());
        let used: BTreeSet<_> = used.collect();
        for (index, volume) in self.volume.iter().enumerate() {
            let (name, others) = (&volume.name, &self.volume[..index]);
            let empty = (!used.contains(name)).then_some("no [[payload]] is in it");
            if let Some(problem) = volume.problem(others).or(empty) {
                let problem = format!("the volume {name} of recipe.toml cannot be: {problem}");
                return Err(Exit::Usage.because(problem, format!("correct the [[volume]] {name}")));
            }
        }
        let is_there = |name: &&volume::Name| self.volume.iter().any(|volume| volume.name == **name);
        used.into_iter().find(|name| !is_there(name)).map_or(Ok(()), |name| {
            let problem = format!("a payload of recipe.toml is in the volume {name}, which is not declared");
            Err(Exit::Usage.because(problem, "add a [[volume]] with that name, and its target"))
        })
    }

    /// Every payload can be meant, and each has its own name.
    fn check_payloads(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for declared in &self.payload {
            let name = declared.name.to_string();
            let twice = (!names.insert(name.clone())).then_some("another payload has its name");
            let alone = declared.compile.is_some() && self.compiler.is_none();
            let alone = alone.then_some("it is compiled, and recipe.toml names no suite for the `compiler`");
            if let Some(problem) = twice.or(alone).or_else(|| declared.problem()) {
                let problem = format!("the payload {name} of recipe.toml cannot be: {problem}");
                return Err(Exit::Usage.because(problem, format!("correct the [[payload]] {name}")));
            }
        }
        Ok(())
    }

    /// Returns the declaration of a suite.
    ///
    /// # Errors
    /// A suite that the recipe does not declare.
    pub fn suite(&self, name: &str) -> Result<&Suite> {
        let problem = || format!("recipe.toml uses the suite {name:?} and does not declare it");
        let mend = || format!("add [suites.{name}] with its archive");
        self.suites
            .get(name)
            .ok_or_else(|| Exit::Usage.because(problem(), mend()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;

    const MINIMAL: &str = include_str!("../../../recipes/minimal/recipe.toml");

    fn refusal(from: &str, to: &str) -> String {
        let text = MINIMAL.replacen(from, to, 1);
        assert_ne!(text, MINIMAL);
        mend::report(&Recipe::parse(&text).expect_err("the recipe is wrong"))
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        let report = refusal("packages", "pakages");
        assert!(report.contains("unknown field `pakages`"), "{report}");
        assert!(report.contains("pakages = ["), "{report}");
        assert!(report.ends_with("mend: did you mean `packages`?\n"), "{report}");
    }

    #[test]
    fn a_wrong_type_is_refused_with_its_line() {
        let report = refusal("tools = \"trixie\"", "tools = 13");
        assert!(report.contains("tools = 13"), "{report}");
    }

    #[test]
    fn an_undeclared_suite_is_refused() {
        let report = refusal("tools = \"trixie\"", "tools = \"trixy\"");
        assert!(report.contains("add [suites.trixy]"), "{report}");
    }

    /// The minimal recipe with these lines in front of its first launch.
    fn with(lines: &str) -> Result<Recipe> {
        Recipe::parse(&MINIMAL.replacen("[[launch]]", &format!("{lines}\n[[launch]]"), 1))
    }

    #[test]
    fn what_is_in_a_volume_says_so_and_the_volume_is_there_once() {
        const VOLUME: &str = "[[volume]]\nname = \"model\"\ntarget = \"/srv/model\"\n";
        const PAYLOAD: &str = "[[payload]]\nname = \"weights\"\nversion = \"1\"\nvolume = \"model\"\ntarget = \"/w\"\n";
        let recipe = with(&format!("{VOLUME}{PAYLOAD}kind = \"model\"\n")).unwrap();
        assert_eq!(recipe.payload[0].place.image(), "volume-model.erofs");
        let other = VOLUME.replace("\"model\"", "\"other\"");
        for (lines, problem) in [
            (VOLUME.to_owned(), "no [[payload]] is in it"),
            (PAYLOAD.to_owned(), "which is not declared"),
            (format!("{VOLUME}{VOLUME}{PAYLOAD}"), "another volume has its name"),
            (
                format!("{VOLUME}{other}{PAYLOAD}"),
                "its target is that of another volume",
            ),
            (
                format!("{VOLUME}{}{PAYLOAD}", other.replace("/srv/model", "/srv/model/x")),
                "its target is that of another volume, or in it, or around it",
            ),
            (
                format!("{VOLUME}{}{PAYLOAD}", other.replace("/srv/model", "/srv")),
                "its target is that of another volume, or in it, or around it",
            ),
            (format!("{VOLUME}{PAYLOAD}tree = \"initrd\"\n"), "leave `tree` out"),
            (
                VOLUME.replace("/srv/model", "/") + PAYLOAD,
                "its target is the root folder",
            ),
            (
                VOLUME.replace("/srv/model", "/srv/%h") + PAYLOAD,
                "its target has other characters",
            ),
        ] {
            let report = mend::report(&with(&lines).expect_err(problem));
            assert!(report.contains(problem), "{report}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_folder() {
        assert!(refusal("\"minimal\"", "\"../minimal\"").contains("a name is"));
    }
}
