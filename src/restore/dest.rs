//! The directory that files are restored into, and the only place of this program that writes outside of its state directory.
//!
//! Whatever a path says, nothing beyond the directory is made or opened: each directory is opened beneath it without
//! following a link, and made by one name in the one above. What is written has a name of its own until it is whole and
//! right; the last step is a rename that replaces nothing, unless that was asked for.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, TryLockError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, retry_on_intr};

use super::{Compared, IN_THE_WAY, Lies, PART, Step, Wanted, compared, is_part, step};
use crate::local::{OpenRoot, RootError};
use crate::mirror::{Digest, MirrorPath};

/// Directories that are kept open: files come directory by directory, so there are few at a time.
const OPEN: usize = 16;
/// Directories that are remembered as swept: a MiB or so.
const REMEMBERED: usize = 32 * 1024;
/// Bytes that are read at a time to compare a file.
const BUFFER_BYTES: usize = 256 * 1024;
/// Who may do what with a file on its way.
const PRIVATE: Mode = Mode::from_raw_mode(0o600);

const NOT_A_DIRECTORY: &str = "a link or a file lies where its directory should be";

/// What may be replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// Nothing: what lies there stays.
    Nothing,
    /// Every file and link; never a directory.
    All,
}

/// A directory below the one that is restored into where nothing is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guarded {
    /// The directory.
    pub path: MirrorPath,
    /// Why, for a person.
    pub why: String,
}

/// A directory to restore into.
#[derive(Debug)]
pub struct Dest {
    /// None if it is not there and only looked at.
    root: Option<OpenRoot>,
    /// That of new directories: the ledger keeps none, and those within need not be open to more people than the whole is.
    mode: Mode,
    over: Over,
    guarded: Vec<Guarded>,
    open: Mutex<VecDeque<(MirrorPath, Arc<OwnedFd>)>>,
    swept: Mutex<Swept>,
}

/// The directories from which those files are gone that were on their way when a restore was killed. Reading a large one again
/// each time it is opened would cost more than all of its files; forgetting some costs that once.
#[derive(Debug, Default)]
struct Swept {
    /// A hash of each one's numbers, and of its path: some file systems give a number to several.
    dirs: HashSet<u64>,
}

impl Swept {
    /// Whether this is the first time it is opened.
    fn is_new(&mut self, dir: &OwnedFd, path: &MirrorPath) -> bool {
        let Ok(stat) = rustix::fs::fstat(dir) else { return true };
        if self.dirs.len() >= REMEMBERED {
            self.dirs.clear();
        }
        let mut hash = DefaultHasher::new();
        (stat.st_dev, stat.st_ino, path).hash(&mut hash);
        self.dirs.insert(hash.finish())
    }
}

/// What looking at the place of a file shows.
enum Glance<'a> {
    /// What is done about it.
    Sure(Compared),
    /// The file in this directory has to be read.
    Read(Arc<OwnedFd>, &'a [u8]),
}

/// Why nothing lies behind a directory's path.
enum NoEntry {
    /// It is not there.
    Missing,
    /// Something else is.
    Other,
    Io(io::Error),
}

impl From<Errno> for NoEntry {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT => Self::Missing,
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV => Self::Other,
            other => Self::Io(other.into()),
        }
    }
}

impl From<NoEntry> for io::Error {
    fn from(none: NoEntry) -> Self {
        match none {
            NoEntry::Missing => io::ErrorKind::NotFound.into(),
            NoEntry::Other => io::Error::other(NOT_A_DIRECTORY),
            NoEntry::Io(error) => error,
        }
    }
}

impl Dest {
    /// Blocking: opens the directory `path`, which is made if it is not there, for its owner alone.
    ///
    /// # Errors
    /// If it cannot be made or opened.
    pub fn open(path: &Path, over: Over, guarded: Vec<Guarded>) -> Result<Self, RootError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| RootError::Closed { path: path.to_owned(), source })?;
        let root = OpenRoot::open(path, None)?;
        let closed = |source| RootError::Closed { path: path.to_owned(), source };
        let stat = root.open_beneath(&MirrorPath::top(), OFlags::RDONLY | OFlags::DIRECTORY).map_err(closed)?;
        let stat = rustix::fs::fstat(stat).map_err(|error| closed(error.into()))?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
        Ok(Self { root: Some(root), mode, over, guarded, open: Mutex::default(), swept: Mutex::default() })
    }

    /// Blocking: the same, only to be looked at; it need not be there.
    ///
    /// # Errors
    /// If it is there and cannot be opened.
    pub fn look(path: &Path, over: Over, guarded: Vec<Guarded>) -> Result<Self, RootError> {
        let root = match OpenRoot::open(path, None) {
            Ok(root) => Some(root),
            Err(RootError::Missing(_)) if path.symlink_metadata().is_err() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { root, mode: Mode::RWXU, over, guarded, open: Mutex::default(), swept: Mutex::default() })
    }

    /// Blocking: what is done about `wanted`, seeing what lies there; compares a file that could be it.
    ///
    /// # Errors
    /// If what lies there cannot be looked at or read.
    pub(super) fn compare(&self, wanted: &Wanted) -> io::Result<Compared> {
        match self.glance(wanted)? {
            Glance::Sure(compared) => Ok(compared),
            Glance::Read(dir, name) => Ok(compared(wanted, digest_of(&dir, name)?, self.over)),
        }
    }

    /// Blocking: the same, if no file has to be read for it.
    pub(super) fn compare_unread(&self, wanted: &Wanted) -> Option<Compared> {
        match self.glance(wanted) {
            Ok(Glance::Sure(compared)) => Some(compared),
            Ok(Glance::Read(..)) | Err(_) => None,
        }
    }

    fn glance<'a>(&self, wanted: &'a Wanted) -> io::Result<Glance<'a>> {
        let keep = |why: &str| Ok(Glance::Sure(Compared::Keep(why.to_owned())));
        if let Some(guarded) = self.guarded.iter().find(|guarded| wanted.path.is_within(&guarded.path)) {
            return keep(&guarded.why);
        }
        let Some((parent, name)) = wanted.path.split() else { return keep(IN_THE_WAY) };
        let (dir, lies) = match self.enter(&parent) {
            Ok(dir) => {
                let lies = lies(&dir, name)?;
                (Some(dir), lies)
            }
            Err(NoEntry::Missing) => (None, Lies::Nothing),
            Err(NoEntry::Other) => return keep(NOT_A_DIRECTORY),
            Err(NoEntry::Io(error)) => return Err(error),
        };
        match (step(wanted, lies, self.over), dir) {
            (Step::Compare, Some(dir)) => Ok(Glance::Read(dir, name)),
            (Step::Fetch | Step::Compare, _) => Ok(Glance::Sure(Compared::Fetch)),
            (Step::Keep(why), _) => keep(why),
        }
    }

    /// Blocking: begins a file in the directory of `path`, which is made, with all above it, if it is not there.
    ///
    /// # Errors
    /// As the file system says, or if something else lies where a directory should be.
    pub(super) fn begin(&self, path: &MirrorPath) -> io::Result<Part> {
        let (parent, _) = path.split().ok_or(io::ErrorKind::IsADirectory)?;
        Part::make(self.make(&parent)?)
    }

    /// Blocking: has the disk hold everything that was restored.
    ///
    /// # Errors
    /// As the file system says.
    pub(super) fn sync(&self) -> io::Result<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let top = root.open_beneath(&MirrorPath::top(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        #[cfg(target_os = "linux")]
        rustix::fs::syncfs(top)?;
        #[cfg(not(target_os = "linux"))]
        rustix::fs::fsync(top)?;
        Ok(())
    }

    pub(super) fn over(&self) -> Over {
        self.over
    }

    /// A directory that is there. Files whose restore was killed are removed from it.
    fn enter(&self, dir: &MirrorPath) -> Result<Arc<OwnedFd>, NoEntry> {
        if let Some((_, fd)) = self.opened().iter().find(|(path, _)| path == dir) {
            return Ok(Arc::clone(fd));
        }
        let root = self.root.as_ref().ok_or(NoEntry::Missing)?;
        let opened = root.open_beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY);
        let fd = Arc::new(opened.map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => NoEntry::Io(error),
        })?);
        if self.swept.lock().unwrap_or_else(PoisonError::into_inner).is_new(&fd, dir) {
            // What cannot be removed is in nobody's way.
            let _ = sweep(&fd);
        }
        let mut open = self.opened();
        open.push_front((dir.clone(), Arc::clone(&fd)));
        open.truncate(OPEN);
        Ok(fd)
    }

    /// A directory, made if it is not there.
    fn make(&self, dir: &MirrorPath) -> Result<Arc<OwnedFd>, NoEntry> {
        match (self.enter(dir), dir.split()) {
            (Err(NoEntry::Missing), Some((parent, name))) => {
                let above = self.make(&parent)?;
                match rustix::fs::mkdirat(&above, name, self.mode) {
                    // Somebody else made something there: opening it shows what.
                    Ok(()) | Err(Errno::EXIST) => self.enter(dir),
                    Err(error) => Err(error.into()),
                }
            }
            (entered, _) => entered,
        }
    }

    fn opened(&self) -> MutexGuard<'_, VecDeque<(MirrorPath, Arc<OwnedFd>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What lies under a name of a directory.
fn lies(dir: &OwnedFd, name: &[u8]) -> rustix::io::Result<Lies> {
    let stat = match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Lies::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Lies::File(u64::try_from(stat.st_size).unwrap_or(0)),
        FileType::Directory => Lies::Directory,
        _ => Lies::Other,
    })
}

/// How a file came to its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Placed {
    /// It has it. Whether with its time and mode: not every file system takes them.
    There { is_dressed: bool },
    /// Something else has it by now.
    Taken,
}

/// A file on its way: under a name of its own, which it loses if it is dropped. It is locked, which ends with the process: so
/// the next restore knows that nobody writes it any more.
pub struct Part {
    dir: Arc<OwnedFd>,
    name: Vec<u8>,
    file: File,
    is_placed: bool,
}

impl Part {
    /// Blocking: begins one in this directory.
    ///
    /// # Errors
    /// As the file system says.
    pub fn make(dir: Arc<OwnedFd>) -> io::Result<Self> {
        loop {
            let letters = std::iter::repeat_with(|| fastrand::alphanumeric().to_ascii_lowercase() as u8);
            let name: Vec<u8> = PART.iter().copied().chain(letters.take(16)).collect();
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = match retry_on_intr(|| rustix::fs::openat(&dir, &*name, flags, PRIVATE)) {
                Ok(fd) => File::from(fd),
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error.into()),
            };
            // Who sweeps has the lock from before it removes a file until that is gone. So the file is ours if we have the
            // lock and it is still there. Where there are no locks, there is none to be had by who sweeps, either.
            let is_being_swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            let is_there = rustix::fs::fstat(&file)?.st_nlink > 0;
            let part = Self { dir: Arc::clone(&dir), name, file, is_placed: !is_there };
            if is_there && !is_being_swept {
                return Ok(part);
            }
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Blocking: has the disk hold these files: their bytes have to be there before their names, so that after a power failure
    /// there is a whole file or none. Many at once cost little more than one.
    pub(super) fn sync<'a>(parts: impl Iterator<Item = &'a Self>) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            // Another file system may be mounted below.
            let mut synced = std::collections::HashSet::new();
            for part in parts {
                if synced.insert(rustix::fs::fstat(&part.file)?.st_dev) {
                    rustix::fs::syncfs(&part.file)?;
                }
            }
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        parts.map(|part| part.file.sync_data()).collect()
    }

    /// Gives the file, which the disk holds, its name. Its time is that of `wanted` only if it has as many bytes.
    pub(super) fn place(mut self, wanted: &Wanted, bytes: u64, over: Over) -> io::Result<Placed> {
        let (_, name) = wanted.path.split().ok_or(io::ErrorKind::IsADirectory)?;
        let mut is_dressed = bytes != wanted.size || self.set_time(wanted).is_ok();
        // Never those that let a program run as its owner: what came over the network must not.
        is_dressed &= rustix::fs::fchmod(&self.file, Mode::from_raw_mode(wanted.mode & 0o777)).is_ok();
        match self.rename(name, over) {
            Err(Errno::EXIST) => return Ok(Placed::Taken),
            renamed => renamed?,
        }
        Ok(Placed::There { is_dressed })
    }

    /// The file itself.
    ///
    /// # Errors
    /// As the system says.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Blocking: gives it a name, once the disk holds it.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something has that name and stays; else as the file system says.
    pub fn finish(mut self, name: &[u8], over: Over) -> io::Result<()> {
        self.file.sync_all()?;
        self.rename(name, over)?;
        Ok(rustix::fs::fsync(&self.dir)?)
    }

    fn rename(&mut self, name: &[u8], over: Over) -> rustix::io::Result<()> {
        match over {
            Over::All => rustix::fs::renameat(&self.dir, &*self.name, &self.dir, name)?,
            Over::Nothing => self.rename_to_free(name)?,
        }
        self.is_placed = true;
        Ok(())
    }

    fn set_time(&self, wanted: &Wanted) -> rustix::io::Result<()> {
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let mtime = Timespec { tv_sec: wanted.mtime.seconds, tv_nsec: wanted.mtime.nanos.min(999_999_999).into() };
        rustix::fs::futimens(&self.file, &Timestamps { last_access: omit, last_modification: mtime })
    }

    fn rename_to_free(&self, name: &[u8]) -> rustix::io::Result<()> {
        match rustix::fs::renameat_with(&self.dir, &*self.name, &self.dir, name, RenameFlags::NOREPLACE) {
            // Not on this file system (NFS), or before Linux 3.15: a second name is never given over one that is there,
            // and the first one goes.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                rustix::fs::linkat(&self.dir, &*self.name, &self.dir, name, AtFlags::empty())?;
                rustix::fs::unlinkat(&self.dir, &*self.name, AtFlags::empty())
            }
            renamed => renamed,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = rustix::fs::unlinkat(&self.dir, &*self.name, AtFlags::empty());
        }
    }
}

/// Removes the files from a directory that were on their way when their restore was killed.
fn sweep(dir: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_part(name.to_bytes()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::openat(dir, name, flags, Mode::empty()) else { continue };
        let is_file = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::RegularFile;
        // Held until the name is gone: see `Part::make`.
        let file = File::from(fd);
        if is_file && file.try_lock().is_ok() {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

fn digest_of(dir: &OwnedFd, name: &[u8]) -> io::Result<Digest> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = File::from(retry_on_intr(|| rustix::fs::openat(dir, name, flags, Mode::empty()))?);
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; BUFFER_BYTES]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finalize().into()),
            Ok(read) => {
                hasher.update(&buffer[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
