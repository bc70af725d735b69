//! Signed releases in, a log out, and back: their generation records are the entries of a tiled transparency log.
//!
//! Entries and tiles are written first, the checkpoint last: an append that was interrupted leaves the log as it was,
//! with files beside it that its checkpoint does not count. Nobody can tell these from what is left when somebody puts an
//! older checkpoint back, so the next append goes on only with the same entries: what was in the log once, stays. A log
//! begins with the checkpoint of no entries; files without one have lost it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use ed25519_dalek::SigningKey;
use measure::Sha256;
use serde::Serialize;

use crate::mend::{Exit, OrMend as _};
use crate::model::log::{self, Bundle, Checkpoint, LogFinding, Proof, Tile, VerifierKey};
use crate::model::record::{RECORD, Record};
use crate::stage::on_disk::OnDisk;
use crate::stage::{sign, verify};
use crate::world::log::{Folder, Writer};

/// The name of the proof of inclusion in a release.
pub use crate::model::file::PROOF;

/// The name of the signed head of the tree in the folder of a log.
const CHECKPOINT: &str = "checkpoint";

/// No checkpoint, proof or record is larger: in bytes.
const LIMIT: u64 = 64 << 10;

/// No tile and no bundle of entries is larger: in bytes.
const TILE_LIMIT: u64 = (log::WIDTH * (2 + u16::MAX as usize)) as u64;

/// Who reads a log holds 32 bytes for each entry: no log of ours has more.
const ENTRIES: u64 = 1 << 20;

/// What was found out about a log.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The head of its tree, if the key has signed it.
    pub checkpoint: Option<Checkpoint>,
    /// Reasons not to trust it.
    pub findings: Vec<LogFinding>,
}

/// A record in a log.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Entry {
    /// The number of the entry, from 0.
    pub index: u64,
    /// The digest of the manifest of the release.
    pub release: Sha256,
    /// Whether it was in the log before.
    pub known: bool,
}

/// The entries of a log as its checkpoint counts them.
struct Read {
    leaves: Vec<Sha256>,
    /// The entries of the last bundle, if that is not full.
    tail: Vec<Vec<u8>>,
}

/// Appends the records of signed releases to the log in `folder`, which is begun under the name `origin` where there is
/// none; a record that is in the log already is not added again. Returns the new head and the entry of each release.
///
/// # Errors
/// A release with findings, or without a record; a log that does not verify, or is of another key; a disk that is full.
pub fn append(
    folder: &Path,
    releases: &[PathBuf],
    origin: Option<&str>,
    key: &SigningKey,
) -> Result<(Checkpoint, Vec<Entry>)> {
    let records: Vec<Record> = releases.iter().map(|release| whole(release)).collect::<Result<_>>()?;
    let texts = records.iter().map(|record| record.text().into_bytes()).collect();
    let (head, places) = grow(folder, texts, origin, key)?;
    let entries = records.iter().zip(places).map(|(record, (index, known))| Entry {
        index,
        release: record.release,
        known,
    });
    Ok((head, entries.collect()))
}

/// Appends what is not in the log yet; returns the new head, and of each text its number and whether it was known.
fn grow(
    folder: &Path,
    texts: Vec<Vec<u8>>,
    origin: Option<&str>,
    key: &SigningKey,
) -> Result<(Checkpoint, Vec<(u64, bool)>)> {
    let cannot = format!("cannot write the log {}", folder.display());
    let folder = Folder::new(folder);
    if checkpoint(&folder)?.is_none() {
        begin(&folder, origin, key)?; // a log that cannot begin is refused before its folder is made
    }
    let writer = folder.writer().or_mend(Exit::Outside, &cannot, WRITABLE)?;
    let (old, mut log) = current(&folder, origin, key)?;
    let begun = checkpoint(&folder)?.is_some();
    let places = texts.into_iter().map(|text| log.take(text)).collect();
    let new = Checkpoint {
        origin: old.origin,
        size: log.leaves.len() as u64,
        root: log::root(&log.leaves),
    };
    if new.size > ENTRIES {
        let problem = format!("the log would have more than {ENTRIES} entries");
        return Err(Exit::Unsupported.because(problem, "begin another log"));
    }
    keeps_all(&folder, old.size, &log)?;
    let (empty, head) = (none(&new.origin).sign(key)?, new.sign(key)?);
    let begin = || writer.write(CHECKPOINT, empty.as_bytes());
    let begun = if begun { Ok(()) } else { begin() };
    let written = begun.and_then(|()| write(&writer, &log, old.size, &head));
    written.or_mend(Exit::Outside, cannot, WRITABLE)?;
    Ok((new, places))
}

/// Refuses to forget entries that are in files of the log and that its checkpoint, of `size` entries, does not count.
fn keeps_all(folder: &Folder, size: u64, log: &Read) -> Result<()> {
    let held = held(folder)?;
    let new = log.leaves.len() as u64;
    if held <= size || (held <= new && are_in(folder, size, &log.leaves)?) {
        return Ok(());
    }
    let problem = format!("{}; nothing was appended", LogFinding::LogUncounted { size, held });
    Err(Exit::Expired.because(problem, UNCOUNTED))
}

const UNCOUNTED: &str = "restore the newest checkpoint from a copy of the log; if it was an append that was interrupted, \
    append the same releases again, in the same order";

/// Whether the files that hold more than the first `size` entries hold these, and their hashes.
fn are_in(folder: &Folder, size: u64, leaves: &[Sha256]) -> Result<bool> {
    for path in paths(folder)? {
        let tile = Tile::at(&path).filter(|tile| tile.end() > size);
        let bundle = Bundle::at(&path).filter(|bundle| bundle.numbers().end > size);
        if tile.is_none() && bundle.is_none() {
            continue;
        }
        let bytes = folder.read(&path, TILE_LIMIT);
        let bytes = bytes.or_mend(Exit::Outside, UNREADABLE, READABLE)?.unwrap_or_default();
        let same = tile.is_none_or(|tile| is_of(tile, &bytes, leaves))
            && bundle.is_none_or(|bundle| has_entries(bundle, &bytes, leaves));
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_of(tile: Tile, bytes: &[u8], leaves: &[Sha256]) -> bool {
    let Some(first) = leaves.get(..tile.end() as usize) else {
        return false;
    };
    let tiles = log::grown(first, 0);
    tiles.iter().any(|(one, expected)| *one == tile && expected == bytes)
}

fn has_entries(bundle: Bundle, bytes: &[u8], leaves: &[Sha256]) -> bool {
    let numbers = bundle.numbers();
    let entries = bundle.entries(bytes).map(|entries| entries.into_iter().map(log::leaf));
    let wanted = leaves.get(numbers.start as usize..numbers.end as usize);
    entries.is_some_and(|entries| Some(&entries.collect::<Vec<_>>()[..]) == wanted)
}

/// How many entries the files of the log hold, by their names.
fn held(folder: &Folder) -> Result<u64> {
    let end = |path: &String| Tile::at(path).map(|tile| tile.end());
    let end = |path| end(path).or_else(|| Bundle::at(path).map(|bundle| bundle.numbers().end));
    Ok(paths(folder)?.iter().filter_map(end).max().unwrap_or_default())
}

fn paths(folder: &Folder) -> Result<Vec<String>> {
    folder.tiles().or_mend(Exit::Outside, UNREADABLE, READABLE)
}

const UNREADABLE: &str = "cannot read the files of the log";
const READABLE: &str = "check their permissions";

impl Read {
    /// Adds an entry that is not there yet, and returns its number, and whether it was known.
    fn take(&mut self, entry: Vec<u8>) -> (u64, bool) {
        let leaf = log::leaf(&entry);
        if let Some(index) = self.leaves.iter().position(|known| *known == leaf) {
            return (index as u64, true);
        }
        self.leaves.push(leaf);
        self.tail.push(entry);
        (self.leaves.len() as u64 - 1, false)
    }
}

const WRITABLE: &str = "make room there, or make it writable for this user; then append again";

/// Writes what is new since the log had `old` entries, the checkpoint last.
fn write(writer: &Writer, log: &Read, old: u64, checkpoint: &str) -> std::io::Result<()> {
    let first = old / log::WIDTH as u64;
    let bundles = Bundle::all(log.leaves.len() as u64).skip(first as usize);
    for (bundle, entries) in bundles.zip(log.tail.chunks(log::WIDTH)) {
        let entries = entries.iter().map(Vec::as_slice);
        let text = Bundle::text(entries).ok_or_else(|| std::io::Error::other("a record is longer than 64 KiB"))?;
        writer.write(&bundle.path(), &text)?;
    }
    for (tile, bytes) in log::grown(&log.leaves, old) {
        writer.write(&tile.path(), &bytes)?;
    }
    writer.write(CHECKPOINT, checkpoint.as_bytes())
}

/// Returns the head and the entries of the log that is to grow; of none, those of an empty one.
fn current(folder: &Folder, origin: Option<&str>, key: &SigningKey) -> Result<(Checkpoint, Read)> {
    let Some(note) = checkpoint(folder)? else {
        return begin(folder, origin, key);
    };
    let named = Checkpoint::unverified(&note).map(|checkpoint| checkpoint.origin);
    let key = VerifierKey::new(named.as_deref().unwrap_or_default(), key.verifying_key());
    let refuse = |because: String| {
        let problem = format!("the log does not verify, and nothing was appended: {because}");
        Exit::No.because(
            problem,
            "append with the key that began the log, or restore the log from a copy",
        )
    };
    let key = key.map_err(|error| refuse(error.to_string()))?;
    if let Some(other) = origin.filter(|origin| *origin != key.name()) {
        let problem = format!("the log is {}, not {other}", key.name());
        return Err(Exit::Usage.because(problem, "leave --origin away, or append to another folder"));
    }
    let (checkpoint, log) = open(folder, &note, &key).map_err(|finding| refuse(finding.to_string()))?;
    match tiles(folder, &log).into_iter().next() {
        Some(finding) => Err(refuse(finding.to_string())),
        None => Ok((checkpoint, log)),
    }
}

/// Returns the head and the entries of a log that begins.
fn begin(folder: &Folder, origin: Option<&str>, key: &SigningKey) -> Result<(Checkpoint, Read)> {
    not_lost(folder)?;
    let origin = origin.ok_or_else(|| {
        let mend = "name it as it will be known, after a domain or folder of yours: --origin example.com/log";
        Exit::Usage.because("there is no log yet", mend)
    })?;
    VerifierKey::new(origin, key.verifying_key()).or_mend(Exit::Usage, "cannot begin a log", "use another name")?;
    let (leaves, tail) = (Vec::new(), Vec::new());
    Ok((none(origin), Read { leaves, tail }))
}

/// The head of a log without entries.
fn none(origin: &str) -> Checkpoint {
    let (origin, root) = (origin.into(), log::root(&[]));
    Checkpoint { origin, size: 0, root }
}

/// Refuses a folder without a checkpoint that has files of a log.
fn not_lost(folder: &Folder) -> Result<()> {
    match held(folder)? {
        0 => Ok(()),
        held => {
            let problem =
                format!("the log has lost its checkpoint: its files hold {held} entries, and nobody has signed them");
            let mend =
                "restore the file checkpoint from a copy of the log, or name another folder for a log that begins";
            Err(Exit::Expired.because(problem, mend))
        }
    }
}

/// Returns the head of the tree and its entries, if the key has signed that these are the entries.
fn open(folder: &Folder, note: &str, key: &VerifierKey) -> std::result::Result<(Checkpoint, Read), LogFinding> {
    let checkpoint = Checkpoint::open(note, key);
    let checkpoint = checkpoint.map_err(|because| LogFinding::LogCheckpointInvalid { because })?;
    let log = read(folder, checkpoint.size)?;
    let entries = log::root(&log.leaves);
    match entries == checkpoint.root {
        true => Ok((checkpoint, log)),
        false => Err(LogFinding::LogRootDiffers {
            size: checkpoint.size,
            entries,
            checkpoint: checkpoint.root,
        }),
    }
}

/// Reads the first `size` entries.
fn read(folder: &Folder, size: u64) -> std::result::Result<Read, LogFinding> {
    if size > ENTRIES {
        let because = format!("it has {size} entries, more than {ENTRIES}");
        return Err(LogFinding::LogCheckpointInvalid { because });
    }
    let (mut leaves, mut tail) = (Vec::new(), Vec::new());
    for bundle in Bundle::all(size) {
        let path = bundle.path();
        let unreadable = |because: &str| LogFinding::LogUnreadable {
            path: path.clone(),
            because: because.into(),
        };
        let bytes = folder
            .read(&path, TILE_LIMIT)
            .map_err(|error| unreadable(&error.to_string()))?;
        let bytes = bytes.ok_or_else(|| unreadable("it is missing"))?;
        let entries = bundle
            .entries(&bytes)
            .ok_or_else(|| unreadable("it is not that many entries"))?;
        leaves.extend(entries.iter().map(|entry| log::leaf(entry)));
        if usize::from(bundle.width) < log::WIDTH {
            tail = entries.into_iter().map(<[u8]>::to_vec).collect();
        }
    }
    Ok(Read { leaves, tail })
}

/// Verifies the log in `folder`: `key` has signed its checkpoint, entries and tiles are those of it, and it grew out of
/// the log that the `older` checkpoint is of.
///
/// # Errors
/// A folder without a log, or with one that has lost its checkpoint. Everything else that is wrong with a log is a finding.
pub fn verify(folder: &Path, key: &VerifierKey, older: Option<&str>) -> Result<Verdict> {
    let folder = Folder::new(folder);
    let _held = folder.hold();
    let note = existing(&folder)?;
    let held = held(&folder)?;
    let uncounted = |size| (held > size).then_some(LogFinding::LogUncounted { size, held });
    let (checkpoint, log) = match open(&folder, &note, key) {
        Ok(open) => open,
        Err(finding) => {
            let checkpoint = Checkpoint::open(&note, key).ok();
            let findings = [finding]
                .into_iter()
                .chain(older.and_then(|older| lost(older, key, checkpoint.as_ref())))
                .chain(checkpoint.as_ref().and_then(|checkpoint| uncounted(checkpoint.size)));
            return Ok(Verdict {
                findings: findings.collect(),
                checkpoint,
            });
        }
    };
    let mut findings = tiles(&folder, &log);
    findings.extend(older.and_then(|older| history(older, key, &log.leaves)));
    findings.extend(uncounted(checkpoint.size));
    Ok(Verdict {
        checkpoint: Some(checkpoint),
        findings,
    })
}

/// Compares each file of hashes with what the entries hash to.
fn tiles(folder: &Folder, log: &Read) -> Vec<LogFinding> {
    let tiles = log::grown(&log.leaves, 0).into_iter();
    let differ = tiles.filter_map(|(tile, expected)| {
        let path = tile.path();
        match folder.read(&path, TILE_LIMIT) {
            Ok(Some(bytes)) if bytes == expected => None,
            Ok(Some(_)) => Some(LogFinding::LogTileDiffers { path }),
            Ok(None) => Some(LogFinding::LogUnreadable {
                path,
                because: "it is missing".into(),
            }),
            Err(error) => Some(LogFinding::LogUnreadable {
                path,
                because: error.to_string(),
            }),
        }
    });
    differ.collect()
}

/// Compares the entries with an older checkpoint. That is a proof of consistency whose every hash is at hand: the tree
/// of the first entries is computed instead of shown.
fn history(older: &str, key: &VerifierKey, leaves: &[Sha256]) -> Option<LogFinding> {
    let older = match Checkpoint::open(older, key) {
        Ok(older) => older,
        Err(because) => {
            let because = format!("the older one: {because}");
            return Some(LogFinding::LogCheckpointInvalid { because });
        }
    };
    let Some(first) = usize::try_from(older.size).ok().and_then(|size| leaves.get(..size)) else {
        return Some(LogFinding::LogRolledBack {
            size: leaves.len() as u64,
            older: older.size,
        });
    };
    let found = log::root(first);
    (found != older.root).then_some(LogFinding::LogHistoryDiffers {
        older: older.size,
        found,
        expected: older.root,
    })
}

/// What an older checkpoint says against a log whose entries cannot be read: two heads of one size have one root.
fn lost(older: &str, key: &VerifierKey, checkpoint: Option<&Checkpoint>) -> Option<LogFinding> {
    let (older, newer) = (Checkpoint::open(older, key).ok()?, checkpoint?);
    if older.size > newer.size {
        return Some(LogFinding::LogRolledBack {
            size: newer.size,
            older: older.size,
        });
    }
    (older.size == newer.size && older.root != newer.root).then_some(LogFinding::LogHistoryDiffers {
        older: older.size,
        found: newer.root,
        expected: older.root,
    })
}

/// Writes into a release the proof that its record is in the log, beside its signatures; returns the proof.
///
/// The proof is good only for who trusts the key of the checkpoint in it.
///
/// # Errors
/// A release with findings; a log whose entries are not those of its checkpoint; a record that is not in the log.
pub fn prove(folder: &Path, release: &Path) -> Result<Proof> {
    let record = whole(release)?.text();
    let shown = folder.display();
    let folder = Folder::new(folder);
    let checkpoint = existing(&folder)?;
    let damaged = |because: String| {
        let problem = format!("the log {shown} proves nothing: {because}");
        Exit::No.because(problem, "see what is wrong with it: begat log verify LOG --key VKEY")
    };
    let head = Checkpoint::unverified(&checkpoint).ok_or_else(|| damaged("its checkpoint is none".into()))?;
    let log = read(&folder, head.size).map_err(|finding| damaged(finding.to_string()))?;
    if log::root(&log.leaves) != head.root {
        return Err(damaged("its entries are not those of its checkpoint".into()));
    }
    let leaf = log::leaf(record.as_bytes());
    let index = log.leaves.iter().position(|known| *known == leaf);
    let hashes = index.and_then(|index| log::inclusion(&log.leaves, index));
    let Some((index, hashes)) = index.zip(hashes) else {
        let problem = format!("{} is not in the log {shown}", release.display());
        return Err(Exit::No.because(problem, "append it: begat log append LOG RELEASE --key PEM"));
    };
    let proof = Proof {
        index: index as u64,
        hashes,
        checkpoint,
    };
    sign::append(release, &[(PROOF.into(), proof.text())])?;
    Ok(proof)
}

/// Returns the head of the log that the record of a release is in, by the proof in the release.
///
/// # Errors
/// Why the proof shows nothing.
pub fn included(release: &OnDisk, key: &VerifierKey) -> std::result::Result<Checkpoint, LogFinding> {
    let read = |name: &str| {
        release.text(name).map_err(|error| LogFinding::LogProofInvalid {
            because: format!("{name}: {error}"),
        })
    };
    let (record, proof) = (read(RECORD)?, read(PROOF)?);
    let proof = Proof::read(&proof).ok_or_else(|| LogFinding::LogProofInvalid {
        because: format!("{PROOF} is not in the form of c2sp.org/tlog-proof@v1"),
    })?;
    proof.verify(record.as_bytes(), key)
}

/// Returns the record of a release whose files and signatures are what they should be. When it is valid is not asked:
/// the log remembers expired releases as well.
fn whole(release: &Path) -> Result<Record> {
    let shown = release.display();
    let unsigned = || Exit::No.because(format!("{shown} has no record"), format!("sign it: begat sign {shown}"));
    verify::judge(release)?.record.ok_or_else(unsigned)
}

fn existing(folder: &Folder) -> Result<String> {
    let missing = || {
        Exit::Usage.because(
            "there is no log: no checkpoint is in that folder",
            "name the folder of a log",
        )
    };
    match checkpoint(folder)? {
        Some(checkpoint) => Ok(checkpoint),
        None => Err(not_lost(folder).err().unwrap_or_else(missing)),
    }
}

fn checkpoint(folder: &Folder) -> Result<Option<String>> {
    let read = folder.read(CHECKPOINT, LIMIT);
    let bytes = read.or_mend(
        Exit::Outside,
        "cannot read the checkpoint of the log",
        "check its permissions",
    )?;
    // what is no text is no note that anybody has signed
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests;
