//! Values that nobody in this project made: MRTDs that three other tools agree on, launch digests of sev-snp-measure.
//!
//! The data is not part of the repository: where it is absent, each test says so and passes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;
use measure::ovmf::{Ovmf, TdvfSectionKind};
use measure::snp::{self, CpuSignature, DirectKernel, GuestFeatures, KernelHashes, Launch, Vmm};
use measure::tdx::{PageOrder, mrtd};
use measure::{Sha256, Sha384};
use serde::Deserialize;

/// SHA-256 of OVMF.amdsev.fd of Debian's ovmf-amdsev 2026.08+ds-2.
const AMDSEV: &str = "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f";

#[test]
fn mrtds_are_those_of_other_tools() {
    let Some(vectors) = vectors() else { return };
    let known = fs::read(vectors.join("tdx/local/firmware.json")).unwrap();
    let known: Known = serde_json::from_slice(&known).unwrap();
    let images = images(&vectors);
    for (name, firmware) in known.firmware {
        let ovmf = Ovmf::read(&images[&firmware.sha256]).unwrap();
        assert_eq!(mrtd(&ovmf, PageOrder::Single), Ok(firmware.mrtd_single), "{name}");
        assert_eq!(mrtd(&ovmf, PageOrder::Two), Ok(firmware.mrtd_two_pass), "{name}");
        let sections = ovmf.tdvf_sections().unwrap();
        let found: Vec<_> = sections
            .iter()
            .map(|section| section.pages)
            .map(|it| [it.start(), it.length()])
            .collect();
        let expected: Vec<_> = firmware
            .sections
            .iter()
            .map(|fields| [number(&fields[2]), number(&fields[3])])
            .collect();
        assert_eq!(found, expected, "{name}");
        let cfv = sections
            .iter()
            .find(|section| section.kind == TdvfSectionKind::Cfv)
            .unwrap();
        assert_eq!(Sha384::of(cfv.data), firmware.cfv, "{name}");
    }
}

/// Values of sev-snp-measure 0.0.13: VMM, vCPUs, with kernel and initrd, launch digest.
#[test]
fn launch_digests_are_those_of_sev_snp_measure() {
    let Some(vectors) = vectors() else { return };
    let image = &images(&vectors)[&AMDSEV.parse().unwrap()];
    let ovmf = Ovmf::read(image).unwrap();
    let kernel = Sha256::of(fs::read(vectors.join("inputs/vmlinuz-7.2.12-cloud")).unwrap());
    let initrd = Sha256::of(fs::read(vectors.join("tdx/local/initrd.gz")).unwrap());
    let both = KernelHashes::new(kernel, Some(initrd), " console=hvc0 ");
    let alone = KernelHashes::new(kernel, None, "");
    for (vmm, vcpus, kernel, digest) in [
        (
            qemu("EPYC-v4"),
            1,
            None,
            "d74bd3ea40b240c3228edc5177ce6193561ebff633dbd0be76d6c143b876d65102425c0e2e8a930857c48daa5eacda58",
        ),
        (
            qemu("EPYC-Turin"),
            64,
            None,
            "cb41aa990810b5039901f1e921ca5eb398649b8271f7f8aca4d83cd0a219fce47122ba9d1adb670e9ae9ae4003760ee9",
        ),
        (
            qemu("EPYC-Genoa"),
            2,
            Some(both),
            "0c2952e8e5db4c8a2029be1ffaeab020a943b3f386381601d91d980082494a5d6cb7adc08b8fd325353745b7df30b280",
        ),
        (
            qemu("EPYC-Milan"),
            4,
            Some(alone),
            "49fb7084d839327b13b12a1757078e50004926d6aa1fc13c537374071265e9d80f1c523ebfffe8a356b0818761b9b639",
        ),
        (
            Vmm::Ec2,
            4,
            None,
            "ef749be5d91ef69e32ba3aa64147faee140fbf0d2491dc68d514d785c601ac9031797cab53bff3fcd29421d6797adfc5",
        ),
        (
            Vmm::Gce,
            4,
            None,
            "0c82739b322f995ee85a729377e469887a4630d2bc1aa9de3c5afe6280f408c4d3384622b603e14bc84ff2ad99f2ade8",
        ),
    ] {
        let pre_vmsa = snp::pre_vmsa(&ovmf, kernel.as_ref(), vmm, GuestFeatures::SNP_ACTIVE).unwrap();
        let vcpus = NonZeroU32::new(vcpus).unwrap();
        assert_eq!(pre_vmsa.for_vcpus(vcpus).to_string(), digest, "{vmm:?} {vcpus}");
    }
}

/// Digests of sev-snp-measure 0.0.13, as above, where something near was expected.
#[test]
fn the_launch_that_has_a_digest_is_found_among_the_near() {
    let Some(vectors) = vectors() else { return };
    let image = &images(&vectors)[&AMDSEV.parse().unwrap()];
    let ovmf = Ovmf::read(image).unwrap();
    let kernel = Sha256::of(fs::read(vectors.join("inputs/vmlinuz-7.2.12-cloud")).unwrap());
    let initrd = Sha256::of(fs::read(vectors.join("tdx/local/initrd.gz")).unwrap());
    let launch = Launch {
        vmm: qemu("EPYC-Milan"),
        vcpus: NonZeroU32::new(4).unwrap(),
        features: GuestFeatures::SNP_ACTIVE,
        kernel: Some(DirectKernel {
            kernel,
            initrd: Some(initrd),
            cmdline: " console=hvc0",
        }),
    };
    let found = |digest: &str| {
        let found = launch.search(&ovmf, digest.parse().unwrap()).unwrap();
        found.map(|differences| differences.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        found("0c2952e8e5db4c8a2029be1ffaeab020a943b3f386381601d91d980082494a5d6cb7adc08b8fd325353745b7df30b280"),
        Some(vec![
            "2 vCPUs, expected 4".into(),
            "started by QEMU with CPU EPYC-Genoa (0xa10f10), expected QEMU with CPU EPYC-Milan (0xa00f11)".into(),
            r#"command line " console=hvc0 ", expected " console=hvc0""#.into(),
        ])
    );
    assert_eq!(
        found("49fb7084d839327b13b12a1757078e50004926d6aa1fc13c537374071265e9d80f1c523ebfffe8a356b0818761b9b639"),
        Some(vec![
            r#"command line "", expected " console=hvc0""#.into(),
            "no initrd, expected one".into()
        ])
    );
    assert_eq!(
        found("0c82739b322f995ee85a729377e469887a4630d2bc1aa9de3c5afe6280f408c4d3384622b603e14bc84ff2ad99f2ade8"),
        Some(vec![
            "started by GCE, expected QEMU with CPU EPYC-Milan (0xa00f11)".into(),
            "no kernel handed to the firmware, expected one".into()
        ])
    );
    let start = std::time::Instant::now();
    assert_eq!(found(&Sha384::ZERO.to_string()), None);
    println!("nothing found in {:?}", start.elapsed());
}

fn qemu(model: &str) -> Vmm {
    let cpu: CpuSignature = model.parse().unwrap();
    Vmm::Qemu { cpu }
}

/// What is known of each firmware, by its name and version.
#[derive(Deserialize)]
struct Known {
    firmware: BTreeMap<String, Firmware>,
}

#[derive(Deserialize)]
struct Firmware {
    sha256: Sha256,
    /// Numbers in hex: offset and size in the image, guest address and size, kind, attributes.
    sections: Vec<[String; 6]>,
    mrtd_single: Sha384,
    mrtd_two_pass: Sha384,
    cfv: Sha384,
}

fn number(hex: &str) -> u64 {
    u64::from_str_radix(hex.strip_prefix("0x").unwrap(), 16).unwrap()
}

/// The firmware images by their SHA-256.
fn images(vectors: &Path) -> BTreeMap<Sha256, Vec<u8>> {
    let files = fs::read_dir(vectors.join("inputs"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let images = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "xz"))
        .map(|path| {
            let mut image = Vec::new();
            let mut reader = XzReader::new(fs::File::open(path).unwrap(), false);
            std::io::copy(&mut reader, &mut image).unwrap();
            (Sha256::of(&image), image)
        });
    images.collect()
}

/// Where the data is, if it is here. Tests run in the folder of their package.
fn vectors() -> Option<PathBuf> {
    let path = PathBuf::from("../../shared/vectors");
    if !path.is_dir() {
        println!("skipped: there is no {}", path.display());
        return None;
    }
    Some(path)
}
