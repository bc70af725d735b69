//! What this machine's TEE vouches for around a build: the request, before anything of the recipe runs (*dispatch*), and
//! the generation record at the end (*completion*).

use std::path::Path;

use anyhow::Result;
use measure::evidence::Evidence;

use crate::document::claims::Claims;
use crate::document::provenance::{Builder, Machine, Run, Times};
use crate::mend::Exit;
use crate::model::job::Ordered;
use crate::model::record::Record;
use crate::model::{Manifest, Request, json};
use crate::stage::account::account;
use crate::stage::chain::{COMPLETION, DISPATCH};
use crate::stage::collect::{self, Places, ReportData, Source};
use crate::stage::finding::Finding;
use crate::stage::on_disk::OnDisk;
use crate::stage::recompute::recompute;
use crate::stage::release::Existing;
use crate::stage::sign::{Signable, Written};
use crate::stage::{say, sign};
use crate::world::clock;
use crate::world::store::Store;
use crate::world::tee::Silence;

/// Who is to vouch for a build.
#[derive(Debug)]
pub struct Attesting {
    pub places: Places,
    /// Only this one, where it is named.
    pub source: Option<Source>,
    /// Whether a build that nobody vouches for is to fail.
    pub required: bool,
}

/// A TEE that has vouched for a request, and will for its record.
#[derive(Debug)]
pub struct Witness<'a> {
    places: &'a Places,
    source: Source,
    dispatch: Evidence,
}

impl Attesting {
    /// Has the TEE vouch for the request; nothing where there is none and it is not required.
    ///
    /// # Errors
    /// There is none, though required; it fails.
    pub fn dispatch(&self, request: &Request) -> Result<Option<Witness<'_>>> {
        match self.ask(request) {
            Ok(witness) => Ok(Some(witness)),
            Err(Silence::Absent(why)) if !self.required => {
                say("attest", &format!("the release will be unattested: {why}"));
                Ok(None)
            }
            Err(silence) => Err(silence.into_error(collect::mends(self.source))),
        }
    }

    fn ask(&self, request: &Request) -> Result<Witness<'_>, Silence> {
        let data = ReportData::binding(request.terms.binding, &request.text());
        let (source, dispatch) = self.places.find(self.source, &data)?;
        say("attest", &format!("the request: evidence of the {}", source.name()));
        let places = &self.places;
        Ok(Witness {
            places,
            source,
            dispatch,
        })
    }
}

impl Witness<'_> {
    /// Returns the machine that this is.
    pub fn machine(&self) -> Machine {
        Machine::of(&self.dispatch)
    }

    /// Has the TEE vouch for the record; returns all that it said, as files of the release.
    ///
    /// # Errors
    /// It fails, or has become another one.
    pub fn complete(&self, record: &Record) -> Result<[Written; 2]> {
        let data = ReportData::binding(record.terms.binding, &record.text());
        let (source, completion) = self.places.collect(Some(self.source), &data)?;
        if Machine::of(&completion) != self.machine() {
            let problem = format!("the {} gives evidence of another machine than at first", source.name());
            return Err(Exit::Outside.because(problem, "do not move this VM while it builds"));
        }
        say("attest", &format!("the record: evidence of the {}", source.name()));
        Ok([
            (DISPATCH.into(), json(&self.dispatch)),
            (COMPLETION.into(), json(&completion)),
        ])
    }
}

/// Signs the release in `folder`, which any machine has built, in this one, which runs nothing of its recipe: makes again
/// from the packages of the `store` what follows from them, measures it, and has the TEE vouch for request and record.
///
/// # Errors
/// A release with findings, each of which is told; a store without its packages; another release than was ordered; no TEE;
/// a full disk.
pub fn split(
    folder: &Path,
    store: &Store,
    existing: Existing,
    ordered: &Ordered,
    attesting: &Attesting,
) -> Result<Claims> {
    let started_on = clock::now();
    let Signable { subject, on_disk } = sign::subject(folder, existing)?;
    let origin = &subject.manifest.origin;
    ordered.check(origin.lock)?;
    let (key, id) = (sign::ephemeral()?, sign::build_id()?);
    let request = Request::new(id, ordered.terms.clone(), origin, &key.public());
    let silent = |silence: Silence| silence.into_error(collect::mends(attesting.source));
    let witness = attesting.ask(&request).map_err(silent)?;
    look_at(&on_disk, store, &subject.manifest)?;
    let times = Times {
        started_on,
        finished_on: clock::now(),
    };
    let run = Run::new(id, Builder::Split(witness.machine()), Some(times));
    let claims = Claims::new(&subject, &run, ordered.terms.clone(), &key.public());
    let mut files = claims.signed_by(&key);
    files.extend(witness.complete(&claims.record)?);
    sign::append(folder, &files)?;
    Ok(claims)
}

/// Reads all that is in the release.
fn look_at(release: &OnDisk, store: &Store, manifest: &Manifest) -> Result<()> {
    say("attest", "measurements, images and bills of materials, once more");
    let account = account(release, store)?;
    if let Some(unchecked) = account.unchecked {
        let problem = format!("nothing is signed that was not compared: {unchecked}");
        return Err(Exit::Outside.because(problem, "name a store that has the packages of its lock: --store DIR"));
    }
    let untrue = account.findings.into_iter().map(Finding::Account);
    for content in &account.believed {
        let (path, image) = (&content.node.path, &content.node.image.0);
        say(
            "attest",
            &format!("believed, and not derived: {path} of {image}: {}", content.origin),
        );
    }
    let findings = recompute(release, manifest).into_iter().chain(untrue);
    let changed = release.changed().into_iter().map(|file| Finding::FileChanged { file });
    let findings: Vec<Finding> = findings.chain(changed).collect();
    if findings.is_empty() {
        return Ok(());
    }
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    let problem = format!("{} is not what its documents say: nothing was signed", release.shown());
    Err(Exit::No.because(problem, "build it again, from its lock"))
}
