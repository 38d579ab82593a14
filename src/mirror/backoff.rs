//! How long a failure sleeps before it is tried again.

use std::time::Duration;

/// Exponential back-off: doubles from `first` to `longest`, half of it left to chance so that many do not wake at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay before the first repetition.
    pub first: Duration,
    /// No delay is longer, save where a server asks for more.
    pub longest: Duration,
}

impl Backoff {
    /// The delay after the `attempt`-th failure (the first is 1), with `chance` from `0.0` to `1.0`.
    ///
    /// Between half of the exponential delay and all of it.
    #[must_use]
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest.max(self.first));
        whole.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn every_delay_lies_between_half_the_first_and_the_longest(attempt in 0u32.., chance in -1.0f64..2.0) {
            let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(900) };
            let delay = backoff.delay(attempt, chance);
            proptest::prop_assert!(delay >= Duration::from_millis(500) && delay <= Duration::from_secs(900));
        }
    }

    #[test]
    fn delays_double_until_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };
        let delays: Vec<u64> = (1..=6).map(|attempt| backoff.delay(attempt, 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10]);
    }
}
