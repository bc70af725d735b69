//! Tiles: how the hashes of the tree and the entries lie in files (C2SP tlog-tiles).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use measure::Sha256;

use super::tree;

/// How many hashes or entries a full tile has.
pub const WIDTH: usize = 256;

/// A file of hashes: `width` of them, side by side at height 8 × `level` of the tree, the first being that of number
/// `index` × 256.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tile {
    pub level: u8,
    pub index: u64,
    /// 1 to 256; fewer than 256 in the last one of a level.
    pub width: u16,
}

/// A file of entries: those whose hashes the tile of level 0 with the same index has.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bundle {
    pub index: u64,
    /// 1 to 256.
    pub width: u16,
}

/// Returns the tiles of a tree of `size` entries, sorted by level and index.
pub fn tiles(size: u64) -> Vec<Tile> {
    let (mut tiles, mut level, mut hashes) = (Vec::new(), 0, size);
    while hashes > 0 {
        tiles.extend(row(hashes).map(|(index, width)| Tile { level, index, width }));
        (level, hashes) = (level + 1, hashes / WIDTH as u64);
    }
    tiles
}

/// Returns index and width of each tile that holds so many hashes.
fn row(hashes: u64) -> impl Iterator<Item = (u64, u16)> {
    let (full, rest) = (hashes / WIDTH as u64, (hashes % WIDTH as u64) as u16);
    let full_tiles = (0..full).map(|index| (index, WIDTH as u16));
    full_tiles.chain((rest > 0).then_some((full, rest)))
}

/// Returns the tiles of a tree with these `leaves` and what is in each, except those that a tree of the first `old`
/// leaves has as well.
pub fn grown(leaves: &[Sha256], old: u64) -> Vec<(Tile, Vec<u8>)> {
    let known: BTreeSet<_> = tiles(old).into_iter().collect();
    let (mut grown, mut level, mut hashes) = (Vec::new(), 0, leaves.to_vec());
    while !hashes.is_empty() {
        let row = row(hashes.len() as u64).map(|(index, width)| Tile { level, index, width });
        let tiles = row.zip(hashes.chunks(WIDTH)).filter(|(tile, _)| !known.contains(tile));
        grown.extend(tiles.map(|(tile, hashes)| (tile, concatenated(hashes))));
        hashes = hashes.chunks_exact(WIDTH).map(tree::root).collect();
        level += 1;
    }
    grown
}

fn concatenated(hashes: &[Sha256]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.bytes()).collect()
}

impl Tile {
    /// Returns where it is in the folder of the log.
    pub fn path(&self) -> String {
        path(&self.level.to_string(), self.index, self.width)
    }

    /// Returns the tile whose path this is.
    pub fn at(path: &str) -> Option<Self> {
        let (level, index, width) = parse(path)?;
        let tile = Self {
            level: level.parse().ok()?,
            index,
            width,
        };
        (tile.path() == path).then_some(tile)
    }

    /// Returns how many entries a log has at least that has this tile.
    pub fn end(&self) -> u64 {
        let hashes = self
            .index
            .saturating_mul(WIDTH as u64)
            .saturating_add(self.width.into());
        (0..self.level).fold(hashes, |entries, _| entries.saturating_mul(WIDTH as u64))
    }
}

impl Bundle {
    /// Returns the files of so many entries.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        row(size).map(|(index, width)| Self { index, width })
    }

    /// Returns where it is in the folder of the log.
    pub fn path(&self) -> String {
        path("entries", self.index, self.width)
    }

    /// Returns the file of entries whose path this is.
    pub fn at(path: &str) -> Option<Self> {
        let (level, index, width) = parse(path)?;
        let bundle = Self { index, width };
        (level == "entries" && bundle.path() == path).then_some(bundle)
    }

    /// Returns the numbers of its entries.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        let first = self.index.saturating_mul(WIDTH as u64);
        first..first.saturating_add(self.width.into())
    }

    /// Returns the file of these entries, of which each must be shorter than 64 KiB.
    pub fn text<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend(u16::try_from(entry.len()).ok()?.to_be_bytes());
            bytes.extend(entry);
        }
        Some(bytes)
    }

    /// Returns the entries in the `bytes` of the file; nothing if they are not as many as it has.
    pub fn entries<'a>(&self, bytes: &'a [u8]) -> Option<Vec<&'a [u8]>> {
        let (mut entries, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let (size, behind) = rest.split_first_chunk()?;
            let (entry, behind) = behind.split_at_checked(u16::from_be_bytes(*size).into())?;
            entries.push(entry);
            rest = behind;
        }
        (entries.len() == usize::from(self.width)).then_some(entries)
    }
}

/// `tile/LEVEL/x001/x234/067.p/5`
fn path(level: &str, index: u64, width: u16) -> String {
    let mut digits = format!("{index:03}");
    while digits.len() % 3 > 0 {
        digits.insert(0, '0');
    }
    let mut path = format!("tile/{level}");
    for (at, three) in (0..digits.len()).step_by(3).map(|at| (at, &digits[at..at + 3])) {
        let last = at + 3 == digits.len();
        let _ = write!(path, "/{}{three}", if last { "" } else { "x" });
    }
    if usize::from(width) < WIDTH {
        let _ = write!(path, ".p/{width}");
    }
    path
}

/// The level, index and width that a path names; whether it is written as [`path`] does is not asked.
fn parse(path: &str) -> Option<(&str, u64, u16)> {
    let (level, rest) = path.strip_prefix("tile/")?.split_once('/')?;
    let (digits, width) = match rest.split_once(".p/") {
        Some((digits, width)) => (digits, width.parse().ok()?),
        None => (rest, WIDTH as u16),
    };
    let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
    (width > 0).then_some((level, digits.parse().ok()?, width))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The examples in C2SP tlog-tiles.
    #[test]
    fn tiles_are_those_of_the_specification() {
        let tile = |level, index, width| Tile { level, index, width };
        assert_eq!(tile(0, 1_234_067, 256).path(), "tile/0/x001/x234/067");
        let all = tiles(70_000);
        assert_eq!(
            all.iter().filter(|tile| tile.level == 0 && tile.width == 256).count(),
            273
        );
        let others: Vec<_> = all.iter().filter(|tile| tile.level > 0 || tile.width < 256).collect();
        assert_eq!(
            others,
            [&tile(0, 273, 112), &tile(1, 0, 256), &tile(1, 1, 17), &tile(2, 0, 1)]
        );
        assert_eq!(tiles(256), [tile(0, 0, 256), tile(1, 0, 1)]);
        assert_eq!(tiles(0), []);
        assert_eq!(tile(1, 1, 17).path(), "tile/1/001.p/17");
        let bundle = Bundle { index: 0, width: 5 };
        assert_eq!(bundle.path(), "tile/entries/000.p/5");
        assert_eq!((Bundle::at(&bundle.path()), bundle.numbers()), (Some(bundle), 0..5));
        for tile in all {
            assert_eq!(Tile::at(&tile.path()), Some(tile));
            assert!((1..=70_000).contains(&tile.end()), "{tile:?}");
        }
        assert_eq!(tile(1, 1, 17).end(), (256 + 17) * 256);
        assert_eq!(tile(255, u64::MAX, 1).end(), u64::MAX);
        for path in [
            "tile/0/0",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/00/000",
            "tile/entries/000/x",
            "tile/x/000",
            "000",
        ] {
            assert_eq!((Tile::at(path), Bundle::at(path)), (None, None), "{path}");
        }
    }

    #[test]
    fn a_bundle_has_the_lengths_of_its_entries() {
        let text = Bundle::text([&b"one"[..], b"", b"three"]).unwrap();
        assert_eq!(text, b"\0\x03one\0\0\0\x05three");
        let bundle = |width| Bundle { index: 0, width };
        assert_eq!(bundle(3).entries(&text), Some(vec![&b"one"[..], b"", b"three"]));
        assert_eq!(bundle(2).entries(&text), None);
        assert_eq!(bundle(3).entries(&text[..text.len() - 1]), None);
        assert_eq!(Bundle::text([&[0; 65_535][..]]).map(|text| text.len()), Some(65_537));
        assert_eq!(Bundle::text([&[0; 65_536][..]]), None);
    }

    #[test]
    fn a_tree_that_grew_has_all_its_tiles() {
        let leaves: Vec<_> = (0..700_u64).map(|at| tree::leaf(&at.to_be_bytes())).collect();
        for (old, new) in [
            (0, 1),
            (0, 700),
            (255, 256),
            (255, 257),
            (256, 512),
            (300, 301),
            (511, 513),
        ] {
            let mut had: BTreeSet<_> = tiles(old).into_iter().collect();
            let grown = grown(&leaves[..new], old);
            had.extend(grown.iter().map(|(tile, _)| *tile));
            assert!(
                tiles(new as u64).iter().all(|tile| had.contains(tile)),
                "{old} to {new}"
            );
            for (tile, bytes) in grown {
                assert_eq!(bytes.len(), usize::from(tile.width) * 32);
            }
        }
        // the one hash of level 1 is that of the first 256 leaves
        let (_, bytes) = &grown(&leaves[..256], 0)[1];
        assert_eq!(bytes, tree::root(&leaves[..256]).bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_bundle_or_not(bytes in prop::collection::vec(any::<u8>(), 0..2000), width in 1_u16..=256) {
            if let Some(entries) = (Bundle { index: 0, width }).entries(&bytes) {
                prop_assert_eq!(Bundle::text(entries), Some(bytes.clone()));
            }
        }
    }
}
