//! Boot of a UKI from the EFI system partition of a disk.

use alloc::vec::Vec;

use super::{
    BootError, BootEvents, ExitBootServices, KernelError, application, cmdline, cpio, event, linux, ready_to_boot,
};
use crate::event_log::{Digests, Event, EventType, Hasher, Subject};
use crate::gpt::Gpt;
use crate::linux::Kernel;
use crate::pe::Pe;
use crate::uki::{InnerKernel, Uki, UkiSection};

/// A boot of a UKI that firmware finds as `\EFI\BOOT\BOOTX64.EFI`, without Secure Boot and without files beside it
/// that systemd-stub would pick up.
#[derive(Clone, Copy, Debug)]
pub struct DiskBoot<'a> {
    /// The start of the disk; 34 sectors are normally enough.
    pub disk: &'a [u8],
    /// The whole file.
    pub uki: &'a [u8],
}

/// A section that the stub measures, and what its contents hash to: what the kernel gets as initrd may start as it does.
struct Hashed<'a> {
    section: &'a UkiSection<'a>,
    hasher: Hasher,
}

impl DiskBoot<'_> {
    /// Returns the events of PCRs 4, 5, 9 and 11, and the separators of PCRs 0 to 6, for a disk that is read-only.
    ///
    /// # Errors
    ///
    /// The disk or the UKI cannot be read, or systemd-stub is of a version that measures nothing in a TD, or what
    /// nobody can predict.
    pub fn events(&self) -> Result<BootEvents, BootError> {
        let gpt = Gpt::read(self.disk)?;
        let uki = Uki::read(self.uki)?;
        check_stub(&uki)?;
        let start = [gpt.event(), application(Subject::Uki, uki.pe().authenticode())];
        let load_options = uki.section(".cmdline").map(cmdline::of_stub).transpose()?;
        let hashed: Vec<_> = uki.measured().map(Hashed::new).collect();
        Ok(BootEvents {
            before: [].into(),
            after: ready_to_boot()
                .chain(start)
                .chain(hashed.iter().flat_map(Hashed::events))
                .chain(inner_kernel(&uki)?)
                .chain(linux(load_options.as_deref(), initrd(&uki, &hashed)))
                .collect(),
            exit_boot_services: ExitBootServices::Once,
        })
    }
}

fn check_stub(uki: &Uki) -> Result<(), BootError> {
    let stub = uki.stub().clone();
    match stub.major {
        0..256 => Err(BootError::OldStub(stub)),
        256..=260 => Ok(()),
        261.. => Err(BootError::UnpredictableStub(stub)),
    }
}

impl<'a> Hashed<'a> {
    fn new(section: &'a UkiSection<'a>) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(section.data);
        Self { section, hasher }
    }

    /// What systemd-stub measures: the name with its NUL, then the contents.
    fn events(&self) -> [Event; 2] {
        let name = self.section.name;
        let measured = |subject, digests| event(11, EventType::IPL, subject, digests);
        [
            measured(Subject::SectionName(name.into()), Digests::of([name, "\0"].concat())),
            measured(Subject::Section(name.into()), self.hasher.clone().finish()),
        ]
    }
}

fn inner_kernel(uki: &Uki) -> Result<Option<Event>, BootError> {
    let bytes = uki.section(".linux").unwrap_or_default();
    let kernel = Kernel::read(bytes).map_err(KernelError::from)?;
    if !kernel.measures() {
        return Err(KernelError::MeasuresNothing.into());
    }
    let pe = Pe::read(bytes).map_err(KernelError::from)?;
    let measured = uki.inner_kernel()? == InnerKernel::Firmware;
    Ok(measured.then(|| application(Subject::Kernel, pe.authenticode())))
}

/// What the stub hands over as files in `/.extra`, in its order, and the first version that does.
const FILES: [(&str, &str, u32); 3] = [
    (".pcrsig", "tpm2-pcr-signature.json", 252),
    (".pcrpkey", "tpm2-pcr-public-key.pem", 252),
    (".osrel", "os-release", 257),
];

/// Returns the digests of what the kernel gets as initrd, where it gets one: `.ucode`, `.initrd` and an archive for
/// each file, each filled up to four bytes; an `.initrd` alone is handed over as it is.
fn initrd(uki: &Uki, hashed: &[Hashed<'_>]) -> Option<Digests> {
    let of_name = |name| hashed.iter().find(|hashed| hashed.section.name == name);
    let mut images = [".ucode", ".initrd"].into_iter().filter_map(of_name);
    let known = FILES.into_iter().filter(|(_, _, since)| uki.stub().major >= *since);
    let files: Vec<_> = known
        .filter_map(|(section, name, _)| Some((name, uki.section(section)?)))
        .collect();
    let first = images.next().map(|image| image.hasher.clone());
    let rest: Vec<_> = images.map(|image| image.section.data).collect();
    if rest.is_empty() && files.is_empty() {
        return first.map(Hasher::finish);
    }
    let mut hasher = first.unwrap_or_default();
    cpio::pad(&mut hasher);
    rest.into_iter().for_each(|image| cpio::padded(image, &mut hasher));
    files
        .into_iter()
        .for_each(|(name, data)| cpio::archive(name, data, &mut hasher));
    Some(hasher.finish())
}
