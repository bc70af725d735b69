//! Payloads from URLs and registries into the store.

use anyhow::{Error, Result};
use measure::Sha256;

use super::download::{Download, Trouble};
use super::net::{Net, Reach};
use super::partial::Partial;
use super::progress::Progress;
use super::registry::{Blob, Registry};
use crate::mend::{self, Exit, OrMend as _};
use crate::model::oci::{self, Descriptor, Digest, Reference};
use crate::model::payload::Source;
use crate::model::release::Stamp;

/// What a payload may have at most, in bytes.
const LIMIT: u64 = 32 << 30;

impl Net {
    /// Returns the stamp of the payload that the command line supplies under this name.
    pub fn supplied(&self, name: &str) -> Option<Stamp> {
        self.supplied.get(name).copied()
    }

    /// Returns what a payload is, from what the recipe says of it, what the store has, and what the source says.
    ///
    /// # Errors
    /// A digest or a size that nobody says.
    pub fn stamp(&self, source: Option<&Source>, sha256: Option<Sha256>, size: Option<u64>) -> Result<Stamp> {
        let known = |sha256: &Sha256| size.or_else(|| self.store.size(sha256));
        if let Some((sha256, size)) = sha256.and_then(|sha256| Some((sha256, known(&sha256)?))) {
            return Ok(Stamp { sha256, size });
        }
        match (source, sha256) {
            (Some(Source::Url(url)), Some(sha256)) => {
                let size = self.size_there(url)?;
                Ok(Stamp { sha256, size })
            }
            (Some(source @ Source::Oci(_)), _) => self.layer(source, sha256),
            (Some(_), _) => Err(unsaid("the recipe does not pin its digest")),
            (None, None) => Err(unsaid("the recipe names neither a source nor a digest")),
            (None, Some(_)) => Err(unsaid("the recipe names no source")),
        }
    }

    fn size_there(&self, url: &str) -> Result<u64> {
        self.online()?;
        let answer = self
            .client
            .get(url, 0, 0)
            .map_err(|refusal| failure(url, &refusal.into()))?;
        let size = answer.size.filter(|size| *size <= LIMIT);
        size.ok_or_else(|| unsaid("the source does not say its size: write `size` into the recipe"))
    }

    /// The blob of an artifact that has this digest, or the only one.
    fn layer(&self, source: &Source, sha256: Option<Sha256>) -> Result<Stamp> {
        self.online()?;
        let reference = reference(source)?;
        let name = &reference.name;
        let absent = || Exit::Outside.because(format!("there is no {reference}"), "supply it");
        let bytes = Registry::new(&reference, &self.access)?
            .manifest(name)?
            .ok_or_else(absent)?;
        let manifest: oci::Manifest = serde_json::from_slice(&bytes).or_mend(
            Exit::Usage,
            format!("{reference} is no manifest with layers"),
            "name the manifest of one platform, not an index",
        )?;
        let wanted = manifest
            .layers
            .iter()
            .filter(|layer| sha256.is_none_or(|sha256| layer.digest == Digest(sha256)));
        match wanted.collect::<Vec<_>>().as_slice() {
            [Descriptor { digest, size, .. }] if *size <= LIMIT => Ok(Stamp {
                sha256: digest.0,
                size: *size,
            }),
            layers => {
                let problem = format!("{} of the layers of {reference} could be meant", layers.len());
                Err(Exit::Usage.because(problem, "name one by its digest: `sha256` in recipe.toml"))
            }
        }
    }

    /// Brings a payload into the store.
    ///
    /// # Errors
    /// No source, or one that does not give it; with wrong bytes a lock mismatch.
    pub fn payload(&self, source: Option<&Source>, name: &str, stamp: Stamp) -> Result<()> {
        match source {
            Some(Source::Url(url)) => self.online().and_then(|()| self.download(url, name, stamp)),
            Some(source @ Source::Oci(_)) => {
                self.online()?;
                let blob = Blob {
                    name: name.to_owned(),
                    stamp,
                };
                let fetched = Registry::new(&reference(source)?, &self.access)?.fetch(&self.store, &[blob]);
                match fetched {
                    Err(error) if mend::exit_code(&error) == Exit::No => {
                        Err(error).or_mend(Exit::LockMismatch, WRONG, OTHER_SOURCE)
                    }
                    fetched => fetched,
                }
            }
            _ => Err(unsaid("the recipe names no source")),
        }
    }

    fn download(&self, url: &str, name: &str, Stamp { sha256, size }: Stamp) -> Result<()> {
        let progress = &Progress::new(&[size]);
        progress.name(name);
        let Some(mut partial) = Partial::open(&self.store, sha256, size)? else {
            return Ok(());
        };
        progress.add(partial.length());
        let limits = self.limits;
        let download = Download {
            sha256,
            size,
            says: "the lock says",
            limits,
            progress,
        };
        let trouble = download.complete(&mut partial, |from, most| Ok(self.client.get(url, from, most)?))?;
        progress.clear();
        match trouble {
            None => partial.take_in(),
            Some(trouble) => Err(failure(url, &trouble)),
        }
    }

    fn online(&self) -> Result<()> {
        match self.reach {
            Reach::Online => Ok(()),
            Reach::Offline => Err(Exit::Outside.because(
                "it is not in the store, and the network is off",
                "run it once without --offline",
            )),
        }
    }
}

const WRONG: &str = "the registry has other bytes than the lock names";
const OTHER_SOURCE: &str = "name a source that has what is locked, or supply the file: --supply NAME=FILE";

fn reference(source: &Source) -> Result<Reference> {
    source
        .reference()
        .ok_or_else(|| Exit::Usage.because(format!("{source} is no reference"), "correct it in recipe.toml"))
}

fn unsaid(problem: &str) -> Error {
    Exit::Outside.because(problem, "supply the file: --supply NAME=FILE")
}

fn failure(url: &str, trouble: &Trouble) -> Error {
    let exit = if let Trouble::Wrong(_) = trouble {
        Exit::LockMismatch
    } else {
        Exit::Outside
    };
    exit.because(format!("{url}: {}", trouble.text()), OTHER_SOURCE)
}
