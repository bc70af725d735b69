//! Source in, programs out: payloads that are compiled with cargo, offline, in a tool tree with the locked compiler.
//!
//! The paths inside are the same everywhere, and so are users, environment and names: what comes out depends on the lock
//! alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use flate2::read::GzDecoder;
use measure::Sha256;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tar::Archive;

use crate::mend::Exit;
use crate::model::lock::Tree;
use crate::model::payload::{Declared, Payload};
use crate::model::program::{Compile, Compiled, Crate};
use crate::model::release::Stamp;
use crate::model::{self, Lock};
use crate::stage::archive::{self, Member};
use crate::stage::guest::inside::{self, WORK};
use crate::stage::parse::Project;
use crate::stage::{cargo_lock, fetch, say};
use crate::world::net::Net;
use crate::world::program::{Program, of_the_tree};
use crate::world::progress::Count;
use crate::world::sandbox::{Bind, Line, Owners, Sandbox};
use crate::world::scratch::Scratch;
use crate::world::store::Store;
use crate::world::workspace::Workspace;
use crate::world::{files, tidy, unpack};

/// What compiling needs besides the lock.
pub struct Means<'a> {
    pub project: &'a Project,
    pub net: &'a Net,
    pub store: &'a Store,
    pub workspace: &'a Workspace,
    /// Compile what the store has, too: whoever rebuilds takes no program by its digest.
    pub again: bool,
}

/// What is to be compiled inside the tool tree.
#[derive(Debug, Deserialize, Serialize)]
pub struct Job {
    compiled: Compiled,
    /// The digest of the compiler's packages.
    compiler: Sha256,
}

/// The crates that are in a program: name and version.
type Linked = BTreeSet<(String, String)>;

/// `env` sets variables and the folder.
const ENV: Program = of_the_tree("env");

/// The one target: its libraries are linked into the program, the C library included.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "-Ctarget-feature=+crt-static -Cstrip=symbols";

/// The archives' time: a source is known by what is in it.
const SOURCE_TIME: i64 = 0;

/// What came of a compilation.
#[derive(Deserialize, Serialize)]
struct Record {
    compiled: Compiled,
    program: Stamp,
}

impl Means<'_> {
    /// Returns the payloads of the recipe that are compiled, and compiles those that this user has not compiled yet since
    /// the machine started.
    ///
    /// # Errors
    /// Crates that nobody has fetched; a compiler that fails.
    pub fn lock(&self, lock: &Lock) -> Result<Vec<Payload>> {
        let declared = self.project.recipe.payload.iter();
        let declared = declared.filter_map(|declared| Some((declared, declared.compile.as_ref()?)));
        let locked = declared.map(|(declared, compile)| {
            let compiled = self.compiled(declared, compile)?;
            let Record { compiled, program } = self.made(lock, compiled)?;
            Ok(Payload {
                compiled: Some(compiled),
                ..declared.locked(program)
            })
        });
        locked.collect()
    }

    /// Brings every compiled payload of the lock into the store, and returns the names of those that were compiled for it
    /// just now.
    ///
    /// # Errors
    /// As [`Self::lock`], and a program that comes out otherwise than the lock says.
    pub fn fetch(&self, lock: &Lock) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for payload in &lock.payload {
            let Some(wanted) = &payload.compiled else { continue };
            if !self.again && self.store.check(&payload.sha256, payload.size).is_ok() {
                continue;
            }
            let made = self.compile(lock, self.compiled_as(payload, wanted)?)?;
            if made.program != payload.stamp() || made.compiled != *wanted {
                return Err(other(payload, made.program));
            }
            names.push(payload.name.to_string());
        }
        Ok(names)
    }

    /// What the lock names must be what the recipe has.
    fn compiled_as(&self, payload: &Payload, wanted: &Compiled) -> Result<Compiled> {
        let mut declared = self.project.recipe.payload.iter();
        let declared = declared.find(|declared| declared.name == payload.name);
        let compile = declared.and_then(|declared| Some((declared, declared.compile.as_ref()?)));
        let compiled = compile.map(|(declared, compile)| self.compiled(declared, compile));
        let compiled = compiled.transpose()?;
        compiled
            .filter(|compiled| compiled.is_of_the_same(wanted))
            .ok_or_else(|| {
                let problem = format!(
                    "the source of the payload {} is not the one that the lock names",
                    payload.name
                );
                Exit::LockMismatch.because(problem, "bring it back, or lock it anew: begat lock RECIPE")
            })
    }

    /// The source and the crates, all of them in the store.
    fn compiled(&self, declared: &Declared, compile: &Compile) -> Result<Compiled> {
        let members = &self.project.programs[&declared.name.to_string()];
        let source = archive::write(members, SOURCE_TIME)?;
        let Some(Member::File { content, .. }) = members.get(Path::new("Cargo.lock")) else {
            let problem = format!("the source of the payload {} has no Cargo.lock", declared.name);
            return Err(Exit::Usage.because(problem, "make one: cargo generate-lockfile"));
        };
        let text = String::from_utf8_lossy(content);
        Ok(Compiled {
            package: compile.package.clone(),
            binary: compile.binary.clone(),
            source: Stamp {
                sha256: self.store.add(&source)?,
                size: source.len() as u64,
            },
            crates: cargo_lock::packages(&text, self.net)
                .with_context(|| format!("cannot lock what the payload {} depends on", declared.name))?,
        })
    }

    /// What came of it before, by a note with a seal, or comes of it now.
    fn made(&self, lock: &Lock, compiled: Compiled) -> Result<Record> {
        let name = Sha256::of(model::json(&json!({"compiled": compiled, "compiler": compiler(lock)})));
        let name = format!("{name}.json");
        let known = self.store.note(&name).and_then(|text| serde_json::from_str(&text).ok());
        let is_here = |record: &Record| self.store.check(&record.program.sha256, record.program.size).is_ok();
        if let Some(record) = known.filter(is_here) {
            return Ok(record);
        }
        let record = self.compile(lock, compiled)?;
        self.store.write_note(&name, &model::json(&record))?;
        Ok(record)
    }

    /// Compiles in a sandbox, and takes what comes out into the store.
    fn compile(&self, lock: &Lock, mut compiled: Compiled) -> Result<Record> {
        let tree = fetch::tool_tree(lock, Tree::Compiler, self.net, self.store)?;
        say(
            "compile",
            &format!("{}, and {} crates", compiled.binary, compiled.crates.len()),
        );
        let out = Scratch::new(self.store.own(), "compile-").context("cannot make a folder for what is compiled")?;
        let bind = |host: &Path, inside: &str, writable| Bind {
            host: host.into(),
            inside: inside.into(),
            writable,
        };
        let sandbox = Sandbox {
            tree: tree.path,
            workspace: self.workspace.folder().map(PathBuf::from),
            binds: vec![
                bind(&self.store.files(), inside::FILES, false),
                bind(out.path(), inside::OUT, true),
            ],
            owners: Owners::Single,
        };
        let job = Job {
            compiled: compiled.clone(),
            compiler: compiler(lock),
        };
        let linked: Linked = sandbox.run(&crate::stage::Work::Compile(job))?;
        for one in &mut compiled.crates {
            one.linked = linked.contains(&(one.name.clone(), one.version.clone()));
        }
        // A script that builds may have left a link in its place, to any file of ours.
        let program = files::open(&out.path().join(&compiled.binary));
        let mut program = program.with_context(|| format!("cannot read what was compiled, {}", compiled.binary))?;
        let program = self.store.add_all(&mut program)?;
        Ok(Record { compiled, program })
    }
}

/// The compiler is its packages.
fn compiler(lock: &Lock) -> Sha256 {
    let digests = lock
        .packages(Tree::Compiler)
        .map(|package| format!("{}\n", package.sha256));
    Sha256::of(digests.collect::<String>())
}

fn other(payload: &Payload, found: Stamp) -> anyhow::Error {
    let problem = format!(
        "the payload {} comes out with SHA-256 {} and {} bytes, the lock says {} and {}",
        payload.name, found.sha256, found.size, payload.sha256, payload.size
    );
    Exit::LockMismatch.because(
        problem,
        "whoever locked it has compiled something else: begat lock RECIPE",
    )
}

impl Job {
    /// Compiles, leaves the program in the output folder, and says which crates are in it.
    ///
    /// # Errors
    /// A source or a crate that cannot be unpacked; a compiler that fails.
    pub fn compile(&self, line: Line) -> Result<()> {
        let work = Path::new(WORK);
        tidy::clear(work)?; // a killed run may have left things here
        let made = self.compile_in(work);
        let cleared = tidy::clear(work);
        line.answer(&made.and_then(|linked| cleared.map(|()| linked))?)
    }

    fn compile_in(&self, work: &Path) -> Result<Linked> {
        let store = Store::read_only(inside::STORE);
        for folder in ["source", "crates", "cargo", "target"] {
            fs::create_dir(work.join(folder))?;
        }
        let Stamp { sha256, size } = self.compiled.source;
        let source = store.bytes(&sha256, size)?;
        unpack::unpack(&mut Archive::new(&source[..]), &work.join("source")).context("cannot unpack the source")?;
        for one in &self.compiled.crates {
            self::unpack(one, &store, &work.join("crates"))
                .with_context(|| format!("cannot unpack the crate {} {}", one.name, one.version))?;
        }
        fs::write(work.join("cargo/config.toml"), configuration())?;
        let mut count = Count::default();
        let said = ENV.run_watched(self.arguments(), |line| {
            if is_artifact(line)
                && let Some((done, minutes)) = count.add()
            {
                say("compile", &format!("{done} units in {minutes} min"));
            }
        })?;
        let program = format!("target/{TARGET}/release/{}", self.compiled.binary);
        fs::copy(work.join(program), Path::new(inside::OUT).join(&self.compiled.binary))
            .with_context(|| format!("cargo has made no {}", self.compiled.binary))?;
        Ok(linked(&String::from_utf8_lossy(&said), &self.compiled.crates))
    }

    fn arguments(&self) -> Vec<String> {
        let Compiled {
            package,
            binary,
            source,
            ..
        } = &self.compiled;
        let flags = TARGET.to_uppercase().replace('-', "_");
        let variables = [
            ("CARGO_HOME", format!("{WORK}/cargo")),
            ("CARGO_INCREMENTAL", "0".into()),
            ("CARGO_PROFILE_RELEASE_DEBUG", "false".into()),
            (
                &format!("CARGO_TARGET_{flags}_RUSTFLAGS"),
                format!("{FLAGS} --remap-path-prefix={WORK}/="),
            ),
            ("CARGO_TARGET_DIR", format!("{WORK}/target")),
            (SOURCE, source.sha256.to_string()),
            (COMPILER, self.compiler.to_string()),
        ];
        let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
        let cargo = [
            "cargo",
            "build",
            "--release",
            "--locked",
            "--offline",
            "--quiet",
            "--message-format=json-render-diagnostics",
            "--target",
            TARGET,
            "--package",
            package,
            "--bin",
            binary,
        ];
        let folder = [format!("--chdir={WORK}/source")].into_iter();
        folder.chain(variables).chain(cargo.map(String::from)).collect()
    }
}

/// What a program is told of what it is compiled from, each a SHA-256: its source, and the packages of the compiler.
const SOURCE: &str = "BEGAT_SOURCE";
const COMPILER: &str = "BEGAT_COMPILER";

/// The Cargo Book, "Source Replacement": a folder in the place of the registry.
fn configuration() -> String {
    format!("[source.crates-io]\nreplace-with = \"locked\"\n\n[source.locked]\ndirectory = \"{WORK}/crates\"\n")
}

/// A crate is an archive of one folder with its name; cargo wants the digest beside what is in it.
fn unpack(one: &Crate, store: &Store, folder: &Path) -> Result<()> {
    let bytes = store.bytes(&one.sha256, one.size)?;
    unpack::unpack(&mut Archive::new(GzDecoder::new(&bytes[..])), folder)?;
    let checksum = json!({"files": {}, "package": one.sha256});
    let file = folder.join(one.folder()).join(".cargo-checksum.json");
    serde_json::to_writer(File::create(file)?, &checksum).context("cannot write its checksum")
}

/// Whether cargo says in this line that it has made something: a library, a program, or a script that builds.
fn is_artifact(line: &[u8]) -> bool {
    line.starts_with(br#"{"reason":"compiler-artifact""#)
}

/// What cargo says that it compiled for the target: what only builds lies elsewhere.
fn linked(said: &str, crates: &[Crate]) -> Linked {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        package_id: String,
        #[serde(default)]
        filenames: Vec<String>,
    }
    let folder = format!("/{TARGET}/");
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let compiled = messages.filter(|message| message.filenames.iter().any(|file| file.contains(&folder)));
    let compiled: BTreeSet<String> = compiled.map(|message| message.package_id).collect();
    let is_in = |one: &&Crate| {
        let name = format!("#{}@{}", one.name, one.version);
        compiled.iter().any(|id| id.ends_with(&name))
    };
    let linked = crates.iter().filter(is_in);
    linked.map(|one| (one.name.clone(), one.version.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_builds_is_not_what_is_linked() {
        let one = |name: &str| Crate {
            name: name.into(),
            version: "1.0.0".into(),
            sha256: Sha256::of(name),
            size: 0,
            linked: false,
        };
        let message = |name: &str, folder: &str| {
            let id = format!("registry+https://example.org#{name}@1.0.0");
            json!({"reason": "compiler-artifact", "package_id": id, "filenames": [format!("/work/target/{folder}/lib{name}.rlib")]})
                .to_string()
        };
        let said = [
            message("serde", "x86_64-unknown-linux-gnu/release/deps"),
            message("syn", "release/deps"),
            "no message".into(),
        ];
        let found = linked(&said.join("\n"), &[one("serde"), one("syn"), one("windows")]);
        assert_eq!(found, [("serde".into(), "1.0.0".into())].into());
    }
}
