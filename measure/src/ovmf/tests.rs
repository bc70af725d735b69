use alloc::vec::Vec;
use std::string::ToString as _;
use std::vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::Sha256;
use crate::snp::{CpuSignature, GuestFeatures, KernelHashes, Vmm, pre_vmsa};
use crate::tdx::{PageOrder, mrtd};

/// An image of two pages whose parts can be set one by one.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) sev: Vec<[u32; 3]>,
    pub(crate) hash_table: [u32; 2],
    pub(crate) reset: u32,
    pub(crate) tdvf: Vec<Tdvf>,
}

/// Raw offset and size, guest address and size, kind, attributes.
pub(crate) type Tdvf = (u32, u32, u64, u64, u32, u32);

impl Default for Image {
    fn default() -> Self {
        Self {
            sev: vec![
                [0x80_0000, 0x2000, 1],
                [0x80_d000, 0x1000, 2],
                [0x80_e000, 0x1000, 3],
                [0x80_f000, 0x1000, 4],
                [0x81_0000, 0x1000, 0x10],
            ],
            hash_table: [0x81_0c00, 0x400],
            reset: 0x80_b004,
            tdvf: vec![
                (0x1000, 0x1000, 0xffff_f000, 0x1000, 0, 1),
                (0, 0x1000, 0xffff_e000, 0x1000, 1, 0),
                (0, 0, 0x80_9000, 0x2000, 2, 0),
                (0, 0, 0x80_0000, 0x6000, 3, 0),
            ],
        }
    }
}

impl Image {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut image = vec![0xa5; 0x2000];
        let (sev, tdvf) = (self.sev_metadata(), self.tdvf_metadata());
        let table = table(&[
            (0xe47a6535_984a_4798_865e_4685a7bf8ec2, &le(&[0x1000])),
            (0xdc886566_984a_4798_a75e_5585a7bf67cc, &le(&[0x1800])),
            (0x7255371f_3a3b_4b04_927b_1da6efa8d454, &le(&self.hash_table)),
            (0x00f771de_1a7e_4fcb_890e_68c77e2fb44e, &le(&[self.reset])),
        ]);
        image[0x1000..][..tdvf.len()].copy_from_slice(&tdvf);
        image[0x800..][..sev.len()].copy_from_slice(&sev);
        let start = image.len() - 32 - table.len();
        image[start..][..table.len()].copy_from_slice(&table);
        image
    }

    fn sev_metadata(&self) -> Vec<u8> {
        let count = self.sev.len() as u32;
        [
            b"ASEV".to_vec(),
            le(&[16 + 12 * count, 1, count]),
            le(self.sev.as_flattened()),
        ]
        .concat()
    }

    fn tdvf_metadata(&self) -> Vec<u8> {
        let count = self.tdvf.len() as u32;
        let sections = self
            .tdvf
            .iter()
            .map(|&(offset, size, address, memory, kind, attributes)| {
                let (address, memory) = (address.to_le_bytes(), memory.to_le_bytes());
                [&le(&[offset, size])[..], &address, &memory, &le(&[kind, attributes])].concat()
            });
        [b"TDVF".to_vec(), le(&[16 + 32 * count, 1, count])]
            .into_iter()
            .chain(sections)
            .flatten()
            .collect()
    }
}

fn le(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The GUIDed table with these entries, first to last, and its footer.
fn table(entries: &[(u128, &[u8])]) -> Vec<u8> {
    let entry =
        |guid, data: &[u8], length: usize| [data, &(length as u16).to_le_bytes(), Guid::new(guid).bytes()].concat();
    let body: Vec<u8> = entries
        .iter()
        .flat_map(|(guid, data)| entry(*guid, data, data.len() + 18))
        .collect();
    let footer = entry(0x96b582de_1fb2_45f7_baea_a366c55a082d, &[], body.len() + 18);
    [body, footer].concat()
}

/// The message with which the sections of an image like the default are refused.
fn refusal(change: impl Fn(&mut Image)) -> String {
    let mut image = Image::default();
    change(&mut image);
    let bytes = image.bytes();
    let ovmf = Ovmf::read(&bytes).unwrap();
    let error = ovmf.sev_sections().err().or(ovmf.tdvf_sections().err());
    let error = error.or(ovmf.sev_es_reset_address().err());
    error.expect("the image is refused").to_string()
}

#[test]
fn sections_are_those_of_the_image_in_its_order() {
    let bytes = Image::default().bytes();
    let ovmf = Ovmf::read(&bytes).unwrap();
    assert_eq!(ovmf.address(), 0xffff_e000);
    let sev = ovmf.sev_sections().unwrap();
    let kinds: Vec<_> = sev.iter().map(|section| section.kind).collect();
    use SevSectionKind::*;
    assert_eq!(kinds, [SecMem, Secrets, Cpuid, SvsmCaa, KernelHashes]);
    assert_eq!((sev[0].pages.start(), sev[0].pages.length()), (0x80_0000, 0x2000));
    let area = HashTableArea {
        address: 0x81_0c00,
        size: 0x400,
    };
    assert_eq!(ovmf.hash_table_area(), Ok(Some(area)));
    assert_eq!(ovmf.sev_es_reset_address(), Ok(0x80_b004));
    let tdvf = ovmf.tdvf_sections().unwrap();
    assert_eq!((tdvf[0].kind, tdvf[0].extend), (TdvfSectionKind::Bfv, true));
    assert_eq!((tdvf[3].kind, tdvf[3].data.len()), (TdvfSectionKind::TempMem, 0));
}

#[test]
fn firmware_without_kernel_hashes_has_no_area() {
    let bytes = Image {
        hash_table: [0, 0],
        ..Image::default()
    }
    .bytes();
    assert_eq!(Ovmf::read(&bytes).unwrap().hash_table_area(), Ok(None));
}

#[test]
fn sev_sections_that_cannot_be_launched_are_refused() {
    assert_eq!(
        refusal(|image| image.sev[1][2] = 5),
        "kind of SEV metadata section at offset 0x824 is 0x5, expected 1 SEC_MEM, 2 SECRETS, 3 CPUID, 4 SVSM_CAA or \
         0x10 KERNEL_HASHES"
    );
    assert_eq!(
        refusal(|image| image.sev[0][1] = 0),
        "section at offset 0x810 asks for guest memory 0x800000 + 0x0, expected one or more whole 4 KiB pages"
    );
    assert_eq!(
        refusal(|image| image.sev[1][0] = 0x80_1000),
        "section at offset 0x81c asks for guest memory 0x801000 + 0x1000, which another has"
    );
    assert_eq!(
        refusal(|image| image.sev[3][0] = 0xffff_f000),
        "section at offset 0x834 asks for guest memory 0xfffff000 + 0x1000, which another has"
    );
    assert_eq!(
        refusal(|image| image.sev[2] = [0x90_0000, 0x2000, 3]),
        "size of SEV metadata section at offset 0x82c is 0x2000, expected one page, 0x1000, for SECRETS, CPUID and \
         KERNEL_HASHES"
    );
    assert_eq!(
        refusal(|image| image.sev[0] = [0x1000_0000, 0x4000_0000, 1]),
        "section at offset 0x810 makes it 1073750016 bytes of guest memory, expected at most 268435456"
    );
    assert_eq!(
        refusal(|image| image.reset = 0),
        "SEV-ES reset address at offset 0x1fb8 is 0x0, expected the address of code"
    );
}

#[test]
fn tdvf_sections_that_cannot_be_launched_are_refused() {
    assert_eq!(
        refusal(|image| image.tdvf[3].4 = 4),
        "kind of TDVF section at offset 0x1088 is 0x4, expected 0 BFV, 1 CFV, 2 TD_HOB or 3 TEMP_MEM"
    );
    assert_eq!(
        refusal(|image| image.tdvf[0].5 = 3),
        "attributes of TDVF section at offset 0x102c is 0x3, expected 0 or 1 (MR.EXTEND)"
    );
    assert_eq!(
        refusal(|image| image.tdvf[1].3 = 0xfff),
        "MemoryDataSize of TDVF section at offset 0x1040 is 0xfff, expected no less than RawDataSize"
    );
    assert_eq!(
        refusal(|image| image.tdvf[1].0 = 0x1001),
        "DataOffset of TDVF section at offset 0x1030 is 0x1001, expected data inside the image"
    );
    assert_eq!(
        refusal(|image| image.tdvf[1].1 = 0),
        "RawDataSize of TDVF section at offset 0x1034 is 0x0, expected data for BFV and CFV, none for TD_HOB and \
         TEMP_MEM"
    );
    assert_eq!(
        refusal(|image| image.tdvf.truncate(1)),
        "TDVF section count at offset 0x100c is 0x1, expected 2 or more"
    );
    assert_eq!(
        refusal(|image| image.tdvf[3].2 = 0x80_a000),
        "section at offset 0x1070 asks for guest memory 0x80a000 + 0x6000, which another has"
    );
}

#[test]
fn files_that_are_no_images_are_refused() {
    let refusal = |bytes: &[u8]| Ovmf::read(bytes).unwrap_err().to_string();
    let size = "the image is 1 bytes long, expected a multiple of 4096 bytes, at most 4 GiB";
    assert_eq!(refusal(&[0]), size);
    assert_eq!(
        refusal(&[0; 4096]),
        "no GUIDed table at the end of the image: found 00000000-0000-0000-0000-000000000000 at offset 0xfd0, expected \
         96b582de-1fb2-45f7-baea-a366c55a082d"
    );
}

#[test]
fn tables_that_contradict_themselves_are_refused() {
    let refusal = |table: &[u8]| {
        let mut bytes = vec![0; 4096];
        bytes[4064 - table.len()..4064].copy_from_slice(table);
        Ovmf::read(&bytes).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(&table(&[(1, &[]), (1, &[])])),
        "two entries 00000000-0000-0000-0000-000000000001 in the GUIDed table, the second at offset 0xfaa"
    );
    let mut short = table(&[(1, &[])]);
    short[0] = 17;
    assert_eq!(
        refusal(&short),
        "table length at offset 0xfbc is 0x11, expected 18 bytes or more, inside the image and the table"
    );
    let mut long = table(&[(1, &[])]);
    long[18..20].copy_from_slice(&u16::MAX.to_le_bytes());
    assert_eq!(
        refusal(&long),
        "table length at offset 0xfce is 0xffff, expected 18 bytes or more, inside the image and the table"
    );
    let mut ragged = table(&[(1, &[])]);
    ragged[18] += 1;
    ragged.insert(0, 0);
    assert_eq!(
        refusal(&ragged),
        "rest of the table at offset 0xfbb is 0x1, expected entries of at least 18 bytes"
    );
}

proptest! {
    #[test]
    fn random_bytes_are_read_or_refused(tail in vec(any::<u8>(), 0..512)) {
        let mut bytes = std::vec![0; 4096];
        bytes[4096 - tail.len()..].copy_from_slice(&tail);
        measure(&bytes);
        bytes[4046..4064].copy_from_slice(&table(&[]));
        bytes[4046] = tail.len() as u8;
        measure(&bytes);
    }

    #[test]
    fn changed_images_are_measured_or_refused(changes in vec((dense_offset(), any::<u8>()), 1..8)) {
        let mut bytes = Image::default().bytes();
        changes.iter().for_each(|(offset, byte)| bytes[*offset] = *byte);
        measure(&bytes);
    }

    #[test]
    fn images_cut_short_are_measured_or_refused(length in 0usize..0x2000) {
        measure(&Image::default().bytes()[length..]);
    }
}

/// Offsets of bytes that mean something in the image: metadata of SEV and of TDX, the table.
fn dense_offset() -> impl Strategy<Value = usize> {
    prop_oneof![0x800usize..0x860, 0x1000usize..0x10a0, 0x1f60usize..0x1fe0]
}

/// Asks `bytes` for everything; only that it returns is of interest.
fn measure(bytes: &[u8]) {
    let Ok(ovmf) = Ovmf::read(bytes) else { return };
    let kernel = KernelHashes::new(Sha256::ZERO, None, "");
    for vmm in [
        Vmm::Qemu {
            cpu: CpuSignature::new(0),
        },
        Vmm::Ec2,
    ] {
        let _ = pre_vmsa(&ovmf, Some(&kernel), vmm, GuestFeatures::SNP_ACTIVE);
    }
    for order in [PageOrder::Single, PageOrder::Two] {
        let _ = mrtd(&ovmf, order);
    }
}
