//! Whose turn it is to gather the files of a directory: one worker's at a time. Else those that ask at the same moment have
//! one file of it each, and what could have gone in one request goes in as many as there are workers.
//!
//! A turn is a courtesy and no lock: nothing is wrong if two gather at once, only slower. So nobody waits for one for long.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::ledger::{Claim, MirrorId};
use crate::mirror::MirrorPath;

/// Whoever has its turn for longer is held up, by a share that hangs for instance, and the others go on without it. To look
/// at a file and to take its neighbours is a matter of a millisecond.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

type Directory = (MirrorId, MirrorPath);

/// The directories in which someone is gathering.
#[derive(Default)]
pub(super) struct Turns {
    taken: Mutex<HashSet<Directory>>,
    freed: Notify,
}

impl Turns {
    /// The turn to gather beside a change; `None`: somebody else has it.
    pub(super) fn begin(self: &Arc<Self>, claim: &Claim) -> Option<Turn> {
        let directory = (claim.mirror, claim.path.split()?.0);
        let is_mine = self.taken().insert(directory.clone());
        is_mine.then(|| Turn { turns: Arc::clone(self), directory })
    }

    /// Ends when somebody's turn ends after this was called.
    pub(super) fn freed(&self) -> impl Future<Output = ()> {
        self.freed.notified()
    }

    fn taken(&self) -> MutexGuard<'_, HashSet<Directory>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn; it ends when it is dropped.
#[must_use = "the others wait until it is dropped"]
pub(super) struct Turn {
    turns: Arc<Turns>,
    directory: Directory,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.taken().remove(&self.directory);
        self.turns.freed.notify_waiters();
    }
}
