//! Everything that a builder needs for a job, as one tar archive: `job.toml`, and what it is about. The builder gets it as
//! a disk, and believes nothing on it but by its digest.

use std::fs::Permissions;
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use tar::{Builder, EntryType, Header};
use tempfile::NamedTempFile;

use crate::mend::{Exit, OrMend as _};
use crate::model::Lock;
use crate::model::lock::Tree;
use crate::model::record::Terms;
use crate::model::release::{FileName, MANIFEST};
use crate::stage::compile::Means;
use crate::stage::parse::LOCK;
use crate::stage::release::Existing;
use crate::stage::{fetch, payload, recipe, sign};
use crate::world::files;
use crate::world::store::Store;

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
        false => drop(fetch::tool_tree(lock, Tree::Compiler, net, store)?),
    }
    let mut job = Job::begin(to, lock, terms)?;
    job.add_bytes(recipe::FILE, &recipe::pack(project)?)?;
    job.add_bytes(LOCK, lock.text().as_bytes())?;
    let packages = lock.package.iter();
    let compiles = !compiled;
    let needed = |tree: &Tree| *tree != Tree::Boot && (compiles || *tree != Tree::Compiler);
    let packages = packages.filter(|package| package.why.keys().any(needed));
    let packages = packages.map(|package| (package.sha256, package.size));
    let payloads = lock.payload.iter();
    let payloads = payloads.filter(|payload| compiled || payload.compiled.is_none());
    let payloads = payloads.map(|payload| (payload.sha256, payload.size));
    let crates = lock.payload.iter().filter_map(|payload| payload.compiled.as_ref());
    let crates = crates
        .flat_map(|compiled| &compiled.crates)
        .map(|one| (one.sha256, one.size));
    for (sha256, size) in packages.chain(payloads).chain(crates) {
        job.add_from(store, &sha256, size)?;
    }
    job.end(to)
}

/// Writes the job of measuring a release again, and signing it: with its files that anybody can reproduce.
///
/// # Errors
/// A release with findings; a disk that is full.
pub fn of_release(folder: &Path, terms: &Terms, to: &Path) -> Result<()> {
    let subject = sign::subject(folder, Existing::Replace)?;
    let mut job = Job::begin(to, &subject.lock, terms)?;
    let files = subject.manifest.files.keys().map(FileName::as_str);
    for name in files.chain([MANIFEST]) {
        let file = files::open(&folder.join(name)).with_context(|| format!("cannot open {name}"))?;
        let size = file.metadata()?.len();
        job.add(&format!("{RELEASE}/{name}"), size, file)?;
    }
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

    fn add_from(&mut self, store: &Store, sha256: &Sha256, size: u64) -> Result<()> {
        let name = sha256.to_string();
        let file = store.checked(sha256, size)?;
        self.add(&format!("{STORE}/sha256/{}/{name}", &name[..2]), size, file)
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
