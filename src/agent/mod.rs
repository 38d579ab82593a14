//! The agent: starts a minder a mirror and the workers, tells the ledger how things stand, stops them in order, and begins
//! anew with another plan when it is given one.

mod alerter;
mod keeper;
mod lister;
mod metered;
mod minder;
mod prover;
mod vitals;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use crate::dstor::Client;
use crate::journal::{Event, Writer};
use crate::ledger::{AgentState, Auth, DstorFacts, Ledger, LedgerError, Millis};
use crate::plan::{AssembleError, Hold, LEDGER, Plan, Works};
use crate::upload::{Broke, Queue, Report, Stop, TaskFailure, Tasks, Uploader};

use alerter::{Alerter, Told};
use keeper::Keeper;
use lister::Lister;
use metered::tell_metered;
use minder::Minder;
use prover::Prover;
pub use vitals::{Seen, Vitals};

/// The agent's row is not written more often than this.
const BETWEEN_WORDS: Duration = Duration::from_millis(200);
/// How long tasks that were ended where they are may take.
const AFTER_GRACE: Duration = Duration::from_secs(1);

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
    /// It was to begin anew with another plan, and a part of it hangs in the system.
    #[error("a part of the agent hangs in the system, as on a dead network share, and cannot begin anew")]
    Hangs,
}

impl From<TaskFailure> for AgentError {
    fn from(failure: TaskFailure) -> Self {
        match failure {
            TaskFailure::Ledger(error) => Self::Ledger(error),
            TaskFailure::Broke(broke) => Self::Broke(broke),
        }
    }
}

/// Who tells each path's fate to people, for a run of a plan.
pub type Reports = Box<dyn Fn(&Plan) -> Report + Send + Sync>;
/// Called with what the agent itself does; must not block.
pub type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// What an agent is told while it runs, and whom it tells.
pub struct Orders {
    /// That it is time to stop.
    pub stop: watch::Receiver<Stop>,
    /// Other plans, each with the client for its dStor, to go on with instead of the one before. Whatever could fail has
    /// been tried by then.
    pub plans: mpsc::Receiver<(Plan, Client)>,
    /// Who is told what happens to paths.
    pub reports: Reports,
    /// Who is told what it does itself.
    pub tell: Tell,
    /// Where its parts leave signs of life.
    pub vitals: Arc<Vitals>,
}

/// What the agent itself does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// It is at work by a plan: listening, and scanning for what nobody told it.
    AtWork,
    /// It ends, which may take so long.
    Stopping(Duration),
}

/// Runs `plan` over the ledger in `state_dir`, and then the plans that follow it, until told to stop.
///
/// # Errors
/// [`AgentError`]; what was settled before stays settled.
pub async fn run(plan: Plan, state_dir: &Path, orders: Orders) -> Result<(), AgentError> {
    let vitals = Arc::clone(&orders.vitals);
    vitals.roll().present("the agent", plan_after_plan(plan, state_dir, orders)).await
}

async fn plan_after_plan(plan: Plan, state_dir: &Path, mut orders: Orders) -> Result<(), AgentError> {
    let hold = tokio::task::block_in_place(|| Hold::take(state_dir))?;
    let mut client = plan.client().map_err(AssembleError::from)?;
    let mut plan = plan;
    let journal = Writer::start(state_dir);
    journal.note(Event::Started, None);
    // A person who was told of a problem is told of its end, whatever plan holds by then.
    let told = Arc::default();
    let result = loop {
        let mut shift = Shift::begin(&plan, client, &hold, state_dir, &journal, &told, &orders).await?;
        let ends = shift.work(&mut orders).await;
        let is_other_plan = matches!(ends, Ends::OtherPlan(_));
        if let Ends::Failed(failed) = &ends {
            error!(reason = %failed, "the agent cannot go on; ending");
        }
        if !is_other_plan {
            info!("stopping");
            (orders.tell)(News::Stopping(plan.shutdown_grace + AFTER_GRACE));
            // If the ledger is what failed, this fails too; the first failure is the one to tell.
            let _ = set_state(&shift.uploader, AgentState::Stopping).await;
        }
        let is_over = shift.end(plan.shutdown_grace).await;
        match ends {
            Ends::Told => break Ok(()),
            Ends::Failed(failed) => break Err(failed),
            Ends::OtherPlan(_) if *orders.stop.borrow() != Stop::Go => break Ok(()),
            // Whoever hangs may go on one day, by the old plan and beside those who have its work by then.
            Ends::OtherPlan(_) if !is_over => break Err(AgentError::Hangs),
            Ends::OtherPlan(other) => (plan, client) = *other,
        }
    };
    close(hold, &journal, result).await
}

/// Closes the ledger in order after a run that ended with `result`.
async fn close(hold: Hold, journal: &Writer, result: Result<(), AgentError>) -> Result<(), AgentError> {
    let is_sound = matches!(result, Ok(()) | Err(AgentError::Hangs));
    let closing = hold.ledger.with(move |ledger| {
        ledger.recover_changes(Millis::MAX)?;
        // A ledger that failed is not closed in order: the next start reads all of it before it believes it (D3, D4).
        if is_sound { ledger.set_agent_state(AgentState::Stopped) } else { Ok(()) }
    });
    let closed = match closing.await {
        Ok(()) => hold.ledger.fold().await,
        failed => failed,
    };
    journal.note(Event::Stopped, result.as_ref().err().map(ToString::to_string));
    tokio::task::block_in_place(|| journal.close());
    drop(hold);
    result?;
    Ok(closed?)
}

/// What ended the work by a plan.
enum Ends {
    Told,
    OtherPlan(Box<(Plan, Client)>),
    Failed(AgentError),
}

/// The work by one plan, from its first scan to its end.
struct Shift {
    uploader: Arc<Uploader>,
    tasks: Tasks,
    /// Ends the tasks.
    end: watch::Sender<Stop>,
    readies: mpsc::Receiver<()>,
}

impl Shift {
    /// Starts everything: minders that listen before they scan, so that what happened while nobody listened is found.
    async fn begin(
        plan: &Plan,
        client: Client,
        hold: &Hold,
        state_dir: &Path,
        journal: &Arc<Writer>,
        told: &Arc<Mutex<Told>>,
        orders: &Orders,
    ) -> Result<Self, LedgerError> {
        let (end, ended) = watch::channel(Stop::Go);
        let report = journal.beside((orders.reports)(plan));
        let Works { uploader, folders } =
            tokio::task::block_in_place(|| plan.assemble(hold, client, report, ended.clone()))?;

        let words = uploader.queue.with_room(Ledger::steering).await?;
        uploader.queue.pause_until(words.paused_until);
        let mut tasks = Tasks::on(Arc::clone(orders.vitals.roll()));
        let (ready, readies) = mpsc::channel(folders.len().max(1));
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
        for _ in 0..plan.hands() {
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
        let word = tell_metered(uploader.queue.meter().cloned(), state_dir.to_owned(), ended.clone());
        tasks.spawn("the teller of metered connections", word);
        tasks.spawn("the teller", tell(Arc::clone(&uploader), Arc::clone(journal), ended.clone()));
        let lister = Lister {
            uploader: Arc::clone(&uploader),
            folders: folders.clone(),
            ledger: state_dir.join(LEDGER),
            sessions: plan.sessions,
            every: plan.list_every,
            stop: ended.clone(),
        };
        tasks.spawn("the lister", lister.list());
        let prover = Prover {
            uploader: Arc::clone(&uploader),
            folders,
            ledger: state_dir.join(LEDGER),
            a_day: plan.read_a_day,
            stop: ended.clone(),
        };
        tasks.spawn("the prover", prover.prove());
        let alerter = Alerter {
            alerts: plan.alerts.clone(),
            told: Arc::clone(told),
            state_dir: state_dir.to_owned(),
            stop: ended,
        };
        tasks.spawn("the alerter", alerter.alert());
        orders.vitals.watch(&uploader);
        (orders.tell)(News::AtWork);
        Ok(Self { uploader, tasks, end, readies })
    }

    /// Works until told to stop, until there is another plan, or until it cannot go on.
    async fn work(&mut self, orders: &mut Orders) -> Ends {
        let Self { uploader, tasks, readies, .. } = self;
        let waiting = async {
            // Each minder says once that its first scan is through, or that its directory is missing.
            while readies.recv().await.is_some() {}
            set_state(uploader, AgentState::Running).await?;
            info!("watching");
            std::future::pending::<Result<(), LedgerError>>().await
        };
        let Orders { stop, plans, .. } = orders;
        let other_plan = async {
            match plans.recv().await {
                Some(other) => other,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = Stop::wait(stop) => Ends::Told,
            failed = tasks.failure() => Ends::Failed(failed.into()),
            other = other_plan => {
                info!(mirrors = other.0.mirrors.len(), "another configuration: beginning anew with it");
                Ends::OtherPlan(Box::new(other))
            }
            failed = waiting => match failed {
                Ok(()) => Ends::Told,
                Err(failed) => Ends::Failed(failed.into()),
            },
        }
    }

    /// Ends the tasks: what is under way has `grace`. Returns whether all have ended.
    async fn end(mut self, grace: Duration) -> bool {
        self.end.send_replace(Stop::Soon);
        if tokio::time::timeout(grace, self.tasks.ended()).await.is_ok() {
            return true;
        }
        info!("uploads that are still under way will be sent again");
        // A task that hangs in a system call (a dead network share) cannot be ended, and must not keep the others.
        tokio::time::timeout(AFTER_GRACE, self.tasks.shutdown()).await.is_ok()
    }
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
        let is_news = facts != told;
        if is_news {
            log_change(&told, &facts, &journal);
            told = facts.clone();
            uploader.queue.with_room(move |ledger| ledger.set_dstor_facts(&facts)).await?;
        }
        if *stop.borrow() != Stop::Go {
            return Ok(());
        }
        // What changes after a while of silence is told at once: whoever sees a file that waits sees why as well.
        if is_news {
            tokio::select! {
                () = tokio::time::sleep(BETWEEN_WORDS) => {}
                _ = stop.changed() => continue,
            }
        }
        tokio::select! {
            _ = token.changed() => {}
            _ = gate.changed() => {}
            _ = stop.changed() => {}
        }
    }
}
