//! When a person is told that something needs them, and that it is over.

use std::time::Duration;

/// What a person is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alert {
    /// Something needs them.
    Problem,
    /// Nothing does any more.
    Recovered,
}

/// Tells once of each problem and of its end, and not more often than is wished: what comes and goes is told once.
///
/// Times are durations since any fixed moment of a clock that never goes back.
#[derive(Default, Debug)]
pub struct Alarm {
    /// What was seen last, and how often in a row.
    seen: Option<u64>,
    times: u32,
    /// The problem that was told of last, unless its end was as well.
    told: Option<u64>,
    told_at: Option<Duration>,
}

impl Alarm {
    /// So often in a row it has to be seen: a file that fails and is put right at once is nobody's business.
    const SURE: u32 = 2;

    /// `problem`: a number that stands for what needs a person now, another one for another problem; `None`: nothing. No
    /// problem is told of sooner than `between` after the last one.
    pub fn look(&mut self, problem: Option<u64>, between: Duration, now: Duration) -> Option<Alert> {
        if self.seen != problem {
            (self.seen, self.times) = (problem, 0);
        }
        self.times = self.times.saturating_add(1);
        if self.times < Self::SURE || self.told == problem {
            return None;
        }
        if problem.is_none() {
            self.told = None;
            return Some(Alert::Recovered);
        }
        if self.told_at.is_some_and(|at| now.saturating_sub(at) < between) {
            return None;
        }
        (self.told, self.told_at) = (problem, Some(now));
        Some(Alert::Problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told at each second, if this is what is seen.
    fn told(between: u64, seen: &[Option<u64>]) -> Vec<(u64, Alert)> {
        let (mut alarm, between) = (Alarm::default(), Duration::from_secs(between));
        let seconds = (0..).zip(seen);
        seconds
            .filter_map(|(at, problem)| Some((at, alarm.look(*problem, between, Duration::from_secs(at))?)))
            .collect()
    }

    #[test]
    fn a_problem_that_stays_is_told_once_and_so_is_its_end() {
        let seen = [None, Some(1), Some(1), Some(1), Some(1), None, None, None];
        assert_eq!(told(0, &seen), [(2, Alert::Problem), (6, Alert::Recovered)]);
    }

    #[test]
    fn what_is_seen_once_is_not_told() {
        assert_eq!(told(0, &[Some(1), None, Some(2), None, Some(1), Some(2), None]), []);
    }

    #[test]
    fn another_problem_is_told_as_well_but_not_too_soon() {
        let seen = [Some(1), Some(1), Some(2), Some(2), Some(2), Some(2), Some(2), None, None];
        assert_eq!(told(4, &seen), [(1, Alert::Problem), (5, Alert::Problem), (8, Alert::Recovered)]);
    }

    #[test]
    fn what_comes_and_goes_is_told_no_more_often_than_is_wished() {
        let seen: Vec<Option<u64>> = (0..1000).map(|second| (second / 3 % 2 == 0).then_some(7)).collect();
        let told = told(100, &seen);
        let problems = told.iter().filter(|(_, alert)| *alert == Alert::Problem).count();
        assert!((8..=10).contains(&problems), "{told:?}");
        // Of what was not told, no end is told.
        assert!(told.chunks(2).all(|pair| pair[0].1 == Alert::Problem), "{told:?}");
        assert!(told.chunks_exact(2).all(|pair| pair[1].1 == Alert::Recovered), "{told:?}");
    }
}
