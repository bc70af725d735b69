use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::mend;
use crate::world::files;

const ORIGIN: &str = "example.com/log";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn verifier() -> VerifierKey {
    VerifierKey::new(ORIGIN, key().verifying_key()).unwrap()
}

fn texts(numbers: impl IntoIterator<Item = u32>) -> Vec<Vec<u8>> {
    numbers
        .into_iter()
        .map(|number| format!("{{\"record\":{number}}}").into_bytes())
        .collect()
}

/// Returns a log with entries of these numbers.
fn log_of(numbers: impl IntoIterator<Item = u32>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    grow(folder.path(), texts(numbers), Some(ORIGIN), &key()).unwrap();
    folder
}

fn more(folder: &TempDir, numbers: impl IntoIterator<Item = u32>) -> Checkpoint {
    grow(folder.path(), texts(numbers), None, &key()).unwrap().0
}

fn findings(folder: &TempDir, older: Option<&str>) -> Vec<LogFinding> {
    verify(folder.path(), &verifier(), older).unwrap().findings
}

fn note(folder: &TempDir) -> String {
    fs::read_to_string(folder.path().join(CHECKPOINT)).unwrap()
}

/// Returns the files of a log by their path.
fn contents(folder: &TempDir) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = files::list(folder.path()).unwrap().into_iter();
    let files = entries.filter(|entry| entry.kind == files::Kind::File);
    files
        .map(|entry| (entry.path.clone(), fs::read(folder.path().join(entry.path)).unwrap()))
        .collect()
}

#[test]
fn a_log_grows_and_what_was_there_stays() {
    let folder = log_of([0]);
    let (first, had) = (note(&folder), contents(&folder));
    assert_eq!(more(&folder, 1..300).size, 300);
    assert_eq!(findings(&folder, Some(&first)), []);
    let has = contents(&folder);
    for (path, bytes) in &had {
        assert!(
            path == Path::new(CHECKPOINT) || has.get(path) == Some(bytes),
            "{path:?}"
        );
    }
    for path in [
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ] {
        assert!(has.contains_key(Path::new(path)), "{path}");
    }
    // in one step or in many
    let folder = log_of([]);
    (0..300).for_each(|number| drop(more(&folder, [number])));
    assert_eq!(note(&folder), {
        let whole = log_of(0..300);
        note(&whole)
    });
    assert_eq!(findings(&folder, Some(&first)), []);
}

#[test]
fn an_entry_is_there_once() {
    let folder = log_of([1, 2, 1]);
    let (head, places) = grow(folder.path(), texts([2, 3]), None, &key()).unwrap();
    assert_eq!((head.size, places), (3, vec![(1, true), (2, false)]));
    let before = contents(&folder);
    more(&folder, [1, 2, 3]);
    assert_eq!(contents(&folder), before);
}

#[test]
fn a_log_that_shows_different_histories() {
    let (ours, theirs) = (log_of([0, 1, 2]), log_of([0, 1, 3]));
    let (kept, head) = (note(&ours), Checkpoint::unverified(&note(&theirs)).unwrap());
    more(&theirs, 4..9);
    let found = findings(&theirs, Some(&kept));
    let expected = Checkpoint::unverified(&kept).unwrap().root;
    let differs = LogFinding::LogHistoryDiffers {
        older: 3,
        found: head.root,
        expected,
    };
    assert_eq!(found, std::slice::from_ref(&differs));
    assert_eq!(findings(&ours, Some(&kept)), []);
    // even where it hides its entries
    fs::remove_dir_all(theirs.path().join("tile")).unwrap();
    fs::write(theirs.path().join(CHECKPOINT), head.sign(&key()).unwrap()).unwrap();
    assert!(findings(&theirs, Some(&kept)).contains(&differs));
}

#[test]
fn a_log_that_forgets() {
    let folder = log_of([0, 1]);
    let (short, before) = (note(&folder), contents(&folder));
    more(&folder, [2]);
    let kept = note(&folder);
    fs::write(folder.path().join(CHECKPOINT), &before[Path::new(CHECKPOINT)]).unwrap();
    let rolled_back = LogFinding::LogRolledBack { size: 2, older: 3 };
    let uncounted = LogFinding::LogUncounted { size: 2, held: 3 };
    assert_eq!(findings(&folder, Some(&kept)), [rolled_back, uncounted.clone()]);
    assert_eq!(findings(&folder, Some(&short)), [uncounted]);
}

#[test]
fn a_checkpoint_of_another_key_is_none() {
    let folder = log_of([0]);
    let other = VerifierKey::new(ORIGIN, SigningKey::from_bytes(&[8; 32]).verifying_key()).unwrap();
    let found = verify(folder.path(), &other, None).unwrap();
    assert!(matches!(found.findings[..], [LogFinding::LogCheckpointInvalid { .. }]));
    assert_eq!(found.checkpoint, None);
    let foreign = Checkpoint::unverified(&note(&folder))
        .unwrap()
        .sign(&SigningKey::from_bytes(&[8; 32]));
    assert!(matches!(
        findings(&folder, Some(&foreign.unwrap()))[..],
        [LogFinding::LogCheckpointInvalid { .. }]
    ));
    let refused = grow(folder.path(), texts([1]), None, &SigningKey::from_bytes(&[8; 32]));
    assert!(refused.is_err());
    assert!(grow(folder.path(), texts([1]), Some("example.com/other"), &key()).is_err());
}

#[test]
fn a_log_that_cannot_begin_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let new = parent.path().join("new");
    for (origin, why) in [(None, "there is no log yet"), (Some("two words"), "cannot begin a log")] {
        let error = grow(&new, texts([1]), origin, &key()).unwrap_err();
        assert!(error.to_string().contains(why), "{error:#}");
        assert!(!new.exists(), "{why}");
    }
}

/// Every byte of every file that the checkpoint counts.
#[test]
fn an_edited_file_is_a_finding() {
    let folder = log_of(0..3);
    for (path, bytes) in contents(&folder) {
        for at in 0..bytes.len() {
            let mut edited = bytes.clone();
            edited[at] ^= 1;
            fs::write(folder.path().join(&path), &edited).unwrap();
            assert!(!findings(&folder, None).is_empty(), "{path:?} at {at}");
        }
        fs::remove_file(folder.path().join(&path)).unwrap();
        let missing = verify(folder.path(), &verifier(), None);
        assert!(missing.is_err() || !missing.unwrap().findings.is_empty(), "{path:?}");
        fs::write(folder.path().join(&path), &bytes).unwrap();
    }
    assert_eq!(findings(&folder, None), []);
    let edited = folder.path().join("tile/entries/000.p/3");
    let text = fs::read_to_string(&edited)
        .unwrap()
        .replace("\"record\":1", "\"record\":9");
    fs::write(edited, text).unwrap();
    assert!(matches!(
        findings(&folder, None)[..],
        [LogFinding::LogRootDiffers { size: 3, .. }]
    ));
    assert!(grow(folder.path(), texts([4]), None, &key()).is_err());
}

/// Files are written one after the other, the checkpoint last: whatever part of them is there, the log is as it was. It
/// goes on with the same entries alone: whether a checkpoint counted them once, the files do not say.
#[test]
fn an_interrupted_append_leaves_the_log_as_it_was() {
    for (old, new) in [(0, 2), (1, 3), (254, 257), (256, 258)] {
        let before = log_of(0..old);
        let after = log_of(0..old);
        more(&after, old..new);
        let (had, has) = (contents(&before), contents(&after));
        let written: Vec<_> = has.iter().filter(|(path, _)| !had.contains_key(*path)).collect();
        for count in 0..=written.len() {
            let interrupted = log_of(0..old);
            for (path, bytes) in &written[..count] {
                let path = interrupted.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            let uncounted = |finding: &LogFinding| matches!(finding, LogFinding::LogUncounted { .. });
            let found = findings(&interrupted, Some(&note(&before)));
            assert!(
                found.iter().all(uncounted) && found.len() == usize::from(count > 0),
                "{found:?}"
            );
            if count > 0 {
                refused(&interrupted, 1000 + old..1000 + new);
                refused(&interrupted, [old]);
            }
            more(&interrupted, old..new + 1);
            assert_eq!(
                findings(&interrupted, Some(&note(&before))),
                [],
                "{old} to {new}, {count} files"
            );
        }
    }
}

/// Appends these, and expects a refusal that leaves everything as it is.
#[track_caller]
fn refused(folder: &TempDir, numbers: impl IntoIterator<Item = u32>) -> String {
    let before = contents(folder);
    let error = grow(folder.path(), texts(numbers), Some(ORIGIN), &key()).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::Expired, "{error:#}");
    assert_eq!(contents(folder), before);
    mend::report(&error)
}

#[test]
fn attack_a_log_that_lost_its_checkpoint_begins_no_other() {
    let (folder, kept) = (log_of([0, 1]), tempfile::tempdir().unwrap());
    let checkpoint = folder.path().join(CHECKPOINT);
    fs::rename(&checkpoint, kept.path().join(CHECKPOINT)).unwrap();
    // neither with others, nor with the same, nor under another name, nor without one
    let report = refused(&folder, [7]);
    assert!(
        report.contains("lost its checkpoint: its files hold 2 entries"),
        "{report}"
    );
    assert!(report.contains("restore the file checkpoint from a copy"), "{report}");
    refused(&folder, [0, 1, 2]);
    for origin in [None, Some("example.com/other")] {
        let error = grow(folder.path(), texts([7]), origin, &key()).unwrap_err();
        assert!(error.to_string().contains("lost its checkpoint"), "{error:#}");
    }
    let error = verify(folder.path(), &verifier(), None).unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::Expired);
    // a part of it that is left is enough
    fs::remove_dir_all(folder.path().join("tile/entries")).unwrap();
    refused(&folder, [7]);
    // the honest twins: one that was restored goes on, and a folder that never had a log begins one
    let folder = log_of([0, 1]);
    fs::remove_file(folder.path().join(CHECKPOINT)).unwrap();
    fs::copy(kept.path().join(CHECKPOINT), folder.path().join(CHECKPOINT)).unwrap();
    assert_eq!(more(&folder, [2]).size, 3);
    let begun = tempfile::tempdir().unwrap();
    fs::create_dir(begun.path().join("tile")).unwrap();
    fs::write(begun.path().join("README"), "a log").unwrap();
    assert_eq!(grow(begun.path(), texts([7]), Some(ORIGIN), &key()).unwrap().0.size, 1);
}

#[test]
fn attack_an_older_checkpoint_put_back_forgets_nothing() {
    let folder = log_of([0, 1]);
    let old = note(&folder);
    let newest = more(&folder, [2, 3]);
    fs::write(folder.path().join(CHECKPOINT), &old).unwrap();
    assert_eq!(findings(&folder, None), [LogFinding::LogUncounted { size: 2, held: 4 }]);
    for others in [vec![9], vec![2], vec![3, 2], vec![2, 9, 3], vec![9, 8, 7]] {
        let report = refused(&folder, others);
        assert!(report.contains("hold 4 entries, its checkpoint counts 2"), "{report}");
    }
    // with hashes alone, or entries alone
    fs::remove_dir_all(folder.path().join("tile/0")).unwrap();
    assert!(findings(&folder, None).contains(&LogFinding::LogUncounted { size: 2, held: 4 }));
    // the honest twin: what was there, and more
    let folder = log_of([0, 1]);
    more(&folder, [2, 3]);
    fs::write(folder.path().join(CHECKPOINT), &old).unwrap();
    assert_eq!(more(&folder, [2, 3]), newest);
    assert_eq!(findings(&folder, Some(&old)), []);
}

/// Of the same key, or of the same name; or of no entries.
#[test]
fn attack_the_checkpoint_of_another_log() {
    let other = tempfile::tempdir().unwrap();
    let grown = |folder: &Path, numbers: &[u32], origin| {
        grow(folder, texts(numbers.iter().copied()), Some(origin), &key()).map(drop)
    };
    for (numbers, origin) in [
        (&[][..], "example.com/other"),
        (&[5, 6], "example.com/other"),
        (&[5, 6], ORIGIN),
        (&[5, 6, 7], ORIGIN),
    ] {
        let folder = log_of([0, 1]);
        let other = other.path().join(format!("{origin}{}", numbers.len()));
        grown(&other, numbers, origin).unwrap();
        fs::copy(other.join(CHECKPOINT), folder.path().join(CHECKPOINT)).unwrap();
        let before = contents(&folder);
        assert!(grow(folder.path(), texts([9]), None, &key()).is_err(), "{numbers:?}");
        assert_eq!(contents(&folder), before);
        grown(&other, &[9], origin).unwrap();
    }
}

#[test]
fn attack_a_log_that_lost_a_tile_does_not_grow() {
    let folder = log_of(0..257);
    for path in ["tile/0/000", "tile/1/000.p/1", "tile/entries/000", "tile/0/001.p/1"] {
        let (place, bytes) = (folder.path().join(path), fs::read(folder.path().join(path)).unwrap());
        let grown = || grow(folder.path(), texts([999]), None, &key());
        fs::remove_file(&place).unwrap();
        let report = mend::report(&grown().unwrap_err());
        assert!(report.contains(path) && report.contains("restore the log"), "{report}");
        fs::write(&place, &bytes[1..]).unwrap();
        assert!(grown().is_err(), "{path}");
        fs::write(&place, &bytes).unwrap();
    }
    assert_eq!(more(&folder, [999]).size, 258);
}
