//! Release in, findings out: do its own files lead to what it says of itself?

use anyhow::{Context as _, Result};
use measure::verity::{BLOCK, Verity};
use measure::{ReadAt as _, Sha256};

use crate::model::Measurements;
use crate::model::artifacts::file;
use crate::model::measurements::Launch;
use crate::stage::finding::Finding;
use crate::stage::measure::Measured;
use crate::stage::on_disk::OnDisk;
use crate::world::files::{self, Opened};
use crate::world::parallel::both;

/// How much of an image a core reads at once, in bytes: a whole number of blocks of hashes, and no more than its cache
/// holds.
const PIECE: u64 = 1 << 18;

/// Computes the measurements of the release again, and the root hash of its root image, and returns what
/// differs from measurements.json and the command line.
pub fn recompute(release: &OnDisk) -> Vec<Finding> {
    let unmeasurable = |error: anyhow::Error| {
        let why = format!("{error:#}").replace(char::is_control, " ");
        vec![Finding::Unmeasurable { why }]
    };
    let (measured, roots) = both(|| measurements(release), || root_hashes(release));
    let [measured, roots] = [measured, roots].map(|found| found.unwrap_or_else(unmeasurable));
    [measured, roots].concat()
}

fn measurements(release: &OnDisk) -> Result<Vec<Finding>> {
    let text = release
        .text(file::MEASUREMENTS)
        .context("cannot read measurements.json")?;
    let said = Measurements::parse(&text)?.launches;
    let launches: Vec<Launch> = said.iter().map(|said| said.launch.clone()).collect();
    let computed = Measured::read(&launches, release)?.measure(launches)?.launches;
    let pairs = said.iter().zip(&computed).filter(|(said, computed)| said != computed);
    let finding = |said: &crate::model::measurements::Measurement| Finding::MeasurementsDiffer {
        launch: said.launch.to_string(),
    };
    Ok(pairs.map(|(said, _)| finding(said)).collect())
}

/// Those of the root and of the volumes.
fn root_hashes(release: &OnDisk) -> Result<Vec<Finding>> {
    let command_line = release
        .text(file::COMMAND_LINE)
        .context("cannot read the command line")?;
    let root = command_line.split(' ').find_map(|word| word.strip_prefix("roothash="));
    let mut images = vec![(file::ROOT.to_owned(), file::VERITY.to_owned(), root)];
    for volume in release.volumes() {
        images.push((volume.image(), volume.verity(), volume.root_hash(&command_line)));
    }
    let findings = images.into_iter().map(|(image, verity, wanted)| {
        let (found, wanted) = (root_hash(release, &image, &verity)?, wanted.unwrap_or_default());
        Ok((found.to_string() != wanted).then(|| Finding::RootHashDiffers {
            image,
            found,
            wanted: wanted.replace(char::is_control, " "),
        }))
    });
    findings.filter_map(Result::transpose).collect()
}

fn root_hash(release: &OnDisk, image: &str, verity: &str) -> Result<Sha256> {
    let open = |name: &str| release.file(name).with_context(|| format!("cannot open {name}"));
    let (tree, data) = (open(verity)?, open(image)?);
    let mut superblock = [0; 512];
    tree.read_at(0, &mut superblock)?;
    compute(&Verity::read(&superblock)?, &data)
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
    verity.root(digests.concat()).context("the image is empty")
}

const _: () = assert!(PIECE.is_multiple_of(BLOCK as u64));

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::image::verity;

    /// Writes an image and its tree, and returns the root hash.
    fn image(folder: &Path, [image, tree]: [&str; 2], content: &[u8]) -> Sha256 {
        fs::write(folder.join(image), content).unwrap();
        let data = File::open(folder.join(image)).unwrap();
        let mut out = File::create(folder.join(tree)).unwrap();
        verity::write_verity(&data, content.len() as u64, &[1; 32], Uuid::from_u128(1), &mut out).unwrap()
    }

    #[test]
    fn attack_another_volume_beside_the_root_hash_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        const VOLUME: [&str; 2] = ["volume-model.erofs", "volume-model.verity"];
        let root = image(folder, [file::ROOT, file::VERITY], &[1; 8192]);
        let model = image(folder, VOLUME, &[2; 8192]);
        let line = format!("ro roothash={root} systemd.setenv=VOLUME_MODEL={model}");
        fs::write(folder.join(file::COMMAND_LINE), &line).unwrap();
        assert_eq!(root_hashes(&OnDisk::open(folder).unwrap()).unwrap(), []);
        let found = image(folder, VOLUME, &[3; 8192]);
        let differs = |wanted: String| Finding::RootHashDiffers {
            image: VOLUME[0].into(),
            found,
            wanted,
        };
        assert_eq!(
            root_hashes(&OnDisk::open(folder).unwrap()).unwrap(),
            [differs(model.to_string())]
        );
        fs::write(folder.join(file::COMMAND_LINE), format!("ro roothash={root}")).unwrap();
        assert_eq!(
            root_hashes(&OnDisk::open(folder).unwrap()).unwrap(),
            [differs(String::new())]
        );
    }
}
