//! Releases in, the chain of their generations and findings about it out.
//!
//! A generation is linked to its parent by the digest of the parent's record. Evidence of the machine that built it must be
//! of the parent's image as a whole, and bind its record; generation 0 is vouched for by others.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use measure::evidence::Evidence;
use measure::{Sha256, Sha384};
use serde_json::Value;

use crate::document::provenance::{self, Builder, Machine, Run, Times};
use crate::mend::Exit;
use crate::model::record::{Binding, Terms};
use crate::model::request::Request;
use crate::model::{Lock, Manifest, Measurements, Record};
use crate::stage::appraise::{Appraisal, Judge, Wanted};
use crate::stage::finding::Finding;
use crate::stage::parse::LOCK;
use crate::stage::rebuilds;
use crate::stage::signatures::Demand;
use crate::stage::verify::{self, Verdict};
use crate::world::files;

/// Evidence of the machine that built a release, below its folder: before anything of the recipe ran, over the request, and
/// at the end, over the record.
pub const DISPATCH: &str = "evidence/dispatch.json";
pub const COMPLETION: &str = "evidence/completion.json";

/// What evidence has at most, in bytes: an event log has some hundred KiB.
const LIMIT: u64 = 16 << 20;

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
        let verdict = verify::verify_whole(folder, None, demand)?;
        let shown = folder.display();
        let mut generation = Self::of(folder, &verdict).ok_or_else(|| {
            let problem = format!("{shown} is no signed release, and so no part of a chain");
            Exit::No.because(problem, format!("see why: begat verify {shown}"))
        })?;
        if !verdict.measured {
            generation.unchecked.insert(verify::ARTIFACTS.into());
        }
        Ok(generation)
    }

    /// Returns the generation that the release in `folder` is, of which this was found out; nothing if it is not signed.
    pub fn of(folder: &Path, verdict: &Verdict) -> Option<Self> {
        let measurements = text(folder, "measurements.json").and_then(|text| Measurements::parse(&text));
        let run = text(folder, provenance::FILE).ok();
        let run = run.and_then(|text| provenance::run(&text).ok());
        let taken = run.as_ref().map(|run| taken(folder, run)).unwrap_or_default();
        Some(Self {
            folder: folder.into(),
            manifest: verdict.manifest.clone()?,
            record: verdict.record.clone()?,
            findings: verdict.findings.clone(),
            unchecked: BTreeSet::new(),
            claims: BTreeMap::new(),
            report_data: BTreeMap::new(),
            measurements: measurements.unwrap_or_default(), // what cannot be read is a finding already, or nobody's launch
            run: run.map(|run| (run.builder, run.times)),
            taken,
        })
    }

    /// Returns the digest that names the release.
    pub fn release(&self) -> Sha256 {
        self.manifest.digest()
    }

    /// Returns the number of the generation.
    pub const fn number(&self) -> u32 {
        self.record.terms.generation
    }

    /// Judges who built the release: evidence must be there, be of `parent` as a whole, and bind what it should.
    pub fn judge_builder(&mut self, parent: Option<&Self>, judge: &Judge<'_>) {
        let attested = parent.is_some() || self.record.terms.previous.is_some();
        let (request, record) = (Request::of(&self.record).text(), self.record.text());
        let mut instances = Vec::new();
        for (file, bound) in [(DISPATCH, &request), (COMPLETION, &record)] {
            match evidence(&self.folder, file) {
                Ok(Some(evidence)) => {
                    let wanted = Wanted {
                        launches: parent.map(|parent| parent.measurements.launches.as_slice()),
                        bound: Some((self.record.terms.binding, bound)),
                    };
                    let appraisal = judge.appraise(&evidence, &wanted);
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
        }
        let after = parent.map(|parent| self.not_after(parent));
        self.findings.extend(after.into_iter().flatten());
    }

    /// Judges generation 0, which nobody built whom evidence could vouch for: the policy must name it, or rebuilders must
    /// agree.
    fn judge_root(&mut self, judge: &Judge<'_>) {
        let release = self.release();
        if self.record.terms.previous.is_some() || judge.trust.roots.contains(&release) {
            return;
        }
        match judge.quorum {
            Some(quorum) => {
                let verdict = rebuilds::verify(&self.folder, &self.manifest, Some(quorum));
                self.findings.extend(verdict.findings.into_iter().map(Finding::Rebuild));
            }
            None => self.findings.push(Finding::RootNotTrusted { release }),
        }
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
        let (terms, wanted) = (&self.record.terms, parent.number().saturating_add(1));
        let differs = (terms.generation != wanted).then_some(Finding::GenerationDiffers {
            found: terms.generation,
            wanted,
        });
        let other = (terms.previous != Some(parent.record.digest())).then(|| Finding::ParentDiffers {
            found: terms.previous.map_or("none".into(), |previous| previous.to_string()),
            wanted: parent.record.digest(),
        });
        let started = self.run.and_then(|(_, times)| Some(times?.started_on));
        let late = started.filter(|started| !holds(&parent.record.terms, *started));
        let late = late.map(|started| Finding::ParentNotValid {
            generation: terms.generation,
            started,
            parent: validity(&parent.record.terms),
        });
        differs.into_iter().chain(other).chain(late).collect()
    }
}

fn holds(terms: &Terms, at: jiff::Timestamp) -> bool {
    terms.not_before.is_none_or(|not_before| not_before <= at)
        && terms.not_after.is_none_or(|not_after| at <= not_after)
}

fn validity(terms: &Terms) -> String {
    let from = terms.not_before.map(|time| format!("from {time}"));
    let until = terms.not_after.map(|time| format!("until {time}"));
    from.into_iter().chain(until).collect::<Vec<_>>().join(" ")
}

fn text(folder: &Path, name: &str) -> Result<String> {
    Ok(String::from_utf8(
        files::read(&folder.join(name), LIMIT).with_context(|| format!("cannot read {name}"))?,
    )?)
}

/// The programs of the lock that a run has not compiled.
fn taken(folder: &Path, run: &Run) -> Vec<String> {
    let lock = text(folder, LOCK).and_then(|text| Lock::parse(&text));
    let payloads = lock.map(|lock| lock.payload).unwrap_or_default(); // what cannot be read is a finding already
    let compiled = payloads.into_iter().filter(|payload| payload.compiled.is_some());
    let names = compiled.map(|payload| payload.name.to_string());
    names.filter(|name| !run.compiled.contains(name)).collect()
}

/// Reads evidence of a release; nothing where there is none.
fn evidence(folder: &Path, name: &str) -> Result<Option<Evidence>, Finding> {
    let unreadable = |why: String| Finding::EvidenceUnreadable {
        file: name.into(),
        why: why.replace(char::is_control, " "),
    };
    match files::read(&folder.join(name), LIMIT) {
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
    /// Reads releases; the same one given twice counts once.
    ///
    /// # Errors
    /// A folder that is no signed release.
    pub fn read(folders: &[PathBuf], demand: &Demand) -> Result<Self> {
        let mut known = BTreeSet::new();
        let mut generations = Vec::new();
        for folder in folders {
            let generation = Generation::read(folder, demand)?;
            if known.insert(generation.record.digest()) {
                generations.push(generation);
            }
        }
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

    /// Takes the line from generation 0 to `last` apart from the rest, and judges each of its links.
    ///
    /// Returns the line, the oldest first.
    pub fn line(mut self, judge: &Judge<'_>) -> Vec<Generation> {
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
            rest[0].judge_builder(parents.last(), judge);
        }
        if let Some(first) = line.first_mut() {
            first.judge_root(judge);
        }
        let mut findings = stolen(&line);
        findings.extend(forks(&line, &self.generations));
        if let Some(last) = line.last_mut() {
            let (found, floor) = (last.number(), judge.trust.min_generation);
            last.findings.extend(findings);
            if found < floor {
                last.findings.push(Finding::GenerationBelowFloor { found, floor });
            }
        }
        line
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

/// The last generation up to which nothing is said against the line.
pub fn last_good(line: &[Generation]) -> Option<&Generation> {
    line.iter().take_while(|one| one.findings.is_empty()).last()
}
