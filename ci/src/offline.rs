//! `cargo ci offline`: once locked and fetched, a build succeeds without a network and does not ask for one.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use xshell::cmd;

use crate::reproduce::CONDITIONS;
use crate::site::Site;
use crate::{difference, host};

/// Locks, fetches and builds; then does the check.
pub(crate) fn run() -> Result<()> {
    let site = Site::new()?;
    let first = site.path("first");
    site.lock()?;
    site.build(&CONDITIONS[0], &first)?;
    check(&site, &first)
}

/// Builds without a network, watched, and again with `--offline`; both releases must be the first one.
pub(crate) fn check(site: &Site, first: &Path) -> Result<()> {
    host::need(&site.shell, &[("strace", "strace")])?;
    let trace = site.path("trace");
    let watched = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-e",
        "trace=connect,sendto",
        "-o",
    ];
    let trace_name = trace.display().to_string();
    let watched: Vec<&str> = watched.into_iter().chain([trace_name.as_str()]).collect();
    build(site, &watched, &[], first)?;
    let calls = fs::read_to_string(trace)?;
    let attempts: Vec<&str> = calls.lines().filter(|line| line.contains("AF_INET")).collect();
    attempts.iter().take(10).for_each(|call| println!("{call}"));
    ensure!(attempts.is_empty(), "{} calls try to reach a network", attempts.len());
    build(site, &[], &["--offline"], first)?;
    println!(
        "offline: 2 builds without a network, 0 attempts to reach one in {} calls",
        calls.lines().count()
    );
    Ok(())
}

fn build(site: &Site, watched: &[&str], flags: &[&str], first: &Path) -> Result<()> {
    let (shell, begat, recipe) = (&site.shell, &site.begat, site.recipe());
    let release = site.path("offline");
    let cut: &[&str] = match host::is_root(shell)? {
        true => &["unshare", "--net"],
        false => &["unshare", "--user", "--map-root-user", "--map-auto", "--net"],
    };
    let build = cmd!(
        shell,
        "env {cut...} {watched...} {begat} build --locked {recipe} --output {release} {flags...}"
    );
    build.quiet().ignore_stdout().run()?;
    let found = difference::compare(first, &release)?;
    ensure!(found.print(), "the release built without a network is another one");
    Ok(fs::remove_dir_all(release)?)
}
