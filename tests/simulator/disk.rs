//! A mirror's directory that exists only in memory: files with the times, ticks and inodes of a real file system, and
//! watches that miss and misname what real ones do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use dstor_sync::local::{Identity, Look, Name, Tree};
use dstor_sync::mirror::{Kind, MirrorPath, Observed, Stat, Timestamp};

/// The mirror's own directory.
pub(crate) const MIRROR: usize = 0;
/// What is at its path when its disk is not mounted.
pub(crate) const MOUNT_POINT: usize = 1;
/// A disk of someone else.
pub(crate) const OTHER_DISK: usize = 2;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Directory,
    File(Vec<u8>),
    Link,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Node {
    pub(crate) what: What,
    inode: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

/// Something happened to what is at this path, in a directory with this inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Event {
    directory: u64,
    name: Box<[u8]>,
}

/// All trees that may be at the mirror's path.
pub(crate) struct Disk {
    trees: [BTreeMap<MirrorPath, Node>; 3],
    /// Which one is there now, if any.
    pub(crate) mounted: Option<usize>,
    next_inode: u64,
    tick_ms: u32,
    /// Inodes of watched directories, and the paths under which they were watched.
    watches: BTreeMap<u64, MirrorPath>,
    /// When files were last changed, by a clock that was set back since.
    before: Vec<(u64, Timestamp)>,
    pub(crate) events: Vec<Event>,
}

impl Disk {
    pub(crate) fn new(tick_ms: u32) -> Self {
        Self {
            trees: Default::default(),
            mounted: Some(MIRROR),
            next_inode: 100,
            tick_ms,
            watches: BTreeMap::new(),
            before: Vec::new(),
            events: Vec::new(),
        }
    }

    pub(crate) fn identity(tree: usize) -> Identity {
        Identity { device: 8 + tree as u64, inode: 2 }
    }

    fn root_inode(tree: usize) -> u64 {
        1 + tree as u64
    }

    /// Everything in the mirror's own directory.
    pub(crate) fn nodes(&self) -> &BTreeMap<MirrorPath, Node> {
        &self.trees[MIRROR]
    }

    pub(crate) fn content(&self, tree: usize, path: &MirrorPath) -> Option<&[u8]> {
        match &self.trees[tree].get(path)?.what {
            What::File(bytes) => Some(bytes),
            What::Directory | What::Link => None,
        }
    }

    fn is_directory(&self, tree: usize, path: &MirrorPath) -> bool {
        path.is_top() || self.trees[tree].get(path).is_some_and(|node| node.what == What::Directory)
    }

    fn inode_of_directory(&self, tree: usize, path: &MirrorPath) -> Option<u64> {
        if path.is_top() {
            return Some(Self::root_inode(tree));
        }
        self.trees[tree].get(path).filter(|node| node.what == What::Directory).map(|node| node.inode)
    }

    /// The time of day as this file system writes it.
    fn stamp(&self, now_ns: i64) -> Timestamp {
        let tick = i64::from(self.tick_ms) * 1_000_000;
        let ticked = now_ns.div_euclid(tick) * tick;
        Timestamp {
            seconds: ticked.div_euclid(1_000_000_000),
            nanos: u32::try_from(ticked.rem_euclid(1_000_000_000)).expect("below a second"),
        }
    }

    /// The clock is set back. A file of the same size that is written, unheard, in just the tick in which it was written by
    /// the clock as it was, looks the same as then, and nobody can tell without reading all there is: that is not played.
    pub(crate) fn clock_is_set_back(&mut self) {
        self.before.extend(self.trees[MIRROR].values().map(|node| (node.inode, node.ctime)));
    }

    fn tell(&mut self, tree: usize, path: &MirrorPath) {
        let Some((parent, name)) = path.split() else { return };
        if let Some(directory) = self.inode_of_directory(tree, &parent) {
            self.events.push(Event { directory, name: name.into() });
        }
    }

    /// Makes the directories above a path; what is in the way is removed.
    pub(crate) fn make_way(&mut self, path: &MirrorPath, now_ns: i64) {
        let Some((parent, _)) = path.split() else { return };
        for step in parent.lineage() {
            if !self.is_directory(MIRROR, &step) {
                self.remove(&step, now_ns);
                self.put(&step, What::Directory, now_ns);
            }
        }
    }

    fn put(&mut self, path: &MirrorPath, what: What, now_ns: i64) {
        let stamp = self.stamp(now_ns);
        self.next_inode += 1;
        let inode = self.next_inode;
        self.trees[MIRROR].insert(path.clone(), Node { what, inode, mtime: stamp, ctime: stamp });
        self.tell(MIRROR, path);
    }

    /// Writes a file in place, or makes it.
    pub(crate) fn write(&mut self, path: &MirrorPath, bytes: &[u8], now_ns: i64) {
        self.make_way(path, now_ns);
        let mut stamp = self.stamp(now_ns);
        let inode = self.trees[MIRROR].get(path).map(|node| node.inode);
        while inode.is_some_and(|inode| self.before.contains(&(inode, stamp))) {
            stamp.seconds += 1;
        }
        match self.trees[MIRROR].get_mut(path) {
            Some(node) if matches!(node.what, What::File(_)) => {
                node.what = What::File(bytes.to_vec());
                (node.mtime, node.ctime) = (stamp, stamp);
                self.tell(MIRROR, path);
            }
            _ => {
                self.remove(path, now_ns);
                self.put(path, What::File(bytes.to_vec()), now_ns);
            }
        }
    }

    /// Writes through a memory map: bytes change, times do not, and closing the file makes an event.
    pub(crate) fn write_mapped(&mut self, path: &MirrorPath, bytes: &[u8]) -> bool {
        match self.trees[MIRROR].get_mut(path) {
            Some(node) if matches!(&node.what, What::File(old) if old.len() == bytes.len()) => {
                node.what = What::File(bytes.to_vec());
                self.tell(MIRROR, path);
                true
            }
            _ => false,
        }
    }

    /// Gives a file another modification time; nobody can give it another ctime.
    pub(crate) fn set_mtime(&mut self, path: &MirrorPath, mtime: Option<Timestamp>, now_ns: i64) {
        let stamp = self.stamp(now_ns);
        if let Some(node) = self.trees[MIRROR].get_mut(path) {
            node.mtime = mtime.unwrap_or(stamp);
            node.ctime = stamp;
            self.tell(MIRROR, path);
        }
    }

    pub(crate) fn mtime(&self, path: &MirrorPath) -> Option<Timestamp> {
        self.trees[MIRROR].get(path).map(|node| node.mtime)
    }

    pub(crate) fn link(&mut self, path: &MirrorPath, now_ns: i64) {
        self.make_way(path, now_ns);
        self.remove(path, now_ns);
        self.put(path, What::Link, now_ns);
    }

    pub(crate) fn make_directory(&mut self, path: &MirrorPath, now_ns: i64) {
        self.make_way(path, now_ns);
        if !self.is_directory(MIRROR, path) {
            self.remove(path, now_ns);
            self.put(path, What::Directory, now_ns);
        }
    }

    /// Removes what is at a path, with everything below it. Returns how many files went.
    pub(crate) fn remove(&mut self, path: &MirrorPath, _now_ns: i64) -> usize {
        let gone = self.at_and_below(path);
        let mut files = 0;
        for one in gone.iter().rev() {
            self.tell(MIRROR, one);
            if let Some(node) = self.trees[MIRROR].remove(one) {
                files += usize::from(matches!(node.what, What::File(_)));
                self.watches.remove(&node.inode);
            }
        }
        files
    }

    fn at_and_below(&self, path: &MirrorPath) -> Vec<MirrorPath> {
        let below = |one: &&MirrorPath| *one == path || one.lineage().any(|step| step == *path);
        self.trees[MIRROR].keys().filter(below).cloned().collect()
    }

    /// Renames, replacing what is there, as `mv -T` does. Only the renamed thing itself gets another ctime.
    pub(crate) fn rename(&mut self, from: &MirrorPath, to: &MirrorPath, now_ns: i64) -> bool {
        let is_inside = to.lineage().any(|step| step == *from) || from.lineage().any(|step| step == *to);
        if is_inside || !self.trees[MIRROR].contains_key(from) {
            return false;
        }
        self.make_way(to, now_ns);
        if !self.trees[MIRROR].contains_key(from) {
            return false;
        }
        self.remove(to, now_ns);
        let stamp = self.stamp(now_ns);
        self.tell(MIRROR, from);
        for old in self.at_and_below(from) {
            let mut node = self.trees[MIRROR].remove(&old).expect("just seen");
            if old == *from {
                node.ctime = stamp;
            }
            let new = [to.as_bytes(), &old.as_bytes()[from.as_bytes().len()..]].concat();
            self.trees[MIRROR].insert(MirrorPath::from_bytes(&new).expect("made of two"), node);
        }
        self.tell(MIRROR, to);
        true
    }

    /// Takes the bytes of every file, and tells nobody.
    pub(crate) fn empty_all(&mut self, now_ns: i64) {
        let stamp = self.stamp(now_ns);
        for node in self.trees[MIRROR].values_mut() {
            if let What::File(bytes) = &mut node.what {
                bytes.clear();
                node.ctime = stamp;
            }
        }
    }

    /// A file of someone else, on a disk that is not the mirror.
    pub(crate) fn fill_other_disk(&mut self, path: &MirrorPath, bytes: &[u8], now_ns: i64) {
        let stamp = self.stamp(now_ns);
        self.next_inode += 1;
        let node = Node { what: What::File(bytes.to_vec()), inode: self.next_inode, mtime: stamp, ctime: stamp };
        self.trees[OTHER_DISK].insert(path.clone(), node);
    }

    /// The process that watched is gone.
    pub(crate) fn unwatch_all(&mut self) {
        self.watches.clear();
    }

    /// Watches the directory at `path`, if there is one: under this name from now on, as the watcher does.
    pub(crate) fn watch(&mut self, tree: usize, path: &MirrorPath) {
        if let Some(inode) = self.inode_of_directory(tree, path) {
            self.watches.insert(inode, path.clone());
        }
    }

    pub(crate) fn is_watched(&self, path: &MirrorPath) -> bool {
        self.inode_of_directory(MIRROR, path).is_some_and(|inode| self.watches.contains_key(&inode))
    }

    /// The path that a watcher reports for an event; `None` if nobody watches there. It may not be where the thing is.
    pub(crate) fn heard_as(&self, event: &Event) -> Option<MirrorPath> {
        self.watches.get(&event.directory)?.join(&event.name)
    }

    fn look_of(node: &Node) -> Look {
        let size = match &node.what {
            What::File(bytes) => bytes.len() as u64,
            What::Directory | What::Link => 0,
        };
        let stat = Stat { size, mtime: node.mtime, ctime: node.ctime, inode: node.inode };
        let observed = match node.what {
            What::Directory => Observed::Directory,
            What::File(_) => Observed::File(stat),
            What::Link => Observed::Other(Kind::Symlink, stat),
        };
        Look { observed, mode: 0o644 }
    }
}

/// One of the trees, held open: it stays this one, whatever is mounted by now.
pub(crate) struct Held<'a> {
    pub(crate) disk: &'a RefCell<Disk>,
    pub(crate) tree: usize,
}

impl Tree for Held<'_> {
    fn identity(&self) -> Identity {
        Disk::identity(self.tree)
    }

    fn look(&self, path: &MirrorPath) -> io::Result<Look> {
        if path.is_top() {
            return Ok(Look { observed: Observed::Directory, mode: 0 });
        }
        let disk = self.disk.borrow();
        Ok(disk.trees[self.tree].get(path).map_or(Look { observed: Observed::Missing, mode: 0 }, Disk::look_of))
    }

    fn list(&self, dir: &MirrorPath) -> io::Result<Vec<Name>> {
        let disk = self.disk.borrow();
        if !disk.is_directory(self.tree, dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let in_it = disk.trees[self.tree].iter().filter_map(|(path, node)| {
            let (parent, name) = path.split()?;
            (parent == *dir).then(|| Name { bytes: name.into(), look: Disk::look_of(node) })
        });
        Ok(in_it.collect())
    }

    fn steering(&self, file: &MirrorPath, longest: u64) -> io::Result<Vec<u8>> {
        let disk = self.disk.borrow();
        let bytes = disk.content(self.tree, file).ok_or(io::ErrorKind::NotFound)?;
        Ok(bytes.iter().copied().take(usize::try_from(longest).unwrap_or(usize::MAX)).collect())
    }
}
