//! Two releases: which files, packages and words of the command line make their values differ.

use std::collections::{BTreeMap, BTreeSet};

use super::{Difference, Explanation, Release, files};
use crate::model::Lock;
use crate::model::artifacts::file;
use crate::model::measurements::{Measurement, Value};

/// Names every file that differs and why, then every value that does.
pub(super) fn explain(old: &Release, new: &Release) -> Explanation {
    let mut differences = changed_files(old, new);
    differences.extend(words(&old.command_line, &new.command_line));
    differences.extend(packages(&old.lock, &new.lock));
    differences.extend(values(old, new));
    Explanation {
        compared: format!("{} with {}", old.manifest.digest(), new.manifest.digest()),
        differences,
        events: Vec::new(),
    }
}

/// The artifacts that differ; the documents of a release follow from them.
fn changed_files(old: &Release, new: &Release) -> Vec<Difference> {
    let mut firmware: BTreeSet<&str> = BTreeSet::new();
    for release in [old, new] {
        firmware.extend(
            release
                .measurements
                .launches
                .iter()
                .map(|it| it.launch.firmware.name.as_str()),
        );
    }
    let artifacts = [
        file::KERNEL,
        file::INITRD,
        file::ROOT,
        file::VERITY,
        file::COMMAND_LINE,
        file::UKI,
        file::DISK,
    ];
    let stamp = |release: &Release, name: &str| {
        let mut files = release.manifest.files.iter();
        files.find(|(file, _)| file.as_str() == name).map(|(_, stamp)| *stamp)
    };
    let differs = |name: &&str| stamp(old, name) != stamp(new, name);
    let names = firmware.into_iter().chain(artifacts).filter(differs);
    let difference = |name: &str| {
        let digest = |release| stamp(release, name).map_or_else(|| "absent".into(), |stamp| stamp.sha256.to_string());
        about(
            format!("{name}: {} → {}", digest(old), digest(new)),
            [name.to_owned()].into(),
        )
    };
    names.map(difference).collect()
}

/// The words of the command line that only one of them has.
fn words(old: &str, new: &str) -> Option<Difference> {
    let set = |line: &str| line.split(' ').map(str::to_owned).collect::<BTreeSet<_>>();
    let (old, new) = (set(old), set(new));
    let gone = old.difference(&new).map(|word| format!("−{word}"));
    let come = new.difference(&old).map(|word| format!("+{word}"));
    let changes: Vec<String> = gone.chain(come).collect();
    let what = format!("command line: {}", changes.join(" "));
    (!changes.is_empty()).then(|| about(what, [file::COMMAND_LINE.to_owned()].into()))
}

/// The packages that only one of them has in this version, and what they go into.
fn packages(old: &Lock, new: &Lock) -> Vec<Difference> {
    let versions = |lock: &Lock| {
        let packages = lock.package.iter();
        let named = packages.map(|package| ((package.name.clone(), package.architecture.clone()), package.clone()));
        named.collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (versions(old), versions(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differing = names.into_iter().filter(|name| {
        let digest = |packages: &BTreeMap<_, crate::model::lock::Package>| packages.get(*name).map(|it| it.sha256);
        digest(&old) != digest(&new)
    });
    let difference = |name: &(String, String)| {
        let version = |packages: &BTreeMap<_, crate::model::lock::Package>| {
            packages
                .get(name)
                .map_or_else(|| "absent".into(), |package| package.version.clone())
        };
        let package = new.get(name).or_else(|| old.get(name));
        let trees: Vec<_> = package
            .iter()
            .flat_map(|package| package.why.keys())
            .map(|tree| format!("{tree:?}"))
            .collect();
        let trees = trees.join(", ").to_lowercase();
        about(
            format!("package {} ({trees}): {} → {}", name.0, version(&old), version(&new)),
            BTreeSet::new(),
        )
    };
    differing.map(difference).collect()
}

/// The values of launches that both have, where they differ.
fn values(old: &Release, new: &Release) -> Vec<Difference> {
    let mut differences = Vec::new();
    for measurement in &new.measurements.launches {
        let same = |other: &&Measurement| {
            other.launch.platform == measurement.launch.platform
                && other.launch.boot == measurement.launch.boot
                && other.launch.firmware.name == measurement.launch.firmware.name
        };
        let Some(before) = old.measurements.launches.iter().find(same) else {
            differences.push(about(
                format!("{}: only one of them has it", measurement.launch),
                BTreeSet::new(),
            ));
            continue;
        };
        for value in &measurement.values {
            let matching = |other: &&Value| other.quantity == value.quantity && other.case == value.case;
            let known = before.values.iter().find(matching);
            if known.is_none_or(|known| known.digests != value.digests) {
                let what = format!("{}: {} differs", measurement.launch, value.quantity);
                differences.push(Difference {
                    what,
                    files: files(&value.covers, &measurement.launch.firmware),
                    varies_with: BTreeSet::new(),
                });
            }
        }
    }
    differences
}

fn about(what: String, files: BTreeSet<String>) -> Difference {
    Difference {
        what,
        files,
        varies_with: BTreeSet::new(),
    }
}
