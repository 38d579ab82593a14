//! Linux: one inotify watch a directory. What the kernel calls a watch is a directory itself, under whatever name; which
//! name it had when it was last walked is kept here, and nothing else, so that no name can take away the watch of a
//! directory that has another one by now.

use std::collections::HashMap;
use std::io::{self, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::fs::inotify::{CreateFlags, Event, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};
use rustix::io::{Errno, retry_on_intr};

use super::Ear;
use crate::local::OpenRoot;
use crate::mirror::MirrorPath;

/// Events that are read at a time, in bytes.
const BUFFER: usize = 64 * 1024;

/// The watches over one mirror.
pub(super) struct Inotify {
    root: PathBuf,
    queue: Arc<OwnedFd>,
    dirs: Arc<Mutex<Dirs>>,
    /// Closed with this: the word to end.
    _end: PipeWriter,
}

/// The name of each watched directory, by the kernel's number, which is never given twice.
type Dirs = HashMap<i32, MirrorPath>;

impl Inotify {
    /// Watches nothing yet; `ear` is told of what happens, on a thread of its own.
    pub(super) fn new(root: &Path, ear: Ear) -> io::Result<Self> {
        let queue = Arc::new(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let dirs = Arc::new(Mutex::new(Dirs::new()));
        let (ended, end) = io::pipe()?;
        let mut listener = Listener { queue: Arc::clone(&queue), dirs: Arc::clone(&dirs), ear };
        thread::Builder::new().name("inotify".into()).spawn(move || listener.listen(&ended.into()))?;
        Ok(Self { root: root.to_owned(), queue, dirs, _end: end })
    }

    /// Watches a directory of `root`, or the same one again under the name that it has now.
    pub(super) fn watch(&self, root: &OpenRoot, dir: &MirrorPath) -> io::Result<()> {
        // The very directory, opened beneath the root: by a path it would be what the path leads to, by a link perhaps,
        // and no path can be too long.
        let opened = match root.open_beneath(dir, OFlags::PATH | OFlags::DIRECTORY) {
            Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                // A link has taken its place.
                return Err(io::ErrorKind::NotADirectory.into());
            }
            opened => opened?,
        };
        // Held until the name is known: the first event may come at once.
        let mut dirs = lock(&self.dirs);
        let by_number = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let watched = match self.add(by_number.as_bytes(), mask(dir)) {
            // There is no such place in some containers.
            Err(Errno::NOENT) => {
                self.add(dir.under(&self.root).as_os_str().as_bytes(), mask(dir) | WatchFlags::DONT_FOLLOW)
            }
            watched => watched,
        };
        dirs.insert(watched?, dir.clone());
        Ok(())
    }

    fn add(&self, path: &[u8], mask: WatchFlags) -> rustix::io::Result<i32> {
        retry_on_intr(|| add_watch(&self.queue, path, mask))
    }
}

/// What is to be told of a directory.
fn mask(dir: &MirrorPath) -> WatchFlags {
    let changes = WatchFlags::ATTRIB
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MODIFY
        | WatchFlags::MOVE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        // Without it the kernel sets the mask of a directory that is watched already to nothing for a moment.
        | WatchFlags::MASK_ADD;
    // Who looks into the mirror's own directory makes a sign of life (A18). In others our own reading would be told of.
    if dir.is_top() { changes | WatchFlags::OPEN } else { changes }
}

fn lock(dirs: &Mutex<Dirs>) -> MutexGuard<'_, Dirs> {
    dirs.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads what the kernel tells.
struct Listener {
    queue: Arc<OwnedFd>,
    dirs: Arc<Mutex<Dirs>>,
    ear: Ear,
}

impl Listener {
    /// Blocking: until the other end of `ended` is closed, or the kernel only fails.
    fn listen(&mut self, ended: &OwnedFd) {
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER];
        let queue = Arc::clone(&self.queue);
        let mut events = Reader::new(&*queue, &mut buffer);
        loop {
            let mut ready = [PollFd::new(&*queue, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
            let waited = poll(&mut ready, None);
            if !ready[1].revents().is_empty() {
                return;
            }
            let read = waited.and_then(|_| {
                loop {
                    match events.next() {
                        Ok(event) => self.take(&event),
                        Err(Errno::AGAIN) => return Ok(()),
                        Err(error) => return Err(error),
                    }
                }
            });
            match read {
                Ok(()) | Err(Errno::INTR) => {}
                Err(error) if self.ear.fail(&error) => return,
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, event: &Event<'_>) {
        self.ear.sign();
        let what = event.events();
        if what.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
            self.ear.lose();
        }
        let mut dirs = lock(&self.dirs);
        if what.contains(ReadFlags::IGNORED) {
            dirs.remove(&event.wd());
            return;
        }
        // Of a directory that is not watched any more, or looked into.
        let Some(dir) = dirs.get(&event.wd()) else { return };
        if what.contains(ReadFlags::OPEN) {
            return;
        }
        let path = match event.file_name() {
            Some(name) => dir.join(name.to_bytes()),
            None => Some(dir.clone()),
        };
        let Some(path) = path else { return };
        if what.contains(ReadFlags::MOVED_FROM | ReadFlags::ISDIR) {
            self.forget(&mut dirs, &path);
        }
        drop(dirs);
        self.ear.hear(path);
    }

    /// A directory has moved: what was known under its name is elsewhere, and is watched again where it is met. What has
    /// been met there already has another name, and stays; what has this one and is new is told of by its own event, which
    /// comes later, and watched again.
    fn forget(&self, dirs: &mut Dirs, moved: &MirrorPath) {
        let gone: Vec<i32> = dirs.iter().filter(|(_, dir)| dir.is_within(moved)).map(|(watch, _)| *watch).collect();
        for watch in gone {
            dirs.remove(&watch);
            // It may be gone by itself.
            let _ = remove_watch(&self.queue, watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::super::{Heard, Life};
    use super::*;

    // A1: of the paths nothing is heard here, so that only the system's own word can tell that there were more.
    #[tokio::test(flavor = "multi_thread")]
    async fn that_the_systems_queue_ran_over_is_told_as_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = ["one", "two"].map(|name| dir.path().join(name));
        files.iter().for_each(|file| fs::write(file, "x").expect("written"));
        let queue = Arc::new(init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("a queue"));
        add_watch(&*queue, dir.path(), WatchFlags::ATTRIB).expect("watched");
        let held = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
        // In turns, as two of the same in a row are one.
        for at in 0..=held.trim().parse::<usize>().expect("a number") {
            fs::set_permissions(&files[at % 2], Permissions::from_mode(0o600)).expect("changed");
        }
        let (ear, mut hearing) = Ear::new(Arc::new(Life::default()));
        let (ended, end) = io::pipe().expect("a pipe");
        let mut listener = Listener { queue, dirs: Arc::default(), ear };
        let listening = thread::spawn(move || listener.listen(&ended.into()));
        let heard = tokio::time::timeout(Duration::from_secs(60), hearing.next()).await.expect("nobody was told");
        assert_eq!(heard, Some(Heard::Lost));
        drop(end);
        listening.join().expect("ended");
    }
}
