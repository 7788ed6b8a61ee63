//! What the disk holds: what processes see, what was synced, and what lies between.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use fuser::Errno;

use super::luck::Luck;

/// A file or a directory.
pub(super) type Node = u64;

/// The directory that everything is in.
pub(super) const ROOT: Node = 1;

/// What is there once the power is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    File(Vec<u8>),
    Directory(BTreeMap<OsString, Image>),
}

impl Default for Image {
    /// An empty disk.
    fn default() -> Self {
        Self::Directory(BTreeMap::new())
    }
}

impl Image {
    /// Lays it out on another file system.
    pub(crate) fn write_to(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::File(content) => std::fs::write(path, content),
            Self::Directory(entries) => {
                std::fs::create_dir_all(path)?;
                entries.iter().try_for_each(|(name, image)| image.write_to(&path.join(name)))
            }
        }
    }
}

/// A change of a file's content.
#[derive(Debug)]
pub(super) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Change {
    /// What was never written between is zeros.
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
            Self::Resize(len) => content.resize(*len, 0),
        }
    }
}

/// A change of a directory's entries.
#[derive(Debug)]
enum Rename {
    Make { name: OsString, node: Node },
    Remove { name: OsString },
    Move { from: OsString, to: OsString, node: Node },
}

impl Rename {
    fn apply(&self, entries: &mut BTreeMap<OsString, Node>) {
        match self {
            Self::Make { name, node } => {
                entries.insert(name.clone(), *node);
            }
            Self::Remove { name } => {
                entries.remove(name);
            }
            Self::Move { from, to, node } => {
                if entries.get(from) == Some(node) {
                    entries.remove(from);
                }
                entries.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Default)]
struct File {
    seen: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Default)]
struct Directory {
    seen: BTreeMap<OsString, Node>,
    synced: BTreeMap<OsString, Node>,
    since: Vec<Rename>,
}

#[derive(Debug)]
enum Kind {
    File(File),
    Directory(Directory),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Disk {
    nodes: HashMap<Node, Kind>,
    next: Node,
    /// Changes and syncs until the power goes; `None`: it stays.
    left: Option<u64>,
    off: bool,
    /// Syncs that were refused, while they are.
    refused: Option<u64>,
}

impl Disk {
    /// A disk that holds an image, all of it synced.
    pub(crate) fn new(image: &Image) -> Self {
        let mut disk = Self { nodes: HashMap::new(), next: ROOT, left: None, off: false, refused: None };
        disk.load(image);
        disk
    }

    fn load(&mut self, image: &Image) -> Node {
        let node = self.next;
        self.next += 1;
        let kind = match image {
            Image::File(content) => {
                Kind::File(File { seen: content.clone(), synced: content.clone(), since: Vec::new() })
            }
            Image::Directory(entries) => {
                let entries: BTreeMap<_, _> =
                    entries.iter().map(|(name, image)| (name.clone(), self.load(image))).collect();
                Kind::Directory(Directory { seen: entries.clone(), synced: entries, since: Vec::new() })
            }
        };
        self.nodes.insert(node, kind);
        node
    }

    /// Cuts the power at the change or sync with this number, from now on and from 1.
    pub(crate) fn cut_after(&mut self, changes: u64) {
        self.left = Some(changes);
    }

    /// Fails every sync from now on, or none any more. What was written stays readable, as a page cache would have it.
    pub(crate) fn refuse_syncs(&mut self, refuse: bool) {
        self.refused = refuse.then_some(0);
    }

    /// How many syncs were refused.
    pub(crate) fn refused_syncs(&self) -> u64 {
        self.refused.unwrap_or(0)
    }

    /// Changes and syncs until the power goes.
    pub(crate) fn changes_left(&self) -> u64 {
        self.left.unwrap_or(u64::MAX)
    }

    /// Whether the power is gone.
    pub(crate) const fn is_off(&self) -> bool {
        self.off
    }

    /// What is there once the power is back.
    pub(crate) fn after_power_cut(&self, luck: &mut Luck) -> Image {
        self.survivor(ROOT, luck)
    }

    fn survivor(&self, node: Node, luck: &mut Luck) -> Image {
        match self.nodes.get(&node) {
            Some(Kind::File(file)) => Image::File(luck.content(&file.synced, &file.since)),
            Some(Kind::Directory(directory)) => {
                let mut entries = directory.synced.clone();
                for rename in &directory.since {
                    if luck.keeps_name() {
                        rename.apply(&mut entries);
                    }
                }
                let survivors = entries.into_iter().map(|(name, node)| (name, self.survivor(node, luck)));
                Image::Directory(survivors.collect())
            }
            None => Image::default(),
        }
    }

    /// One change or sync more: an error when the power was gone before, `true` when it goes with this one.
    fn change(&mut self) -> Result<bool, Errno> {
        self.powered()?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            self.off = *left == 0;
        }
        Ok(self.off)
    }

    fn powered(&self) -> Result<(), Errno> {
        if self.off { Err(Errno::EIO) } else { Ok(()) }
    }

    fn file(&mut self, node: Node) -> Result<&mut File, Errno> {
        match self.nodes.get_mut(&node) {
            Some(Kind::File(file)) => Ok(file),
            Some(Kind::Directory(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    fn directory(&mut self, node: Node) -> Result<&mut Directory, Errno> {
        match self.nodes.get_mut(&node) {
            Some(Kind::Directory(directory)) => Ok(directory),
            Some(Kind::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    /// Whether a node is a directory, and its length.
    pub(super) fn look(&self, node: Node) -> Result<(bool, u64), Errno> {
        self.powered()?;
        match self.nodes.get(&node) {
            Some(Kind::File(file)) => Ok((false, file.seen.len() as u64)),
            Some(Kind::Directory(_)) => Ok((true, 0)),
            None => Err(Errno::ENOENT),
        }
    }

    /// The node of a name.
    pub(super) fn find(&mut self, parent: Node, name: &OsStr) -> Result<Node, Errno> {
        self.powered()?;
        self.directory(parent)?.seen.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// The names in a directory.
    pub(super) fn list(&mut self, node: Node) -> Result<Vec<(OsString, Node, bool)>, Errno> {
        self.powered()?;
        let entries = self.directory(node)?.seen.clone();
        entries.into_iter().map(|(name, node)| Ok((name, node, self.look(node)?.0))).collect()
    }

    pub(super) fn read(&mut self, node: Node, at: usize, len: usize) -> Result<Vec<u8>, Errno> {
        self.powered()?;
        let content = &self.file(node)?.seen;
        let from = at.min(content.len());
        Ok(content[from..(from + len).min(content.len())].to_vec())
    }

    /// Makes a file or a directory.
    pub(super) fn make(&mut self, parent: Node, name: &OsStr, directory: bool) -> Result<Node, Errno> {
        self.powered()?;
        if self.directory(parent)?.seen.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let node = self.next;
        self.next += 1;
        let kind =
            if directory { Kind::Directory(Directory::default()) } else { Kind::File(File::default()) };
        self.nodes.insert(node, kind);
        self.rename(parent, Rename::Make { name: name.to_owned(), node }).map(|()| node)
    }

    /// Removes a file, or a directory that is empty.
    pub(super) fn remove(&mut self, parent: Node, name: &OsStr) -> Result<(), Errno> {
        let node = self.find(parent, name)?;
        if self.look(node)?.0 && !self.directory(node)?.seen.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        self.rename(parent, Rename::Remove { name: name.to_owned() })
    }

    /// Moves a file or a directory, over what has the name. Into another directory these are two changes, each of which may survive
    /// without the other.
    pub(super) fn move_to(&mut self, from: (Node, &OsStr), to: (Node, &OsStr)) -> Result<(), Errno> {
        let node = self.find(from.0, from.1)?;
        if from.0 == to.0 {
            let (from, to) = ((from.0, from.1.to_owned()), to.1.to_owned());
            return self.rename(from.0, Rename::Move { from: from.1, to, node });
        }
        self.directory(to.0)?;
        self.note(from.0, Rename::Remove { name: from.1.to_owned() })?;
        self.rename(to.0, Rename::Make { name: to.1.to_owned(), node })
    }

    fn rename(&mut self, parent: Node, rename: Rename) -> Result<(), Errno> {
        let dying = self.change()?;
        self.note(parent, rename)?;
        if dying { Err(Errno::EIO) } else { Ok(()) }
    }

    fn note(&mut self, parent: Node, rename: Rename) -> Result<(), Errno> {
        let directory = self.directory(parent)?;
        rename.apply(&mut directory.seen);
        directory.since.push(rename);
        Ok(())
    }

    pub(super) fn write(&mut self, node: Node, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.alter(node, Change::Write { at, bytes: bytes.to_vec() })
    }

    pub(super) fn resize(&mut self, node: Node, len: usize) -> Result<(), Errno> {
        self.alter(node, Change::Resize(len))
    }

    fn alter(&mut self, node: Node, change: Change) -> Result<(), Errno> {
        let dying = self.change()?;
        let file = self.file(node)?;
        change.apply(&mut file.seen);
        file.since.push(change);
        if dying { Err(Errno::EIO) } else { Ok(()) }
    }

    /// Makes what a file holds, or which names a directory has, survive.
    pub(super) fn sync(&mut self, node: Node) -> Result<(), Errno> {
        if self.change()? {
            return Err(Errno::EIO);
        }
        if let Some(refused) = &mut self.refused {
            *refused += 1;
            return Err(Errno::EIO);
        }
        match self.nodes.get_mut(&node).ok_or(Errno::ENOENT)? {
            Kind::File(file) => {
                for change in file.since.drain(..) {
                    change.apply(&mut file.synced);
                }
            }
            Kind::Directory(directory) => {
                for rename in directory.since.drain(..) {
                    rename.apply(&mut directory.synced);
                }
            }
        }
        Ok(())
    }
}
