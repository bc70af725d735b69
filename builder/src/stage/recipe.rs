//! A recipe's folder into `recipe.tar` of a release, and out of it: whoever has the release can build it again.
//!
//! The archive holds everything that the recipe's digest covers: the recipe's own files, the descriptions of firmware
//! and kernel, and the source of what is compiled, each where the recipe names it. Unpacked, it is a folder that `begat build --locked` takes.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use tar::Archive;

use crate::mend::{Exit, OrMend as _};
use crate::model::recipe::Recipe;
use crate::stage::archive::{self, Member, Members};
use crate::stage::parse::{self, Project};
use crate::world::{files, tidy, unpack};

/// The name of the file in a release.
pub const FILE: &str = "recipe.tar";

/// What the archive may have, in bytes.
const LIMIT: u64 = 1 << 30;

/// Returns the archive of a recipe, the same whoever packs it, wherever and whenever.
///
/// # Errors
/// A file that cannot be read or has changed since the recipe was; a description that the recipe names by an absolute
/// path.
pub fn pack(project: &Project) -> Result<Vec<u8>> {
    let mut members = Members::new();
    let home = home(&project.recipe)?;
    for path in tidy::walk(&project.folder)? {
        if !parse::is_lock(&path) {
            let member = member(project, &path).with_context(|| format!("cannot pack {}", path.display()))?;
            members.insert(home.join(path), member);
        }
    }
    for (place, member) in project.beside() {
        let path = Place::of(&place)?.below(&home);
        let known = members.insert(path.clone(), member);
        if known.is_some_and(|known| members.get(&path) != Some(&known)) {
            let problem = format!("{} would be in {FILE} twice", path.display());
            return Err(Exit::Unsupported.because(problem, "name the folder otherwise in recipe.toml"));
        }
    }
    archive::write(&members, project.recipe.epoch.as_second())
}

fn member(project: &Project, path: &Path) -> Result<Member> {
    let member = Member::read(&project.folder.join(path))?;
    let Some(sha256) = member.sha256() else {
        return Ok(member);
    };
    let mut sources = project.sources.iter();
    match sources.any(|source| Path::new(&source.path) == path && source.sha256 == sha256) {
        true => Ok(member),
        false => Err(Exit::Usage.because("it has changed since the build began", "build again")),
    }
}

/// Unpacks the recipe of the release in `folder` to `to`, with the release's lock, and reads it.
///
/// # Errors
/// A release without the archive; one that is damaged or leaves its folder; a recipe that cannot be read.
pub fn unpack(release: &Path, to: &Path) -> Result<Project> {
    let open = files::open(&release.join(FILE));
    let archive = open.or_mend(
        Exit::Usage,
        format!("cannot read {FILE} of {}", release.display()),
        "name a release that carries its recipe: those of begat 0.1.0 and later do",
    )?;
    let size = archive.metadata()?.len();
    if size > LIMIT {
        let problem = format!("{FILE} has {size} bytes, expected at most {LIMIT}");
        return Err(Exit::Unsupported.because(problem, "fetch the release again"));
    }
    unpack::unpack(&mut Archive::new(archive), to).with_context(|| format!("cannot unpack {FILE}"))?;
    let text = |name: &str| {
        let text = files::text(&release.join(name));
        text.or_mend(Exit::Usage, format!("cannot read {name}"), "fetch the release again")
    };
    let folder = to.join(home(&Recipe::parse(&text("recipe.toml")?)?)?);
    fs::write(folder.join(parse::LOCK), text(parse::LOCK)?).context("cannot write the lock beside the recipe")?;
    Project::read(&folder)
}

/// Where the recipe's folder is in the archive: as deep as the places that it names above itself need.
fn home(recipe: &Recipe) -> Result<PathBuf> {
    let workspaces = recipe.payload.iter().filter_map(|payload| payload.compile.as_ref());
    let workspaces = workspaces.map(|compile| &compile.workspace);
    let places = recipe.firmware.iter().chain([&recipe.kernel]).chain(workspaces);
    let places: Vec<Place> = places.map(|place| Place::of(place.as_ref())).collect::<Result<_>>()?;
    let depth = places.iter().map(|place| place.up).max().unwrap_or(0);
    let mut home: PathBuf = (1..depth).map(|_| "recipes").collect();
    home.push(recipe.name.to_string());
    Ok(home)
}

/// A path from the recipe's folder: so many folders up, and down from there.
struct Place {
    up: usize,
    down: PathBuf,
}

impl Place {
    fn of(path: &Path) -> Result<Self> {
        let (mut up, mut down) = (0, PathBuf::new());
        for part in path.components() {
            match part {
                Component::Normal(name) => down.push(name),
                Component::ParentDir if down.pop() => {}
                Component::ParentDir => up += 1,
                Component::CurDir => {}
                Component::RootDir | Component::Prefix(_) => {
                    let problem = format!("recipe.toml names {}, which no release can carry", path.display());
                    return Err(
                        Exit::Usage.because(problem, "name it from the recipe's folder: ../../firmware/generic")
                    );
                }
            }
        }
        Ok(Self { up, down })
    }

    fn below(&self, home: &Path) -> PathBuf {
        let above = home.ancestors().nth(self.up).unwrap_or(Path::new(""));
        above.join(&self.down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    #[test]
    fn a_place_is_found_from_the_recipes_folder() {
        for (path, up, down) in [
            ("../../firmware/generic", 2, "firmware/generic"),
            ("./kernel", 0, "kernel"),
            ("a/../../b", 1, "b"),
        ] {
            let place = Place::of(path.as_ref()).unwrap();
            assert_eq!((place.up, place.down.as_path()), (up, Path::new(down)), "{path}");
        }
        assert!(Place::of("/usr/share/firmware".as_ref()).is_err());
        let place = Place::of("../../firmware/generic".as_ref()).unwrap();
        assert_eq!(place.below("recipes/minimal".as_ref()), Path::new("firmware/generic"));
    }

    /// A recipe's folder below `project`, as the repository has it.
    fn project(root: &Path) -> PathBuf {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for part in ["firmware", "kernels", "recipes/minimal"] {
            tidy::copy_recipe(&repository.join(part), &root.join(part)).unwrap();
        }
        let folder = root.join("recipes/minimal");
        fs::create_dir(folder.join("mkosi.extra/empty")).unwrap();
        std::os::unix::fs::symlink("../nowhere", folder.join("mkosi.extra/link")).unwrap();
        folder
    }

    fn release(folder: &Path, project: &Project, archive: &[u8]) -> PathBuf {
        let release = folder.join("release");
        fs::create_dir(&release).unwrap();
        fs::write(release.join(FILE), archive).unwrap();
        fs::write(release.join("recipe.toml"), &project.text).unwrap();
        fs::write(release.join(parse::LOCK), "the lock").unwrap();
        release
    }

    #[test]
    fn a_recipe_comes_out_of_the_archive_as_it_went_in() {
        let (place, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path().join("recipes")).unwrap();
        let packed = Project::read(&project(place.path())).unwrap();
        let archive = pack(&packed).unwrap();
        assert_eq!(pack(&packed).unwrap(), archive, "the same each time");
        let release = release(place.path(), &packed, &archive);
        let unpacked = unpack(&release, other.path()).unwrap();
        assert_eq!(unpacked.digest, packed.digest);
        assert_eq!(unpacked.folder, other.path().join("recipes/minimal"));
        assert!(unpacked.folder.join("mkosi.extra/empty").is_dir());
        assert_eq!(
            fs::read_to_string(unpacked.folder.join(parse::LOCK)).unwrap(),
            "the lock"
        );
        assert_eq!(pack(&unpacked).unwrap(), archive, "and the same again");
    }

    #[test]
    fn a_file_that_changes_during_the_build_is_not_packed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("recipes")).unwrap();
        let packed = Project::read(&project(place.path())).unwrap();
        fs::write(packed.folder.join("mkosi.conf"), "[Content]\n").unwrap();
        let report = crate::mend::report(&pack(&packed).unwrap_err());
        assert!(
            report.contains("mkosi.conf") && report.contains("it has changed"),
            "{report}"
        );
    }

    #[test]
    fn an_archive_that_leaves_its_folder_is_refused() {
        let (place, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path().join("recipes")).unwrap();
        let packed = Project::read(&project(place.path())).unwrap();
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.as_mut_bytes()[..9].copy_from_slice(b"../escape");
        header.set_cksum();
        archive.append(&header, &b"evil"[..]).unwrap();
        let release = release(place.path(), &packed, &archive.into_inner().unwrap());
        assert!(unpack(&release, &other.path().join("in")).is_err());
        fs::create_dir(other.path().join("in")).unwrap();
        assert!(unpack(&release, &other.path().join("in")).is_err());
        assert!(!other.path().join("escape").exists());
    }
}
