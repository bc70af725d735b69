//! `begat boot`: start a release in QEMU.

mod disks;
mod evidence;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::disks::Disks;
use self::evidence::Evidence;
use crate::cli::supply::Supply;
use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::file;
use crate::model::lock::Tree;
use crate::model::{Lock, Recipe};
use crate::stage::boot::{Disk, MOST_VOLUMES, Machine, Purpose, Shape};
use crate::stage::verify::{self, Judged};
use crate::stage::{Work, fetch};
use crate::world::sandbox::{Bind, Owners, Sandbox};

/// The firmware of a release that any machine starts.
const FIRMWARE: &str = "OVMF-generic.fd";

const KVM: &str = "/dev/kvm";

/// Verifies a release, starts it in QEMU and ends when the guest says that it is ready
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
    #[arg(long, conflicts_with_all = ["store", "mirror", "supply", "offline"])]
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
    #[command(flatten)]
    disks: Disks,
    /// Seconds to wait for the guest
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    supply: Supply,
}

/// Where the release, the evidence and the disks appear inside the sandbox.
const RELEASE: &str = "/run/release";
const EVIDENCE: &str = "/run/evidence";
const DISKS: &str = "/run";

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let problem = format!("there is no release {}", self.release.display());
        let release = fs::canonicalize(&self.release).or_mend(Exit::Usage, problem, "name its folder")?;
        let judged = verify::judge(&release)?;
        let evidence = self.tpm.then(|| Evidence::new(self.evidence.as_deref())).transpose()?;
        let files = Files {
            release,
            evidence: evidence.as_ref().map(|evidence| evidence.folder.clone()),
            disks: self.disks.files()?,
        };
        if self.host_qemu {
            self.machine(&judged, &files)?.boot()?;
        } else {
            self.boot_inside(&judged, files)?;
        }
        evidence.map_or(Ok(()), |evidence| evidence.compare(&judged.on_disk, self.shape()))
    }

    const fn shape(&self) -> Shape {
        if self.disk { Shape::Disk } else { Shape::Direct }
    }

    fn machine(&self, release: &Judged, files: &Files) -> Result<Machine> {
        let text = |path: &PathBuf| path.to_str().map(String::from).context("a path is not UTF-8");
        let disks = files.disks.iter().map(|(purpose, file)| {
            let (purpose, file) = (*purpose, text(file)?);
            Ok(Disk { purpose, file })
        });
        let volumes = release.on_disk.volumes();
        if volumes.len() > MOST_VOLUMES && self.shape() == Shape::Direct {
            let problem = format!(
                "{} volumes are more disks than the machine has slots for",
                volumes.len()
            );
            return Err(Exit::Unsupported.because(problem, "start the UKI, whose disk has them all: --disk"));
        }
        Ok(Machine {
            shape: self.shape(),
            release: text(&files.release)?,
            firmware: FIRMWARE.into(),
            command_line: release.text(file::COMMAND_LINE)?,
            kvm: !self.tcg,
            timeout: self.timeout,
            evidence: files.evidence.as_ref().map(text).transpose()?,
            memory: self.memory,
            volumes: volumes.iter().flat_map(|name| [name.image(), name.verity()]).collect(),
            disks: disks.collect::<Result<_>>()?,
        })
    }

    /// Boots with the locked QEMU, in a sandbox.
    fn boot_inside(&self, release: &Judged, files: Files) -> Result<()> {
        let machine = self.machine(release, &files.inside())?;
        let lock = Lock::parse(&release.text(file::LOCK)?)?;
        let recipe = Recipe::parse(&release.text(file::RECIPE)?)?;
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
}

/// What of the host a machine gets to see.
struct Files {
    release: PathBuf,
    evidence: Option<PathBuf>,
    disks: Vec<(Purpose, PathBuf)>,
}

impl Files {
    /// Where they appear inside the sandbox.
    fn inside(&self) -> Self {
        let disks = self.disks.iter();
        Self {
            release: RELEASE.into(),
            evidence: self.evidence.as_ref().map(|_| EVIDENCE.into()),
            disks: disks.map(|(purpose, _)| (*purpose, inside(*purpose))).collect(),
        }
    }

    fn binds(self) -> Vec<Bind> {
        let release = [bind(self.release, RELEASE, false)].into_iter();
        let evidence = self.evidence.map(|folder| bind(folder, EVIDENCE, true));
        let disks = self.disks.into_iter().map(|(purpose, host)| Bind {
            host,
            inside: inside(purpose),
            writable: purpose != Purpose::Input,
        });
        release.chain(evidence).chain(disks).collect()
    }
}

fn inside(disk: Purpose) -> PathBuf {
    Path::new(DISKS).join(disk.name())
}

fn bind(host: PathBuf, inside: &str, writable: bool) -> Bind {
    Bind {
        host,
        inside: inside.into(),
        writable,
    }
}
