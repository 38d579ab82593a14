//! The system calls on a mirror's file system that are under way: whether all of them come back.
//!
//! A walk may take hours and be well, as long as each call in it returns. One that does not, as on a network share that is
//! dead, is seen by this: calls are counted by era, and an era can only end when all calls of the one before have returned.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Calls under way, of any threads.
#[derive(Debug, Default)]
pub struct Calls {
    era: AtomicUsize,
    /// Of the present era and of the one before, in turns.
    under_way: [AtomicU64; 2],
    returned: AtomicU64,
}

/// A call, or a few in a row, until it is dropped.
#[derive(Debug)]
pub struct Call<'a> {
    calls: &'a Calls,
    era: usize,
}

impl Calls {
    /// Begins a call.
    pub fn begin(&self) -> Call<'_> {
        let era = self.era.load(Ordering::Relaxed) % 2;
        self.under_way[era].fetch_add(1, Ordering::Relaxed);
        Call { calls: self, era }
    }

    /// Begins a new era, if all calls of the one before the present have returned. So a call that hangs lets it begin once
    /// more at most.
    pub fn turn(&self) -> bool {
        let next = self.era.load(Ordering::Relaxed).wrapping_add(1);
        let all_are_back = self.under_way[next % 2].load(Ordering::Relaxed) == 0;
        if all_are_back {
            self.era.store(next, Ordering::Relaxed);
        }
        all_are_back
    }

    /// How many have returned so far.
    #[must_use]
    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.calls.under_way[self.era].fetch_sub(1, Ordering::Relaxed);
        self.calls.returned.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // F5
    #[test]
    fn a_call_that_hangs_is_seen_however_many_others_return() {
        let calls = Calls::default();
        let hangs = calls.begin();
        for _ in 0..1000 {
            drop(calls.begin());
        }
        assert!(calls.turn(), "it may be about to return");
        drop(calls.begin());
        assert!(!calls.turn() && !calls.turn(), "it did not");
        assert_eq!(calls.returned(), 1001);
        drop(hangs);
        assert!(calls.turn() && calls.turn() && calls.turn());
    }
}
