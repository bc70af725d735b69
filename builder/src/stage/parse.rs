//! `recipe.toml` and what it names, read from their folders.

use std::collections::BTreeMap;
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

/// From where a recipe and all that it names are read: paths are those by which the recipe names them.
pub(super) trait Files {
    /// What is at the path; a link is not followed.
    ///
    /// # Errors
    /// There is nothing, or it cannot be read.
    fn member(&self, path: &Path) -> Result<Member>;

    /// Everything below the folder at the path, by the path from there, in byte order.
    ///
    /// # Errors
    /// There is no folder, or it cannot be read.
    fn walk(&self, path: &Path) -> Result<Vec<PathBuf>>;
}

/// The folder of a recipe.
impl Files for &Path {
    fn member(&self, path: &Path) -> Result<Member> {
        Member::read(&self.join(path))
    }

    fn walk(&self, path: &Path) -> Result<Vec<PathBuf>> {
        tidy::walk(&self.join(path))
    }
}

impl Project {
    /// Reads the recipe in `folder`.
    ///
    /// # Errors
    /// A file that is missing or is not what it should be; rules of the image that the recipe breaks.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_from(&folder, folder)
    }

    /// Reads the recipe of `folder` from where its files are.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn read_from(files: &impl Files, folder: &Path) -> Result<Self> {
        let at = |path: &Path| folder.join(path).display().to_string();
        let text = read(
            files,
            "recipe.toml".as_ref(),
            &at,
            "name a recipe's folder: recipes/minimal",
        )?;
        let recipe = Recipe::parse(&text)?;
        rules::check_recipe(&recipe)?;
        let mut named = Vec::new();
        let firmware = recipe.firmware.iter().map(|place| {
            let (name, text) = describe(files, place, "firmware.toml", &at)?;
            let firmware = recipe::parse("firmware.toml", &text)?;
            named.push((Path::new(place).join("firmware.toml"), text));
            Ok((name, firmware))
        });
        let firmware: Vec<(String, Firmware)> = firmware.collect::<Result<_>>()?;
        let (_, text_of_kernel) = describe(files, &recipe.kernel, "kernel.toml", &at)?;
        let kernel: Kernel = recipe::parse("kernel.toml", &text_of_kernel)?;
        named.push((Path::new(&recipe.kernel).join("kernel.toml"), text_of_kernel));
        for suite in firmware
            .iter()
            .map(|(_, firmware)| &firmware.suite)
            .chain([&kernel.suite])
        {
            recipe.suite(suite)?;
        }
        let own = own(files)?;
        let sources = sources(&own)?;
        let programs = programs(files, &recipe)?;
        let digest = digest(&own, &named, &programs)?;
        let keyrings = keyrings(&own, &recipe)?;
        let platform = platform(&own, &recipe)?;
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

/// The text at a path; `shown` is how a message names it.
fn read(files: &impl Files, path: &Path, shown: &dyn Fn(&Path) -> String, mend: &str) -> Result<String> {
    let text = files.member(path).and_then(|member| text_of(&member));
    text.or_mend(Exit::Usage, format!("cannot read {}", shown(path)), mend)
}

fn text_of(member: &Member) -> Result<String> {
    match member {
        Member::File { content, .. } => Ok(String::from_utf8(content.clone()).context("it is no UTF-8")?),
        Member::Directory | Member::Symlink { .. } => anyhow::bail!("it is no file"),
    }
}

/// Returns the name of the folder at `place` and the text of its description.
fn describe(files: &impl Files, place: &str, file: &str, shown: &dyn Fn(&Path) -> String) -> Result<(String, String)> {
    let place = Path::new(place);
    let name = place
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mend = "correct the path of that folder in recipe.toml";
    Ok((name, read(files, &place.join(file), shown, mend)?))
}

fn keyrings(own: &Members, recipe: &Recipe) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = recipe.suites.values().filter_map(|suite| suite.keyring.as_ref());
    let read = |name: &String| match own.get(Path::new(name)) {
        Some(Member::File { content, .. }) => Ok((name.clone(), content.clone())),
        _ => {
            let problem = format!("cannot read the keyring {name}: the recipe's folder has no such file");
            Err(Exit::Usage.because(problem, "put it beside recipe.toml"))
        }
    };
    names.map(read).collect()
}

/// The platform profile, which is one of the recipe's own files, so that the recipe's digest covers it.
fn platform(own: &Members, recipe: &Recipe) -> Result<Option<(Profile, String)>> {
    let Some(name) = &recipe.platform else {
        return Ok(None);
    };
    let problem = || format!("recipe.toml names the platform profile {name:?}, and its folder has no such file");
    let text = own.get(Path::new(name)).context("there is nothing").and_then(text_of);
    let text = text.or_mend(Exit::Usage, problem(), "put the platform profile beside recipe.toml")?;
    Ok(Some((Profile::parse(name, &text)?, text)))
}

/// Whether the path below a recipe's folder is that of the lock, which is not the recipe's.
pub(super) fn is_lock(path: &Path) -> bool {
    [LOCK, PARTIAL_LOCK].iter().any(|name| path == Path::new(name))
}

/// The recipe's own files: everything in its folder but the lock.
fn own(files: &impl Files) -> Result<Members> {
    let paths = files.walk(Path::new(""))?.into_iter();
    let own = paths.filter(|path| !is_lock(path));
    own.map(|path| {
        let member = files
            .member(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        Ok((path, member))
    })
    .collect()
}

/// In the byte order of their paths.
fn sources(own: &Members) -> Result<Vec<Source>> {
    let named = own
        .iter()
        .filter_map(|(path, member)| Some((path, member, member.sha256()?)));
    let source = |(path, member, sha256): (&PathBuf, &Member, Sha256)| {
        let name = path
            .to_str()
            .with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
        Ok(Source {
            path: name.into(),
            sha256,
            size: member.size(),
            executable: matches!(member, Member::File { executable: true, .. }),
        })
    };
    let mut sources: Vec<Source> = named.map(source).collect::<Result<_>>()?;
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

/// The source of each payload that is compiled.
fn programs(files: &impl Files, recipe: &Recipe) -> Result<BTreeMap<String, Members>> {
    let compiled = recipe.payload.iter();
    let compiled = compiled.filter_map(|payload| Some((payload.name.to_string(), payload.compile.as_ref()?)));
    let read = |(name, compile): (String, &Compile)| {
        let members = source(files, compile);
        let problem = format!("cannot read the source of the payload {name}");
        let mend = "correct its `workspace` and `source` in recipe.toml";
        Ok((name, members.or_mend(Exit::Usage, problem, mend)?))
    };
    compiled.map(read).collect()
}

fn source(files: &impl Files, compile: &Compile) -> Result<Members> {
    let workspace = Path::new(&compile.workspace);
    let mut members = Members::new();
    for name in &compile.source {
        let mut add = |path: PathBuf| -> Result<bool> {
            let member = files
                .member(&workspace.join(&path))
                .with_context(|| path.display().to_string())?;
            let folder = member == Member::Directory;
            members.insert(path, member);
            Ok(folder)
        };
        if add(name.into())? {
            let paths = files.walk(&workspace.join(name))?.into_iter();
            let mut paths = paths.map(|path| Path::new(name).join(path));
            paths.try_for_each(|path| add(path).map(drop))?;
        }
    }
    Ok(members)
}

/// One digest over the recipe's files and folders, the descriptions that it names, and the source of what is compiled: each
/// field has its length in front.
fn digest(own: &Members, named: &[(PathBuf, String)], programs: &BTreeMap<String, Members>) -> Result<Sha256> {
    let mut own: Vec<(&PathBuf, &Member)> = own.iter().collect();
    own.sort_by(|(one, _), (other, _)| one.as_os_str().cmp(other.as_os_str()));
    let own = own.into_iter().map(|(path, member)| line(path, member));
    let named = named.iter().map(|(_, text)| Ok(Sha256::of(text).to_string()));
    let compiled = programs.iter().flat_map(|(name, members)| {
        let below = move |(path, member)| line(&Path::new(name).join::<&PathBuf>(path), member);
        members.iter().map(below)
    });
    let lines = own.chain(named).chain(compiled);
    let lines: Vec<String> = lines
        .map(|line| line.map(|line| format!("{} {line}\n", line.len())))
        .collect::<Result<_>>()?;
    Ok(Sha256::of(lines.concat()))
}

/// What a member is, in a line. A folder counts, too: an image has it, or the one of another recipe has not.
fn line(path: &Path, member: &Member) -> Result<String> {
    let name = path.to_str();
    let name = name.with_context(|| format!("the name of {} is not UTF-8", path.display()))?;
    let (kind, digest) = match member {
        Member::Directory => ("folder", None),
        Member::File { executable: true, .. } => ("program", member.sha256()),
        Member::File { executable: false, .. } => ("file", member.sha256()),
        Member::Symlink { .. } => ("link", member.sha256()),
    };
    let digest = digest.map_or("-".into(), |sha256| sha256.to_string());
    Ok(format!("{digest} {kind} {name}"))
}
