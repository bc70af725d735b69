//! `cargo ci reproduce`: builds under differing conditions, and every file of the releases compared.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use xshell::{Shell, cmd};

use crate::site::Site;
use crate::{difference, host};

/// Builds under differing conditions and compares every file of the releases.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many pairs to compare; builds are shared between pairs
    #[arg(long, default_value_t = 1)]
    pairs: usize,
    /// Let two builds differ in a file, and see whether it is named
    #[arg(long, hide = true)]
    plant: bool,
}

/// What must not matter to a build.
pub(crate) struct Conditions {
    user: User,
    /// Where project, workspace and release lie.
    pub(crate) folder: &'static str,
    host_name: &'static str,
    time_zone: &'static str,
    locale: &'static str,
    umask: &'static str,
    /// Those that the build may use, as taskset takes them.
    processors: Option<&'static str>,
    pub(crate) workspace: Place,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    /// Whoever runs this.
    Own,
    /// One that root makes for it, with a store and a tool tree of its own.
    Ordinary,
}

#[derive(Debug)]
pub(crate) enum Place {
    Memory,
    Disk,
}

/// The ordinary user, who stays for the next time.
const ORDINARY: &str = "begat-ci";

/// The path of a file that differs on purpose.
const PLANTED: &str = "etc/planted";

/// Each differs from every other in at least three ways.
pub(crate) const CONDITIONS: [Conditions; 5] = [
    Conditions {
        user: User::Own,
        folder: "a",
        host_name: "one",
        time_zone: "UTC",
        locale: "C",
        umask: "022",
        processors: None,
        workspace: Place::Memory,
    },
    Conditions {
        user: User::Ordinary,
        folder: "a folder/with spaces and ünïcode",
        host_name: "two.example.org",
        time_zone: "Asia/Tokyo",
        locale: "de_DE.UTF-8",
        umask: "077",
        processors: Some("0"),
        workspace: Place::Disk,
    },
    Conditions {
        user: User::Own,
        folder: "deep/er/and/deep/er/still",
        host_name: "three",
        time_zone: "America/St_Johns",
        locale: "tr_TR.UTF-8",
        umask: "077",
        processors: Some("0"),
        workspace: Place::Disk,
    },
    Conditions {
        user: User::Ordinary,
        folder: "d",
        host_name: "localhost",
        time_zone: "Pacific/Kiritimati",
        locale: "C.UTF-8",
        umask: "022",
        processors: None,
        workspace: Place::Memory,
    },
    Conditions {
        user: User::Own,
        folder: "e",
        host_name: "five",
        time_zone: "Asia/Kathmandu",
        locale: "POSIX",
        umask: "002",
        processors: Some("1"),
        workspace: Place::Memory,
    },
];

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        let builds = (2..=CONDITIONS.len()).find(|builds| pairs(*builds) >= self.pairs);
        let builds = builds.unwrap_or(CONDITIONS.len());
        ensure!(
            self.pairs <= pairs(builds),
            "{builds} kinds of conditions make {} pairs at most",
            pairs(builds)
        );
        let site = Site::new()?;
        if self.plant {
            plant(&site)?;
        }
        site.lock()?;
        let mut releases = Vec::new();
        for conditions in &CONDITIONS[..builds] {
            let release = site.path(&format!("release-{}", releases.len()));
            site.build(conditions, &release)?;
            println!("built  {}", conditions.summary(&site.shell)?);
            releases.push(release);
        }
        match self.plant {
            true => notice(&releases[0], &releases[1]),
            false => compare_all(&releases),
        }
    }
}

/// The planted file must be named wherever it is: in the root image, in the disk's partition, and in the initrd.
fn notice(one: &Path, other: &Path) -> Result<()> {
    let found = difference::compare(one, other)?;
    found.print();
    let noticed = found.blames(PLANTED, &["rootfs.erofs", "disk.raw", "initrd.cpio.zst"]);
    ensure!(noticed, "{PLANTED} differs, and the comparison does not say so");
    println!("reproduce: the planted difference was found");
    Ok(())
}

/// Builds once more, under other conditions than the first time, and compares.
pub(crate) fn another(site: &Site, first: &Path) -> Result<()> {
    let conditions = &CONDITIONS[1];
    let second = site.path("second");
    site.build(conditions, &second)?;
    println!("built  {}", CONDITIONS[0].summary(&site.shell)?);
    println!("built  {}", conditions.summary(&site.shell)?);
    compare_all(&[first.to_owned(), second.clone()])?;
    Ok(fs::remove_dir_all(second)?)
}

const fn pairs(builds: usize) -> usize {
    builds * (builds - 1) / 2
}

fn compare_all(releases: &[PathBuf]) -> Result<()> {
    let all = releases.iter().enumerate();
    let all = all.flat_map(|(index, one)| releases[index + 1..].iter().map(move |other| (one, other)));
    let (mut same, mut files) = (0, 0);
    for (one, other) in all {
        let found = difference::compare(one, other)?;
        files = found.files;
        same += usize::from(found.print());
    }
    let (all, builds) = (pairs(releases.len()), releases.len());
    println!("reproduce: {same} of {all} pairs identical, in {files} files each ({builds} builds)");
    ensure!(same == all, "{} of {all} pairs of builds differ", all - same);
    Ok(())
}

/// A script of mkosi that writes what differs each time, into the root and into the initrd.
fn plant(site: &Site) -> Result<()> {
    for folder in ["", "initrd"] {
        let script = site.recipe().join(folder).join("mkosi.postinst.chroot");
        fs::write(
            &script,
            format!("#!/bin/sh\ncat /proc/sys/kernel/random/uuid >/{PLANTED}\n"),
        )?;
        cmd!(site.shell, "chmod 755 {script}").quiet().run()?;
    }
    Ok(())
}

impl Conditions {
    /// Only root can make and become another user.
    pub(crate) fn user(&self, shell: &Shell) -> Result<User> {
        Ok(if host::is_root(shell)? { self.user } else { User::Own })
    }

    /// What to put before a command so that it runs under these conditions.
    pub(crate) fn prefix(&self, shell: &Shell) -> Result<Vec<String>> {
        let set = format!("umask {} && exec \"$@\"", self.umask);
        let named = format!("hostname {} && {set}", self.host_name);
        let root = host::is_root(shell)?;
        let outer: &[&str] = match root {
            true => &["unshare", "--uts", "sh", "-c", &named, "sh"],
            false => &["sh", "-c", &set, "sh"],
        };
        let user: &[&str] = match self.user(shell)? {
            User::Own => &[],
            User::Ordinary => &["setpriv", "--reuid", ORDINARY, "--regid", ORDINARY, "--init-groups"],
        };
        let processors = self.processors.map(|list| ["taskset", "--cpu-list", list]);
        let (zone, locale) = (format!("TZ={}", self.time_zone), format!("LC_ALL={}", self.locale));
        let parts = [outer, user, processors.as_ref().map_or(&[], |list| &list[..])];
        let parts = parts.into_iter().flatten().copied();
        Ok(parts.chain(["env", &zone, &locale]).map(String::from).collect())
    }

    /// Makes the ordinary user where there is none yet, and gives it the folder.
    pub(crate) fn give(&self, shell: &Shell, folder: &Path) -> Result<()> {
        host::need(shell, &[("newuidmap", "uidmap")])?;
        if cmd!(shell, "id {ORDINARY}")
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()
            .is_err()
        {
            cmd!(
                shell,
                "useradd --user-group --no-create-home --home-dir /nonexistent {ORDINARY}"
            )
            .run()?;
        }
        for table in ["/etc/subuid", "/etc/subgid"] {
            let lines = fs::read_to_string(table).unwrap_or_default();
            if !lines.lines().any(|line| line.starts_with(&format!("{ORDINARY}:"))) {
                let flag = format!("--add-{}s=1000000000-1000065535", table.trim_start_matches("/etc/"));
                cmd!(shell, "usermod {flag} {ORDINARY}").run()?;
            }
        }
        Ok(cmd!(shell, "chown -R {ORDINARY}:{ORDINARY} {folder}").quiet().run()?)
    }

    fn summary(&self, shell: &Shell) -> Result<String> {
        let host_name = if host::is_root(shell)? {
            self.host_name
        } else {
            "the host's"
        };
        Ok(format!(
            "user {:?}, folder {:?}, host name {host_name}, TZ {}, LC_ALL {}, umask {}, CPUs {}, workspace {:?}",
            self.user(shell)?,
            self.folder,
            self.time_zone,
            self.locale,
            self.umask,
            self.processors.unwrap_or("all"),
            self.workspace
        ))
    }
}
