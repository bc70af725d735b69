//! A repository of an OCI registry (distribution specification 1.1): manifests, blobs, and what refers to a manifest.
//!
//! Nothing that a registry sends is believed but by its digest. Credentials go to the registry and to the token server
//! that it names; no other host sees them, whether a redirect, an upload or a page leads there, and whatever it asks for.

mod challenge;
mod send;
mod upload;

use std::io::Read as _;
use std::sync::Mutex;

use anyhow::{Error, Result};
use measure::{ReadAt, Sha256};
use serde_json::{Value, json};

use super::credentials::Credentials;
use super::download::{Download, Trouble};
use super::environment::{Environment, Proxies};
use super::http::{self, Client};
use super::net::Limits;
use super::partial::Partial;
use super::progress::Progress;
use super::{Store, parallel};
use crate::mend::{Exit, OrMend as _};
use crate::model::oci::{self, Descriptor, Digest, Index, Name, Reference};
use crate::model::release::Stamp;
use send::{Method, Request};

/// What a manifest may have at most, in bytes: what the specification asks registries to take.
const MANIFEST_LIMIT: u64 = 4 << 20;

/// More pages of referrers than anybody reads.
const PAGES: usize = 64;

/// A repository, as seen from here.
#[derive(Debug)]
pub struct Registry {
    host: String,
    repository: String,
    /// Plain HTTP was asked for.
    plain: bool,
    client: Client,
    limits: Limits,
    credentials: Credentials,
    /// What the registry took last.
    authorization: Mutex<Option<String>>,
}

/// How registries are reached.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub proxies: Proxies,
    /// Files with credentials, the first first.
    pub logins: Vec<std::path::PathBuf>,
    pub limits: Limits,
    /// Plain HTTP, to registries that are not on this machine too.
    pub plain_http: bool,
}

impl Access {
    /// Returns the way that this environment gives.
    pub fn of(environment: &Environment, plain_http: bool) -> Self {
        Self {
            proxies: environment.proxies.clone(),
            logins: environment.logins.clone(),
            limits: Limits::default(),
            plain_http,
        }
    }
}

/// A file of a registry, by digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Blob {
    /// What people call it.
    pub name: String,
    pub stamp: Stamp,
}

impl Registry {
    /// Returns the repository that a reference names; nothing is asked yet.
    ///
    /// # Errors
    /// A file of credentials that cannot be read.
    pub fn new(reference: &Reference, access: &Access) -> Result<Self> {
        let (host, repository) = (reference.host.clone(), reference.repository.clone());
        Ok(Self {
            credentials: Credentials::find(&access.logins, &host, &repository)?,
            host,
            repository,
            plain: access.plain_http,
            client: Client::new(access.proxies.clone(), access.limits.stall),
            limits: access.limits,
            authorization: Mutex::default(),
        })
    }

    /// Returns the bytes of a manifest; none where there is none. By digest, they are the right ones.
    ///
    /// # Errors
    /// A registry that does not answer, refuses, or sends other bytes than its digest names.
    pub fn manifest(&self, name: &Name) -> Result<Option<Vec<u8>>> {
        match self.insist(|| self.get_manifest(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Trouble::Absent(_)) => Ok(None),
            Err(trouble) => Err(self.failure(format!("cannot read the manifest {name}"), &trouble)),
        }
    }

    fn get_manifest(&self, name: &Name) -> Result<Vec<u8>, Trouble> {
        let url = self.url(&format!("manifests/{name}"));
        let accept = format!("{}, {}, {DOCKER}", oci::MANIFEST, oci::INDEX);
        let response = self.send(&Request::new(Method::Get, url).header("Accept", accept))?;
        let bytes = send::bytes(response, MANIFEST_LIMIT)?;
        match name {
            Name::Digest(wanted) if Digest::of(&bytes) != *wanted => Err(Trouble::Wrong(format!(
                "its bytes have the digest {}",
                Digest::of(&bytes)
            ))),
            _ => Ok(bytes),
        }
    }

    /// Returns whether a blob is there.
    ///
    /// # Errors
    /// As [`Registry::manifest`].
    pub fn has_blob(&self, blob: &Blob) -> Result<bool> {
        let found = self.insist(|| self.head_blob(&blob.stamp.sha256));
        found.map_err(|trouble| self.failure(format!("cannot ask for {}", blob.name), &trouble))
    }

    fn head_blob(&self, sha256: &Sha256) -> Result<bool, Trouble> {
        let url = self.url(&format!("blobs/{}", Digest(*sha256)));
        match self.send(&Request::new(Method::Head, url)) {
            Ok(_) => Ok(true),
            Err(Trouble::Absent(_)) => Ok(false),
            Err(trouble) => Err(trouble),
        }
    }

    /// Sends a blob, in pieces, and after a cut from where the registry has it.
    ///
    /// # Errors
    /// As [`Registry::manifest`], and a file that cannot be read or whose bytes are others.
    pub fn push_blob(&self, blob: &Blob, file: &dyn ReadAt) -> Result<()> {
        let outcome = self.upload(&blob.stamp, file);
        outcome.map_err(|trouble| self.failure(format!("cannot send {}", blob.name), &trouble))
    }

    /// Sends a manifest under a tag or its own digest; returns whether the registry lists it as a referrer by itself.
    ///
    /// # Errors
    /// As [`Registry::manifest`].
    pub fn put_manifest(&self, name: &Name, media_type: &str, bytes: &[u8]) -> Result<bool> {
        let url = self.url(&format!("manifests/{name}"));
        let request = Request::new(Method::Put, url)
            .header("Content-Type", media_type.into())
            .body(bytes);
        let outcome = self.insist(|| self.send(&request));
        let response = outcome.map_err(|trouble| self.failure(format!("cannot send the manifest {name}"), &trouble))?;
        Ok(response.headers().contains_key("OCI-Subject"))
    }

    /// Returns what refers to a manifest: by the referrers API, or by the fallback tag where the registry lacks it.
    ///
    /// # Errors
    /// As [`Registry::manifest`], and an index that is none.
    pub fn referrers(&self, digest: &Digest) -> Result<Vec<Descriptor>> {
        match self.insist(|| self.pages(digest)) {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.fallback(digest),
            Err(trouble) => Err(self.failure("cannot read what refers to the release", &trouble)),
        }
    }

    /// What the referrers API says; none where there is no such API.
    fn pages(&self, digest: &Digest) -> Result<Option<Vec<Descriptor>>, Trouble> {
        let mut found = Vec::new();
        let mut url = self.url(&format!("referrers/{digest}"));
        for _ in 0..PAGES {
            let response = match self.send(&Request::new(Method::Get, url).header("Accept", oci::INDEX.into())) {
                Err(Trouble::Absent(_)) if found.is_empty() => return Ok(None),
                response => response?,
            };
            let next = send::next_page(&response);
            let index: Index = serde_json::from_slice(&send::bytes(response, MANIFEST_LIMIT)?)
                .map_err(|error| Trouble::Wrong(format!("its list of referrers is no index: {error}")))?;
            found.extend(index.manifests);
            match next {
                Some(next) => url = self.resolve(&next)?,
                None => return Ok(Some(found)),
            }
        }
        Err(Trouble::Wrong(format!(
            "its list of referrers has more than {PAGES} pages"
        )))
    }

    fn fallback(&self, digest: &Digest) -> Result<Vec<Descriptor>> {
        let Some(bytes) = self.manifest(&Name::Tag(digest.fallback_tag()))? else {
            return Ok(Vec::new());
        };
        let index: Result<Index, _> = serde_json::from_slice(&bytes);
        index
            .map(|index| index.manifests)
            .or_mend(Exit::No, self.not_an_index(digest), OTHERS_TAG)
    }

    /// Lists `new` under the fallback tag of the manifest they refer to, after what others have listed there.
    ///
    /// # Errors
    /// As [`Registry::manifest`], and a tag that names something else.
    pub fn list_referrers(&self, digest: &Digest, new: &[Descriptor]) -> Result<()> {
        let tag = Name::Tag(digest.fallback_tag());
        let mut index: Value = match self.manifest(&tag)? {
            Some(bytes) => serde_json::from_slice(&bytes).or_mend(Exit::No, self.not_an_index(digest), OTHERS_TAG)?,
            None => json!({"schemaVersion": 2, "mediaType": oci::INDEX, "manifests": []}),
        };
        let listed = index.get_mut("manifests").and_then(Value::as_array_mut);
        let listed = listed.ok_or_else(|| Exit::No.because(self.not_an_index(digest), OTHERS_TAG))?;
        let before = listed.len();
        for descriptor in new {
            let digest = descriptor.digest.to_string();
            if !listed.iter().any(|entry| entry["digest"] == digest.as_str()) {
                listed.push(json!(descriptor));
            }
        }
        if listed.len() == before {
            return Ok(());
        }
        self.put_manifest(&tag, oci::INDEX, crate::model::json(&index).as_bytes())
            .map(drop)
    }

    fn not_an_index(&self, digest: &Digest) -> String {
        format!(
            "{}/{}:{} is no index",
            self.host,
            self.repository,
            digest.fallback_tag()
        )
    }

    /// Brings blobs into the store; those that are there stay, a cut download goes on where it was cut.
    ///
    /// # Errors
    /// A blob that the registry does not give; with wrong bytes `Exit::No`.
    pub fn fetch(&self, store: &Store, blobs: &[Blob]) -> Result<()> {
        let sizes: Vec<_> = blobs.iter().map(|blob| (blob.stamp.sha256, blob.stamp.size)).collect();
        let mut missing = store.missing(&sizes);
        missing.sort();
        missing.dedup();
        let wanted = missing
            .iter()
            .filter_map(|sha256| blobs.iter().find(|blob| blob.stamp.sha256 == *sha256));
        let wanted: Vec<&Blob> = wanted.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let sizes: Vec<u64> = wanted.iter().map(|blob| blob.stamp.size).collect();
        let progress = Progress::new(&sizes);
        let outcomes = parallel::map_waiting(&wanted, self.limits.connections, |blob| {
            self.obtain(store, blob, &progress)
        });
        let outcome: Result<()> = outcomes.into_iter().collect();
        progress.clear();
        outcome.inspect(|()| progress.report())
    }

    fn obtain(&self, store: &Store, blob: &Blob, progress: &Progress) -> Result<()> {
        progress.name(&blob.name);
        let Stamp { sha256, size } = blob.stamp;
        let Some(mut partial) = Partial::open(store, sha256, size)? else {
            progress.add(size);
            return Ok(());
        };
        progress.add(partial.length());
        let limits = self.limits;
        let download = Download {
            sha256,
            size,
            says: "the manifest says",
            limits,
            progress,
        };
        let url = self.url(&format!("blobs/{}", Digest(sha256)));
        let trouble = download.complete(&mut partial, |from, most| {
            let request = Request::new(Method::Get, url.clone()).of(most);
            let range = (from > 0).then(|| format!("bytes={from}-"));
            let request = range
                .into_iter()
                .fold(request, |request, range| request.header("Range", range));
            Ok(http::answer(self.send(&request)?, from)?)
        })?;
        match trouble {
            None => partial.take_in(),
            Some(trouble) => Err(self.failure(format!("cannot fetch {} ({})", blob.name, Digest(sha256)), &trouble)),
        }
    }

    fn insist<T>(&self, ask: impl Fn() -> Result<T, Trouble>) -> Result<T, Trouble> {
        for failures in 1..self.limits.attempts {
            match ask() {
                Err(Trouble::Broken(_)) => std::thread::sleep(self.limits.pause_after(failures)),
                outcome => return outcome,
            }
        }
        ask()
    }

    /// What went wrong, and what to do about it.
    fn failure(&self, what: impl std::fmt::Display, trouble: &Trouble) -> Error {
        let (host, repository) = (&self.host, &self.repository);
        let problem = format!("{what}\n  {host}/{repository}: {}", trouble.text());
        match trouble {
            Trouble::Absent(_) => {
                Exit::Outside.because(problem, "correct the repository's name, or make it at that registry")
            }
            Trouble::Wrong(_) => Exit::No.because(
                problem,
                "do not use that registry; the release's digest names what is right",
            ),
            Trouble::Broken(_) => Exit::Outside.because(problem, "try again: what has arrived is kept"),
            Trouble::Denied(_) => Exit::Outside.because(problem, self.log_in_again()),
            Trouble::Refused(_) => Exit::Outside.because(problem, "do what the registry says, or ask who runs it"),
        }
    }

    fn log_in_again(&self) -> String {
        if let Credentials::Helper(program) = &self.credentials {
            return format!(
                "the program docker-credential-{program} has the credentials, and begat does not start it: \
                 write them to a file with podman login --authfile FILE {0}, and set REGISTRY_AUTH_FILE=FILE",
                self.host
            );
        }
        format!(
            "log in with an account that may do that, with podman login {0} or docker login {0}: begat reads their files",
            self.host
        )
    }
}

/// What older registries say instead of [`oci::MANIFEST`] and [`oci::INDEX`].
const DOCKER: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

const OTHERS_TAG: &str = "somebody else uses that tag: remove it at the registry";

/// Reads no more than `limit` bytes.
fn bounded(reader: impl std::io::Read, limit: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = reader.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Trouble::Broken(error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(Trouble::Wrong(format!("it has more than {limit} bytes there")));
    }
    Ok(bytes)
}
