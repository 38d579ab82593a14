//! Events of the file system, as hints: a path to look at, or word that some were lost.
//!
//! On Linux each directory is watched by itself, by whoever walks it: a recursive watch fails as a whole on one
//! unreadable subdirectory (A5) and misses what is made in new directories before it gets there (A2). Elsewhere (macOS)
//! the system watches trees.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use crate::mirror::MirrorPath;

/// Paths that wait to be taken. More than that at once are cheaper found by a scan.
const CHANNEL: usize = 16 * 1024;

/// Why nothing is watched.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no file watcher")]
pub struct WatchError(#[source] notify::Error);

/// Something was heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Something happened at this path.
    Path(MirrorPath),
    /// Events were lost: anything may have changed.
    Lost,
}

/// A watcher over one mirror. Stops when dropped.
pub struct Watcher {
    root: PathBuf,
    inner: Mutex<RecommendedWatcher>,
    unwatched: AtomicU64,
    limit_reached: AtomicBool,
}

#[derive(Default)]
struct Lost {
    flag: AtomicBool,
    wake: Notify,
}

/// The receiving end of a [`Watcher`].
pub struct Hearing {
    paths: mpsc::Receiver<MirrorPath>,
    lost: Arc<Lost>,
}

impl Watcher {
    /// A watcher that watches nothing yet.
    ///
    /// # Errors
    /// If the system gives none (A26).
    pub fn new(root: &Path) -> Result<(Self, Hearing), WatchError> {
        let (send, paths) = mpsc::channel(CHANNEL);
        let lost = Arc::new(Lost::default());
        let mut ear = Ear { root: root.to_owned(), send, lost: Arc::clone(&lost), last: None };
        let inner = RecommendedWatcher::new(
            move |event| ear.hear(event),
            // Links are not followed: what lies behind them is not the mirror's (A17).
            Config::default().with_follow_symlinks(false),
        )
        .map_err(WatchError)?;
        let watcher = Self {
            root: root.to_owned(),
            inner: Mutex::new(inner),
            unwatched: AtomicU64::new(0),
            limit_reached: AtomicBool::new(false),
        };
        Ok((watcher, Hearing { paths, lost }))
    }

    /// Blocking: watches a directory, again if it is watched already. One that cannot be watched is counted, and is then
    /// seen by scans only.
    pub fn watch(&self, dir: &MirrorPath) {
        let is_tree = !cfg!(target_os = "linux");
        if is_tree && !dir.is_top() {
            return;
        }
        let mode = if is_tree { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let watched = self.inner.lock().unwrap_or_else(PoisonError::into_inner).watch(&dir.under(&self.root), mode);
        let Err(error) = watched else { return };
        match error.kind {
            // Gone again: its parent tells (A6).
            notify::ErrorKind::PathNotFound => {}
            notify::ErrorKind::Io(ref io) if io.kind() == io::ErrorKind::NotFound => {}
            notify::ErrorKind::MaxFilesWatch => {
                self.unwatched.fetch_add(1, Ordering::Relaxed);
                self.limit_reached.store(true, Ordering::Relaxed);
            }
            _ => {
                self.unwatched.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%dir, %error, "not watched");
            }
        }
    }

    /// What a person should know: directories that only scans see, and why. Forgets the count: the next scan counts anew.
    pub fn take_note(&self) -> Option<String> {
        let unwatched = self.unwatched.swap(0, Ordering::Relaxed);
        if unwatched == 0 {
            return None;
        }
        let why = if self.limit_reached.swap(false, Ordering::Relaxed) {
            "the system's limit is reached; raise it with `sysctl fs.inotify.max_user_watches=1048576`"
        } else {
            "they cannot be read"
        };
        Some(format!("{unwatched} directories send no events and are seen by scans only: {why}"))
    }
}

impl Lost {
    fn lose(&self) {
        self.flag.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Hearing {
    /// Waits for something to be heard; `None` once the watcher is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Heard> {
        if self.lost.flag.swap(false, Ordering::AcqRel) {
            return Some(Heard::Lost);
        }
        tokio::select! {
            path = self.paths.recv() => path.map(Heard::Path),
            () = self.lost.wake.notified() => {
                self.lost.flag.store(false, Ordering::Release);
                Some(Heard::Lost)
            }
        }
    }
}

/// What runs on notify's own thread: it never blocks, and what it cannot pass on it marks as lost.
struct Ear {
    root: PathBuf,
    send: mpsc::Sender<MirrorPath>,
    lost: Arc<Lost>,
    last: Option<MirrorPath>,
}

impl Ear {
    fn hear(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            Ok(_) => return self.lost.lose(),
            Err(error) => {
                tracing::debug!(%error, "the watcher failed");
                return self.lost.lose();
            }
        };
        // Our own reading makes events, too (A16).
        if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
            return;
        }
        for path in &event.paths {
            let Some(path) = MirrorPath::relative(&self.root, path) else { continue };
            // A save makes several events in a row for one path; one is enough while it waits.
            if self.last.as_ref() == Some(&path) && self.send.capacity() < CHANNEL {
                continue;
            }
            match self.send.try_send(path.clone()) {
                Ok(()) => self.last = Some(path),
                Err(TrySendError::Full(_)) => self.lost.lose(),
                Err(TrySendError::Closed(_)) => return,
            }
        }
    }
}

/// Whether the file system at `path` is of a kind that sends no events for what other machines do in it.
#[must_use]
pub fn sends_no_events(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        // NFS, SMB (three forms), FUSE, 9P, AFS, Ceph: from linux/magic.h.
        const REMOTE: [u32; 8] =
            [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x5346_414f, 0x00c3_6400];
        rustix::fs::statfs(path)
            .is_ok_and(|fs| u32::try_from(fs.f_type as u64 & 0xffff_ffff).is_ok_and(|kind| REMOTE.contains(&kind)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A1, A19: more than the system's queue or ours can hold, while nobody listens.
    #[tokio::test(flavor = "multi_thread")]
    async fn more_events_than_can_be_held_are_told_as_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        watcher.watch(&MirrorPath::top());
        for at in 0..3 * CHANNEL {
            std::fs::write(root.join(at.to_string()), "x").expect("written");
        }
        let lost = async { while hearing.next().await != Some(Heard::Lost) {} };
        tokio::time::timeout(std::time::Duration::from_secs(60), lost).await.expect("nobody was told");
    }

    // A16
    #[tokio::test(flavor = "multi_thread")]
    async fn reading_a_file_is_not_heard_and_saving_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        std::fs::write(root.join("read"), "x").expect("written");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        watcher.watch(&MirrorPath::top());
        std::fs::read(root.join("read")).expect("read");
        std::fs::write(root.join("saved"), "x").expect("written");
        let heard = tokio::time::timeout(std::time::Duration::from_secs(60), hearing.next()).await.expect("heard");
        assert_eq!(heard, MirrorPath::from_bytes(b"saved").map(Heard::Path));
    }
}
