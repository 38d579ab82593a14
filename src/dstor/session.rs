//! An upload session from its opening to its end: what a failure on the way means, when one asks how far it is, and how
//! often.

use std::time::Duration;

use super::wire::{Listing, Progress};
use crate::mirror::Fault;

/// No wait before asking is shorter. Small files are stored long before public clients ask.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);
/// However long the way to dStor takes, no session waits for longer than this on its account.
const LONGEST_FOR_A_TRIP: Duration = Duration::from_millis(100);
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

/// How long sessions take, by what was seen of them: so that most have to be asked about only once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Habit {
    /// For each of what [`load`] counts.
    a_unit: Duration,
}

/// What a session has to do: each file is something, and so are so many bytes.
fn load(files: usize, bytes: u64) -> u32 {
    u32::try_from((files as u64).saturating_add(bytes / (64 * 1024))).unwrap_or(u32::MAX).max(1)
}

impl Default for Habit {
    /// By what a service with nothing else to do takes for files of some KiB.
    fn default() -> Self {
        Self { a_unit: Duration::from_micros(50) }
    }
}

impl Habit {
    /// When to ask first about a session with so many files and bytes in it: a little later than that usually takes. One
    /// that is asked about too early costs another `round_trip`, so waiting for half of one is always worth it.
    #[must_use]
    pub fn first_wait(self, files: usize, bytes: u64, round_trip: Duration) -> Duration {
        let usual = self.a_unit.saturating_mul(load(files, bytes));
        let wait = usual.saturating_add(usual / 8).max((round_trip / 2).min(LONGEST_FOR_A_TRIP));
        wait.clamp(SHORTEST_WAIT, LONGEST_WAIT)
    }

    /// Such a session was done when it was asked about for the `asked`th time, after waits of so long in all. One that was
    /// done the first time may have been long before.
    pub fn learn(&mut self, files: usize, bytes: u64, waited: Duration, asked: u32) {
        let waited = waited.min(LONGEST_WAIT) / load(files, bytes);
        self.a_unit = if asked > 1 { self.a_unit.max(waited) } else { self.a_unit * 15 / 16 };
    }
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
    /// back. It is asked about after `first_wait`.
    ///
    /// # Errors
    /// dStor has not got them, as far as anyone can say.
    pub fn answered(
        self,
        answer: Result<(), Fault>,
        now: Duration,
        first_wait: Duration,
    ) -> Result<Waits, SessionFailure> {
        answer.map_err(at(Stage::Sending))?;
        Ok(Waits { polls: Polls::begin(self.patience, now), wait: first_wait })
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
        let Self { mut polls, wait: _ } = self;
        match answer.and_then(|progress| polls.answered(progress, self.wait, now)) {
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
    /// How often it was not done yet.
    undone: u32,
    state: Option<String>,
    moved_at: Duration,
}

impl Polls {
    fn begin(patience: Duration, now: Duration) -> Self {
        Self { patience, undone: 0, state: None, moved_at: now }
    }

    /// dStor answered so at `now`, after a wait of `waited`.
    fn answered(&mut self, progress: Progress, waited: Duration, now: Duration) -> Result<Poll, Fault> {
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
        self.undone = self.undone.saturating_add(1);
        // The first wait was about as long as it takes: only a little is missing.
        let next = if self.undone == 1 { waited / 2 } else { waited * 2 };
        Ok(Poll::After(next.clamp(SHORTEST_WAIT, LONGEST_WAIT)))
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
        let first = Duration::from_millis(30);
        let (_, fills) = begin(Duration::from_secs(60)).answered(Ok("token")).expect("opened");
        let mut session = fills.answered(Ok(()), Duration::ZERO, first).expect("sent");
        let mut waits = vec![session.wait()];
        for _ in 0..9 {
            match session.answered(Ok(state("ADDING_TO_IPFS")), Duration::ZERO) {
                Asked::Again(next) => session = next,
                Asked::Ended(ended) => panic!("{ended:?}"),
            }
            waits.push(session.wait());
        }
        let waits: Vec<u128> = waits.iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [30, 15, 30, 60, 120, 240, 480, 960, 1920, 2000]);
    }

    #[test]
    fn a_habit_is_learnt_from_sessions_that_took_longer_and_forgotten_slowly() {
        let millis = Duration::from_millis;
        let mut habit = Habit::default();
        let wait = |habit: Habit, files, bytes| habit.first_wait(files, bytes, Duration::ZERO);
        assert_eq!([1, 500].map(|files| wait(habit, files, 0)), [SHORTEST_WAIT, Duration::from_micros(28_125)]);
        // What took longer than was thought is waited for from then on, in its proportion.
        habit.learn(100, 0, millis(80), 3);
        assert_eq!([100, 50, 1].map(|files| wait(habit, files, 0)), [millis(90), millis(45), SHORTEST_WAIT]);
        // One that took less, and was asked about twice for all that, makes it no shorter.
        habit.learn(100, 0, millis(40), 2);
        assert_eq!(wait(habit, 100, 0), millis(90));
        // Bytes take their time as well.
        assert_eq!(wait(habit, 2, 48 * 65_536), millis(45));
        let mut waits = Vec::new();
        for _ in 0..60 {
            habit.learn(100, 0, wait(habit, 100, 0), 1);
            waits.push(wait(habit, 100, 0));
        }
        assert!(waits.is_sorted_by(|one, next| one >= next) && waits[59] == SHORTEST_WAIT, "{waits:?}");
        assert!(waits[10] > millis(40), "forgotten too fast: {waits:?}");
        habit.learn(1, 0, Duration::from_secs(3600), 9);
        assert_eq!(wait(habit, usize::MAX, u64::MAX), LONGEST_WAIT);
    }

    #[test]
    fn where_the_way_is_long_one_asks_no_earlier_than_after_half_of_it() {
        let millis = Duration::from_millis;
        let wait = |round_trip| Habit::default().first_wait(1, 0, round_trip);
        assert_eq!([1, 60, 150].map(|trip| wait(millis(trip))), [SHORTEST_WAIT, millis(30), millis(75)]);
        assert_eq!(wait(Duration::from_secs(60)), LONGEST_FOR_A_TRIP, "what was slow may have been no trip at all");
    }

    // E23
    #[test]
    fn a_session_is_given_up_only_when_it_stands_still() {
        let seconds = Duration::from_secs;
        let mut polls = Polls::begin(seconds(60), seconds(100));
        for (name, now) in [("WAITING", 159), ("ADDING", 215), ("SAVING", 274), ("ADDING", 333)] {
            assert!(
                matches!(polls.answered(state(name), seconds(1), seconds(now)), Ok(Poll::After(_))),
                "{name} at {now}"
            );
        }
        assert!(matches!(polls.answered(state("ADDING"), seconds(1), seconds(392)), Ok(Poll::After(_))));
        assert!(matches!(polls.answered(state("ADDING"), seconds(1), seconds(393)), Err(Fault::Protocol(_))));
    }

    #[test]
    fn a_session_ends_with_what_it_says() {
        let mut polls = Polls::begin(Duration::ZERO, Duration::ZERO);
        let done = polls.answered(Progress::Done(Listing::default()), Duration::ZERO, Duration::from_secs(9));
        assert_eq!(done, Ok(Poll::Done(Listing::default())));
        let failed = polls.answered(Progress::Error("no room".into()), Duration::ZERO, Duration::ZERO);
        assert_eq!(failed, Err(Fault::Protocol("the session failed: no room".into())));
    }

    #[test]
    fn a_failure_knows_where_in_the_session_it_was() {
        let broken = || Fault::Unreachable("reset".into());
        let stage = |failure: SessionFailure| failure.stage;
        let opens = || begin(Duration::from_secs(60));
        assert_eq!(opens().answered::<()>(Err(broken())).map_err(stage).err(), Some(Stage::Opening));
        let fills = || opens().answered(Ok(())).expect("opened").1;
        assert_eq!(
            fills().answered(Err(broken()), Duration::ZERO, SHORTEST_WAIT).map_err(stage).err(),
            Some(Stage::Sending)
        );
        match fills()
            .answered(Ok(()), Duration::ZERO, SHORTEST_WAIT)
            .expect("sent")
            .answered(Err(broken()), Duration::ZERO)
        {
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
