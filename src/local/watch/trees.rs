//! Systems that watch trees (macOS), by notify. On Linux it is only tried by the tests.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Ear;
use crate::local::OpenRoot;
use crate::mirror::MirrorPath;

/// A watcher that takes longer than this to begin hangs: it may have much to hear first.
const ANSWER: Duration = Duration::from_secs(60);

/// The watch over one mirror, as a tree.
pub(super) struct Trees {
    root: PathBuf,
    asks: mpsc::Sender<mpsc::SyncSender<notify::Result<()>>>,
    is_over: Arc<AtomicBool>,
}

impl Trees {
    /// Watches nothing yet; `ear` is told of what happens, on a thread of its own.
    pub(super) fn new(root: &Path, mut ear: Ear) -> io::Result<Self> {
        let place = root.to_owned();
        Self::with(root, move |event| hear(&mut ear, &place, event))
    }

    fn with(root: &Path, hear: impl FnMut(notify::Result<Event>) + Send + 'static) -> io::Result<Self> {
        // Links are not followed: what lies behind them is not the mirror's (A17).
        let config = Config::default().with_follow_symlinks(false);
        let inner = RecommendedWatcher::new(hear, config).map_err(of_notify)?;
        let (asks, asked) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let (over, place) = (Arc::clone(&is_over), root.to_owned());
        thread::Builder::new().name("watch".into()).spawn(move || serve(inner, &place, &asked, &over))?;
        Ok(Self { root: root.to_owned(), asks, is_over })
    }

    /// Watches the tree, which its top stands for.
    pub(super) fn watch(&self, _root: &OpenRoot, dir: &MirrorPath) -> io::Result<()> {
        if !dir.is_top() {
            return Ok(());
        }
        let ended = || io::Error::other(format!("the watcher of `{}` has ended", self.root.display()));
        if self.is_over.load(Ordering::Relaxed) {
            return Err(ended());
        }
        let (answer, answered) = mpsc::sync_channel(1);
        let asked = self.asks.send(answer);
        match asked.ok().and_then(|()| answered.recv_timeout(ANSWER).ok()) {
            Some(watched) => watched.map_err(of_notify),
            None => {
                self.is_over.store(true, Ordering::Relaxed);
                Err(ended())
            }
        }
    }
}

/// Owns notify's watcher, on a thread of its own: it waits without limit for a thread that may hang, and panics, also when
/// it is dropped, once that thread is gone (A18).
fn serve(
    mut inner: RecommendedWatcher,
    root: &Path,
    asked: &mpsc::Receiver<mpsc::SyncSender<notify::Result<()>>>,
    is_over: &AtomicBool,
) {
    while let Ok(answer) = asked.recv() {
        let watches = || inner.watch(root, RecursiveMode::Recursive);
        let Ok(watched) = catch_unwind(AssertUnwindSafe(watches)) else { break };
        // Whoever asked may have given up.
        let _ = answer.send(watched);
    }
    is_over.store(true, Ordering::Relaxed);
    // There is nobody left to tell, and nothing to be done about it.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(inner)));
}

/// What runs on notify's own thread.
fn hear(ear: &mut Ear, root: &Path, event: notify::Result<Event>) {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            if ear.fail(&error) {
                // The only way to end notify's thread from here. Its end is noticed like any other.
                std::panic::resume_unwind(Box::new("the watcher only fails"));
            }
            return;
        }
    };
    ear.sign();
    if event.need_rescan() {
        return ear.lose();
    }
    // Our own reading makes events, too (A16).
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
        return;
    }
    event.paths.iter().filter_map(|path| MirrorPath::relative(root, path)).for_each(|path| ear.hear(path));
}

fn of_notify(error: notify::Error) -> io::Error {
    match error.kind {
        notify::ErrorKind::Io(error) => error,
        notify::ErrorKind::PathNotFound => io::ErrorKind::NotFound.into(),
        notify::ErrorKind::MaxFilesWatch => io::ErrorKind::StorageFull.into(),
        _ => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Heard, Life};
    use super::*;

    // A18: notify panics when it is asked, or dropped, after its thread has ended.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_watcher_that_only_fails_ends_and_takes_nobody_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        let life = Arc::new(Life::default());
        let (mut ear, mut hearing) = Ear::new(Arc::clone(&life));
        let place = root.clone();
        // Every event is turned into a failure.
        let failing = move |_| loop {
            hear(&mut ear, &place, Err(notify::Error::generic("on purpose")));
        };
        let trees = Trees::with(&root, failing).expect("a watcher");
        let opened = OpenRoot::open(&root, None).expect("open");
        trees.watch(&opened, &MirrorPath::top()).expect("watched");
        std::fs::write(root.join("saved"), "x").expect("written");
        let end = async { while hearing.next().await.is_some() {} };
        tokio::time::timeout(Duration::from_secs(60), end).await.expect("it goes on failing");
        assert!(life.is_over.load(Ordering::Relaxed));
        assert!(trees.watch(&opened, &MirrorPath::top()).is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_saved_anywhere_in_the_tree_is_heard() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("there");
        std::fs::create_dir_all(root.join("a/b")).expect("made");
        let (ear, mut hearing) = Ear::new(Arc::default());
        let trees = Trees::new(&root, ear).expect("a watcher");
        let opened = OpenRoot::open(&root, None).expect("open");
        trees.watch(&opened, &MirrorPath::top()).expect("watched");
        std::fs::write(root.join("a/b/saved"), "x").expect("written");
        let saved = MirrorPath::from_bytes(b"a/b/saved").map(Heard::Path);
        let heard = async { while hearing.next().await != saved {} };
        tokio::time::timeout(Duration::from_secs(60), heard).await.expect("heard");
    }
}
