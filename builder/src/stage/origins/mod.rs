//! Finished images in, where each of their paths comes from out.
//!
//! A path is a package's where a locked package has the same thing at the same path; dpkg is not asked. What no package
//! has is the recipe's, a payload's, or of a closed list of what is made while an image is built, and then it is what
//! packages and the recipe lead to. The rest is unexplained, and fails the build unless the recipe says that it may be there.

mod accounts;
mod alternatives;
mod certificates;
mod classes;
mod dpkg;
mod hwdb;
mod image;
mod kernel;
mod loader;
mod pam;
mod units;
mod written;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use glob::Pattern;
use measure::Sha256;

use crate::debian::members::{Member, Members};
use crate::debian::script::Words;
use crate::mend::{Exit, OrMend as _};
use crate::model::artifacts::file;
use crate::model::contents::{Content, Kind, Node, Origin};
use crate::model::lock::{Lock, Package, Tree};
use crate::model::recipe::Recipe;
use crate::stage::contents::Texts;
use crate::stage::origins::image::Image;
use crate::stage::payload::{Brought, Payloads};
use crate::stage::volume;
use crate::world::parallel;
use crate::world::store::Store;

pub use image::{OS_RELEASE, STATUS, is_read};

/// The locked packages that leave files in the guest, by digest, each with what it consists of.
pub type Packages = BTreeMap<Sha256, Members>;

/// Set-user-id and set-group-id.
const SET_ID: u16 = 0o6000;
/// These, and writing by others than the owner.
const PRIVILEGE: u16 = SET_ID | 0o022;
const EXECUTABLE: u16 = 0o111;

/// Where maintainer scripts put copies of what their packages have.
const COPIED: [&str; 3] = ["/etc/", "/root/", "/var/www/"];

/// How many unexplained paths a message names.
const NAMED: usize = 20;

/// Returns whether a package leaves files in the guest.
pub fn is_in_the_guest(package: &Package) -> bool {
    let trees = [Tree::Root, Tree::Initrd, Tree::Kernel];
    trees.iter().any(|tree| package.why.contains_key(tree))
}

/// Reads those packages out of the store that are `wanted`.
///
/// # Errors
/// A package that is not what the lock names, or no package.
pub fn packages(lock: &Lock, store: &Store, wanted: impl Fn(&Package) -> bool) -> Result<Packages> {
    let mut packages: Vec<&Package> = lock.package.iter().filter(|package| wanted(package)).collect();
    packages.sort_by_key(|package| std::cmp::Reverse(package.size)); // the largest first, so that no core waits at the end
    let read = parallel::map(&packages, |package| {
        let deb = store.bytes(&package.sha256, package.size)?;
        Members::read(&deb).with_context(|| format!("cannot read {}", package.file_name()))
    });
    packages
        .iter()
        .zip(read)
        .map(|(package, members)| Ok((package.sha256, members?)))
        .collect()
}

/// Where the paths of an image come from.
pub struct Explained {
    pub contents: Vec<Content>,
    /// By path, why a generated file is not what packages and the recipe lead to.
    pub reasons: BTreeMap<String, String>,
}

/// Explains what is in an image of the guest.
pub struct Origins<'a> {
    at: BTreeMap<&'a str, Vec<(&'a Package, &'a Member)>>,
    /// The packages that dpkg installs, and the commands of their scripts.
    installed: Vec<(&'a Package, &'a Members)>,
    commands: Vec<(&'a Package, Words)>,
    day: i64,
    /// The first path of each content.
    contents: BTreeMap<Sha256, (&'a str, &'a str)>,
    /// What dpkg keeps about packages.
    control: BTreeMap<String, (&'a Package, Sha256)>,
    recipe: BTreeMap<&'a str, (&'a str, Sha256)>,
    /// What mounts the volumes: the node and the name of its volume by path.
    units: BTreeMap<String, (Node, String)>,
    payloads: BTreeMap<&'a str, (&'a str, &'a Node)>,
    allowed: Vec<Pattern>,
}

impl<'a> Origins<'a> {
    /// Takes together what may be in the image that `tree` is made into.
    ///
    /// # Errors
    /// An allowance of the recipe that is no pattern.
    pub fn of(tree: Tree, recipe: &Recipe, lock: &'a Lock, packages: &'a Packages) -> Result<Self> {
        let (folders, allowed) = match tree {
            Tree::Initrd => (
                ["initrd/mkosi.extra", "initrd/mkosi.skeleton"],
                &recipe.initrd.allow_unowned,
            ),
            _ => (["mkosi.extra", "mkosi.skeleton"], &recipe.root.allow_unowned),
        };
        let mut origins = Self {
            allowed: allowed.iter().map(|text| pattern(text)).collect::<Result<_>>()?,
            installed: lock
                .packages(tree)
                .filter_map(|package| Some((package, packages.get(&package.sha256)?)))
                .collect(),
            day: recipe.epoch.as_second().div_euclid(86_400),
            ..Self::of_volume()
        };
        origins.commands = image::commands(&origins.installed);
        for package in lock.packages(tree).chain(lock.packages(Tree::Kernel)) {
            if let Some(members) = packages.get(&package.sha256) {
                origins.add(package, members);
            }
        }
        let own = lock.source.iter();
        origins.recipe = own
            .filter_map(|source| {
                let path = folders.iter().find_map(|folder| source.path.strip_prefix(folder))?;
                Some((path, (source.path.as_str(), source.sha256)))
            })
            .collect();
        if tree == Tree::Root {
            origins.mount(recipe, lock);
        }
        Ok(origins)
    }

    /// Takes together what may be in an image of a release.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_image(image: &str, recipe: &Recipe, lock: &'a Lock, packages: &'a Packages) -> Result<Self> {
        match image {
            file::INITRD => Self::of(Tree::Initrd, recipe, lock, packages),
            file::ROOT => Self::of(Tree::Root, recipe, lock, packages),
            _ => Ok(Self::of_volume()),
        }
    }

    /// In a volume there is what payloads bring, and nothing else.
    fn of_volume() -> Self {
        Self {
            at: BTreeMap::new(),
            installed: Vec::new(),
            commands: Vec::new(),
            day: 0,
            contents: BTreeMap::new(),
            control: BTreeMap::new(),
            recipe: BTreeMap::new(),
            units: BTreeMap::new(),
            payloads: BTreeMap::new(),
            allowed: Vec::new(),
        }
    }

    /// Takes in what mounts the volumes of the recipe, which is in the root image.
    fn mount(&mut self, recipe: &Recipe, lock: &Lock) {
        for volume in volume::all(recipe, &lock.digest()) {
            let nodes = volume.nodes(file::ROOT).into_iter();
            self.units
                .extend(nodes.map(|node| (node.path.clone(), (node, volume.name.to_string()))));
        }
    }

    /// Takes in what payloads bring into `image`.
    pub fn bring(&mut self, image: &str, payloads: &'a Payloads) {
        for Brought { name, nodes, .. } in payloads {
            let nodes = nodes.iter().filter(|node| node.image.0 == image);
            self.payloads
                .extend(nodes.map(|node| (node.path.as_str(), (name.as_str(), node))));
        }
    }

    fn add(&mut self, package: &'a Package, members: &'a Members) {
        for (path, member) in &members.data {
            if let Kind::File { sha256, .. } = member.kind {
                self.contents.entry(sha256).or_insert((&package.name, path));
            }
            self.at.entry(path).or_default().push((package, member));
        }
        let (name, architecture) = (&package.name, &package.architecture);
        for prefix in [name.clone(), format!("{name}:{architecture}")].map(|name| format!("/var/lib/dpkg/info/{name}"))
        {
            let control = members.control.iter();
            let control = control.map(|(file, sha256)| (format!("{prefix}.{file}"), (package, *sha256)));
            self.control.extend(control);
        }
    }

    /// Returns every node of an image with its origin, and why what nothing explains is not what it should be.
    ///
    /// `texts` are the contents of the files of the image that [`is_read`].
    pub fn explain(&self, nodes: Vec<Node>, texts: &Texts) -> Explained {
        let known: Vec<Option<Origin>> = nodes.iter().map(|node| self.known(node)).collect();
        let image = self.image(&nodes, &known, texts);
        let mut reasons = BTreeMap::new();
        let made = nodes.iter().zip(&known).filter(|(_, origin)| origin.is_none());
        let made = made.filter_map(|(node, _)| match self.generated(node, &image)? {
            Ok(origin) => Some((node.path.clone(), origin)),
            Err(reason) => {
                reasons.insert(node.path.clone(), reason);
                None
            }
        });
        let mut made: BTreeMap<String, Origin> = made.collect();
        let explained = nodes.into_iter().zip(known).map(|(node, known)| Content {
            origin: known
                .or_else(|| made.remove(&node.path))
                .unwrap_or_else(|| self.other(&node)),
            node,
        });
        let mut contents: Vec<Content> = explained.collect();
        explain_folders(&mut contents);
        Explained { contents, reasons }
    }

    fn image<'b>(&'b self, nodes: &'b [Node], known: &[Option<Origin>], texts: &'b Texts) -> Image<'b> {
        let owned = nodes.iter().zip(known).filter(|(node, origin)| {
            let is_whole = matches!(node.kind, Kind::File { .. });
            is_whole
                && origin
                    .as_ref()
                    .is_some_and(|origin| !matches!(origin, Origin::Generated { .. }))
        });
        Image {
            nodes: nodes.iter().map(|node| (node.path.as_str(), node)).collect(),
            owned: owned.map(|(node, _)| node.path.as_str()).collect(),
            texts,
            packages: &self.installed,
            commands: &self.commands,
            contents: &self.contents,
            choices: OnceCell::new(),
            day: self.day,
        }
    }

    /// Refuses an image with unexplained paths.
    ///
    /// # Errors
    /// The paths, each with what is wrong with it.
    pub fn check(&self, Explained { contents, reasons }: &Explained) -> Result<()> {
        let unexplained = contents.iter().filter(|content| content.origin == Origin::Unexplained);
        let lines: Vec<String> = unexplained
            .map(|content| format!("\n  {}: {}", content.node.path, self.reason(&content.node, reasons)))
            .collect();
        let Some(first) = contents.first().filter(|_| !lines.is_empty()) else {
            return Ok(());
        };
        let (image, count) = (&first.node.image.0, lines.len());
        let more = if count > NAMED { "\n  …" } else { "" };
        let named = lines[..count.min(NAMED)].concat();
        let problem = format!("{image} has {count} paths that nothing explains:{named}{more}");
        Err(Exit::No.because(
            problem,
            "remove them in the recipe, or say that they may be there: allow-unowned = [\"/PATH\"] in recipe.toml",
        ))
    }

    /// Where a node comes from, if that can be told without the rest of the image.
    fn known(&self, node: &Node) -> Option<Origin> {
        self.package(node)
            .or_else(|| self.own(node))
            .or_else(|| self.payload(node))
            .or_else(|| self.unit(node))
    }

    /// What nothing makes.
    fn other(&self, node: &Node) -> Origin {
        match self.allowed.iter().any(|pattern| classes::matches(pattern, &node.path)) {
            true => Origin::Allowed,
            false => Origin::Unexplained,
        }
    }

    /// The first package, in the lock's order, that has the same thing here, or keeps it in dpkg's database, or has it at
    /// the path that it was diverted from.
    fn package(&self, node: &Node) -> Option<Origin> {
        let control = self
            .control
            .get(&node.path)
            .filter(|(_, wanted)| is_plain(node, *wanted));
        let member = self.member(&node.path, node).or(control.map(|(package, _)| *package));
        let diverted = || self.member(node.path.rsplit_once('.')?.0, node);
        let package = member.or_else(diverted)?;
        Some(Origin::Package {
            name: package.name.clone(),
            sha256: package.sha256,
        })
    }

    fn member(&self, path: &str, node: &Node) -> Option<&'a Package> {
        let mut members = self.at.get(path).into_iter().flatten();
        let same = |member: &Member| member.kind.is_same(&node.kind);
        let member = members.find(|(_, member)| same(member) && (!gains(node, member) || classes::is_privileged(node)));
        member.map(|(package, _)| *package)
    }

    fn own(&self, node: &Node) -> Option<Origin> {
        let (path, wanted) = self.recipe.get(node.path.as_str())?;
        let same = match &node.kind {
            Kind::File { sha256, .. } => sha256 == wanted,
            Kind::Symlink { target } => Sha256::of(target) == *wanted,
            _ => false,
        };
        (same && is_unprivileged(node)).then(|| Origin::Recipe {
            path: (*path).to_owned(),
        })
    }

    /// A payload that has the same thing here, with the same mode.
    fn payload(&self, node: &Node) -> Option<Origin> {
        let (name, wanted) = self.payloads.get(node.path.as_str())?;
        let owned = |node: &Node| (node.mode, node.uid, node.gid);
        let same = wanted.kind.is_same(&node.kind) && owned(wanted) == owned(node) && node.xattrs.is_empty();
        same.then(|| Origin::Payload {
            name: (*name).to_owned(),
        })
    }

    /// What begat itself puts there, for a volume.
    fn unit(&self, node: &Node) -> Option<Origin> {
        let (unit, volume) = self.units.get(&node.path)?;
        (unit == node).then(|| Origin::Generated {
            class: format!("begat, for the volume {volume}"),
        })
    }

    /// What makes the node, if it is of a class, or why it is not what that makes.
    fn generated(&self, node: &Node, image: &Image<'_>) -> Option<Result<Origin, String>> {
        let class = classes::class(node);
        let executable = matches!(node.kind, Kind::File { .. }) && node.mode & EXECUTABLE != 0;
        if executable || !is_unprivileged(node) || is_given_away(node) {
            return None;
        }
        let Some(class) = class else {
            return self.copy(node).map(|class| Ok(Origin::Generated { class }));
        };
        let name = class.name.to_owned();
        Some(match class.proof {
            None => Ok(Origin::NotDerived { class: name }),
            Some(proof) => match proof(image, node) {
                Ok(()) => Ok(Origin::Generated { class: name }),
                Err(_) if classes::is_unsaid(class, image, node) => Ok(Origin::NotDerived { class: name }),
                Err(reason) => Err(reason),
            },
        })
    }

    /// Maintainer scripts copy examples out of their packages to where administrators change them: paths that they name.
    fn copy(&self, node: &Node) -> Option<String> {
        let Kind::File { sha256, size: 1.., .. } = &node.kind else {
            return None;
        };
        let changed = COPIED.iter().any(|folder| node.path.starts_with(folder));
        let (package, path) = self.contents.get(sha256).filter(|_| changed)?;
        let mut words = self.commands.iter().flat_map(|(_, words)| words).flatten();
        let named = words.any(|word| *word == node.path);
        named.then(|| format!("copy of {path} of the package {package}"))
    }

    /// What is wrong with an unexplained path.
    fn reason(&self, node: &Node, reasons: &BTreeMap<String, String>) -> String {
        let members = self.at.get(node.path.as_str()).into_iter().flatten();
        let of_members = members.map(|(package, member)| match member.kind.is_same(&node.kind) {
            true => format!(
                "the package {} has it with fewer privileges ({:04o})",
                package.name, member.mode
            ),
            false => format!("the package {} has something else there", package.name),
        });
        let reason = of_members.into_iter().next();
        let recipe = self.recipe.get(node.path.as_str());
        reason
            .or_else(|| recipe.map(|(path, _)| format!("it is not what {path} of the recipe is")))
            .or_else(|| reasons.get(&node.path).cloned())
            .unwrap_or_else(|| "neither a package nor the recipe has it, and nothing known makes it".into())
    }
}

fn pattern(text: &str) -> Result<Pattern> {
    let problem = || format!("recipe.toml allows {text:?}, which is no pattern of a path");
    Pattern::new(text).or_mend(
        Exit::Usage,
        problem(),
        "write a path: `*` stops at a slash, `**` does not",
    )
}

/// Whether somebody may do more with the node than with what the package has.
fn gains(node: &Node, member: &Member) -> bool {
    let elsewhere = (node.uid, node.gid) != (member.uid, member.gid);
    let set_id = node.mode & SET_ID != 0 && elsewhere;
    let more = match node.kind {
        Kind::Directory => is_open(node),
        Kind::Symlink { .. } => false,
        _ => set_id || node.mode & !member.mode & PRIVILEGE != 0,
    };
    more || !node.xattrs.is_empty()
}

/// Whether nobody gets anything from the node that its user does not have.
fn is_unprivileged(node: &Node) -> bool {
    let set_id = node.mode & SET_ID != 0 && !matches!(node.kind, Kind::Directory);
    !set_id && node.xattrs.is_empty()
}

/// Whether somebody other than root may change what the build has made.
fn is_given_away(node: &Node) -> bool {
    matches!(node.kind, Kind::File { .. }) && (node.uid != 0 || node.mode & 0o022 != 0)
}

/// A file of this digest that gives nobody anything; dpkg keeps scripts executable.
fn is_plain(node: &Node, wanted: Sha256) -> bool {
    matches!(&node.kind, Kind::File { sha256, .. } if *sha256 == wanted) && is_unprivileged(node)
}

/// Folders are there for what is in them: one that holds nothing but what is not explained is no better than that.
fn explain_folders(contents: &mut [Content]) {
    let mut inside = BTreeMap::<String, &Origin>::new();
    let things = contents.iter().filter(|content| content.node.kind != Kind::Directory);
    let best = |origin: &Origin| match origin {
        Origin::Unexplained => 0,
        Origin::Allowed => 1,
        _ => 2,
    };
    for content in things {
        let path = &content.node.path;
        for (end, _) in path.match_indices('/') {
            let origin = inside.entry(path[..end.max(1)].into()).or_insert(&content.origin);
            if best(&content.origin) > best(origin) {
                *origin = &content.origin;
            }
        }
    }
    let made = Origin::Generated {
        class: "folder of what is in it".into(),
    };
    let origin = |path: &str| match inside.get(path) {
        Some(origin @ (Origin::Unexplained | Origin::Allowed)) => (*origin).clone(),
        _ => made.clone(),
    };
    let folders = contents.iter().enumerate().filter(|(_, content)| {
        content.origin == Origin::Unexplained && content.node.kind == Kind::Directory && !is_open(&content.node)
    });
    let explained: Vec<_> = folders
        .map(|(index, content)| (index, origin(&content.node.path)))
        .collect();
    for (index, origin) in explained {
        contents[index].origin = origin;
    }
}

/// Whether everybody may put things into a folder, and take away those of others.
fn is_open(folder: &Node) -> bool {
    folder.mode & 0o1002 == 0o002
}

#[cfg(test)]
mod tests;
