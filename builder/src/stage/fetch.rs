//! Lock in, inputs out: every byte that a tree needs is in the store.

use anyhow::Result;

use crate::model::lock::{Lock, Package, Tree};
use crate::stage::say;
use crate::world::net::{Net, Wanted};
use crate::world::store::Store;
use crate::world::tree::{self, ToolTree};

/// What a build needs; the programs that boot are fetched when something is booted.
const FOR_A_BUILD: [Tree; 5] = [Tree::Firmware, Tree::Initrd, Tree::Kernel, Tree::Root, Tree::Tools];

/// Brings what a build needs into the store.
///
/// # Errors
/// A package that no mirror gives as the lock names it.
pub fn fetch(lock: &Lock, net: &Net) -> Result<()> {
    some(
        lock,
        |package| FOR_A_BUILD.iter().any(|tree| package.why.contains_key(tree)),
        net,
    )
}

/// Returns the unpacked programs of `tree`, fetched where they are missing.
///
/// # Errors
/// As [`fetch`], and a store that cannot be written.
pub fn tool_tree(lock: &Lock, tree: Tree, net: &Net, store: &Store) -> Result<ToolTree> {
    self::tree(lock, tree, net)?;
    tree::tool_tree(store, &lock.packages(tree).collect::<Vec<_>>())
}

/// Brings the packages of one tree into the store.
///
/// # Errors
/// As [`fetch`].
pub fn tree(lock: &Lock, tree: Tree, net: &Net) -> Result<()> {
    some(lock, |package| package.why.contains_key(&tree), net)
}

/// Brings the packages into the store that are `needed`.
///
/// # Errors
/// As [`fetch`].
pub fn some(lock: &Lock, needed: impl Fn(&Package) -> bool, net: &Net) -> Result<()> {
    let needed = lock.package.iter().filter(|package| needed(package));
    let wanted: Vec<Wanted> = needed.map(Wanted::from).collect();
    say("fetch", &format!("{} packages", wanted.len()));
    net.fetch(&wanted)
}
