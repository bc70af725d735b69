//! Everything that a builder needs for a job, as one tar archive: `job.toml`, and what it is about. The builder gets it as
//! a disk, and believes nothing on it but by its digest: what is derived from it, a builder derives, and an archive that
//! brings anything else along is no job.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use tar::{Archive, Builder, EntryType, Header};
use tempfile::NamedTempFile;

use crate::mend::{Exit, OrMend as _};
use crate::model::Lock;
use crate::model::lock::{Package, Tree};
use crate::model::payload::Payload;
use crate::model::record::Terms;
use crate::model::release::{FileName, MANIFEST};
use crate::stage::compile::Means;
use crate::stage::parse::LOCK;
use crate::stage::verify::Judged;
use crate::stage::{describe, fetch, payload, recipe};
use crate::world::store::{Store, copy_hashed};

/// The members: the job, the recipe and its lock, the store, or the release.
const JOB: &str = "job.toml";
const STORE: &str = "store";
const RELEASE: &str = "release";

/// An archive that is being written beside its final name.
struct Job {
    archive: Builder<BufWriter<NamedTempFile>>,
}

/// Writes the job of building a recipe: with its sources and everything that its lock names, and with what is `compiled`
/// in the place of the compiler where that is wanted.
///
/// # Errors
/// Something that no mirror has as the lock names it; a disk that is full.
pub fn of_recipe(means: &Means<'_>, (lock, terms): (&Lock, &Terms), compiled: bool, to: &Path) -> Result<()> {
    let Means {
        project, net, store, ..
    } = *means;
    payload::fetch(lock, project, net, store)?;
    fetch::fetch(lock, net)?;
    match compiled {
        true => drop(means.fetch(lock)?),
        false => fetch::tree(lock, Tree::Compiler, net)?,
    }
    let mut job = Job::begin(to, lock, terms)?;
    job.add_bytes(recipe::FILE, &recipe::pack(project)?)?;
    job.add_bytes(LOCK, lock.text().as_bytes())?;
    let compiles = !compiled;
    let needed = |tree: &Tree| *tree != Tree::Boot && (compiles || *tree != Tree::Compiler);
    let packages = |package: &Package| package.why.keys().any(needed);
    job.add_locked(store, lock, packages, |payload| compiled || payload.compiled.is_none())?;
    job.end(to)
}

/// Writes the job of comparing a release with the packages that it was made of, measuring it again, and signing it: with its
/// files that anybody can reproduce, and those packages.
///
/// # Errors
/// A package that no mirror has; a disk that is full.
pub fn of_release(means: &Means<'_>, release: &Judged, terms: &Terms, to: &Path) -> Result<()> {
    let Means {
        project, net, store, ..
    } = *means;
    let lock = &Lock::parse(&release.text(LOCK)?)?;
    payload::fetch(lock, project, net, store)?;
    fetch::some(lock, describe::is_described, net)?;
    means.fetch(lock)?;
    let mut job = Job::begin(to, lock, terms)?;
    let files = release.manifest.files.keys().map(FileName::as_str);
    for name in files.chain([MANIFEST]) {
        let file = release.on_disk.file(name);
        let file = file.with_context(|| format!("cannot open {name}"))?;
        job.add(&format!("{RELEASE}/{name}"), file.len(), file.reader())?;
    }
    job.add_locked(store, lock, describe::is_described, |_| true)?;
    job.end(to)
}

impl Job {
    fn begin(to: &Path, lock: &Lock, terms: &Terms) -> Result<Self> {
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file =
            NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).or_mend(Exit::Outside, cannot_write(to), MEND)?;
        let mut job = Self {
            archive: Builder::new(BufWriter::with_capacity(1 << 20, file)),
        };
        job.add_bytes(JOB, text(lock, terms).as_bytes())?;
        Ok(job)
    }

    fn add_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.add(name, bytes.len() as u64, bytes)
    }

    /// Adds packages, payloads and crates of the lock, each once.
    fn add_locked(
        &mut self,
        store: &Store,
        lock: &Lock,
        package: impl Fn(&Package) -> bool,
        payload: impl Fn(&Payload) -> bool,
    ) -> Result<()> {
        let packages = lock.package.iter().filter(|one| package(one));
        let packages = packages.map(|package| (package.sha256, package.size));
        let payloads = lock.payload.iter().filter(|one| payload(one));
        let payloads = payloads.map(|payload| (payload.sha256, payload.size));
        let crates = lock.payload.iter().filter_map(|payload| payload.compiled.as_ref());
        let crates = crates
            .flat_map(|compiled| &compiled.crates)
            .map(|one| (one.sha256, one.size));
        let locked: BTreeMap<Sha256, u64> = packages.chain(payloads).chain(crates).collect();
        locked
            .iter()
            .try_for_each(|(sha256, size)| self.add_from(store, sha256, *size))
    }

    fn add_from(&mut self, store: &Store, sha256: &Sha256, size: u64) -> Result<()> {
        let mut file = store.reader(sha256, size)?;
        self.add(&place(sha256), size, &mut file)?;
        file.end()
    }

    /// The same member, whoever packs it, wherever and whenever.
    fn add(&mut self, name: &str, size: u64, content: impl Read) -> Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(size);
        let added = self.archive.append_data(&mut header, name, content.take(size));
        added.or_mend(Exit::Outside, format!("cannot put {name} into the job"), MEND)
    }

    fn end(self, to: &Path) -> Result<()> {
        let steps = || -> io::Result<()> {
            let file = self.archive.into_inner()?.into_inner()?;
            file.as_file().sync_all()?;
            file.as_file().set_permissions(Permissions::from_mode(0o644))?;
            Ok(file.persist(to).map(drop)?)
        };
        steps().or_mend(Exit::Outside, cannot_write(to), MEND)
    }
}

/// Unpacks a job into the folder `to`, as a builder does, in one pass: a disk may have changed when it is read again.
///
/// # Errors
/// An archive with a member that no job has, or with one in the store that is not what its name says; a full disk.
pub fn open(job: &Path, to: &Path) -> Result<()> {
    let problem = format!("cannot read the job {}", job.display());
    let file = File::open(job).or_mend(Exit::Usage, &problem, "name what `begat job` has written")?;
    let mut archive = Archive::new(BufReader::with_capacity(1 << 20, file));
    let members = archive.entries().or_mend(Exit::Usage, &problem, DAMAGED)?;
    for member in members {
        let mut member = member.or_mend(Exit::Usage, &problem, DAMAGED)?;
        let path = member.path().or_mend(Exit::Usage, &problem, DAMAGED)?;
        let name = path.to_string_lossy().into_owned();
        let Some(content) = Content::of(&name).filter(|_| member.header().entry_type() == EntryType::Regular) else {
            return Err(Exit::Usage.because(format!("{name:?} is no part of a job: nothing is built"), DAMAGED));
        };
        let found = write(&mut member, &to.join(&name)).or_mend(
            Exit::Outside,
            format!("cannot write {name:?} of the job"),
            "see that it is there once, and make room: a larger scratch disk",
        )?;
        if let Content::Locked(sha256) = content
            && sha256 != found
        {
            let problem = format!("{name} of the job has SHA-256 {found}: nothing is built");
            return Err(Exit::LockMismatch.because(problem, DAMAGED));
        }
    }
    Ok(())
}

const DAMAGED: &str = "make the job anew: begat job";

/// What a member of a job is.
enum Content {
    /// Judged by what reads it.
    Plain,
    /// A file of the store.
    Locked(Sha256),
}

impl Content {
    fn of(name: &str) -> Option<Self> {
        if [JOB, recipe::FILE, LOCK].contains(&name) {
            return Some(Self::Plain);
        }
        let (folder, rest) = name.split_once('/')?;
        match folder {
            RELEASE if rest == MANIFEST => Some(Self::Plain),
            RELEASE => FileName::try_from(rest.to_owned()).ok().map(|_| Self::Plain),
            STORE => {
                let sha256: Sha256 = rest.rsplit('/').next()?.parse().ok()?;
                (place(&sha256) == name).then_some(Self::Locked(sha256))
            }
            _ => None,
        }
    }
}

/// Where a file of the store is in a job.
fn place(sha256: &Sha256) -> String {
    let name = sha256.to_string();
    format!("{STORE}/sha256/{}/{name}", &name[..2])
}

/// Writes a member to a new file and returns its digest.
fn write(content: &mut impl Read, to: &Path) -> io::Result<Sha256> {
    fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
    copy_hashed(content, &mut File::create_new(to)?)
}

const MEND: &str = "make room there, or name another file: --output FILE";

fn cannot_write(to: &Path) -> String {
    format!("cannot write {}", to.display())
}

/// The text of the job: what [`Ordered`](crate::model::job::Ordered) reads.
fn text(lock: &Lock, terms: &Terms) -> String {
    let Terms {
        binding,
        generation,
        previous,
        not_before,
        not_after,
        job: _,
    } = terms;
    let mut text = format!("lock = \"{}\"\ngeneration = {generation}\n", lock.digest());
    let optional = [
        ("previous", previous.map(|previous| previous.to_string())),
        ("not-before", not_before.map(|time| time.to_string())),
        ("not-after", not_after.map(|time| time.to_string())),
        ("binding", Some(binding.name().to_owned())),
    ];
    for (key, value) in optional {
        text.extend(value.map(|value| format!("{key} = \"{value}\"\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::job::Ordered;
    use crate::model::record::Binding;
    use crate::world::files;

    /// An archive with these members, of these types; a link leads to where the content says.
    fn archive(members: &[(&str, EntryType, &[u8])]) -> NamedTempFile {
        let mut archive = Builder::new(NamedTempFile::new().unwrap());
        for (name, kind, content) in members {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            // not through the path, which the crate would refuse
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            let file = matches!(kind, EntryType::Regular | EntryType::Continuous);
            if !file {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content);
            }
            header.set_size(if file { content.len() as u64 } else { 0 });
            header.set_cksum();
            archive.append(&header, if file { content } else { &[][..] }).unwrap();
        }
        archive.into_inner().unwrap()
    }

    /// The members of a job, and those of the job that the attacker adds; what `begat job --open` leaves of them.
    fn opened(more: &[(&str, EntryType, &[u8])]) -> (tempfile::TempDir, Result<()>) {
        let file = place(&Sha256::of("bytes"));
        let honest: [(&str, EntryType, &[u8]); 4] = [
            (JOB, EntryType::Regular, b"lock"),
            (recipe::FILE, EntryType::Regular, b"recipe"),
            (LOCK, EntryType::Regular, b"lock"),
            (&file, EntryType::Regular, b"bytes"),
        ];
        let (job, folder) = (archive(&[&honest, more].concat()), tempfile::tempdir().unwrap());
        let outcome = open(job.path(), folder.path());
        (folder, outcome)
    }

    #[test]
    fn a_job_is_opened_as_it_was_written() {
        let (folder, outcome) = opened(&[]);
        outcome.unwrap();
        let listed = files::list(folder.path()).unwrap().into_iter();
        let found: Vec<_> = listed
            .filter(|entry| entry.kind == files::Kind::File)
            .map(|entry| entry.path.display().to_string())
            .collect();
        assert_eq!(found, [JOB, LOCK, recipe::FILE, &place(&Sha256::of("bytes"))]);
        let release: [(&str, EntryType, &[u8]); 2] = [
            ("release/manifest.json", EntryType::Regular, b"{}"),
            ("release/volume-model.erofs", EntryType::Regular, b"image"),
        ];
        let (folder, outcome) = opened(&release);
        outcome.unwrap();
        assert_eq!(
            fs::read(folder.path().join("release/volume-model.erofs")).unwrap(),
            b"image"
        );
    }

    /// What a store of the host has that was derived, and whatever else a builder would find where it looks.
    #[test]
    fn attack_a_job_that_brings_along_what_a_builder_derives() {
        let digest = Sha256::of("evil").to_string();
        let other = format!("store/sha256/00/{digest}");
        let upper = format!("store/sha256/{}/{}", &digest[..2], digest.to_uppercase());
        for name in [
            "store/trees/00/usr/bin/mkfs.erofs",
            "store/trees/00.list",
            "store/trees/00.seal",
            "store/compiled/00.json",
            "store/work/begat-0/x",
            "store/partial/00",
            "store/sha256/x",
            &other,
            &upper,
            "store",
            "source/recipe.toml",
            "listing",
            ".cargo/config.toml",
            "release",
            "release/../job.toml",
            "release//manifest.json",
            "../job.toml",
            "/etc/passwd",
            "./job.toml",
        ] {
            let (folder, outcome) = opened(&[(name, EntryType::Regular, b"evil")]);
            let error = outcome.expect_err(name);
            assert!(crate::mend::report(&error).contains("is no part of a job"), "{error:#}");
            assert!(!folder.path().join("store/trees").exists());
        }
        let file = place(&Sha256::of("evil"));
        let kinds = [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Directory,
            EntryType::Char,
            EntryType::Fifo,
        ];
        for kind in kinds {
            let (_folder, outcome) = opened(&[(&file, kind, b"/etc/passwd")]);
            assert!(
                outcome.unwrap_err().to_string().contains("is no part of a job"),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn attack_a_job_with_other_bytes_under_a_digest_or_a_member_twice() {
        let file = place(&Sha256::of("good"));
        let (_folder, outcome) = opened(&[(&file, EntryType::Regular, b"evil")]);
        assert_eq!(crate::mend::exit_code(&outcome.unwrap_err()), Exit::LockMismatch);
        let (folder, outcome) = opened(&[(JOB, EntryType::Regular, b"another")]);
        assert!(outcome.unwrap_err().to_string().contains("cannot write \"job.toml\""));
        assert_eq!(fs::read(folder.path().join(JOB)).unwrap(), b"lock");
    }

    #[test]
    fn a_job_is_read_as_it_was_written() {
        let lock = Lock::new(Sha256::of("recipe"), vec![], vec![], vec![]);
        let terms = Terms {
            binding: Binding::Sha256Hex,
            generation: 7,
            previous: Some(measure::Sha384::of("record")),
            not_after: Some("2027-01-01T00:00:00Z".parse().unwrap()),
            ..Terms::default()
        };
        let text = text(&lock, &terms);
        let ordered = Ordered::parse(JOB, &text).unwrap();
        let job = Some(Sha256::of(&text));
        assert_eq!(ordered.lock, Some(lock.digest()));
        assert_eq!(ordered.terms, Terms { job, ..terms });
    }
}
