//! Leaves word for `status` while nothing goes up because the connection is metered.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;

use crate::desktop::Meter;
use crate::ledger::LedgerError;
use crate::status::note_metered;
use crate::upload::Stop;

/// Keeps the word in `state_dir` true until it is time to stop. Sleeps until the meter says something else; never asks it.
pub(super) async fn tell_metered(
    meter: Option<Arc<Meter>>,
    state_dir: PathBuf,
    mut stop: watch::Receiver<Stop>,
) -> Result<(), LedgerError> {
    // An agent that was killed may have left one.
    note(&state_dir, false);
    let Some(meter) = meter else { return Ok(()) };
    let mut facts = meter.facts();
    let mut is_metered = false;
    loop {
        tokio::select! {
            biased;
            () = Stop::wait(&mut stop) => break,
            _ = facts.wait_for(|now| *now != is_metered) => {}
        }
        is_metered = !is_metered;
        note(&state_dir, is_metered);
    }
    note(&state_dir, false);
    Ok(())
}

/// Blocking, for as long as it takes to make or remove an empty file.
fn note(state_dir: &std::path::Path, is_metered: bool) {
    if let Err(error) = tokio::task::block_in_place(|| note_metered(state_dir, is_metered)) {
        warn!(%error, "`status` cannot be told of a metered connection");
    }
}
