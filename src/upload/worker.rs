//! A worker: claims a change, does what its errand asks for, and records how it ended. Those that travel together are in
//! `pack` and `porter`.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, Either};
use futures_util::{FutureExt as _, stream};
use tokio::sync::watch;

use super::alone::Alone;
use super::errand::{Ending, Errand, Failure, GateWord, Happened, Next, Patience, ToSend, words};
use super::pace::Pass;
use super::reader::{Reader, WHOLE, read_whole};
use super::roads::Roads;
use super::turns::Turn;
use super::{Folder, Gate, ItsName, Queue, ReconcileError, Reconciler, Stop, whose_name};
use crate::dstor::{Client, Files, Measured, Standing, Upload};
use crate::ledger::{Auth, Below, Claim, DstorFacts, LedgerError, MirrorId, Settlement};
use crate::local::{Content, Look, OpenRoot, ReadError, Reading, ScanSummary, Tree as _};
use crate::mirror::{Fault, Included, LARGEST, MirrorPath, Observed, Placement, Skip, Way};
use crate::seal::Recipients;

/// A file whose name is in question is looked at again after this.
const ASK_FOR_NAME_AGAIN: Duration = Duration::from_millis(500);

/// Records how the work on changes ended.
pub(super) type Recording<'a> = BoxFuture<'a, Result<(), LedgerError>>;

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
    /// The ways to it.
    pub roads: Roads,
    /// The mirrors.
    pub folders: HashMap<MirrorId, Arc<Folder>>,
    /// To whom files are encrypted before they leave this machine; `None`: they go as they are.
    pub recipients: Option<Recipients>,
    /// How long changes wait.
    pub patience: Patience,
    /// Who is told.
    pub report: Report,
    /// Ends the workers.
    pub stop: watch::Receiver<Stop>,
}

/// What was seen of a claimed path.
pub(super) struct Looked {
    pub(super) root: Arc<OpenRoot>,
    pub(super) look: Look,
    pub(super) is_included: bool,
}

impl Looked {
    /// Whether it is a file that others may go along with, if it is to be sent.
    fn may_have_company(&self) -> bool {
        matches!(self.look.observed, Observed::File(stat) if stat.size <= LARGEST)
    }
}

/// How far the work on a change is once nothing but dStor is left to ask.
pub(super) enum Prepared {
    /// At its end.
    Ended(Ending),
    /// The file is to be sent.
    ToSend(Arc<OpenRoot>, ToSend),
}

/// What can end the work on a change early.
pub(super) enum Trouble {
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
        // How the last change ended is on its way into the ledger: in one transaction with the claim of the next, if the
        // gate is open.
        let mut recording: Option<Recording<'_>> = None;
        loop {
            let pass = tokio::select! {
                biased;
                recorded = done(recording.as_mut()), if recording.is_some() => {
                    recording = None;
                    recorded?;
                    continue;
                }
                () = Stop::wait(&mut stop) => return done(recording.as_mut()).await,
                pass = self.gate.pass() => pass,
            };
            let claim = self.queue.claim(self.roads.may_gather());
            let (recorded, claimed) = tokio::join!(done(recording.as_mut()), claim);
            recording = None;
            recorded?;
            let Some((claim, turn)) = claimed? else {
                drop(pass);
                if self.queue.wait_for_due(&mut stop).await? {
                    continue;
                }
                return Ok(());
            };
            let Some(folder) = self.folders.get(&claim.mirror) else {
                // Of a mirror that is not configured any more.
                self.queue.end(vec![(claim, Ending::Held)], None).await?;
                continue;
            };
            recording = Some(self.work_on(claim, turn, folder, pass).await?);
        }
    }

    /// Does the work on a change. What it returns records how it ended.
    async fn work_on<'a>(
        &'a self,
        claim: Claim,
        mut turn: Option<Turn>,
        folder: &'a Arc<Folder>,
        pass: Pass<'_>,
    ) -> Result<Recording<'a>, LedgerError> {
        let errand = Errand::new(&claim, &folder.policy, &self.patience);
        let prepare = async {
            // A few system calls on local disks; on a hanging network share it is this thread that hangs.
            let looked = tokio::task::block_in_place(|| look(folder, open(folder)?, &claim.path))?;
            if !looked.may_have_company() {
                turn = None;
            }
            self.prepare(errand, folder, &claim, looked, &mut turn).await
        };
        // A fault of ours in one file must not end the work on all others (F4).
        let prepared = AssertUnwindSafe(prepare).catch_unwind().await;
        // The others do not wait until it is recorded.
        let turn = turn.filter(|_| matches!(prepared, Ok(Ok(Prepared::ToSend(..)))));
        let ending = match prepared {
            Ok(Ok(Prepared::Ended(ending))) => ending,
            Ok(Ok(Prepared::ToSend(root, file))) => {
                let others = self.companions(&claim, &file, &pass).await?;
                drop(turn);
                if !others.is_empty() {
                    return self.work_on_pack(claim, (root, file), others, folder, pass).await;
                }
                let sign = self.sign(&pass).await;
                let sent = match sign {
                    Some(false) => Ok(Err(Failure::without_a_sign())),
                    Some(true) | None => {
                        AssertUnwindSafe(self.send(errand, folder, &claim, &root, &file)).catch_unwind().await
                    }
                };
                match sent {
                    Ok(Ok(ending)) => {
                        // One that was held on its way says nothing of dStor.
                        if ending.is_stored() {
                            pass.succeed();
                        }
                        ending
                    }
                    Ok(Err(failure)) => self.sending_failed(errand, failure, pass, sign == Some(true)),
                    Err(_) => errand.broke(),
                }
            }
            Ok(Err(Trouble::Failure(failure))) => self.failed(errand, failure, Some(pass)),
            Ok(Err(Trouble::Ledger(error))) => return Err(error),
            Err(_) => errand.broke(),
        };
        Ok(self.end(folder, vec![(claim, ending)]).boxed())
    }

    /// Records how the work on changes of one mirror ended, and tells.
    pub(super) async fn end(&self, folder: &Arc<Folder>, ended: Vec<(Claim, Ending)>) -> Result<(), LedgerError> {
        if ended.iter().any(|(_, ending)| *ending == Ending::Held) {
            folder.root_lost.notify_one();
        }
        let happened: Vec<(MirrorPath, Happened)> =
            ended.iter().filter_map(|(claim, ending)| Some((claim.path.clone(), ending.happened()?))).collect();
        self.queue.end(ended, Some(folder)).await?;
        for (path, happened) in happened {
            (self.report)(folder, &path, &happened);
        }
        Ok(())
    }

    /// What follows from a failure. The gate hears of it if `pass` is given back with it.
    pub(super) fn failed(&self, errand: Errand<'_>, failure: Failure, pass: Option<Pass<'_>>) -> Ending {
        let closed_for = pass.and_then(|pass| pass.fail(&failure.fault));
        errand.failed(failure, self.gate_word(closed_for), fastrand::f64())
    }

    /// Whether dStor gives a sign of life to who sees alone whether it is back; `None`: nobody needs one.
    async fn sign(&self, pass: &Pass<'_>) -> Option<bool> {
        if !pass.is_probe() || !self.gate.facts().borrow().wants_a_sign() {
            return None;
        }
        let is_there = self.client.is_there().await;
        if is_there {
            self.gate.gave_sign();
        }
        Some(is_there)
    }

    /// What follows from a failure to send a file by itself; `is_there`: dStor gave a sign of life just before.
    fn sending_failed(&self, errand: Errand<'_>, failure: Failure, pass: Pass<'_>, is_there: bool) -> Ending {
        let word = GateWord { is_there, ..self.gate_word(pass.fail(&failure.fault)) };
        errand.failed(failure, word, fastrand::f64())
    }

    pub(super) fn gate_word(&self, closed_for: Option<Duration>) -> GateWord {
        GateWord { closed_for, failures: self.gate.facts().borrow().failures, is_there: false }
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

    /// Does an errand up to its end, or to where its file is to be sent. `turn`: to gather beside it, which ends if it takes
    /// longer than a look.
    pub(super) async fn prepare(
        &self,
        errand: Errand<'_>,
        folder: &Arc<Folder>,
        claim: &Claim,
        Looked { root, look, is_included }: Looked,
        turn: &mut Option<Turn>,
    ) -> Result<Prepared, Trouble> {
        if is_included && let Observed::File(stat) = look.observed {
            match self.whose_name(folder, &root, claim)? {
                ItsName::Kept => {}
                ItsName::Taken => {
                    let skipped = Settlement::Skipped(stat, look.mode, Skip::NameTaken);
                    let happened = Some(Happened::Skipped(Skip::NameTaken));
                    return Ok(Prepared::Ended(Ending::Settled(skipped, None, happened)));
                }
                ItsName::InQuestion => return Ok(Prepared::Ended(Ending::Deferred(ASK_FOR_NAME_AGAIN))),
            }
        }
        let mut next = errand.looked(&look, is_included, self.queue.clock().now());
        loop {
            next = match next {
                Next::End(ending) => return Ok(Prepared::Ended(ending)),
                Next::IfKnownBelow(ending) => {
                    let known = self.knows_below(claim).await?;
                    return Ok(Prepared::Ended(if known { ending } else { Ending::nothing() }));
                }
                Next::Descend => {
                    return Ok(Prepared::Ended(errand.descended(self.descend(folder, &claim.path).await)??));
                }
                Next::Compare(file, known) => {
                    *turn = None;
                    let read_from = self.queue.clock().timestamp();
                    let (root, path, stat) = (Arc::clone(&root), claim.path.clone(), file.stat);
                    let read = blocking(move || Reading::open(&root, &path, stat)?.hash()).await;
                    errand.compared(file, known, read, read_from)?
                }
                Next::Send(file) => return Ok(Prepared::ToSend(root, file)),
            };
        }
    }

    fn whose_name(&self, folder: &Folder, root: &OpenRoot, claim: &Claim) -> Result<ItsName, Trouble> {
        if !folder.policy.may_have_twins(&claim.path) {
            return Ok(ItsName::Kept);
        }
        let whose = tokio::task::block_in_place(|| {
            self.queue.read(|ledger| Ok(whose_name(ledger, folder, root, &claim.path)))
        })?;
        match whose {
            Ok(whose) => Ok(whose),
            Err(ReconcileError::Ledger(error)) => Err(error.into()),
            Err(ReconcileError::Unreadable(error)) => Err(Failure::from(Fault::Unreadable(words(&error))).into()),
            Err(ReconcileError::Root(_) | ReconcileError::Stopped) => Err(Failure::from(Fault::RootMissing).into()),
        }
    }

    async fn knows_below(&self, claim: &Claim) -> Result<bool, LedgerError> {
        let (mirror, path) = (claim.mirror, claim.path.clone());
        self.queue.with_room(move |ledger| ledger.has_below(mirror, &path, Below::Present)).await
    }

    async fn descend(&self, folder: &Arc<Folder>, path: &MirrorPath) -> Result<ScanSummary, ReconcileError> {
        let (queue, settle, stop) = (Arc::clone(&self.queue), self.patience.settle, self.stop.clone());
        let (folder, path) = (Arc::clone(folder), path.clone());
        blocking(move || Reconciler { queue: &queue, settle, stop: &stop }.run(&folder, &path)).await
    }

    /// Sends a file by itself.
    pub(super) async fn send(
        &self,
        errand: Errand<'_>,
        folder: &Folder,
        claim: &Claim,
        root: &Arc<OpenRoot>,
        file: &ToSend,
    ) -> Result<Ending, Failure> {
        loop {
            let read_from = self.queue.clock().timestamp();
            let recipients = self.recipients.as_ref();
            let whole = match file.stat.size <= WHOLE {
                true => match tokio::task::block_in_place(|| read_whole(root, &claim.path, file, recipients)) {
                    Ok(whole) => Some(whole),
                    // Nothing was sent.
                    Err(error) => {
                        let (fault, now) = (Fault::Moved, self.queue.clock().now());
                        return errand.sent(file, Err(fault), Some(Err(error)), read_from, now);
                    }
                },
                false => None,
            };
            let (mut has_begun, mut reader) = (false, None);
            let mut body = || {
                has_begun = true;
                if let Some((_, bytes)) = &whole {
                    let pieces = Either::Left(stream::iter([Ok(bytes.clone())]));
                    return Measured { bytes: bytes.len() as u64, pieces };
                }
                let (root, path) = (Arc::clone(root), claim.path.clone());
                let (measured, started) = Reader::start(root, path, file.stat, recipients, file.is_guarded);
                reader = Some(started);
                Measured { bytes: measured.bytes, pieces: Either::Right(measured.pieces) }
            };
            let alone = match (self.roads.alone(file), &file.placement) {
                (Way::Session, Placement::Path(dir)) => {
                    let names = [file.name.as_str()];
                    let files = Files { dir, comment: &folder.comment, names: &names, bytes: file.stat.size };
                    let ended = self.client.session(&files, |_| body(), || ()).await;
                    Alone::after_session(file, ended, || self.roads.lacks_sessions())
                }
                (Way::Direct, placement) | (Way::Session, placement @ Placement::Id(_)) => {
                    let upload = Upload { name: &file.name, placement, comment: &folder.comment };
                    let answer = self.client.upload(&upload, body).await;
                    Alone::after_request(answer, || self.roads.lacks_direct(placement))
                }
            };
            let Alone::Answered(answered) = alone else { continue };
            let read: Option<Result<Content, ReadError>> = match (reader, whole) {
                (Some(reader), _) => Some(reader.end().await),
                (None, whole) => whole.filter(|_| has_begun).map(|(content, _)| Ok(content)),
            };
            return answered.end(errand, file, read, read_from, self.queue.clock().now());
        }
    }
}

/// Waits until it is recorded, if there is something to record.
async fn done(recording: Option<&mut Recording<'_>>) -> Result<(), LedgerError> {
    match recording {
        Some(recording) => recording.await,
        None => Ok(()),
    }
}

/// The folder's directory, if it is the one that is believed in.
pub(super) fn open(folder: &Folder) -> Result<Arc<OpenRoot>, Fault> {
    folder.open().map(Arc::new).map_err(|_| Fault::RootMissing)
}

/// Blocking: looks at a path, and at the rules for it.
pub(super) fn look(folder: &Folder, root: Arc<OpenRoot>, path: &MirrorPath) -> Result<Looked, Fault> {
    let unreadable = |error: std::io::Error| Fault::Unreadable(words(&error));
    let look = root.look(path).map_err(unreadable)?;
    let is_included = match look.observed {
        Observed::Missing => true,
        observed => folder.rules.judge(&*root, path, observed.is_directory()).map_err(unreadable)? == Included::Yes,
    };
    Ok(Looked { root, look, is_included })
}

/// Does blocking work on a thread for that; a panic there is one here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is ending: so is whoever waits.
        Err(Err(_)) => std::future::pending().await,
    }
}
