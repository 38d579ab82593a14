//! What happened to this machine between two looks at its clocks: nothing, sleep, or somebody set the time of day.

use std::time::Duration;

/// Clocks are read this often.
pub const TICK: Duration = Duration::from_secs(5);
/// Being this much too late means that the machine, or this process alone, stood still (F8, F9). A busy machine is late,
/// too, but hardly by so much, and then a scan too many is all that it costs.
const STOOD_STILL: Duration = Duration::from_secs(10);
/// The time of day is steered by fractions of this all the time.
const STEERED: Duration = Duration::from_secs(1);

/// The clocks at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The time of day: milliseconds since 1970.
    pub of_day: i64,
    /// Time that only goes on, and does so while the machine sleeps; from any beginning.
    pub elapsed: Duration,
}

/// Somebody, or the network, set the time of day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jump {
    /// It is earlier by this than it would have been.
    Back(Duration),
    /// It is later by this.
    Ahead(Duration),
}

/// What happened between two moments; both can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Passed {
    /// How long everything stood still, if it did.
    pub stood_still: Option<Duration>,
    /// How the time of day jumped, if it did.
    pub jump: Option<Jump>,
}

/// What happened between `before` and `now`, which were meant to be one [`TICK`] apart.
#[must_use]
pub fn passed(before: Moment, now: Moment) -> Passed {
    let elapsed = now.elapsed.saturating_sub(before.elapsed);
    let late = elapsed.saturating_sub(TICK);
    let elapsed = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
    let off = now.of_day.saturating_sub(before.of_day).saturating_sub(elapsed);
    let by = Duration::from_millis(off.unsigned_abs());
    Passed {
        stood_still: (late >= STOOD_STILL).then_some(late),
        jump: (by >= STEERED).then_some(if off < 0 { Jump::Back(by) } else { Jump::Ahead(by) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn after(of_day: i64, elapsed_ms: u64) -> Passed {
        let before = Moment { of_day: 1_000 * HOUR, elapsed: Duration::from_secs(60) };
        let elapsed = before.elapsed + Duration::from_millis(elapsed_ms);
        passed(before, Moment { of_day: before.of_day + of_day, elapsed })
    }

    #[test]
    fn a_tick_that_is_a_little_late_and_a_clock_that_is_steered_are_nothing() {
        for (of_day, elapsed) in [(5_000, 5_000), (5_400, 5_000), (4_600, 5_000), (14_000, 14_000)] {
            assert_eq!(after(of_day, elapsed), Passed::default(), "{of_day} {elapsed}");
        }
    }

    // D14
    #[test]
    fn a_clock_that_was_set_is_told_with_how_far_and_which_way() {
        let hour = Duration::from_secs(3600);
        assert_eq!(after(5_000 - HOUR, 5_000).jump, Some(Jump::Back(hour)));
        assert_eq!(after(5_000 + HOUR, 5_000).jump, Some(Jump::Ahead(hour)));
        assert_eq!(after(5_000 - HOUR, 5_000).stood_still, None);
    }

    // F8: the time of day goes on while a machine sleeps.
    #[test]
    fn a_machine_that_slept_is_no_clock_that_was_set() {
        let slept = after(8 * HOUR + 5_000, 8 * 3_600_000 + 5_000);
        assert_eq!(slept, Passed { stood_still: Some(Duration::from_secs(8 * 3600)), jump: None });
    }

    #[test]
    fn both_at_once_are_told() {
        let both = after(2 * HOUR, 3_600_000);
        assert!(both.stood_still.is_some() && both.jump == Some(Jump::Ahead(Duration::from_secs(3600))), "{both:?}");
    }

    #[test]
    fn clocks_beyond_reason_are_no_trouble() {
        let zero = Moment { of_day: i64::MIN, elapsed: Duration::MAX };
        let end = Moment { of_day: i64::MAX, elapsed: Duration::ZERO };
        assert!(matches!(passed(zero, end).jump, Some(Jump::Ahead(_))));
        assert!(matches!(passed(end, zero).jump, Some(Jump::Back(_))));
    }
}
