//! Direct boot: the VMM hands kernel, initrd and command line to the firmware.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{
    BootError, BootEvents, ExitBootServices, InitrdArgument, KernelError, application, cmdline, exit_boot_services,
    linux, ready_to_boot,
};
use crate::event_log::{Digests, Hasher, Subject};
use crate::linux::Kernel;
use crate::pe::Pe;

/// A boot of a kernel that QEMU was given with `-kernel`, `-initrd` and `-append`, without a shim.
#[derive(Clone, Copy, Debug)]
pub struct DirectBoot<'a> {
    /// The whole file.
    pub kernel: &'a [u8],
    pub kernel_image: KernelImage,
    /// An empty one is none.
    pub initrd: Option<Initrd>,
    /// Exactly as QEMU is given it: a space at either end counts.
    pub cmdline: &'a str,
    /// Has no effect without an initrd.
    pub initrd_argument: InitrdArgument,
    pub exit_boot_services: ExitBootServices,
}

/// What is measured of an initrd that need not be held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Initrd {
    /// Of the whole file.
    pub digests: Digests,
    /// Of the file, in bytes.
    pub size: u64,
}

impl Initrd {
    /// Returns the initrd whose bytes went through `hasher`.
    pub fn new(hasher: Hasher) -> Self {
        let size = hasher.length();
        let digests = hasher.finish();
        Self { digests, size }
    }
}

/// The kernel as firmware gets it from QEMU.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelImage {
    /// As the file: edk2-stable202502 and newer with QEMU 10.0 and newer, and any with QEMU 10.2 and newer in a
    /// confidential VM.
    AsIs,
    /// With the setup header filled in for a guest with `memory` bytes: all others.
    PatchedByQemu { memory: u64 },
}

impl KernelImage {
    /// Returns both, where the versions of QEMU and of the firmware are not known, for a guest of `memory` bytes.
    pub const fn candidates(memory: u64) -> [Self; 2] {
        [Self::AsIs, Self::PatchedByQemu { memory }]
    }
}

impl fmt::Display for KernelImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsIs => f.pad("kernel as it is"),
            Self::PatchedByQemu { memory } => write!(f, "kernel patched by QEMU for {memory} bytes of memory"),
        }
    }
}

impl DirectBoot<'_> {
    /// Returns the events of PCRs 4, 5 and 9, and the separators of PCRs 0 to 6.
    ///
    /// # Errors
    ///
    /// The kernel is none that measures its command line and initrd, or the command line is not one that it would get
    /// as it is.
    pub fn events(&self) -> Result<BootEvents, BootError> {
        let initrd = self.initrd();
        let initrd_argument = initrd.map(|_| self.initrd_argument);
        let load_options = cmdline::direct(self.cmdline, initrd_argument)?;
        let kernel = application(Subject::Kernel, self.kernel_digests()?);
        let linux = linux(load_options.as_deref(), initrd.map(|initrd| initrd.digests));
        Ok(BootEvents {
            before: Vec::from([kernel]),
            after: ready_to_boot()
                .chain(linux)
                .chain(exit_boot_services(self.exit_boot_services))
                .collect(),
        })
    }

    fn initrd(&self) -> Option<Initrd> {
        self.initrd.filter(|initrd| initrd.size > 0)
    }

    fn kernel_digests(&self) -> Result<Digests, KernelError> {
        let kernel = Kernel::read(self.kernel)?;
        if !kernel.measures() {
            return Err(KernelError::MeasuresNothing);
        }
        let image = match self.kernel_image {
            KernelImage::AsIs => Cow::Borrowed(self.kernel),
            // also where it is part of another word: QEMU looks for these four characters anywhere
            KernelImage::PatchedByQemu { .. } if self.cmdline.contains("vga=") => return Err(KernelError::VideoMode),
            KernelImage::PatchedByQemu { memory } => {
                let size = self.initrd().map(|initrd| initrd.size);
                Cow::Owned(kernel.patched_by_qemu(size, memory)?)
            }
        };
        Ok(Pe::read(&image)?.authenticode())
    }
}
