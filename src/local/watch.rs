//! Events of the file system, as hints: a path to look at, or word that some were lost.
//!
//! On Linux each directory is watched by itself, by whoever walks it: a recursive watch fails as a whole on one
//! unreadable subdirectory (A5) and misses what is made in new directories before it gets there (A2). Elsewhere (macOS)
//! the system watches trees.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc as blocking};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::{OpenRoot, Tree as _};
use crate::mirror::MirrorPath;

/// Paths that wait to be taken. More than that at once are cheaper found by a scan.
const CHANNEL: usize = 16 * 1024;
/// A watcher that takes longer than this to begin with one directory hangs: it may have much to hear first.
const ANSWER: Duration = Duration::from_secs(60);
/// A watcher that only fails, this often in a row, is at its end: it would go on failing as fast as it can.
const MOST_FAILURES: u32 = 100;

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
    asks: blocking::Sender<Ask>,
    life: Arc<Life>,
    unwatched: AtomicU64,
    limit_reached: AtomicBool,
    lost: Arc<Lost>,
}

/// What a watcher is asked for, and where the answer goes.
struct Ask {
    dir: PathBuf,
    wish: Wish,
    answer: blocking::SyncSender<notify::Result<()>>,
}

enum Wish {
    Watch(RecursiveMode),
    Unwatch,
}

/// What is known of whether a watcher lives.
#[derive(Default)]
struct Life {
    /// Events so far, of any kind.
    signs: AtomicU64,
    /// Whether looking into the mirror's own directory makes an event.
    echoes: AtomicBool,
    is_over: AtomicBool,
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
        let (lost, life) = (Arc::new(Lost::default()), Arc::new(Life::default()));
        let mut ear = Ear {
            root: root.to_owned(),
            send,
            lost: Arc::clone(&lost),
            life: Arc::clone(&life),
            last: None,
            failures: 0,
        };
        let inner = RecommendedWatcher::new(
            move |event| ear.hear(event),
            // Links are not followed: what lies behind them is not the mirror's (A17).
            Config::default().with_follow_symlinks(false),
        )
        .map_err(WatchError)?;
        let (asks, asked) = blocking::channel();
        let over = Arc::clone(&life);
        thread::Builder::new()
            .name("watch".into())
            .spawn(move || serve(inner, &asked, &over))
            .map_err(|error| WatchError(notify::Error::io(error)))?;
        let watcher = Self {
            root: root.to_owned(),
            asks,
            life,
            unwatched: AtomicU64::new(0),
            limit_reached: AtomicBool::new(false),
            lost: Arc::clone(&lost),
        };
        Ok((watcher, Hearing { paths, lost }))
    }

    /// Blocking: watches a directory of `root`, again if it is watched already. One that cannot be watched is counted, and
    /// is then seen by scans only.
    pub fn watch(&self, root: &OpenRoot, dir: &MirrorPath) {
        let is_tree = !cfg!(target_os = "linux");
        if is_tree && !dir.is_top() {
            return;
        }
        let mode = if is_tree { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        let path = dir.under(&self.root);
        let Some(watched) = self.ask(path.clone(), Wish::Watch(mode)) else { return };
        if dir.is_top() {
            self.life.echoes.store(watched.is_ok() && cfg!(target_os = "linux"), Ordering::Relaxed);
        }
        let Err(error) = watched else {
            // What the system watches is what the path leads to. If a link took the directory's place just now, that may
            // be a directory that is watched already: it would be heard under this name from now on, and no longer once
            // the link is gone. A scan watches everything anew.
            if !root.look(dir).is_ok_and(|look| look.observed.is_directory()) {
                // Not watched any more is as good.
                let _ = self.ask(path, Wish::Unwatch);
                self.lost.lose();
            }
            return;
        };
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

    /// The watcher's word on a directory; `None` if it has none any more, and then it never will.
    fn ask(&self, dir: PathBuf, wish: Wish) -> Option<notify::Result<()>> {
        if self.is_over() {
            return None;
        }
        let (answer, answered) = blocking::sync_channel(1);
        let asked = self.asks.send(Ask { dir, wish, answer });
        let answer = asked.ok().and_then(|()| answered.recv_timeout(ANSWER).ok());
        if answer.is_none() {
            self.life.is_over.store(true, Ordering::Relaxed);
        }
        answer
    }

    /// Whether it is known to hear nothing any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.life.is_over.load(Ordering::Relaxed)
    }

    /// How many signs of life it gave so far. `None` where silence says nothing: the mirror's own directory is not watched,
    /// or this system tells of no directory that is looked into.
    #[must_use]
    pub fn signs(&self) -> Option<u64> {
        self.life.echoes.load(Ordering::Relaxed).then(|| self.life.signs.load(Ordering::Relaxed))
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

/// Owns notify's watcher, on a thread of its own: it waits without limit for a thread that may hang, and panics, also when
/// it is dropped, once that thread is gone (A18).
fn serve(mut inner: RecommendedWatcher, asked: &blocking::Receiver<Ask>, life: &Life) {
    while let Ok(Ask { dir, wish, answer }) = asked.recv() {
        let does = || match wish {
            Wish::Watch(mode) => inner.watch(&dir, mode),
            Wish::Unwatch => inner.unwatch(&dir),
        };
        let Ok(watched) = catch_unwind(AssertUnwindSafe(does)) else { break };
        // Whoever asked may have given up.
        let _ = answer.send(watched);
    }
    life.is_over.store(true, Ordering::Relaxed);
    // There is nobody left to tell, and nothing to be done about it.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(inner)));
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
    life: Arc<Life>,
    last: Option<MirrorPath>,
    /// How often in a row it failed.
    failures: u32,
}

impl Ear {
    fn hear(&mut self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.failures += 1;
                if self.failures >= MOST_FAILURES {
                    // The only way to end notify's thread from here. Its end is noticed like any other.
                    std::panic::resume_unwind(Box::new("the watcher only fails"));
                }
                tracing::debug!(%error, "the watcher failed");
                return self.lost.lose();
            }
        };
        self.failures = 0;
        self.life.signs.fetch_add(1, Ordering::Relaxed);
        if event.need_rescan() {
            return self.lost.lose();
        }
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
        watcher.watch(&open(&root), &MirrorPath::top());
        for at in 0..3 * CHANNEL {
            std::fs::write(root.join(at.to_string()), "x").expect("written");
        }
        let lost = async { while hearing.next().await != Some(Heard::Lost) {} };
        tokio::time::timeout(Duration::from_secs(60), lost).await.expect("nobody was told");
    }

    // A18
    #[tokio::test(flavor = "multi_thread")]
    async fn looking_into_the_mirrors_directory_is_a_sign_of_life_and_nothing_to_hear() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        assert_eq!(watcher.signs(), None, "nothing is watched yet");
        watcher.watch(&open(&root), &MirrorPath::top());
        let before = watcher.signs().expect("it tells");
        drop(std::fs::File::open(&root).expect("opened"));
        let begun = std::time::Instant::now();
        while watcher.signs() == Some(before) {
            assert!(begun.elapsed() < Duration::from_secs(60), "no sign");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::write(root.join("saved"), "x").expect("written");
        let heard = tokio::time::timeout(Duration::from_secs(60), hearing.next()).await.expect("heard");
        assert_eq!(heard, MirrorPath::from_bytes(b"saved").map(Heard::Path));
    }

    // A18: notify panics when it is asked, or dropped, after its thread has ended.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_watcher_that_only_fails_ends_and_takes_nobody_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        let (send, paths) = mpsc::channel(CHANNEL);
        let (lost, life) = (Arc::new(Lost::default()), Arc::new(Life::default()));
        let mut ear =
            Ear { root: root.clone(), send, lost: Arc::clone(&lost), life: Arc::clone(&life), last: None, failures: 0 };
        // Every event is turned into a failure.
        let hear = move |_| (0..MOST_FAILURES).for_each(|_| ear.hear(Err(notify::Error::generic("on purpose"))));
        let inner = RecommendedWatcher::new(hear, Config::default()).expect("a watcher");
        let (asks, asked) = blocking::channel();
        let over = Arc::clone(&life);
        let serving = thread::spawn(move || serve(inner, &asked, &over));
        let (unwatched, limit_reached) = (AtomicU64::new(0), AtomicBool::new(false));
        let watcher = Watcher { root: root.clone(), asks, life, unwatched, limit_reached, lost: Arc::clone(&lost) };
        let mut hearing = Hearing { paths, lost };
        watcher.watch(&open(&root), &MirrorPath::top());
        std::fs::write(root.join("saved"), "x").expect("written");
        let end = async { while hearing.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(60), end).await.expect("it goes on failing");
        watcher.watch(&open(&root), &MirrorPath::top());
        assert!(watcher.is_over());
        watcher.watch(&open(&root), &MirrorPath::top());
        drop(watcher);
        serving.join().expect("it ended well");
    }

    fn open(root: &Path) -> OpenRoot {
        OpenRoot::open(root, None).expect("open")
    }

    // A17, B13: watched by its path after it was seen to be a directory, it is a link to the mirror's top by then.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_in_a_directorys_place_does_not_take_away_another_directorys_events() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        watcher.watch(&open(&root), &MirrorPath::top());
        std::os::unix::fs::symlink(&root, root.join("link")).expect("linked");
        watcher.watch(&open(&root), &MirrorPath::from_bytes(b"link").expect("a path"));
        let mut next = async || tokio::time::timeout(std::time::Duration::from_secs(60), hearing.next()).await;
        while next().await.expect("a scan is asked for") != Some(Heard::Lost) {}

        // The scan.
        watcher.watch(&open(&root), &MirrorPath::top());
        std::fs::remove_file(root.join("link")).expect("removed");
        let link = MirrorPath::from_bytes(b"link").map(Heard::Path);
        while next().await.expect("it is heard") != link {}
        // Done by the thread that takes watches away, after that.
        std::fs::create_dir(root.join("other")).expect("made");
        watcher.watch(&open(&root), &MirrorPath::from_bytes(b"other").expect("a path"));
        std::fs::write(root.join("saved"), "x").expect("written");
        let saved = MirrorPath::from_bytes(b"saved").map(Heard::Path);
        while next().await.expect("it is heard") != saved {}
    }

    // A16
    #[tokio::test(flavor = "multi_thread")]
    async fn reading_a_file_is_not_heard_and_saving_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        std::fs::write(root.join("read"), "x").expect("written");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        watcher.watch(&open(&root), &MirrorPath::top());
        std::fs::read(root.join("read")).expect("read");
        std::fs::write(root.join("saved"), "x").expect("written");
        let heard = tokio::time::timeout(Duration::from_secs(60), hearing.next()).await.expect("heard");
        assert_eq!(heard, MirrorPath::from_bytes(b"saved").map(Heard::Path));
    }
}
