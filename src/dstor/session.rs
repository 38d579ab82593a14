//! An upload session from its opening to its end: what a failure on the way means, and how often one asks how far it is.

use std::time::Duration;

use super::wire::{Listing, Progress};
use crate::mirror::Fault;

/// The first wait before asking. Small files are stored long before public clients ask.
const FIRST_WAIT: Duration = Duration::from_millis(10);
/// The longest one: what public clients begin with.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Where in a session something went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// It was not opened: nothing was sent.
    Opening,
    /// The files were on their way.
    Sending,
    /// dStor had them, and was asked how far it is.
    Waiting,
}

/// A session that came to nothing, as far as anyone can say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionFailure {
    /// What went wrong.
    pub fault: Fault,
    /// And where.
    pub stage: Stage,
}

impl SessionFailure {
    /// Whether it says that the service has no sessions at all: an older one.
    #[must_use]
    pub fn is_for_lack_of_sessions(&self) -> bool {
        self.stage == Stage::Opening && matches!(self.fault, Fault::ServerError(404 | 405))
    }

    /// Whether it may be one file's fault, or that of all of them together being too much.
    #[must_use]
    pub fn is_about_the_files(&self) -> bool {
        self.stage == Stage::Sending && matches!(self.fault, Fault::Refused { .. })
    }

    /// Whether dStor may hold, or come to hold, what was sent.
    #[must_use]
    pub fn is_unsure(&self) -> bool {
        match self.stage {
            Stage::Opening => false,
            Stage::Sending => self.fault.is_unsure(),
            Stage::Waiting => true,
        }
    }
}

/// What to do after an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Poll {
    /// Ask again after so long.
    After(Duration),
    /// It has ended.
    Ended(Result<Listing, Fault>),
}

/// The asking how far a session is. Times are durations since any fixed moment of a clock that never goes back.
#[derive(Debug)]
pub struct Polls {
    patience: Duration,
    wait: Duration,
    state: Option<String>,
    moved_at: Duration,
}

impl Polls {
    /// The files were sent at `now`. A session that shows no progress for `patience` is given up.
    #[must_use]
    pub fn begin(patience: Duration, now: Duration) -> Self {
        Self { patience, wait: FIRST_WAIT, state: None, moved_at: now }
    }

    /// How long to wait before asking for the first time.
    #[must_use]
    pub fn first(&self) -> Duration {
        FIRST_WAIT
    }

    /// dStor answered so at `now`.
    pub fn answered(&mut self, progress: Progress, now: Duration) -> Poll {
        let state = match progress {
            Progress::Done(listing) => return Poll::Ended(Ok(listing)),
            Progress::Error(why) => return ended(format!("the session failed: {why}")),
            Progress::At(state) => Some(state),
        };
        if self.state != state {
            self.state = state;
            self.moved_at = now;
        }
        if now.saturating_sub(self.moved_at) >= self.patience {
            let state = self.state.as_deref().unwrap_or_default();
            return ended(format!("the session stays at {state} for {} s", self.patience.as_secs()));
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Poll::After(self.wait)
    }
}

fn ended(why: String) -> Poll {
    Poll::Ended(Err(Fault::Protocol(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(state: &str) -> Progress {
        Progress::At(state.into())
    }

    #[test]
    fn one_asks_soon_and_then_less_and_less_often() {
        let mut polls = Polls::begin(Duration::from_secs(60), Duration::ZERO);
        let mut waits = vec![polls.first()];
        for _ in 0..9 {
            match polls.answered(at("ADDING_TO_IPFS"), Duration::ZERO) {
                Poll::After(wait) => waits.push(wait),
                Poll::Ended(ended) => panic!("{ended:?}"),
            }
        }
        let waits: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
    }

    // E23
    #[test]
    fn a_session_is_given_up_only_when_it_stands_still() {
        let seconds = Duration::from_secs;
        let mut polls = Polls::begin(seconds(60), seconds(100));
        for (state, now) in [("WAITING", 159), ("ADDING", 215), ("SAVING", 274), ("ADDING", 333)] {
            assert!(matches!(polls.answered(at(state), seconds(now)), Poll::After(_)), "{state} at {now}");
        }
        assert!(matches!(polls.answered(at("ADDING"), seconds(392)), Poll::After(_)));
        assert!(matches!(polls.answered(at("ADDING"), seconds(393)), Poll::Ended(Err(Fault::Protocol(_)))));
    }

    #[test]
    fn a_session_ends_with_what_it_says() {
        let mut polls = Polls::begin(Duration::ZERO, Duration::ZERO);
        let done = polls.answered(Progress::Done(Listing::default()), Duration::from_secs(9));
        assert_eq!(done, Poll::Ended(Ok(Listing::default())));
        let failed = polls.answered(Progress::Error("no room".into()), Duration::ZERO);
        assert_eq!(failed, Poll::Ended(Err(Fault::Protocol("the session failed: no room".into()))));
    }

    // E22
    #[test]
    fn files_that_may_have_arrived_are_unsure_whatever_is_answered_later() {
        let failure = |fault: &Fault, stage| SessionFailure { fault: fault.clone(), stage };
        let refused = Fault::Refused { status: 413, message: String::new() };
        for fault in
            [Fault::Busy { status: 429, after: None }, Fault::Quota(403), Fault::Credentials("c".into()), refused]
        {
            assert!(!failure(&fault, Stage::Sending).is_unsure(), "{fault:?}");
            assert!(failure(&fault, Stage::Waiting).is_unsure(), "{fault:?}");
        }
        for fault in [Fault::Unreachable("reset".into()), Fault::ServerError(500), Fault::Protocol("odd".into())] {
            assert!(!failure(&fault, Stage::Opening).is_unsure(), "{fault:?}");
            assert!(failure(&fault, Stage::Sending).is_unsure(), "{fault:?}");
        }
    }

    #[test]
    fn only_the_opening_tells_of_a_service_without_sessions_and_only_the_sending_of_files() {
        for stage in [Stage::Opening, Stage::Sending, Stage::Waiting] {
            let failure = |fault| SessionFailure { fault, stage };
            let is_opening = stage == Stage::Opening;
            assert_eq!(failure(Fault::ServerError(404)).is_for_lack_of_sessions(), is_opening);
            assert_eq!(failure(Fault::ServerError(405)).is_for_lack_of_sessions(), is_opening);
            assert!(!failure(Fault::ServerError(500)).is_for_lack_of_sessions());
            let refused = Fault::Refused { status: 422, message: String::new() };
            assert_eq!(failure(refused).is_about_the_files(), stage == Stage::Sending);
        }
    }
}
