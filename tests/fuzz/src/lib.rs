//! One function for each reader of outside bytes: it may refuse them, and must not panic, hang or take more memory than
//! they account for. The binaries give them to libFuzzer, the tests give them the corpus.

pub mod releases;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::{Component, Path};
use std::sync::LazyLock;

use builder::document::{dsse, provenance};
use builder::model::key::{PublicKey, SigningKey};
use builder::model::log::{self, Bundle, Checkpoint, Proof, VerifierKey};
use builder::model::{Manifest, Record};
use measure::boot::{BootEvents, DiskBoot, KernelImage};
use measure::cpio::Archives;
use measure::erofs::Erofs;
use measure::event_log::{EventLog, LogOf, compare};
use measure::evidence::snp::{AmdRoots, SnpPolicy, certificate_table};
use measure::evidence::tpm::{AkTrust, TpmPolicy};
use measure::evidence::{
    Bytes, Evidence, HclEvidence, SnpEvidence, SnpReport, TdxEvidence, TdxPolicy, TdxQuote, TdxRoot, TpmEvidence, coco,
};
use measure::fat::Fat;
use measure::gpt::Gpt;
use measure::host::{Boot, Host, VirtioBlk};
use measure::linux::Kernel;
use measure::ovmf::{Firmware, Ovmf};
use measure::pe::Pe;
use measure::snp::{self, GuestFeatures, KernelHashes, Vmm};
use measure::tdx::{self, PageOrder, mrtd};
use measure::tpm;
use measure::uki::Uki;
use measure::{ReadAt, Sha256, Unreadable};

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
    ("snp-evidence", snp_evidence),
    ("tdx-evidence", tdx_evidence),
    ("tiles", tiles),
    ("firmware", firmware),
    ("host", host),
    ("erofs", erofs),
    ("cpio", cpio),
    ("fat", fat),
    ("tpm-attest", tpm_attest),
    ("coco-json", coco_json),
    ("manifest", manifest),
    ("bundle", bundle),
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
        let _ = (gpt.event(), gpt.tables(), gpt.partitions());
    }
}

/// A report of SEV-SNP, or a TDX quote.
pub fn evidence(bytes: &[u8]) {
    let _ = SnpReport::read(bytes).map(SnpReport::measurement);
    let _ = TdxQuote::read(bytes).map(|quote| (quote.rtmrs(), quote.mr_service_td()));
}

/// A report, and after it the table of certificates that came along.
pub fn snp_evidence(bytes: &[u8]) {
    let (report, table) = bytes.split_at(bytes.len().min(1184));
    let Ok(endorsements) = certificate_table(table) else {
        return;
    };
    let evidence = SnpEvidence {
        report: report.to_vec().into(),
        ..endorsements
    };
    let _ = SnpReport::read(report).map(SnpReport::endorsement_paths);
    if let Ok(genuine) = evidence.verify(&AmdRoots::amd(), jiff::Timestamp::constant(1_780_272_000, 0)) {
        SnpPolicy::default().appraise(&genuine);
    }
}

/// The certificate of a root, which is not believed, and what it is said to vouch for: a quote, its collateral and its
/// event log. What is believed is the root of the seed: dcap-qvl panics where a root is certified by another one.
pub fn tdx_evidence(bytes: &[u8]) {
    let (root, _) = td(include_bytes!("../corpus/tdx-evidence/seed"));
    let (_, evidence) = td(bytes);
    let Ok(at) = "2026-11-15T12:00:00Z".parse() else { return };
    if let Ok(td) = evidence.verify(TdxRoot::simulated(root), at) {
        TdxPolicy::default().appraise(&td);
    }
}

/// Of a log: a file of as many entries as the first byte says, and one more; a checkpoint; a proof of inclusion.
pub fn tiles(bytes: &[u8]) {
    static KEY: LazyLock<Option<VerifierKey>> = LazyLock::new(|| {
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        key.parse().ok()
    });
    let Some((width, file)) = bytes.split_first() else {
        return;
    };
    let width = u16::from(*width) + 1;
    if let Some(entries) = (Bundle { index: 0, width }).entries(file) {
        let leaves: Vec<_> = entries.into_iter().map(log::leaf).collect();
        log::grown(&leaves, 0);
    }
    let (Ok(text), Some(key)) = (str::from_utf8(bytes), &*KEY) else {
        return;
    };
    let _ = (Checkpoint::open(text, key), text.parse::<VerifierKey>());
    if let Some(checkpoint) = Checkpoint::unverified(text) {
        log::tiles(checkpoint.size % (1 << 20));
    }
    if let Some(proof) = Proof::read(text) {
        let _ = proof.verify(b"entry", key);
        let leaf = log::leaf(b"entry");
        for size in [proof.index, proof.index.saturating_add(1), u64::MAX] {
            log::included(leaf, proof.index, size, &proof.hashes);
            log::consistent((proof.index, leaf), (size, leaf), &proof.hashes);
        }
        assert_eq!(Proof::read(&proof.text()), Some(proof));
    }
}

/// The manifest of a release: it has one text, and names files below its folder.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert_eq!(manifest.text(), text);
    for name in manifest.files.keys() {
        let mut parts = Path::new(name.as_str()).components();
        assert!(
            parts.all(|part| matches!(part, Component::Normal(_))),
            "{name} leaves it"
        );
    }
}

/// What is signed about a release: a bundle, the provenance in it, or a generation record.
pub fn bundle(bytes: &[u8]) {
    static KEY: LazyLock<Option<PublicKey>> = LazyLock::new(|| Some(SigningKey::from_random([1; 32])?.public()));
    let _ = dsse::payload_of(bytes);
    let Ok(text) = str::from_utf8(bytes) else { return };
    let _ = provenance::run(text);
    if let Ok(record) = Record::parse(text) {
        assert_eq!(record.text(), text);
        let _ = record.key();
    }
    let Ok(bundle) = dsse::Bundle::parse(text) else { return };
    assert_eq!(dsse::payload_of(&dsse::pae(&bundle.payload)), Some(&bundle.payload[..]));
    assert_eq!(dsse::Bundle::parse(&bundle.text()).as_ref(), Ok(&bundle));
    let _ = str::from_utf8(&bundle.payload).map(provenance::run);
    let _ = KEY.as_ref().map(|key| bundle.is_signed_by(key));
}

/// Parts of evidence, each after its length in four bytes.
fn td(bytes: &[u8]) -> (&[u8], TdxEvidence) {
    let mut rest = bytes;
    let mut next = || {
        let (length, tail) = rest.split_first_chunk()?;
        let (part, behind) = tail.split_at((u32::from_le_bytes(*length) as usize).min(tail.len()));
        rest = behind;
        Some(part)
    };
    let root = next().unwrap_or_default();
    let mut part = || next().map(|part| Bytes::from(part.to_vec()));
    let evidence = TdxEvidence {
        quote: part().unwrap_or_default(),
        collateral: part(),
        event_log: part(),
    };
    (root, evidence)
}

/// The volumes of a firmware image, packed as they are, and what it measures of itself.
pub fn firmware(bytes: &[u8]) {
    let Ok(image) = Ovmf::read(bytes) else { return };
    let Ok(firmware) = Firmware::read(&image) else { return };
    let _ = tpm::log(&firmware, &firmware.secure_boot, None, BootEvents::default());
    let _ = tdx::rtmr0(&image, &firmware, None);
}

/// What a VMM offers the firmware: files of fw_cfg, each after its length in four bytes.
pub fn host(bytes: &[u8]) {
    static FIRMWARE: LazyLock<Option<Firmware>> = LazyLock::new(|| {
        let image = Ovmf::read(include_bytes!("../corpus/firmware/seed")).ok()?;
        Firmware::read(&image).ok()
    });
    let names = [
        "etc/table-loader",
        "etc/smbios/smbios-tables",
        "bootorder",
        "etc/acpi/rsdp",
        "etc/acpi/tables",
    ];
    let mut files = BTreeMap::new();
    let mut rest = bytes;
    for name in names {
        let Some((length, tail)) = rest.split_first_chunk() else {
            break;
        };
        let length = (u32::from_le_bytes(*length) as usize).min(tail.len());
        let (file, behind) = tail.split_at(length);
        files.insert(name.to_owned(), file.to_vec());
        rest = behind;
    }
    let disk = VirtioBlk { device: 1, function: 0 };
    for boot in [Boot::Direct, Boot::Disk(vec![disk])] {
        let host = Host {
            memory: 2 << 30,
            files: files.clone(),
            boot_menu: 0,
            boot,
        };
        if let Some(firmware) = &*FIRMWARE {
            let _ = tpm::log(firmware, &firmware.secure_boot, Some(&host), BootEvents::default());
        }
    }
}

/// A root image, whatever its checksum was.
pub fn erofs(bytes: &[u8]) {
    let mut image = bytes.to_vec();
    if let Some(block) = image.get_mut(1024..4096) {
        block[4..8].fill(0);
        let checksum = crc32c(block);
        block[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
    let Ok(image) = Erofs::read(&image[..]) else { return };
    let Ok(nodes) = image.walk() else { return };
    let _ = image.slack(&nodes);
    for node in &nodes {
        let _ = image.content(&node.inode, |_| {});
    }
}

/// CRC-32C without the final inversion, a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let step = |crc: u32, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

/// An initrd, unpacked by zstd.
pub fn cpio(bytes: &[u8]) {
    let mut archives = Archives::new(bytes);
    while let Ok(Some(_)) = archives.next_entry() {
        let _ = archives.content(|_| {});
    }
}

/// A volume of 34 MiB: its sectors that are not zero, each behind its number in four bytes.
pub fn fat(bytes: &[u8]) {
    let sectors = bytes.chunks(516).filter_map(|sector| sector.split_first_chunk());
    let sectors = sectors.map(|(number, sector)| (u32::from_le_bytes(*number).into(), sector));
    let volume = Sectors(sectors.collect());
    if let Ok(fat) = Fat::read(&volume) {
        let _ = fat.contents();
    }
}

/// A quote of a TPM, its signature, key and certificate, an HCL report, an event log: each after its length in two bytes.
///
/// A byte of each quoted value follows; the policy trusts every key.
pub fn tpm_attest(bytes: &[u8]) {
    let mut rest = bytes;
    let mut next = || {
        let (length, tail) = rest.split_first_chunk().unwrap_or((&[0; 2], &[]));
        let (taken, behind) = tail.split_at(usize::from(u16::from_le_bytes(*length)).min(tail.len()));
        rest = behind;
        taken.to_vec()
    };
    let [quote, signature, ak, certificate, hcl, log] = std::array::from_fn(|_| next());
    let values = (0..24).zip(rest).map(|(pcr, byte)| (pcr, vec![*byte; 32].into()));
    let trust = AkTrust {
        keys: [Sha256::of(&ak)].into(),
        roots: vec![certificate.clone().into()],
        hardware: None,
    };
    let hardware = Box::new(Evidence::Snp(SnpEvidence::default()));
    let evidence = TpmEvidence {
        quote: quote.into(),
        signature: signature.into(),
        pcrs: BTreeMap::from([("sha256".to_owned(), values.collect())]),
        event_log: (!log.is_empty()).then(|| log.into()),
        ak: ak.into(),
        ak_certificates: vec![certificate.into()],
        hcl: (!hcl.is_empty()).then(|| HclEvidence {
            report: hcl.into(),
            hardware,
        }),
    };
    match evidence.verify(&trust, jiff::Timestamp::UNIX_EPOCH) {
        Ok(claims) => drop(TpmPolicy::default().appraise(&claims)),
        Err(findings) => assert!(!findings.is_empty(), "refused without a reason"),
    }
}

/// The JSON of an attester of Confidential Containers.
pub fn coco_json(bytes: &[u8]) {
    if let Ok(evidence) = coco::read(bytes) {
        let _ = evidence.binds(b"challenge");
        if let Evidence::Tpm(tpm) = evidence {
            let _ = tpm.verify(&AkTrust::default(), jiff::Timestamp::UNIX_EPOCH);
        }
    }
}

/// Sectors by their number; the others are zero.
struct Sectors<'a>(BTreeMap<u64, &'a [u8]>);

impl ReadAt for Sectors<'_> {
    fn size(&self) -> u64 {
        34 << 20
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Unreadable> {
        let length = buffer.len() as u64;
        if offset.checked_add(length).is_none_or(|end| end > self.size()) {
            let why = "they end outside".into();
            return Err(Unreadable { offset, length, why });
        }
        buffer.fill(0);
        for (number, sector) in self.0.range(offset / 512..(offset + length).div_ceil(512)) {
            let (from, to) = (
                offset.saturating_sub(number * 512),
                (number * 512).saturating_sub(offset),
            );
            let sector = sector.get(from as usize..).unwrap_or_default();
            let room = &mut buffer[to as usize..];
            let length = room.len().min(sector.len());
            room[..length].copy_from_slice(&sector[..length]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The made-up firmware measures ACPI data, so that fuzzing a host reaches what reads it.
    #[test]
    fn the_seed_of_a_firmware_measures_its_host() -> Result<(), Box<dyn std::error::Error>> {
        let image = fs::read("corpus/firmware/seed")?;
        let firmware = Firmware::read(&Ovmf::read(&image)?)?;
        let generation = firmware.generation;
        assert_eq!(generation.acpi_measured, Some(true));
        assert!(generation.smbios_measured);
        Ok(())
    }

    /// The made-up TD is genuine, so that fuzzing it reaches every check.
    #[test]
    fn the_seed_of_a_td_is_genuine() -> Result<(), Box<dyn std::error::Error>> {
        let seed = fs::read("corpus/tdx-evidence/seed")?;
        let (root, evidence) = td(&seed);
        let td = evidence.verify(TdxRoot::simulated(root), "2026-11-15T12:00:00Z".parse()?);
        assert_eq!(td.map(|td| td.claims().event_log), Ok(true));
        Ok(())
    }

    /// The made-up release is whole and signed, so that fuzzing reaches what is behind the readers.
    #[test]
    fn the_seeds_of_a_release_are_signed() -> Result<(), Box<dyn std::error::Error>> {
        let manifest = Manifest::parse(&fs::read_to_string("corpus/manifest/seed")?)?;
        let record = Record::parse(&fs::read_to_string("corpus/bundle/record")?)?;
        assert_eq!(record.release, manifest.digest());
        let bundle = dsse::Bundle::parse(&fs::read_to_string("corpus/bundle/seed")?)?;
        assert!(bundle.is_signed_by(&record.key()?));
        let statement = String::from_utf8(bundle.payload.into_owned())?;
        assert_eq!(record.statements[0].sha256, Sha256::of(&statement));
        assert_eq!(provenance::run(&statement)?.id, record.build);
        Ok(())
    }

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
