//! `wait`: block until everything, or some paths, are stored.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::ledger::{AgentLock, EntryState, Ledger, MirrorRow};
use crate::local::{OpenRoot, Tree as _};
use crate::mirror::{Decision, MirrorPath, Observed, Skip, State, decide, shell_word};
use crate::upload::{Clock, Folder, ItsName, ReconcileError, Stop, differences, whose_name};
use crate::wording::{files, shown};

use super::args::{Global, Wait};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::{places, signals};

/// How often it looks at least; a look that takes long is followed by a longer rest.
const LOOK: Duration = Duration::from_millis(100);

/// How far things are.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Progress {
    waiting: u64,
    failed: u64,
    unproved: u64,
    /// Differences between disk and ledger that nobody has queued yet.
    unseen: u64,
    is_missing: bool,
    is_paused: bool,
}

pub(super) fn run(global: &Global, command: &Wait, output: &Output) -> Result<Exit, Failure> {
    let (stop, signal) = signals::listen()?;
    let state_dir = places::state_dir(global, &command.which)?;
    let begun = Instant::now();
    let mut is_told = false;
    loop {
        let looked_at = Instant::now();
        // Before the look: an agent that ends during it may have settled the last change.
        let is_alive = AgentLock::is_held(&state_dir);
        let progress = look(&state_dir, command, &stop)?;
        if *stop.borrow() != Stop::Go {
            // A look that was cut short says nothing.
            return Ok(signal.exit());
        }
        let Progress { waiting, failed, unproved, unseen, is_missing, .. } = progress;
        let is_settled = waiting == 0 && unseen == 0 && !is_missing;
        if is_settled && failed > 0 {
            return Err(Failure::new(Exit::Attention, format!("{} failed and will not be stored", files(failed)))
                .with_hint("`dstor-sync ls --state failed` tells which and why"));
        }
        if is_settled && (unproved == 0 || !command.proved) {
            return Ok(Exit::Fine);
        }
        if is_settled {
            return Err(Failure::new(Exit::Attention, format!("{} stored without a proof", files(unproved)))
                .with_hint("`dstor-sync verify --read` proves them by reading them back"));
        }
        if !is_alive {
            let why = if is_missing { "a mirror's directory is missing".into() } else { still(waiting.max(unseen)) };
            let what = format!("the agent is not running, and {why}");
            return Err(Failure::new(Exit::NotRunning, what).with_hint("start it with `dstor-sync run`"));
        }
        if progress.is_paused && !is_told {
            output.note("the agent is paused; it goes on with `dstor-sync resume`");
            is_told = true;
        } else if waiting > 0 && !is_told && crate::status::is_metered(&state_dir) {
            output.note(
                "the agent waits for a connection that is not metered; `metered = \"go\"` in [upload] changes that",
            );
            is_told = true;
        }
        let rest = LOOK.max(looked_at.elapsed() * 5);
        if let Some(timeout) = command.timeout {
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let why =
                    if is_missing { "a mirror's directory is missing".into() } else { still(waiting.max(unseen)) };
                output.note(format_args!("error: timed out; {why}"));
                output.note("hint: `dstor-sync status` tells why");
                return Ok(Exit::TimedOut);
            }
            rest_until(rest.min(left), &stop);
        } else {
            rest_until(rest, &stop);
        }
    }
}

fn still(count: u64) -> String {
    let verb = if count == 1 { "is" } else { "are" };
    format!("{} {verb} not stored yet", files(count))
}

fn rest_until(rest: Duration, stop: &watch::Receiver<Stop>) {
    let end = Instant::now() + rest;
    while Instant::now() < end && *stop.borrow() == Stop::Go {
        std::thread::sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
    }
}

fn look(state_dir: &Path, command: &Wait, stop: &watch::Receiver<Stop>) -> Result<Progress, Failure> {
    let ledger = places::open(state_dir)?;
    let mirrors = ledger.active_mirrors()?;
    let is_paused = ledger.steering()?.pause_at(Clock.now()).is_some();
    let mut progress = Progress { is_paused, ..Progress::default() };
    if command.paths.is_empty() {
        for mirror in &mirrors {
            let counts = ledger.counts(mirror.id)?;
            progress.waiting += counts.pending.files + counts.uploading.files;
            progress.failed += counts.failed.files;
            progress.unproved += counts.stored.files - counts.proved.files;
        }
        if progress.waiting == 0 {
            for mirror in &mirrors {
                look_below(&ledger, mirror, &MirrorPath::top(), stop, &mut progress)?;
            }
        }
        return Ok(progress);
    }
    for given in &command.paths {
        let (mirror, path) = places::find(&mirrors, given)?;
        ledger.entries(mirror.id, &path, |entry| {
            match entry.state {
                EntryState::Pending | EntryState::Uploading => progress.waiting += 1,
                EntryState::Settled(State::Failed) => progress.failed += 1,
                EntryState::Settled(State::Stored) => {
                    let held = entry.row.and_then(|row| row.held);
                    progress.unproved += u64::from(held.is_none_or(|held| held.proof.is_none()));
                }
                EntryState::Settled(State::Skipped | State::Gone) => {}
            }
            true
        })?;
        look_at(&ledger, mirror, &path, given, stop, &mut progress)?;
    }
    Ok(progress)
}

/// Compares one path with the ledger.
fn look_at(
    ledger: &Ledger,
    mirror: &MirrorRow,
    path: &MirrorPath,
    given: &Path,
    stop: &watch::Receiver<Stop>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let Ok(root) = OpenRoot::open(&mirror.settings.path, mirror.root) else {
        progress.is_missing = true;
        return Ok(());
    };
    let unreadable = |error: std::io::Error| {
        Failure::new(Exit::Attention, format!("cannot look at `{}`: {error}", shown(given)))
            .with_hint("let this user read it, and enter the directories above it; it waits until then")
    };
    let observed = root.look(path).map_err(unreadable)?.observed;
    let folder = Folder::new(mirror.id, &mirror.settings, String::new());
    let cannot = |why: &str| Failure::new(Exit::Attention, format!("`{}` will not be stored: {why}", shown(given)));
    if observed != Observed::Missing
        && !folder.rules.judge(&root, path, observed.is_directory()).map_err(unreadable)?.is_yes()
    {
        return Err(cannot("a rule excludes it").with_hint(format!("`dstor-sync why {}` names it", shell_word(given))));
    }
    let recorded = ledger.recorded(mirror.id, path)?;
    let admitted = match observed {
        Observed::File(_) if whose_name(ledger, &folder, &root, path).is_ok_and(|whose| whose == ItsName::Taken) => {
            Err(Skip::NameTaken)
        }
        Observed::File(stat) => {
            let admitted = folder.policy.admit(stat.size, path);
            admitted.and_then(|()| folder.policy.guard.admit(path, &stat, recorded.as_ref()))
        }
        _ => Ok(()),
    };
    match (observed, decide(&observed, recorded.as_ref(), admitted)) {
        (Observed::Directory, _) => look_below(ledger, mirror, path, stop, progress),
        (Observed::Missing, Decision::Nothing) if recorded.is_none() => Err(cannot("there is no such file")),
        (Observed::Other(..), Decision::Nothing) => Err(cannot("it is not a file")),
        (Observed::File(_), Decision::Nothing) if admitted.is_err() => {
            Err(cannot("it is skipped").with_hint(format!("`dstor-sync why {}` tells why", shell_word(given))))
        }
        (_, Decision::Nothing) => Ok(()),
        _ => {
            progress.unseen += 1;
            Ok(())
        }
    }
}

fn look_below(
    ledger: &Ledger,
    mirror: &MirrorRow,
    top: &MirrorPath,
    stop: &watch::Receiver<Stop>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let folder = Folder::new(mirror.id, &mirror.settings, String::new());
    folder.believe(mirror.root);
    let mut unseen = 0;
    let walked = differences(ledger, &folder, top, stop, &mut |_| {
        unseen += 1;
        Ok(())
    });
    progress.unseen += unseen;
    match walked {
        Ok(_) | Err(ReconcileError::Stopped) => Ok(()),
        Err(ReconcileError::Root(_)) => {
            progress.is_missing = true;
            Ok(())
        }
        Err(ReconcileError::Ledger(error)) => Err(error.into()),
        Err(ReconcileError::Unreadable(error)) => {
            let place = top.under(&mirror.settings.path);
            Err(Failure::new(Exit::Attention, format!("cannot read the directory `{}`: {error}", shown(place)))
                .with_hint("let this user read and enter it"))
        }
    }
}
