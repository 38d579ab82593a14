//! Files by their hash, and the directories that name them: on disk, and the same after a restart.
//!
//! Nothing is synced to the disk: the sandbox is for trying and for tests, not for keeping.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::SandboxError;
use crate::mirror::{Cid, CidBuilder, RemoteDir};

/// A file as the sandbox keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// Its directory's path; empty: the root.
    pub directory: String,
    /// Its directory's number; 0 is the root.
    pub directory_id: u64,
    /// Its name there.
    pub name: String,
    /// Its CIDv0.
    pub hash: String,
    /// Bytes in it.
    pub size: u64,
    /// What `x-dstor-comment` said.
    pub comment: Option<String>,
    /// When it was stored.
    pub stored_at: jiff::Timestamp,
}

/// A line of the log.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Directory { id: u64, path: String },
    File { directory: u64, name: String, hash: String, size: u64, comment: Option<String>, stored_at: String },
}

/// A file that was received whole and has no name yet. Dropped without being stored, its bytes go with it.
pub(super) struct Received {
    file: Incoming,
    pub(super) cid: Cid,
    pub(super) size: u64,
}

/// A file on its way in: keeps one read's bytes in memory, whatever its size.
pub(super) struct Receiving {
    file: Incoming,
    out: File,
    cid: CidBuilder,
    size: u64,
}

/// A temporary file, removed when dropped unless it was stored.
struct Incoming {
    path: PathBuf,
    is_stored: AtomicBool,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_stored.load(Ordering::Relaxed) {
            // A leftover is swept out at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Receiving {
    /// Takes the file's next bytes. Blocking, but for a page-cache write and a hash of one network read: less than the
    /// way to another thread and back.
    pub(super) fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.cid.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The file is whole.
    pub(super) fn finish(self) -> Received {
        Received { file: self.file, cid: self.cid.finish(), size: self.size }
    }
}

/// A received file and what it is to be called.
pub(super) struct NewFile {
    pub(super) place: Place,
    pub(super) name: String,
    pub(super) comment: Option<String>,
    pub(super) received: Received,
}

/// Where a file goes.
pub(super) enum Place {
    /// Made if it is not there.
    Path(RemoteDir),
    /// Known to be there: there is no way to remove one.
    Id(u64),
}

/// What one directory holds: names below it and files in it.
pub(super) struct Listing {
    pub(super) directories: Vec<(String, u64)>,
    pub(super) files: Vec<StoredFile>,
    /// Files that were left out of `files`.
    pub(super) more: usize,
}

/// Everything on disk.
pub(super) struct Store {
    dir: PathBuf,
    chunk_bytes: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// Open and locked until the store is closed.
    log: Option<File>,
    /// The path of the directory with this number.
    paths: Vec<String>,
    ids: HashMap<String, u64>,
    versions: Vec<StoredFile>,
    /// Directory and name → the newest version.
    current: BTreeMap<(String, String), usize>,
}

impl Store {
    /// Blocking: opens what is below `dir`, or makes it. One sandbox at a time.
    pub(super) fn open(dir: &Path, chunk_bytes: usize) -> Result<Self, SandboxError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| SandboxError::Store { path, source }
        };
        for needed in [dir.to_owned(), dir.join("objects"), dir.join("incoming")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&needed).map_err(at(&needed))?;
        }
        let path = dir.join("entries.jsonl");
        let mut log =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path).map_err(at(&path))?;
        match log.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SandboxError::InUse { store: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let incoming = dir.join("incoming");
        for left in fs::read_dir(&incoming).map_err(at(&incoming))? {
            let left = left.map_err(at(&incoming))?.path();
            fs::remove_file(&left).map_err(at(&left))?;
        }
        let entries = Entries::replay(&mut log).map_err(at(&path))?;
        let entries = Entries { log: Some(log), ..entries };
        Ok(Self { dir: dir.to_owned(), chunk_bytes, entries: Mutex::new(entries) })
    }

    /// Stores nothing from now on and lets another sandbox have the directory.
    pub(super) fn close(&self) {
        if let Some(log) = self.lock().log.take() {
            // To close it is not enough: a program that is just being started has it open as well, for a moment. Where it
            // cannot be unlocked, that moment is to be waited for.
            let _ = log.unlock();
        }
    }

    /// Blocking, shortly: begins to receive a file.
    pub(super) fn receive(&self) -> io::Result<Receiving> {
        // By chance and not by number: what an earlier sandbox on this directory still cleans up must not be ours.
        let path = self.dir.join("incoming").join(format!("{:016x}", fastrand::u64(..)));
        let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let file = Incoming { path, is_stored: AtomicBool::new(false) };
        Ok(Receiving { file, out, cid: CidBuilder::with_chunk_bytes(self.chunk_bytes), size: 0 })
    }

    /// Blocking, shortly: moves files to where their hash says, without naming them yet.
    pub(super) fn add(&self, files: &[NewFile]) -> io::Result<()> {
        for file in files {
            // Also over one that is there: it may have been damaged since, and this one is what its hash says.
            let (object, incoming) = (self.object(&file.received.cid), &file.received.file);
            match (fs::rename(&incoming.path, &object), object.parent()) {
                // The first one with such a beginning.
                (Err(error), Some(shelf)) if error.kind() == io::ErrorKind::NotFound => {
                    DirBuilder::new().recursive(true).mode(0o700).create(shelf)?;
                    fs::rename(&incoming.path, &object)?;
                }
                (renamed, _) => renamed?,
            }
            incoming.is_stored.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Blocking, shortly: names files that were [added](Self::add), all or none of them.
    pub(super) fn name(&self, files: Vec<NewFile>) -> io::Result<()> {
        let mut entries = self.lock();
        let known = entries.paths.len();
        let mut new = Vec::with_capacity(files.len());
        for file in files {
            let directory_id = match file.place {
                Place::Path(dir) => entries.make_directory(dir.as_str()),
                Place::Id(id) => id,
            };
            new.push(StoredFile {
                directory: entries.path(directory_id),
                directory_id,
                name: file.name,
                hash: file.received.cid.to_string(),
                size: file.received.size,
                comment: file.comment,
                stored_at: jiff::Timestamp::now(),
            });
        }
        let mut text = String::new();
        for id in known..entries.paths.len() {
            push_line(&mut text, &Line::Directory { id: id as u64, path: entries.paths[id].clone() });
        }
        for file in &new {
            push_line(&mut text, &Line::of(file));
        }
        if let Err(error) = entries.append(&text) {
            entries.forget_directories(known);
            return Err(error);
        }
        for file in new {
            entries.put(file);
        }
        Ok(())
    }

    /// Whether a directory has this number.
    pub(super) fn has_directory(&self, id: u64) -> bool {
        usize::try_from(id).is_ok_and(|id| id < self.lock().paths.len())
    }

    /// Blocking: opens the bytes with this hash.
    pub(super) fn open_object(&self, cid: &Cid) -> io::Result<File> {
        File::open(self.object(cid))
    }

    /// The newest file under each name, sorted by directory and name.
    pub(super) fn files(&self) -> Vec<StoredFile> {
        let entries = self.lock();
        entries.current.values().map(|at| entries.versions[*at].clone()).collect()
    }

    /// What files with this hash are called: directory and name of each, as `a/b/name`.
    pub(super) fn names_of(&self, hash: &str) -> Vec<String> {
        let entries = self.lock();
        let files = entries.versions.iter().filter(|file| file.hash == hash);
        files.map(|file| format!("{}/{}", file.directory, file.name)).collect()
    }

    /// Every file that was ever stored, in order.
    pub(super) fn versions(&self) -> Vec<StoredFile> {
        self.lock().versions.clone()
    }

    /// What is in `directory`, at most `most` files of it; `None` if there is no such directory.
    pub(super) fn list(&self, directory: &str, most: usize) -> Option<Listing> {
        let entries = self.lock();
        if !entries.ids.contains_key(directory) {
            return None;
        }
        let below = |path: &str| match path.rsplit_once('/') {
            Some((parent, _)) => parent == directory,
            None => directory.is_empty() && !path.is_empty(),
        };
        let mut directories: Vec<(String, u64)> =
            entries.ids.iter().filter(|(path, _)| below(path)).map(|(path, id)| (path.clone(), *id)).collect();
        directories.sort();
        let mut here = entries
            .current
            .range((directory.to_owned(), String::new())..)
            .take_while(|((dir, _), _)| dir == directory)
            .map(|(_, at)| &entries.versions[*at]);
        let files = here.by_ref().take(most).cloned().collect();
        Some(Listing { directories, files, more: here.count() })
    }

    fn object(&self, cid: &Cid) -> PathBuf {
        // Every CIDv0 begins alike: its end tells them apart.
        let text = cid.as_str();
        self.dir.join("objects").join(&text[text.len() - 2..]).join(text)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn of(file: &StoredFile) -> Self {
        Self::File {
            directory: file.directory_id,
            name: file.name.clone(),
            hash: file.hash.clone(),
            size: file.size,
            comment: file.comment.clone(),
            stored_at: file.stored_at.to_string(),
        }
    }
}

fn push_line(text: &mut String, line: &Line) {
    text.push_str(&serde_json::to_string(line).expect("numbers and text are JSON"));
    text.push('\n');
}

impl Entries {
    /// What the log says. A last line that was cut off is cut out of the file as well, or the next would join it.
    fn replay(log: &mut File) -> io::Result<Self> {
        let mut text = Vec::new();
        log.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            log.set_len(whole as u64)?;
        }
        let mut entries =
            Self { paths: vec![String::new()], ids: HashMap::from([(String::new(), 0)]), ..Self::default() };
        for (number, line) in text[..whole].split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            entries.read(line).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("line {} cannot be read", number + 1))
            })?;
        }
        Ok(entries)
    }

    fn read(&mut self, line: &[u8]) -> Option<()> {
        match serde_json::from_slice(line).ok()? {
            Line::Directory { id, path } => {
                if id != self.paths.len() as u64 {
                    return None;
                }
                self.ids.insert(path.clone(), id);
                self.paths.push(path);
            }
            Line::File { directory, name, hash, size, comment, stored_at } => {
                let path = self.paths.get(usize::try_from(directory).ok()?)?.clone();
                let stored_at = stored_at.parse().ok()?;
                self.put(StoredFile { directory: path, directory_id: directory, name, hash, size, comment, stored_at });
            }
        }
        Some(())
    }

    /// Writes lines down, all or none of them.
    fn append(&mut self, lines: &str) -> io::Result<()> {
        let log = self.log.as_mut().ok_or_else(|| io::Error::other("the sandbox has stopped"))?;
        let before = log.metadata()?.len();
        log.write_all(lines.as_bytes()).inspect_err(|_| {
            // Half a line would swallow the next one. If this fails as well, the next start says which line is bad.
            let _ = log.set_len(before);
        })
    }

    fn put(&mut self, file: StoredFile) {
        self.current.insert((file.directory.clone(), file.name.clone()), self.versions.len());
        self.versions.push(file);
    }

    fn path(&self, id: u64) -> String {
        usize::try_from(id).ok().and_then(|id| self.paths.get(id)).cloned().unwrap_or_default()
    }

    /// The number of the directory at `path`; it and those above it are made as needed.
    fn make_directory(&mut self, path: &str) -> u64 {
        if let Some(id) = self.ids.get(path) {
            return *id;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.make_directory(parent);
        }
        let id = self.paths.len() as u64;
        self.paths.push(path.to_owned());
        self.ids.insert(path.to_owned(), id);
        id
    }

    /// Forgets directories that could not be written down.
    fn forget_directories(&mut self, known: usize) {
        for path in self.paths.split_off(known) {
            self.ids.remove(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::CHUNK_BYTES;

    fn put(store: &Store, name: &str) -> io::Result<()> {
        let place = Place::Path(RemoteDir::parse("d").expect("a path"));
        let received = store.receive()?.finish();
        let new = vec![NewFile { place, name: name.to_owned(), comment: None, received }];
        store.add(&new)?;
        store.name(new)
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_swallow_the_next_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), CHUNK_BYTES).expect("it opens");
        put(&store, "a").expect("stored");
        store.close();
        let log = dir.path().join("entries.jsonl");
        let whole = fs::read(&log).expect("a log");
        fs::write(&log, [&whole[..], b"{\"kind\":\"file\",\"na"].concat()).expect("written");

        let store = Store::open(dir.path(), CHUNK_BYTES).expect("it opens");
        put(&store, "b").expect("stored");
        store.close();
        let names = |store: Store| store.files().into_iter().map(|file| file.name).collect::<Vec<_>>();
        assert_eq!(names(Store::open(dir.path(), CHUNK_BYTES).expect("it opens")), ["a", "b"]);
    }

    #[test]
    fn a_store_that_was_closed_is_free_whoever_still_has_its_log_open() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), CHUNK_BYTES).expect("it opens");
        // As a process has it that was forked, before it becomes another program.
        let inherited = store.lock().log.as_ref().map(File::try_clone);
        store.close();
        Store::open(dir.path(), CHUNK_BYTES).expect("it is free");
        drop(inherited);
    }

    #[test]
    fn a_whole_line_that_cannot_be_read_is_named_and_not_passed_over() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("entries.jsonl"), "{\"kind\":\"directory\",\"id\":1,\"path\":\"a\"}\nx\n")
            .expect("written");
        let Err(SandboxError::Store { source, .. }) = Store::open(dir.path(), CHUNK_BYTES) else { panic!("it opens") };
        assert_eq!(source.to_string(), "line 2 cannot be read");
    }

    #[test]
    fn a_closed_store_takes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), CHUNK_BYTES).expect("it opens");
        store.close();
        assert!(put(&store, "a").is_err());
        assert_eq!((store.files().len(), store.has_directory(1)), (0, false));
    }
}
