//! A recipe's folder into `recipe.tar` of a release, and out of it: whoever has the release can build it again.
//!
//! The archive holds everything that the recipe's digest covers: the recipe's own files, the descriptions of firmware
//! and kernel, and the source of what is compiled, each where the recipe names it. Unpacked, it is a folder that `begat build --locked` takes.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tar::Archive;

use crate::mend::{Exit, OrMend as _};
use crate::model::file;
use crate::model::recipe::Recipe;
use crate::stage::archive::{self, Member, Members};
use crate::stage::on_disk::OnDisk;
use crate::stage::parse::{self, Files, Project};
use crate::world::files::Kind;
use crate::world::folder::Folder;
use crate::world::unpack;

/// The name of the file in a release.
pub use crate::model::file::RECIPE_ARCHIVE as FILE;

/// Returns the archive of a recipe, the same whoever packs it, wherever and whenever.
///
/// # Errors
/// A file that cannot be read or has changed since the recipe was; a description that the recipe names by an absolute
/// path.
pub fn pack(project: &Project) -> Result<Vec<u8>> {
    let archive = pack_from(&project.folder.as_path(), project)?;
    let (size, limit) = (archive.len() as u64, file::limit(FILE));
    if size > limit {
        let problem = format!("the recipe has {size} bytes, and {FILE} takes {limit}");
        return Err(Exit::Unsupported.because(problem, "declare large files as a [[payload]] with a URL"));
    }
    Ok(archive)
}

fn pack_from(files: &impl Files, project: &Project) -> Result<Vec<u8>> {
    let mut members = Members::new();
    let home = home(&project.recipe)?;
    for path in files.walk(Path::new(""))? {
        if !parse::is_lock(&path) {
            let member = member(files, project, &path).with_context(|| format!("cannot pack {}", path.display()))?;
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

fn member(files: &impl Files, project: &Project, path: &Path) -> Result<Member> {
    let member = files.member(path)?;
    let Some(sha256) = member.sha256() else {
        return Ok(member);
    };
    let mut sources = project.sources.iter();
    match sources.any(|source| Path::new(&source.path) == path && source.sha256 == sha256) {
        true => Ok(member),
        false => Err(Exit::Usage.because("it has changed since the build began", "build again")),
    }
}

/// Reads the recipe in the bytes of an archive, which is the one that [`pack`] makes of it; `text` is the release's
/// `recipe.toml`.
///
/// # Errors
/// Another archive, or more in it than this recipe names; a recipe that cannot be read, or is not of that text.
pub fn read(archive: &[u8], text: &str) -> Result<Project> {
    let members = archive::read(archive).with_context(|| format!("{FILE} is damaged"))?;
    let home = home(&Recipe::parse(text)?)?;
    let packed = Packed {
        members: &members,
        home: &home,
    };
    let project = Project::read_from(&packed, &home).with_context(|| format!("of {FILE}"))?;
    ensure!(project.text == text, "recipe.toml is not that of {FILE}");
    let same = pack_from(&packed, &project)? == archive;
    ensure!(
        same,
        "{FILE} is not the archive of the recipe in it, and of nothing else"
    );
    Ok(project)
}

/// A recipe in an archive.
struct Packed<'a> {
    members: &'a Members,
    home: &'a Path,
}

impl Files for Packed<'_> {
    fn member(&self, path: &Path) -> Result<Member> {
        let member = self.members.get(&Place::of(path)?.below(self.home));
        member.cloned().context("it is not there")
    }

    fn walk(&self, path: &Path) -> Result<Vec<PathBuf>> {
        let folder = Place::of(path)?.below(self.home);
        let below = self.members.keys().filter_map(|path| path.strip_prefix(&folder).ok());
        let below = below.filter(|path| !path.as_os_str().is_empty());
        let mut paths: Vec<PathBuf> = below.map(PathBuf::from).collect();
        paths.sort_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
        Ok(paths)
    }
}

/// Unpacks the recipe of a release to `to`, with the release's lock, and reads it. The archive may have brought links
/// along: the lock is written through none of them.
///
/// # Errors
/// A release without the archive; one that is damaged or leaves its folder; a recipe that cannot be read.
pub fn unpack(release: &OnDisk, to: &Path) -> Result<Project> {
    let text = |name: &str| {
        let text = release.text(name);
        text.or_mend(Exit::Usage, format!("cannot read {name}"), "fetch the release again")
    };
    let archive = release.file(FILE).or_mend(
        Exit::Usage,
        format!("cannot read {FILE} of {}", release.shown()),
        "name a release that carries its recipe: those of begat 0.1.0 and later do",
    )?;
    unpack::unpack(&mut Archive::new(archive.reader()), to).with_context(|| format!("cannot unpack {FILE}"))?;
    let recipe = Recipe::parse(&text(file::RECIPE)?)?;
    let home = home(&recipe)?;
    let lock = text(file::LOCK)?;
    let written = Folder::open(to).and_then(|folder| folder.write(home.join(file::LOCK), lock));
    written.context("cannot write the lock beside the recipe")?;
    followed(&Folder::open(to)?, &home, &recipe)?;
    Project::read(&to.join(home))
}

/// Refuses links in the place of what is read of a recipe: they lead wherever its author wanted. Other links are the
/// guest's, and nobody follows them.
fn followed(folder: &Folder, home: &Path, recipe: &Recipe) -> Result<()> {
    let entries = folder.list()?.into_iter();
    let links = entries
        .filter(|entry| entry.kind == Kind::Symlink)
        .map(|entry| entry.path);
    let links: BTreeSet<PathBuf> = links.collect();
    let own = recipe.suites.values().filter_map(|suite| suite.keyring.as_deref());
    let own = own
        .chain(recipe.platform.as_deref())
        .chain([file::RECIPE])
        .map(PathBuf::from);
    let firmware = recipe
        .firmware
        .iter()
        .map(|place| Path::new(place).join("firmware.toml"));
    let kernel = Path::new(&recipe.kernel).join("kernel.toml");
    let compiled = recipe.payload.iter().filter_map(|payload| payload.compile.as_ref());
    let sources = compiled.flat_map(|it| it.source.iter().map(|name| Path::new(&it.workspace).join(name)));
    for place in own.chain(firmware).chain([kernel]).chain(sources) {
        let path = Place::of(&place)?.below(home);
        if let Some(link) = path.ancestors().find(|path| links.contains(*path)) {
            let problem = format!(
                "{FILE} has a link at {}, where a file of the recipe has to be",
                link.display()
            );
            return Err(Exit::No.because(problem, "do not use the release: get it from elsewhere"));
        }
    }
    Ok(())
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
    use std::fs;

    use super::*;
    use crate::world::tidy;
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

    fn release(folder: &Path, project: &Project, archive: &[u8]) -> OnDisk {
        let release = folder.join("release");
        fs::create_dir(&release).unwrap();
        fs::write(release.join(FILE), archive).unwrap();
        fs::write(release.join("recipe.toml"), &project.text).unwrap();
        fs::write(release.join(parse::LOCK), "the lock").unwrap();
        OnDisk::open(&release).unwrap()
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
        let read = read(&archive, &packed.text).unwrap();
        assert_eq!((read.digest, &read.sources), (packed.digest, &packed.sources));
    }

    /// The archive, with these members changed.
    fn changed(archive: &[u8], change: impl Fn(&mut Members)) -> Vec<u8> {
        let mut members = archive::read(archive).unwrap();
        change(&mut members);
        archive::write(&members, 1_789_171_200).unwrap()
    }

    #[test]
    fn attack_an_archive_with_more_than_the_recipe_or_another_one() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("recipes")).unwrap();
        let packed = Project::read(&project(place.path())).unwrap();
        let archive = pack(&packed).unwrap();
        assert_eq!(changed(&archive, |_| {}), archive, "the honest one");
        let refusal = |archive: &[u8], text: &str| format!("{:#}", read(archive, text).unwrap_err());
        let file = Member::File {
            content: b"evil".to_vec(),
            executable: true,
        };
        for path in ["firmware/generic/OVMF.fd", "elsewhere", "recipes/minimal/recipe.lock"] {
            let more = changed(&archive, |members| drop(members.insert(path.into(), file.clone())));
            assert!(refusal(&more, &packed.text).contains("and of nothing else"), "{path}");
        }
        let own = changed(&archive, |members| {
            members.insert("recipes/minimal/mkosi.extra/evil".into(), file.clone());
        });
        assert_ne!(read(&own, &packed.text).unwrap().digest, packed.digest);
        const EMPTY: &str = "recipes/minimal/mkosi.extra/empty";
        let less = changed(&archive, |members| drop(members.remove(Path::new(EMPTY))));
        assert_ne!(
            read(&less, &packed.text).unwrap().digest,
            packed.digest,
            "a folder less"
        );
        let toml = |members: &mut Members| drop(members.insert("recipes/minimal/recipe.toml".into(), file.clone()));
        assert!(refusal(&changed(&archive, toml), &packed.text).contains("cannot read recipe.toml"));
        let other = packed.text.replace("panic=-1", "panic=-2");
        assert!(refusal(&archive, &other).contains("recipe.toml is not that of recipe.tar"));
        assert!(refusal(&archive, &packed.text.replace("\"minimal\"", "\"other\"")).contains("of recipe.tar"));
        let trailing = [&archive[..], &[0; 512]].concat();
        assert!(refusal(&trailing, &packed.text).contains("and of nothing else"));
        assert!(refusal(&archive[..1000], &packed.text).contains("damaged"));
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

    /// An archive of a recipe with a link in the place of this file.
    fn with_link(project: &Project, path: &str, target: &str) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive.append_link(&mut header, path, target).unwrap();
        let packed = pack(project).unwrap();
        for entry in Archive::new(packed.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().into_owned();
            let header = entry.header().clone();
            if name != Path::new(path) {
                let mut content = Vec::new();
                std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
                let mut header = header;
                match header.entry_type() {
                    tar::EntryType::Symlink => {
                        let target = entry.link_name().unwrap().unwrap().into_owned();
                        archive.append_link(&mut header, name, target).unwrap();
                    }
                    _ => archive.append_data(&mut header, name, content.as_slice()).unwrap(),
                }
            }
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn attack_a_link_that_the_archive_brings_in() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("recipes")).unwrap();
        let packed = Project::read(&project(place.path())).unwrap();
        let mine = place.path().join("mine");
        fs::write(&mine, "a file of the user").unwrap();
        let target = mine.to_str().unwrap();
        for (path, refused) in [
            ("recipes/minimal/recipe.lock", false),
            ("recipes/minimal/recipe.toml", true),
            ("kernels/debian-cloud/kernel.toml", true),
        ] {
            let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let release = release(from.path(), &packed, &with_link(&packed, path, target));
            let unpacked = unpack(&release, to.path());
            assert_eq!(fs::read_to_string(&mine).unwrap(), "a file of the user");
            match refused {
                true => {
                    let report = crate::mend::report(&unpacked.unwrap_err());
                    assert!(report.contains(&format!("has a link at {path}")), "{report}");
                }
                false => {
                    let lock = unpacked.unwrap().folder.join(parse::LOCK);
                    assert_eq!(fs::read_to_string(lock).unwrap(), "the lock");
                }
            }
        }
    }
}
