//! `begat boot`: start a release in QEMU.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::cli::explain;
use crate::cli::supply::Supply;
use crate::mend::{Exit, OrMend as _, Told};
use crate::model::artifacts::file;
use crate::model::lock::Tree;
use crate::model::{Lock, Recipe};
use crate::stage::boot::{Machine, Observed, Shape};
use crate::stage::host::Host;
use crate::stage::{Work, fetch, prove, say};
use crate::world::sandbox::{Bind, Owners, Sandbox};

/// The firmware of a release that any machine starts.
const FIRMWARE: &str = "OVMF-generic.fd";

const KVM: &str = "/dev/kvm";

/// Starts a release in QEMU and ends when the guest says that it is ready
#[derive(clap::Args)]
pub(super) struct Args {
    /// The folder of the release
    release: PathBuf,
    /// QEMU hands over kernel, initrd and command line (the default)
    #[arg(long, conflicts_with = "disk")]
    direct: bool,
    /// The firmware starts the UKI of the disk
    #[arg(long)]
    disk: bool,
    /// Use this host's QEMU, not the locked one
    #[arg(long)]
    host_qemu: bool,
    /// Do not try KVM
    #[arg(long)]
    tcg: bool,
    /// Give the machine a TPM, and compare the firmware's event log and the PCRs with the prediction
    #[arg(long)]
    tpm: bool,
    /// Keep the log, the PCRs and what QEMU offered the firmware in this folder
    #[arg(long, value_name = "DIR", requires = "tpm")]
    evidence: Option<PathBuf>,
    /// Memory of the machine
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u32,
    /// A file that the guest gets as a disk to read, /dev/disk/by-id/virtio-input: the job of a builder
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A file that the guest gets as a disk to write, /dev/disk/by-id/virtio-output: where a builder puts its release
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Seconds to wait for the guest
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    supply: Supply,
}

/// Where the release and the evidence appear inside the sandbox.
const RELEASE: &str = "/run/release";
const EVIDENCE: &str = "/run/evidence";
const INPUT: &str = "/run/input";
const OUTPUT: &str = "/run/output";

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let problem = format!("there is no release {}", self.release.display());
        let release = fs::canonicalize(&self.release).or_mend(Exit::Usage, problem, "name its folder")?;
        let evidence = self.tpm.then(|| Evidence::new(self.evidence.as_deref())).transpose()?;
        let files = Files {
            release,
            evidence: evidence.as_ref().map(|evidence| evidence.folder.clone()),
            input: self.input.as_deref().map(disk).transpose()?,
            output: self.output.as_deref().map(disk).transpose()?,
        };
        if self.host_qemu {
            self.machine(&files)?.boot()?;
        } else {
            self.boot_inside(files)?;
        }
        evidence.map_or(Ok(()), |evidence| evidence.compare(&self.release, self.shape()))
    }

    const fn shape(&self) -> Shape {
        if self.disk { Shape::Disk } else { Shape::Direct }
    }

    fn machine(&self, files: &Files) -> Result<Machine> {
        let text = |path: &PathBuf| path.to_str().map(String::from).context("a path is not UTF-8");
        Ok(Machine {
            shape: self.shape(),
            release: text(&files.release)?,
            firmware: FIRMWARE.into(),
            command_line: self.read(file::COMMAND_LINE)?,
            kvm: !self.tcg,
            timeout: self.timeout,
            evidence: files.evidence.as_ref().map(text).transpose()?,
            memory: self.memory,
            input: files.input.as_ref().map(text).transpose()?,
            output: files.output.as_ref().map(text).transpose()?,
        })
    }

    /// Boots with the locked QEMU, in a sandbox.
    fn boot_inside(&self, files: Files) -> Result<()> {
        let machine = self.machine(&files.inside())?;
        let lock = Lock::parse(&self.read("recipe.lock")?)?;
        let recipe = Recipe::parse(&self.read("recipe.toml")?)?;
        let (store, net) = self.supply.open(&recipe)?;
        let tree = fetch::tool_tree(&lock, Tree::Boot, &net, &store)?;
        let mut binds = files.binds();
        if machine.kvm && Path::new(KVM).exists() {
            binds.push(bind(KVM.into(), KVM, true));
        }
        let sandbox = Sandbox {
            tree: tree.path,
            workspace: None,
            binds,
            owners: Owners::Single,
        };
        sandbox.run(&Work::Boot(machine))
    }

    fn read(&self, name: &str) -> Result<String> {
        let file = self.release.join(name);
        let problem = format!("cannot read {}", file.display());
        fs::read_to_string(file).or_mend(Exit::Usage, problem, "name the folder of a release")
    }
}

/// What of the host a machine gets to see.
struct Files {
    release: PathBuf,
    evidence: Option<PathBuf>,
    input: Option<PathBuf>,
    output: Option<PathBuf>,
}

impl Files {
    /// Where they appear inside the sandbox.
    fn inside(&self) -> Self {
        Self {
            release: RELEASE.into(),
            evidence: self.evidence.as_ref().map(|_| EVIDENCE.into()),
            input: self.input.as_ref().map(|_| INPUT.into()),
            output: self.output.as_ref().map(|_| OUTPUT.into()),
        }
    }

    fn binds(self) -> Vec<Bind> {
        let evidence = self.evidence.map(|folder| bind(folder, EVIDENCE, true));
        let input = self.input.map(|file| bind(file, INPUT, false));
        let output = self.output.map(|file| bind(file, OUTPUT, true));
        let binds = [evidence, input, output].into_iter().flatten();
        binds.chain([bind(self.release, RELEASE, false)]).collect()
    }
}

fn bind(host: PathBuf, inside: &str, writable: bool) -> Bind {
    Bind {
        host,
        inside: inside.into(),
        writable,
    }
}

/// A file that is to be a disk.
fn disk(path: &Path) -> Result<PathBuf> {
    let mend = "name a file: whole sectors of 512 bytes";
    let shown = path.display();
    let size = fs::metadata(path)
        .or_mend(Exit::Usage, format!("cannot see {shown}"), mend)?
        .len();
    if size == 0 || size % 512 != 0 {
        return Err(Exit::Usage.because(format!("{shown} has {size} bytes, which no disk has"), mend));
    }
    Ok(fs::canonicalize(path)?)
}

/// A folder for what a machine's TPM says; one that nobody named vanishes.
struct Evidence {
    folder: PathBuf,
    _vanishes: Option<TempDir>,
}

impl Evidence {
    fn new(named: Option<&Path>) -> Result<Self> {
        let Some(named) = named else {
            let folder = tempfile::tempdir().context("cannot make a folder for evidence")?;
            return Ok(Self {
                folder: folder.path().into(),
                _vanishes: Some(folder),
            });
        };
        const OTHER: &str = "name another one: --evidence DIR";
        let made = fs::create_dir_all(named).and_then(|()| fs::canonicalize(named));
        let folder = made.or_mend(
            Exit::Outside,
            format!("cannot make the folder {}", named.display()),
            OTHER,
        )?;
        if fs::read_dir(&folder)?.next().is_some() {
            return Err(Exit::Usage.because(format!("the folder {} is not empty", named.display()), OTHER));
        }
        Ok(Self {
            folder,
            _vanishes: None,
        })
    }

    /// Prints the firmware's log beside the prediction, event by event.
    fn compare(&self, release: &Path, shape: Shape) -> Result<()> {
        let (observed, host) = (Observed::load(&self.folder)?, Host::load(&self.folder)?);
        say("boot", "the firmware's log beside the prediction, event by event");
        let explanation = prove::prove(release, shape, &observed, host)?;
        explain::show(&explanation);
        if explanation.differences.is_empty() {
            return Ok(());
        }
        Err(Told(Exit::No).into())
    }
}
