//! One change from claim to settlement: what to look at, what to send, and how it ends.
//!
//! Decisions only. There is no disk, network, clock, chance or waiting here: a worker brings what it saw and does what
//! comes out, and so can whoever plays the worker by a seed.

mod failure;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use failure::{Failure, GateWord, Sent};

use super::ReconcileError;
use super::queue::WHILE_FULL;
use super::reconcile::quiet_in;
use crate::ledger::{Claim, HELD, Ledger, LedgerError, Millis, Settlement, Stored};
use crate::local::{Content, Look, ReadError, ScanSummary};
use crate::mirror::{
    Backoff, Cid, Decision, Digest, EMPTIED, Fault, Kind, NONSENSE, Observed, Placement, Policy, Scope, Skip, Stat,
    State, Timestamp, Verdict, decide, is_emptied,
};

/// A file read in the tick in which it changed is compared again after this: longer than any file system's tick.
const COMPARE_AGAIN: Duration = Duration::from_secs(2);
/// The first back-off of a single file.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A change whose mirror is back although it could not be seen a moment ago is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Writes of one save are rarely further apart than this.
const BETWEEN_WRITES: Duration = Duration::from_millis(200);
/// A file that is being written to is looked at again at least this often.
const MOVED_RETRY: Duration = Duration::from_secs(30);

/// How long changes wait, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Quiet time before a changed file is read.
    pub settle: Duration,
    /// A file that never goes quiet is read anyway after this.
    pub max_delay: Duration,
    /// No back-off is longer.
    pub retry_max_delay: Duration,
}

/// What happened to a change, for those who watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Happened {
    /// dStor stored it.
    Stored {
        /// Its hash there.
        hash: Cid,
        /// Bytes that were sent.
        bytes: u64,
    },
    /// Its bytes were those that dStor holds.
    Refreshed,
    /// It is no longer here.
    Gone,
    /// It is left out.
    Skipped(Skip),
    /// It is given up.
    Failed(String),
    /// It waits: why, and how long.
    Postponed(String, Duration),
}

/// A file that is to be compared or sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToSend {
    /// The version that was looked at, and no other.
    pub stat: Stat,
    /// Its permission bits.
    pub mode: u32,
    /// Its name on dStor.
    pub name: String,
    /// Its directory on dStor.
    pub placement: Placement,
    /// Whether its first bytes are looked at before any is sent: see [`Guard`](crate::mirror::Guard).
    pub is_guarded: bool,
}

/// What the work on a change needs next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Ask whether the ledger knows anything below the path that is not gone. If it does, this is the end of the change;
    /// if not, the ledger says it already.
    IfKnownBelow(Ending),
    /// Walk the directory, and say how that went to [`Errand::descended`].
    Descend,
    /// Hash the file, and say what came out to [`Errand::compared`].
    Compare(ToSend, Digest),
    /// Send the file, and say how that went to [`Errand::sent`].
    Send(ToSend),
    /// Nothing more.
    End(Ending),
}

/// How the work on a change ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// In the ledger's words; with a time, the path is looked at once more after that.
    Settled(Settlement, Option<Duration>, Option<Happened>),
    /// Its file is not quiet yet: put back for so long.
    Deferred(Duration),
    /// Its mirror is not there: put back until it is.
    Held,
    /// Still empty, like many others: put back, with the reason that it has.
    StillEmptied,
    /// Put back after a failure.
    Postponed {
        /// A fixed word.
        code: &'static str,
        /// For a person.
        message: String,
        /// Whether dStor may hold what was sent all the same, or come to hold it.
        is_unsure: bool,
        /// The digest of the bytes that it may hold, if that is known.
        whole: Option<Digest>,
        /// See [`Claim::breaks`].
        breaks: u32,
        /// Not before then.
        wait: Duration,
    },
}

/// The work on one claimed change.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    claim: &'a Claim,
    policy: &'a Policy,
    patience: &'a Patience,
}

impl<'a> Errand<'a> {
    /// The work on `claim`, a change of a mirror with this policy.
    #[must_use]
    pub fn new(claim: &'a Claim, policy: &'a Policy, patience: &'a Patience) -> Self {
        Self { claim, policy, patience }
    }

    /// The path was looked at, and rules say whether it belongs to the mirror. `now` is the time of day.
    #[must_use]
    pub fn looked(&self, look: &Look, is_included: bool, now: Millis) -> Next {
        let end = |settlement, happened| Next::End(Ending::Settled(settlement, None, happened));
        if !is_included {
            return end(Settlement::Ignored, None);
        }
        if self.claim.path.is_top() {
            return end(Settlement::Nothing, None);
        }
        let (Look { observed, mode }, recorded) = (*look, self.claim.recorded.as_ref());
        let admitted = match observed {
            Observed::File(stat) => {
                let admitted = self.policy.admit(stat.size, &self.claim.path);
                admitted.and_then(|()| self.policy.guard.admit(&self.claim.path, &stat, recorded))
            }
            Observed::Missing | Observed::Directory | Observed::Other(..) => Ok(()),
        };
        let mut decision = decide(&observed, recorded, admitted);
        if self.claim.code.as_deref() == Some(EMPTIED) && is_emptied(&observed, recorded) {
            return Next::End(Ending::StillEmptied);
        }
        let is_stored = recorded.is_some_and(|row| row.state == State::Stored);
        let is_as_stored = is_stored && matches!((decision, observed), (Decision::Nothing, Observed::File(_)));
        match admitted {
            // It would go out in the open if its bytes are other ones.
            Err(skip) if is_as_stored && (self.claim.is_heard || self.claim.is_unsure) => {
                decision = Decision::Skip(skip)
            }
            Err(_) => {}
            Ok(()) => {
                if self.claim.is_heard {
                    decision = decision.after_event(&observed, recorded);
                }
                // An upload of this path ended without word: dStor may hold what was sent then, though what is here now is
                // just what was stored before that. A directory that is moved away and back does it.
                if self.claim.is_unsure && is_as_stored {
                    decision = Decision::Upload;
                }
            }
        }
        match (decision, observed) {
            // A directory that is gone has no row of its own, but its files have. So have those of one that a file took
            // the place of.
            (Decision::Nothing, Observed::Missing) => {
                Next::IfKnownBelow(Ending::Settled(Settlement::Gone, None, Some(Happened::Gone)))
            }
            // What a mount hides is not gone.
            (Decision::Nothing, Observed::Other(Kind::Mount, _) | Observed::Directory) => {
                end(Settlement::Nothing, None)
            }
            (Decision::Nothing, Observed::File(_) | Observed::Other(..)) => {
                Next::IfKnownBelow(Ending::Settled(Settlement::NothingBelow, None, None))
            }
            (Decision::Gone, _) => end(Settlement::Gone, Some(Happened::Gone)),
            (Decision::Skip(skip), Observed::File(stat) | Observed::Other(_, stat)) => {
                end(Settlement::Skipped(stat, mode, skip), Some(Happened::Skipped(skip)))
            }
            (Decision::Descend, _) => Next::Descend,
            (Decision::Compare(_) | Decision::Upload, Observed::File(stat)) => {
                if let Some(wait) = self.not_quiet(&stat, now) {
                    return Next::End(Ending::Deferred(wait));
                }
                let Ok((name, placement)) = self.policy.place(&self.claim.path) else {
                    // The policy admits no such file.
                    return end(Settlement::Nothing, None);
                };
                let is_guarded = self.policy.guard.looks_at(&self.claim.path, recorded);
                let file = ToSend { stat, mode, name, placement, is_guarded };
                match decision {
                    // Where dStor may hold another version than is recorded, only sending it again makes sure.
                    Decision::Compare(digest) if !self.claim.is_unsure => Next::Compare(file, digest),
                    _ => Next::Send(file),
                }
            }
            // Only files are sent and only what was seen is skipped.
            (Decision::Skip(_) | Decision::Compare(_) | Decision::Upload, _) => end(Settlement::Nothing, None),
        }
    }

    /// The directory was walked.
    ///
    /// # Errors
    /// Why it could not be; a failure of the ledger is the caller's.
    pub fn descended(
        &self,
        walked: Result<ScanSummary, ReconcileError>,
    ) -> Result<Result<Ending, Failure>, LedgerError> {
        Ok(match walked {
            Ok(_) => Ok(Ending::Settled(Settlement::Descended, None, None)),
            // It is walked again when there is room (D2).
            Err(ReconcileError::Ledger(LedgerError::Full)) => Ok(Ending::Deferred(WHILE_FULL)),
            Err(ReconcileError::Ledger(error)) => return Err(error),
            Err(ReconcileError::Root(_)) => Err(Fault::RootMissing.into()),
            Err(ReconcileError::Unreadable(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Fault::Moved.into())
            }
            Err(ReconcileError::Unreadable(error)) => Err(Fault::Unreadable(words(&error)).into()),
            Err(ReconcileError::Stopped) => Ok(Ending::Deferred(Duration::ZERO)),
        })
    }

    /// The file was hashed, beginning at `read_from`, to see whether its bytes are the ones with the digest `known`.
    ///
    /// # Errors
    /// Why it could not be read.
    pub fn compared(
        &self,
        file: ToSend,
        known: Digest,
        read: Result<Content, ReadError>,
        read_from: Timestamp,
    ) -> Result<Next, Failure> {
        let content = read.map_err(fault_of_read)?;
        if content.digest != known || self.claim.recorded.is_none() {
            return Ok(Next::Send(file));
        }
        let (stat, again) = as_recorded(file.stat, read_from);
        let refreshed = Settlement::Refreshed(stat, file.mode);
        Ok(Next::End(Ending::Settled(refreshed, again, Some(Happened::Refreshed))))
    }

    /// The file was sent, read from `read_from` on, and dStor answered at `at`. `read`: what was read of it; `None` if it
    /// was not opened.
    ///
    /// # Errors
    /// What went wrong, here or there.
    pub fn sent(
        &self,
        file: &ToSend,
        answer: Result<Cid, Fault>,
        read: Option<Result<Content, ReadError>>,
        read_from: Timestamp,
        at: Millis,
    ) -> Result<Ending, Failure> {
        let (stat, again) = as_recorded(file.stat, read_from);
        let (hash, content) = match (answer, read) {
            (_, Some(Err(ReadError::Secret(sign)))) => {
                let skip = Skip::Secret(sign);
                let settled = Settlement::Skipped(stat, file.mode, skip);
                return Ok(Ending::Settled(settled, again, Some(Happened::Skipped(skip))));
            }
            // What went wrong on this side is why the request broke.
            (_, Some(Err(error @ (ReadError::Moved | ReadError::Io(_))))) => return Err(fault_of_read(error).into()),
            (Ok(hash), Some(Ok(content))) => (hash, content),
            (Ok(_), _) => return Err(Fault::Protocol("it came before the whole file was sent".into()).into()),
            // The version that was sent is the one that was refused: a newer one has its own try.
            (Err(fault), read) => {
                let whole = read.and_then(Result::ok).map(|content| content.digest);
                let is_unsure = fault.is_unsure() && whole.is_some();
                let sent = Some(Box::new(Sent { stat, mode: file.mode, again }));
                return Err(Failure { fault, sent, is_unsure, whole });
            }
        };
        let is_proved = content.cid.as_ref() == Some(&hash);
        let Content { digest, sealed, cid: _ } = content;
        let bytes = sealed.map_or(stat.size, |sealed| sealed.size);
        let happened = Happened::Stored { hash: hash.clone(), bytes };
        let is_name_hidden = !self.policy.names.are_plain();
        let stored = Stored { stat, mode: file.mode, digest, sealed, hash, is_name_hidden, is_proved, at };
        Ok(Ending::Settled(Settlement::Stored(stored), again, Some(happened)))
    }

    /// Something failed: the change sleeps, or is given up. `chance` from 0.0 to 1.0 spreads what wakes together.
    #[must_use]
    pub fn failed(&self, failure: Failure, gate: GateWord, chance: f64) -> Ending {
        let is_its_own = failure.sent.is_some() && failure.is_its_own(gate);
        let Failure { fault, sent, is_unsure, whole } = failure;
        let attempts = self.claim.attempts.saturating_add(1);
        let is_nonsense = matches!(fault, Fault::Protocol(_));
        let breaks = self.breaks(is_nonsense).saturating_add((is_its_own || is_nonsense).into());
        let message = fault.message();
        let asked = match (fault.verdict(breaks), sent) {
            (Verdict::Park, Some(sent)) => {
                let Sent { stat, mode, again } = *sent;
                let message = fault.parting_message(breaks);
                let failed = Settlement::Failed { stat, mode, code: fault.code(), message: message.clone() };
                return Ending::Settled(failed, again, Some(Happened::Failed(message)));
            }
            (Verdict::Retry(asked), _) => asked,
            (Verdict::Park, None) => None,
        };
        let longest = match fault {
            Fault::RootMissing => return Ending::Held,
            Fault::Moved => MOVED_RETRY,
            _ => self.patience.retry_max_delay,
        };
        let own = Backoff { first: FIRST_RETRY, longest }.delay(attempts, chance);
        let wait = match fault.scope() {
            // Each try may cost most of a large file: they become rare soon.
            Scope::Account if is_its_own => {
                let rare = Backoff { first: FIRST_RETRY, longest }.delay(2 * breaks - 1, chance);
                gate.closed_for.unwrap_or(rare).max(rare)
            }
            // This file meets it more often than all of them together: it has a part in it, and sleeps by itself as well.
            Scope::Account if attempts > gate.failures => gate.closed_for.unwrap_or(own).max(own),
            // The gate does the waiting: when it opens, this file is no later than others.
            Scope::Account => gate.closed_for.unwrap_or(own),
            Scope::Path => asked.unwrap_or(own),
        };
        Ending::Postponed { code: fault.code(), message, is_unsure, whole, breaks, wait }
    }

    /// The work itself broke off by a fault of ours.
    #[must_use]
    pub fn broke(&self) -> Ending {
        let longest = self.patience.retry_max_delay;
        Ending::Postponed {
            code: "internal",
            message: "a fault in dstor-sync itself; its log says where".into(),
            is_unsure: true,
            whole: None,
            breaks: self.breaks(false),
            wait: Backoff { first: FIRST_RETRY, longest }.delay(self.claim.attempts.saturating_add(1), 1.0),
        }
    }

    /// What a failure adds to. Answers without sense count in a row: whatever comes between them begins anew.
    fn breaks(&self, is_nonsense: bool) -> u32 {
        let was_nonsense = self.claim.code.as_deref() == Some(NONSENSE);
        if was_nonsense == is_nonsense { self.claim.breaks } else { 0 }
    }

    /// How long to wait until the file is quiet; `None` if it is, or was waited for long enough.
    fn not_quiet(&self, stat: &Stat, now: Millis) -> Option<Duration> {
        let Patience { settle, max_delay, .. } = *self.patience;
        let waited = Duration::from_millis(u64::try_from(now.saturating_sub(self.claim.since)).unwrap_or(0));
        let wanted = match waited {
            waited if waited < max_delay => settle,
            // It never goes quiet, and is read all the same; but not between two writes of one save, if that can be helped.
            waited if waited < max_delay * 2 => settle.min(BETWEEN_WRITES),
            _ => Duration::ZERO,
        };
        let wait = quiet_in(stat, now, wanted);
        (wait > 0).then(|| Duration::from_millis(wait.unsigned_abs()))
    }
}

impl Ending {
    /// Whether dStor stored the file.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Settled(Settlement::Stored(_), ..))
    }

    /// Writes this end of `claim` into the ledger. `is_back` is asked only where the change is held, and in the same
    /// transaction: whoever believes in the directory again releases what is held after that, so a change is either held
    /// before it is released, or not held at all.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn record(
        &self,
        ledger: &Ledger,
        claim: &Claim,
        is_back: impl FnOnce() -> bool,
        now: Millis,
    ) -> Result<(), LedgerError> {
        match self {
            Self::Settled(settlement, again, _) => {
                ledger.settle(claim, settlement, again.map(|after| after_now(now, after)), now)
            }
            Self::Deferred(wait) => ledger.defer(claim, after_now(now, *wait)),
            Self::Held => ledger.defer(claim, if is_back() { after_now(now, LOOK_AGAIN) } else { HELD }),
            Self::StillEmptied => ledger.defer(claim, HELD),
            Self::Postponed { code, message, is_unsure, whole, breaks, wait } => {
                if *is_unsure {
                    ledger.may_straggle(claim, *whole)?;
                }
                if *breaks != claim.breaks {
                    ledger.note_breaks(claim, *breaks)?;
                }
                ledger.postpone(claim, code, message, *is_unsure, after_now(now, *wait))
            }
        }
    }

    /// The ledger says it already.
    #[must_use]
    pub fn nothing() -> Self {
        Self::Settled(Settlement::Nothing, None, None)
    }

    /// What a watcher is told of it, if anything.
    #[must_use]
    pub fn happened(&self) -> Option<Happened> {
        match self {
            Self::Settled(_, _, happened) => happened.clone(),
            Self::Postponed { message, wait, .. } => Some(Happened::Postponed(message.clone(), *wait)),
            Self::Deferred(_) | Self::Held | Self::StillEmptied => None,
        }
    }
}

/// What is recorded of a version read from `read_from` on, and when it has to be looked at once more.
fn as_recorded(stat: Stat, read_from: Timestamp) -> (Stat, Option<Duration>) {
    if stat.is_racy(read_from) { (stat.to_be_compared(), Some(COMPARE_AGAIN)) } else { (stat, None) }
}

fn after_now(now: Millis, wait: Duration) -> Millis {
    now.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX / 2))
}

fn fault_of_read(error: ReadError) -> Fault {
    match error {
        // Nobody looks for one where nothing is sent.
        ReadError::Moved | ReadError::Secret(_) => Fault::Moved,
        ReadError::Io(error) => Fault::Unreadable(words(&error)),
        ReadError::Abandoned => Fault::Unreachable("the connection broke".into()),
    }
}

/// What an I/O error says, without the number that only programmers know.
pub(super) fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    let mut letters = plain.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
