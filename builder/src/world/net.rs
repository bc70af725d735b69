//! Downloads into the store: several at once, limited in size and time, resumed, and believed by their digest alone.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Error, Result};
use measure::Sha256;

use super::download::{Download, Trouble};
use super::environment::{Environment, Proxies};
use super::http::Client;
use super::partial::Partial;
use super::progress::Progress;
use super::registry::Access;
use super::{Mirrors, Store, parallel};
use crate::mend::{self, Exit};
use crate::model::lock::Package;
use crate::model::release::Stamp;
use crate::stage::resolve::Archive;

/// What signed metadata may have at most, in bytes; Debian's has some 200 KB.
const SIGNED_LIMIT: u64 = 16 << 20;

/// The mirrors, as seen from here.
#[derive(Debug)]
pub struct Net {
    pub(super) store: Store,
    mirrors: Mirrors,
    pub(super) client: Client,
    pub(super) limits: Limits,
    pub(super) reach: Reach,
    /// How registries are reached.
    pub(super) access: Access,
    /// Payloads that the command line supplies, by name.
    pub(super) supplied: BTreeMap<String, Stamp>,
    /// The folder of cargo.
    pub(super) cargo: Option<PathBuf>,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After this time without a byte a mirror has stalled.
    pub stall: Duration,
    /// How often one mirror may fail at one file.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each.
    pub pause: Duration,
    /// Downloads at once.
    pub connections: usize,
}

/// How far we may go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Mirrors on this machine alone.
    Offline,
    /// Every mirror.
    Online,
}

/// A file of an archive, by digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// `debian`, `debian-security`, …
    pub archive: String,
    /// Path below the archive's root.
    pub path: String,
    /// What its bytes must have.
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

/// A file that may have several names, tried in order.
struct Target<'a> {
    archive: &'a str,
    paths: &'a [String],
    sha256: Sha256,
    size: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            attempts: 3,
            pause: Duration::from_millis(250),
            connections: 8,
        }
    }
}

impl Limits {
    /// How long to wait after this many failures.
    pub(super) fn pause_after(&self, failures: u32) -> Duration {
        self.pause * (1 << failures.min(8)) / 2
    }
}

impl From<&Package> for Wanted {
    fn from(package: &Package) -> Self {
        Self {
            archive: package.archive.clone(),
            path: package.path.clone(),
            sha256: package.sha256,
            size: package.size,
        }
    }
}

impl Net {
    /// Returns the net as it is seen through these mirrors and this host's proxies.
    pub fn new(store: Store, mirrors: Mirrors, proxies: Proxies, limits: Limits, reach: Reach) -> Self {
        Self {
            store,
            mirrors,
            client: Client::new(proxies.clone(), limits.stall),
            limits,
            reach,
            access: Access {
                proxies,
                limits,
                ..Access::default()
            },
            supplied: BTreeMap::new(),
            cargo: None,
        }
    }

    /// Returns the net that has what the user `has` to offer, and these payloads by name.
    #[must_use]
    pub fn with(self, has: Environment, supplied: BTreeMap<String, Stamp>) -> Self {
        let Environment { logins, cargo, .. } = has;
        let access = Access { logins, ..self.access };
        Self {
            access,
            supplied,
            cargo,
            ..self
        }
    }

    /// Brings every wanted file into the store. Files that are there are hashed; damaged ones are fetched again.
    ///
    /// # Errors
    /// The first file, in the order of the list, that no mirror gives: with wrong bytes a lock mismatch.
    pub fn fetch(&self, wanted: &[Wanted]) -> Result<()> {
        let by_digest: BTreeMap<Sha256, &Wanted> = wanted.iter().map(|wanted| (wanted.sha256, wanted)).collect();
        let sizes: Vec<_> = by_digest.values().map(|wanted| (wanted.sha256, wanted.size)).collect();
        let missing: Vec<&Wanted> = self
            .store
            .missing(&sizes)
            .iter()
            .map(|sha256| by_digest[sha256])
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let sizes: Vec<u64> = missing.iter().map(|wanted| wanted.size).collect();
        let progress = Progress::new(&sizes);
        let stop = AtomicBool::new(false);
        let outcomes = parallel::map_waiting(&missing, self.limits.connections, |wanted| {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let outcome = self.obtain(&wanted.target(), &progress);
            stop.fetch_or(outcome.is_err(), Ordering::Relaxed);
            outcome
        });
        let outcome: Result<()> = outcomes.into_iter().collect();
        progress.clear();
        outcome.inspect(|()| progress.report())
    }

    /// Brings one file into the store, from the first mirror that gives it.
    fn obtain(&self, target: &Target<'_>, progress: &Progress) -> Result<()> {
        progress.name(target.name());
        let mirrors = self.mirrors(target.archive);
        let mirrors = mirrors.map_err(|nowhere| self.damage(target).unwrap_or(nowhere))?;
        let Some(mut partial) = Partial::open(&self.store, target.sha256, target.size)? else {
            progress.add(target.size);
            return Ok(());
        };
        progress.add(partial.length());
        let mut troubles = Vec::new();
        for mirror in mirrors {
            for path in target.paths {
                let url = address(mirror, path);
                match self.complete(&url, target, &mut partial, progress)? {
                    None => return partial.take_in(),
                    Some(trouble) => troubles.push((url, trouble)),
                }
            }
        }
        Err(self.failure(target.name(), &troubles))
    }

    /// What is wrong with the file in the store, where it is there.
    fn damage(&self, target: &Target<'_>) -> Option<Error> {
        let error = self.store.check(&target.sha256, target.size).err()?;
        Some(error).filter(|error| mend::exit_code(error) == Exit::LockMismatch)
    }

    /// Asks one URL until the file is complete and right, or the URL has failed too often.
    fn complete(
        &self,
        url: &str,
        target: &Target<'_>,
        partial: &mut Partial<'_>,
        progress: &Progress,
    ) -> Result<Option<Trouble>> {
        let download = Download {
            sha256: target.sha256,
            size: target.size,
            says: "the lock says",
            limits: self.limits,
            progress,
        };
        download.complete(partial, |from, most| Ok(self.client.get(url, from, most)?))
    }

    /// Reads a whole file of unknown size and digest.
    fn whole(&self, url: &str) -> Result<Vec<u8>, Trouble> {
        let answer = self.client.get(url, 0, SIGNED_LIMIT)?;
        let mut bytes = Vec::new();
        let read = answer.body.take(SIGNED_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| Trouble::Broken(error.to_string()))?;
        if bytes.len() as u64 > SIGNED_LIMIT {
            return Err(Trouble::Wrong(format!("it has more than {SIGNED_LIMIT} bytes there")));
        }
        Ok(bytes)
    }

    fn insist(&self, ask: impl Fn() -> Result<Vec<u8>, Trouble>) -> Result<Vec<u8>, Trouble> {
        for failures in 1..self.limits.attempts {
            match ask() {
                Err(Trouble::Broken(_)) => thread::sleep(self.limits.pause_after(failures)),
                outcome => return outcome,
            }
        }
        ask()
    }

    /// The mirrors of an archive that may be asked.
    fn mirrors(&self, archive: &str) -> Result<Vec<&str>> {
        let mut mirrors = self.mirrors.of(archive)?;
        if self.reach == Reach::Offline {
            mirrors.retain(|url| url.starts_with("file://"));
            if mirrors.is_empty() {
                let problem = format!("files of the archive {archive:?} are not in the store, and the network is off");
                return Err(Exit::Outside.because(problem, "run it once without --offline"));
            }
        }
        Ok(mirrors)
    }

    fn failure(&self, path: &str, troubles: &[(String, Trouble)]) -> Error {
        const MOVED: &str =
            "the archive has moved on: begat lock RECIPE, or name a mirror or snapshot that still has it: --mirror URL";
        let reasons: String = troubles
            .iter()
            .map(|(url, trouble)| format!("\n  {url}: {}", trouble.text()))
            .collect();
        let problem = format!("no mirror gives {path}{reasons}");
        if troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Wrong(_))) {
            return Exit::LockMismatch.because(problem, "name a mirror that has what is locked: --mirror URL");
        }
        if troubles
            .iter()
            .all(|(_, trouble)| matches!(trouble, Trouble::Absent(_)))
        {
            return Exit::Outside.because(problem, MOVED);
        }
        Exit::Outside.because(
            problem,
            "try again (what has arrived is kept), or name another mirror: --mirror URL",
        )
    }
}

impl Wanted {
    fn target(&self) -> Target<'_> {
        Target {
            archive: &self.archive,
            paths: std::slice::from_ref(&self.path),
            sha256: self.sha256,
            size: self.size,
        }
    }
}

impl<'a> Target<'a> {
    fn name(&self) -> &'a str {
        self.paths.last().map_or("", String::as_str)
    }
}

/// The URL of a path below a mirror: what RFC 3986 does not let stand in a path is escaped.
fn address(mirror: &str, path: &str) -> String {
    if mirror.starts_with("file://") {
        return format!("{mirror}/{path}");
    }
    let mut url = format!("{mirror}/");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'+' | b':' | b'=' => {
                url.push(byte.into());
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

impl Archive for Net {
    fn signed(&self, archive: &str, path: &str) -> Result<Vec<u8>> {
        let mut troubles = Vec::new();
        for mirror in self.mirrors(archive)? {
            let url = address(mirror, path);
            match self.insist(|| self.whole(&url)) {
                Ok(bytes) => return Ok(bytes),
                Err(trouble) => troubles.push((url, trouble)),
            }
        }
        Err(self.failure(path, &troubles))
    }

    fn index(&self, archive: &str, paths: &[String], sha256: Sha256, size: u64) -> Result<Vec<u8>> {
        let target = Target {
            archive,
            paths,
            sha256,
            size,
        };
        if let Ok(bytes) = self.store.bytes(&sha256, size) {
            return Ok(bytes);
        }
        let progress = Progress::new(&[size]);
        let outcome = self.obtain(&target, &progress);
        progress.clear();
        outcome?;
        self.store.bytes(&sha256, size)
    }
}
