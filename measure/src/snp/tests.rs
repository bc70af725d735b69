use std::string::ToString as _;
use std::vec::Vec;

use super::*;
use crate::Sha256;
use crate::ovmf::tests::Image;

const QEMU: Vmm = Vmm::Qemu {
    cpu: CpuSignature::new(0x80_0f12),
};

fn kernel() -> KernelHashes {
    KernelHashes::new(Sha256::of("kernel"), None, "panic=1")
}

fn digests(kernel: Option<&KernelHashes>, vmm: Vmm) -> Vec<std::string::String> {
    let image = Image::default().bytes();
    let image = Ovmf::read(&image).unwrap();
    let pre_vmsa = pre_vmsa(&image, kernel, vmm, GuestFeatures::SNP_ACTIVE).unwrap();
    [1, 3]
        .map(|vcpus| pre_vmsa.for_vcpus(NonZeroU32::new(vcpus).unwrap()).to_string()[..16].into())
        .into()
}

/// Values of sev-snp-measure 0.0.13 for the same image.
#[test]
fn digests_are_those_of_sev_snp_measure() {
    assert_eq!(digests(None, QEMU), ["a10528f6d26feef7", "5757747cb1eca3f2"]);
    assert_eq!(digests(Some(&kernel()), QEMU), ["676bc290a21cbfec", "d5e5d204a8d2f8ad"]);
    assert_eq!(digests(None, Vmm::Ec2), ["74259c282e103186", "cd3dcd3100851231"]);
    assert_eq!(digests(None, Vmm::Gce), ["be738280c3c4a64e", "6bde1b51214a3709"]);
}

#[test]
fn other_vcpus_need_no_other_pages() {
    let image = Image::default().bytes();
    let image = Ovmf::read(&image).unwrap();
    let measure = |vmm, features| pre_vmsa(&image, Some(&kernel()), vmm, features).unwrap();
    let first = measure(QEMU, GuestFeatures::SNP_ACTIVE);
    let (cpu, features) = (CpuSignature::new(0xb0_0f00), GuestFeatures::new(0x21));
    let other = first.with_vcpus(&image, Vmm::Qemu { cpu }, features).unwrap();
    assert_eq!(other, measure(Vmm::Qemu { cpu }, features));
    assert!(other.bsp != first.bsp && other.ap != first.ap);
}

#[test]
fn each_number_of_vcpus_continues_the_one_before() {
    let image = Image::default().bytes();
    let pre_vmsa = pre_vmsa(&Ovmf::read(&image).unwrap(), None, QEMU, GuestFeatures::SNP_ACTIVE).unwrap();
    let numbers = (1..=20).map(|vcpus| NonZeroU32::new(vcpus).unwrap());
    assert!(
        numbers
            .map(|vcpus| pre_vmsa.for_vcpus(vcpus))
            .eq(pre_vmsa.digests().take(20))
    );
}

#[test]
fn ec2_adds_the_cpuid_page_last() {
    let image = Image::default().bytes();
    let steps = launch_steps(&Ovmf::read(&image).unwrap(), None, Vmm::Ec2).unwrap();
    assert_eq!(steps.last(), Some(&LaunchStep::Cpuid { page: 0x80_e000 }));
}

#[test]
fn kernel_needs_a_place_for_its_hashes() {
    let refusal = |image: Image| {
        let image = image.bytes();
        launch_steps(&Ovmf::read(&image).unwrap(), Some(&kernel()), QEMU).unwrap_err()
    };
    let mut without_section = Image::default();
    without_section.sev.pop();
    assert_eq!(refusal(without_section), SnpError::NoKernelHashes);
    let without_table = Image {
        hash_table: [0, 0],
        ..Image::default()
    };
    assert_eq!(refusal(without_table), SnpError::NoKernelHashes);
    for hash_table in [
        [0x81_0c00, 175],
        [0x81_0fff, 0x400],
        [0x81_1000, 0x400],
        [0x80_fc00, 0x400],
    ] {
        let error = refusal(Image {
            hash_table,
            ..Image::default()
        });
        assert!(
            matches!(error, SnpError::MisplacedKernelHashes { .. }),
            "{hash_table:x?}"
        );
    }
}
