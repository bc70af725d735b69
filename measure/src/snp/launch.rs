//! `SNP_LAUNCH_UPDATE`, replayed.

use alloc::borrow::Cow;

use zerocopy::little_endian::{U16, U64};
use zerocopy::{Immutable, IntoBytes};

use crate::pages::{PAGE, Pages};
use crate::{Sha256, Sha384};

/// One thing that the VMM asks the SEV firmware to measure.
///
/// The variants are the page types of `PAGE_INFO`; each carries only what its type measures, so a secrets page with
/// contents cannot be written down.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LaunchStep<'a> {
    /// Pages with contents.
    Normal(Contents<'a>),
    /// The registers a vCPU starts with; `digest` is the SHA-384 of the page they are in.
    Vmsa { digest: Sha384 },
    /// Pages of zeros.
    Zero { pages: Pages },
    /// Pages of which only the addresses are measured.
    Unmeasured { pages: Pages },
    /// The page at guest address `page`, which the SEV firmware fills with keys.
    Secrets { page: u64 },
    /// The page at guest address `page`, whose CPUID values the SEV firmware checks.
    Cpuid { page: u64 },
}

/// Pages and the bytes they hold.
#[derive(Clone, Eq, PartialEq)]
pub struct Contents<'a> {
    pages: Pages,
    bytes: Cow<'a, [u8]>,
}

/// Returns the launch digest after `steps`, which start with nothing measured.
pub fn launch_digest<'a>(steps: impl IntoIterator<Item = &'a LaunchStep<'a>>) -> Sha384 {
    steps.into_iter().fold(Sha384::ZERO, |digest, step| step.extend(digest))
}

impl LaunchStep<'_> {
    /// Returns the launch digest after this step, `digest` being the one before.
    pub fn extend(&self, digest: Sha384) -> Sha384 {
        match self {
            Self::Normal(contents) => contents.extend(digest),
            Self::Vmsa { digest: contents } => PageInfo::new(2, VMSA, *contents).extend(digest),
            Self::Zero { pages } => extend_blank(digest, 3, *pages),
            Self::Unmeasured { pages } => extend_blank(digest, 4, *pages),
            Self::Secrets { page } => PageInfo::new(5, *page, Sha384::ZERO).extend(digest),
            Self::Cpuid { page } => PageInfo::new(6, *page, Sha384::ZERO).extend(digest),
        }
    }
}

impl<'a> Contents<'a> {
    /// Returns `bytes` at guest address `start`; nothing unless they fill one or more whole pages.
    pub fn new(start: u64, bytes: Cow<'a, [u8]>) -> Option<Self> {
        let pages = Pages::new(start, bytes.len() as u64)?;
        Some(Self { pages, bytes })
    }

    fn extend(&self, digest: Sha384) -> Sha384 {
        let pages = self.pages.addresses().zip(self.bytes.chunks(PAGE as usize));
        pages.fold(digest, |digest, (page, bytes)| {
            PageInfo::new(1, page, Sha384::of(bytes)).extend(digest)
        })
    }
}

impl core::fmt::Debug for Contents<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}: {}", self.pages.start(), Sha256::of(&self.bytes))
    }
}

/// Measures pages whose contents are left out: zeros stand for their digest.
fn extend_blank(digest: Sha384, kind: u8, pages: Pages) -> Sha384 {
    pages.addresses().fold(digest, |digest, page| {
        PageInfo::new(kind, page, Sha384::ZERO).extend(digest)
    })
}

/// Guest address that the SEV firmware records for every VMSA page: the highest page of a 48-bit address space.
const VMSA: u64 = 0xffff_ffff_f000;

/// `PAGE_INFO`: AMD SEV-SNP Firmware ABI (56860) revision 1.55, section 8.17.2, table 67.
#[derive(Immutable, IntoBytes)]
#[repr(C)]
struct PageInfo {
    digest_cur: Sha384,
    contents: Sha384,
    length: U16,
    page_type: u8,
    imi_page: u8,
    vmpl_permissions: [u8; 4],
    gpa: U64,
}

impl PageInfo {
    const LENGTH: u16 = 0x70;

    fn new(page_type: u8, gpa: u64, contents: Sha384) -> Self {
        Self {
            digest_cur: Sha384::ZERO,
            contents,
            length: Self::LENGTH.into(),
            page_type,
            imi_page: 0,
            vmpl_permissions: [0; 4],
            gpa: gpa.into(),
        }
    }

    fn extend(self, digest_cur: Sha384) -> Sha384 {
        Sha384::of(Self { digest_cur, ..self }.as_bytes())
    }
}

const _: () = assert!(size_of::<PageInfo>() == PageInfo::LENGTH as usize);
