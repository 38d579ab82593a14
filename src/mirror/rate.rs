//! How fast uploads may go, over the day, and how long a piece has to wait for it.

use std::time::Duration;

/// A minute of the day, 0 to 1439, by the clock on the wall.
pub type MinuteOfDay = u16;

/// Which limit holds when. Empty: none, ever.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Timetable {
    /// From each minute on so many bytes a second, or no limit; in order, each minute once.
    entries: Vec<(MinuteOfDay, Option<u64>)>,
}

impl Timetable {
    /// So many bytes a second, all day. Not zero.
    #[must_use]
    pub fn always(bytes: u64) -> Self {
        Self { entries: vec![(0, Some(bytes.max(1)))] }
    }

    /// From each minute on so many bytes a second, or no limit; what holds last in a day holds until the first of the next.
    /// `None` if a minute is named twice, or is none of a day.
    #[must_use]
    pub fn of(mut entries: Vec<(MinuteOfDay, Option<u64>)>) -> Option<Self> {
        entries.sort_unstable_by_key(|(minute, _)| *minute);
        let is_plain = entries.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && entries.iter().all(|(minute, bytes)| *minute < 24 * 60 && *bytes != Some(0));
        is_plain.then_some(Self { entries })
    }

    /// The entries, in order.
    #[must_use]
    pub fn entries(&self) -> &[(MinuteOfDay, Option<u64>)] {
        &self.entries
    }

    /// Whether there is never a limit.
    #[must_use]
    pub fn is_without_limit(&self) -> bool {
        self.entries.iter().all(|(_, bytes)| bytes.is_none())
    }

    /// The limit at that minute, in bytes a second.
    #[must_use]
    pub fn at(&self, minute: MinuteOfDay) -> Option<u64> {
        let begun = self.entries.iter().rev().find(|(from, _)| *from <= minute);
        begun.or(self.entries.last()).and_then(|(_, bytes)| *bytes)
    }
}

/// Lets bytes through at a rate. Whoever takes some gets a turn behind those who took before, so uploads share the line
/// evenly, piece by piece.
///
/// Times are durations since any fixed moment of a clock that never goes back.
#[derive(Debug, Default)]
pub struct Meter {
    /// When the bytes that were taken so far are through.
    through: Duration,
}

impl Meter {
    /// What was not used may be made good for this long: sleeping is never exact.
    const GRACE: Duration = Duration::from_millis(100);

    /// Takes `bytes` at `rate` bytes a second; `None`: no limit. Returns how long to wait before they may go.
    pub fn take(&mut self, bytes: usize, rate: Option<u64>, now: Duration) -> Duration {
        let Some(rate) = rate else {
            self.through = now;
            return Duration::ZERO;
        };
        let begins = self.through.max(now.saturating_sub(Self::GRACE));
        // At most some hours: a piece is small, and the rate not zero.
        self.through = begins
            + Duration::from_nanos(
                u64::try_from(bytes as u128 * 1_000_000_000 / u128::from(rate.max(1))).unwrap_or(u64::MAX / 4),
            );
        begins.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_last_in_a_day_holds_until_the_first_of_the_next() {
        let table = Timetable::of(vec![(18 * 60, None), (8 * 60, Some(512))]).expect("a timetable");
        let at = |hour: u16, minute: u16| table.at(hour * 60 + minute);
        assert_eq!([at(0, 0), at(7, 59), at(18, 0), at(23, 59)], [None; 4]);
        assert_eq!([at(8, 0), at(17, 59)], [Some(512); 2]);
        let night = Timetable::of(vec![(8 * 60, None), (18 * 60, Some(64))]).expect("a timetable");
        assert_eq!([night.at(7 * 60), night.at(8 * 60), night.at(23 * 60)], [Some(64), None, Some(64)]);
        assert_eq!([Timetable::default().at(0), Timetable::always(7).at(1439)], [None, Some(7)]);
        assert!(Timetable::default().is_without_limit() && !table.is_without_limit());
        for bad in [vec![(1, None), (1, Some(1))], vec![(1440, None)], vec![(0, Some(0))]] {
            assert_eq!(Timetable::of(bad), None);
        }
    }

    #[test]
    fn however_pieces_are_cut_and_taken_no_more_goes_through_than_the_rate() {
        let (mut meter, mut now, mut sent) = (Meter::default(), Duration::from_secs(1000), 0);
        let begun = now;
        for round in 0..10_000_usize {
            let bytes = 1 + round * 7919 % 40_000;
            // Some come late, and find the line unused.
            if round % 10 == 0 {
                now += Duration::from_millis(u64::try_from(round * 31 % 50).expect("small"));
            }
            now += meter.take(bytes, Some(1_000_000), now);
            let allowed = (now - begun + Meter::GRACE).as_micros();
            assert!(sent <= allowed, "{sent} bytes in {allowed} µs at a byte each");
            sent += bytes as u128;
        }
        assert!(now - begun > Duration::from_secs(150), "{now:?}");
    }

    #[test]
    fn nobody_waits_without_a_limit_nor_for_what_went_before_it() {
        let (mut meter, now) = (Meter::default(), Duration::from_secs(9));
        assert_eq!(meter.take(1 << 30, None, now), Duration::ZERO);
        assert_eq!(meter.take(1000, Some(1000), now), Duration::ZERO);
        assert_eq!(meter.take(1000, Some(1000), now), Duration::from_secs(1));
        assert_eq!(meter.take(1, None, now), Duration::ZERO);
        assert_eq!(meter.take(1, Some(1), now), Duration::ZERO);
    }
}
