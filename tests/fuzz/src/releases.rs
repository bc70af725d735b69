//! Lies about a whole release: its files changed by bytes, lines and values, dropped, added, exchanged; the manifest made
//! to fit; signed again, or not. Each is verified as somebody would who knows no digest and no key.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use builder::document::claims::Claims;
use builder::document::provenance::{Builder, Run};
use builder::model::key::SigningKey;
use builder::model::record::Terms;
use builder::model::release::{FileName, MANIFEST, Manifest, Stamp};
use builder::stage::archive::{self, Member};
use builder::stage::derived::OF_IMAGES;
use builder::stage::on_disk::OnDisk;
use builder::stage::sign;
use builder::stage::signatures::Demand;
use builder::stage::verify::{Verdict, verify_whole};
use measure::Sha256;
use serde_json::Value;

/// Numbers that look random, the same ones for the same seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of so many, from 0; 0 where there is none.
    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }
}

/// What came of it.
#[derive(Default)]
pub struct Figures {
    executed: u64,
    /// Nothing was changed after all.
    same: u64,
    /// Only what nobody can make again without the packages.
    of_images: u64,
    refused: u64,
    pub lies: Vec<String>,
    codes: BTreeMap<String, u64>,
    longest: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            executed,
            same,
            of_images,
            refused,
            lies,
            codes,
            longest,
        } = self;
        let memory = memory().unwrap_or_default();
        writeln!(
            f,
            "releases: {executed} executed, {same} accepted that are the same, {of_images} that need packages, \
             {refused} refused, {} lies accepted; at most {} ms and {memory}",
            lies.len(),
            longest.as_millis()
        )?;
        let codes: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
        write!(f, "  {}", codes.join(", "))?;
        lies.iter().try_for_each(|lie| write!(f, "\n  accepted: {lie}"))
    }
}

/// What this process has had in memory at most.
fn memory() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().to_owned())
}

/// A release that is true.
pub struct Base {
    place: PathBuf,
    manifest: Manifest,
    key: SigningKey,
}

/// The release, with somebody's changes.
struct Forged<'a> {
    base: &'a Base,
    folder: PathBuf,
    manifest: Manifest,
    done: Vec<String>,
}

impl Base {
    /// Reads the release `whole` below the folder.
    ///
    /// # Errors
    /// A release that is not accepted.
    pub fn read(place: &Path) -> Result<Self> {
        let text = fs::read_to_string(place.join("whole").join(MANIFEST))?;
        let base = Self {
            place: place.into(),
            manifest: Manifest::parse(&text)?,
            key: SigningKey::from_random([7; 32]).context("a key")?,
        };
        for signs in [false, true] {
            let mut forged = base.forge()?;
            if signs {
                forged.sign()?;
            }
            let findings = forged.verdict()?.findings;
            if !findings.is_empty() {
                bail!("the release itself is not accepted: {findings:?}");
            }
        }
        Ok(base)
    }

    fn forge(&self) -> Result<Forged<'_>> {
        let folder = self.place.join("forged");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        for name in self.manifest.files.keys() {
            fs::hard_link(self.place.join("whole").join(name.as_str()), folder.join(name.as_str()))?;
        }
        Ok(Forged {
            base: self,
            folder,
            manifest: self.manifest.clone(),
            done: Vec::new(),
        })
    }

    /// Makes one lie, and has it verified.
    ///
    /// # Errors
    /// A disk that is full.
    pub fn attack(&self, random: &mut Random, figures: &mut Figures) -> Result<()> {
        let mut forged = self.forge()?;
        for _ in 0..=random.below(3) {
            forged.change(random)?;
        }
        fs::write(forged.folder.join(MANIFEST), forged.manifest.text())?;
        if random.below(4) == 0 {
            // what cannot be signed is left unsigned
            let signed = forged.sign().is_ok();
            forged.done.push(format!("signed: {signed}"));
        }
        let start = Instant::now();
        let verdict = forged.verdict()?;
        figures.longest = figures.longest.max(start.elapsed());
        figures.executed += 1;
        for finding in &verdict.findings {
            *figures.codes.entry(finding.code()).or_default() += 1;
        }
        match forged.differs() {
            _ if !verdict.findings.is_empty() => figures.refused += 1,
            differs if differs.is_empty() && forged.manifest == self.manifest => figures.same += 1,
            differs if !differs.is_empty() && differs.iter().all(|name| OF_IMAGES.contains(&name.as_str())) => {
                figures.of_images += 1;
            }
            _ => figures.lies.push(forged.done.join("; ")),
        }
        Ok(())
    }
}

impl Forged<'_> {
    fn verdict(&self) -> Result<Verdict> {
        fs::write(self.folder.join(MANIFEST), self.manifest.text())?;
        let at = "2026-11-15T12:00:00Z".parse()?;
        verify_whole(&self.folder, None, &Demand { key: None, at })
    }

    /// The files that are not those of the true release.
    fn differs(&self) -> BTreeSet<String> {
        let (mine, its) = (&self.manifest.files, &self.base.manifest.files);
        let names = mine.keys().chain(its.keys());
        let differing = names.filter(|name| mine.get(*name) != its.get(*name));
        differing.map(ToString::to_string).collect()
    }

    fn names(&self) -> Vec<String> {
        self.manifest.files.keys().map(ToString::to_string).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        fs::read(self.folder.join(name)).with_context(|| name.to_owned())
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let Ok(listed) = FileName::try_from(name.to_owned()) else {
            return Ok(());
        };
        let path = self.folder.join(name);
        if path.exists() {
            fs::remove_file(&path)?; // it is the true release's, too
        }
        fs::write(path, bytes)?;
        let (sha256, size) = (Sha256::of(bytes), bytes.len() as u64);
        self.manifest.files.insert(listed, Stamp { sha256, size });
        if name == "recipe.lock" {
            self.manifest.origin.lock = sha256;
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        fs::remove_file(self.folder.join(name))?;
        self.manifest.files.retain(|file, _| file.as_str() != name);
        Ok(())
    }

    /// Signs it with a key that nobody knows, as a builder would that checks nothing.
    fn sign(&mut self) -> Result<()> {
        let subject = sign::read(&OnDisk::open(&self.folder)?, self.manifest.clone())?;
        let run = Run::new(uuid::Uuid::nil(), Builder::Unattested, None);
        let claims = Claims::new(&subject, &run, Terms::default(), &self.base.key.public());
        for (name, text) in claims.signed_by(&self.base.key) {
            fs::write(self.folder.join(name), text)?;
        }
        Ok(())
    }

    fn change(&mut self, random: &mut Random) -> Result<()> {
        let names = self.names();
        let Some(name) = random.of(&names).cloned() else {
            return Ok(());
        };
        let other = random.of(&names).cloned().unwrap_or_default();
        let way = random.below(12);
        self.done.push(format!("{way} {name} {other}"));
        match way {
            0 => self.remove(&name),
            1 => {
                let bytes = self.read(&other)?;
                self.put(&format!("{name}.{}", random.below(9)), &bytes)
            }
            2 => {
                let (one, two) = (self.read(&name)?, self.read(&other)?);
                self.put(&name, &two)?;
                self.put(&other, &one)
            }
            3 => {
                self.change_origin(random);
                Ok(())
            }
            4 => self.change_recipe(random),
            5 | 6 => self.edit(&name, |bytes| change_value(bytes, random)),
            7 | 8 => self.edit(&name, |bytes| change_lines(bytes, random)),
            _ => self.edit(&name, |bytes| Some(change_bytes(bytes, random))),
        }
    }

    fn edit(&mut self, name: &str, change: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Result<()> {
        match change(&self.read(name)?) {
            Some(changed) => self.put(name, &changed),
            None => Ok(()),
        }
    }

    fn change_origin(&mut self, random: &mut Random) {
        let origin = &mut self.manifest.origin;
        match random.below(4) {
            0 => origin.name = "other".to_owned().try_into().unwrap_or_else(|_| origin.name.clone()),
            1 => origin.recipe = Sha256::of(random.next().to_le_bytes()),
            2 => origin.lock = Sha256::of(random.next().to_le_bytes()),
            _ => origin.epoch = "2027-01-01T00:00:00Z".parse().unwrap_or(origin.epoch),
        }
    }

    /// Changes a member of the recipe's archive, and whatever repeats it: recipe.toml, the lock, the manifest.
    fn change_recipe(&mut self, random: &mut Random) -> Result<()> {
        const TOML: &str = "recipes/small/recipe.toml";
        let Ok(mut members) = archive::read(&self.read("recipe.tar").unwrap_or_default()) else {
            return Ok(());
        };
        let paths: Vec<PathBuf> = members.keys().cloned().collect();
        let Some(path) = random.of(&paths) else { return Ok(()) };
        match members.get_mut(path) {
            Some(Member::File { content, executable }) if random.below(8) > 0 => {
                let changed = change_lines(content, random);
                *content = changed.unwrap_or_default();
                *executable ^= random.below(8) == 0;
            }
            _ => drop(members.remove(path)),
        }
        let epoch = self.base.manifest.origin.epoch.as_second();
        let tar = archive::write(&members, epoch)?;
        self.put("recipe.tar", &tar)?;
        if let Some(Member::File { content, .. }) = members.get(Path::new(TOML)) {
            self.put("recipe.toml", &content.clone())?;
        }
        let text = String::from_utf8(self.read("recipe.toml").unwrap_or_default()).unwrap_or_default();
        let Ok(project) = builder::stage::recipe::read(&tar, &text) else {
            return Ok(());
        };
        self.manifest.origin.recipe = project.digest;
        let lock = String::from_utf8(self.read("recipe.lock").unwrap_or_default()).unwrap_or_default();
        if let Ok(mut lock) = builder::model::Lock::parse(&lock) {
            (lock.recipe, lock.source) = (project.digest, project.sources);
            self.put("recipe.lock", lock.text().as_bytes())?;
        }
        Ok(())
    }
}

fn change_bytes(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = random.below(bytes.len());
    let end = (at + 1 + random.below(64)).min(bytes.len());
    match random.below(6) {
        0 => changed.truncate(at),
        1 => drop(changed.drain(at..end)),
        2 => drop(changed.splice(at..at, bytes[at..end].to_vec())),
        3 => changed.push(random.next() as u8),
        4 => changed[at..end].fill(0),
        _ => {
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
    changed
}

fn change_lines(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let text = str::from_utf8(bytes).ok()?;
    let mut lines: Vec<String> = text.split_inclusive('\n').map(String::from).collect();
    let (at, other) = (random.below(lines.len()), random.below(lines.len()));
    let line = lines.get(at)?.clone();
    match random.below(5) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, line),
        2 => lines.swap(at, other),
        3 => lines[at] = line.replace(|c: char| c.is_ascii_digit(), &random.below(10).to_string()),
        _ => {
            let mut words: Vec<&str> = line.split_inclusive(' ').collect();
            let (one, two) = (random.below(words.len()), random.below(words.len()));
            words.swap(one, two);
            lines[at] = words.concat();
        }
    }
    Some(lines.concat().into_bytes())
}

/// Changes a value in JSON, and writes it as documents are written.
fn change_value(bytes: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(bytes).ok()?;
    let mut at = &mut value;
    while random.below(6) > 0 {
        let count = at.as_array().map_or(0, Vec::len) + at.as_object().map_or(0, serde_json::Map::len);
        if count == 0 {
            break;
        }
        let chosen = random.below(count);
        at = match at {
            Value::Array(items) => items.get_mut(chosen)?,
            Value::Object(fields) => fields.values_mut().nth(chosen)?,
            _ => break,
        };
    }
    match at {
        Value::Array(items) if !items.is_empty() => {
            let (one, two) = (random.below(items.len()), random.below(items.len()));
            match random.below(3) {
                0 => drop(items.remove(one)),
                1 => items.push(items[one].clone()),
                _ => items.swap(one, two),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let keys: Vec<String> = fields.keys().cloned().collect();
            let key = random.of(&keys)?;
            let taken = fields.remove(key)?;
            if random.below(2) == 0 {
                fields.insert(format!("{key}x"), taken);
            }
        }
        Value::Bool(flag) => *flag = !*flag,
        Value::Number(number) => *at = Value::from(number.as_u64().unwrap_or(0) ^ (1 << random.below(8))),
        Value::String(text) => {
            let other = if text.contains('0') {
                text.replacen('0', "1", 1)
            } else {
                format!("{text}0")
            };
            *text = other;
        }
        _ => *at = Value::from(random.next()),
    }
    let mut text = serde_json::to_vec_pretty(&value).ok()?;
    text.push(b'\n');
    Some(text)
}
