use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::*;

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
    assert_eq!(findings(&folder, Some(&kept)), [rolled_back]);
    assert_eq!(findings(&folder, Some(&short)), []);
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

/// Files are written one after the other, the checkpoint last: whatever part of them is there, the log is as it was.
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
            assert_eq!(findings(&interrupted, Some(&note(&before))), []);
            // and goes on with something else
            more(&interrupted, 1000 + old..1000 + new);
            assert_eq!(
                findings(&interrupted, Some(&note(&before))),
                [],
                "{old} to {new}, {count} files"
            );
        }
    }
}
