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
