//! One pass: scan, upload what changed, wait for it, and say how it went.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::dstor::Standing;
use crate::journal::Writer;
use crate::ledger::{AgentState, Counts, Ledger, LedgerError, Millis, Watching};
use crate::local::{Difference, ScanSummary};
use crate::mirror::MirrorPath;
use crate::plan::{AssembleError, Hold, LEDGER, Plan, Works};
use crate::upload::{
    Broke, Folder, Recognised, ReconcileError, Reconciler, Report, Stop, TaskFailure, Tasks, Uploader, differences,
    recognise,
};

/// A file that failed this often is left to the next pass or to the agent.
const TRIES: u32 = 3;
/// The gate closing this often in a row means that dStor is not there for this pass.
const UNREACHABLE_AFTER: u32 = 3;
/// A server that asks for a longer wait than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How long workers may take to end.
const LONGEST_END: Duration = Duration::from_secs(1);
/// And how long to tell of the last that they stored, once nothing is left to do: they have only to be woken.
const LONGEST_TELLING: Duration = Duration::from_secs(10);
/// How often the queue is asked whether it is done.
const ASK: Duration = Duration::from_millis(50);

/// Why a pass ended early, or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// It could not begin.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A part of it broke off by a fault of ours.
    #[error(transparent)]
    Broke(#[from] Broke),
}

impl From<TaskFailure> for SyncError {
    fn from(failure: TaskFailure) -> Self {
        match failure {
            TaskFailure::Ledger(error) => Self::Ledger(error),
            TaskFailure::Broke(broke) => Self::Broke(broke),
        }
    }
}

/// How a pass went.
#[derive(Debug)]
pub struct SyncOutcome {
    /// The mirrors' numbers afterwards.
    pub counts: Vec<Counts>,
    /// When the next of what waits is due, in milliseconds since 1970.
    pub next_due_at: Option<Millis>,
    /// Mirrors that were not there, and why.
    pub missing: Vec<(PathBuf, String)>,
    /// Why it ended before everything was tried.
    pub ended_by: Option<EndedBy>,
}

/// What ended a pass early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndedBy {
    /// dStor does not answer, or not well; the last error.
    Unreachable(String),
    /// The credentials are missing or refused; which.
    Credentials(String),
    /// It was asked to stop.
    Stopped,
}

/// What a mirror's scan found.
pub type Scanned = Arc<dyn Fn(&Folder, &ScanSummary) + Send + Sync>;

/// Called with each difference that a preview finds.
pub type Each = Arc<dyn Fn(&Folder, &Difference) + Send + Sync>;

/// Runs one pass.
///
/// # Errors
/// [`SyncError`]; what was stored before is on record.
pub async fn run(
    plan: &Plan,
    state_dir: &Path,
    report: Report,
    scanned: Scanned,
    mut stop: watch::Receiver<Stop>,
) -> Result<SyncOutcome, SyncError> {
    let (end, ended) = watch::channel(Stop::Go);
    let journal = Writer::start(state_dir);
    let report = journal.beside(report);
    let (hold, works) = tokio::task::block_in_place(|| begin(plan, state_dir, report, &ended))?;
    let mut missing = Vec::new();
    let mut tasks = Tasks::default();
    let passing = pass(&works, plan.hands(), &mut tasks, &mut missing, &scanned);
    let passed = tokio::select! {
        biased;
        () = Stop::wait(&mut stop) => Ok(Some(EndedBy::Stopped)),
        passed = passing => passed,
    };
    end.send_replace(Stop::Soon);
    // What they have settled they have yet to tell of.
    let patience = if matches!(passed, Ok(None)) { LONGEST_TELLING } else { LONGEST_END };
    let _ = tokio::time::timeout(patience, tasks.ended()).await;
    // Also after a failure: none may go on while the runtime ends. One that hangs in a system call (a dead network share)
    // cannot be ended.
    let _ = tokio::time::timeout(LONGEST_END, tasks.shutdown()).await;
    let ended_by = passed?;

    let Works { uploader, folders } = works;
    let ids: Vec<_> = folders.iter().map(|folder| folder.id).collect();
    let facts = uploader.facts();
    let (counts, outlook) = uploader
        .queue
        .ledger()
        .with(move |ledger| {
            ledger.recover_changes(Millis::MAX)?;
            ledger.set_dstor_facts(&facts)?;
            ledger.set_agent_state(AgentState::Stopped)?;
            let counts: Result<Vec<Counts>, LedgerError> = ids.iter().map(|id| ledger.counts(*id)).collect();
            Ok((counts?, ledger.outlook()?))
        })
        .await?;
    uploader.queue.ledger().fold().await?;
    tokio::task::block_in_place(|| journal.close());
    drop(hold);
    Ok(SyncOutcome { counts, next_due_at: outlook.next_due_at, missing, ended_by })
}

/// Blocking: takes the ledger and puts everything together.
fn begin(
    plan: &Plan,
    state_dir: &Path,
    report: Report,
    stop: &watch::Receiver<Stop>,
) -> Result<(Hold, Works), SyncError> {
    let hold = Hold::take(state_dir)?;
    let client = plan.client().map_err(AssembleError::from)?;
    let works = plan.assemble(&hold, client, report, stop.clone())?;
    Ok((hold, works))
}

/// What would be uploaded, without uploading or recording it.
///
/// # Errors
/// [`SyncError`].
pub async fn preview(
    plan: &Plan,
    state_dir: &Path,
    each: Each,
    stop: watch::Receiver<Stop>,
) -> Result<Vec<(PathBuf, Result<ScanSummary, String>)>, SyncError> {
    let (_hold, works) = tokio::task::block_in_place(|| begin(plan, state_dir, Arc::new(|_, _, _| {}), &stop))?;
    // It says nothing of itself: whoever asks is told of the agent that ran last.
    works.uploader.queue.ledger().with(|ledger| ledger.set_agent_state(AgentState::Stopped)).await?;
    let mut summaries = Vec::new();
    for folder in &works.folders {
        if let Recognised::Missing(note) = recognise(folder, &works.uploader.queue).await? {
            summaries.push((folder.path.clone(), Err(note)));
            continue;
        }
        let scanned = tokio::task::block_in_place(|| {
            let ledger = Ledger::open_read_only(&state_dir.join(LEDGER))?;
            differences(&ledger, folder, &MirrorPath::top(), &stop, &mut |difference| {
                each(folder, &difference);
                Ok(())
            })
        });
        match scanned {
            Ok(summary) => summaries.push((folder.path.clone(), Ok(summary))),
            Err(ReconcileError::Stopped) => break,
            Err(ReconcileError::Ledger(error)) => return Err(error.into()),
            Err(error) => summaries.push((folder.path.clone(), Err(error.to_string()))),
        }
    }
    Ok(summaries)
}

/// The pass itself. Returns what ended it early, if anything.
async fn pass(
    works: &Works,
    hands: usize,
    tasks: &mut Tasks,
    missing: &mut Vec<(PathBuf, String)>,
    scanned: &Scanned,
) -> Result<Option<EndedBy>, SyncError> {
    let uploader = &works.uploader;
    let ledger = uploader.queue.ledger();
    ledger.with(|ledger| ledger.set_agent_state(AgentState::Running)).await?;
    // Work that an earlier run left behind is part of this pass; so are its failures, from the beginning.
    ledger.with(Ledger::forget_attempts).await?;
    for _ in 0..hands {
        tasks.spawn("a worker", Arc::clone(uploader).work());
    }
    for folder in &works.folders {
        let id = folder.id;
        if let Recognised::Missing(note) = recognise(folder, &uploader.queue).await? {
            missing.push((folder.path.clone(), note.clone()));
            ledger.with(move |ledger| ledger.set_watching(id, Watching::Missing, Some(&note))).await?;
            continue;
        }
        ledger.with(move |ledger| ledger.set_watching(id, Watching::Events, None)).await?;
        let (id, now) = (folder.id, uploader.queue.clock().now());
        ledger.with(move |ledger| ledger.release(id, now)).await?;
        uploader.queue.wake();
        match scan(uploader, folder).await {
            Ok(summary) => {
                let now = uploader.queue.clock().now();
                ledger.with(move |ledger| ledger.scanned(id, now)).await?;
                scanned(folder, &summary);
            }
            Err(ReconcileError::Ledger(error)) => return Err(error.into()),
            Err(error) => missing.push((folder.path.clone(), error.to_string())),
        }
    }
    loop {
        if let Some(ended) = hopeless(uploader) {
            return Ok(Some(ended));
        }
        if !ledger.with(|ledger| ledger.has_unfinished(TRIES)).await? {
            return Ok(None);
        }
        tokio::select! {
            () = tokio::time::sleep(ASK) => {}
            failed = tasks.failure() => return Err(failed.into()),
        }
    }
}

async fn scan(uploader: &Arc<Uploader>, folder: &Arc<Folder>) -> Result<ScanSummary, ReconcileError> {
    let (uploader, folder) = (Arc::clone(uploader), Arc::clone(folder));
    let walked = tokio::task::spawn_blocking(move || {
        let Uploader { queue, patience, stop, .. } = &*uploader;
        Reconciler { queue, settle: patience.settle, stop }.run(&folder, &MirrorPath::top())
    });
    match walked.await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(walked) => walked,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => Err(ReconcileError::Stopped),
    }
}

/// Whether it makes no sense to go on with this pass.
fn hopeless(uploader: &Uploader) -> Option<EndedBy> {
    let gate = uploader.gate.facts().borrow().clone();
    let why = gate.last_error?;
    match uploader.client.tokens().facts().borrow().standing {
        Standing::Missing | Standing::Refused => return Some(EndedBy::Credentials(why)),
        Standing::Unknown | Standing::Accepted => {}
    }
    let is_long = uploader.gate.closed_for() > LONGEST_WAIT;
    (gate.failures >= UNREACHABLE_AFTER || is_long).then_some(EndedBy::Unreachable(why))
}
