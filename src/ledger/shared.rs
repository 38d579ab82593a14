//! One thread owns the ledger; async code sends it work. What arrives together is committed together.

use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Ledger, LedgerError};
use crate::local::Identity;

/// At most so many jobs go into one commit: a commit that fails takes all of them back.
const LARGEST_GROUP: usize = 256;

/// After so long without work the pages that SQLite keeps in memory are given back: an agent is at rest nearly always.
const REST: Duration = Duration::from_secs(1);

/// Runs a piece of work inside the open transaction, if there is one, and returns what to do once it is known whether
/// that was committed.
type Job = Box<dyn FnOnce(Result<&Ledger, LedgerError>) -> (Outcome, Reply) + Send>;
type Reply = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;

enum Work {
    Job(Job),
    /// No transaction may be open while the WAL is folded in.
    Fold(oneshot::Sender<Result<(), LedgerError>>),
}

enum Outcome {
    Keep,
    /// With the reason, for those whose work is lost with it.
    TakeBack(LedgerError),
}

/// A handle to the thread that owns the ledger. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct SharedLedger {
    jobs: mpsc::Sender<Work>,
}

impl SharedLedger {
    /// Gives `ledger` to a thread of its own.
    ///
    /// # Errors
    /// If the system gives no thread, or the ledger's file is not there.
    pub fn new(ledger: Ledger) -> Result<Self, LedgerError> {
        let opened_as = Identity::of_path(&ledger.path).map_err(|_| LedgerError::Replaced(ledger.path.clone()))?;
        let (jobs, inbox) = mpsc::channel();
        thread::Builder::new()
            .name("ledger".into())
            .spawn(move || serve(ledger, opened_as, &inbox))
            .map_err(|_| LedgerError::Closed)?;
        Ok(Self { jobs })
    }

    /// Opens the ledger at `path` and gives it to a thread of its own.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        Self::new(Ledger::open(path)?)
    }

    /// Runs `work` on the ledger in a transaction, and returns when that is committed. What an error left half done is
    /// taken back. Once sent, the work is done even if nobody waits for it any more.
    ///
    /// # Errors
    /// That of `work`, or of the commit.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.send(work)?.await.map_err(|_| LedgerError::Closed)?
    }

    /// Blocking: as [`with`](Self::with), for threads that are not the runtime's.
    ///
    /// # Errors
    /// As [`with`](Self::with).
    pub fn with_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.send(work)?.blocking_recv().map_err(|_| LedgerError::Closed)?
    }

    /// Folds everything into the ledger's one file and waits until that is done; for the end of a run.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn fold(&self) -> Result<(), LedgerError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Work::Fold(answer)).map_err(|_| LedgerError::Closed)?;
        answered.await.map_err(|_| LedgerError::Closed)?
    }

    fn send<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, LedgerError>>, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |ledger| {
            let result = ledger.and_then(work);
            let outcome = result.as_ref().map_or_else(|error| Outcome::TakeBack(error.again()), |_| Outcome::Keep);
            let reply: Reply = Box::new(move |committed| {
                // Nobody waiting is fine: the work is done all the same.
                let _ = answer.send(result.and_then(|value| committed.map(|()| value)));
            });
            (outcome, reply)
        });
        self.jobs.send(Work::Job(job)).map_err(|_| LedgerError::Closed)?;
        Ok(answered)
    }
}

fn serve(ledger: Ledger, opened_as: Identity, inbox: &mpsc::Receiver<Work>) {
    let mut after: Option<Work> = None;
    let mut at_rest = ledger.db.total_changes();
    while let Some(work) = after.take().or_else(|| next(&ledger, inbox, &mut at_rest)) {
        match work {
            Work::Fold(answer) => {
                let folded = ledger.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(LedgerError::from);
                let _ = answer.send(folded);
            }
            Work::Job(first) => {
                let mut replies = Vec::new();
                let (committed, other) = commit_group(&ledger, opened_as, first, inbox, &mut replies);
                after = other;
                for reply in replies {
                    reply(committed.as_ref().copied().map_err(LedgerError::again));
                }
            }
        }
    }
}

/// The next work; `None`: there will be none. `at_rest`: how many rows were ever written when it rested last.
fn next(ledger: &Ledger, inbox: &mpsc::Receiver<Work>, at_rest: &mut u64) -> Option<Work> {
    // Who only asks every few seconds leaves little behind, and wakes nobody a second time.
    if ledger.db.total_changes() == *at_rest {
        return inbox.recv().ok();
    }
    match inbox.recv_timeout(REST) {
        Ok(work) => Some(work),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            // If it cannot, they stay.
            let _ = ledger.db.execute_batch("PRAGMA shrink_memory");
            *at_rest = ledger.db.total_changes();
            inbox.recv().ok()
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => None,
    }
}

/// Runs `first` and the jobs that wait behind it as one transaction. Returns also what waits and is no job.
fn commit_group(
    ledger: &Ledger,
    opened_as: Identity,
    first: Job,
    inbox: &mpsc::Receiver<Work>,
    replies: &mut Vec<Reply>,
) -> (Result<(), LedgerError>, Option<Work>) {
    let mut group = Group::begin(ledger, opened_as);
    let mut next = Some(first);
    while let Some(job) = next.take() {
        replies.push(group.run(job));
        if replies.len() < LARGEST_GROUP {
            match inbox.try_recv() {
                Ok(Work::Job(job)) => next = Some(job),
                Ok(other) => return (group.commit(), Some(other)),
                Err(_) => {}
            }
        }
    }
    (group.commit(), None)
}

/// An open transaction, or why there is none (any more).
struct Group<'a> {
    ledger: &'a Ledger,
    open: Result<(), LedgerError>,
    /// Whether there is work in it that has to stay when a later job is taken back.
    holds_work: bool,
}

impl<'a> Group<'a> {
    fn begin(ledger: &'a Ledger, opened_as: Identity) -> Self {
        // Writes to a file that was deleted under us would "succeed" (D11).
        let open = ledger.still_in_place(opened_as).and_then(|()| Ok(ledger.db.execute_batch("BEGIN IMMEDIATE")?));
        Self { ledger, open, holds_work: false }
    }

    /// The first job needs no savepoint, as there is nothing yet that must not be taken back with it. It is often a large
    /// one, and within a savepoint SQLite keeps a copy of each page that any of its statements changes, until its end.
    fn run(&mut self, job: Job) -> Reply {
        let (begin, keep, take_back) = match self.holds_work {
            true => ("SAVEPOINT job", "RELEASE job", "ROLLBACK TO job; RELEASE job"),
            false => ("", "", "ROLLBACK; BEGIN IMMEDIATE"),
        };
        if self.open.is_ok() {
            self.step(begin);
        }
        let (outcome, reply) = job(self.open.as_ref().map(|()| self.ledger).map_err(LedgerError::again));
        if self.open.is_ok() {
            match outcome {
                Outcome::Keep => {
                    self.holds_work = true;
                    self.step(keep);
                }
                // A full disk can take back the whole transaction, with all that others did in it.
                Outcome::TakeBack(error) if self.ledger.db.is_autocommit() => self.open = Err(error),
                Outcome::TakeBack(_) => {
                    self.ledger.forget_cached();
                    self.step(take_back);
                }
            }
        }
        reply
    }

    fn commit(mut self) -> Result<(), LedgerError> {
        if self.open.is_ok() {
            self.step("COMMIT");
        }
        if self.open.is_err() && !self.ledger.db.is_autocommit() {
            // Nothing more can be done about a transaction that cannot even be taken back: the next one will say so.
            let _ = self.ledger.db.execute_batch("ROLLBACK");
        }
        if self.open.is_err() {
            self.ledger.forget_cached();
        }
        self.open
    }

    fn step(&mut self, sql: &str) {
        if let Err(error) = self.ledger.db.execute_batch(sql) {
            self.open = Err(error.into());
        }
    }
}
