//! The ledger's daily copy: when one is made, and what of it is believed where it has to stand in for the ledger.

use std::time::Duration;

use super::Timestamp;

/// How old the copy may become.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A copy that is due waits this long for a quiet moment, and is then made all the same.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// How often a quiet moment is looked for.
const MOMENT: Duration = Duration::from_secs(10);
/// Nobody sleeps for longer than this: the time of day, by which a copy's age goes, may jump (D14).
const NAP: Duration = Duration::from_secs(3600);
/// No file system's clock is coarser than this (FAT).
const COARSEST: i64 = 2_000_000_000;

/// What to do about the copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copying {
    /// Make it.
    Now,
    /// It is due, but not while so much is going on: ask again after this.
    WhenQuiet(Duration),
    /// It is not due: ask again after this.
    Later(Duration),
}

/// What to do about a copy of this `age` (`None`: there is none), which has been due for `waited`, while the queue has
/// something to do or not.
#[must_use]
pub fn copying(age: Option<Duration>, waited: Duration, is_quiet: bool) -> Copying {
    let left = age.map_or(Duration::ZERO, |age| DAY.saturating_sub(age));
    if !left.is_zero() {
        Copying::Later(left.min(NAP))
    } else if is_quiet || waited >= PATIENCE {
        Copying::Now
    } else {
        Copying::WhenQuiet(MOMENT)
    }
}

/// Whether a directory has been where it is since before `copied_at`, so that what a copy from then says of the files in
/// it can still be so.
///
/// A directory that was moved away and back brings its files back with the stat that the copy knows, and dStor may have
/// been sent others under their names in between. Moving it changes its own ctime, or at least that of the one it lies
/// in. Both by the same clock; one that was set back is no business of this rule.
#[must_use]
pub fn is_unmoved(changed: Timestamp, copied_at: Timestamp) -> bool {
    match (changed.as_nanos(), copied_at.as_nanos()) {
        (Some(changed), Some(copied)) => changed.saturating_add(COARSEST) < copied,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_once_a_day_when_nothing_is_to_be_done() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(copying(None, Duration::ZERO, true), Copying::Now);
        assert_eq!(copying(None, Duration::ZERO, false), Copying::WhenQuiet(MOMENT));
        assert_eq!(copying(Some(hours(1)), Duration::ZERO, true), Copying::Later(NAP));
        let soon = DAY.saturating_sub(Duration::from_secs(5));
        assert_eq!(copying(Some(soon), Duration::ZERO, true), Copying::Later(Duration::from_secs(5)));
        assert_eq!(copying(Some(hours(25)), hours(1), false), Copying::WhenQuiet(MOMENT));
        assert_eq!(copying(Some(hours(24)), Duration::ZERO, true), Copying::Now);
    }

    #[test]
    fn a_queue_that_is_never_empty_does_not_keep_the_copy_from_being_made() {
        assert_eq!(copying(None, PATIENCE, false), Copying::Now);
    }

    // D13
    #[test]
    fn a_directory_that_changed_since_the_copy_or_in_the_same_tick_may_have_been_moved() {
        let at = |seconds| Timestamp { seconds, nanos: 0 };
        assert!(is_unmoved(at(100), at(103)));
        assert!(!is_unmoved(at(100), at(102)) && !is_unmoved(at(100), at(100)) && !is_unmoved(at(101), at(100)));
        assert!(!is_unmoved(at(i64::MAX), at(100)));
    }
}
