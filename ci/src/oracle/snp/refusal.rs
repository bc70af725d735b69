//! Where sev-snp-measure gives a digest and begat does not: who is right, and why.

use std::path::Path;

use anyhow::{Result, ensure};
use xshell::{Shell, cmd};

/// What is asked, and why begat is right to refuse it.
const REFUSED: [(&[&str], &str); 5] = [
    (
        &["--vcpus=0", "--vcpu-type=EPYC"],
        "no guest has no vCPU; theirs is the digest before the first one",
    ),
    (
        &["--vcpus=4097", "--vcpu-type=EPYC"],
        "neither KVM nor q35 starts more than 4096 vCPUs",
    ),
    (
        &["--vcpus=1", "--vcpu-family=300", "--vcpu-model=1", "--vcpu-stepping=1"],
        "families end at 270; theirs is the digest of family 44",
    ),
    (
        &["--vcpus=1", "--vcpu-family=23", "--vcpu-model=1", "--vcpu-stepping=17"],
        "steppings end at 15; theirs is the digest of stepping 1",
    ),
    (
        &["--vcpus=1", "--vcpu-type=EPYC", "--guest-features=0x10000000000000001"],
        "SEV_FEATURES has 64 bits; theirs is the digest of 0x1",
    ),
];

/// Checks that both do what the list says, and prints it.
pub(super) fn check(shell: &Shell, begat: &Path, theirs: &Path, ovmf: &str) -> Result<()> {
    const USAGE: i32 = 2;
    for (flags, reason) in REFUSED {
        let digest = cmd!(shell, "{theirs} --mode snp --ovmf {ovmf} {flags...}")
            .quiet()
            .read()?;
        ensure!(digest.len() == 96, "sev-snp-measure says {digest:?} to {flags:?}");
        let ours = cmd!(shell, "{begat} measure snp --ovmf {ovmf} {flags...}");
        let ours = ours.quiet().ignore_status().ignore_stderr().output()?;
        ensure!(ours.status.code() == Some(USAGE), "begat does not refuse {flags:?}");
        println!("oracle snp: begat refuses {}, rightly: {reason}", flags.join(" "));
    }
    Ok(())
}
