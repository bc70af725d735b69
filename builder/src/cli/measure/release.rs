//! `begat measure RELEASE`: the values of a release, computed again from its files.

use std::path::Path;

use anyhow::Result;

use super::{files, print_json};
use crate::mend::{Exit, OrMend as _, Told};
use crate::model::Measurements;
use crate::model::file;
use crate::model::measurements::{Launch, Measurement};
use crate::stage::measure::Measured;
use crate::stage::on_disk::OnDisk;

/// Computes what every launch of a release will report, prints it, and compares it with what the release says.
pub(super) fn run(folder: &Path, json: bool) -> Result<()> {
    let release = OnDisk::open(folder)?;
    let problem = format!("cannot read {} of {}", file::MEASUREMENTS, folder.display());
    let text = release
        .text(file::MEASUREMENTS)
        .or_mend(Exit::Usage, problem, "name the folder of a release")?;
    let said = Measurements::parse(&text)?;
    let launches: Vec<Launch> = said
        .launches
        .iter()
        .map(|measurement| measurement.launch.clone())
        .collect();
    let computed = Measured::read(&launches, &release)?.measure(launches)?;
    match json {
        true => print_json(&computed)?,
        false => computed.launches.iter().for_each(show),
    }
    let pairs = said.launches.iter().zip(&computed.launches);
    let differing: Vec<_> = pairs.filter(|(said, computed)| said != computed).collect();
    for (said, _) in &differing {
        eprintln!("differs from measurements.json: {}", said.launch);
    }
    if differing.is_empty() {
        return Ok(());
    }
    Err(Told(Exit::No).into())
}

fn show(measurement: &Measurement) {
    println!("{}", measurement.launch);
    measurement.values.iter().for_each(files::show);
}
