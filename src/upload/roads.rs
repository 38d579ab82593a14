//! The ways to dStor that are left: the rules of [`Ways`] with a clock.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::errand::ToSend;
use super::pack;
use crate::ledger::Claim;
use crate::mirror::{Placement, Sessions, Way, Ways};

/// What workers know of the ways to dStor, all the same.
#[derive(Debug)]
pub struct Roads {
    ways: Mutex<Ways>,
    /// What the ways' times count from.
    begun: Instant,
}

impl Roads {
    /// What was asked for; nothing was seen yet.
    #[must_use]
    pub fn new(wish: Sessions) -> Self {
        Self { ways: Mutex::new(Ways::new(wish)), begun: Instant::now() }
    }

    /// How a file goes that goes alone.
    pub(super) fn alone(&self, file: &ToSend) -> Way {
        self.ways().alone(file.stat.size, &file.placement, self.begun.elapsed())
    }

    /// How many others have to be due at the least to go along with a file.
    pub(super) fn fewest_others(&self, claim: &Claim, file: &ToSend, is_probe: bool) -> Option<usize> {
        pack::fewest_others(claim, file, is_probe, &self.ways(), self.begun.elapsed())
    }

    /// Whether any files may go together.
    pub(super) fn may_gather(&self) -> bool {
        self.ways().may_gather(self.begun.elapsed())
    }

    /// The service has no sessions. Returns whether files go by themselves from now on.
    pub(super) fn lacks_sessions(&self) -> bool {
        let goes_on = self.ways().lacks_sessions(self.begun.elapsed());
        if goes_on {
            tracing::info!("dStor has no upload sessions; every file goes in a request of its own");
        }
        goes_on
    }

    /// The service takes files in sessions only. Returns whether they go so from now on.
    pub(super) fn lacks_direct(&self, placement: &Placement) -> bool {
        let goes_on = self.ways().lacks_direct(placement, self.begun.elapsed());
        if goes_on {
            tracing::info!("dStor takes files in upload sessions only; every file goes in one");
        }
        goes_on
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
