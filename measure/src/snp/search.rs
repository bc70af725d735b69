//! Which near launch has the digest that a report shows, where it is not the one that was expected.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use super::{CpuSignature, GuestFeatures, KernelHashes, LaunchStep, PreVmsa, SnpError, Vmm, launch_steps};
use crate::ovmf::Ovmf;
use crate::{Sha256, Sha384};

/// Everything but the firmware that a launch digest depends on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Launch<'a> {
    pub vmm: Vmm,
    pub vcpus: NonZeroU32,
    pub features: GuestFeatures,
    /// What is started directly; nothing where the firmware boots from a disk.
    pub kernel: Option<DirectKernel<'a>>,
}

/// A kernel that the VMM hands to the firmware, with what goes with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirectKernel<'a> {
    /// SHA-256 of the file.
    pub kernel: Sha256,
    /// SHA-256 of the file.
    pub initrd: Option<Sha256>,
    /// Exactly as the VMM is given it.
    pub cmdline: &'a str,
}

/// One thing in which a launch is not the expected one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Difference {
    Vcpus {
        expected: NonZeroU32,
        found: NonZeroU32,
    },
    Vmm {
        expected: Vmm,
        found: Vmm,
    },
    Features {
        expected: GuestFeatures,
        found: GuestFeatures,
    },
    /// Nothing was started directly.
    NoKernel,
    NoInitrd,
    CommandLine {
        expected: String,
        found: String,
    },
}

impl Launch<'_> {
    /// Returns in what the launch of `image` that has the digest `observed` differs from this one: in nothing if it is
    /// this one; `None` if no near launch has that digest.
    ///
    /// Near are, in all combinations: 1 to 512 vCPUs, the feature words that are in use, every CPU model of QEMU and the
    /// other VMMs, no kernel, no initrd, and a command line that is empty, that has one blank or line feed more or less
    /// at one end, or none at either. For firmware as it is, all of them take less than a second.
    ///
    /// # Errors
    ///
    /// As [`pre_vmsa`](super::pre_vmsa) for this launch.
    pub fn search(&self, image: &Ovmf, observed: Sha384) -> Result<Option<Vec<Difference>>, SnpError> {
        let teams = self.teams(image.sev_es_reset_address()?);
        let firmware = firmware_digest(image, self.vmm)?;
        for boot in self.boots() {
            for team in &teams {
                let steps = launch_steps(image, boot.hashes.as_ref(), team[0].vmm)?;
                let digest = steps[1..].iter().fold(firmware, |digest, step| step.extend(digest));
                let found = team.iter().find_map(|monitor| {
                    let vcpus = monitor.vcpus(digest, observed, self.most_vcpus())?;
                    Some(self.differences(monitor, vcpus))
                });
                if let Some(differences) = found {
                    return Ok(Some(differences.chain(boot.differences).collect()));
                }
            }
        }
        Ok(None)
    }

    /// Returns every VMM with every feature word, those in one team that measure the same before the vCPUs.
    fn teams(&self, ap: u32) -> Vec<Vec<Monitor>> {
        let models = CpuSignature::named().map(|(_, cpu)| Vmm::Qemu { cpu });
        let mut qemu: Vec<Vmm> = models.collect();
        qemu.extend(matches!(self.vmm, Vmm::Qemu { .. }).then_some(self.vmm));
        qemu.dedup();
        let words: BTreeSet<GuestFeatures> = FEATURES
            .map(GuestFeatures::new)
            .into_iter()
            .chain([self.features])
            .collect();
        let team = |vmms: Vec<Vmm>| {
            let monitors = vmms
                .iter()
                .flat_map(|vmm| words.iter().map(|word| Monitor::new(*vmm, *word, ap)));
            monitors.collect()
        };
        [qemu, vec![Vmm::Ec2], vec![Vmm::Gce]].map(team).into()
    }

    /// Returns what may have been started: first what was expected.
    fn boots(&self) -> Vec<Boot> {
        let Some(kernel) = self.kernel else {
            return vec![Boot::default()];
        };
        let initrds: &[_] = if kernel.initrd.is_some() {
            &[kernel.initrd, None]
        } else {
            &[None]
        };
        let cmdlines = near(kernel.cmdline);
        let pairs = cmdlines
            .iter()
            .flat_map(|cmdline| initrds.iter().map(move |initrd| (cmdline, *initrd)));
        let boots = pairs.map(|(cmdline, initrd)| kernel.boot(initrd, cmdline));
        let nothing = Boot {
            hashes: None,
            differences: vec![Difference::NoKernel],
        };
        boots.chain([nothing]).collect()
    }

    fn differences(&self, monitor: &Monitor, vcpus: NonZeroU32) -> impl Iterator<Item = Difference> + use<> {
        let vcpus = (vcpus != self.vcpus).then_some(Difference::Vcpus {
            expected: self.vcpus,
            found: vcpus,
        });
        let vmm = (monitor.vmm != self.vmm).then_some(Difference::Vmm {
            expected: self.vmm,
            found: monitor.vmm,
        });
        let features = (monitor.features != self.features).then_some(Difference::Features {
            expected: self.features,
            found: monitor.features,
        });
        [vcpus, vmm, features].into_iter().flatten()
    }

    fn most_vcpus(&self) -> u32 {
        self.vcpus.get().clamp(512, 4096)
    }
}

impl DirectKernel<'_> {
    /// Returns a start of the kernel with what may have gone with it.
    fn boot(&self, initrd: Option<Sha256>, cmdline: &str) -> Boot {
        let command_line = (cmdline != self.cmdline).then(|| Difference::CommandLine {
            expected: self.cmdline.into(),
            found: cmdline.into(),
        });
        let no_initrd = (initrd != self.initrd).then_some(Difference::NoInitrd);
        Boot {
            hashes: Some(KernelHashes::new(self.kernel, initrd, cmdline)),
            differences: command_line.into_iter().chain(no_initrd).collect(),
        }
    }
}

/// Feature words in use. SNP alone; none; with reflected #VC, as under a paravisor; with restricted injection; with
/// DEBUG_SWAP, without SNP and with; with SECURE_TSC; with both.
const FEATURES: [u64; 8] = [0x1, 0x0, 0x5, 0x9, 0x20, 0x21, 0x201, 0x221];

/// What may have been started.
#[derive(Default)]
struct Boot {
    hashes: Option<KernelHashes>,
    differences: Vec<Difference>,
}

/// A VMM, and the SHA-384 of the VMSAs it makes.
struct Monitor {
    vmm: Vmm,
    features: GuestFeatures,
    bsp: Sha384,
    ap: Sha384,
}

impl Monitor {
    fn new(vmm: Vmm, features: GuestFeatures, ap: u32) -> Self {
        let PreVmsa { bsp, ap, .. } = PreVmsa::new(Sha384::ZERO, ap, vmm, features);
        Self { vmm, features, bsp, ap }
    }

    /// Returns with how many vCPUs, up to `most`, the launch digest becomes `observed`, from `digest` before them.
    fn vcpus(&self, digest: Sha384, observed: Sha384, most: u32) -> Option<NonZeroU32> {
        let (first, other) = (
            LaunchStep::Vmsa { digest: self.bsp },
            LaunchStep::Vmsa { digest: self.ap },
        );
        let mut digest = first.extend(digest);
        for vcpus in 1..=most {
            if digest == observed {
                return NonZeroU32::new(vcpus);
            }
            digest = other.extend(digest);
        }
        None
    }
}

/// Returns the launch digest after the image alone, which every launch begins with.
fn firmware_digest(image: &Ovmf, vmm: Vmm) -> Result<Sha384, SnpError> {
    let steps = launch_steps(image, None, vmm)?;
    Ok(steps[0].extend(Sha384::ZERO))
}

/// Returns the command line, and those that it may have become on its way to the VMM.
fn near(cmdline: &str) -> Vec<String> {
    const BLANKS: [char; 2] = [' ', '\n'];
    let mut near = vec![cmdline.into()];
    near.extend(BLANKS.map(|blank| format!("{cmdline}{blank}")));
    near.extend(BLANKS.map(|blank| format!("{blank}{cmdline}")));
    let shorter = [cmdline.strip_suffix(BLANKS), cmdline.strip_prefix(BLANKS)];
    near.extend(
        shorter
            .into_iter()
            .flatten()
            .chain([cmdline.trim(), ""])
            .map(String::from),
    );
    let mut seen = BTreeSet::new();
    near.retain(|cmdline| seen.insert(cmdline.clone()));
    near
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpus { expected, found } => write!(f, "{found} vCPUs, expected {expected}"),
            Self::Vmm { expected, found } => write!(f, "started by {found}, expected {expected}"),
            Self::Features { expected, found } => write!(f, "guest features {found}, expected {expected}"),
            Self::NoKernel => f.pad("no kernel handed to the firmware, expected one"),
            Self::NoInitrd => f.pad("no initrd, expected one"),
            Self::CommandLine { expected, found } => write!(f, "command line {found:?}, expected {expected:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ovmf::tests::Image;
    use crate::snp::pre_vmsa;
    use std::string::ToString as _;

    const EXPECTED: Launch = Launch {
        vmm: Vmm::Qemu {
            cpu: CpuSignature::new(0x80_0f12),
        },
        vcpus: NonZeroU32::new(2).unwrap(),
        features: GuestFeatures::SNP_ACTIVE,
        kernel: Some(KERNEL),
    };

    const KERNEL: DirectKernel = DirectKernel {
        kernel: Sha256::ZERO,
        initrd: Some(Sha256::ZERO),
        cmdline: "panic=1",
    };

    /// Returns what is found where this launch was the real one.
    fn found(real: &Launch) -> Option<Vec<Difference>> {
        let image = Image::default().bytes();
        let image = Ovmf::read(&image).unwrap();
        let hashes = real
            .kernel
            .map(|it| KernelHashes::new(it.kernel, it.initrd, it.cmdline));
        let before = pre_vmsa(&image, hashes.as_ref(), real.vmm, real.features).unwrap();
        EXPECTED.search(&image, before.for_vcpus(real.vcpus)).unwrap()
    }

    fn text(real: &Launch) -> Option<Vec<String>> {
        found(real).map(|differences| differences.iter().map(Difference::to_string).collect())
    }

    #[test]
    fn the_expected_launch_differs_in_nothing() {
        assert_eq!(found(&EXPECTED), Some(vec![]));
    }

    #[test]
    fn a_launch_that_differs_in_one_thing_is_named() {
        let with = |kernel| Launch { kernel, ..EXPECTED };
        let cmdline = |cmdline| with(Some(DirectKernel { cmdline, ..KERNEL }));
        let initrd = |initrd| with(Some(DirectKernel { initrd, ..KERNEL }));
        let vmm = |vmm| Launch { vmm, ..EXPECTED };
        let features = |bits| Launch {
            features: GuestFeatures::new(bits),
            ..EXPECTED
        };
        let vcpus = |vcpus| Launch {
            vcpus: NonZeroU32::new(vcpus).unwrap(),
            ..EXPECTED
        };
        let cpu = "EPYC-Milan".parse().unwrap();
        for (real, difference) in [
            (vcpus(1), "1 vCPUs, expected 2"),
            (vcpus(512), "512 vCPUs, expected 2"),
            (features(0x21), "guest features 0x21, expected 0x1"),
            (features(0x0), "guest features 0x0, expected 0x1"),
            (vmm(Vmm::Ec2), "started by EC2, expected QEMU with CPU EPYC (0x800f12)"),
            (vmm(Vmm::Gce), "started by GCE, expected QEMU with CPU EPYC (0x800f12)"),
            (
                vmm(Vmm::Qemu { cpu }),
                "started by QEMU with CPU EPYC-Milan (0xa00f11), expected QEMU with CPU EPYC (0x800f12)",
            ),
            (with(None), "no kernel handed to the firmware, expected one"),
            (initrd(None), "no initrd, expected one"),
            (cmdline("panic=1 "), r#"command line "panic=1 ", expected "panic=1""#),
            (cmdline("panic=1\n"), r#"command line "panic=1\n", expected "panic=1""#),
            (cmdline(" panic=1"), r#"command line " panic=1", expected "panic=1""#),
            (cmdline(""), r#"command line "", expected "panic=1""#),
        ] {
            assert_eq!(text(&real), Some(vec![difference.into()]));
        }
    }

    #[test]
    fn differences_are_found_together() {
        let real = Launch {
            vmm: Vmm::Gce,
            vcpus: NonZeroU32::new(64).unwrap(),
            features: GuestFeatures::new(0x201),
            kernel: Some(DirectKernel {
                initrd: None,
                cmdline: "panic=1 ",
                ..KERNEL
            }),
        };
        assert_eq!(found(&real).unwrap().len(), 5);
    }

    #[test]
    fn what_is_not_near_is_not_found() {
        let kernel = |kernel| Launch {
            kernel: Some(kernel),
            ..EXPECTED
        };
        let other = Sha256::of("another");
        for real in [
            kernel(DirectKernel {
                kernel: other,
                ..KERNEL
            }),
            kernel(DirectKernel {
                initrd: Some(other),
                ..KERNEL
            }),
            kernel(DirectKernel {
                cmdline: "panic=2",
                ..KERNEL
            }),
            Launch {
                vcpus: NonZeroU32::new(513).unwrap(),
                ..EXPECTED
            },
        ] {
            assert_eq!(found(&real), None, "{real:?}");
        }
    }

    #[test]
    fn command_lines_lose_and_gain_blanks_at_their_ends() {
        assert_eq!(
            near(" a b\n"),
            [
                " a b\n", " a b\n ", " a b\n\n", "  a b\n", "\n a b\n", " a b", "a b\n", "a b", ""
            ]
        );
        assert_eq!(near(""), ["", " ", "\n"]);
    }
}
