//! A walk by several hands: each takes the next directory that nobody has read, and has records of its own.
//!
//! What is decided in a directory is [`Scan`]'s alone, and takes nothing from any other directory, so that the order in
//! which hands come to them changes nothing but the order of what is handed over.

use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::scan::Step;
use super::{Known, RuleBook, Scan, ScanError, ScanSummary, Tree};
use crate::mirror::{MirrorPath, Policy};

/// As [`Scan`], for a directory that several threads can look at.
pub struct Crew<'a> {
    /// The mirror's directory.
    pub root: &'a (dyn Tree + Sync),
    /// Its rules.
    pub rules: &'a RuleBook,
    /// What it takes.
    pub policy: &'a Policy,
    /// Called with each directory before it is read, from any thread.
    pub before_reading: &'a (dyn Fn(&MirrorPath) + Sync),
}

/// What is still to be read, and how many are reading.
#[derive(Default)]
struct Board {
    steps: Vec<Step>,
    at_work: usize,
    is_broken_off: bool,
}

#[derive(Default)]
struct Shared {
    board: Mutex<Board>,
    changed: Condvar,
}

impl Crew<'_> {
    /// Blocking: as [`Scan::run`], with one thread for each of `hands`, this one among them; `records` makes the records
    /// of one. With no more than one it is the same walk in the same order.
    ///
    /// # Errors
    /// As [`Scan::run`]; of several the first hand's. The others end as soon as they have done with their directory.
    pub fn run<H: Send, K: Known>(
        &self,
        top: &MirrorPath,
        hands: impl IntoIterator<Item = H>,
        records: impl Fn(H) -> K + Sync,
    ) -> Result<ScanSummary, ScanError<K::Error>>
    where
        K::Error: Send,
    {
        let shared = Shared::default();
        shared.lock().steps.push(self.scan().first(top)?);
        let work = |hand: H| shared.work(&self.scan(), top, &mut records(hand));
        let mut hands = hands.into_iter();
        let own = hands.next();
        thread::scope(|scope| {
            let begin = |hand| thread::Builder::new().name("scan".into()).spawn_scoped(scope, || work(hand));
            // A system that gives no thread has fewer hands, and the same walk.
            let others: Vec<_> = hands.filter_map(|hand| begin(hand).ok()).collect();
            let mut whole = own.map_or(Ok(ScanSummary::default()), work);
            for other in others {
                let walked = other.join().unwrap_or_else(|panic| resume_unwind(panic));
                whole = whole.and_then(|mut whole| {
                    whole += walked?;
                    Ok(whole)
                });
            }
            whole
        })
    }

    fn scan(&self) -> Scan<'_> {
        let Self { root, rules, policy, before_reading } = *self;
        Scan { root, rules, policy, before_reading }
    }
}

impl Shared {
    /// Reads directories until there are none, or somebody broke off.
    fn work<K: Known>(
        &self,
        scan: &Scan<'_>,
        top: &MirrorPath,
        known: &mut K,
    ) -> Result<ScanSummary, ScanError<K::Error>> {
        let mut summary = ScanSummary::default();
        while let Some(step) = self.take() {
            let mut turn = Turn { shared: self, found: Vec::new(), is_whole: false };
            scan.visit(step, top, known, &mut summary, &mut turn.found)?;
            turn.is_whole = true;
        }
        Ok(summary)
    }

    /// The next directory; waits for those that others may still find.
    fn take(&self) -> Option<Step> {
        let mut board = self.lock();
        loop {
            if board.is_broken_off {
                return None;
            }
            if let Some(step) = board.steps.pop() {
                board.at_work += 1;
                return Some(step);
            }
            if board.at_work == 0 {
                return None;
            }
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One directory in someone's hands. Also when it ends by a panic, nobody waits for it any longer.
struct Turn<'a> {
    shared: &'a Shared,
    found: Vec<Step>,
    is_whole: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut board = self.shared.lock();
        board.at_work -= 1;
        board.is_broken_off |= !self.is_whole;
        board.steps.append(&mut self.found);
        drop(board);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::local::{Difference, OpenRoot};
    use crate::mirror::{Placement, Recorded};

    /// Records that know nothing: everything differs.
    struct Nothing<'a> {
        found: &'a Mutex<Vec<MirrorPath>>,
        most: usize,
    }

    impl Known for Nothing<'_> {
        type Error = &'static str;

        fn listing(&mut self, _: &MirrorPath) -> Result<(Vec<(Box<[u8]>, Recorded)>, Vec<Box<[u8]>>), Self::Error> {
            Ok(Default::default())
        }

        fn has_present_below(&mut self, _: &MirrorPath) -> Result<bool, Self::Error> {
            Ok(false)
        }

        fn has_taken_below(&mut self, _: &MirrorPath) -> Result<bool, Self::Error> {
            Ok(false)
        }

        fn differs(&mut self, difference: Difference) -> Result<(), Self::Error> {
            let mut found = self.found.lock().expect("no hand panicked");
            found.push(difference.path);
            if found.len() > self.most { Err("enough") } else { Ok(()) }
        }
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        for at in 0..40 {
            let deep = dir.path().join(format!("a{}/b{}/c{at}", at % 3, at % 7));
            std::fs::create_dir_all(&deep).expect("made");
            for file in ["x", "y", "left-out"] {
                std::fs::write(deep.join(file), "x").expect("written");
            }
        }
        std::fs::write(dir.path().join(".dstorignore"), "left-out\n").expect("written");
        std::fs::write(dir.path().join("a1/.dstorignore"), "!left-out\n").expect("written");
        dir
    }

    fn walk(
        dir: &std::path::Path,
        top: &MirrorPath,
        hands: usize,
        most: usize,
        before_reading: &(dyn Fn(&MirrorPath) + Sync),
    ) -> (Result<ScanSummary, ScanError<&'static str>>, Vec<MirrorPath>) {
        let root = OpenRoot::open(dir, None).expect("open");
        let policy = Policy::new(Placement::Id(1));
        let rules = RuleBook::new(&[], true);
        let crew = Crew { root: &root, rules: &rules, policy: &policy, before_reading };
        let found = Mutex::default();
        let walked = crew.run(top, 0..hands, |_| Nothing { found: &found, most });
        (walked, found.into_inner().expect("no hand panicked"))
    }

    #[test]
    fn many_hands_see_what_one_sees_and_each_thing_once() {
        let dir = tree();
        let root = OpenRoot::open(dir.path(), None).expect("open");
        let read = Mutex::new(Vec::new());
        let watch = |dir: &MirrorPath| read.lock().expect("no hand panicked").push(dir.clone());
        let (alone, one) = walk(dir.path(), &MirrorPath::top(), 1, usize::MAX, &|_| {});
        let alone = alone.expect("walked");
        assert!(alone.files > 80 && alone.excluded > 20, "{alone:?}");
        for hands in 2..6 {
            let (walked, found) = walk(dir.path(), &MirrorPath::top(), hands, usize::MAX, &watch);
            assert_eq!(walked.expect("walked"), alone, "{hands} hands");
            assert_eq!(found.len(), one.len(), "{hands} hands");
            assert_eq!(BTreeSet::from_iter(&found), BTreeSet::from_iter(&one), "{hands} hands");
            let read = std::mem::take(&mut *read.lock().expect("no hand panicked"));
            assert_eq!(read.len() as u64, alone.directories, "each is watched once");
            assert!(read.iter().all(|dir| root.list(dir).is_ok()));
        }
    }

    #[test]
    fn hands_that_cannot_go_on_end_the_walk_for_all() {
        let dir = tree();
        let (walked, _) = walk(dir.path(), &MirrorPath::top(), 4, 5, &|_| {});
        assert!(matches!(walked, Err(ScanError::Known("enough"))), "{walked:?}");
        let (walked, _) = walk(dir.path(), &MirrorPath::from_bytes(b"not/there").expect("a path"), 4, 5, &|_| {});
        assert!(matches!(walked, Err(ScanError::Io(ref error)) if error.kind() == io::ErrorKind::NotFound));
    }

    #[test]
    fn a_hand_that_panics_leaves_nobody_waiting() {
        let dir = tree();
        let read = AtomicUsize::new(0);
        let before_reading = |_: &MirrorPath| assert!(read.fetch_add(1, Ordering::Relaxed) != 7, "on purpose");
        let walked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            walk(dir.path(), &MirrorPath::top(), 4, usize::MAX, &before_reading).0.is_ok()
        }));
        assert!(walked.is_err(), "its panic is everyone's");
    }
}
