//! `recipe.toml` and what it names, read from their folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::Sha256;

use crate::mend::{Exit, OrMend as _};
use crate::model::Profile;
use crate::model::lock::Source;
use crate::model::recipe::{self, Firmware, Kernel, Recipe};
use crate::stage::rules;
use crate::world::tidy;

/// A recipe with all that it names.
#[derive(Debug)]
pub struct Project {
    pub folder: PathBuf,
    /// The text of `recipe.toml`.
    pub text: String,
    pub recipe: Recipe,
    /// Firmware by the name of its folder, in the recipe's order.
    pub firmware: Vec<(String, Firmware)>,
    pub kernel: Kernel,
    /// The recipe's own files.
    pub sources: Vec<Source>,
    /// The keyrings that suites name, by that name.
    pub keyrings: BTreeMap<String, Vec<u8>>,
    /// The platform profile that the recipe names, and its text.
    pub platform: Option<(Profile, String)>,
    /// The descriptions of firmware and kernel: where the recipe names each, and its text.
    pub descriptions: Vec<(PathBuf, String)>,
    /// The digest of everything above.
    pub digest: Sha256,
}

/// The lock's file name: the one file in a recipe's folder that is not the recipe's.
pub const LOCK: &str = "recipe.lock";

/// A lock that is being written, or that a killed run has left: it is not the recipe's either.
pub const PARTIAL_LOCK: &str = ".recipe.lock.partial";

impl Project {
    /// Reads the recipe in `folder`.
    ///
    /// # Errors
    /// A file that is missing or is not what it should be; rules of the image that the recipe breaks.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = read(&folder.join("recipe.toml"), "name a recipe's folder: recipes/minimal")?;
        let recipe = Recipe::parse(&text)?;
        rules::check_recipe(&recipe)?;
        let mut named = Vec::new();
        let firmware = recipe.firmware.iter().map(|place| {
            let (name, text) = describe(folder, place, "firmware.toml")?;
            let firmware = recipe::parse("firmware.toml", &text)?;
            named.push((Path::new(place).join("firmware.toml"), text));
            Ok((name, firmware))
        });
        let firmware: Vec<(String, Firmware)> = firmware.collect::<Result<_>>()?;
        let (_, text_of_kernel) = describe(folder, &recipe.kernel, "kernel.toml")?;
        let kernel: Kernel = recipe::parse("kernel.toml", &text_of_kernel)?;
        named.push((Path::new(&recipe.kernel).join("kernel.toml"), text_of_kernel));
        for suite in firmware
            .iter()
            .map(|(_, firmware)| &firmware.suite)
            .chain([&kernel.suite])
        {
            recipe.suite(suite)?;
        }
        let sources = sources(folder)?;
        let digest = digest(&sources, &named);
        let keyrings = keyrings(folder, &recipe)?;
        let platform = platform(folder, &recipe, &sources)?;
        Ok(Self {
            folder: folder.into(),
            text,
            recipe,
            firmware,
            kernel,
            sources,
            keyrings,
            platform,
            descriptions: named,
            digest,
        })
    }
}

fn read(file: &Path, mend: &str) -> Result<String> {
    fs::read_to_string(file).or_mend(Exit::Usage, format!("cannot read {}", file.display()), mend)
}

/// Returns the name of the folder at `place` and the text of its description.
fn describe(folder: &Path, place: &str, file: &str) -> Result<(String, String)> {
    let place = folder.join(place);
    let name = place
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let text = read(&place.join(file), "correct the path of that folder in recipe.toml")?;
    Ok((name, text))
}

fn keyrings(folder: &Path, recipe: &Recipe) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = recipe.suites.values().filter_map(|suite| suite.keyring.as_ref());
    let read = |name: &String| {
        let bytes = fs::read(folder.join(name));
        let bytes = bytes.or_mend(
            Exit::Usage,
            format!("cannot read the keyring {name}"),
            "put it beside recipe.toml",
        )?;
        Ok((name.clone(), bytes))
    };
    names.map(read).collect()
}

/// The platform profile, which is one of the recipe's own files, so that the recipe's digest covers it.
fn platform(folder: &Path, recipe: &Recipe, sources: &[Source]) -> Result<Option<(Profile, String)>> {
    const MEND: &str = "put the platform profile beside recipe.toml";
    let Some(name) = &recipe.platform else {
        return Ok(None);
    };
    if !sources.iter().any(|source| source.path == *name) {
        let problem = format!("recipe.toml names the platform profile {name:?}, and its folder has no such file");
        return Err(Exit::Usage.because(problem, MEND));
    }
    let text = read(&folder.join(name), MEND)?;
    Ok(Some((Profile::parse(name, &text)?, text)))
}

/// Whether the path below a recipe's folder is that of the lock, which is not the recipe's.
pub(super) fn is_lock(path: &Path) -> bool {
    [LOCK, PARTIAL_LOCK].iter().any(|name| path == Path::new(name))
}

fn sources(folder: &Path) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in tidy::walk(folder)? {
        let whole = folder.join(&path);
        let metadata = fs::symlink_metadata(&whole)?;
        let name = path
            .to_str()
            .with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
        if metadata.is_dir() || is_lock(&path) {
            continue;
        }
        let link = metadata.is_symlink();
        let content = if link {
            fs::read_link(&whole)?.into_os_string().into_encoded_bytes()
        } else {
            fs::read(&whole)?
        };
        let executable = !link && tidy::is_executable(&metadata);
        sources.push(Source {
            path: name.into(),
            sha256: Sha256::of(&content),
            size: content.len() as u64,
            executable,
        });
    }
    Ok(sources)
}

/// One digest over the recipe's files and the descriptions that it names: each field has its length in front.
fn digest(sources: &[Source], named: &[(PathBuf, String)]) -> Sha256 {
    let files = sources
        .iter()
        .map(|source| format!("{} {} {}", source.sha256, source.executable, source.path));
    let named = named.iter().map(|(_, text)| Sha256::of(text).to_string());
    let lines: Vec<String> = files
        .chain(named)
        .map(|line| format!("{} {line}\n", line.len()))
        .collect();
    Sha256::of(lines.concat())
}
