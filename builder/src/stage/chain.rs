//! Releases in, the chain of their generations and findings about it out.
//!
//! A generation is linked to its parent by the digest of the parent's record. Evidence of the machine that built it must be
//! of the parent's image as a whole, and bind its record; generation 0 is vouched for by others.
//!
//! Evidence is judged as of when it was made, a parent as of when it built, and the release at hand as of the time of
//! verification. What a clock that lies can do is in `DESIGN.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use measure::evidence::Evidence;
use measure::{Sha256, Sha384};
use serde_json::Value;

use crate::document::provenance::{self, Builder, Machine, Run, Times};
use crate::mend::{Exit, OrMend as _, quoted};
use crate::model::file;
use crate::model::quorum::{self, Quorum};
use crate::model::record::Binding;
use crate::model::request::Request;
use crate::model::trust::Root;
use crate::model::{Lock, Manifest, Measurements, Record, Trust};
use crate::stage::appraise::{self, Appraisal, Judge, Wanted};
use crate::stage::finding::Finding;
use crate::stage::on_disk::OnDisk;
use crate::stage::parse::LOCK;
use crate::stage::signatures::Demand;
use crate::stage::verify::{self, Verdict};
use crate::stage::{pins, rebuilds};

/// Evidence of the machine that built a release, below its folder: before anything of the recipe ran, over the request, and
/// at the end, over the record.
pub use crate::model::file::{COMPLETION, DISPATCH};

/// A release and its place in a chain.
#[derive(Debug)]
pub struct Generation {
    pub folder: PathBuf,
    pub manifest: Manifest,
    pub record: Record,
    /// Reasons not to trust the release by itself.
    pub findings: Vec<Finding>,
    /// What no finding does not mean.
    pub unchecked: BTreeSet<String>,
    /// What the machines said that built it, as far as it was vouched for: by the name of the file.
    pub claims: BTreeMap<String, Value>,
    /// What the machines had vouched for.
    report_data: BTreeMap<String, Vec<u8>>,
    /// The very files that were judged.
    on_disk: Arc<OnDisk>,
    /// What it predicts, if nothing but its time is wrong with its files and signatures.
    measurements: Measurements,
    run: Option<(Builder, Option<Times>)>,
    /// Programs that the build took by the digest of the lock, and did not compile.
    taken: Vec<String>,
}

impl Generation {
    /// Reads the release in `folder` and verifies it by itself.
    ///
    /// # Errors
    /// A folder that is no signed release.
    pub fn read(folder: &Path, demand: &Demand) -> Result<Self> {
        Self::of_verdict(&verify::verify_whole(folder, None, demand)?)
    }

    /// As [`read`](Self::read), whoever has signed it, and whether or not it is valid now.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_at_any_time(folder: &Path) -> Result<Self> {
        Self::of_verdict(&verify::verify_at_any_time(folder, None)?)
    }

    fn of_verdict(verdict: &Verdict) -> Result<Self> {
        let shown = verdict.on_disk.shown();
        let mut generation = Self::of(verdict).ok_or_else(|| {
            let problem = format!("{shown} is no signed release, and so no part of a chain");
            Exit::No.because(problem, format!("see why: begat verify {shown}"))
        })?;
        if !verdict.measured {
            generation.unchecked.insert(verify::ARTIFACTS.into());
        }
        generation.on_disk.close(); // a chain may be longer than a process has handles
        Ok(generation)
    }

    /// Returns the generation that the release is of which this was found out; nothing if it is not signed.
    pub fn of(verdict: &Verdict) -> Option<Self> {
        let release = &verdict.on_disk;
        // a release without its recipe has a finding of its own; what it predicts is what its manifest lists
        let excused =
            |finding: &Finding| finding.is_about_time() || matches!(finding, Finding::RecipeUnreadable { .. });
        let judged = verdict.findings.iter().all(excused);
        let measurements = judged.then(|| text(release, file::MEASUREMENTS));
        let measurements = measurements.map(|text| text.and_then(|text| Measurements::parse(&text)));
        let run = text(release, provenance::FILE).ok();
        let run = run.and_then(|text| provenance::run(&text).ok());
        let taken = run.as_ref().map(|run| taken(release, run)).unwrap_or_default();
        Some(Self {
            folder: release.path().into(),
            on_disk: Arc::clone(release),
            manifest: verdict.manifest.clone()?,
            record: verdict.record.clone()?,
            findings: verdict.findings.clone(),
            unchecked: BTreeSet::new(),
            claims: BTreeMap::new(),
            report_data: BTreeMap::new(),
            // what cannot be read is a finding already, or nobody's launch
            measurements: measurements.and_then(Result::ok).unwrap_or_default(),
            run: run.map(|run| (run.builder, run.times)),
            taken,
        })
    }

    /// Returns the digest that names the release.
    pub fn release(&self) -> Sha256 {
        self.manifest.digest()
    }

    /// Returns the bytes of one of its files: those that were judged.
    ///
    /// # Errors
    /// A file that it has not, or that somebody has changed meanwhile.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let problem = || format!("cannot read {name} of {}", self.folder.display());
        self.on_disk
            .bytes(name)
            .or_mend(Exit::No, problem(), "verify the chain again")
    }

    /// Returns the number of the generation.
    pub const fn number(&self) -> u32 {
        self.record.terms.generation
    }

    /// Judges the release by the whole policy, as one of any age: what it was built from, who built it, and when. Evidence
    /// must be there, be of `parent` as a whole, and bind what it should.
    pub fn judge(&mut self, parent: Option<&Self>, judge: &Judge<'_>) {
        self.judge_builder(parent, judge);
        self.judge_origin(judge.trust);
        let after = parent.map(|parent| self.not_after(parent)).unwrap_or_default();
        let mistimed = self.mistimed(parent, judge);
        self.findings.extend(after.into_iter().chain(mistimed));
    }

    fn judge_builder(&mut self, parent: Option<&Self>, judge: &Judge<'_>) {
        let attested = parent.is_some() || self.record.terms.previous.is_some();
        let (request, record) = (Request::of(&self.record).text(), self.record.text());
        let mut instances = Vec::new();
        for (file, bound) in [(DISPATCH, &request), (COMPLETION, &record)] {
            match evidence(&self.on_disk, file) {
                Ok(Some(evidence)) => {
                    let wanted = Wanted {
                        launches: parent.map(|parent| parent.measurements.launches.as_slice()),
                        bound: Some((self.record.terms.binding, bound)),
                    };
                    let appraisal = appraise(judge, &evidence, &wanted, self.made(file));
                    self.findings.extend(self.other_builder(&evidence));
                    instances.extend(appraisal.instance.clone());
                    self.take(file, appraisal);
                }
                Ok(None) if attested => self.findings.push(Finding::EvidenceMissing { file: file.into() }),
                Ok(None) => {}
                Err(finding) => self.findings.push(finding),
            }
        }
        if let [dispatch, completion] = instances.as_slice()
            && !completion.follows(dispatch)
        {
            self.findings.push(Finding::OtherMachine);
        }
        self.judge_split(judge.trust.allow_split);
        if attested {
            let what = |name: &String| {
                format!("that {name} comes from its source: the build took it by the digest of the lock")
            };
            self.unchecked.extend(self.taken.iter().map(what));
            self.unchecked.insert(self.clock());
        }
    }

    /// Judges what the release was built from. One that the policy names is pinned whole, whoever has built it.
    fn judge_origin(&mut self, trust: &Trust) {
        if trust.root(self.release()).is_some() {
            return;
        }
        let origin = &self.manifest.origin;
        match self.lock() {
            Ok(lock) => {
                self.findings.extend(pins::refused(origin, &lock, trust));
                self.unchecked.extend(pins::open(&lock, trust));
            }
            Err(finding) if self.findings.contains(&finding) => {} // the verdict on its files says so
            Err(finding) => self.findings.push(finding),
        }
    }

    /// The lock, if it is that which the manifest names.
    fn lock(&self) -> Result<Lock, Finding> {
        let wanted = self.manifest.origin.lock;
        let text = text(&self.on_disk, LOCK).ok();
        let text = text.filter(|text| Sha256::of(text) == wanted);
        let lock = text.and_then(|text| Lock::parse(&text).ok());
        lock.ok_or(Finding::LockDiffers { wanted })
    }

    /// Judges generation 0, which nobody built whom evidence could vouch for: the policy must name it, or rebuilders must
    /// agree.
    fn judge_root(&mut self, judge: &Judge<'_>) {
        if self.record.terms.previous.is_some() {
            return;
        }
        let (release, root) = (self.release(), self.root(judge.trust));
        let asked = judge.quorum.is_some_and(Quorum::asks);
        let untrusted = (root.is_none() && !asked).then_some(Finding::RootNotTrusted { release });
        if root.is_none_or(|root| root.record.is_none()) {
            let ends = root.is_some_and(|root| root.not_after.is_some());
            self.unchecked.insert(unnamed(ends).into());
        }
        self.findings.extend(untrusted);
        self.findings.extend(self.other_root(judge.trust));
    }

    /// What is wrong with the record of generation 0. What that says of its number is nobody's word, unless the policy
    /// names the record or the number.
    fn other_root(&self, trust: &Trust) -> Vec<Finding> {
        if self.record.terms.previous.is_some() {
            return Vec::new();
        }
        let (root, record, found) = (self.root(trust), self.record.digest(), self.number());
        let named = root.and_then(|root| root.record);
        let differs = named.filter(|wanted| *wanted != record);
        let differs = differs.map(|wanted| Finding::RootRecordDiffers { found: record, wanted });
        let own = named.map_or(0, |_| found);
        let wanted = root.and_then(|root| root.generation).unwrap_or(own);
        let number = (found != wanted).then_some(Finding::RootNumberDiffers { found, wanted });
        differs.into_iter().chain(number).collect()
    }

    /// Judges whether anybody vouches for the number of this generation, where it is judged without its line: of generation 0
    /// the policy, of any other its parent. A floor is worth something only if the parent's number is known, too.
    pub fn judge_number(&mut self, parent: Option<&Self>, judge: &Judge<'_>) {
        let unknown = match parent {
            None => self.record.terms.previous,
            Some(parent) => parent.record.terms.previous.filter(|_| judge.trust.min_generation > 0),
        };
        let unknown = unknown.map(|previous| Finding::ParentMissing { previous });
        let other = parent.map(|parent| parent.other_root(judge.trust)).unwrap_or_default();
        self.findings.extend(unknown.into_iter().chain(other));
        self.judge_root(judge);
    }

    /// What the policy says of this release as generation 0.
    fn root<'a>(&self, trust: &'a Trust) -> Option<&'a Root> {
        let first = self.record.terms.previous.is_none();
        trust.root(self.release()).filter(|_| first)
    }

    /// Judges what rebuilders say. A quorum is for releases that no evidence vouches for; that somebody whom it names says
    /// that another release came out counts against any.
    fn judge_rebuilds(&mut self, quorum: Option<&Quorum>) {
        let verdict = rebuilds::verify(&self.on_disk, &self.manifest, quorum);
        let first = self.record.terms.previous.is_none();
        let counts = |finding: &quorum::Finding| first || !matches!(finding, quorum::Finding::QuorumNotMet { .. });
        let findings = verdict.findings.into_iter().filter(counts);
        self.findings.extend(findings.map(Finding::Rebuild));
    }

    /// Judges the release as the one that somebody is about to run, which is that which is `wanted`, where that is known.
    fn judge_at_hand(&mut self, judge: &Judge<'_>, wanted: Option<Sha256>) {
        let found = self.release();
        let differs = wanted.filter(|wanted| *wanted != found);
        let differs = differs.map(|wanted| Finding::ReleaseDiffers { found, wanted });
        self.findings.extend(self.not_current(judge).into_iter().chain(differs));
    }

    /// What is to be said against the release as the one that is to be run at the time of verification.
    pub fn not_current(&self, judge: &Judge<'_>) -> Vec<Finding> {
        let (found, floor, at) = (self.number(), judge.trust.min_generation, judge.at);
        let below = (found < floor).then_some(Finding::GenerationBelowFloor { found, floor });
        let Validity { not_before, not_after } = self.validity(judge.trust);
        let early = not_before.filter(|not_before| at < *not_before);
        let early = early.map(|not_before| Finding::NotYetValid { not_before, at });
        let late = not_after.filter(|not_after| at > *not_after);
        let late = late.map(|not_after| Finding::Expired { not_after, at });
        below.into_iter().chain(early).chain(late).collect()
    }

    /// When the release may be run: as its record says, and of generation 0 no longer than the policy says.
    fn validity(&self, trust: &Trust) -> Validity {
        let (terms, root) = (&self.record.terms, self.root(trust));
        let starts = terms
            .not_before
            .into_iter()
            .chain(root.and_then(|root| root.not_before));
        let ends = terms.not_after.into_iter().chain(root.and_then(|root| root.not_after));
        Validity {
            not_before: starts.max(),
            not_after: ends.min(),
        }
    }

    /// Before when it cannot have been built, and because of what.
    fn earliest(&self, parent: Option<&Self>) -> Option<(Timestamp, &'static str)> {
        let parent = parent.and_then(|parent| Some((parent.times()?.finished_on, "its parent")));
        let metadata = self.lock().map(|lock| lock.metadata).unwrap_or_default(); // what cannot be read is a finding already
        let published = metadata.into_iter().map(|one| (one.date, "what its lock names"));
        parent.into_iter().chain(published).max()
    }

    fn times(&self) -> Option<Times> {
        self.run.and_then(|(_, times)| times)
    }

    /// When evidence was made, by the clock of who made it.
    fn made(&self, file: &str) -> Option<Timestamp> {
        let times = self.times()?;
        Some(if file == DISPATCH {
            times.started_on
        } else {
            times.finished_on
        })
    }

    /// What is not known of when the release was built.
    fn clock(&self) -> String {
        match self.times() {
            Some(times) => format!(
                "that it was built at {}, as the clock of its builder said, which a host can set",
                times.started_on
            ),
            None => "when it was built, which it does not say: its evidence was judged as of now".into(),
        }
    }

    /// Returns what is said against this release, by the name of its folder: for a verdict about
    /// another one, which need not be valid at the same time.
    pub fn in_its_folder(self) -> impl Iterator<Item = Finding> {
        let Self { folder, findings, .. } = self;
        let lasting = findings.into_iter().filter(|finding| !finding.is_about_time());
        lasting.map(move |finding| finding.in_folder(&folder))
    }

    fn take(&mut self, file: &str, appraisal: Appraisal) {
        let about = |finding| Finding::Evidence {
            file: file.into(),
            finding: Box::new(finding),
        };
        self.findings.extend(appraisal.findings.into_iter().map(about));
        self.unchecked.extend(appraisal.unchecked);
        self.claims
            .extend(appraisal.claims.map(|claims| (file.to_owned(), claims)));
        let report_data = appraisal.report_data;
        self.report_data.extend(report_data.map(|data| (file.to_owned(), data)));
    }

    /// Whether evidence that carries this was made for this generation.
    fn is_bound_by(&self, data: &[u8]) -> bool {
        let texts = [Request::of(&self.record).text(), self.record.text()];
        let ways = texts
            .iter()
            .flat_map(|text| Binding::ALL.map(|binding| (binding, text)));
        let mut ways = ways.flat_map(|(binding, text)| [binding.data(text), binding.report_data(text).to_vec()]);
        ways.any(|bound| bound == data)
    }

    /// The provenance must name the kind of machine that its evidence is of.
    fn other_builder(&self, evidence: &Evidence) -> Option<Finding> {
        let machine = Machine::of(evidence);
        let wanted = match self.run?.0 {
            Builder::Split(_) => Builder::Split(machine),
            _ => Builder::Attested(machine),
        };
        let (found, _) = self.run.filter(|(found, _)| *found != wanted)?;
        Some(Finding::BuilderDiffers {
            found: found.id(),
            wanted: wanted.id(),
        })
    }

    /// A machine that measured again what another one built saw no build.
    fn judge_split(&mut self, allowed: bool) {
        match self.run {
            Some((Builder::Split(_), _)) if allowed => {
                let what = "that who vouches for the release has built it: the policy has allow-split";
                self.unchecked.insert(what.into());
            }
            Some((found @ Builder::Split(_), _)) => self.findings.push(Finding::BuilderSplit { found: found.id() }),
            _ => {}
        }
    }

    /// What is wrong with this as the generation after `parent`.
    fn not_after(&self, parent: &Self) -> Vec<Finding> {
        let (terms, number) = (&self.record.terms, parent.number());
        let wrong = match number.checked_add(1) {
            None => Some(Finding::GenerationsExhausted { parent: number }),
            Some(wanted) => (terms.generation != wanted).then_some(Finding::GenerationDiffers {
                found: terms.generation,
                wanted,
            }),
        };
        let other = (terms.previous != Some(parent.record.digest())).then(|| Finding::ParentDiffers {
            found: terms.previous.map_or("none".into(), |previous| previous.to_string()),
            wanted: parent.record.digest(),
        });
        wrong.into_iter().chain(other).collect()
    }

    /// What is wrong with when this was built, by the clock of its builder: while `parent` was valid, after that was built,
    /// and before now.
    fn mistimed(&self, parent: Option<&Self>, judge: &Judge<'_>) -> Vec<Finding> {
        let generation = self.number();
        let validity = parent.map_or_else(Validity::default, |parent| parent.validity(judge.trust));
        let parent_is_valid = validity.to_string();
        let Some(times) = self.times() else {
            let parent = parent_is_valid;
            let missing = validity
                .ends()
                .then_some(Finding::BuildTimesMissing { generation, parent });
            return missing.into_iter().collect();
        };
        let (started, finished) = (times.started_on, times.finished_on);
        let outside = !validity.holds(started) || !validity.holds(finished);
        let outside = outside.then_some(Finding::ParentNotValid {
            generation,
            started,
            finished,
            parent: parent_is_valid,
        });
        let wrong = impossible(times, self.earliest(parent), judge.at).map(|why| Finding::BuildTimesWrong {
            generation,
            started,
            finished,
            why,
        });
        outside.into_iter().chain(wrong).collect()
    }
}

/// Why no build ran then that could not begin before `earliest`.
fn impossible(times: Times, earliest: Option<(Timestamp, &str)>, now: Timestamp) -> Option<String> {
    let Times {
        started_on,
        finished_on,
    } = times;
    match earliest.filter(|(earliest, _)| started_on < *earliest) {
        _ if finished_on < started_on => Some("that ends before it begins".into()),
        _ if finished_on > now => Some(format!("the time of verification is {now}")),
        Some((earliest, what)) => Some(format!("{what} is of {earliest} only")),
        None => None,
    }
}

/// What is not known of generation 0 where the policy does not name its record.
const fn unnamed(ends: bool) -> &'static str {
    match ends {
        true => "who signed the record of generation 0: the policy does not name it",
        false => {
            "who signed the record of generation 0, and how long that is valid: \
             the policy names neither the record nor not-after"
        }
    }
}

/// When a release may be run.
#[derive(Default)]
struct Validity {
    not_before: Option<Timestamp>,
    not_after: Option<Timestamp>,
}

impl Validity {
    fn holds(&self, at: Timestamp) -> bool {
        self.not_before.is_none_or(|not_before| not_before <= at)
            && self.not_after.is_none_or(|not_after| at <= not_after)
    }

    /// Whether there is a time at which it does not hold.
    const fn ends(&self) -> bool {
        self.not_before.is_some() || self.not_after.is_some()
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.not_before.map(|time| format!("from {time}"));
        let until = self.not_after.map(|time| format!("until {time}"));
        f.write_str(&from.into_iter().chain(until).collect::<Vec<_>>().join(" "))
    }
}

/// Judges evidence as of when it was made, and no later than now. Certificates and collateral that came along may be newer
/// than the evidence: what is newer knows more. What had expired when the evidence was made does not count.
fn appraise(judge: &Judge<'_>, evidence: &Evidence, wanted: &Wanted<'_>, made: Option<Timestamp>) -> Appraisal {
    let as_of = |at| Judge { at, ..*judge }.appraise(evidence, wanted);
    let appraisal = as_of(made.map_or(judge.at, |made| made.min(judge.at)));
    let begins = appraisal.findings.iter().filter_map(appraise::Finding::begins).max();
    match begins.filter(|begins| *begins <= judge.at) {
        Some(begins) => as_of(begins),
        None => appraisal,
    }
}

fn text(release: &OnDisk, name: &str) -> Result<String> {
    release.text(name).with_context(|| format!("cannot read {name}"))
}

/// The programs of the lock that a run has not compiled.
fn taken(release: &OnDisk, run: &Run) -> Vec<String> {
    let lock = text(release, LOCK).and_then(|text| Lock::parse(&text));
    let payloads = lock.map(|lock| lock.payload).unwrap_or_default(); // what cannot be read is a finding already
    let compiled = payloads.into_iter().filter(|payload| payload.compiled.is_some());
    let names = compiled.map(|payload| payload.name.to_string());
    names.filter(|name| !run.compiled.contains(name)).collect()
}

/// Reads evidence of a release; nothing where there is none.
fn evidence(release: &OnDisk, name: &str) -> Result<Option<Evidence>, Finding> {
    let unreadable = |why: String| Finding::EvidenceUnreadable {
        file: name.into(),
        why: quoted(why),
    };
    match release.bytes(name) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}

/// Generations that may belong together.
#[derive(Debug)]
pub struct Chain {
    pub generations: Vec<Generation>,
}

impl Chain {
    /// Reads releases. The same folder given twice counts once, where it comes last; another folder with the same release
    /// is judged as well.
    ///
    /// # Errors
    /// A folder that is no signed release.
    pub fn read(folders: &[PathBuf], demand: &Demand) -> Result<Self> {
        let place = |folder: &PathBuf| folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let places: Vec<PathBuf> = folders.iter().map(place).collect();
        let last = |index: usize| !places[index + 1..].contains(&places[index]);
        let folders = folders.iter().enumerate().filter(|(index, _)| last(*index));
        let read = folders.map(|(_, folder)| Generation::read(folder, demand));
        let generations = read.collect::<Result<_>>()?;
        Ok(Self { generations })
    }

    /// Returns the generations that were built in the one with this record, or in none that is here, in order.
    pub fn built_in(&self, record: Option<Sha384>) -> Vec<&Generation> {
        let records: BTreeSet<Sha384> = self.generations.iter().map(|one| one.record.digest()).collect();
        let parent = |one: &Generation| one.record.terms.previous.filter(|previous| records.contains(previous));
        let mut children: Vec<_> = self.generations.iter().filter(|one| parent(one) == record).collect();
        children.sort_by_key(|one| (one.number(), one.release()));
        children
    }

    /// Takes the line from generation 0 to the last release apart from the rest, and judges each of its links; the last must
    /// be the release that is `wanted`, where that is known.
    ///
    /// Returns the line, the oldest first.
    pub fn line(mut self, judge: &Judge<'_>, wanted: Option<Sha256>) -> Vec<Generation> {
        let mut line: Vec<Generation> = self.generations.pop().into_iter().collect();
        while let Some(previous) = line.last().and_then(|one| one.record.terms.previous) {
            let parent = self.generations.iter().position(|one| one.record.digest() == previous);
            match parent {
                Some(parent) => line.push(self.generations.remove(parent)),
                None => {
                    let orphan = line.last_mut().expect("it names its parent");
                    orphan.findings.push(Finding::ParentMissing { previous });
                    break;
                }
            }
        }
        line.reverse();
        for index in 0..line.len() {
            let (parents, rest) = line.split_at_mut(index);
            rest[0].findings.retain(|finding| !finding.is_about_time()); // a parent is valid when it builds
            rest[0].judge(parents.last(), judge);
            rest[0].judge_rebuilds(judge.quorum);
        }
        if let Some(first) = line.first_mut() {
            first.judge_root(judge);
        }
        judge_copies(&mut self.generations, &line, judge);
        let mut findings = stolen(&line);
        findings.extend(forks(&line, &self.generations));
        findings.extend(self.generations.into_iter().flat_map(Generation::in_its_folder));
        if let Some(last) = line.last_mut() {
            last.findings.extend(findings);
            last.judge_at_hand(judge, wanted);
        }
        line
    }
}

/// Judges who built the releases that have the record of one of the line, and may have other evidence.
fn judge_copies(others: &mut [Generation], line: &[Generation], judge: &Judge<'_>) {
    for (index, one) in line.iter().enumerate() {
        let parent = index.checked_sub(1).map(|parent| &line[parent]);
        let record = one.record.digest();
        let copies = others.iter_mut().filter(|other| other.record.digest() == record);
        copies.for_each(|copy| copy.judge(parent, judge));
    }
}

/// Evidence of one generation that was put to another one.
fn stolen(line: &[Generation]) -> Vec<Finding> {
    let found = |one: &Generation, (file, data): (&String, &Vec<u8>)| {
        let owner = line
            .iter()
            .find(|owner| owner.number() != one.number() && owner.is_bound_by(data))?;
        Some(Finding::EvidenceOfOther {
            file: file.clone(),
            generation: one.number(),
            found: owner.number(),
        })
    };
    let carried = line
        .iter()
        .flat_map(|one| one.report_data.iter().map(move |data| (one, data)));
    carried.filter_map(|(one, data)| found(one, data)).collect()
}

/// Numbers that several releases have, one of them in the line.
fn forks(line: &[Generation], others: &[Generation]) -> Vec<Finding> {
    let fork = |one: &Generation| {
        let same = others
            .iter()
            .filter(|other| other.number() == one.number() && other.release() != one.release());
        let same: Vec<String> = same.map(|other| other.release().to_string()).collect();
        let releases = [vec![one.release().to_string()], same].concat();
        (releases.len() > 1).then_some(Finding::GenerationForked {
            generation: one.number(),
            releases,
        })
    };
    line.iter().filter_map(fork).collect()
}

/// The last generation up to which nothing is said against the line, if nothing is said against running that one now.
pub fn last_good<'a>(line: &'a [Generation], judge: &Judge<'_>) -> Option<&'a Generation> {
    let good = line.iter().take_while(|one| one.findings.is_empty()).last();
    good.filter(|good| good.not_current(judge).is_empty())
}
