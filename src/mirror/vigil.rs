//! What the minder of a mirror decides: when a path that was heard of is looked at, and when all of it is.

use std::time::Duration;

use super::{DSTORIGNORE, Debouncer, MirrorPath};

/// More paths than that at once are left to a scan.
const MOST_WAITING: usize = 100_000;
/// Scans for lost events begin at least this long after one another.
const BETWEEN_SCANS: Duration = Duration::from_secs(2);
/// A scan that did not come to its end is made again after this, if none is due before.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// The watch over one mirror whose directory is there.
///
/// Times are durations since any fixed moment of a clock that never goes back; the caller brings them, and chance (from
/// 0.0 to 1.0) as well.
pub struct Vigil {
    debouncer: Debouncer<MirrorPath>,
    settle: Duration,
    interval: Duration,
    next_scan: Duration,
    is_scanning: bool,
}

/// What follows at once from something that was heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Nothing yet.
    Wait,
    /// Look whether the mirror's directory is still the same; if so, say so to [`Vigil::root_is_there`].
    LookAtRoot,
}

/// How a scan ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanEnd {
    /// It saw everything.
    Whole,
    /// It broke off, and the mirror's directory is there all the same.
    BrokenOff,
}

impl Vigil {
    /// A watch that begins at `now` with a scan and makes another one each `interval`.
    #[must_use]
    pub fn new(settle: Duration, max_delay: Duration, interval: Duration, now: Duration) -> Self {
        Self { debouncer: Debouncer::new(settle, max_delay), settle, interval, next_scan: now, is_scanning: false }
    }

    /// Something happened at `path`.
    pub fn hear(&mut self, path: MirrorPath, now: Duration) -> Reaction {
        let Some((parent, name)) = path.split() else { return Reaction::LookAtRoot };
        if name == DSTORIGNORE.as_bytes() {
            // Other rules: everything below may be in or out now.
            if parent.is_top() {
                self.scan_by(now + self.settle);
            } else {
                self.debouncer.push(parent, now);
            }
        }
        if self.debouncer.len() < MOST_WAITING {
            self.debouncer.push(path, now);
        } else {
            self.scan_by(now + self.settle);
        }
        Reaction::Wait
    }

    /// Events were lost: anything may have changed.
    pub fn hear_of_loss(&mut self, now: Duration) {
        self.scan_by(now + BETWEEN_SCANS);
    }

    /// The machine slept, or this process was stopped: events may have been lost, and nobody can tell (F8, F9).
    pub fn woke(&mut self, now: Duration) {
        self.hear_of_loss(now);
    }

    /// Something happened to the mirror's directory itself, and it is still the same one. It may have been removed and
    /// made again with the same number, and is not watched then.
    pub fn root_is_there(&mut self, now: Duration) {
        self.scan_by(now + self.settle.max(BETWEEN_SCANS));
    }

    /// Takes the paths that have been quiet, or have waited, for long enough.
    pub fn take_due(&mut self, now: Duration) -> Vec<MirrorPath> {
        self.debouncer.take_due(now)
    }

    /// Whether a scan is to begin now. If so, it is under way until [`scan_ended`](Self::scan_ended); what asks for one
    /// meanwhile is behind it, and gets the next.
    pub fn take_scan(&mut self, now: Duration, chance: f64) -> bool {
        if self.is_scanning || self.next_scan > now {
            return false;
        }
        self.is_scanning = true;
        // Within a tenth of the interval, so that many machines do not scan a shared disk in step.
        self.next_scan = now + self.interval.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0));
        true
    }

    /// The scan that was under way has ended.
    pub fn scan_ended(&mut self, end: ScanEnd, now: Duration) {
        self.is_scanning = false;
        match end {
            ScanEnd::Whole => {}
            ScanEnd::BrokenOff => self.scan_by(now + AFTER_FAILURE),
        }
    }

    /// When [`take_due`](Self::take_due) or [`take_scan`](Self::take_scan) may have something next; `None`: not before
    /// something else happens. May be early, never late.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        let scan = (!self.is_scanning).then_some(self.next_scan);
        match (self.debouncer.next_due(), scan) {
            (Some(due), Some(scan)) => Some(due.min(scan)),
            (due, scan) => due.or(scan),
        }
    }

    fn scan_by(&mut self, at: Duration) {
        self.next_scan = self.next_scan.min(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn secs(value: u64) -> Duration {
        Duration::from_secs(value)
    }

    fn path(text: &str) -> MirrorPath {
        MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
    }

    fn begun() -> Vigil {
        let mut vigil = Vigil::new(secs(2), secs(60), HOUR, secs(0));
        assert!(vigil.take_scan(secs(0), 0.5), "the first scan begins at once");
        vigil
    }

    // A28
    #[test]
    fn a_scan_is_made_each_interval_and_none_while_one_is_under_way() {
        let mut vigil = begun();
        assert!(!vigil.take_scan(secs(4000), 0.5), "one is under way");
        assert_eq!(vigil.next_wake(), None);
        vigil.scan_ended(ScanEnd::Whole, secs(4000));
        assert_eq!(vigil.next_wake(), Some(HOUR));
        assert!(vigil.take_scan(secs(4000), 0.5));
    }

    // A1
    #[test]
    fn many_losses_make_one_scan_and_those_during_a_scan_the_next() {
        let mut vigil = begun();
        vigil.hear_of_loss(secs(5));
        vigil.scan_ended(ScanEnd::Whole, secs(6));
        for at in 6..100 {
            vigil.hear_of_loss(secs(at));
        }
        assert_eq!(vigil.next_wake(), Some(secs(7)));
        assert!(vigil.take_scan(secs(7), 0.5) && !vigil.take_scan(secs(8), 0.5));
    }

    #[test]
    fn a_scan_that_broke_off_is_made_again_soon() {
        let mut vigil = begun();
        vigil.scan_ended(ScanEnd::BrokenOff, secs(10));
        assert_eq!(vigil.next_wake(), Some(secs(40)));
    }

    // B22
    #[test]
    fn new_rules_make_everything_that_they_hold_for_worth_a_look() {
        let mut vigil = begun();
        vigil.scan_ended(ScanEnd::Whole, secs(1));
        vigil.hear(path("a/b/.dstorignore"), secs(1));
        let mut due = vigil.take_due(secs(3));
        due.sort();
        assert_eq!(due, [path("a/b"), path("a/b/.dstorignore")]);
        vigil.hear(path(".dstorignore"), secs(10));
        assert!(vigil.take_scan(secs(12), 0.5));
    }

    // A19
    #[test]
    fn more_paths_than_can_wait_are_left_to_a_scan() {
        let mut vigil = begun();
        vigil.scan_ended(ScanEnd::Whole, secs(1));
        for at in 0..=MOST_WAITING {
            vigil.hear(path(&at.to_string()), secs(1));
        }
        assert_eq!(vigil.take_due(secs(3)).len(), MOST_WAITING);
        assert!(vigil.take_scan(secs(3), 0.5));
    }

    #[test]
    fn something_at_the_root_itself_is_looked_into_and_scanned() {
        let mut vigil = begun();
        vigil.scan_ended(ScanEnd::Whole, secs(1));
        assert_eq!(vigil.hear(MirrorPath::top(), secs(1)), Reaction::LookAtRoot);
        vigil.root_is_there(secs(1));
        assert_eq!(vigil.next_wake(), Some(secs(3)));
    }
}
