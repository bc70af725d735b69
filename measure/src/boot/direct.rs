//! Direct boot: the VMM hands kernel, initrd and command line to the firmware.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{
    BootError, BootEvents, ExitBootServices, InitrdArgument, KernelError, application, cmdline, linux, ready_to_boot,
};
use crate::event_log::{Digests, Hasher, Subject};
use crate::linux::Kernel;
use crate::pe::Pe;

/// A boot of a kernel that QEMU was given with `-kernel`, `-initrd` and `-append`, without a shim.
#[derive(Clone, Copy, Debug)]
pub struct DirectBoot<'a> {
    /// As firmware gets it: [`KernelImage::authenticode`].
    pub kernel: Digests,
    /// An empty one is none.
    pub initrd: Option<Initrd>,
    /// Exactly as QEMU is given it: a space at either end counts.
    pub cmdline: &'a str,
    /// Has no effect without an initrd.
    pub initrd_argument: InitrdArgument,
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

    const fn is_there(&self) -> bool {
        self.size > 0
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

    /// Returns the digests of the PE image that firmware gets where QEMU is given `kernel`, a whole file, with this
    /// initrd and command line.
    ///
    /// # Errors
    ///
    /// The kernel is none that measures its command line and initrd, or QEMU would not fill in its setup header as
    /// expected.
    pub fn authenticode(self, kernel: &[u8], initrd: Option<Initrd>, cmdline: &str) -> Result<Digests, KernelError> {
        let kernel = Kernel::read(kernel)?;
        if !kernel.measures() {
            return Err(KernelError::MeasuresNothing);
        }
        let image = match self {
            Self::AsIs => Cow::Borrowed(kernel.bytes()),
            // also where it is part of another word: QEMU looks for these four characters anywhere
            Self::PatchedByQemu { .. } if cmdline.contains("vga=") => return Err(KernelError::VideoMode),
            Self::PatchedByQemu { memory } => {
                let size = initrd.filter(Initrd::is_there).map(|initrd| initrd.size);
                Cow::Owned(kernel.patched_by_qemu(size, memory)?)
            }
        };
        Ok(Pe::read(&image)?.authenticode())
    }
}

/// From here on, q35 has 2 GiB below 4 GiB whatever the size of its memory: more changes nothing. In bytes.
const LOW_MEMORY: u64 = 0xb000_0000;

impl fmt::Display for KernelImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AsIs => f.pad("kernel as it is"),
            Self::PatchedByQemu { memory: LOW_MEMORY.. } => f.pad("kernel patched by QEMU, 2816 MiB of memory or more"),
            Self::PatchedByQemu { memory } => write!(f, "kernel patched by QEMU, {} MiB of memory", memory >> 20),
        }
    }
}

impl DirectBoot<'_> {
    /// Returns the events of PCRs 4, 5 and 9, and the separators of PCRs 0 to 6.
    ///
    /// # Errors
    ///
    /// The command line is not one that the kernel would get as it is.
    pub fn events(&self) -> Result<BootEvents, BootError> {
        let initrd = self.initrd.filter(Initrd::is_there);
        let initrd_argument = initrd.map(|_| self.initrd_argument);
        let load_options = cmdline::direct(self.cmdline, initrd_argument)?;
        let kernel = application(Subject::Kernel, self.kernel);
        let linux = linux(load_options.as_deref(), initrd.map(|initrd| initrd.digests));
        Ok(BootEvents {
            before: Vec::from([kernel]),
            after: ready_to_boot().chain(linux).collect(),
            exit_boot_services: ExitBootServices::Once,
        })
    }
}
