//! What the documents of a release cost, as a share of the whole build.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use xshell::cmd;

use crate::host;

/// What the documents of a recipe cost, as a share of the time of its whole build: of all cores, and on the wall.
///
/// The whole is `begat build --sign` with all processes that it starts; the store is filled before. Of the documents is
/// what no build without them would do: the digests of what the packages consist of (from packages that were decompressed
/// for dpkg: that counts as installing), their way out of the sandbox, reading the packages of firmware and stub,
/// the digests that only bills of materials ask for, reading both images back, writing the three bills and the list of
/// files, and signing. It is done once more, on the release that was built, by the same functions. Hashing the files
/// for the manifest counts as building, and so do reference values and policy, which take no time.
#[derive(clap::Args)]
pub(crate) struct Documents {
    /// The folder of the recipe
    recipe: PathBuf,
}

/// A part of the work, and its time in seconds.
struct Part {
    name: String,
    cpu: f64,
    wall: f64,
}

/// What is not of the documents, or is a part of the part behind it.
const NOT_COUNTED: [&str; 2] = ["packages decompressed", "images read back"];

impl Documents {
    pub(crate) fn run(self) -> Result<()> {
        let shell = host::shell()?;
        host::need(&shell, &[("time", "time")])?;
        let folder = tempfile::tempdir_in("/var/tmp").context("cannot make a folder to work in")?;
        let (recipe, release) = (self.recipe.canonicalize()?, folder.path().join("release"));
        let begat = host::begat(&shell)?;
        cmd!(shell, "{begat} build --sign {recipe} --output {release}").run()?; // fetches what is missing
        let figures = folder.path().join("figures");
        let time = ["time", "--format", "%U %S %e", "--output"];
        let build = ["build", "--force", "--sign", "--output"];
        cmd!(shell, "env {time...} {figures} {begat} {build...} {release} {recipe}").run()?;
        let whole = whole(&shell.read_file(figures)?)?;
        let parts = cmd!(
            shell,
            "cargo bench --quiet --package builder --bench documents -- {recipe} {release}"
        );
        print(&whole, &parts.read()?.lines().map(part).collect::<Result<Vec<_>>>()?);
        Ok(())
    }
}

fn whole(figures: &str) -> Result<Part> {
    let figures: Vec<f64> = figures.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [user, system, wall] = figures[..] else {
        anyhow::bail!("time printed no three figures")
    };
    let name = "begat build --sign".into();
    let cpu = user + system;
    Ok(Part { name, cpu, wall })
}

fn part(line: &str) -> Result<Part> {
    let [name, cpu, wall] = line.split('\t').collect::<Vec<_>>()[..] else {
        anyhow::bail!("no part of the work: {line}")
    };
    Ok(Part {
        name: name.into(),
        cpu: cpu.parse()?,
        wall: wall.parse()?,
    })
}

fn print(whole: &Part, parts: &[Part]) {
    println!("{:28} {:>8} {:>8}", "seconds", "CPU", "wall");
    let row = |part: &Part| println!("{:28} {:8.1} {:8.1}", part.name, part.cpu, part.wall);
    row(whole);
    parts.iter().for_each(row);
    let counted = |part: &&Part| !NOT_COUNTED.contains(&part.name.as_str());
    let documents = |time: fn(&Part) -> f64| parts.iter().filter(counted).map(time).sum::<f64>() / time(whole) * 100.0;
    let [cpu, wall] = [documents(|part| part.cpu), documents(|part| part.wall)];
    println!("{:28} {cpu:8.1} {wall:8.1}  (aim: below 5)", "documents / build, %");
}
