//! This host, looked over: what it has for each thing that begat does.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::mend;
use crate::world::environment::Environment;
use crate::world::sandbox::{self, Owners};
use crate::world::{mirror, store, workspace};

/// Free space for a store with the inputs of a small guest, its tool trees and a release, in bytes.
const ENOUGH_DISK: u64 = 4 << 30;

/// Something that begat needs of a host.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What it is needed for.
    pub verb: &'static str,
    pub what: &'static str,
    /// What this host has.
    pub found: String,
    /// What to do, where something is missing.
    pub mend: Option<String>,
    /// Whether nothing goes without it.
    pub needed: bool,
}

/// Returns all checks, in the order in which their lack would be felt.
pub fn checks() -> Vec<Check> {
    vec![
        namespaces("build", "namespaces with 65536 users", Owners::Range),
        mirrors(),
        disk(),
        memory(),
        namespaces("boot", "namespaces", Owners::Single),
        kvm(),
        evidence(),
    ]
}

impl Check {
    fn ok(verb: &'static str, what: &'static str, found: impl Into<String>) -> Self {
        Self {
            verb,
            what,
            found: found.into(),
            mend: None,
            needed: true,
        }
    }

    fn lacks(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    fn optional(mut self) -> Self {
        self.needed = false;
        self
    }
}

fn namespaces(verb: &'static str, what: &'static str, owners: Owners) -> Check {
    match sandbox::probe(owners) {
        Ok(()) => Check::ok(verb, what, "they can be made"),
        Err(error) => Check::ok(verb, what, format!("{error:#}")).lacks(mend::mends(&error).join("; ")),
    }
}

fn mirrors() -> Check {
    let check = |found: String| Check::ok("build", "mirrors", found).optional();
    match mirror::of_host() {
        Ok(urls) if urls.is_empty() => {
            check("apt names none".into()).lacks("name them: --mirror URL, or in the recipe")
        }
        Ok(urls) => check(format!("apt names {}", urls.len())),
        Err(error) => check(format!("{error:#}")).lacks("name them: --mirror URL, or in the recipe"),
    }
}

fn disk() -> Check {
    let free = || -> Result<u64> { store::free_space(&Environment::of_this_process()) };
    match free() {
        Ok(free) if free >= ENOUGH_DISK => Check::ok("build", "disk", gib(free)),
        Ok(free) => Check::ok("build", "disk", gib(free))
            .lacks(format!("free {}, or name another disk: --store", gib(ENOUGH_DISK))),
        Err(error) => Check::ok("build", "disk", format!("{error:#}")).lacks("name a folder: --store"),
    }
}

fn memory() -> Check {
    let free = workspace::free_memory();
    let check = Check::ok("build", "memory", gib(free)).optional();
    if free >= workspace::ENOUGH {
        check
    } else {
        check.lacks("builds work in the store instead, which takes longer")
    }
}

fn kvm() -> Check {
    let check = |found: &str| Check::ok("boot", "KVM", found).optional();
    match Path::new("/dev/kvm").exists() {
        true => check("there is /dev/kvm"),
        false => check("there is no /dev/kvm").lacks("enable virtualisation; without, guests are emulated, in minutes"),
    }
}

/// Where evidence can come from, best first.
const SOURCES: [(&str, &str); 4] = [
    ("/sys/kernel/config/tsm/report", "configfs-tsm"),
    ("/dev/sev-guest", "SEV-SNP"),
    ("/dev/tdx_guest", "TDX"),
    ("/dev/tpmrm0", "TPM 2.0"),
];

fn evidence() -> Check {
    let found: Vec<&str> = SOURCES
        .iter()
        .filter(|(path, _)| Path::new(path).exists())
        .map(|(_, name)| *name)
        .collect();
    let check = |found: String| Check::ok("attest", "evidence", found).optional();
    if found.is_empty() {
        return check("this is no confidential VM, and has no TPM".into())
            .lacks("run in one; releases are unattested here");
    }
    check(found.join(", "))
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB free", bytes as f64 / f64::from(1 << 30))
}
