//! A report or a quote: which launch it is of, or what differs from the nearest one.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use measure::event_log::Digests;
use measure::snp::{self, CpuSignature, DirectKernel, GuestFeatures};
use measure::{Sha256, Sha384};

use super::{Difference, Explanation, Ovmf, Release, files};
use crate::mend::Exit;
use crate::model::artifacts::file;
use crate::model::measurements::{EXECUTABLES, Measurement, Platform, Quantity};

/// Names the launch that has this digest; where none has, the near launch that does.
pub(super) fn explain(release: &Release, observed: Sha384) -> Result<Explanation> {
    let launches = || {
        let launches = release.measurements.launches.iter();
        launches.filter(|measurement| matches!(measurement.launch.platform, Platform::Snp { .. }))
    };
    let has = |measurement: &&Measurement| {
        let mut values = measurement.of(Quantity::LaunchDigest);
        values.any(|value| value.digests.sha384 == Some(observed))
    };
    if let Some(measurement) = launches().find(has) {
        return Ok(Explanation {
            compared: measurement.launch.to_string(),
            findings: Vec::new(),
            differences: Vec::new(),
            events: Vec::new(),
        });
    }
    let mut nearest: Option<Explanation> = None;
    for measurement in launches() {
        let differences = near(release, measurement, observed)?;
        let none_is_near = differences.iter().any(|difference| !difference.files.is_empty());
        if nearest
            .as_ref()
            .is_none_or(|nearest| differences.len() < nearest.differences.len())
        {
            nearest = Some(Explanation {
                compared: measurement.launch.to_string(),
                findings: Vec::new(),
                differences,
                events: Vec::new(),
            });
        }
        if none_is_near {
            break; // the search would end the same way from every launch of this firmware
        }
    }
    nearest.ok_or_else(no_launch)
}

/// What differs between a launch and the one that has this digest.
fn near(release: &Release, measurement: &Measurement, observed: Sha384) -> Result<Vec<Difference>> {
    let firmware = &measurement.launch.firmware;
    let name = firmware.name.as_str();
    let bytes = release.on_disk.bytes(name);
    let bytes = bytes.with_context(|| format!("cannot read {name}"))?;
    let image = Ovmf::read(&bytes)?;
    let found = expected(release, &measurement.launch.platform)?.search(&image, observed)?;
    let files = files(&EXECUTABLES.into(), firmware);
    let other = || {
        vec![Difference {
            what: "no near launch has this digest: another firmware, kernel, initrd or command line was started".into(),
            files,
            varies_with: BTreeSet::new(),
        }]
    };
    let difference = |difference: snp::Difference| Difference {
        what: difference.to_string(),
        files: BTreeSet::new(),
        varies_with: BTreeSet::new(),
    };
    Ok(found.map_or_else(other, |differences| differences.into_iter().map(difference).collect()))
}

fn expected<'a>(release: &'a Release, platform: &Platform) -> Result<snp::Launch<'a>> {
    let Platform::Snp {
        vcpus,
        vcpu_type,
        guest_features,
        ..
    } = platform
    else {
        return Err(no_launch());
    };
    let cpu: CpuSignature = vcpu_type.parse()?;
    Ok(snp::Launch {
        vmm: snp::Vmm::Qemu { cpu },
        vcpus: *vcpus,
        features: GuestFeatures::new(*guest_features),
        kernel: Some(DirectKernel {
            kernel: hash(release, file::KERNEL)?,
            initrd: Some(hash(release, file::INITRD)?),
            cmdline: &release.command_line,
        }),
    })
}

fn hash(release: &Release, name: &str) -> Result<Sha256> {
    let mut files = release.manifest.files.iter();
    let stamp = files.find(|(file, _)| file.as_str() == name);
    Ok(stamp.with_context(|| format!("the release has no {name}"))?.1.sha256)
}

fn no_launch() -> anyhow::Error {
    Exit::Usage.because(
        "the release has no launch on the platform of this evidence",
        "add one to its recipe: [[launch]] platform = \"snp\" or \"tdx\"",
    )
}

/// Compares the values of a quote with those of the launch that has most of them.
pub(super) fn quote(release: &Release, values: &[(Quantity, Digests)]) -> Result<Explanation> {
    let launches = release.measurements.launches.iter();
    let tdx = launches.filter(|measurement| measurement.launch.platform == Platform::Tdx);
    let nearest = tdx
        .min_by_key(|measurement| differing(measurement, values).len())
        .ok_or_else(no_launch)?;
    Ok(Explanation {
        compared: nearest.launch.to_string(),
        findings: Vec::new(),
        differences: differing(nearest, values),
        events: Vec::new(),
    })
}

/// The values of a launch of which the quote has no case.
fn differing(measurement: &Measurement, values: &[(Quantity, Digests)]) -> Vec<Difference> {
    let differs = values.iter().filter_map(|(quantity, digests)| {
        let first = measurement.of(*quantity).next()?;
        let known = measurement.of(*quantity).any(|value| value.digests.agree(digests));
        (!known).then(|| Difference {
            what: format!("{quantity} is none of those predicted; its event log says which event differs"),
            files: files(&first.covers, &measurement.launch.firmware),
            varies_with: first.varies_with.clone(),
        })
    });
    differs.collect()
}
