//! A worker: claims a change, looks, decides, uploads, settles.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::pace::Pass;
use super::reconcile::quiet_in;
use super::{Folder, Gate, Queue, ReconcileError, Reconciler, Stop};
use crate::dstor::{Client, Standing, Upload};
use crate::ledger::{Auth, Below, Claim, DstorFacts, LedgerError, MirrorId, Settlement, Stored};
use crate::local::{Content, Look, OpenRoot, ReadError, Reading, Tree as _};
use crate::mirror::{
    Backoff, Cid, Decision, Digest, Fault, Included, MirrorPath, Observed, Placement, Recorded, Scope, Skip, Stat,
    State, Verdict, decide,
};

/// Pieces of a file that wait between the disk and the network.
const PIECES_AHEAD: usize = 4;
/// A file read in the tick in which it changed is compared again after this: longer than any file system's tick.
const COMPARE_AGAIN: Duration = Duration::from_secs(2);
/// A reader that nobody listens to any more ends within this time, or hangs in its disk.
const READER_END: Duration = Duration::from_secs(5);
/// The first back-off of a single file.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Writes of one save are rarely further apart than this.
const BETWEEN_WRITES: Duration = Duration::from_millis(200);
/// A file that is being written to is looked at again at least this often.
const MOVED_RETRY: Duration = Duration::from_secs(30);

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

/// Called with what happens to each path, on the runtime: must not block.
pub type Report = Arc<dyn Fn(&Folder, &MirrorPath, &Happened) + Send + Sync>;

/// Everything that workers share.
pub struct Uploader {
    /// Where changes come from and are settled.
    pub queue: Arc<Queue>,
    /// dStor.
    pub client: Arc<Client>,
    /// The gate before it.
    pub gate: Gate,
    /// The mirrors.
    pub folders: HashMap<MirrorId, Arc<Folder>>,
    /// Quiet time before a changed file is read.
    pub settle: Duration,
    /// A file that never goes quiet is read anyway after this.
    pub max_delay: Duration,
    /// No back-off is longer.
    pub retry_max_delay: Duration,
    /// Who is told.
    pub report: Report,
    /// Ends the workers.
    pub stop: watch::Receiver<Stop>,
}

/// What was seen of a claimed path.
struct Looked {
    root: Arc<OpenRoot>,
    look: Look,
    is_included: bool,
}

/// How a change fared, when nothing failed.
enum Outcome {
    Settled(Settlement, Option<Duration>, Option<Happened>),
    NotQuiet(Duration),
}

/// What can end the work on a change early.
enum Trouble {
    /// With the version that was sent, and its permission bits, where one was.
    Fault(Fault, Option<(Stat, u32)>),
    Ledger(LedgerError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault, None)
    }
}

impl From<LedgerError> for Trouble {
    fn from(error: LedgerError) -> Self {
        Self::Ledger(error)
    }
}

impl Uploader {
    /// Works until told to stop, or until the ledger fails.
    ///
    /// # Errors
    /// The ledger's: without it nothing can be settled.
    pub async fn work(self: Arc<Self>) -> Result<(), LedgerError> {
        let mut stop = self.stop.clone();
        loop {
            let pass = tokio::select! {
                biased;
                () = Stop::wait(&mut stop) => return Ok(()),
                pass = self.gate.pass() => pass,
            };
            let Some(claim) = self.queue.claim().await? else {
                drop(pass);
                if self.queue.wait_for_due(&mut stop).await? {
                    continue;
                }
                return Ok(());
            };
            // A fault of ours in one file must not end the work on all others (F4).
            let done = AssertUnwindSafe(self.work_on(&claim, pass)).catch_unwind().await;
            if let Ok(result) = done {
                result?;
            } else {
                let wait = Backoff { first: FIRST_RETRY, longest: self.retry_max_delay }.delay(claim.attempts + 1, 1.0);
                let message = "a fault in dstor-sync itself; its log says where".to_owned();
                self.queue.postpone(&claim, "internal", message, true, wait).await?;
            }
        }
    }

    /// How we stand with dStor.
    #[must_use]
    pub fn facts(&self) -> DstorFacts {
        let (token, gate) = (*self.client.tokens().facts().borrow(), self.gate.facts().borrow().clone());
        DstorFacts {
            auth: match token.standing {
                Standing::Unknown => Auth::Unknown,
                Standing::Accepted => Auth::Ok,
                Standing::Refused => Auth::Refused,
                Standing::Missing => Auth::Missing,
            },
            // Whoever gave a token, or refused one, answered.
            reachable: gate.reachable.or(match token.standing {
                Standing::Accepted | Standing::Refused => Some(true),
                Standing::Unknown | Standing::Missing => None,
            }),
            token_expires_at: token.expires_at,
            token_requests: token.requests,
            last_error: gate.last_error,
        }
    }

    async fn work_on(&self, claim: &Claim, pass: Pass<'_>) -> Result<(), LedgerError> {
        let Some(folder) = self.folders.get(&claim.mirror) else {
            // Of a mirror that is not configured any more.
            return self.queue.hold(claim, None).await;
        };
        let mut pass = Some(pass);
        match self.process(folder, claim, &mut pass).await {
            Ok(Outcome::Settled(settlement, again, happened)) => {
                self.queue.settle(claim, settlement, again).await?;
                if let Some(happened) = happened {
                    self.tell(folder, &claim.path, &happened);
                }
                Ok(())
            }
            Ok(Outcome::NotQuiet(wait)) => self.queue.defer(claim, wait).await,
            Err(Trouble::Fault(Fault::RootMissing, _)) => {
                folder.root_lost.notify_one();
                self.queue.hold(claim, Some(folder)).await
            }
            Err(Trouble::Fault(fault, sent)) => self.give_back(folder, claim, &fault, sent, pass).await,
            Err(Trouble::Ledger(error)) => Err(error),
        }
    }

    /// Looks at the path, decides, and does it.
    async fn process(
        &self,
        folder: &Arc<Folder>,
        claim: &Claim,
        pass: &mut Option<Pass<'_>>,
    ) -> Result<Outcome, Trouble> {
        let looked = look(folder, &claim.path).await?;
        let Looked { root, look, is_included } = looked;
        let recorded = claim.recorded;
        if !is_included {
            return Ok(Outcome::Settled(Settlement::Ignored, None, None));
        }
        let (parent, name) = match claim.path.split() {
            Some((parent, name)) => (folder.policy.placement.of_directory(&parent), name),
            None => return Ok(Outcome::Settled(Settlement::Nothing, None, None)),
        };
        let admitted = match look.observed {
            Observed::File(stat) => folder.policy.admit(stat.size, name, &parent),
            _ => Ok(()),
        };
        let settled = |settlement, happened| Ok(Outcome::Settled(settlement, None, happened));
        let mut decision = decide(&look.observed, recorded.as_ref(), admitted);
        if claim.is_heard {
            decision = decision.after_event(&look.observed, recorded.as_ref());
        }
        match (decision, look.observed) {
            // A directory that is gone has no row of its own, but its files have. So have those of one that a file took
            // the place of.
            (Decision::Nothing, Observed::Missing) if self.knows_below(claim).await? => {
                settled(Settlement::Gone, Some(Happened::Gone))
            }
            (Decision::Nothing, Observed::File(stat))
                if recorded.is_some_and(|row| row.state == State::Stored) && self.knows_below(claim).await? =>
            {
                settled(Settlement::Refreshed(stat, look.mode), None)
            }
            (Decision::Nothing, _) => settled(Settlement::Nothing, None),
            (Decision::Gone, _) => settled(Settlement::Gone, Some(Happened::Gone)),
            (Decision::Skip(skip), Observed::File(stat) | Observed::Other(_, stat)) => {
                settled(Settlement::Skipped(stat, look.mode, skip), Some(Happened::Skipped(skip)))
            }
            (Decision::Descend, _) => self.descend(folder, &claim.path).await,
            (Decision::Compare(_) | Decision::Upload, Observed::File(stat)) => {
                if let Some(wait) = self.not_quiet(&stat, claim) {
                    return Ok(Outcome::NotQuiet(wait));
                }
                let file = ToSend { root, stat, mode: look.mode, name, placement: parent.ok() };
                // Where dStor may hold another version than is recorded, only sending it again makes sure.
                if let Decision::Compare(digest) = decision
                    && !claim.is_unsure
                    && let Some(refreshed) = self.compare(&file, &claim.path, recorded.as_ref(), digest).await?
                {
                    return Ok(refreshed);
                }
                self.upload(folder, claim, file, pass).await
            }
            // Only files are sent and only what was seen is skipped.
            (Decision::Skip(_) | Decision::Compare(_) | Decision::Upload, _) => settled(Settlement::Nothing, None),
        }
    }

    async fn knows_below(&self, claim: &Claim) -> Result<bool, LedgerError> {
        let (mirror, path) = (claim.mirror, claim.path.clone());
        self.queue.ledger().with(move |ledger| ledger.has_below(mirror, &path, Below::Present)).await
    }

    /// How long to wait until the file is quiet; `None` if it is, or was waited for long enough.
    fn not_quiet(&self, stat: &Stat, claim: &Claim) -> Option<Duration> {
        let now = self.queue.clock().now();
        let waited = Duration::from_millis(u64::try_from(now.saturating_sub(claim.since)).unwrap_or(0));
        let wanted = match waited {
            waited if waited < self.max_delay => self.settle,
            // It never goes quiet, and is read all the same; but not between two writes of one save, if that can be helped.
            waited if waited < self.max_delay * 2 => self.settle.min(BETWEEN_WRITES),
            _ => Duration::ZERO,
        };
        let wait = quiet_in(stat, now, wanted);
        (wait > 0).then(|| Duration::from_millis(wait.unsigned_abs()))
    }

    async fn descend(&self, folder: &Arc<Folder>, path: &MirrorPath) -> Result<Outcome, Trouble> {
        let (queue, settle, stop) = (Arc::clone(&self.queue), self.settle, self.stop.clone());
        let (folder, path) = (Arc::clone(folder), path.clone());
        let walked = blocking(move || Reconciler { queue: &queue, settle, stop: &stop }.run(&folder, &path)).await;
        match walked {
            Ok(_) => Ok(Outcome::Settled(Settlement::Descended, None, None)),
            Err(ReconcileError::Ledger(error)) => Err(error.into()),
            Err(ReconcileError::Root(_)) => Err(Fault::RootMissing.into()),
            Err(ReconcileError::Unreadable(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Fault::Moved.into())
            }
            Err(ReconcileError::Unreadable(error)) => Err(Fault::Unreadable(words(&error)).into()),
            Err(ReconcileError::Stopped) => Ok(Outcome::NotQuiet(Duration::ZERO)),
        }
    }

    /// Hashes the file; if its bytes are those that dStor holds, nothing needs to be sent.
    async fn compare(
        &self,
        file: &ToSend<'_>,
        path: &MirrorPath,
        recorded: Option<&Recorded>,
        digest: Digest,
    ) -> Result<Option<Outcome>, Trouble> {
        let (root, path, stat) = (Arc::clone(&file.root), path.clone(), file.stat);
        let read_from = self.queue.clock().timestamp();
        let content = blocking(move || Reading::open(&root, &path, stat)?.hash()).await.map_err(fault_of_read)?;
        if content.digest != digest || recorded.is_none() {
            return Ok(None);
        }
        let is_racy = stat.is_racy(read_from);
        let stat = if is_racy { stat.to_be_compared() } else { stat };
        let refreshed = Settlement::Refreshed(stat, file.mode);
        Ok(Some(Outcome::Settled(refreshed, is_racy.then_some(COMPARE_AGAIN), Some(Happened::Refreshed))))
    }

    async fn upload(
        &self,
        folder: &Folder,
        claim: &Claim,
        file: ToSend<'_>,
        pass: &mut Option<Pass<'_>>,
    ) -> Result<Outcome, Trouble> {
        let ToSend { root, stat, mode, name, placement } = file;
        let (Ok(name), Some(placement)) = (std::str::from_utf8(name), placement) else {
            // The policy admits no such file.
            return Ok(Outcome::Settled(Settlement::Nothing, None, None));
        };
        let read_from = self.queue.clock().timestamp();
        let mut reader = None;
        let body = || {
            let (pieces, started) = Reader::start(Arc::clone(&root), claim.path.clone(), stat);
            reader = Some(started);
            pieces
        };
        let upload = Upload { name, placement: &placement, comment: &folder.comment, size: stat.size };
        let answer = self.client.upload(&upload, body).await;
        let read = match reader {
            Some(reader) => Some(reader.end().await),
            None => None,
        };
        let is_racy = stat.is_racy(read_from);
        let stat = if is_racy { stat.to_be_compared() } else { stat };
        let (hash, content) = match (answer, read) {
            // What went wrong on this side is why the request broke.
            (_, Some(Err(error @ (ReadError::Moved | ReadError::Io(_))))) => return Err(fault_of_read(error).into()),
            (Ok(hash), Some(Ok(content))) => (hash, content),
            (Ok(_), _) => return Err(Fault::Protocol("it came before the whole file was sent".into()).into()),
            // The version that was sent is the one that was refused: a newer one has its own try.
            (Err(fault), _) => return Err(Trouble::Fault(fault, Some((stat, mode)))),
        };
        if let Some(pass) = pass.take() {
            pass.succeed();
        }
        let is_proved = content.cid.as_ref() == Some(&hash);
        let at = self.queue.clock().now();
        let stored = Stored { stat, mode, digest: content.digest, hash: hash.clone(), is_proved, at };
        let happened = Happened::Stored { hash, bytes: stat.size };
        Ok(Outcome::Settled(Settlement::Stored(stored), is_racy.then_some(COMPARE_AGAIN), Some(happened)))
    }

    /// After a fault: the change sleeps, or is given up.
    async fn give_back(
        &self,
        folder: &Folder,
        claim: &Claim,
        fault: &Fault,
        sent: Option<(Stat, u32)>,
        pass: Option<Pass<'_>>,
    ) -> Result<(), LedgerError> {
        let closed_for = pass.and_then(|pass| pass.fail(fault));
        let attempts = claim.attempts + 1;
        let in_a_row = if claim.code.as_deref() == Some(fault.code()) { attempts } else { 1 };
        let message = fault.message();
        let asked = match fault.verdict(in_a_row) {
            Verdict::Retry(asked) => asked,
            Verdict::Park => {
                if let Some((stat, mode)) = sent {
                    let failed = Settlement::Failed { stat, mode, code: fault.code(), message: message.clone() };
                    self.queue.settle(claim, failed, None).await?;
                    self.tell(folder, &claim.path, &Happened::Failed(message));
                    return Ok(());
                }
                None
            }
        };
        let longest = match fault {
            Fault::Moved => MOVED_RETRY,
            _ => self.retry_max_delay,
        };
        let own = Backoff { first: FIRST_RETRY, longest }.delay(attempts, fastrand::f64());
        let wait = match fault.scope() {
            // This file meets it more often than all of them together: it has a part in it, and sleeps by itself as well.
            Scope::Account if attempts > self.gate.facts().borrow().failures => closed_for.unwrap_or(own).max(own),
            // The gate does the waiting: when it opens, this file is no later than others.
            Scope::Account => closed_for.unwrap_or(own),
            Scope::Path => asked.unwrap_or(own),
        };
        self.queue.postpone(claim, fault.code(), message.clone(), fault.is_unsure(), wait).await?;
        self.tell(folder, &claim.path, &Happened::Postponed(message, wait));
        Ok(())
    }

    fn tell(&self, folder: &Folder, path: &MirrorPath, happened: &Happened) {
        (self.report)(folder, path, happened);
    }
}

/// A file that is to be compared or sent.
struct ToSend<'a> {
    root: Arc<OpenRoot>,
    stat: Stat,
    mode: u32,
    name: &'a [u8],
    placement: Option<Placement>,
}

async fn look(folder: &Folder, path: &MirrorPath) -> Result<Looked, Fault> {
    // A few system calls on local disks; on a hanging network share it is this thread that hangs.
    tokio::task::block_in_place(|| {
        let root = folder.open().map_err(|_| Fault::RootMissing)?;
        let unreadable = |error: std::io::Error| Fault::Unreadable(words(&error));
        let look = root.look(path).map_err(unreadable)?;
        let is_included = match look.observed {
            Observed::Missing => true,
            observed => folder.rules.judge(&root, path, observed.is_directory()).map_err(unreadable)? == Included::Yes,
        };
        Ok(Looked { root: Arc::new(root), look, is_included })
    })
}

type Pieces = mpsc::Receiver<std::io::Result<Bytes>>;

/// A thread that reads a file once and streams its pieces: reading through the runtime's own files would halve the speed
/// under load.
struct Reader {
    handle: JoinHandle<Result<Content, ReadError>>,
    /// Shared with the request's body, which the connection may keep after it gave its answer.
    pieces: Arc<Mutex<Option<Pieces>>>,
}

impl Reader {
    fn start(
        root: Arc<OpenRoot>,
        path: MirrorPath,
        version: Stat,
    ) -> (impl Stream<Item = std::io::Result<Bytes>> + Send + 'static, Self) {
        let (send, pieces) = mpsc::channel(PIECES_AHEAD);
        let handle = tokio::task::spawn_blocking(move || {
            let take = |piece| send.blocking_send(Ok(piece)).map_err(|_| ReadError::Abandoned);
            let read = Reading::open(&root, &path, version).and_then(|reading| reading.send(take));
            if let Err(error) = &read {
                // An error in the body ends the request unfinished: dStor never stores a torn file.
                let _ = send.blocking_send(Err(std::io::Error::other(error.to_string())));
            }
            read
        });
        let pieces = Arc::new(Mutex::new(Some(pieces)));
        let body = Arc::clone(&pieces);
        let stream = futures_util::stream::poll_fn(move |context| {
            match body.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(pieces) => pieces.poll_recv(context),
                None => Poll::Ready(Some(Err(std::io::Error::other("nobody needs the rest")))),
            }
        });
        (stream, Self { handle, pieces })
    }

    /// What was read. The answer is there: whatever was not sent by now will not be.
    async fn end(self) -> Result<Content, ReadError> {
        drop(self.pieces.lock().unwrap_or_else(PoisonError::into_inner).take());
        match tokio::time::timeout(READER_END, self.handle).await {
            Ok(Ok(read)) => read,
            Ok(Err(_)) => Err(std::io::Error::other("reading it failed").into()),
            // A disk that hangs must not keep a worker.
            Err(_) => Err(ReadError::Abandoned),
        }
    }
}

fn fault_of_read(error: ReadError) -> Fault {
    match error {
        ReadError::Moved => Fault::Moved,
        ReadError::Io(error) => Fault::Unreadable(words(&error)),
        ReadError::Abandoned => Fault::Unreachable("the connection broke".into()),
    }
}

/// What an I/O error says, without the number that only programmers know.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or_default();
    let mut letters = plain.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is ending: so is whoever waits.
        Err(Err(_)) => std::future::pending().await,
    }
}
