//! Whole releases with lies in them, each under a manifest that fits: `fuzz-releases SECONDS [SEED]`. None may be accepted
//! but what is the release itself.

#[path = "../../../whole/mod.rs"]
#[expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]
mod whole;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fuzz::releases::{Base, Figures, Random};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().context("fuzz-releases SECONDS [SEED]")?.parse()?;
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory)?,
        false => tempfile::tempdir()?,
    };
    whole::publish(&place.path().join("whole"));
    let base = Base::read(place.path())?;
    let mut random = Random(seed);
    let (mut figures, start) = (Figures::default(), Instant::now());
    let mut told = start;
    while start.elapsed() < Duration::from_secs(seconds) {
        base.attack(&mut random, &mut figures)?;
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            eprintln!("{figures}");
        }
    }
    println!("{figures}");
    ensure!(figures.lies.is_empty(), "some lies were accepted");
    Ok(())
}
