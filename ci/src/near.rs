//! A report of a launch that is nearly one of a release's: `begat explain` says in what it differs.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use measure::Sha384;
use xshell::cmd;

use crate::host;

/// Starts as the release says, but with three vCPUs and a space behind the command line.
pub(crate) fn check(begat: &Path, release: &Path) -> Result<()> {
    let shell = host::shell()?;
    let [ovmf, kernel, initrd] = ["OVMF-amdsev.fd", "vmlinuz", "initrd.cpio.zst"].map(|name| release.join(name));
    let cmdline = fs::read_to_string(release.join("cmdline"))? + " ";
    let measured = cmd!(
        shell,
        "{begat} measure snp --vcpus 3 --vcpu-type EPYC-Milan --ovmf {ovmf} --kernel {kernel} --initrd {initrd} --append {cmdline}"
    );
    let folder = tempfile::tempdir()?;
    let report = folder.path().join("report");
    fs::write(&report, report_of(measured.quiet().read()?.parse()?))?;
    let explained = cmd!(shell, "{begat} explain {release} {report}")
        .quiet()
        .ignore_status()
        .output()?;
    let text = String::from_utf8_lossy(&explained.stdout);
    ensure!(
        explained.status.code() == Some(1),
        "explain ends with {}:\n{text}",
        explained.status
    );
    for expected in ["3 vCPUs, expected", "command line \""] {
        ensure!(
            text.lines().any(|line| line.starts_with(expected)),
            "explain does not say {expected:?}:\n{text}"
        );
    }
    print!("{text}");
    Ok(())
}

/// A report of version 2 with this measurement, and zeros elsewhere: SEV-SNP Firmware ABI 1.58, table 23.
fn report_of(measurement: Sha384) -> Vec<u8> {
    let mut report = vec![0; 1184];
    report[0] = 2;
    report[0x90..][..48].copy_from_slice(measurement.bytes());
    report
}
