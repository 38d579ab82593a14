//! Keeps uploads below the rate that a person allows, all of them together.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::mirror::{Meter, MinuteOfDay, Timetable};

/// Pieces are no larger than this, in bytes: on a slow line they tell sooner that something moves.
const PIECE: u64 = 32 * 1024;
/// Nobody sleeps longer at a time: the timetable may have changed the limit meanwhile, and who waits gives a sign.
const NAP: Duration = Duration::from_millis(500);

/// The limit that all uploads share.
pub(super) struct Throttle {
    timetable: Timetable,
    meter: Mutex<Meter>,
    begun: Instant,
}

impl Throttle {
    /// `None`: there is no limit at any time.
    pub(super) fn new(timetable: Timetable) -> Option<Self> {
        (!timetable.is_without_limit()).then(|| Self { timetable, meter: Mutex::default(), begun: Instant::now() })
    }

    /// How large pieces may be now, in bytes: at a low rate small ones, so that nobody waits long for somebody else's.
    pub(super) fn piece(&self) -> usize {
        let piece = self.rate().map_or(PIECE, |rate| (rate / 8).clamp(512, PIECE));
        usize::try_from(piece).unwrap_or(usize::MAX)
    }

    /// Waits until `bytes` may go. `sign` is called while it waits, twice a second.
    pub(super) async fn take(&self, bytes: usize, sign: impl Fn()) {
        let mut wait = {
            let mut meter = self.meter.lock().unwrap_or_else(PoisonError::into_inner);
            meter.take(bytes, self.rate(), self.begun.elapsed())
        };
        while wait > Duration::ZERO {
            let nap = wait.min(NAP);
            tokio::time::sleep(nap).await;
            wait -= nap;
            sign();
        }
    }

    fn rate(&self) -> Option<u64> {
        self.timetable.at(minute_of_day())
    }
}

/// By the clock on the wall.
fn minute_of_day() -> MinuteOfDay {
    let now = jiff::ZonedDateTime::now();
    // At most 23 and 59.
    MinuteOfDay::from(now.hour().unsigned_abs()) * 60 + MinuteOfDay::from(now.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    // E6: whoever watches an upload for standing still has to know that it is we who hold it back.
    #[tokio::test]
    async fn who_waits_for_its_turn_gives_signs_meanwhile() {
        let throttle = Throttle::new(Timetable::always(2048)).expect("a limit");
        let signs = AtomicU32::new(0);
        // Each second's worth waits for the one before.
        for _ in 0..3 {
            throttle.take(2048, || _ = signs.fetch_add(1, Ordering::Relaxed)).await;
        }
        assert!(signs.into_inner() > 0);
    }
}
