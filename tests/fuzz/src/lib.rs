//! One function for each reader of outside bytes: it may refuse them, and must not panic, hang or take more memory than
//! they account for. The binaries give them to libFuzzer, the tests give them the corpus.

use std::num::NonZeroU32;

use measure::Sha256;
use measure::boot::{DiskBoot, KernelImage};
use measure::event_log::{EventLog, LogOf, compare};
use measure::evidence::{SnpReport, TdxQuote};
use measure::gpt::Gpt;
use measure::linux::Kernel;
use measure::ovmf::Ovmf;
use measure::pe::Pe;
use measure::snp::{self, GuestFeatures, KernelHashes, Vmm};
use measure::tdx::{PageOrder, mrtd};
use measure::uki::Uki;

/// A reader, and the folder of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// Every reader there is.
pub const TARGETS: &[Target] = &[
    ("ovmf", ovmf),
    ("tdvf", tdvf),
    ("event-log", event_log),
    ("pe", pe),
    ("uki", uki),
    ("kernel", kernel),
    ("gpt", gpt),
    ("evidence", evidence),
];

/// Firmware that is started with SEV-SNP.
pub fn ovmf(bytes: &[u8]) {
    let Ok(ovmf) = Ovmf::read(bytes) else { return };
    let _ = ovmf.hash_table_area();
    let kernel = KernelHashes::new(Sha256::ZERO, None, "");
    for (kernel, vmm) in [(Some(&kernel), Vmm::Gce), (None, Vmm::Ec2)] {
        if let Ok(launch) = snp::pre_vmsa(&ovmf, kernel, vmm, GuestFeatures::SNP_ACTIVE) {
            launch.for_vcpus(NonZeroU32::MIN);
        }
    }
}

/// Firmware that is started with TDX.
pub fn tdvf(bytes: &[u8]) {
    let Ok(ovmf) = Ovmf::read(bytes) else { return };
    for order in [PageOrder::Single, PageOrder::Two] {
        let _ = mrtd(&ovmf, order);
    }
}

/// The log of a TPM or of a TD.
pub fn event_log(bytes: &[u8]) {
    for of in [LogOf::Tpm, LogOf::Td] {
        let Ok(log) = EventLog::read(bytes, of) else { continue };
        log.replay();
        let mut other = log.clone();
        other.events.reverse();
        compare(&log, &other);
    }
    let _ = EventLog::guess(bytes);
}

/// An image that firmware starts.
pub fn pe(bytes: &[u8]) {
    if let Ok(pe) = Pe::read(bytes) {
        let _ = pe.authenticode();
    }
}

/// A UKI, alone and on the disk it is started from.
pub fn uki(bytes: &[u8]) {
    if let Ok(uki) = Uki::read(bytes) {
        let _ = uki.inner_kernel();
    }
    let boot = DiskBoot {
        disk: bytes,
        uki: bytes,
    };
    let _ = boot.events();
}

/// A kernel that is started directly.
pub fn kernel(bytes: &[u8]) {
    let Ok(kernel) = Kernel::read(bytes) else { return };
    let _ = (kernel.release(), kernel.measures());
    for image in KernelImage::candidates(1 << 30) {
        let _ = image.authenticode(bytes, None, "console=ttyS0");
    }
}

/// The first sectors of a disk.
pub fn gpt(bytes: &[u8]) {
    if let Ok(gpt) = Gpt::read(bytes) {
        let _ = (gpt.event(), gpt.disk_size());
    }
}

/// A report of SEV-SNP, or a TDX quote.
pub fn evidence(bytes: &[u8]) {
    let _ = SnpReport::read(bytes).map(SnpReport::measurement);
    let _ = TdxQuote::read(bytes).map(|quote| (quote.rtmrs(), quote.mr_service_td()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// What fuzzing found worth keeping is run each time.
    #[test]
    fn the_corpus_makes_no_reader_panic() -> std::io::Result<()> {
        for (name, target) in TARGETS {
            let folder = Path::new("corpus").join(name);
            let mut files = 0;
            for file in fs::read_dir(&folder)? {
                target(&fs::read(file?.path())?);
                files += 1;
            }
            assert!(files > 0, "{} is empty", folder.display());
        }
        Ok(())
    }
}
