//! A worker: claims a change, does what its errand asks for, and records how it ended.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::errand::{Ending, Errand, Failure, GateWord, Happened, Next, Patience, ToSend, words};
use super::pace::Pass;
use super::reader::Reader;
use super::{Folder, Gate, Queue, ReconcileError, Reconciler, Stop, has_to_leave_its_name};
use crate::dstor::{Client, Standing, Upload};
use crate::ledger::{Auth, Below, Claim, DstorFacts, LedgerError, MirrorId, Settlement};
use crate::local::{Content, Look, OpenRoot, ReadError, Reading, ScanSummary, Tree as _};
use crate::mirror::{Fault, Included, MirrorPath, Observed, Skip, may_have_twins};

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
    /// How long changes wait.
    pub patience: Patience,
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

/// What can end the work on a change early.
enum Trouble {
    Failure(Failure),
    Ledger(LedgerError),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Failure(fault.into())
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
            let Some(folder) = self.folders.get(&claim.mirror) else {
                // Of a mirror that is not configured any more.
                self.queue.end(&claim, Ending::Held, None).await?;
                continue;
            };
            let errand = Errand::new(&claim, &folder.policy, &self.patience);
            // A fault of ours in one file must not end the work on all others (F4).
            let done = AssertUnwindSafe(self.run(errand, folder, &claim, pass)).catch_unwind().await;
            let ending = done.unwrap_or_else(|_| Ok(errand.broke()))?;
            if ending == Ending::Held {
                folder.root_lost.notify_one();
            }
            let happened = ending.happened();
            self.queue.end(&claim, ending, Some(folder)).await?;
            if let Some(happened) = happened {
                (self.report)(folder, &claim.path, &happened);
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

    /// Does an errand, up to its end.
    async fn run(
        &self,
        errand: Errand<'_>,
        folder: &Arc<Folder>,
        claim: &Claim,
        pass: Pass<'_>,
    ) -> Result<Ending, LedgerError> {
        let mut pass = Some(pass);
        match self.carry_out(errand, folder, claim, &mut pass).await {
            Ok(ending) => Ok(ending),
            Err(Trouble::Ledger(error)) => Err(error),
            Err(Trouble::Failure(failure)) => {
                let closed_for = pass.and_then(|pass| pass.fail(&failure.fault));
                let failures = self.gate.facts().borrow().failures;
                Ok(errand.failed(failure, GateWord { closed_for, failures }, fastrand::f64()))
            }
        }
    }

    async fn carry_out(
        &self,
        errand: Errand<'_>,
        folder: &Arc<Folder>,
        claim: &Claim,
        pass: &mut Option<Pass<'_>>,
    ) -> Result<Ending, Trouble> {
        let Looked { root, look, is_included } = look(folder, &claim.path).await?;
        if is_included
            && let Observed::File(stat) = look.observed
            && self.leaves_its_name(folder, &root, claim)?
        {
            let skipped = Settlement::Skipped(stat, look.mode, Skip::NameTaken);
            return Ok(Ending::Settled(skipped, None, Some(Happened::Skipped(Skip::NameTaken))));
        }
        let mut next = errand.looked(&look, is_included, self.queue.clock().now());
        loop {
            next = match next {
                Next::End(ending) => return Ok(ending),
                Next::IfKnownBelow(ending) => {
                    let known = self.knows_below(claim).await?;
                    return Ok(if known { ending } else { Ending::nothing() });
                }
                Next::Descend => return Ok(errand.descended(self.descend(folder, &claim.path).await)??),
                Next::Compare(file, known) => {
                    let read_from = self.queue.clock().timestamp();
                    let (root, path, stat) = (Arc::clone(&root), claim.path.clone(), file.stat);
                    let read = blocking(move || Reading::open(&root, &path, stat)?.hash()).await;
                    errand.compared(file, known, read, read_from)?
                }
                Next::Send(file) => {
                    let ending = self.send(errand, folder, claim, &root, &file).await?;
                    if let Some(pass) = pass.take() {
                        pass.succeed();
                    }
                    return Ok(ending);
                }
            };
        }
    }

    fn leaves_its_name(&self, folder: &Folder, root: &OpenRoot, claim: &Claim) -> Result<bool, Trouble> {
        if !claim.path.split().is_some_and(|(_, name)| may_have_twins(name)) {
            return Ok(false);
        }
        let leaves = tokio::task::block_in_place(|| {
            self.queue.read(|ledger| Ok(has_to_leave_its_name(ledger, folder, root, &claim.path)))
        })?;
        match leaves {
            Ok(leaves) => Ok(leaves),
            Err(ReconcileError::Ledger(error)) => Err(error.into()),
            Err(ReconcileError::Unreadable(error)) => Err(Failure::from(Fault::Unreadable(words(&error))).into()),
            Err(ReconcileError::Root(_) | ReconcileError::Stopped) => Err(Failure::from(Fault::RootMissing).into()),
        }
    }

    async fn knows_below(&self, claim: &Claim) -> Result<bool, LedgerError> {
        let (mirror, path) = (claim.mirror, claim.path.clone());
        self.queue.ledger().with(move |ledger| ledger.has_below(mirror, &path, Below::Present)).await
    }

    async fn descend(&self, folder: &Arc<Folder>, path: &MirrorPath) -> Result<ScanSummary, ReconcileError> {
        let (queue, settle, stop) = (Arc::clone(&self.queue), self.patience.settle, self.stop.clone());
        let (folder, path) = (Arc::clone(folder), path.clone());
        blocking(move || Reconciler { queue: &queue, settle, stop: &stop }.run(&folder, &path)).await
    }

    async fn send(
        &self,
        errand: Errand<'_>,
        folder: &Folder,
        claim: &Claim,
        root: &Arc<OpenRoot>,
        file: &ToSend,
    ) -> Result<Ending, Failure> {
        let read_from = self.queue.clock().timestamp();
        let mut reader = None;
        let body = || {
            let (pieces, started) = Reader::start(Arc::clone(root), claim.path.clone(), file.stat);
            reader = Some(started);
            pieces
        };
        let upload =
            Upload { name: &file.name, placement: &file.placement, comment: &folder.comment, size: file.stat.size };
        let answer = self.client.upload(&upload, body).await;
        let read: Option<Result<Content, ReadError>> = match reader {
            Some(reader) => Some(reader.end().await),
            None => None,
        };
        errand.sent(file, answer, read, read_from, self.queue.clock().now())
    }
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

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is ending: so is whoever waits.
        Err(Err(_)) => std::future::pending().await,
    }
}
