//! MRTD: what the VMM puts into a TD before it starts.

use core::iter::repeat;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384 as Hasher};
use zerocopy::little_endian::U64;
use zerocopy::{Immutable, IntoBytes};

use crate::Sha384;
use crate::ovmf::{Ovmf, OvmfError, TdvfSection, TdvfSectionKind};
use crate::pages::PAGE;

/// In which order a VMM adds pages and measures what is in them: it changes MRTD.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PageOrder {
    /// Each page is measured right after it is added: Linux 6.16 and QEMU 10.1 or newer, Ubuntu 25.04, Google.
    Single,
    /// All pages of a section are added, then measured: QEMU 8.2 of Ubuntu 24.04.
    Two,
}

/// Returns MRTD of a TD that a VMM starts with `image`, adding pages in this order.
///
/// Memory size, vCPUs, devices, TD attributes and MRCONFIGID do not change it.
///
/// # Errors
///
/// The image is no firmware for TDX, or what it asks to measure is not in the image.
pub fn mrtd(image: &Ovmf, order: PageOrder) -> Result<Sha384, MrtdError> {
    let sections = image.tdvf_sections()?;
    if !sections
        .iter()
        .any(|section| section.extend && section.kind == TdvfSectionKind::Bfv)
    {
        return Err(MrtdError::CodeNotMeasured);
    }
    let mut hasher = Hasher::new();
    for section in &sections {
        measure(section, order, &mut hasher)?;
    }
    Ok(<[u8; 48]>::from(hasher.finalize()).into())
}

fn measure(section: &TdvfSection, order: PageOrder, hasher: &mut Hasher) -> Result<(), MrtdError> {
    let contents = contents(section)?;
    let filled = contents.chunks(PAGE as usize).chain(repeat(&ZEROS[..]));
    let pages = || section.pages.addresses().zip(filled.clone());
    match order {
        PageOrder::Single if section.extend => pages().for_each(|(page, bytes)| {
            add(page, hasher);
            extend(page, bytes, hasher);
        }),
        PageOrder::Single | PageOrder::Two => section.pages.addresses().for_each(|page| add(page, hasher)),
    }
    if section.extend && order == PageOrder::Two {
        pages().for_each(|(page, bytes)| extend(page, bytes, hasher));
    }
    Ok(())
}

/// Returns what the image holds of the bytes of `section` that are measured; the others are zeros.
fn contents<'a>(section: &TdvfSection<'a>) -> Result<&'a [u8], MrtdError> {
    let (start, length) = (section.pages.start(), section.pages.length());
    match section.kind {
        _ if !section.extend => Ok(&[]),
        TdvfSectionKind::TempMem => Ok(&[]),
        TdvfSectionKind::TdHob => Err(MrtdError::HobMeasured { start }),
        // VMMs differ in what follows the data: zeros, or what follows it in the image
        _ if section.data.len() as u64 != length => Err(MrtdError::PartlyFilled {
            start,
            length,
            data: section.data.len(),
        }),
        _ => Ok(section.data),
    }
}

/// `TDH.MEM.PAGE.ADD`.
fn add(page: u64, hasher: &mut Hasher) {
    hasher.update(Record::new(*b"MEM.PAGE.ADD\0\0\0\0", page).as_bytes());
}

/// `TDH.MR.EXTEND` of a whole page.
fn extend(page: u64, bytes: &[u8], hasher: &mut Hasher) {
    for (address, chunk) in (page..).step_by(CHUNK).zip(bytes.chunks(CHUNK)) {
        hasher.update(Record::new(*b"MR.EXTEND\0\0\0\0\0\0\0", address).as_bytes());
        hasher.update(chunk);
    }
}

/// Why there is no MRTD.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MrtdError {
    #[error(transparent)]
    Image(#[from] OvmfError),
    #[error("no BFV section has attribute MR.EXTEND: MRTD would not measure the code of the firmware")]
    CodeNotMeasured,
    #[error("TD_HOB section at {start:#x} has attribute MR.EXTEND: MRTD would depend on the size of guest memory")]
    HobMeasured { start: u64 },
    #[error("section at {start:#x} measures {length:#x} bytes of which the image holds {data:#x}")]
    PartlyFilled { start: u64, length: u64, data: usize },
}

const ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// How much one `TDH.MR.EXTEND` measures, in bytes.
const CHUNK: usize = 256;

/// What is hashed for each step: Intel TDX Module Base Architecture Specification (348549-006US), section 12.2.1.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct Record {
    operation: [u8; 16],
    address: U64,
    reserved: [u8; 104],
}

const _: () = assert!(size_of::<Record>() == 128);

impl Record {
    fn new(operation: [u8; 16], address: u64) -> Self {
        Self {
            operation,
            address: address.into(),
            reserved: [0; 104],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovmf::tests::Image;

    fn refusal(change: impl Fn(&mut Image)) -> MrtdError {
        let mut image = Image::default();
        change(&mut image);
        let bytes = image.bytes();
        mrtd(&Ovmf::read(&bytes).unwrap(), PageOrder::Single).unwrap_err()
    }

    /// With one measured page, one pass and two are the same; the image's last page is the first section.
    #[test]
    fn records_are_hashed_in_order() {
        let bytes = Image::default().bytes();
        let mut expected = Hasher::new();
        add(0xffff_f000, &mut expected);
        for chunk in 0..16 {
            let data = &bytes[0x1000 + chunk * 256..][..256];
            expected.update(
                [
                    b"MR.EXTEND\0\0\0\0\0\0\0".as_slice(),
                    &(0xffff_f000 + chunk as u64 * 256).to_le_bytes(),
                ]
                .concat(),
            );
            expected.update([&[0; 104], data].concat());
        }
        let others = [0xffff_e000].into_iter().chain((0x80_9000..0x80_b000).step_by(4096));
        others
            .chain((0x80_0000..0x80_6000).step_by(4096))
            .for_each(|page| add(page, &mut expected));
        let expected = Ok(<[u8; 48]>::from(expected.finalize()).into());
        let image = Ovmf::read(&bytes).unwrap();
        assert_eq!(mrtd(&image, PageOrder::Single), expected);
        assert_eq!(mrtd(&image, PageOrder::Two), expected);
    }

    #[test]
    fn what_makes_mrtd_meaningless_is_refused() {
        assert_eq!(refusal(|image| image.tdvf[0].5 = 0), MrtdError::CodeNotMeasured);
        assert_eq!(
            refusal(|image| image.tdvf[2].5 = 1),
            MrtdError::HobMeasured { start: 0x80_9000 }
        );
        let partly = MrtdError::PartlyFilled {
            start: 0xffff_f000,
            length: 0x1000,
            data: 0xfff,
        };
        assert_eq!(refusal(|image| image.tdvf[0].1 = 0xfff), partly);
    }
}
