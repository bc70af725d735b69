//! `recipe.toml` and what it names, read from their folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::Sha256;

use crate::mend::{Exit, OrMend as _};
use crate::model::Profile;
use crate::model::lock::Source;
use crate::model::program::Compile;
use crate::model::recipe::{self, Firmware, Kernel, Recipe};
use crate::stage::archive::{Member, Members};
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
    descriptions: Vec<(PathBuf, String)>,
    /// The source of each payload that is compiled, below its workspace, by the payload's name.
    pub programs: BTreeMap<String, Members>,
    /// The digest of everything above.
    pub digest: Sha256,
}

/// The lock's file name: the one file in a recipe's folder that is not the recipe's.
pub use crate::model::file::LOCK;

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
        let programs = programs(folder, &recipe)?;
        let digest = digest(&sources, &named, &programs);
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
            programs,
            digest,
        })
    }

    /// Returns what the recipe names beside its own files: where, from its folder, and what is there.
    pub fn beside(&self) -> impl Iterator<Item = (PathBuf, Member)> {
        let described = self.descriptions.iter().map(|(place, text)| {
            let (content, executable) = (text.clone().into_bytes(), false);
            (place.clone(), Member::File { content, executable })
        });
        let compiled = self.recipe.payload.iter().filter_map(|payload| {
            let members = self.programs.get(&payload.name.to_string())?;
            Some((payload.compile.as_ref()?, members))
        });
        let sources = compiled.flat_map(|(compile, members)| {
            let place = |path: &PathBuf| Path::new(&compile.workspace).join(path);
            members.iter().map(move |(path, member)| (place(path), member.clone()))
        });
        described.chain(sources)
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

/// The source of each payload that is compiled.
fn programs(folder: &Path, recipe: &Recipe) -> Result<BTreeMap<String, Members>> {
    let compiled = recipe.payload.iter();
    let compiled = compiled.filter_map(|payload| Some((payload.name.to_string(), payload.compile.as_ref()?)));
    let read = |(name, compile): (String, &Compile)| {
        let members = source(&folder.join(&compile.workspace), compile);
        let problem = format!("cannot read the source of the payload {name}");
        let mend = "correct its `workspace` and `source` in recipe.toml";
        Ok((name, members.or_mend(Exit::Usage, problem, mend)?))
    };
    compiled.map(read).collect()
}

fn source(workspace: &Path, compile: &Compile) -> Result<Members> {
    let mut members = Members::new();
    for name in &compile.source {
        let whole = workspace.join(name);
        let mut add = |path: PathBuf| -> Result<()> {
            let member = Member::read(&workspace.join(&path)).with_context(|| path.display().to_string())?;
            members.insert(path, member);
            Ok(())
        };
        add(name.into())?;
        if whole.is_dir() {
            let paths = tidy::walk(&whole)?.into_iter();
            paths.map(|path| Path::new(name).join(path)).try_for_each(add)?;
        }
    }
    Ok(members)
}

/// One digest over the recipe's files, the descriptions that it names, and the source of what is compiled: each field has
/// its length in front.
fn digest(sources: &[Source], named: &[(PathBuf, String)], programs: &BTreeMap<String, Members>) -> Sha256 {
    let files = sources
        .iter()
        .map(|source| format!("{} {} {}", source.sha256, source.executable, source.path));
    let named = named.iter().map(|(_, text)| Sha256::of(text).to_string());
    let compiled = programs.iter().flat_map(|(name, members)| {
        let line = move |(path, member): (&PathBuf, &Member)| {
            let digest = member.sha256().map_or("-".into(), |sha256| sha256.to_string());
            let executable = matches!(member, Member::File { executable: true, .. });
            format!("{digest} {executable} {name}/{}", path.display())
        };
        members.iter().map(line)
    });
    let lines: Vec<String> = files
        .chain(named)
        .chain(compiled)
        .map(|line| format!("{} {line}\n", line.len()))
        .collect();
    Sha256::of(lines.concat())
}
