//! The mirror's own directory, and opening things beneath it without ever leaving it.

use std::ffi::CStr;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(target_os = "linux")]
use rustix::fs::RawDir;
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::Calls;
use super::tree::{Name, Tree};
use crate::mirror::{Kind, MirrorPath, Observed, Stat, Timestamp};

/// Bytes of names that are asked for at a time: what the C library takes, too.
#[cfg(target_os = "linux")]
const ENTRIES: usize = 32 * 1024;

/// Looks at names in a directory that count as one call: counting costs, and all of them take a second on the slowest disk.
const CALLS_IN_A_ROW: usize = 64;

/// Which directory or file this is, whatever its path: a disk that is not mounted shows another directory in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The device that holds it.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

impl Identity {
    /// The identity of what is at `path`, links followed.
    ///
    /// # Errors
    /// As the file system says.
    pub fn of_path(path: &Path) -> io::Result<Self> {
        path.metadata().map(|meta| Self { device: meta.dev(), inode: meta.ino() })
    }
}

/// Why a mirror's directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// It is not there, or no directory.
    #[error("`{}` is not there", .0.display())]
    Missing(PathBuf),
    /// It is there and cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Closed {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another directory is in its place.
    #[error("another directory is in the place of `{}`", .0.display())]
    Another(PathBuf),
}

/// A mirror's directory, open: what is looked at beneath it belongs to this directory even if its path means another by now.
#[derive(Debug)]
pub struct OpenRoot {
    fd: OwnedFd,
    identity: Identity,
    own: Vec<Own>,
    calls: Arc<Calls>,
}

/// A file or directory of ours that no mirror takes, wherever it is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Own {
    /// Who it is now; `None`: it is not there.
    pub identity: Option<Identity>,
    /// Where it lies in this mirror, if it does: another may take its place there, as when an editor saves it.
    pub path: Option<MirrorPath>,
}

/// What is at a path, with the permission bits that a restore would need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// What it is.
    pub observed: Observed,
    /// Permission bits; 0 where nothing is.
    pub mode: u32,
}

impl Own {
    /// Blocking: `file`, absolute and without links, as the mirror at `root` would meet it now.
    #[must_use]
    pub fn now(file: &Path, root: &Path) -> Self {
        Self {
            identity: Identity::of_path(file).ok(),
            path: MirrorPath::relative(root, file).filter(|path| !path.is_top()),
        }
    }
}

impl OpenRoot {
    /// Opens the directory at `path`. If `expected` is given, it has to be that one.
    ///
    /// # Errors
    /// [`RootError`] tells missing, closed and another one apart.
    pub fn open(path: &Path, expected: Option<Identity>) -> Result<Self, RootError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let closed = |error: Errno| match error {
            Errno::NOENT | Errno::NOTDIR => RootError::Missing(path.to_owned()),
            other => RootError::Closed { path: path.to_owned(), source: other.into() },
        };
        let fd = retry_on_intr(|| rustix::fs::openat(CWD, path, flags, Mode::empty())).map_err(closed)?;
        let stat = rustix::fs::fstat(&fd).map_err(closed)?;
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        match expected {
            Some(expected) if expected != identity => Err(RootError::Another(path.to_owned())),
            _ => Ok(Self { fd, identity, own: Vec::new(), calls: Arc::default() }),
        }
    }

    /// The same directory, with these left out of it as [`Kind::Own`].
    #[must_use]
    pub fn without(self, own: Vec<Own>) -> Self {
        Self { own, ..self }
    }

    /// The same directory, its calls to the system counted here.
    #[must_use]
    pub fn counted(self, calls: Arc<Calls>) -> Self {
        Self { calls, ..self }
    }

    pub(super) fn calls(&self) -> &Calls {
        &self.calls
    }

    /// Opens `path` without following any link in it and without waiting for the other end of a pipe.
    ///
    /// # Errors
    /// As the file system says.
    pub(crate) fn open_beneath(&self, path: &MirrorPath, flags: OFlags) -> io::Result<OwnedFd> {
        let _call = self.calls.begin();
        // A signal is no reason to leave a file for later (B24).
        Ok(retry_on_intr(|| self.beneath(path, flags))?)
    }

    /// Blocking: when a directory of this file system last changed: its entries, or its own name.
    pub(crate) fn changed_at(&self, dir: &MirrorPath) -> io::Result<Timestamp> {
        let _call = self.calls.begin();
        let stat = rustix::fs::fstat(self.beneath(dir, OFlags::PATH | OFlags::DIRECTORY)?)?;
        if stat.st_dev != self.identity.device {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(stat_of(&stat).ctime)
    }

    /// Blocking: whether the system would refuse to let a file be read. One that cannot be asked about counts as readable:
    /// whoever reads it is told.
    pub(crate) fn is_unreadable(&self, path: &MirrorPath) -> bool {
        let asked = rustix::fs::accessat(&self.fd, path.as_bytes(), Access::READ_OK, AtFlags::empty());
        matches!(asked, Err(Errno::ACCESS | Errno::PERM))
    }

    fn beneath(&self, path: &MirrorPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if path.is_top() {
            return rustix::fs::openat(&self.fd, c".", flags, Mode::empty());
        }
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::ResolveFlags;
            let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match rustix::fs::openat2(&self.fd, path.as_bytes(), flags, Mode::empty(), within) {
                // Before Linux 5.6, or under a filter that knows no openat2.
                Err(Errno::NOSYS | Errno::PERM) => {}
                // A rename somewhere raced with the walk; the other way does not mind.
                Err(Errno::AGAIN) => {}
                // Longer than one call takes (B18): a part at a time, no path is too long.
                Err(Errno::NAMETOOLONG) => {}
                done => return done,
            }
        }
        self.beneath_step_by_step(path, flags)
    }

    pub(super) fn beneath_step_by_step(&self, path: &MirrorPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A directory that may be entered need not be readable.
        #[cfg(target_os = "linux")]
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let step = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Some((parent, name)) = path.split() else {
            return rustix::fs::openat(&self.fd, c".", flags, Mode::empty());
        };
        let mut here: Option<OwnedFd> = None;
        for part in parent.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let from = here.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            here = Some(rustix::fs::openat(from, part, step, Mode::empty())?);
        }
        let from = here.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        rustix::fs::openat(from, name, flags, Mode::empty())
    }

    pub(crate) fn look_of(&self, stat: &rustix::fs::Stat) -> Look {
        self.look_at(None, stat)
    }

    fn look_at(&self, path: Option<&MirrorPath>, stat: &rustix::fs::Stat) -> Look {
        let version = stat_of(stat);
        if self.is_own(path, stat) {
            // Always the same, so that it is recorded once and not at each change of it.
            let epoch = Timestamp { seconds: 0, nanos: 0 };
            let same = Stat { size: 0, mtime: epoch, ctime: epoch, inode: version.inode };
            return Look { observed: Observed::Other(Kind::Own, same), mode: 0 };
        }
        let observed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Observed::File(version),
            FileType::Directory if stat.st_dev == self.identity.device => Observed::Directory,
            FileType::Directory => Observed::Other(Kind::Mount, version),
            FileType::Symlink => Observed::Other(Kind::Symlink, version),
            FileType::Fifo => Observed::Other(Kind::Fifo, version),
            FileType::Socket => Observed::Other(Kind::Socket, version),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                Observed::Other(Kind::Device, version)
            }
        };
        Look { observed, mode: stat.st_mode & 0o7777 }
    }
}

impl OpenRoot {
    fn is_own(&self, path: Option<&MirrorPath>, stat: &rustix::fs::Stat) -> bool {
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        self.own.iter().any(|own| own.identity == Some(identity) || (own.path.is_some() && own.path.as_ref() == path))
    }
}

impl Tree for OpenRoot {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn look(&self, path: &MirrorPath) -> io::Result<Look> {
        let missing = Look { observed: Observed::Missing, mode: 0 };
        let Some((parent, name)) = path.split() else {
            return Ok(Look { observed: Observed::Directory, mode: 0 });
        };
        let _call = self.calls.begin();
        let looked = if parent.is_top() {
            rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
        } else {
            retry_on_intr(|| self.beneath(&parent, OFlags::PATH | OFlags::DIRECTORY))
                .and_then(|dir| rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))
        };
        match looked {
            Ok(stat) => Ok(self.look_at(Some(path), &stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(missing),
            Err(error) => Err(error.into()),
        }
    }

    /// One call where [`look`](Tree::look) takes three. Links on the way are followed here: what is found behind one is not
    /// believed, and what is not there behind one is not there in the mirror either.
    fn is_surely_missing(&self, path: &MirrorPath) -> bool {
        let _call = self.calls.begin();
        let found = rustix::fs::statat(&self.fd, path.as_bytes(), AtFlags::SYMLINK_NOFOLLOW);
        !path.is_top() && matches!(found, Err(Errno::NOENT))
    }

    fn list(&self, dir: &MirrorPath) -> io::Result<Vec<Name>> {
        let fd = self.open_beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let opened = rustix::fs::fstat(&fd)?;
        if opened.st_dev != self.identity.device {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Only the few directories that hold something of ours need the paths of what is in them.
        let own_here = self.own.iter().filter_map(|own| own.path.as_ref()?.split()).any(|(parent, _)| parent == *dir);
        let mut names = Vec::new();
        let mut call = self.calls.begin();
        for_each_entry(&fd, |entry| {
            if names.len() % CALLS_IN_A_ROW == CALLS_IN_A_ROW - 1 {
                call = self.calls.begin();
            }
            let name = entry.to_bytes();
            if matches!(name, b"." | b"..") {
                return Ok(());
            }
            match rustix::fs::statat(&fd, entry, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => {
                    let path = if own_here { dir.join(name) } else { None };
                    names.push(Name { bytes: name.into(), look: self.look_at(path.as_ref(), &stat) });
                    Ok(())
                }
                Err(Errno::NOENT) => Ok(()),
                Err(error) => Err(error),
            }
        })?;
        drop(call);
        Ok(names)
    }

    fn steering(&self, file: &MirrorPath, longest: u64) -> io::Result<Vec<u8>> {
        let _call = self.calls.begin();
        let mut bytes = Vec::new();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        std::fs::File::from(self.open_beneath(file, flags)?).take(longest).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Calls `each` with the names in an open directory, `.` and `..` among them.
#[cfg(target_os = "linux")]
fn for_each_entry(dir: &OwnedFd, mut each: impl FnMut(&CStr) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let mut buffer = Vec::with_capacity(ENTRIES);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => each(entry.file_name())?,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn for_each_entry(dir: &OwnedFd, mut each: impl FnMut(&CStr) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    for entry in retry_on_intr(|| rustix::fs::Dir::read_from(dir))? {
        each(entry?.file_name())?;
    }
    Ok(())
}

pub(crate) fn stat_of(stat: &rustix::fs::Stat) -> Stat {
    // Nanoseconds lie below 10⁹ by POSIX; a file system that says otherwise gets 0. Their type differs by system.
    fn time<N: TryInto<u32>>(seconds: i64, nanos: N) -> Timestamp {
        Timestamp { seconds, nanos: nanos.try_into().unwrap_or(0) }
    }
    Stat {
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> MirrorPath {
        MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
    }

    // B12, B13
    #[test]
    fn nothing_beyond_a_link_is_seen_or_opened() {
        let outside = tempfile::tempdir().expect("a directory");
        std::fs::write(outside.path().join("secret"), "s").expect("written");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("d")).expect("made");
        symlink(outside.path(), dir.path().join("d/link")).expect("linked");
        let root = OpenRoot::open(dir.path(), None).expect("open");

        assert_eq!(root.look(&path("d/link/secret")).expect("looked").observed, Observed::Missing);
        assert!(!root.is_surely_missing(&path("d/link/secret")), "found, and not believed");
        assert!(!root.is_surely_missing(&path("d/link")) && root.is_surely_missing(&path("d/nothing")));
        assert!(matches!(root.look(&path("d/link")).expect("looked").observed, Observed::Other(Kind::Symlink, _)));
        for one in [path("d/link/secret"), path("d/link")] {
            assert!(root.open_beneath(&one, OFlags::RDONLY).is_err(), "{one}");
            assert!(root.beneath_step_by_step(&one, OFlags::RDONLY).is_err(), "{one}, step by step");
        }
    }

    #[test]
    fn both_ways_to_open_reach_the_same_file() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("made");
        std::fs::write(dir.path().join("a/b/c"), "x").expect("written");
        let root = OpenRoot::open(dir.path(), None).expect("open");
        for one in [path("a/b/c"), path("a"), MirrorPath::top()] {
            let direct = rustix::fs::fstat(root.open_beneath(&one, OFlags::RDONLY).expect("opened")).expect("stat");
            let stepped = root.beneath_step_by_step(&one, OFlags::RDONLY).expect("opened");
            assert_eq!(direct.st_ino, rustix::fs::fstat(stepped).expect("stat").st_ino, "{one}");
        }
    }

    // B18: longer than any one call takes, made and opened a part at a time.
    #[test]
    fn a_path_longer_than_a_call_takes_is_opened_and_looked_at() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = OpenRoot::open(dir.path(), None).expect("open");
        let part = "d".repeat(200);
        let mut deep = MirrorPath::top();
        let mut here = root.open_beneath(&deep, OFlags::RDONLY).expect("opened");
        while deep.as_bytes().len() < 5000 {
            rustix::fs::mkdirat(&here, &part, Mode::RWXU).expect("made");
            here = rustix::fs::openat(&here, &part, OFlags::RDONLY, Mode::empty()).expect("opened");
            deep = deep.join(part.as_bytes()).expect("a path");
        }
        rustix::fs::openat(&here, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).expect("made");
        let file = deep.join(b"f").expect("a path");
        assert!(matches!(root.look(&file).expect("looked").observed, Observed::File(_)));
        assert!(root.open_beneath(&file, OFlags::RDONLY).is_ok());
        assert_eq!(root.list(&deep).expect("listed").len(), 1);
    }

    // A9, A11
    #[test]
    fn another_directory_in_its_place_is_not_the_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("m");
        std::fs::create_dir(&place).expect("made");
        let identity = OpenRoot::open(&place, None).expect("open").identity();
        std::fs::rename(&place, dir.path().join("old")).expect("renamed");
        assert!(matches!(OpenRoot::open(&place, Some(identity)), Err(RootError::Missing(_))));
        std::fs::create_dir(&place).expect("made");
        assert!(matches!(OpenRoot::open(&place, Some(identity)), Err(RootError::Another(_))));
    }
}
