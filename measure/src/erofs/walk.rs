//! Every path of an image.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::directory;
use super::inode::{Inode, Kind, damaged};
use super::{Erofs, ErofsError};
use crate::ReadAt;

/// A path of an image, and what is there.
#[derive(Clone, Debug)]
pub struct Node {
    /// Absolute; no part of it is empty, `.` or `..`.
    pub path: Vec<u8>,
    /// The same for all paths of a file.
    pub inode: Arc<Inode>,
}

/// What paths, targets and attributes may have at most, in bytes: some hundred times what a distribution has.
const LIMIT: u64 = 256 << 20;

/// Longer paths no program can name: `PATH_MAX`, with its NUL.
const PATH_LIMIT: usize = 4095;

/// A directory to be read.
struct Directory {
    path: Vec<u8>,
    inode: Arc<Inode>,
    parent: u64,
}

/// What has been seen so far.
#[derive(Default)]
struct Walk {
    nodes: Vec<Node>,
    inodes: BTreeMap<u64, Arc<Inode>>,
    directories: BTreeSet<u64>,
    size: u64,
}

impl<R: ReadAt + ?Sized> Erofs<'_, R> {
    /// Returns every path once, sorted; the first is `/`.
    ///
    /// # Errors
    /// What is damaged on the way: an entry or an inode, a directory with two paths, a number of links that is another.
    pub fn walk(&self) -> Result<Vec<Node>, ErofsError> {
        let mut walk = Walk::default();
        let root = self.superblock.root;
        let inode = self.enter(&mut walk, root, b"/")?;
        if inode.kind != Kind::Directory {
            return Err(damaged(root, "it is the root and no directory".into()));
        }
        let path = Vec::new();
        let mut rest = alloc::vec![Directory {
            path,
            inode,
            parent: root
        }];
        walk.directories.insert(root);
        while let Some(next) = rest.pop() {
            self.walk_directory(&mut walk, &next, &mut rest)?;
        }
        walk.check_links()?;
        walk.nodes.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(walk.nodes)
    }

    fn walk_directory(
        &self,
        walk: &mut Walk,
        directory: &Directory,
        rest: &mut Vec<Directory>,
    ) -> Result<(), ErofsError> {
        let own = directory.inode.nid;
        for entry in self.entries(&directory.inode, directory.parent)? {
            let path = [&directory.path, &b"/"[..], &entry.name].concat();
            if path.len() > PATH_LIMIT {
                return Err(damaged(entry.nid, format!("its path has {} bytes", path.len())));
            }
            let inode = self.enter(walk, entry.nid, &path)?;
            if entry.kind != directory::kind(&inode.kind) {
                let name = path.escape_ascii();
                return Err(damaged(
                    own,
                    format!("it says that {name} is of the type {}", entry.kind),
                ));
            }
            if inode.kind == Kind::Directory {
                if !walk.directories.insert(entry.nid) {
                    let name = path.escape_ascii();
                    return Err(damaged(entry.nid, format!("{name} is a second path of a directory")));
                }
                rest.push(Directory {
                    path,
                    inode,
                    parent: own,
                });
            }
        }
        Ok(())
    }

    /// Takes down a path; its inode is read once.
    fn enter(&self, walk: &mut Walk, nid: u64, path: &[u8]) -> Result<Arc<Inode>, ErofsError> {
        let inode = match walk.inodes.get(&nid) {
            Some(inode) => inode.clone(),
            None => {
                let inode = Arc::new(self.inode(nid)?);
                walk.spend(inode.spent())?;
                walk.inodes.insert(nid, inode.clone());
                inode
            }
        };
        walk.spend(path.len())?;
        walk.nodes.push(Node {
            path: path.into(),
            inode: inode.clone(),
        });
        Ok(inode)
    }
}

impl Inode {
    /// What it holds in memory, in bytes.
    fn spent(&self) -> usize {
        let target = match &self.kind {
            Kind::Symlink { target } => target.len(),
            _ => 0,
        };
        let xattrs = self.xattrs.iter().map(|(name, value)| name.len() + value.len());
        target + xattrs.sum::<usize>()
    }
}

impl Walk {
    fn spend(&mut self, size: usize) -> Result<(), ErofsError> {
        self.size += size as u64;
        match self.size <= LIMIT {
            true => Ok(()),
            false => Err(ErofsError::TooMuch { limit: LIMIT }),
        }
    }

    /// A file has as many paths as it says: a path that is missing has been hidden. Directories have one.
    fn check_links(&self) -> Result<(), ErofsError> {
        let mut found = BTreeMap::<u64, u32>::new();
        for node in &self.nodes {
            *found.entry(node.inode.nid).or_default() += 1;
        }
        let files = self.inodes.values().filter(|inode| inode.kind != Kind::Directory);
        for inode in files {
            let found = found.get(&inode.nid).copied().unwrap_or_default();
            if found != inode.links {
                return Err(damaged(
                    inode.nid,
                    format!("it has {found} paths and says {}", inode.links),
                ));
            }
        }
        Ok(())
    }
}
