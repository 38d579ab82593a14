//! Waiting until a path is quiet.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Holds paths back until nothing was heard of them for the settle time, but never longer than the maximum delay.
///
/// Times are durations since any fixed moment of a clock that never goes back; the caller brings them.
pub struct Debouncer<K> {
    settle: Duration,
    max_delay: Duration,
    waiting: HashMap<K, Waiting>,
    /// One entry a key, ordered by when it was due at the time it was pushed. A key that was heard of since is put back
    /// with its new time when its old one comes: a busy file costs no search.
    order: BinaryHeap<Reverse<(Duration, K)>>,
}

struct Waiting {
    first: Duration,
    last: Duration,
}

impl<K: Clone + Ord + Hash> Debouncer<K> {
    /// An empty debouncer.
    #[must_use]
    pub fn new(settle: Duration, max_delay: Duration) -> Self {
        Self { settle, max_delay: max_delay.max(settle), waiting: HashMap::new(), order: BinaryHeap::new() }
    }

    /// `key` was heard of at `now`.
    pub fn push(&mut self, key: K, now: Duration) {
        match self.waiting.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().last = now,
            Entry::Vacant(new) => {
                self.order.push(Reverse((now + self.settle, new.key().clone())));
                new.insert(Waiting { first: now, last: now });
            }
        }
    }

    /// Takes the keys that are due at `now`.
    pub fn take_due(&mut self, now: Duration) -> Vec<K> {
        let mut due = Vec::new();
        while let Some(Reverse((at, _))) = self.order.peek() {
            if *at > now {
                break;
            }
            let Some(Reverse((_, key))) = self.order.pop() else { break };
            let Some(waiting) = self.waiting.get(&key) else { continue };
            let due_at = (waiting.last + self.settle).min(waiting.first + self.max_delay);
            if due_at <= now {
                self.waiting.remove(&key);
                due.push(key);
            } else {
                self.order.push(Reverse((due_at, key)));
            }
        }
        due
    }

    /// When to call [`take_due`](Self::take_due) next, or `None` while nothing waits. May be early, never late.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    /// How many keys wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets everything that waits: a scan is about to look at all of it.
    pub fn clear(&mut self) {
        self.waiting.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_millis(2_000);
    const MAX_DELAY: Duration = Duration::from_millis(60_000);

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn a_path_is_due_once_when_it_has_been_quiet_for_the_settle_time() {
        let mut debouncer = Debouncer::new(SETTLE, MAX_DELAY);
        debouncer.push("a", ms(0));
        debouncer.push("a", ms(1_500));
        assert!(debouncer.take_due(ms(3_499)).is_empty());
        assert_eq!(debouncer.take_due(ms(3_500)), ["a"]);
        assert!(debouncer.take_due(ms(100_000)).is_empty());
        assert!(debouncer.is_empty() && debouncer.next_due().is_none());
    }

    // A22
    #[test]
    fn a_path_that_never_goes_quiet_is_due_after_the_maximum_delay() {
        let mut debouncer = Debouncer::new(SETTLE, MAX_DELAY);
        for at in (0..60_000).step_by(500) {
            debouncer.push("log", ms(at));
            assert!(debouncer.take_due(ms(at)).is_empty());
        }
        assert_eq!(debouncer.take_due(ms(60_000)), ["log"]);
    }

    proptest::proptest! {
        /// Whoever sleeps until `next_due` gets every path, once, no later than its due time.
        #[test]
        fn nothing_is_due_late_or_lost(mut pushes in proptest::collection::vec((0u64..100_000, 0u8..6), 1..200)) {
            pushes.sort_unstable();
            let mut debouncer = Debouncer::new(SETTLE, MAX_DELAY);
            let mut heard: HashMap<u8, (u64, u64)> = HashMap::new();
            let take = |debouncer: &mut Debouncer<u8>, heard: &mut HashMap<u8, (u64, u64)>, until: u64| {
                while let Some(at) = debouncer.next_due().filter(|at| *at <= ms(until)) {
                    for key in debouncer.take_due(at) {
                        let (first, last) = heard.remove(&key).expect("due twice, or never pushed");
                        assert_eq!(at, (ms(last) + SETTLE).min(ms(first) + MAX_DELAY));
                    }
                }
            };
            for (at, key) in pushes {
                take(&mut debouncer, &mut heard, at);
                debouncer.push(key, ms(at));
                heard.entry(key).and_modify(|(_, last)| *last = at).or_insert((at, at));
            }
            take(&mut debouncer, &mut heard, u64::MAX / 2_000_000);
            proptest::prop_assert!(heard.is_empty() && debouncer.is_empty());
        }
    }
}
