//! What a host's QEMU offers the firmware of a machine: ACPI tables, SMBIOS, boot order, memory map.
//!
//! The firmware measures them, so what RTMR0 and PCR 1 hold depends on them. They come from the operator's own QEMU, as it
//! is, in a fraction of a second: the machine is made with exactly its arguments and never runs.

mod chipset;
mod fw_cfg;
mod window;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use self::fw_cfg::Item;
use self::window::Cpu;
use crate::mend::{Exit, OrMend as _};
use crate::world::files;
use crate::world::program::Program;
use crate::world::qmp::{Line, Qmp};
use crate::world::qtest::Qtest;

/// What QEMU offers the firmware of a machine over fw_cfg.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// Every file by its name, as the firmware reads it, and the item that it measures by the name `BootMenu`. What has a
    /// place in a release, the kernel above all, is left out.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The guest's memory, in bytes.
    pub memory: u64,
}

/// The name under which edk2 measures whether there is a boot menu: it has a number, not a name.
const BOOT_MENU: &str = "BootMenu";

/// Where newer QEMUs offer the kernel: it is an artifact, not the host's.
const ARTIFACTS: &str = "etc/boot/";

/// The file of an evidence folder for the size of the memory.
const MEMORY: &str = "memory";

/// The folder of an evidence folder for the files.
const FOLDER: &str = "host";

impl Host {
    /// Asks a QEMU for what it offers the firmware of the machine that `arguments` describe. They have an accelerator and
    /// say what is behind each character device; none of those is standard input.
    ///
    /// The registers that the tables depend on are programmed as OVMF does before it reads them, for a q35 machine; of its
    /// devices with 64-bit memory the first on bus 0 gets its place, the lowest. (Where they need more than the window that
    /// QEMU takes for granted, 32 GiB, the tables of a running machine name more.)
    ///
    /// # Errors
    /// QEMU does not start with the arguments, or they describe another machine than a q35.
    pub fn ask(qemu: &Program<'_>, arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for a socket")?;
        let line = Line::new(folder.path().join("monitor"))?;
        let mut machine = Qtest::start(qemu, arguments.into_iter().chain(line.arguments()))?;
        fw_cfg::expect(&mut machine)?;
        let cpu = cpu(&mut line.take()?)?;
        let directory = fw_cfg::directory(&mut machine)?;
        let mut read = |name: &str| match directory.get(name) {
            Some(item) => fw_cfg::read(&mut machine, item).map(Some),
            None => Ok(None),
        };
        let window = window::base(&cpu, &mut read)?;
        chipset::program(&mut machine, window)?;
        Self::read(&mut machine, &directory)
    }

    fn read(machine: &mut Qtest, directory: &BTreeMap<String, Item>) -> Result<Self> {
        let mut files = BTreeMap::from([(BOOT_MENU.into(), fw_cfg::read(machine, &Item::BOOT_MENU)?)]);
        for (name, item) in directory.iter().filter(|(name, _)| !name.starts_with(ARTIFACTS)) {
            files.insert(name.clone(), fw_cfg::read(machine, item)?);
        }
        let memory = fw_cfg::read(machine, &Item::MEMORY)?;
        let memory = memory.try_into().expect("as many bytes as were asked for");
        let memory = u64::from_le_bytes(memory);
        Ok(Self { files, memory })
    }

    /// Returns the machine as its firmware sees it, which starts `boot`.
    ///
    /// # Errors
    /// The item `BootMenu` is missing.
    pub fn booting(self, boot: measure::host::Boot) -> Result<measure::host::Host> {
        let menu = self.files.get(BOOT_MENU).and_then(|bytes| bytes.first_chunk());
        let menu = menu.context("QEMU says nothing of a boot menu")?;
        Ok(measure::host::Host {
            memory: self.memory,
            boot_menu: u16::from_le_bytes(*menu),
            files: self.files,
            boot,
        })
    }

    /// Writes it down in a folder, below `host`, each file under its name.
    ///
    /// # Errors
    /// The folder cannot be written, or a name leads out of it.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let write = |file: PathBuf, content: &[u8]| {
            fs::create_dir_all(file.parent().unwrap_or(folder))?;
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
        };
        for (name, content) in &self.files {
            write(folder.join(FOLDER).join(inner(name)?), content)?;
        }
        write(folder.join(MEMORY), format!("{}\n", self.memory).as_bytes())
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// It is not there, or a file cannot be read.
    pub fn load(folder: &Path) -> Result<Self> {
        const MEND: &str = "name a folder that begat boot --evidence wrote";
        let memory = fs::read_to_string(folder.join(MEMORY));
        let memory = memory.or_mend(
            Exit::Usage,
            format!("cannot read {}", folder.join(MEMORY).display()),
            MEND,
        )?;
        let memory = memory
            .trim()
            .parse()
            .context("the size of the memory is not a number")?;
        let root = folder.join(FOLDER);
        let mut found = BTreeMap::new();
        for entry in files::list(&root)?
            .into_iter()
            .filter(|entry| entry.kind == files::Kind::File)
        {
            let content = fs::read(root.join(&entry.path))?;
            let name = entry.path.into_os_string().into_string();
            found.insert(name.map_err(|_| anyhow::anyhow!("a name is not text"))?, content);
        }
        Ok(Self { files: found, memory })
    }
}

/// Returns the name of a file as a path that stays below where it is put.
fn inner(name: &str) -> Result<&Path> {
    let path = Path::new(name);
    let stays = path
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if stays && !name.is_empty() {
        return Ok(path);
    }
    Err(Exit::Outside.because(
        format!("QEMU offers a file with the name {name:?}"),
        "use a QEMU that does not",
    ))
}

/// Asks for what the firmware asks its CPU.
fn cpu(monitor: &mut Qmp) -> Result<Cpu> {
    let cpus = monitor.ask("query-cpus-fast", &json!({}))?;
    let first = cpus[0]["qom-path"].as_str().context("QEMU names no CPU")?;
    let mut property = |name: &str| monitor.ask("qom-get", &json!({"path": first, "property": name}));
    let bits = property("phys-bits")?.as_u64().and_then(|bits| u8::try_from(bits).ok());
    Ok(Cpu {
        physical_bits: bits.context("QEMU does not say how many address bits the CPU has")?,
        vendor: property("vendor")?.as_str().unwrap_or_default().into(),
        gigabyte_pages: property("pdpe1gb")?.as_bool().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["BootMenu", "etc/acpi/tables", "etc/table-loader"];
        let host = Host {
            files: names.map(|name| (name.into(), name.as_bytes().to_vec())).into(),
            memory: 2 << 30,
        };
        host.save(folder.path()).unwrap();
        assert_eq!(Host::load(folder.path()).unwrap(), host);
    }

    #[test]
    fn no_name_leads_out_of_the_folder() {
        for name in ["", "/etc/passwd", "../up", "etc/../../up", "."] {
            let folder = tempfile::tempdir().unwrap();
            let host = Host {
                files: BTreeMap::from([(name.into(), Vec::new())]),
                memory: 0,
            };
            assert!(host.save(folder.path()).is_err(), "{name:?}");
        }
    }
}
