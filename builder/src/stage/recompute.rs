//! Release in, findings out: do its own files lead to what it says of itself?

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use measure::verity::{BLOCK, Verity};

use crate::model::Measurements;
use crate::model::artifacts::file;
use crate::model::measurements::Launch;
use crate::stage::finding::Finding;
use crate::stage::measure::Measured;
use crate::world::files::{self, Opened};
use measure::ReadAt as _;

/// How much of the root image one core reads at once, in bytes: a whole number of hash blocks' worth.
const PIECE: u64 = 4 << 20;

/// Computes the measurements of the release in `folder` again, and the root hash of its root image, and returns what
/// differs from measurements.json and the command line.
pub fn recompute(folder: &Path) -> Vec<Finding> {
    let unmeasurable = |error: anyhow::Error| {
        let why = format!("{error:#}").replace(char::is_control, " ");
        vec![Finding::Unmeasurable { why }]
    };
    let measured = measurements(folder).unwrap_or_else(unmeasurable);
    let root = root_hash(folder).map(|finding| finding.into_iter().collect());
    [measured, root.unwrap_or_else(unmeasurable)].concat()
}

fn measurements(folder: &Path) -> Result<Vec<Finding>> {
    let text = fs::read_to_string(folder.join("measurements.json")).context("cannot read measurements.json")?;
    let said = Measurements::parse(&text)?.launches;
    let launches: Vec<Launch> = said.iter().map(|said| said.launch.clone()).collect();
    let computed = Measured::read(&launches, folder)?.measure(launches)?.launches;
    let pairs = said.iter().zip(&computed).filter(|(said, computed)| said != computed);
    let finding = |said: &crate::model::measurements::Measurement| Finding::MeasurementsDiffer {
        launch: said.launch.to_string(),
    };
    Ok(pairs.map(|(said, _)| finding(said)).collect())
}

fn root_hash(folder: &Path) -> Result<Option<Finding>> {
    let command_line = fs::read_to_string(folder.join(file::COMMAND_LINE)).context("cannot read the command line")?;
    let mut words = command_line.split(' ');
    let wanted = words
        .find_map(|word| word.strip_prefix("roothash="))
        .unwrap_or_default();
    let open = |name: &str| files::open_at(&folder.join(name)).with_context(|| format!("cannot open {name}"));
    let (tree, data) = (open(file::VERITY)?, open(file::ROOT)?);
    let mut superblock = [0; 512];
    tree.read_at(0, &mut superblock)?;
    let found = compute(&Verity::read(&superblock)?, &data)?;
    let finding = |found| Finding::RootHashDiffers {
        found,
        wanted: wanted.replace(char::is_control, " "),
    };
    Ok((found.to_string() != wanted).then(|| finding(found)))
}

/// Each core hashes its own pieces of the data.
fn compute(verity: &Verity, data: &Opened) -> Result<Sha256> {
    let size = verity.size().filter(|size| *size == data.size());
    let size = size.context("the hash tree is not of an image of this size")?;
    let pieces: Vec<u64> = (0..size).step_by(PIECE as usize).collect();
    let digests = files::for_each(&pieces, |start| {
        let mut piece = vec![0; usize::try_from(PIECE.min(size - start))?];
        data.read_at(*start, &mut piece)?;
        anyhow::Ok(verity.digests(&piece))
    });
    let digests: Vec<Vec<u8>> = digests.into_iter().collect::<Result<_>>()?;
    verity.root(digests.concat()).context("the root image is empty")
}

const _: () = assert!(PIECE.is_multiple_of(BLOCK as u64));
