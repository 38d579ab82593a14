//! Files that travel together: small ones of one directory that are due at the same time, in one upload session.
//!
//! Each has its own errand, from being looked at to its own end. They are read whole before any is sent, so that one that
//! moves never spoils the session of the others. Decisions only, as in `errand`; `porter` does what comes out.

use std::ops::ControlFlow;
use std::time::Duration;

use super::errand::{Ending, Errand, Failure, GateWord, Patience, ToSend};
use crate::dstor::wire::Listing;
use crate::dstor::{SessionFailure, Stage};
use crate::ledger::{Claim, Ledger, LedgerError, Millis};
use crate::local::{Content, ReadError};
use crate::mirror::{Fault, Policy, Room, Scope, Timestamp, Ways};

/// How many others, at the least, are to be claimed to go along with a file; `None`: it goes alone. `is_probe`: whether it
/// is the one that sees, alone, whether dStor is back. `now` is a time of the ways'.
#[must_use]
pub fn fewest_others(claim: &Claim, file: &ToSend, is_probe: bool, ways: &Ways, now: Duration) -> Option<usize> {
    // Whether dStor is back is for one file to see: many would have failed together.
    if is_probe { None } else { ways.fewest_others(file.stat.size, claim.attempts, &file.placement, now) }
}

/// Takes what is due beside a change and may go along with its file of `size` bytes; nothing if there are fewer than
/// `fewest`.
///
/// # Errors
/// As SQLite says.
pub fn claim_beside(
    ledger: &Ledger,
    claim: &Claim,
    size: u64,
    fewest: usize,
    now: Millis,
) -> Result<Vec<Claim>, LedgerError> {
    let mut room = Room::whole();
    room.take(size);
    ledger.claim_beside(claim, now, fewest, |size| {
        let fits = room.take(size);
        (fits, if room.files() > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })
}

/// A file that was read whole and is not sent yet.
#[derive(Debug)]
pub struct Parcel {
    at: usize,
    file: ToSend,
    read_from: Timestamp,
    content: Content,
}

impl Parcel {
    /// Its place among the claims.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &ToSend {
        &self.file
    }
}

/// Files that go next: one by itself, or several in a session.
#[must_use = "whoever takes it says how it fared"]
#[derive(Debug)]
pub struct Heap(Vec<Parcel>);

impl Heap {
    /// They, at least one.
    #[must_use]
    pub fn parcels(&self) -> &[Parcel] {
        &self.0
    }
}

/// What follows from how a heap fared.
#[must_use]
#[derive(Debug)]
pub enum Fared {
    /// The next may go.
    Next,
    /// No other would fare better now. The gate is to hear of the fault, and its word ends the pack: [`Pack::stopped`].
    Stopped(Stopped),
}

/// A heap that failed for a reason that concerns the whole account.
#[derive(Debug)]
pub struct Stopped {
    heap: Heap,
    failure: Failure,
}

impl Stopped {
    /// What went wrong.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.failure.fault
    }
}

/// Claims of one mirror, and how the work on each ended so far.
#[derive(Debug)]
pub struct Pack {
    claims: Vec<Claim>,
    policy: Policy,
    patience: Patience,
    room: Room,
    heaps: Vec<Heap>,
    endings: Vec<Option<Ending>>,
    is_answered: bool,
}

impl Pack {
    /// The work on `first`, whose `file` is ready to be sent, and on others beside it.
    #[must_use]
    pub fn new(first: Claim, file: &ToSend, others: Vec<Claim>, policy: &Policy, patience: &Patience) -> Self {
        let claims: Vec<Claim> = std::iter::once(first).chain(others).collect();
        let mut room = Room::whole();
        room.take(file.stat.size);
        let endings = vec![None; claims.len()];
        let (policy, patience) = (policy.clone(), *patience);
        Self { claims, policy, patience, room, heaps: Vec::new(), endings, is_answered: false }
    }

    /// The claims, the first of all first. Places count from there.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The errand of the claim at a place.
    #[must_use]
    pub fn errand(&self, at: usize) -> Errand<'_> {
        Errand::new(&self.claims[at], &self.policy, &self.patience)
    }

    /// The file at a place among the others is ready to be sent. Returns whether it comes along.
    #[must_use]
    pub fn takes(&mut self, at: usize, file: &ToSend) -> bool {
        let fits = self.room.take(file.stat.size);
        if !fits {
            // Larger than it was: it has its own turn.
            self.put_back(at);
        }
        fits
    }

    /// The work on one has ended.
    pub fn end(&mut self, at: usize, ending: Ending) {
        self.endings[at] = Some(ending);
    }

    /// One has failed. `chance` from 0.0 to 1.0 spreads what wakes together.
    pub fn fail(&mut self, at: usize, failure: Failure, word: GateWord, chance: f64) {
        let ending = self.errand(at).failed(failure, word, chance);
        self.end(at, ending);
    }

    /// A file was read whole, from `read_from` on, if it was the version that was looked at: what cannot be read, or is
    /// another version by now, stays behind. `now` is the time of day.
    pub fn read(
        &mut self,
        at: usize,
        file: ToSend,
        read: Result<Content, ReadError>,
        read_from: Timestamp,
        now: Millis,
        (word, chance): (GateWord, f64),
    ) {
        let error = match read {
            Ok(content) => {
                let parcel = Parcel { at, file, read_from, content };
                return match self.heaps.first_mut() {
                    Some(Heap(parcels)) => parcels.push(parcel),
                    None => self.heaps.push(Heap(vec![parcel])),
                };
            }
            Err(error) => error,
        };
        let nothing_sent = Err(Fault::Moved);
        match self.errand(at).sent(&file, nothing_sent, Some(Err(error)), read_from, now) {
            Ok(ending) => self.end(at, ending),
            Err(failure) => self.fail(at, failure, word, chance),
        }
    }

    /// What goes next, once all are read: all together at first.
    pub fn take_next(&mut self) -> Option<Heap> {
        self.heaps.pop()
    }

    /// Several went in a session, and it ended so; `at` is the time of day. `lacks_sessions` is told where the service has
    /// none, and says whether files go by themselves from now on. `word` is what the gate says to what concerns one file.
    pub fn session_ended(
        &mut self,
        Heap(mut heap): Heap,
        ended: Result<Listing, SessionFailure>,
        at: Millis,
        lacks_sessions: impl FnOnce() -> bool,
        word: GateWord,
        mut chance: impl FnMut() -> f64,
    ) -> Fared {
        let ended = ended.and_then(|listing| {
            if heap.iter().any(|parcel| listing.hash(&parcel.file.name).is_some()) {
                return Ok(listing);
            }
            let fault = Fault::Protocol("its session has no usable hash for any file".into());
            Err(SessionFailure { fault, stage: Stage::Waiting })
        });
        match ended {
            Ok(listing) => {
                self.is_answered = true;
                for parcel in heap {
                    let place = parcel.at;
                    match self.listed(parcel, &listing, at) {
                        Ok(ending) => self.end(place, ending),
                        Err(failure) => self.fail(place, failure, word, chance()),
                    }
                }
            }
            Err(failure) if failure.is_about_the_files() => {
                let rest = heap.split_off(heap.len() / 2);
                self.heaps.extend([Heap(rest), Heap(heap)]);
            }
            Err(failure) if failure.is_for_lack_of_sessions() && lacks_sessions() => {
                self.is_answered = true;
                heap.iter().for_each(|parcel| self.put_back(parcel.at));
            }
            Err(failure) => {
                let failure = Failure { is_unsure: failure.is_unsure(), ..failure.fault.into() };
                return Fared::Stopped(Stopped { heap: Heap(heap), failure });
            }
        }
        Fared::Next
    }

    /// What a session that went well says of one of its files.
    fn listed(&self, parcel: Parcel, listing: &Listing, at: Millis) -> Result<Ending, Failure> {
        let Parcel { at: place, file, read_from, content } = parcel;
        match listing.hash(&file.name).cloned() {
            Some(hash) => self.errand(place).sent(&file, Ok(hash), Some(Ok(content)), read_from, at),
            None => Err(Fault::Session("it has no usable hash for it".into()).into()),
        }
    }

    /// One went by itself, and its errand ended so. `word` and `chance` as for what concerns one file.
    pub fn alone_ended(
        &mut self,
        heap: Heap,
        ended: Result<Ending, Failure>,
        word: GateWord,
        mut chance: impl FnMut() -> f64,
    ) -> Fared {
        match ended {
            Err(failure) if failure.fault.scope() == Scope::Account => {
                return Fared::Stopped(Stopped { heap, failure });
            }
            Ok(ending) => heap.0.iter().for_each(|parcel| self.end(parcel.at, ending.clone())),
            Err(failure) => heap.0.iter().for_each(|parcel| self.fail(parcel.at, failure.clone(), word, chance())),
        }
        self.is_answered = true;
        Fared::Next
    }

    /// The gate has heard of the fault, and this is its word.
    pub fn stopped(&mut self, stopped: Stopped, word: GateWord, mut chance: impl FnMut() -> f64) {
        let Stopped { heap: Heap(mut heap), failure } = stopped;
        // The others would fare no better now, and have not failed.
        for Heap(others) in std::mem::take(&mut self.heaps) {
            others.iter().for_each(|parcel| self.put_back(parcel.at));
        }
        let is_alone = heap.len() == 1;
        let is_over_some_time =
            matches!(failure.fault, Fault::Unreachable(_) | Fault::Busy { .. } | Fault::Credentials(_));
        if is_over_some_time && !failure.is_unsure {
            // Nothing of them was sent, and sessions have no part in it: one file is enough to tell of the trouble, and the
            // others may go together again when it is over.
            heap.drain(1..).for_each(|parcel| self.put_back(parcel.at));
        }
        for parcel in heap {
            let failure = if is_alone { failure.clone() } else { of_one(&failure, &parcel) };
            self.fail(parcel.at, failure, word, chance());
        }
    }

    /// Whether dStor answered as it should.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// How all of it ended. What has come to no end broke off by a fault of ours.
    #[must_use]
    pub fn ended(mut self) -> Vec<(Claim, Ending)> {
        let endings = std::mem::take(&mut self.endings);
        let endings: Vec<Ending> =
            (0..).zip(endings).map(|(at, ending)| ending.unwrap_or_else(|| self.errand(at).broke())).collect();
        self.claims.into_iter().zip(endings).collect()
    }

    fn put_back(&mut self, at: usize) {
        self.end(at, Ending::Deferred(Duration::ZERO));
    }
}

/// What the failure of a session of many is to one of them: it says nothing of any, and parks none.
fn of_one(failure: &Failure, parcel: &Parcel) -> Failure {
    let fault = match &failure.fault {
        Fault::Protocol(why) => Fault::Session(why.clone()),
        Fault::BrokenOff(why) => Fault::Unreachable(why.clone()),
        other => other.clone(),
    };
    Failure { fault, sent: None, is_unsure: failure.is_unsure, whole: Some(parcel.content.digest) }
}
