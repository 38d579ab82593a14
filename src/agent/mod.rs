//! The agent: starts a minder a mirror and the workers, tells the ledger how things stand, and stops them in order.

mod keeper;
mod minder;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::ledger::{AgentState, Auth, DstorFacts, Ledger, LedgerError, Millis};
use crate::plan::{AssembleError, LEDGER, Plan, Works};
use crate::upload::{Report, Stop, Uploader};

use keeper::Keeper;
use minder::Minder;

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
    let Works { lock, uploader, folders } =
        tokio::task::block_in_place(|| plan.assemble(state_dir, report, ended.clone()))?;

    let words = uploader.queue.with_room(Ledger::steering).await?;
    uploader.queue.pause_until(words.paused_until);
    let mut tasks: JoinSet<Result<(), LedgerError>> = JoinSet::new();
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
        tasks.spawn(minder.mind(ready.clone()));
    }
    drop(ready);
    for _ in 0..plan.workers {
        tasks.spawn(Arc::clone(&uploader).work());
    }
    let keeper = Arc::new(Keeper {
        uploader: Arc::clone(&uploader),
        folders: folders.clone(),
        ledger: state_dir.join(LEDGER),
        straggling: plan.straggling(),
        stop: ended.clone(),
    });
    tasks.spawn(Arc::clone(&keeper).keep_time(words));
    tasks.spawn(keeper.keep_copy());
    let teller = tokio::spawn(tell(Arc::clone(&uploader), ended.clone()));

    let waiting = async {
        // Each minder says once that its first scan is through, or that its directory is missing.
        while readies.recv().await.is_some() {}
        set_state(&uploader, AgentState::Running).await?;
        info!("watching");
        std::future::pending().await
    };
    let result = tokio::select! {
        biased;
        () = Stop::wait(&mut stop) => Ok(()),
        failed = first_failure(&mut tasks) => Err(failed),
        failed = waiting => failed,
    };
    if let Err(failed) = &result {
        error!(reason = %failed, "the ledger cannot be used; ending");
    }

    info!("stopping");
    // If the ledger is what failed, this fails too; the first failure is the one to tell.
    let _ = set_state(&uploader, AgentState::Stopping).await;
    end.send_replace(Stop::Soon);
    let finish = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(plan.shutdown_grace, finish).await.is_err() {
        info!("uploads that are still under way will be sent again at the next start");
        // A task that hangs in a system call (a dead network share) cannot be ended, and must not keep the others.
        let _ = tokio::time::timeout(Duration::from_secs(1), tasks.shutdown()).await;
    }
    let _ = teller.await;
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
    drop((uploader, folders, lock));
    result?;
    Ok(closed?)
}

async fn set_state(uploader: &Uploader, state: AgentState) -> Result<(), LedgerError> {
    uploader.queue.with_room(move |ledger| ledger.set_agent_state(state)).await
}

/// Waits for a task that failed. Tasks that end well do so because they were told to.
async fn first_failure(tasks: &mut JoinSet<Result<(), LedgerError>>) -> LedgerError {
    loop {
        match tasks.join_next().await {
            Some(Ok(Ok(()))) => {}
            Some(Ok(Err(failed))) => return failed,
            Some(Err(panic)) => return LedgerError::Nonsense(format!("a task ended by itself: {panic}")),
            None => std::future::pending().await,
        }
    }
}

/// One line for each change of how we stand with dStor, not one for each failure.
fn log_change(before: &DstorFacts, now: &DstorFacts) {
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
}

/// Keeps the agent's row true: writes it when something changed, but not more often than people look.
async fn tell(uploader: Arc<Uploader>, mut stop: watch::Receiver<Stop>) {
    let (mut token, mut gate) = (uploader.client.tokens().facts(), uploader.gate.facts());
    let mut told = DstorFacts::default();
    loop {
        token.mark_unchanged();
        gate.mark_unchanged();
        let facts = uploader.facts();
        if facts != told {
            log_change(&told, &facts);
            told = facts.clone();
            if uploader.queue.with_room(move |ledger| ledger.set_dstor_facts(&facts)).await.is_err() {
                // The workers meet the same failure and end the agent.
                return;
            }
        }
        if *stop.borrow() != Stop::Go {
            return;
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
