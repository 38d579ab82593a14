//! The agent: starts a minder a mirror and the workers, tells the ledger how things stand, and stops them in order.

mod alerter;
mod keeper;
mod minder;
mod prover;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::journal::{Event, Writer};
use crate::ledger::{AgentState, Auth, DstorFacts, Ledger, LedgerError, Millis};
use crate::plan::{AssembleError, LEDGER, Plan, Works};
use crate::upload::{Broke, Queue, Report, Stop, TaskFailure, Tasks, Uploader};

use alerter::Alerter;
use keeper::Keeper;
use minder::Minder;
use prover::Prover;

/// The agent's row is not written more often than this.
const BETWEEN_WORDS: Duration = Duration::from_millis(200);

/// Why the agent ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It could not begin.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The ledger cannot be written: nothing can be settled.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A part of it broke off by a fault of ours.
    #[error(transparent)]
    Broke(#[from] Broke),
}

impl From<TaskFailure> for AgentError {
    fn from(failure: TaskFailure) -> Self {
        match failure {
            TaskFailure::Ledger(error) => Self::Ledger(error),
            TaskFailure::Broke(broke) => Self::Broke(broke),
        }
    }
}

/// Runs `plan` over the ledger in `state_dir` until `stop` says so.
///
/// # Errors
/// [`AgentError`]; what was settled before stays settled.
pub async fn run(
    plan: &Plan,
    state_dir: &Path,
    report: Report,
    mut stop: watch::Receiver<Stop>,
) -> Result<(), AgentError> {
    // The order is: the stop that people ask for, then ours, which ends the tasks.
    let (end, ended) = watch::channel(Stop::Go);
    let journal = Writer::start(state_dir);
    let report = journal.beside(report);
    let Works { lock, uploader, folders } =
        tokio::task::block_in_place(|| plan.assemble(state_dir, report, ended.clone()))?;

    journal.note(Event::Started, None);
    let words = uploader.queue.with_room(Ledger::steering).await?;
    uploader.queue.pause_until(words.paused_until);
    let mut tasks = Tasks::default();
    let (ready, mut readies) = mpsc::channel(folders.len().max(1));
    for (folder, mirror) in folders.iter().zip(&plan.mirrors) {
        let minder = Minder {
            folder: Arc::clone(folder),
            queue: Arc::clone(&uploader.queue),
            settle: plan.settle,
            max_delay: plan.max_delay,
            poll: mirror.poll,
            rescan: mirror.rescan,
            stop: ended.clone(),
        };
        tasks.spawn(format!("the minder of `{}`", folder.path.display()), minder.mind(ready.clone()));
    }
    drop(ready);
    for _ in 0..plan.workers {
        tasks.spawn("a worker", Arc::clone(&uploader).work());
    }
    let keeper = Arc::new(Keeper {
        uploader: Arc::clone(&uploader),
        folders: folders.clone(),
        ledger: state_dir.join(LEDGER),
        straggling: plan.straggling(),
        stop: ended.clone(),
    });
    tasks.spawn("the keeper of the clocks", Arc::clone(&keeper).keep_time(words));
    tasks.spawn("the keeper of the ledger's copy", keeper.keep_copy());
    tasks.spawn("the teller", tell(Arc::clone(&uploader), Arc::clone(&journal), ended.clone()));
    let prover = Prover {
        uploader: Arc::clone(&uploader),
        folders: folders.clone(),
        ledger: state_dir.join(LEDGER),
        a_day: plan.read_a_day,
        stop: ended.clone(),
    };
    tasks.spawn("the prover", prover.prove());
    let alerter = Alerter { alerts: plan.alerts.clone(), state_dir: state_dir.to_owned(), stop: ended.clone() };
    tasks.spawn("the alerter", alerter.alert());

    let waiting = async {
        // Each minder says once that its first scan is through, or that its directory is missing.
        while readies.recv().await.is_some() {}
        set_state(&uploader, AgentState::Running).await?;
        info!("watching");
        std::future::pending::<Result<(), LedgerError>>().await
    };
    let result = tokio::select! {
        biased;
        () = Stop::wait(&mut stop) => Ok(()),
        failed = tasks.failure() => Err(failed.into()),
        failed = waiting => failed.map_err(AgentError::from),
    };
    if let Err(failed) = &result {
        error!(reason = %failed, "it cannot go on; ending");
    }

    info!("stopping");
    // If the ledger is what failed, this fails too; the first failure is the one to tell.
    let _ = set_state(&uploader, AgentState::Stopping).await;
    end.send_replace(Stop::Soon);
    if tokio::time::timeout(plan.shutdown_grace, tasks.ended()).await.is_err() {
        info!("uploads that are still under way will be sent again at the next start");
        // A task that hangs in a system call (a dead network share) cannot be ended, and must not keep the others.
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.shutdown()).await;
    }
    let is_sound = result.is_ok();
    let closing = uploader.queue.ledger().with(move |ledger| {
        ledger.recover_changes(Millis::MAX)?;
        // A ledger that failed is not closed in order: the next start reads all of it before it believes it (D3, D4).
        if is_sound { ledger.set_agent_state(AgentState::Stopped) } else { Ok(()) }
    });
    let closed = match closing.await {
        Ok(()) => uploader.queue.ledger().fold().await,
        failed => failed,
    };
    journal.note(Event::Stopped, result.as_ref().err().map(ToString::to_string));
    tokio::task::block_in_place(|| journal.close());
    drop((uploader, folders, lock));
    result?;
    Ok(closed?)
}

async fn set_state(uploader: &Uploader, state: AgentState) -> Result<(), LedgerError> {
    uploader.queue.with_room(move |ledger| ledger.set_agent_state(state)).await
}

/// Whether nobody works on a change, and none is due within `soon`.
async fn is_quiet(queue: &Queue, soon: Duration) -> Result<bool, LedgerError> {
    let outlook = queue.outlook().await?;
    let soon = queue.clock().now().saturating_add(i64::try_from(soon.as_millis()).unwrap_or(i64::MAX));
    Ok(outlook.claimed == 0 && outlook.next_due_at.is_none_or(|due_at| due_at > soon))
}

/// One line for each change of how we stand with dStor, not one for each failure.
fn log_change(before: &DstorFacts, now: &DstorFacts, journal: &Writer) {
    let reason = now.last_error.as_deref().unwrap_or("no reason is known");
    match now.auth {
        Auth::Refused | Auth::Missing if before.auth != now.auth => {
            error!(%reason, "dStor takes nothing until it has credentials that it accepts");
        }
        _ => {}
    }
    match (before.reachable, now.reachable) {
        (Some(true) | None, Some(false)) => warn!(%reason, "dStor cannot be reached; everything waits"),
        (Some(false), Some(true)) => info!("dStor can be reached again"),
        (_, Some(true)) if before.last_error.is_none() && now.last_error.is_some() => {
            warn!(%reason, "dStor takes nothing for now; everything waits");
        }
        _ => {}
    }
    match (before.last_error.is_some(), now.last_error.is_some()) {
        (false, true) => journal.note(Event::Away, now.last_error.clone()),
        (true, false) => journal.note(Event::Back, None),
        _ => {}
    }
}

/// Keeps the agent's row true: writes it when something changed, but not more often than people look.
async fn tell(
    uploader: Arc<Uploader>,
    journal: Arc<Writer>,
    mut stop: watch::Receiver<Stop>,
) -> Result<(), LedgerError> {
    let (mut token, mut gate) = (uploader.client.tokens().facts(), uploader.gate.facts());
    let mut told = DstorFacts::default();
    loop {
        token.mark_unchanged();
        gate.mark_unchanged();
        let facts = uploader.facts();
        if facts != told {
            log_change(&told, &facts, &journal);
            told = facts.clone();
            uploader.queue.with_room(move |ledger| ledger.set_dstor_facts(&facts)).await?;
        }
        if *stop.borrow() != Stop::Go {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(BETWEEN_WORDS) => {}
            _ = stop.changed() => continue,
        }
        tokio::select! {
            _ = token.changed() => {}
            _ = gate.changed() => {}
            _ = stop.changed() => {}
        }
    }
}
