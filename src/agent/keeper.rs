//! What the agent looks after beside its mirrors: the clocks, the ledger's file, and the ledger's daily copy.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::ledger::{CopyError, Interrupt, Ledger, LedgerError, Steering, copied_at, discard_copy, make_copy};
use crate::local::uptime;
use crate::mirror::{Copying, Jump, Moment, Passed, TICK, copying, passed};
use crate::upload::{Folder, Queue, Stop, Uploader};

/// After a copy that failed the next is tried after this.
const COPY_AGAIN: Duration = Duration::from_secs(3600);
/// The first look at how old the copy is comes this long after the start.
const FIRST_COPY: Duration = Duration::from_secs(2);
/// What dStor broke off is given up for so long at the least.
const GIVEN_UP_FOR: Duration = Duration::from_secs(12 * 3600);
/// A change that is due sooner than this is reason to wait with the copy.
const SOON: Duration = Duration::from_secs(10);

pub(super) struct Keeper {
    pub(super) uploader: Arc<Uploader>,
    pub(super) folders: Vec<Arc<Folder>>,
    pub(super) ledger: PathBuf,
    /// No upload that ended without word is on its way for longer.
    pub(super) straggling: Duration,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Keeper {
    /// Looks at the clocks, and at whether the ledger is still the one that is open. Writes nothing unless something
    /// happened.
    pub(super) async fn keep_time(self: Arc<Self>, heard: Steering) -> Result<(), LedgerError> {
        let queue = &self.uploader.queue;
        let mut before = moment(queue);
        let (mut told, mut heard) = (None, heard);
        while !Stop::within(&self.stop, TICK).await {
            let now = moment(queue);
            let Passed { stood_still, jump } = passed(before, now);
            before = now;
            if let Some(jump) = jump {
                self.clock_jumped(jump).await?;
            }
            if let Some(length) = stood_still {
                self.woke(length);
            }
            let (straggling, of_day) = (self.straggling, now.of_day);
            let looked = queue.ledger().with(move |ledger| {
                // Whoever runs `accept` or `pause` writes to the ledger beside us; it is noticed here.
                let words = ledger.words_of_others()?;
                Ok((words, ledger.send_again_after_stragglers(straggling, of_day)?))
            });
            let (words, again) = match looked.await {
                // Others wait for room, and so may this.
                Err(LedgerError::Full) => continue,
                looked => looked?,
            };
            if again > 0 {
                info!(files = again, "older uploads of them may have come late; sending them once more");
                queue.wake();
            }
            if told.replace(words) != Some(words) {
                queue.wake();
                let words = queue.with_room(Ledger::steering).await?;
                self.steer(std::mem::replace(&mut heard, words), words);
            }
        }
        Ok(())
    }

    /// Does what people asked for since the words `before`.
    fn steer(&self, before: Steering, now: Steering) {
        if before.paused_until != now.paused_until {
            let is_paused = now.pause_at(self.uploader.queue.clock().now()).is_some();
            info!("{}", if is_paused { "paused: no upload begins" } else { "going on" });
            self.uploader.queue.pause_until(now.paused_until);
        }
        if before.scans_asked != now.scans_asked {
            info!("scanning, as was asked");
            self.scan();
        }
        if before.retries_asked != now.retries_asked {
            info!("asking dStor again, as was asked");
            self.uploader.gate.try_now();
        }
    }

    fn scan(&self) {
        for folder in &self.folders {
            folder.rescan.notify_one();
        }
    }

    async fn clock_jumped(&self, jump: Jump) -> Result<(), LedgerError> {
        let queue = &self.uploader.queue;
        let longest = i64::try_from(self.uploader.patience.retry_max_delay.as_millis()).unwrap_or(i64::MAX);
        let latest = queue.clock().now().saturating_add(longest);
        queue.with_room(move |ledger| ledger.follow_clock(jump, latest)).await?;
        match jump {
            Jump::Back(by) => {
                warn!(by_s = by.as_secs(), "the clock was set back");
                let words = queue.with_room(Ledger::steering).await?;
                queue.pause_until(words.paused_until);
                // What it says of times is by a clock that nobody has any more.
                if let Err(error) = discard_copy(&self.ledger) {
                    warn!(%error, "the ledger's copy cannot be removed");
                }
            }
            Jump::Ahead(by) => info!(by_s = by.as_secs(), "the clock was set ahead"),
        }
        queue.wake();
        Ok(())
    }

    /// The machine slept, or this process was stopped: connections may be dead, and events may have been lost (F8, F9).
    fn woke(&self, length: Duration) {
        info!(for_s = length.as_secs(), "the machine or the agent stood still; scanning");
        self.uploader.client.reconnect();
        self.scan();
        self.uploader.queue.wake();
    }

    /// Makes the ledger's copy once a day, when there is nothing else to do.
    pub(super) async fn keep_copy(self: Arc<Self>) -> Result<(), LedgerError> {
        let mut due_since: Option<Instant> = None;
        let mut wait = FIRST_COPY;
        while !Stop::within(&self.stop, wait).await {
            let age = copied_at(&self.ledger).and_then(|at| SystemTime::now().duration_since(at).ok());
            let waited = due_since.map_or(Duration::ZERO, |since| since.elapsed());
            wait = match copying(age, waited, super::is_quiet(&self.uploader.queue, SOON).await?) {
                Copying::Now => {
                    due_since = None;
                    self.try_again_what_was_broken_off().await?;
                    self.copy().await?;
                    COPY_AGAIN
                }
                Copying::WhenQuiet(wait) => {
                    due_since.get_or_insert_with(Instant::now);
                    wait
                }
                Copying::Later(wait) => {
                    due_since = None;
                    wait
                }
            };
        }
        Ok(())
    }

    /// Once a day, those that were given up because dStor broke off their upload: it never said that it does not take them.
    async fn try_again_what_was_broken_off(&self) -> Result<(), LedgerError> {
        let queue = &self.uploader.queue;
        let now = queue.clock().now();
        let before = now.saturating_sub(i64::try_from(GIVEN_UP_FOR.as_millis()).unwrap_or(i64::MAX));
        let again = queue.with_room(move |ledger| ledger.retry_broken_off(before, now)).await?;
        if again > 0 {
            info!(files = again, "trying again what dStor broke off before");
            queue.wake();
        }
        Ok(())
    }

    async fn copy(&self) -> Result<(), LedgerError> {
        let (ledger, now) = (self.ledger.clone(), self.uploader.queue.clock().now());
        let reader: Arc<Mutex<Option<Interrupt>>> = Arc::default();
        let slot = Arc::clone(&reader);
        let begun = move |interrupt| *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(interrupt);
        let making = tokio::task::spawn_blocking(move || make_copy(&ledger, now, begun));
        let mut stop = self.stop.clone();
        let made = tokio::select! {
            biased;
            () = Stop::wait(&mut stop) => {
                // Nobody waits for a copy to stop; and who folds the ledger would wait for its reader.
                if let Some(interrupt) = reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    interrupt();
                }
                return Ok(());
            }
            made = making => made,
        };
        match made.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(Ok(())) => debug!("the ledger was copied"),
            // Reading all of it is how a damaged page is found that nobody needed for long.
            Ok(Err(CopyError::Ledger(error))) if error.is_damage() => return Err(error),
            Ok(Err(error)) => warn!(error = %anyhow::Error::from(error).root_cause(), "the ledger could not be copied"),
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => {}
        }
        Ok(())
    }
}

fn moment(queue: &Queue) -> Moment {
    Moment { of_day: queue.clock().now(), elapsed: uptime() }
}
