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

/// A session that is to be opened. Each step gives what the next one needs, so that a failure always knows where it was.
#[must_use = "a session is gone through to its end"]
#[derive(PartialEq, Eq, Debug)]
pub struct Opens {
    patience: Duration,
}

/// One whose files are to be sent.
#[must_use = "a session is gone through to its end"]
#[derive(PartialEq, Eq, Debug)]
pub struct Fills {
    patience: Duration,
}

/// One whose files dStor has: it is to be asked how far it is.
#[must_use = "a session is gone through to its end"]
#[derive(PartialEq, Eq, Debug)]
pub struct Waits {
    polls: Polls,
    wait: Duration,
}

/// What follows from an answer to who asked how far a session is.
#[derive(PartialEq, Eq, Debug)]
pub enum Asked {
    /// Ask again.
    Again(Waits),
    /// It has ended.
    Ended(Result<Listing, SessionFailure>),
}

/// The first step of a session that is given up when it shows no progress for `patience`.
pub fn begin(patience: Duration) -> Opens {
    Opens { patience }
}

impl Opens {
    /// dStor was asked for a session, and gave an upload token, or did not.
    ///
    /// # Errors
    /// There is no session, and nothing was sent.
    pub fn answered<T>(self, answer: Result<T, Fault>) -> Result<(T, Fills), SessionFailure> {
        let token = answer.map_err(at(Stage::Opening))?;
        Ok((token, Fills { patience: self.patience }))
    }
}

impl Fills {
    /// The files were sent, and it was answered at `now`: a duration since any fixed moment of a clock that never goes
    /// back.
    ///
    /// # Errors
    /// dStor has not got them, as far as anyone can say.
    pub fn answered(self, answer: Result<(), Fault>, now: Duration) -> Result<Waits, SessionFailure> {
        answer.map_err(at(Stage::Sending))?;
        Ok(Waits { polls: Polls::begin(self.patience, now), wait: FIRST_WAIT })
    }
}

impl Waits {
    /// How long to wait before asking.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait
    }

    /// It was asked, and answered at `now`: by the same clock as before.
    #[must_use]
    pub fn answered(self, answer: Result<Progress, Fault>, now: Duration) -> Asked {
        let Self { mut polls, .. } = self;
        match answer.and_then(|progress| polls.answered(progress, now)) {
            Ok(Poll::After(wait)) => Asked::Again(Self { polls, wait }),
            Ok(Poll::Done(listing)) => Asked::Ended(Ok(listing)),
            Err(fault) => Asked::Ended(Err(at(Stage::Waiting)(fault))),
        }
    }
}

fn at(stage: Stage) -> impl Fn(Fault) -> SessionFailure {
    move |fault| SessionFailure { fault, stage }
}

/// What to do after an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Poll {
    /// Ask again after so long.
    After(Duration),
    /// It has ended well.
    Done(Listing),
}

/// The asking how far a session is.
#[derive(PartialEq, Eq, Debug)]
struct Polls {
    patience: Duration,
    wait: Duration,
    state: Option<String>,
    moved_at: Duration,
}

impl Polls {
    fn begin(patience: Duration, now: Duration) -> Self {
        Self { patience, wait: FIRST_WAIT, state: None, moved_at: now }
    }

    /// dStor answered so at `now`.
    fn answered(&mut self, progress: Progress, now: Duration) -> Result<Poll, Fault> {
        let state = match progress {
            Progress::Done(listing) => return Ok(Poll::Done(listing)),
            Progress::Error(why) => return Err(Fault::Protocol(format!("the session failed: {why}"))),
            Progress::At(state) => Some(state),
        };
        if self.state != state {
            self.state = state;
            self.moved_at = now;
        }
        if now.saturating_sub(self.moved_at) >= self.patience {
            let state = self.state.as_deref().unwrap_or_default();
            let stays = format!("the session stays at {state} for {} s", self.patience.as_secs());
            return Err(Fault::Protocol(stays));
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(Poll::After(self.wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(state: &str) -> Progress {
        Progress::At(state.into())
    }

    #[test]
    fn one_asks_soon_and_then_less_and_less_often() {
        let (_, fills) = begin(Duration::from_secs(60)).answered(Ok("token")).expect("opened");
        let mut session = fills.answered(Ok(()), Duration::ZERO).expect("sent");
        let mut waits = vec![session.wait()];
        for _ in 0..9 {
            match session.answered(Ok(state("ADDING_TO_IPFS")), Duration::ZERO) {
                Asked::Again(next) => session = next,
                Asked::Ended(ended) => panic!("{ended:?}"),
            }
            waits.push(session.wait());
        }
        let waits: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000]);
    }

    // E23
    #[test]
    fn a_session_is_given_up_only_when_it_stands_still() {
        let seconds = Duration::from_secs;
        let mut polls = Polls::begin(seconds(60), seconds(100));
        for (name, now) in [("WAITING", 159), ("ADDING", 215), ("SAVING", 274), ("ADDING", 333)] {
            assert!(matches!(polls.answered(state(name), seconds(now)), Ok(Poll::After(_))), "{name} at {now}");
        }
        assert!(matches!(polls.answered(state("ADDING"), seconds(392)), Ok(Poll::After(_))));
        assert!(matches!(polls.answered(state("ADDING"), seconds(393)), Err(Fault::Protocol(_))));
    }

    #[test]
    fn a_session_ends_with_what_it_says() {
        let mut polls = Polls::begin(Duration::ZERO, Duration::ZERO);
        let done = polls.answered(Progress::Done(Listing::default()), Duration::from_secs(9));
        assert_eq!(done, Ok(Poll::Done(Listing::default())));
        let failed = polls.answered(Progress::Error("no room".into()), Duration::ZERO);
        assert_eq!(failed, Err(Fault::Protocol("the session failed: no room".into())));
    }

    #[test]
    fn a_failure_knows_where_in_the_session_it_was() {
        let broken = || Fault::Unreachable("reset".into());
        let stage = |failure: SessionFailure| failure.stage;
        let opens = || begin(Duration::from_secs(60));
        assert_eq!(opens().answered::<()>(Err(broken())).map_err(stage).err(), Some(Stage::Opening));
        let fills = || opens().answered(Ok(())).expect("opened").1;
        assert_eq!(fills().answered(Err(broken()), Duration::ZERO).map_err(stage).err(), Some(Stage::Sending));
        match fills().answered(Ok(()), Duration::ZERO).expect("sent").answered(Err(broken()), Duration::ZERO) {
            Asked::Ended(Err(failure)) => assert_eq!(failure.stage, Stage::Waiting),
            other => panic!("{other:?}"),
        }
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
