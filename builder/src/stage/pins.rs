//! A release and the trust policy in, findings out about what the release was built from.
//!
//! Evidence shows who built a release and what it was built from. It does not show that anybody wanted that: a genuine
//! builder builds any recipe that it is given. So the policy pins what may enter.

use std::collections::BTreeSet;

use crate::model::lock::Metadata;
use crate::model::release::Origin;
use crate::model::{Lock, Trust};
use crate::stage::finding::Finding;

/// What the policy says against a release that was built from this recipe and this lock.
pub(super) fn refused(origin: &Origin, lock: &Lock, trust: &Trust) -> Vec<Finding> {
    let (recipe, locked) = (origin.recipe, origin.lock);
    let recipe = (!allows(&trust.recipes, &recipe)).then_some(Finding::RecipeNotAllowed { recipe });
    let locked = (!allows(&trust.locks, &locked)).then_some(Finding::LockNotAllowed { lock: locked });
    let suites = suites(lock).into_iter().filter(|suite| !allows(&trust.suites, suite));
    let suites = suites.map(|suite| Finding::SuiteNotAllowed { suite });
    let metadata = lock.metadata.iter().filter(|one| !allows(&trust.metadata, &one.sha256));
    let metadata = metadata.map(|one| Finding::MetadataNotAllowed {
        suite: name(one),
        sha256: one.sha256,
    });
    let payloads = lock.payload.iter().filter(|one| !allows(&trust.payloads, &one.sha256));
    let payloads = payloads.map(|one| Finding::PayloadNotAllowed {
        payload: one.name.to_string(),
        sha256: one.sha256,
    });
    let pins = recipe.into_iter().chain(locked).chain(suites);
    pins.chain(metadata).chain(payloads).collect()
}

fn allows<T: Ord>(pins: &Option<BTreeSet<T>>, found: &T) -> bool {
    pins.as_ref().is_none_or(|pins| pins.contains(found))
}

/// The suites that packages come from. An archive of which the lock has no metadata is named alone, as no policy does.
fn suites(lock: &Lock) -> BTreeSet<String> {
    let described: BTreeSet<&str> = lock.metadata.iter().map(|one| one.archive.as_str()).collect();
    let alone = lock
        .archives()
        .into_iter()
        .filter(|archive| !described.contains(archive));
    lock.metadata.iter().map(name).chain(alone.map(String::from)).collect()
}

fn name(metadata: &Metadata) -> String {
    format!("{}/{}", metadata.archive, metadata.suite)
}

/// What of a lock the policy leaves open: nothing, where it names the lock, which has the digest of every byte.
pub(super) fn open(lock: &Lock, trust: &Trust) -> Option<String> {
    if trust.locks.is_some() {
        return None;
    }
    let open = [
        ("recipes", trust.recipes.is_none()),
        ("locks", true),
        ("suites", trust.suites.is_none()),
        ("metadata", trust.metadata.is_none()),
        ("payloads", trust.payloads.is_none() && !lock.payload.is_empty()),
    ];
    let open: Vec<&str> = open.into_iter().filter_map(|(key, open)| open.then_some(key)).collect();
    Some(format!("what went into it: the policy has no {}", open.join(", ")))
}

#[cfg(test)]
mod tests {
    use measure::Sha256;

    use super::*;
    use crate::model::lock::{Package, Tree};

    fn origin() -> Origin {
        Origin {
            name: "minimal".to_owned().try_into().unwrap(),
            epoch: jiff::Timestamp::UNIX_EPOCH,
            recipe: Sha256::of("recipe"),
            lock: Sha256::of("lock"),
        }
    }

    fn lock(packages_of: &str) -> Lock {
        let metadata = Metadata {
            archive: "debian".into(),
            suite: "trixie".into(),
            sha256: Sha256::of("InRelease"),
            size: 1,
            date: jiff::Timestamp::UNIX_EPOCH,
            valid_until: None,
            ignored_valid_until: None,
            signed_by: vec![],
        };
        let package = Package {
            name: "bash".into(),
            version: "1".into(),
            architecture: "amd64".into(),
            source: None,
            sha256: Sha256::of("bash"),
            size: 1,
            archive: packages_of.into(),
            path: "pool/bash.deb".into(),
            why: [(Tree::Root, "recipe".into())].into(),
        };
        Lock::new(Sha256::of("recipe"), vec![metadata], vec![package], vec![])
    }

    fn codes(lock: &Lock, policy: &str) -> Vec<String> {
        let trust = Trust::parse("trust.toml", policy).unwrap();
        let findings = refused(&origin(), lock, &trust);
        findings.iter().map(Finding::code).collect()
    }

    #[test]
    fn what_is_pinned_may_enter_and_nothing_else() {
        let (lock, evil) = (lock("debian"), Sha256::of("evil"));
        let pin = |key: &str, digest: Sha256| format!("{key} = [\"{digest}\"]\n");
        for (key, honest, code) in [
            ("recipes", Sha256::of("recipe"), "recipe-not-allowed"),
            ("locks", Sha256::of("lock"), "lock-not-allowed"),
            ("metadata", Sha256::of("InRelease"), "metadata-not-allowed"),
        ] {
            assert_eq!(codes(&lock, &pin(key, honest)), [""; 0]);
            assert_eq!(codes(&lock, &pin(key, evil)), [code]);
        }
        assert_eq!(codes(&lock, "suites = [\"debian/trixie\"]"), [""; 0]);
        assert_eq!(codes(&lock, "suites = [\"debian/sid\"]"), ["suite-not-allowed"]);
        assert_eq!(codes(&lock, "payloads = []"), [""; 0]);
    }

    #[test]
    fn packages_of_an_archive_without_metadata() {
        let evil = lock("evil");
        assert_eq!(codes(&evil, ""), [""; 0]);
        assert_eq!(codes(&evil, "suites = [\"debian/trixie\"]"), ["suite-not-allowed"]);
    }

    #[test]
    fn what_is_not_pinned_is_said() {
        let said = |policy: &str| open(&lock("debian"), &Trust::parse("trust.toml", policy).unwrap());
        let all = "what went into it: the policy has no recipes, locks, suites, metadata";
        assert_eq!(said("").as_deref(), Some(all));
        let some = "what went into it: the policy has no locks, suites, metadata";
        assert_eq!(said("recipes = []").as_deref(), Some(some));
        assert_eq!(said("locks = []"), None);
    }
}
