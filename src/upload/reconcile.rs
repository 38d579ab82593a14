//! Reconciliation: what a scan finds to differ from the ledger goes into the queue.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::ledger::{Below, Ledger, LedgerError, Millis, MirrorId, Push, Urgency};
use crate::local::{Crew, Difference, Known, OpenRoot, RootError, Scan, ScanError, ScanSummary};
use crate::mirror::{MirrorPath, Observed, Recorded, Stat};

use super::{Folder, Queue, Stop};

/// Differences pushed in one transaction.
const BATCH: usize = 500;
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
        let (mut found, mut emptied) = (Vec::new(), Vec::new());
        let push = |found: &mut Vec<Difference>| {
            self.queue.push_blocking(folder.id, self.pushes(std::mem::take(found)), Urgency::Scan)
        };
        let mut take = |difference: Difference| {
            // Only who has seen all of the mirror knows whether they are too many.
            if difference.is_emptied && top.is_top() {
                emptied.push(difference);
                return Ok(());
            }
            found.push(difference);
            if found.len() >= BATCH { push(&mut found) } else { Ok(()) }
        };
        let summary = if top.is_top() {
            let hands = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_HANDS));
            self.queue.read_with(hands, |ledgers| Ok(self.all_differences(ledgers, folder, &mut take)))??
        } else {
            // What was made or moved in just now; each worker walks its own.
            self.queue.read(|ledger| Ok(differences(ledger, folder, top, self.stop, &mut take)))??
        };
        if !found.is_empty() {
            push(&mut found)?;
        }
        if top.is_top() {
            let held = self.queue.hold_emptied_blocking(folder.id, self.pushes(emptied))?;
            if held > 0 {
                tracing::error!(
                    mirror = %folder.path.display(), files = held,
                    "many files are suddenly empty; they are not uploaded until someone restores or accepts them"
                );
            }
        }
        Ok(summary)
    }

    /// All differences of a folder, found by a thread for each ledger; `each` is called by one at a time.
    fn all_differences(
        &self,
        ledgers: &mut [Ledger],
        folder: &Folder,
        each: &mut (dyn FnMut(Difference) -> Result<(), LedgerError> + Send),
    ) -> Result<ScanSummary, ReconcileError> {
        let root = folder.open()?;
        let before_reading = watching(folder, &root);
        let goes_on = || *self.stop.borrow() == Stop::Go;
        let crew = Crew { root: &root, rules: &folder.rules, policy: &folder.policy, before_reading: &before_reading };
        let each = Mutex::new(each);
        let take = |difference| (*each.lock().unwrap_or_else(PoisonError::into_inner))(difference);
        let summary = crew.run(&MirrorPath::top(), ledgers, |ledger: &mut Ledger| Records {
            ledger,
            mirror: folder.id,
            goes_on: &goes_on,
            each: take,
        });
        let summary = summary.map_err(ended)?;
        folder.open()?;
        Ok(summary)
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
