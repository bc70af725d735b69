//! `begat boot`: start a release in QEMU.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::cli::supply::Supply;
use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::file;
use crate::model::lock::Tree;
use crate::model::{Lock, Recipe};
use crate::stage::boot::{Machine, Shape};
use crate::stage::{Work, fetch};
use crate::world::sandbox::{Bind, Owners, Sandbox};

/// The firmware of a release that any machine starts.
const FIRMWARE: &str = "OVMF-generic.fd";

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
    /// Seconds to wait for the guest
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    #[command(flatten)]
    supply: Supply,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        let machine = |release: &str| -> Result<Machine> {
            Ok(Machine {
                shape: if self.disk { Shape::Disk } else { Shape::Direct },
                release: release.into(),
                firmware: FIRMWARE.into(),
                command_line: self.read(file::COMMAND_LINE)?,
                kvm: !self.tcg,
                timeout: self.timeout,
            })
        };
        let folder = fs::canonicalize(&self.release);
        let folder = folder.or_mend(
            Exit::Usage,
            format!("there is no release {}", self.release.display()),
            "name its folder",
        )?;
        if self.host_qemu {
            return machine(folder.to_str().context("the release's path is not UTF-8")?)?.boot();
        }
        const INSIDE: &str = "/run/release";
        let machine = machine(INSIDE)?;
        let lock = Lock::parse(&self.read("recipe.lock")?)?;
        let recipe = Recipe::parse(&self.read("recipe.toml")?)?;
        let (store, net) = self.supply.open(&recipe)?;
        let tree = fetch::tool_tree(&lock, Tree::Boot, &net, &store)?;
        let mut binds = vec![Bind {
            host: folder,
            inside: INSIDE.into(),
            writable: false,
        }];
        let kvm = PathBuf::from("/dev/kvm");
        if machine.kvm && kvm.exists() {
            binds.push(Bind {
                host: kvm.clone(),
                inside: kvm,
                writable: true,
            });
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
