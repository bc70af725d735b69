//! `cargo ci closed`: nothing that a recipe runs reaches a TEE device, the guest's REST API, or begat's memory.
//!
//! A recipe runs a probe that tries each way: as a script of mkosi in the tool tree, as one in the image, and as a
//! maintainer script of a package. The same probe on the host, where the ways are open, must find those that were planted:
//! a probe that finds nothing there finds nothing anywhere.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xshell::{Shell, cmd};

use crate::host;
use crate::reproduce::CONDITIONS;
use crate::site::Site;

/// The probe, in Perl.
const PROBE: &str = include_str!("probe.pl");

/// Where the guest components of Confidential Containers listen: the report of the machine for whoever asks.
const API: &str = "127.0.0.1:8006";

/// An abstract socket of the host, as agents have them.
const SOCKET: &str = "begat-ci-closed";

/// A device that is there to be opened.
const DEVICE: &str = "/dev/tpmrm9";

/// Who tries.
const WHO: [&str; 3] = ["script", "chroot", "package"];

pub(crate) fn run() -> Result<()> {
    check(&Site::new()?)
}

/// What the probe is to find on the host, and nowhere else.
struct Planted {
    _api: Option<TcpListener>,
    _socket: UnixListener,
    device: Option<Device>,
}

/// A device node that looks like a TPM and is `/dev/zero`; it goes with this value.
struct Device;

impl Drop for Device {
    fn drop(&mut self) {
        if fs::remove_file(DEVICE).is_err() {
            eprintln!("{DEVICE} is left: remove it");
        }
    }
}

/// Builds a recipe that tries everything.
pub(crate) fn check(site: &Site) -> Result<()> {
    let planted = Planted::new(&site.shell)?;
    let found = planted.probe_here(site)?;
    println!(
        "closed: outside, the probe finds {} open ways, and all that were planted",
        found.len()
    );
    add_probes(site)?;
    site.lock()?;
    let release = site.path("closed");
    for conditions in &CONDITIONS[..2] {
        site.build(conditions, &release)?;
        for who in WHO {
            let text = read(site, &release, &format!("usr/lib/begat-probe-{who}"))?;
            let open: Vec<&str> = text.lines().filter(|line| line.starts_with("open: ")).collect();
            ensure!(
                text.ends_with("done\n"),
                "the probe of the {who} did not come to its end:\n{text}"
            );
            ensure!(
                open.is_empty(),
                "what a recipe runs reaches out of its sandbox ({who}):\n{}",
                open.join("\n")
            );
            println!(
                "closed: {who}, built as {:?}: nothing is open",
                conditions.user(&site.shell)?
            );
        }
        fs::remove_dir_all(&release)?;
    }
    Ok(())
}

impl Planted {
    fn new(shell: &Shell) -> Result<Self> {
        let socket = SocketAddr::from_abstract_name(SOCKET)?;
        let device = match host::is_root(shell)? {
            true => {
                cmd!(shell, "mknod --mode=666 {DEVICE} c 1 5").quiet().run()?;
                Some(Device)
            }
            false => None,
        };
        Ok(Self {
            _api: TcpListener::bind(API).ok(), // where it is in use, somebody else listens
            _socket: UnixListener::bind_addr(&socket)?,
            device,
        })
    }

    /// How many ways are open on this host; the probe has to find those that were planted.
    fn probe_here(&self, site: &Site) -> Result<Vec<String>> {
        let probe = site.path("probe.pl");
        fs::write(&probe, PROBE)?;
        let text = cmd!(site.shell, "perl {probe} {DEVICE} {SOCKET}").quiet().read()?;
        let found: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("open: "))
            .map(String::from)
            .collect();
        let mut wanted = vec![format!("connect {API}"), format!("connect @{SOCKET}")];
        if self.device.is_some() {
            wanted.extend([format!("device {DEVICE}"), format!("open {DEVICE}")]);
            wanted.push("write /proc/sys/kernel/core_pattern".to_owned());
        }
        let missed: Vec<&String> = wanted.iter().filter(|way| !found.contains(way)).collect();
        ensure!(
            missed.is_empty(),
            "the probe does not find what is open on the host: {missed:?}"
        );
        Ok(found)
    }
}

/// Lets the recipe run the probe in three places.
fn add_probes(site: &Site) -> Result<()> {
    let recipe = site.recipe();
    let run = |who: &str, root: &str| {
        format!(
            "perl \"$probe\" {DEVICE} {SOCKET} >{root}/usr/lib/begat-probe-{who}\necho done >>{root}/usr/lib/begat-probe-{who}\n"
        )
    };
    let begin = "#!/bin/sh\nset -e\n";
    script(
        site,
        &recipe.join("mkosi.postinst"),
        &format!("{begin}probe=\"$SRCDIR/probe.pl\"\n{}", run("script", "\"$BUILDROOT\"")),
    )?;
    let file = recipe.join("recipe.toml");
    let allowed = "[root]\nallow-unowned = [\"/usr/lib/begat-probe*\", \"/var/lib/dpkg/info/probe.*\", \"/var/lib/dpkg/lock-frontend\"]\n";
    let text = fs::read_to_string(&file)?.replacen("[root]\n", allowed, 1);
    ensure!(text.contains(allowed), "the recipe has no [root]");
    fs::write(file, text)?;
    fs::write(recipe.join("probe.pl"), PROBE)?;
    let package = format!(
        "folder=$(mktemp -d)\nmkdir \"$folder/DEBIAN\"\n\
         printf 'Package: probe\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody\\nDescription: probe\\n' >\"$folder/DEBIAN/control\"\n\
         printf '#!/bin/sh\\nset -e\\nprobe=/usr/lib/begat-probe.pl\\n{}' >\"$folder/DEBIAN/postinst\"\n\
         chmod 755 \"$folder/DEBIAN\" \"$folder/DEBIAN/postinst\"\n\
         dpkg-deb --build \"$folder\" /tmp/probe.deb\ndpkg --install /tmp/probe.deb\ndpkg --purge probe\nrm -r \"$folder\" /tmp/probe.deb\n",
        run("package", "").replace('\n', "\\n")
    );
    let chroot = format!("{begin}probe=/usr/lib/begat-probe.pl\n{}{package}", run("chroot", ""));
    script(site, &recipe.join("mkosi.postinst.chroot"), &chroot)?;
    let extra = recipe.join("mkosi.extra/usr/lib");
    fs::create_dir_all(&extra)?;
    Ok(fs::write(extra.join("begat-probe.pl"), PROBE)?)
}

fn script(site: &Site, path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(cmd!(site.shell, "chmod 755 {path}").quiet().run()?)
}

/// Returns the text of a file of the release's root image.
fn read(site: &Site, release: &Path, path: &str) -> Result<String> {
    host::need(&site.shell, &[("fsck.erofs", "erofs-utils")])?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let (tree, image): (PathBuf, PathBuf) = (folder.path().join("tree"), release.join("rootfs.erofs"));
    cmd!(site.shell, "fsck.erofs --extract={tree} {image}")
        .quiet()
        .ignore_stdout()
        .run()?;
    fs::read_to_string(tree.join(path)).with_context(|| format!("{path} is not in the image: the probe did not run"))
}
