//! Two releases: which files, packages and words of the command line make their values differ.

use std::collections::{BTreeMap, BTreeSet};

use measure::Sha256;

use super::{Difference, Explanation, Release, files};
use crate::model::Lock;
use crate::model::artifacts::file;
use crate::model::lock::Tree;
use crate::model::measurements::{Measurement, Value};
use crate::model::release::FileName;
use crate::model::volume::Name;

/// Names every file that differs and why, then every value that does.
pub(super) fn explain(old: &Release, new: &Release) -> Explanation {
    let mut differences = changed_files(old, new);
    differences.extend(words(&old.command_line, &new.command_line));
    differences.extend(packages(&old.lock, &new.lock));
    differences.extend(payloads(&old.lock, &new.lock));
    differences.extend(values(old, new));
    Explanation {
        compared: format!("{} with {}", old.manifest.digest(), new.manifest.digest()),
        findings: Vec::new(),
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
    let of_volume = |file: &&str| Name::of_image(file).or_else(|| Name::of_verity(file)).is_some();
    let files = [old, new].map(|release| release.manifest.files.keys().map(FileName::as_str));
    let volumes: BTreeSet<&str> = files.into_iter().flatten().filter(of_volume).collect();
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
    let names = firmware.into_iter().chain(artifacts).chain(volumes).filter(differs);
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

/// The packages of which only one of them has this version in a tree.
fn packages(old: &Lock, new: &Lock) -> Vec<Difference> {
    let (old, new) = (versions(old), versions(new));
    let mut changes = BTreeMap::<_, Vec<String>>::new();
    for place in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let change = (old.get(place), new.get(place));
        if change.0 != change.1 {
            let trees = changes.entry((place.0, place.1, change)).or_default();
            trees.push(format!("{:?}", place.2).to_lowercase());
        }
    }
    let changes = changes.into_iter().map(|((name, _, (old, new)), trees)| {
        let version = |package: Option<&(&str, Sha256)>| package.map_or("absent", |(version, _)| version).to_owned();
        let (old, new) = (version(old), version(new));
        about(
            format!("package {name} ({}): {old} → {new}", trees.join(", ")),
            BTreeSet::new(),
        )
    });
    changes.collect()
}

/// Name, architecture and tree of a package.
type Place<'a> = (&'a str, &'a str, Tree);

/// The version of each package in each tree, with its digest.
fn versions(lock: &Lock) -> BTreeMap<Place<'_>, (&str, Sha256)> {
    let packages = lock.package.iter().flat_map(|package| {
        let place = |tree: &Tree| (package.name.as_str(), package.architecture.as_str(), *tree);
        let version = (package.version.as_str(), package.sha256);
        package.why.keys().map(move |tree| (place(tree), version))
    });
    packages.collect()
}

/// The payloads that only one of them has, or has otherwise, and what it compiles them from.
fn payloads(old: &Lock, new: &Lock) -> Vec<Difference> {
    let (old, new) = (inputs(old), inputs(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let differing = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
    let digest = |inputs: &BTreeMap<String, Sha256>, name: &String| {
        inputs
            .get(name)
            .map_or_else(|| "absent".into(), |sha256| sha256.to_string())
    };
    let difference = |name: &String| {
        about(
            format!("{name}: {} → {}", digest(&old, name), digest(&new, name)),
            BTreeSet::new(),
        )
    };
    differing.map(difference).collect()
}

/// Payloads, their sources, and the crates that are in them.
fn inputs(lock: &Lock) -> BTreeMap<String, Sha256> {
    let inputs = lock.payload.iter().flat_map(|payload| {
        let name = &payload.name;
        let itself = (format!("payload {name} {}", payload.version), payload.sha256);
        let compiled = payload.compiled.iter();
        let source = compiled
            .clone()
            .map(move |it| (format!("source of {name}"), it.source.sha256));
        let crates = compiled.flat_map(|it| &it.crates).filter(|one| one.linked);
        let crates = crates.map(move |one| (format!("crate {} {} in {name}", one.name, one.version), one.sha256));
        [itself].into_iter().chain(source).chain(crates)
    });
    inputs.collect()
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
