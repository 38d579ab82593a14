//! Reconciliation: what a scan finds to differ from the ledger goes into the queue.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::{Below, Ledger, LedgerError, Millis, MirrorId, Push, Urgency};
use crate::local::{Crew, Difference, Known, OpenRoot, RootError, Scan, ScanError, ScanSummary};
use crate::mirror::{MOST_FILES, MirrorPath, Observed, Recorded, Stat};

use super::{Folder, Queue, Stop};

/// Threads that walk a whole mirror. Beyond that they wait for one disk.
const MOST_HANDS: usize = 4;

/// Why a reconciliation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The mirror's directory is not there, or was not the same all the time.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The directory to begin with cannot be read.
    #[error(transparent)]
    Unreadable(std::io::Error),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It was time to stop.
    #[error("stopped")]
    Stopped,
}

/// Compares folders with the ledger.
pub struct Reconciler<'a> {
    /// Where differences go.
    pub queue: &'a Queue,
    /// A file that changed less than this ago is not quiet yet.
    pub settle: Duration,
    /// Ends it early.
    pub stop: &'a watch::Receiver<Stop>,
}

impl Reconciler<'_> {
    /// Blocking: walks `top` of `folder`, watching each directory before it is read, and pushes what differs.
    ///
    /// # Errors
    /// [`ReconcileError::Root`] if the directory was another one at the end: what was missing then says nothing (A10).
    pub fn run(&self, folder: &Folder, top: &MirrorPath) -> Result<ScanSummary, ReconcileError> {
        if top.is_top() {
            let hands = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_HANDS));
            return self.queue.read_with(hands, |ledgers| Ok(self.walk_all(folder, ledgers)))?;
        }
        // What was made or moved in just now; each worker walks its own.
        let mut batch = Batch::default();
        let mut take = |difference| self.push(folder, batch.add(difference));
        let summary = self.queue.read(|ledger| Ok(differences(ledger, folder, top, self.stop, &mut take)))??;
        self.push(folder, batch.found)?;
        Ok(summary)
    }

    /// Walks all of a folder by a thread for each ledger.
    fn walk_all(&self, folder: &Folder, ledgers: &mut [Ledger]) -> Result<ScanSummary, ReconcileError> {
        let root = folder.open()?;
        let before_reading = watching(folder, &root);
        let goes_on = || *self.stop.borrow() == Stop::Go;
        let crew = Crew { root: &root, rules: &folder.rules, policy: &folder.policy, before_reading: &before_reading };
        let emptied = Mutex::new(Vec::new());
        // Each hand has its own, as each walks other directories.
        let mut batches: Vec<Batch> = ledgers.iter().map(|_| Batch::default()).collect();
        let hands = ledgers.iter_mut().zip(&mut batches);
        let summary = crew.run(&MirrorPath::top(), hands, |(ledger, batch): (&mut Ledger, &mut Batch)| {
            let each = |difference: Difference| {
                // Only who has seen all of the mirror knows whether they are too many.
                if difference.is_emptied {
                    emptied.lock().unwrap_or_else(PoisonError::into_inner).push(difference);
                    return Ok(());
                }
                self.push(folder, batch.add(difference))
            };
            Records { ledger, mirror: folder.id, goes_on: &goes_on, each }
        });
        let summary = summary.map_err(ended)?;
        folder.open()?;
        batches.into_iter().try_for_each(|batch| self.push(folder, batch.found))?;
        let emptied = emptied.into_inner().unwrap_or_else(PoisonError::into_inner);
        let held = self.queue.hold_emptied_blocking(folder.id, self.pushes(emptied))?;
        if held > 0 {
            tracing::error!(
                mirror = %folder.path.display(), files = held,
                "many files are suddenly empty; they are not uploaded until someone restores or accepts them"
            );
        }
        Ok(summary)
    }

    fn push(&self, folder: &Folder, found: Vec<Difference>) -> Result<(), LedgerError> {
        if found.is_empty() {
            return Ok(());
        }
        self.queue.push_blocking(folder.id, self.pushes(found), Urgency::Scan)
    }

    /// By the time of day as it is now, and not as it was when the walk began: somebody may have set it since (D14).
    fn pushes(&self, found: Vec<Difference>) -> Vec<Push> {
        let now = self.queue.clock().now();
        found.into_iter().map(|difference| push_of(difference, now, self.settle)).collect()
    }
}

/// Blocking: walks `top` of `folder` and calls `each` with what differs from the ledger; pushes nothing.
///
/// # Errors
/// As [`Reconciler::run`], and those of `each`.
pub fn differences(
    ledger: &Ledger,
    folder: &Folder,
    top: &MirrorPath,
    stop: &watch::Receiver<Stop>,
    each: &mut dyn FnMut(Difference) -> Result<(), LedgerError>,
) -> Result<ScanSummary, ReconcileError> {
    let root = folder.open()?;
    let before_reading = watching(folder, &root);
    let scan = Scan { root: &root, rules: &folder.rules, policy: &folder.policy, before_reading: &before_reading };
    let summary = walk(ledger, folder.id, &scan, top, &|| *stop.borrow() == Stop::Go, each)?;
    folder.open()?;
    Ok(summary)
}

/// What a walk does before it reads a directory: has it watched, so that nothing falls between (A27).
fn watching<'a>(folder: &Folder, root: &'a OpenRoot) -> impl Fn(&MirrorPath) + Sync + 'a {
    let watcher = folder.watcher();
    move |dir| {
        if let Some(watcher) = &watcher {
            watcher.watch(root, dir);
        }
    }
}

/// Blocking: walks `top` with `scan`, as long as `goes_on`, and calls `each` with what differs from the ledger. Whether
/// the directory is still the same one at the end is the caller's to see: if not, what was missing says nothing.
///
/// # Errors
/// As [`differences`], save that of another directory.
pub fn walk(
    ledger: &Ledger,
    mirror: MirrorId,
    scan: &Scan<'_>,
    top: &MirrorPath,
    goes_on: &dyn Fn() -> bool,
    each: &mut dyn FnMut(Difference) -> Result<(), LedgerError>,
) -> Result<ScanSummary, ReconcileError> {
    scan.run(top, &mut Records { ledger, mirror, goes_on, each }).map_err(ended)
}

fn ended(error: ScanError<ReconcileError>) -> ReconcileError {
    match error {
        ScanError::Io(error) => ReconcileError::Unreadable(error),
        ScanError::Known(error) => error,
    }
}

/// The change that a difference makes: due when its file will have been quiet for `settle`, if it stays so.
#[must_use]
pub fn push_of(difference: Difference, now: Millis, settle: Duration) -> Push {
    let (size, wait) = match difference.observed {
        Observed::File(stat) => (stat.size, quiet_in(&stat, now, settle)),
        Observed::Missing | Observed::Directory | Observed::Other(..) => (0, 0),
    };
    Push { path: difference.path, size, due_at: now.saturating_add(wait) }
}

/// How many milliseconds until a file has been quiet for `settle`; 0 if it has. A time in the future is a clock that
/// jumped, and says nothing.
pub(super) fn quiet_in(stat: &Stat, now: Millis, settle: Duration) -> Millis {
    let settle = i64::try_from(settle.as_millis()).unwrap_or(i64::MAX);
    let Some(changed) = stat.ctime.as_nanos().map(|nanos| nanos / 1_000_000) else { return 0 };
    let age = now.saturating_sub(changed);
    if (0..settle).contains(&age) { settle - age } else { 0 }
}

/// What one walk found and is not pushed yet. Directories are pushed whole, or in parts that fill a pack: what could travel
/// together is due together, and no worker takes half of it for all there is.
#[derive(Default)]
struct Batch {
    found: Vec<Difference>,
    /// How many of the last ones are of one directory.
    of_directory: usize,
}

impl Batch {
    /// Takes a difference in. Returns what is to be pushed now, in one transaction.
    fn add(&mut self, difference: Difference) -> Vec<Difference> {
        let is_of_last = self.found.last().is_some_and(|last| last.path.is_beside(&difference.path));
        self.of_directory = if is_of_last { self.of_directory + 1 } else { 1 };
        let is_another_too_many = !is_of_last && self.found.len() >= MOST_FILES;
        let mut whole = if is_another_too_many { std::mem::take(&mut self.found) } else { Vec::new() };
        self.found.push(difference);
        if self.of_directory >= MOST_FILES {
            whole.append(&mut self.found);
        }
        whole
    }
}

/// The ledger's side of a scan.
struct Records<'a, E> {
    ledger: &'a Ledger,
    mirror: MirrorId,
    goes_on: &'a dyn Fn() -> bool,
    each: E,
}

impl<E: FnMut(Difference) -> Result<(), LedgerError>> Known for Records<'_, E> {
    type Error = ReconcileError;

    fn listing(&mut self, dir: &MirrorPath) -> Result<(Vec<(Box<[u8]>, Recorded)>, Vec<Box<[u8]>>), ReconcileError> {
        if !(self.goes_on)() {
            return Err(ReconcileError::Stopped);
        }
        let listing = self.ledger.listing(self.mirror, dir)?;
        Ok((listing.files, listing.directories))
    }

    fn has_present_below(&mut self, dir: &MirrorPath) -> Result<bool, ReconcileError> {
        Ok(self.ledger.has_below(self.mirror, dir, Below::Present)?)
    }

    fn has_taken_below(&mut self, dir: &MirrorPath) -> Result<bool, ReconcileError> {
        Ok(self.ledger.has_below(self.mirror, dir, Below::Taken)?)
    }

    fn differs(&mut self, difference: Difference) -> Result<(), ReconcileError> {
        Ok((self.each)(difference)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Timestamp;

    proptest::proptest! {
        #[test]
        fn whole_directories_are_pushed_and_large_ones_in_full_packs(
            directories in proptest::collection::vec(0..3 * MOST_FILES, 0..8),
        ) {
            let mut batch = Batch::default();
            let (mut found, mut pushed) = (Vec::new(), Vec::new());
            for (at, files) in directories.iter().enumerate() {
                for file in 0..*files {
                    let path = MirrorPath::from_bytes(format!("d{at}/{file}").as_bytes()).expect("a path");
                    let difference = Difference { path, observed: Observed::Missing, is_emptied: false };
                    found.push(difference.clone());
                    pushed.extend(Some(batch.add(difference)).filter(|whole| !whole.is_empty()));
                }
            }
            pushed.push(std::mem::take(&mut batch.found));
            proptest::prop_assert!(pushed.iter().all(|part| part.len() < 2 * MOST_FILES));
            proptest::prop_assert_eq!(pushed.concat(), found);
            for (at, files) in directories.iter().enumerate() {
                let is_of_it = |difference: &&Difference| difference.path.as_bytes().starts_with(format!("d{at}/").as_bytes());
                let parts: Vec<usize> = pushed.iter().map(|part| part.iter().filter(is_of_it).count()).collect();
                let (full, rest): (Vec<usize>, Vec<usize>) = parts.into_iter().filter(|part| *part > 0).partition(|part| *part == MOST_FILES);
                proptest::prop_assert_eq!((full.len(), rest.iter().sum()), (files / MOST_FILES, files % MOST_FILES));
                proptest::prop_assert!(rest.len() <= 1, "a directory was cut");
            }
        }
    }

    #[test]
    fn a_file_is_quiet_when_its_last_change_is_older_than_the_settle_time() {
        let changed = Timestamp { seconds: 100, nanos: 500_000_000 };
        let stat = Stat { size: 0, mtime: changed, ctime: changed, inode: 1 };
        let settle = Duration::from_secs(2);
        assert_eq!(quiet_in(&stat, 100_500, settle), 2_000);
        assert_eq!(quiet_in(&stat, 102_499, settle), 1);
        assert_eq!(quiet_in(&stat, 102_500, settle), 0);
        assert_eq!(quiet_in(&stat, 90_000, settle), 0, "a clock that was set back");
        assert_eq!(quiet_in(&stat, 100_500, Duration::ZERO), 0);
    }
}
