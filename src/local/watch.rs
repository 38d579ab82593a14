//! Events of the file system, as hints: a path to look at, or word that some were lost.
//!
//! On Linux each directory is watched by itself, by whoever walks it: a recursive watch fails as a whole on one
//! unreadable subdirectory (A5) and misses what is made in new directories before it gets there (A2). Elsewhere (macOS)
//! the system watches trees.

#[cfg(target_os = "linux")]
mod inotify;
#[cfg(any(test, not(target_os = "linux")))]
mod trees;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};

use super::OpenRoot;
use crate::mirror::MirrorPath;

#[cfg(target_os = "linux")]
use inotify::Inotify as System;
#[cfg(not(target_os = "linux"))]
use trees::Trees as System;

/// Paths that wait to be taken. More than that at once are cheaper found by a scan.
const CHANNEL: usize = 16 * 1024;
/// A watcher that only fails, this often in a row, is at its end: it would go on failing as fast as it can.
const MOST_FAILURES: u32 = 100;

/// Why nothing is watched.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no file watcher")]
pub struct WatchError(#[source] io::Error);

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
    system: System,
    life: Arc<Life>,
    unwatched: AtomicU64,
    limit_reached: AtomicBool,
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
        let life = Arc::new(Life::default());
        let (ear, hearing) = Ear::new(Arc::clone(&life));
        let system = System::new(root, ear).map_err(WatchError)?;
        Ok((Self { system, life, unwatched: AtomicU64::new(0), limit_reached: AtomicBool::new(false) }, hearing))
    }

    /// Blocking: watches a directory of `root`, again if it is watched already. One that cannot be watched is counted, and
    /// is then seen by scans only.
    pub fn watch(&self, root: &OpenRoot, dir: &MirrorPath) {
        if self.is_over() {
            return;
        }
        let watched = self.system.watch(root, dir);
        if dir.is_top() {
            self.life.echoes.store(watched.is_ok() && cfg!(target_os = "linux"), Ordering::Relaxed);
        }
        let Err(error) = watched else { return };
        match error.kind() {
            // Gone again, or something else by now: its parent tells (A6).
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {}
            // That is how a system says that there are too many.
            io::ErrorKind::StorageFull => {
                self.unwatched.fetch_add(1, Ordering::Relaxed);
                self.limit_reached.store(true, Ordering::Relaxed);
            }
            _ => {
                self.unwatched.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%dir, %error, "not watched");
            }
        }
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

/// What the system's events are told to, on a thread of its own: it never blocks, and what it cannot pass on it marks as
/// lost. Its end is the end of the watcher.
struct Ear {
    send: mpsc::Sender<MirrorPath>,
    lost: Arc<Lost>,
    life: Arc<Life>,
    last: Option<MirrorPath>,
    /// How often in a row the system failed.
    failures: u32,
}

impl Ear {
    fn new(life: Arc<Life>) -> (Self, Hearing) {
        let (send, paths) = mpsc::channel(CHANNEL);
        let lost = Arc::new(Lost::default());
        let hearing = Hearing { paths, lost: Arc::clone(&lost) };
        (Self { send, lost, life, last: None, failures: 0 }, hearing)
    }

    /// Something happened, be it of interest or not.
    fn sign(&mut self) {
        self.failures = 0;
        self.life.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// Something happened at this path.
    fn hear(&mut self, path: MirrorPath) {
        // A save makes several events in a row for one path; one is enough while it waits.
        if self.last.as_ref() == Some(&path) && self.send.capacity() < CHANNEL {
            return;
        }
        match self.send.try_send(path.clone()) {
            Ok(()) => self.last = Some(path),
            Err(TrySendError::Full(_)) => self.lost.lose(),
            Err(TrySendError::Closed(_)) => {}
        }
    }

    /// Events were lost.
    fn lose(&self) {
        self.lost.lose();
    }

    /// The system failed, and events may be lost. Returns whether it only fails.
    fn fail(&mut self, error: &dyn std::error::Error) -> bool {
        self.failures += 1;
        tracing::debug!(%error, "the watcher failed");
        self.lose();
        self.failures >= MOST_FAILURES
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.life.is_over.store(true, Ordering::Relaxed);
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
    use std::thread;
    use std::time::Duration;

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
        watcher.watch(&open(&root), &path("link"));
        assert_eq!(watcher.take_note(), None, "it is no directory that could not be watched");
        std::fs::remove_file(root.join("link")).expect("removed");
        until_heard(&mut hearing, "link").await;
        std::fs::write(root.join("saved"), "x").expect("written");
        until_heard(&mut hearing, "saved").await;
    }

    // A4: its watches would be counted against the system's limit for nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_moved_out_of_the_mirror_is_not_heard_any_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = dir.path().canonicalize().expect("there");
        let root = outside.join("mirror");
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        for dir in [MirrorPath::top(), path("a"), path("a/b")] {
            watcher.watch(&open(&root), &dir);
        }
        std::fs::rename(root.join("a"), outside.join("a")).expect("moved");
        until_heard(&mut hearing, "a").await;
        std::fs::write(outside.join("a/b/elsewhere"), "x").expect("written");
        std::fs::write(root.join("saved"), "x").expect("written");
        let saved = MirrorPath::from_bytes(b"saved").map(Heard::Path);
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(60), hearing.next()).await.expect("heard");
            if heard == saved {
                break;
            }
            assert_eq!(heard, Some(Heard::Path(path("a"))), "of what is not in the mirror");
        }
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

    fn path(text: &str) -> MirrorPath {
        MirrorPath::from_bytes(text.as_bytes()).expect("a path")
    }

    /// Waits until `wanted` is heard.
    async fn until_heard(hearing: &mut Hearing, wanted: &str) {
        let wanted = Heard::Path(path(wanted));
        let heard = async { while hearing.next().await.expect("it lives") != wanted {} };
        tokio::time::timeout(Duration::from_secs(60), heard)
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} is never heard"));
    }

    // A4: whoever walks may meet a directory under its new name before the events of its move are read, while others
    // have their directories watched.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_that_was_met_under_its_new_name_is_heard_whatever_becomes_of_the_old_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        let (watcher, mut hearing) = Watcher::new(&root).expect("a watcher");
        let (watcher, opened) = (Arc::new(watcher), Arc::new(open(&root)));
        watcher.watch(&opened, &MirrorPath::top());
        let is_over = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..3)
            .map(|_| (Arc::clone(&watcher), Arc::clone(&opened), Arc::clone(&is_over)))
            .map(|(watcher, opened, is_over)| {
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        watcher.watch(&opened, &MirrorPath::top());
                        // Others want the lock, too.
                        thread::sleep(Duration::from_micros(20));
                    }
                })
            })
            .collect();
        for round in 0..200 {
            let (old, new) = (format!("old{round}"), format!("new{round}"));
            std::fs::create_dir_all(root.join(&old).join("e")).expect("made");
            watcher.watch(&opened, &path(&old));
            watcher.watch(&opened, &path(&format!("{old}/e")));
            std::fs::rename(root.join(&old), root.join(&new)).expect("moved");
            watcher.watch(&opened, &path(&new));
            watcher.watch(&opened, &path(&format!("{new}/e")));
            // Heard of all that, as a walker would be, and another look at what came.
            until_heard(&mut hearing, &new).await;
            watcher.watch(&opened, &path(&new));
            watcher.watch(&opened, &path(&format!("{new}/e")));
            // The old name is used again, and what is in it goes away.
            std::fs::create_dir(root.join(&old)).expect("made");
            watcher.watch(&opened, &path(&old));
            std::fs::write(root.join(&old).join("e"), "x").expect("written");
            std::fs::remove_file(root.join(&old).join("e")).expect("removed");
            std::fs::write(root.join(&old).join("f"), "x").expect("written");
            until_heard(&mut hearing, &format!("{old}/f")).await;
            watcher.watch(&opened, &MirrorPath::top());
            std::fs::write(root.join(&new).join("e").join("saved"), "x").expect("written");
            until_heard(&mut hearing, &format!("{new}/e/saved")).await;
        }
        is_over.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| other.join().expect("it ended well"));
    }
}
